//! One stream of a process, as the relay reads it: the bytes that wait until they are a whole line.

use super::capture::Capture;
use super::line_format::{MAX_LINE, Piece};
use super::skipped_line::SkippedLine;

/// What the relay knows about a stream.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// The bytes that were read and not written.
    held: Vec<u8>,
    /// The line whose beginning an earlier relay has lost.
    skipped: SkippedLine,
    /// Whether the process has exited, and the relay has not read all of its output yet.
    pub(super) has_ended: bool,
    /// Whether the stream is at end of file.
    pub(super) is_closed: bool,
    /// When an unfinished line is written, in nanoseconds of the monotonic clock. `None` if there is none.
    pub(super) flush_at: Option<u64>,
    /// Whether the relay's queue of unfinished lines contains this stream.
    pub(super) is_queued_for_flush: bool,
    /// `None` if the stream has no capture mode.
    pub(super) capture: Option<Box<Capture>>,
}

/// When bytes without a newline count as a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnfinishedLine {
    /// The bytes count as a line only if there are at least [`MAX_LINE`] of them.
    AwaitsNewline,
    /// The same as [`UnfinishedLine::AwaitsNewline`], except that bytes up to a carriage return are written at once.
    /// The output goes to a terminal, on which a program shows its progress in this way.
    ShowsProgress,
    /// The bytes always count as a line. The process has ended, or it has written no more bytes for a second.
    CountsAsLine,
}

/// The size in bytes to which the memory of a stream is reduced if the stream does not hold more bytes than this.
const MIN_CAPACITY: usize = 128;

impl Stream {
    /// Creates a stream. If `starts_inside_line` is true, an earlier relay may have read the beginning of a line, and
    /// the stream skips the rest of that line. `capture_maxbytes` is the limit of the capture mode, or `None` if the
    /// stream has no capture mode.
    pub(super) fn new(starts_inside_line: bool, capture_maxbytes: Option<usize>) -> Self {
        let mut stream =
            Self { capture: capture_maxbytes.map(|limit| Box::new(Capture::new(limit))), ..Self::default() };
        if starts_inside_line {
            stream.skipped.begin();
        }
        stream
    }

    /// Adds bytes that were read.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.held.extend(self.skipped.skip(bytes));
    }

    /// Adds whole lines of the relay's own before the unfinished line.
    pub(super) fn insert_lines(&mut self, lines: &[u8]) {
        let end_of_lines = self.held.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.held.splice(end_of_lines..end_of_lines, lines.iter().copied());
    }

    /// Notes that a process has ended. The rest of a skipped line does not continue in the output of the next run, so
    /// nothing is skipped any more.
    pub(super) fn stop_skipping(&mut self) {
        self.skipped.end();
    }

    /// The number of bytes that were read and not written yet.
    pub(super) fn length(&self) -> usize {
        self.held.len()
    }

    /// Whether `held` ends in the middle of a line, or the rest of a line is being skipped.
    pub(super) fn is_inside_line(&self) -> bool {
        self.skipped.is_active() || self.held.last().is_some_and(|byte| *byte != b'\n')
    }

    /// Passes the waiting lines to `write`, which returns how many bytes of a line it has taken, or `None` if it takes
    /// nothing more. A line of which only a part is taken is continued in a new line.
    pub(super) fn take_lines(
        &mut self,
        unfinished_line_rule: UnfinishedLine,
        mut write: impl FnMut(Piece<'_>) -> Option<usize>,
    ) {
        let mut at = 0;
        while let Some((piece, separator)) =
            next_piece(self.held.get(at..).unwrap_or_default(), unfinished_line_rule)
        {
            let Some(taken) = write(piece) else { break };
            at += taken;
            if taken == piece.text.len() {
                at += separator;
            }
        }
        self.held.drain(..at);
        // Without this reduction, each stream that holds the beginning of a line would keep the memory of its longest
        // read.
        if self.held.len() <= MIN_CAPACITY {
            self.held.shrink_to(MIN_CAPACITY);
        }
    }
}

/// The next piece of `held` to write, and the length of the newline after it. `None` if `held` has no whole line and
/// `unfinished_line_rule` does not permit to write what it has.
fn next_piece(held: &[u8], unfinished_line_rule: UnfinishedLine) -> Option<(Piece<'_>, usize)> {
    if let Some(newline) = held.iter().position(|byte| *byte == b'\n') {
        return Some((Piece { text: held.get(..newline)?, gets_newline: true }, 1));
    }
    let all_held = Piece { text: held, gets_newline: true };
    match unfinished_line_rule {
        _ if held.len() >= MAX_LINE => Some((all_held, 0)),
        UnfinishedLine::AwaitsNewline => None,
        UnfinishedLine::ShowsProgress => {
            let last = held.iter().rposition(|byte| *byte == b'\r')?;
            Some((Piece { text: held.get(..=last)?, gets_newline: false }, 0))
        }
        UnfinishedLine::CountsAsLine => (!held.is_empty()).then_some((all_held, 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(stream: &mut Stream, unfinished_line_rule: UnfinishedLine) -> Vec<(String, bool)> {
        let mut lines = Vec::new();
        stream.take_lines(unfinished_line_rule, |piece| {
            lines.push((String::from_utf8_lossy(piece.text).into_owned(), piece.gets_newline));
            Some(piece.text.len())
        });
        lines
    }

    fn line(text: &str) -> (String, bool) {
        (text.to_owned(), true)
    }

    #[test]
    fn an_unfinished_line_waits_for_its_newline() {
        let mut stream = Stream::default();
        stream.push(b"a\n\nbc");
        assert!(stream.is_inside_line());
        assert_eq!(lines(&mut stream, UnfinishedLine::AwaitsNewline), [line("a"), line("")]);
        assert_eq!(stream.length(), 2);
        stream.push(b"d\n");
        assert!(!stream.is_inside_line());
        assert_eq!(lines(&mut stream, UnfinishedLine::AwaitsNewline), [line("bcd")]);
    }

    #[test]
    fn an_unfinished_line_counts_as_a_line_at_the_end() {
        let mut stream = Stream::default();
        assert_eq!(lines(&mut stream, UnfinishedLine::CountsAsLine), []);
        stream.push(b"a\nb");
        assert_eq!(lines(&mut stream, UnfinishedLine::CountsAsLine), [line("a"), line("b")]);
        assert_eq!(stream.length(), 0);
    }

    #[test]
    fn progress_is_shown_up_to_the_last_carriage_return() {
        let mut stream = Stream::default();
        stream.push(b"a\n10%\r20%\r3");
        let shown = ("10%\r20%\r".to_owned(), false);
        assert_eq!(lines(&mut stream, UnfinishedLine::ShowsProgress), [line("a"), shown]);
        assert_eq!(stream.length(), 1);
    }

    #[test]
    fn a_line_of_which_a_part_was_taken_is_continued() {
        let mut stream = Stream::default();
        stream.push(b"abcdef\ng\n");
        let mut taken = Vec::new();
        stream.take_lines(UnfinishedLine::AwaitsNewline, |piece| {
            let text = &piece.text[..piece.text.len().min(4)];
            taken.push(String::from_utf8_lossy(text).into_owned());
            Some(text.len())
        });
        assert_eq!(taken, ["abcd", "ef", "g"]);
    }

    #[test]
    fn lines_that_are_not_taken_stay() {
        let mut stream = Stream::default();
        stream.push(b"a\nb\nc\n");
        let mut room = 1;
        stream.take_lines(UnfinishedLine::AwaitsNewline, |piece| {
            room -= 1;
            (room >= 0).then_some(piece.text.len())
        });
        assert_eq!(lines(&mut stream, UnfinishedLine::AwaitsNewline), [line("b"), line("c")]);
    }

    #[test]
    fn the_rest_of_a_line_whose_beginning_is_lost_is_skipped() {
        let mut stream = Stream::new(true, None);
        stream.push(b"rest");
        assert!(stream.is_inside_line());
        stream.push(b" of it\nwhole\n");
        assert_eq!(lines(&mut stream, UnfinishedLine::AwaitsNewline), [line("whole")]);
    }

    #[test]
    fn not_more_than_one_line_is_skipped() {
        let mut stream = Stream::new(true, None);
        stream.push(&vec![b'a'; MAX_LINE - 1]);
        assert!(stream.is_inside_line());
        stream.push(b"ab");
        assert_eq!(lines(&mut stream, UnfinishedLine::CountsAsLine), [line("b")]);
        let mut stream = Stream::new(true, None);
        stream.stop_skipping();
        stream.push(b"next run\n");
        assert_eq!(lines(&mut stream, UnfinishedLine::AwaitsNewline), [line("next run")]);
    }

    #[test]
    fn the_relays_own_lines_come_before_the_unfinished_line() {
        let mut stream = Stream::default();
        stream.push(b"a\nb");
        stream.insert_lines(b"own\n");
        stream.push(b"c\n");
        assert_eq!(lines(&mut stream, UnfinishedLine::AwaitsNewline), [line("a"), line("own"), line("bc")]);
    }
}
