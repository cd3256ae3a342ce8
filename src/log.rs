//! A line to stderr, never waiting for its reader; the only writer.

use crate::policy::Level;
use crate::sys::{self, Errno, LocalTime, LogStream, WallClock};
use std::fmt::{self, Write};
use std::mem;

/// rsup's own log.
#[derive(Debug)]
pub struct Log {
    stream: LogStream,
    threshold: Level,
    silent: bool,
    /// Whole lines that wait for room, but for the beginning of the first that has been written.
    backlog: Vec<u8>,
    /// So much of the backlog has been written.
    written: usize,
    /// Lines that the backlog had no room for, since it was empty last.
    lost: u64,
    /// Lines wait for [`Log::flush`], even where there is room.
    deferred: bool,
    /// There are lines that no write was tried for.
    unwritten: bool,
    stamp: Stamp,
}

/// Bytes that may wait: as many as a pipe holds. A reader that is slow loses nothing of a burst; one that does not read
/// at all costs no more than this.
const BACKLOG: usize = 64 * 1024;

impl Log {
    /// Shows lines of this level and above; none at all where it is silent.
    #[must_use]
    pub fn new(threshold: Level, silent: bool) -> Self {
        let (stream, backlog, stamp) = (LogStream::stderr(), Vec::new(), Stamp::default());
        Self {
            stream,
            threshold,
            silent,
            backlog,
            written: 0,
            lost: 0,
            deferred: false,
            unwritten: false,
            stamp,
        }
    }

    /// Logs one line in supervisord's format. Where there is no room it waits its turn; where too many do, it is lost
    /// whole, and counted.
    pub fn line(&mut self, level: Level, text: impl fmt::Display) {
        if self.shows(level) {
            self.add(level, &text);
        }
    }

    fn add(&mut self, level: Level, text: &dyn fmt::Display) {
        if !self.push(level, text) {
            // There may be room by now, though not for all.
            let _ = self.drain();
            self.lost += u64::from(!self.push(level, text));
        }
        self.unwritten = true;
        if !self.deferred {
            let _ = self.drain();
        }
    }

    /// From here on lines are written when they are flushed: whoever reads them may be woken on rsup's own processor, and
    /// take the time of what is to be done first.
    pub fn defer_writes(&mut self) {
        self.deferred = true;
    }

    /// Writes what has been logged. Returns the stream to be watched for room, when there was none for a line.
    pub fn flush(&mut self) -> Option<&LogStream> {
        let full = mem::take(&mut self.unwritten) && self.drain() == Err(Errno::EAGAIN);
        full.then_some(&self.stream)
    }

    /// What [`Log::flush`] has named.
    #[must_use]
    pub fn stream(&self) -> &LogStream {
        &self.stream
    }

    /// Writes what waits, and behind it how many lines were lost. Returns whether nothing waits any more.
    pub fn drain_backlog(&mut self) -> bool {
        self.drain().is_ok()
    }

    /// Before rsup leaves: a reader that is there has a moment to take the last lines, which say why.
    pub fn finish(&mut self) {
        self.drain_for(200);
    }

    fn drain_for(&mut self, milliseconds: u64) {
        let end = sys::monotonic_nanos() / 1_000_000 + milliseconds;
        while self.drain() == Err(Errno::EAGAIN) {
            let left = end.saturating_sub(sys::monotonic_nanos() / 1_000_000);
            if left == 0 {
                return;
            }
            self.stream.wait_for_room(left);
        }
    }

    fn drain(&mut self) -> Result<(), Errno> {
        loop {
            // Line by line, so that in a pipe none of another writer's lands inside of one.
            while let Some(rest) = self.backlog.get(self.written..).filter(|rest| !rest.is_empty()) {
                let line = rest.split_inclusive(|byte| *byte == b'\n').next().unwrap_or(rest);
                self.written += match self.stream.write(line)? {
                    0 => return Err(Errno::EAGAIN),
                    written => written,
                };
            }
            self.backlog.clear();
            self.backlog.shrink_to(CAPACITY);
            self.written = 0;
            match mem::take(&mut self.lost) {
                0 => return Ok(()),
                lost if self.shows(Level::Warn) => {
                    let text = format_args!("log lines lost: {lost} (they were not read in time)");
                    self.push(Level::Warn, &text);
                }
                _ => {}
            }
        }
    }

    fn shows(&self, level: Level) -> bool {
        !self.silent && level <= self.threshold
    }

    /// Puts a line behind those that wait; behind lost ones none, before their number is told.
    fn push(&mut self, level: Level, text: &dyn fmt::Display) -> bool {
        if self.lost > 0 {
            return false;
        }
        let mut end = self.backlog.len();
        let stamp = self.stamp.now();
        LineWriter::append_to(&mut self.backlog).format(stamp, level, text);
        if self.backlog.len() > BACKLOG {
            self.backlog.drain(..self.written);
            end -= mem::take(&mut self.written);
        }
        let fits = self.backlog.len() <= BACKLOG;
        if !fits {
            self.backlog.truncate(end);
        }
        fits
    }
}

/// Text without a stamp. Nothing runs that could be held up: a reader that is slow has some time, but rsup leaves all the
/// same where there is none.
pub fn write_final(text: String) {
    let mut log = Log::new(Level::Critical, false);
    log.backlog = text.into_bytes();
    log.drain_for(3000);
}

/// What lines begin with. The calendar is asked once a second.
#[derive(Debug, Default)]
struct Stamp {
    seconds: Option<u64>,
    text: String,
}

impl Stamp {
    /// The local time now up to its second, and the milliseconds.
    fn now(&mut self) -> (&str, u32) {
        let clock = WallClock::now();
        if self.seconds != Some(clock.seconds()) {
            self.seconds = Some(clock.seconds());
            let LocalTime { year, month, day, hour, minute, second } = clock.local_time();
            self.text.clear();
            // Into memory, which has no end.
            let _ = write!(self.text, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}");
        }
        (&self.text, clock.milliseconds())
    }
}

/// Up to PIPE_BUF bytes, so that a pipe takes all or nothing and lines of programs do not land inside.
const CAPACITY: usize = 4096;
/// What stands where the text was longer.
const CUT: &[u8] = b"...\n";

/// A line that is being written behind others.
struct LineWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Where the text has to end at the latest.
    end: usize,
}

impl<'a> LineWriter<'a> {
    fn append_to(out: &'a mut Vec<u8>) -> Self {
        let end = out.len() + CAPACITY - CUT.len();
        Self { out, end }
    }

    fn format(mut self, stamp: (&str, u32), level: Level, text: &dyn fmt::Display) {
        let (seconds, millisecond) = stamp;
        let written = write!(self, "{seconds},{millisecond:03} {} {text}", level.tag());
        self.out.extend(if written.is_ok() { b"\n" } else { CUT });
    }

    fn put(&mut self, text: &str) -> fmt::Result {
        if self.out.len() + text.len() > self.end {
            return Err(fmt::Error);
        }
        self.out.extend(text.as_bytes());
        Ok(())
    }
}

/// One event is one line: control characters in a name or a path are escaped.
impl Write for LineWriter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // The first byte of those beyond ASCII is 0xc2, as that of many others.
        let may_be_control = |byte: u8| byte.is_ascii_control() || byte == 0xc2;
        if !text.bytes().any(may_be_control) && self.put(text).is_ok() {
            return Ok(());
        }
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
