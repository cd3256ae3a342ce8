//! A line to stderr, never waiting for its reader; the only writer.

use crate::policy::Level;
use crate::sys;
use std::fmt::{self, Write};

/// rsup's own log.
#[derive(Debug)]
pub struct Log {
    threshold: Level,
    silent: bool,
    /// Lines that did not fit since the last that did.
    dropped: u64,
}

impl Log {
    /// Shows lines of this level and above; none at all where it is silent.
    #[must_use]
    pub fn new(threshold: Level, silent: bool) -> Self {
        Self { threshold, silent, dropped: 0 }
    }

    /// Logs one line in supervisord's format.
    pub fn line(&mut self, level: Level, text: impl fmt::Display) {
        if self.silent || level > self.threshold {
            return;
        }
        if self.dropped > 0 {
            let lost = format_args!("{} log lines were lost: nobody read them", self.dropped).to_string();
            if !Line::format(Level::Warn, lost).write() {
                self.dropped += 1;
                return;
            }
            self.dropped = 0;
        }
        if !Line::format(level, text).write() {
            self.dropped += 1;
        }
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

    fn write(&self) -> bool {
        sys::write_line(self.bytes.get(..self.length).unwrap_or_default())
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
