//! A line to stderr, never waiting for its reader; the only writer.

use crate::policy::Level;
use crate::sys::{self, LogStream};
use std::fmt::{self, Write};

/// rsup's own log.
#[derive(Debug)]
pub struct Log {
    stream: LogStream,
    threshold: Level,
    silent: bool,
    /// The end of a line of which only the beginning fitted.
    rest: Vec<u8>,
    /// Lines that did not fit since the last that did.
    dropped: u64,
}

impl Log {
    /// Shows lines of this level and above; none at all where it is silent.
    #[must_use]
    pub fn new(threshold: Level, silent: bool) -> Self {
        Self { stream: LogStream::stderr(), threshold, silent, rest: Vec::new(), dropped: 0 }
    }

    /// Logs one line in supervisord's format.
    pub fn line(&mut self, level: Level, text: impl fmt::Display) {
        if !self.shows(level) {
            return;
        }
        if self.dropped > 0 && self.shows(Level::Warn) {
            let lost =
                format_args!("log lines lost: {} (they were not read in time)", self.dropped).to_string();
            if !self.write(Line::format(Level::Warn, lost).as_bytes()) {
                self.dropped += 1;
                return;
            }
            self.dropped = 0;
        }
        if !self.write(Line::format(level, text).as_bytes()) {
            self.dropped += 1;
        }
    }

    fn shows(&self, level: Level) -> bool {
        !self.silent && level <= self.threshold
    }

    /// Writes a line, whole or not at all; what does not fit of one that has begun is written before the next.
    fn write(&mut self, line: &[u8]) -> bool {
        if !self.rest.is_empty() {
            let written = self.stream.write(&self.rest);
            self.rest.drain(..written.min(self.rest.len()));
            if !self.rest.is_empty() {
                return false;
            }
        }
        let written = self.stream.write(line);
        if written > 0 {
            self.rest.extend(line.iter().skip(written));
        }
        written > 0
    }
}

/// Up to PIPE_BUF bytes, so that a pipe takes all or nothing and lines of programs do not land inside.
const CAPACITY: usize = 4096;
/// What stands where the text was longer.
const CUT: &[u8] = b"...\n";

struct Line {
    bytes: [u8; CAPACITY],
    length: usize,
}

impl Line {
    fn format(level: Level, text: impl fmt::Display) -> Self {
        let mut line = Self { bytes: [0; CAPACITY], length: 0 };
        let now = sys::local_time();
        let stamp = write!(
            line,
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02},{:03} {} ",
            now.year,
            now.month,
            now.day,
            now.hour,
            now.minute,
            now.second,
            now.millisecond,
            level.tag()
        );
        match stamp.and_then(|()| write!(line, "{text}")) {
            Ok(()) => line.push(b"\n"),
            Err(fmt::Error) => line.push(CUT),
        }
        line
    }

    fn push(&mut self, bytes: &[u8]) {
        for (place, byte) in self.bytes.iter_mut().skip(self.length).zip(bytes) {
            *place = *byte;
            self.length += 1;
        }
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// One event is one line: control characters in a name or a path are escaped.
impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            let mut buffer = [0; 4];
            if character.is_control() {
                for escaped in character.escape_default() {
                    self.put(escaped.encode_utf8(&mut buffer))?;
                }
            } else {
                self.put(character.encode_utf8(&mut buffer))?;
            }
        }
        Ok(())
    }
}

impl Line {
    fn put(&mut self, text: &str) -> fmt::Result {
        if self.length + text.len() + CUT.len() > CAPACITY {
            return Err(fmt::Error);
        }
        self.push(text.as_bytes());
        Ok(())
    }
}
