//! The rest of a line whose beginning is lost. It must not look like a line of its own, so it is skipped.

use super::line_format::MAX_LINE;

/// The number of bytes after which the skipping ends, even if no newline has come. 0 if nothing is skipped.
#[derive(Debug, Default)]
pub(super) struct SkippedLine(usize);

impl SkippedLine {
    /// The bytes up to the next newline are skipped, but at most [`MAX_LINE`]: a program may write no newline at all.
    pub(super) fn begin(&mut self) {
        self.0 = MAX_LINE;
    }

    /// Nothing is skipped any more.
    pub(super) fn end(&mut self) {
        self.0 = 0;
    }

    pub(super) fn is_active(&self) -> bool {
        self.0 > 0
    }

    /// Returns the end of `bytes`, without the bytes at the beginning that are skipped.
    pub(super) fn skip<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        if !self.is_active() {
            return bytes;
        }
        let newline = bytes.iter().position(|byte| *byte == b'\n');
        let end = newline.map_or(bytes.len(), |newline| newline + 1).min(self.0);
        self.0 = if newline.is_some() { 0 } else { self.0 - end };
        bytes.get(end..).unwrap_or_default()
    }
}
