//! The format of the requests. A client writes one with one call of write(2) into rsup's request pipe. rsup reads it.
//!
//! A request is a line of [`SIZE`] bytes with a newline at both ends. A write of so few bytes is never mixed with
//! another (pipe(7), `PIPE_BUF`). Because of the first newline, an incomplete line of another writer does not become
//! part of this request.

use std::fmt::Write;
use std::str;

/// The length of every request, in bytes.
pub const SIZE: usize = 64;

/// The first word of a request. The `1` is increased when the format changes.
const FORMAT: &str = "rsup-request-1";

/// What a client asks of rsup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Start the process at this index of the board.
    Start(usize),
    /// Stop the process at this index of the board.
    Stop(usize),
    /// Send a signal to the process at this index of the board, and not to its process group.
    Signal(usize, i32),
    /// Stop every process, then exit.
    Shutdown,
    /// Stop every process, then execute rsup again.
    Reload,
}

impl Request {
    /// Returns the text of this request. `run` is the number of the run ([`super::board::Header`]) to which the request
    /// is sent.
    #[must_use]
    pub fn render(&self, run: u64) -> String {
        let mut line = format!("\n{FORMAT} {run:016x} ");
        // Writing to a String cannot fail.
        let _ = match self {
            Self::Start(index) => write!(line, "start {index}"),
            Self::Stop(index) => write!(line, "stop {index}"),
            Self::Signal(index, signal) => write!(line, "signal {index} {signal}"),
            Self::Shutdown => write!(line, "shutdown"),
            Self::Reload => write!(line, "reload"),
        };
        let padding = (SIZE - 1).saturating_sub(line.len());
        let _ = writeln!(line, "{:padding$}", "");
        line
    }

    fn parse(line: &str, own_run: u64) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        if words.next()? != FORMAT || u64::from_str_radix(words.next()?, 16).ok()? != own_run {
            return None;
        }
        let verb = words.next()?;
        let mut index = || words.next()?.parse().ok();
        let request = match verb {
            "start" => Self::Start(index()?),
            "stop" => Self::Stop(index()?),
            "signal" => Self::Signal(index()?, words.next()?.parse().ok()?),
            "shutdown" => Self::Shutdown,
            "reload" => Self::Reload,
            _ => return None,
        };
        words.next().is_none().then_some(request)
    }
}

/// Splits what rsup reads from the request pipe into requests. Other bytes in the pipe can shift the requests, so one
/// read may end within a request.
#[derive(Debug)]
pub struct RequestParser {
    run: u64,
    /// The beginning of a line whose end has not been read yet.
    line: [u8; SIZE],
    /// The number of bytes of the unfinished line. If `line` is too small for them, it contains only the first bytes.
    length: usize,
}

impl RequestParser {
    /// Returns a reader that accepts only requests to the run with this number.
    #[must_use]
    pub fn new(run: u64) -> Self {
        Self { run, line: [0; SIZE], length: 0 }
    }

    /// Takes bytes from the pipe. Passes each non-empty line that is complete now to `on_request`: a request, or `None`
    /// if the line is not a request to this run.
    pub fn read(&mut self, bytes: &[u8], mut on_request: impl FnMut(Option<Request>)) {
        for byte in bytes {
            if *byte != b'\n' {
                if let Some(place) = self.line.get_mut(self.length) {
                    *place = *byte;
                }
                self.length = self.length.saturating_add(1);
                continue;
            }
            if self.length > 0 {
                let line = self.line.get(..self.length).and_then(|line| str::from_utf8(line).ok());
                on_request(line.and_then(|line| Request::parse(line, self.run)));
            }
            self.length = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: u64 = 0xDEAD_BEEF;
    const ALL: [Request; 6] = [
        Request::Start(0),
        Request::Start(99_999_999),
        Request::Stop(7),
        Request::Signal(99_999_999, 64),
        Request::Shutdown,
        Request::Reload,
    ];

    fn read(pieces: &[&[u8]]) -> Vec<Option<Request>> {
        let mut requests = RequestParser::new(RUN);
        let mut all = vec![];
        for piece in pieces {
            requests.read(piece, |request| all.push(request));
        }
        all
    }

    #[test]
    fn every_request_has_the_same_length_and_is_read_as_it_was_written() {
        for request in ALL {
            let text = request.render(RUN);
            assert_eq!(text.len(), SIZE, "{text}");
            assert_eq!(read(&[text.as_bytes()]), [Some(request)]);
        }
    }

    #[test]
    fn a_request_may_arrive_in_pieces() {
        let text: String = ALL.iter().map(|request| request.render(RUN)).collect();
        for at in 0..text.len() {
            let (first, second) = text.as_bytes().split_at(at);
            assert_eq!(read(&[first, second]), ALL.map(Some));
        }
    }

    #[test]
    fn a_request_after_other_bytes_is_read() {
        for before in [&b"x"[..], b"\n", b"rsup-request-1 ", &[0xFF; 1000], &[b' '; SIZE], b"\n\n\n\0"] {
            let mut bytes = before.to_vec();
            bytes.extend(Request::Stop(1).render(RUN).bytes());
            let requests = read(&[&bytes]);
            assert_eq!(requests.last(), Some(&Some(Request::Stop(1))), "{before:?}");
        }
    }

    #[test]
    fn a_line_that_is_no_request_of_this_run_is_reported() {
        for text in [
            Request::Shutdown.render(RUN + 1),
            Request::Shutdown.render(RUN).replace("request-1", "request-2"),
            Request::Shutdown.render(RUN).replace("shutdown", "start   "),
            Request::Shutdown.render(RUN).replace("shutdown", "stop -1 "),
            Request::Shutdown.render(RUN).replace("shutdown", "stop 1 1"),
            Request::Shutdown.render(RUN).replace("shutdown", "signal 1"),
        ] {
            assert_eq!(read(&[text.as_bytes()]), [None], "{text}");
        }
    }
}
