//! Writes to a file that may be full. What cannot be written is lost in whole lines, and the lines are counted.

use super::line_format::MAX_LINE;
use super::skipped_line::SkippedLine;
use crate::sys::Errno;
use std::mem;

/// How often a write is repeated after EINTR.
pub(super) const MAX_EINTR_RETRIES: u32 = 10;

/// What the earlier writes to one file have left: the rest of a line that has to follow, and a count of lost lines.
#[derive(Debug, Default)]
pub(super) struct WholeLines {
    /// The rest of a line of which a part is in the file.
    rest: Vec<u8>,
    /// Whether the file ends in the middle of a line. Always false while `rest` is not empty.
    is_inside_line: bool,
    /// The line whose beginning is lost.
    skipped: SkippedLine,
    /// The number of lines that were lost and not reported.
    lost_lines: u64,
    /// Whether a write has failed, and no later write has returned [`Written::AllAfterFailure`].
    has_failed: bool,
}

/// The result of a write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Everything is written.
    All,
    /// Everything is written now. This number of lines was lost before.
    AllAfterFailure(u64),
    /// The first of several writes in a row that failed.
    FirstFailure(Errno),
    /// A write has failed again, or `bytes` contained only the rest of an earlier line. The caller has nothing to
    /// report.
    NothingToReport,
}

impl WholeLines {
    /// Writes `bytes` with `write`, which returns the number of bytes that it has written.
    pub(super) fn write(
        &mut self,
        mut bytes: &[u8],
        mut write: impl FnMut(&[u8]) -> Result<usize, Errno>,
    ) -> Written {
        if !self.rest.is_empty() {
            bytes = self.complete_rest(bytes);
            let rest = mem::take(&mut self.rest);
            if let Err((written, _)) = write_all(&rest, &mut write) {
                self.rest.extend(rest.get(written..).unwrap_or_default());
                self.lose(bytes);
                return Written::NothingToReport;
            }
            self.is_inside_line = !rest.ends_with(b"\n");
        }
        bytes = self.skipped.skip(bytes);
        if bytes.is_empty() {
            return Written::NothingToReport;
        }
        match write_all(bytes, &mut write) {
            Ok(()) => {
                self.is_inside_line = bytes.last().map_or(self.is_inside_line, |byte| *byte != b'\n');
                if mem::take(&mut self.has_failed) {
                    return Written::AllAfterFailure(mem::take(&mut self.lost_lines));
                }
                Written::All
            }
            Err((written, errno)) => {
                let (before, left) = bytes.split_at(written.min(bytes.len()));
                let file_ends_inside_line = before.last().map_or(self.is_inside_line, |byte| *byte != b'\n');
                self.keep_rest_of_line(left, file_ends_inside_line);
                if mem::replace(&mut self.has_failed, true) {
                    Written::NothingToReport
                } else {
                    Written::FirstFailure(errno)
                }
            }
        }
    }

    /// After a failed write: if the file ends in the middle of a line, keeps the end of this line from `left`. Loses
    /// the other bytes.
    fn keep_rest_of_line(&mut self, left: &[u8], file_ends_inside_line: bool) {
        self.is_inside_line = false;
        if !file_ends_inside_line {
            return self.lose(left);
        }
        let others = self.complete_rest(left);
        self.lose(others);
    }

    /// Completes the line in `rest`: moves the bytes of `bytes` up to the first newline to the end of `rest`. Returns
    /// the other bytes. A line that is too long is cut.
    fn complete_rest<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        if self.rest.ends_with(b"\n") {
            return bytes;
        }
        let newline = bytes.iter().position(|byte| *byte == b'\n');
        let (end, others) = bytes.split_at(newline.map_or(bytes.len(), |newline| newline + 1));
        self.rest.extend(end);
        if newline.is_none() && self.rest.len() > MAX_LINE {
            self.rest.push(b'\n');
            self.skipped.begin();
            self.lost_lines += 1;
        }
        others
    }

    /// Notes that `bytes` are lost, and counts the lines that begin in them.
    fn lose(&mut self, bytes: &[u8]) {
        let Some(last) = bytes.last() else { return };
        let newlines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        let is_cut = *last != b'\n';
        // If `bytes` begin with the rest of a lost line, that line was already counted when its beginning was lost.
        self.lost_lines += (newlines + u64::from(is_cut)).saturating_sub(u64::from(self.skipped.is_active()));
        if is_cut {
            self.skipped.begin();
        } else {
            self.skipped.end();
        }
    }
}

/// Calls `write` until everything is written. The error contains the number of bytes that were written before.
fn write_all(
    bytes: &[u8],
    write: &mut impl FnMut(&[u8]) -> Result<usize, Errno>,
) -> Result<(), (usize, Errno)> {
    let mut written = 0;
    let mut interruptions = 0;
    while let Some(left) = bytes.get(written..).filter(|left| !left.is_empty()) {
        match write(left) {
            Ok(0) => return Err((written, Errno::ENOSPC)),
            Ok(count) => written += count,
            // Some network file systems return EINTR although all signals are blocked.
            Err(Errno::EINTR) if interruptions < MAX_EINTR_RETRIES => interruptions += 1,
            Err(errno) => return Err((written, errno)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that takes `room` bytes more.
    #[derive(Default)]
    struct Disk {
        text: Vec<u8>,
        room: usize,
    }

    impl Disk {
        fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
            let taken = bytes.len().min(self.room);
            self.room -= taken;
            self.text.extend(&bytes[..taken]);
            if taken == 0 { Err(Errno::ENOSPC) } else { Ok(taken) }
        }

        fn text(&self) -> &str {
            str::from_utf8(&self.text).unwrap()
        }
    }

    #[test]
    fn a_line_that_is_begun_is_completed_and_the_others_are_lost_whole() {
        let mut disk = Disk { room: 5, ..Disk::default() };
        let mut lines = WholeLines::default();
        let failure = Written::FirstFailure(Errno::ENOSPC);
        assert_eq!(lines.write(b"one\ntwo\nthree\n", |bytes| disk.write(bytes)), failure);
        assert_eq!(lines.write(b"four\nfi", |bytes| disk.write(bytes)), Written::NothingToReport);
        disk.room = 1000;
        assert_eq!(lines.write(b"ve\nsix\n", |bytes| disk.write(bytes)), Written::AllAfterFailure(3));
        assert_eq!(lines.write(b"seven\n", |bytes| disk.write(bytes)), Written::All);
        assert_eq!(disk.text(), "one\ntwo\nsix\nseven\n");
    }

    #[test]
    fn a_file_without_newlines_goes_on_when_there_is_room() {
        let mut disk = Disk { room: 10, ..Disk::default() };
        let mut lines = WholeLines::default();
        let piece = [b'x'; 30_000];
        for _ in 0..10 {
            lines.write(&piece, |bytes| disk.write(bytes));
        }
        disk.room = 1_000_000;
        for _ in 0..10 {
            lines.write(&piece, |bytes| disk.write(bytes));
        }
        assert!(disk.text.len() > 200_000, "{}", disk.text.len());
    }

    #[test]
    fn every_line_is_in_the_file_or_counted_wherever_the_disk_is_full() {
        let text: String = (0..40).map(|number| format!("line {number:02}\n")).collect();
        for room in 0..text.len() {
            for piece in [3, 10, 64] {
                let mut disk = Disk { room, ..Disk::default() };
                let mut lines = WholeLines::default();
                let mut lost = 0;
                for (number, bytes) in text.as_bytes().chunks(piece).enumerate() {
                    if number * piece > 200 {
                        disk.room = 1000;
                    }
                    if let Written::AllAfterFailure(count) = lines.write(bytes, |bytes| disk.write(bytes)) {
                        lost += count;
                    }
                }
                let whole = disk.text().lines().filter(|line| text.contains(&format!("{line}\n"))).count();
                assert!(disk.text().lines().count() - whole <= 1, "{}", disk.text());
                assert_eq!(whole as u64 + lost, 40, "room {room}, pieces of {piece}: {}", disk.text());
            }
        }
    }
}
