//! One of rsup's own streams, to which the relay writes whole lines without waiting.

use super::line_format::MAX_LINE;
use super::whole_lines::MAX_EINTR_RETRIES;
use crate::sys::{Errno, OutputStream, StagingPipe, WriteJournal};
use std::mem;
use std::os::fd::AsFd;

/// rsup's stdout or stderr.
#[derive(Debug)]
pub(super) struct Outlet<'a> {
    stream: OutputStream,
    /// The pipe through which the lines go if the stream is a pipe. If this relay is killed while the stream has taken
    /// only a part of a line, the next relay completes the line. `None` if the stream is not a pipe, if this pipe could
    /// not be created, or if splice(2) cannot be used.
    staging_pipe: Option<&'a StagingPipe>,
    /// Whether the staging pipe may contain bytes.
    is_staged: bool,
    /// The memory from which the next relay writes the rest of the lines if this relay is killed. `None` if the stream
    /// is not a regular file, or if the memory could not be created.
    journal: Option<&'a WriteJournal>,
    /// The bytes that are still to be written, except those in the staging pipe. Before [`Outlet::send`], these are the
    /// next lines. After it, these are the bytes for which there was no room.
    pub(super) lines: Vec<u8>,
    /// After an error in the middle of a line: the rest of this line, which is written before the next lines.
    rest: Vec<u8>,
    /// Whether `lines` begins in the middle of a line whose beginning the stream has taken.
    begins_inside_line: bool,
    /// The number of lines that were lost and not reported.
    lost_lines: u64,
    /// Whether the last write has failed.
    has_failed: bool,
    pub(super) is_terminal: bool,
    /// The streams that are not read until this outlet has room.
    pub(super) waiting: Vec<usize>,
}

impl<'a> Outlet<'a> {
    pub(super) fn new(
        stream: OutputStream,
        staging_pipe: Option<&'a StagingPipe>,
        journal: Option<&'a WriteJournal>,
    ) -> Self {
        let is_terminal = stream.is_terminal();
        // An earlier relay may have left bytes in the pipe.
        let is_staged = staging_pipe.is_some();
        let lines = journal.map(WriteJournal::rest).unwrap_or_default();
        Self {
            stream,
            staging_pipe,
            is_staged,
            journal,
            begins_inside_line: !lines.is_empty(),
            lines,
            rest: Vec::new(),
            lost_lines: 0,
            has_failed: false,
            is_terminal,
            waiting: Vec::new(),
        }
    }

    /// The stream, for the poller.
    pub(super) fn stream(&self) -> &impl AsFd {
        &self.stream
    }

    /// Whether the outlet can take lines.
    pub(super) fn accepts_lines(&self) -> bool {
        !self.is_staged && self.lines.is_empty()
    }

    /// Writes `lines`, at most [`MAX_LINE`] bytes, without waiting. The outlet is free afterwards, or the stream has no
    /// room.
    pub(super) fn send(&mut self) {
        debug_assert!(self.lines.len() <= MAX_LINE || self.staging_pipe.is_none());
        self.begins_inside_line = !self.rest.is_empty();
        self.lines.splice(..0, self.rest.drain(..));
        if let Some(staging) = self.staging_pipe
            && let Ok(count) = staging.put(&self.lines)
        {
            self.lines.drain(..count);
            self.is_staged = true;
        }
        if let Some(journal) = self.journal {
            journal.begin(&self.lines);
        }
        self.write();
    }

    /// Writes the lines for which the stream had no room before.
    pub(super) fn write(&mut self) {
        while let Some(staging) = self.staging_pipe.filter(|_| self.is_staged) {
            match staging.move_to(self.stream.as_fd()) {
                Ok(Some(_)) => self.has_failed = false,
                Ok(None) => self.is_staged = false,
                Err(Errno::EAGAIN) => return,
                Err(Errno::EPIPE) => {
                    self.lost_lines += count_lines(&take_all(staging));
                    self.has_failed = true;
                    self.is_staged = false;
                }
                // splice(2) is not possible, or a seccomp filter refuses it.
                Err(_) => {
                    let mut lines = take_all(staging);
                    lines.append(&mut self.lines);
                    self.lines = lines;
                    self.is_staged = false;
                    self.staging_pipe = None;
                }
            }
        }
        self.write_lines();
        if let Some(journal) = self.journal.filter(|_| self.lines.is_empty()) {
            journal.end();
        }
    }

    fn write_lines(&mut self) {
        let mut written = 0;
        let mut interruptions = 0;
        while let Some(left) = self.lines.get(written..).filter(|left| !left.is_empty()) {
            match self.stream.write(left) {
                Ok(0) | Err(Errno::EAGAIN) => break,
                Ok(count) => {
                    self.has_failed = false;
                    written += count;
                }
                Err(Errno::EINTR) if interruptions < MAX_EINTR_RETRIES => interruptions += 1,
                Err(_) => return self.lose_unbegun_lines(written),
            }
        }
        self.begins_inside_line = self.is_inside_line(written);
        self.lines.drain(..written);
    }

    /// Whether the stream has taken only the beginning of a line when it has taken `written` bytes of `lines`.
    fn is_inside_line(&self, written: usize) -> bool {
        let last = written.checked_sub(1).and_then(|at| self.lines.get(at));
        last.map_or(self.begins_inside_line, |byte| *byte != b'\n')
    }

    /// After an error: if the stream has taken only the beginning of a line, keeps the rest of this line. Loses all
    /// other lines in `lines[written..]`.
    fn lose_unbegun_lines(&mut self, written: usize) {
        let is_inside_line = self.is_inside_line(written);
        let left = self.lines.get(written..).unwrap_or_default();
        let rest_length =
            left.iter().position(|byte| *byte == b'\n').filter(|_| is_inside_line).map_or(0, |at| at + 1);
        let (rest, others) = left.split_at(rest_length);
        self.lost_lines += count_lines(others);
        self.rest = rest.to_vec();
        self.lines.clear();
        self.has_failed = true;
    }

    /// Returns the number of lines that were lost, once, when the stream takes lines again.
    pub(super) fn take_lost(&mut self) -> u64 {
        if self.accepts_lines() && !self.has_failed { mem::take(&mut self.lost_lines) } else { 0 }
    }
}

fn count_lines(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// Empties the pipe.
fn take_all(staging: &StagingPipe) -> Vec<u8> {
    let mut lines = vec![0; StagingPipe::CAPACITY];
    let length = staging.take(&mut lines);
    lines.truncate(length);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::RelayPipe;

    #[test]
    fn the_rest_of_a_line_is_kept_if_the_reader_ends_after_a_part_of_the_line() {
        let RelayPipe { reader, writer } = RelayPipe::nonblocking().unwrap();
        let mut outlet = Outlet::new(OutputStream::pipe(writer), None, None);
        // A pipe has less room than this line.
        let line = ["x".repeat(2_000_000), "\n".to_owned()].concat();
        outlet.lines = line.clone().into();
        outlet.send();
        let left = outlet.lines.clone();
        assert!((1..line.len()).contains(&left.len()), "{}", left.len());
        drop(reader);
        outlet.lines.extend(b"the next line\n");
        outlet.write();
        assert_eq!((outlet.rest, outlet.lost_lines), (left, 1));
    }
}
