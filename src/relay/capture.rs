//! supervisord's capture mode: what a process writes between two tokens is no output, but an event (supervisord's
//! documentation, "Capture Mode"; `POutputDispatcher.record_output` in supervisord's dispatchers.py).

use std::mem;

const BEGIN: &[u8] = b"<!--XSUPERVISOR:BEGIN-->";
const END: &[u8] = b"<!--XSUPERVISOR:END-->";

/// A part of what a process has written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    Output(Vec<u8>),
    /// Bytes between the tokens.
    Captured(Vec<u8>),
    /// The second token was read. Contains the bytes between the tokens, or only the last part of them if there are
    /// too many.
    Communication(Vec<u8>),
}

#[derive(Debug)]
pub(super) struct Capture {
    /// About how many bytes between the tokens are kept. The oldest bytes are removed. As in supervisord, bytes that
    /// come in one read are all kept, even if they are more than this limit.
    limit: usize,
    /// The bytes that were read and not passed on. They are not longer than the token, and may be the beginning of it.
    held: Vec<u8>,
    /// The bytes that follow the token `BEGIN`. `None` before this token, and after the token `END`.
    captured: Option<Vec<u8>>,
}

impl Capture {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, held: Vec::new(), captured: None }
    }

    /// Divides the output at the tokens.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Vec<Part> {
        self.held.extend(bytes);
        let mut parts = Vec::new();
        loop {
            let token = if self.captured.is_some() { END } else { BEGIN };
            // As in supervisord, the bytes in `held` stay there while `held` is not longer than the token, even if the
            // token cannot begin in them.
            if self.held.len() <= token.len() {
                return parts;
            }
            let found = self.held.windows(token.len()).position(|window| window == token);
            let end = found.unwrap_or_else(|| self.held.len() - prefix_at_end(&self.held, token));
            let before = self.held.drain(..end).collect();
            self.take(before, &mut parts);
            if found.is_none() {
                return parts;
            }
            self.held.drain(..token.len());
            match self.captured.take() {
                Some(captured) => parts.push(Part::Communication(captured)),
                None => self.captured = Some(Vec::new()),
            }
        }
    }

    /// Ends the output of a process that has exited. Returns the bytes that [`Capture::read`] has held back. If
    /// [`Capture::read`] has found the first token of a message but not the second, returns nothing, and the message is
    /// lost. As in supervisord, [`Capture::read`] finds a token only if `held` is longer than the token.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let held = mem::take(&mut self.held);
        if self.captured.take().is_some() { Vec::new() } else { held }
    }

    fn take(&mut self, bytes: Vec<u8>, parts: &mut Vec<Part>) {
        if bytes.is_empty() {
            return;
        }
        let Some(captured) = &mut self.captured else { return parts.push(Part::Output(bytes)) };
        // supervisord removes as many of the oldest bytes as it adds.
        if captured.len() + bytes.len() > self.limit {
            captured.drain(..bytes.len().min(captured.len()));
        }
        captured.extend(&bytes);
        parts.push(Part::Captured(bytes));
    }
}

/// The length of the longest prefix of `token` that `bytes` ends with. This prefix is shorter than `token`.
fn prefix_at_end(bytes: &[u8], token: &[u8]) -> usize {
    let is_end = |length: &usize| token.get(..*length).is_some_and(|prefix| bytes.ends_with(prefix));
    (1..token.len()).rev().find(is_end).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(parts: Vec<Part>) -> Vec<String> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let show = |part| match part {
            Part::Output(bytes) => format!("output {}", text(bytes)),
            Part::Captured(bytes) => format!("captured {}", text(bytes)),
            Part::Communication(bytes) => format!("message {}", text(bytes)),
        };
        parts.into_iter().map(show).collect()
    }

    #[test]
    fn what_is_between_the_tokens_is_a_message() {
        let mut capture = Capture::new(100);
        let parts = capture
            .read(b"before<!--XSUPERVISOR:BEGIN-->text<!--XSUPERVISOR:END-->and all that comes after it");
        let expected =
            ["output before", "captured text", "message text", "output and all that comes after it"];
        assert_eq!(show(parts), expected);
    }

    #[test]
    fn a_token_may_come_in_pieces() {
        let mut capture = Capture::new(100);
        assert_eq!(
            show(capture.read(b"a line before the token\n<!--XSUPERV")),
            ["output a line before the token\n"]
        );
        assert_eq!(
            show(capture.read(b"ISOR:BEGIN-->0123456789012345678901234<")),
            ["captured 0123456789012345678901234"]
        );
        assert_eq!(
            show(capture.read(b"!--XSUPERVISOR:END-->")),
            Vec::<String>::new(),
            "as many bytes as the token has"
        );
        assert_eq!(show(capture.read(b"\n")), ["message 0123456789012345678901234"]);
        assert_eq!(capture.finish(), b"\n");
    }

    #[test]
    fn the_oldest_bytes_are_removed_if_a_message_is_too_long() {
        let mut capture = Capture::new(40);
        capture.read(b"<!--XSUPERVISOR:BEGIN-->aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
        capture.read(b"bbbbbbbbbbbbbbbbbbbbbbbbb");
        let parts = capture.read(b"<!--XSUPERVISOR:END-->.");
        assert_eq!(show(parts), ["message aaaaabbbbbbbbbbbbbbbbbbbbbbbbb"]);
    }

    #[test]
    fn an_unfinished_message_is_lost_when_the_process_ends() {
        let mut capture = Capture::new(100);
        capture.read(b"<!--XSUPERVISOR:BEGIN-->text");
        assert_eq!(capture.finish(), b"");
        assert_eq!(
            show(capture.read(b"output of the next run is output")),
            ["output output of the next run is output"]
        );
        capture.read(b"short");
        assert_eq!(capture.finish(), b"short");
    }
}
