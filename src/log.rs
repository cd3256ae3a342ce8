//! A line to stderr, never waiting for its reader; the only writer.

use crate::policy::Level;
use crate::sys::{self, Errno, LogStream};
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
    /// The last write found no room, but there will be some.
    full: bool,
}

impl Log {
    /// Shows lines of this level and above; none at all where it is silent.
    #[must_use]
    pub fn new(threshold: Level, silent: bool) -> Self {
        Self { stream: LogStream::stderr(), threshold, silent, rest: Vec::new(), dropped: 0, full: false }
    }

    /// Logs one line in supervisord's format. A line that does not fit is dropped whole, and counted.
    pub fn line(&mut self, level: Level, text: impl fmt::Display) {
        if self.shows(level) && !(self.catch_up() && self.write(&Line::format(level, text))) {
            self.dropped += 1;
        }
    }

    /// The stream to be watched for room, while there is something to catch up with.
    #[must_use]
    pub fn awaits_room(&self) -> Option<&LogStream> {
        self.full.then_some(&self.stream)
    }

    /// Writes what is left of the last line that began, and says how many were dropped since.
    pub fn catch_up(&mut self) -> bool {
        if !self.rest.is_empty() {
            let written = self.try_write(self.rest.len(), |log| log.stream.write(&log.rest));
            self.rest.drain(..written.min(self.rest.len()));
            if !self.rest.is_empty() {
                return false;
            }
        }
        let dropped = self.dropped;
        let told = dropped == 0
            || !self.shows(Level::Warn)
            || self.write(&Line::format(
                Level::Warn,
                format_args!("log lines lost: {dropped} (they were not read in time)"),
            ));
        if told {
            self.dropped = 0;
        }
        told
    }

    fn shows(&self, level: Level) -> bool {
        !self.silent && level <= self.threshold
    }

    /// Writes a line; what does not fit of one that has begun is written later.
    fn write(&mut self, line: &Line) -> bool {
        let written = self.try_write(line.length, |log| log.stream.write(line.as_bytes()));
        if written > 0 {
            self.rest.extend(line.as_bytes().iter().skip(written));
        }
        written > 0
    }

    fn try_write(&mut self, length: usize, write: impl FnOnce(&Self) -> Result<usize, Errno>) -> usize {
        let written = write(self);
        self.full = written.map_or_else(|errno| errno == Errno::EAGAIN, |written| written < length);
        written.unwrap_or(0)
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
