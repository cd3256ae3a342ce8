//! rsup's own log lines on stderr. rsup waits for the reader only just before it exits or aborts, and for at most 3 s.
//! In rare cases the kernel makes a write wait (`sys/output_stream.rs`).

use crate::json_string;
use crate::policy::Level;
use crate::sys::{self, Errno, LocalTime, OutputStream, TimeZone, WallTime};
use std::fmt::{self, Write};
use std::mem;

/// rsup's own log.
#[derive(Debug)]
pub struct Log {
    stream: OutputStream,
    threshold: Level,
    silent: bool,
    backlog: Backlog,
    /// Whether [`Log::line`] leaves the writing to [`Log::flush`].
    defers_writes: bool,
    /// Whether a line was logged since the last [`Log::flush`].
    logged_since_flush: bool,
    formatter: LineFormatter,
}

impl Log {
    /// Creates a log that shows lines of this level and of the more urgent levels, or no lines if `silent` is set.
    #[must_use]
    pub fn new(threshold: Level, silent: bool) -> Self {
        Self {
            stream: OutputStream::stderr(),
            threshold,
            silent,
            backlog: Backlog::default(),
            defers_writes: false,
            logged_since_flush: false,
            formatter: LineFormatter::new(LogFormat::Text),
        }
    }

    /// Logs one line, if the log shows lines of this level. If the stream has no room for the line, the line waits in
    /// the backlog. If the backlog has no room either, the line is lost and counted.
    pub fn line(&mut self, level: Level, text: impl fmt::Display) {
        if self.shows(level) {
            self.add(level, &text);
        }
    }

    /// Takes the text as a trait object, so that the code below exists once and not for every type of text.
    fn add(&mut self, level: Level, text: &dyn fmt::Display) {
        if !self.backlog.push(&mut self.formatter, level, text) {
            // The stream may have room again. Even if the stream has no room for the whole backlog, the line may fit
            // into the backlog now.
            let _ = self.drain();
            if !self.backlog.push(&mut self.formatter, level, text) {
                self.backlog.lost_lines += 1;
            }
        }
        self.logged_since_flush = true;
        if !self.defers_writes {
            let _ = self.drain();
        }
    }

    /// From now on, [`Log::line`] leaves the writing to [`Log::flush`], unless the backlog is full. A write can make
    /// the kernel run the reader on rsup's own processor at once, which delays more urgent work such as a restart.
    pub fn defer_writes(&mut self) {
        self.defers_writes = true;
    }

    /// Writes the backlog if a line was logged since the last call. Returns the stream if the stream has no room for
    /// the whole backlog, so that the caller can watch the stream.
    pub fn flush(&mut self) -> Option<&OutputStream> {
        let is_full = mem::take(&mut self.logged_since_flush) && self.drain() == Err(Errno::EAGAIN);
        is_full.then_some(&self.stream)
    }

    /// From now on, each line is a JSON object.
    pub fn use_json(&mut self) {
        self.formatter = LineFormatter::new(LogFormat::Json);
    }

    /// From now on, the lines are written to this stream. Returns the former stream. The backlog stays.
    pub fn redirect(&mut self, stream: OutputStream) -> OutputStream {
        mem::replace(&mut self.stream, stream)
    }

    /// The stream to which the lines are written. [`Log::flush`] returns the same stream.
    #[must_use]
    pub fn stream(&self) -> &OutputStream {
        &self.stream
    }

    /// Writes the backlog, and then the number of lost lines. Returns whether the backlog is empty now.
    pub fn drain_backlog(&mut self) -> bool {
        self.drain().is_ok()
    }

    /// Gives the reader up to 200 ms to read the last lines, which say why rsup exits.
    pub fn drain_at_exit(&mut self) {
        self.drain_for(200);
    }

    fn drain_for(&mut self, milliseconds: u64) {
        let end = monotonic_milliseconds() + milliseconds;
        while self.drain() == Err(Errno::EAGAIN) {
            let left = end.saturating_sub(monotonic_milliseconds());
            if left == 0 {
                return;
            }
            self.stream.wait_for_room(left);
        }
    }

    fn drain(&mut self) -> Result<(), Errno> {
        let shows_warnings = self.shows(Level::Warn);
        let stream = &self.stream;
        let formatter = &mut self.formatter;
        self.backlog.drain(
            |line| stream.write(line),
            |backlog, lost| {
                if shows_warnings {
                    let text = format_args!("log lines lost: {lost} (they were not read in time)");
                    backlog.push(formatter, Level::Warn, &text);
                }
            },
        )
    }

    fn shows(&self, level: Level) -> bool {
        !self.silent && level <= self.threshold
    }
}

fn monotonic_milliseconds() -> u64 {
    sys::monotonic_nanos() / 1_000_000
}

/// Writes text without a time stamp, just before rsup exits or aborts. The reader gets up to 3 s to make room.
pub fn write_final(text: String) {
    let mut log = Log::new(Level::Critical, false);
    log.backlog.bytes = text.into_bytes();
    log.drain_for(3000);
}

/// Complete lines that wait to be written.
#[derive(Debug, Default)]
struct Backlog {
    bytes: Vec<u8>,
    /// How many of the `bytes`, counted from the first one, have been written.
    written: usize,
    /// The number of lines that were lost since the backlog was last empty.
    lost_lines: u64,
}

/// The maximum size of the backlog in bytes, which is the capacity of a pipe. This much can wait for a slow reader
/// before lines are lost. If the reader does not read at all, the limit bounds rsup's memory.
const MAX_BACKLOG: usize = 64 * 1024;

impl Backlog {
    /// Appends a line. Returns false if the line does not fit, or if the loss of earlier lines has not been reported
    /// yet.
    fn push(&mut self, formatter: &mut LineFormatter, level: Level, text: &dyn fmt::Display) -> bool {
        if self.lost_lines > 0 {
            return false;
        }
        let mut end = self.bytes.len();
        formatter.append(&mut self.bytes, level, text);
        if self.bytes.len() > MAX_BACKLOG {
            self.bytes.drain(..self.written);
            end -= mem::take(&mut self.written);
        }
        let fits = self.bytes.len() <= MAX_BACKLOG;
        if !fits {
            self.bytes.truncate(end);
        }
        fits
    }

    /// Writes the lines. If lines were lost, then calls `report` with their number. `report` appends a line about the
    /// lost lines, and this function writes that line too.
    ///
    /// # Errors
    /// Returns the error of `write`, and EAGAIN if `write` returned 0.
    fn drain(
        &mut self,
        mut write: impl FnMut(&[u8]) -> Result<usize, Errno>,
        mut report: impl FnMut(&mut Self, u64),
    ) -> Result<(), Errno> {
        loop {
            self.write_to(&mut write)?;
            match mem::take(&mut self.lost_lines) {
                0 => return Ok(()),
                lost => report(self, lost),
            }
        }
    }

    /// Passes the lines to `write` until no line is left. `write` returns the number of bytes that it has written.
    ///
    /// # Errors
    /// Returns the error of `write`, and EAGAIN if `write` returned 0.
    fn write_to(&mut self, mut write: impl FnMut(&[u8]) -> Result<usize, Errno>) -> Result<(), Errno> {
        while let Some(unwritten) = self.bytes.get(self.written..).filter(|bytes| !bytes.is_empty()) {
            // Each line is one write of at most PIPE_BUF bytes, so that no other writer can insert text in the middle
            // of the line.
            let line = unwritten.split_inclusive(|byte| *byte == b'\n').next().unwrap_or(unwritten);
            match write(line)? {
                0 => return Err(Errno::EAGAIN),
                count => self.written += count,
            }
        }
        self.bytes.clear();
        self.bytes.shrink_to(MAX_LINE);
        self.written = 0;
        Ok(())
    }
}

/// How rsup's own lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// As in supervisord: the local time, the level and the text.
    Text,
    /// A JSON object with the members `time` (RFC 3339, UTC), `level` and `message`.
    Json,
}

/// Makes the text of log lines.
#[derive(Debug)]
pub struct LineFormatter {
    format: LogFormat,
    stamp: Stamp,
}

impl LineFormatter {
    /// Creates a formatter for lines in this format.
    #[must_use]
    pub fn new(format: LogFormat) -> Self {
        let zone = match format {
            LogFormat::Text => None,
            LogFormat::Json => Some(TimeZone::utc()),
        };
        Self { format, stamp: Stamp { zone, ..Stamp::default() } }
    }

    /// Appends one line, with its newline, to `out`.
    pub fn append(&mut self, out: &mut Vec<u8>, level: Level, text: &dyn fmt::Display) {
        match self.format {
            LogFormat::Text => {
                let (date_time, milliseconds) = self.stamp.now();
                let mut line = LineWriter::append_to(out, MAX_LINE);
                let written = write!(line, "{date_time},{milliseconds:03} {} {text}", level.tag());
                line.mark_if_cut(written);
                out.push(b'\n');
            }
            LogFormat::Json => {
                // A byte of the message takes at most 2 bytes in JSON, because control characters are escaped
                // already. So the line takes at most `MAX_LINE` bytes.
                let mut message = Vec::new();
                let mut line = LineWriter::append_to(&mut message, MAX_LINE / 2 - 100);
                let written = write!(line, "{text}");
                line.mark_if_cut(written);
                self.begin_json_with_time(out);
                out.extend(format!(", \"level\": \"{}\", \"message\": ", level.tag()).bytes());
                json_string::append(out, &message);
                out.extend(b"}\n");
            }
        }
    }

    /// Appends the beginning of a JSON object: a brace and the member `time`.
    pub fn begin_json_with_time(&mut self, out: &mut Vec<u8>) {
        let (date_time, milliseconds) = self.stamp.now();
        let date_time = date_time.replace(' ', "T");
        out.extend(format!("{{\"time\": \"{date_time}.{milliseconds:03}Z\"").bytes());
    }
}

/// The time at the beginning of a line: UTC in JSON, otherwise the local time. Only the milliseconds are computed for
/// each line, and the rest once per second.
#[derive(Debug, Default)]
struct Stamp {
    /// The time zone: UTC for JSON, otherwise the local one. `None` for the local one until the first line is logged.
    zone: Option<TimeZone>,
    shown_second: Option<u64>,
    text: String,
}

impl Stamp {
    /// Returns the time in `zone` up to the second, and the milliseconds.
    fn now(&mut self) -> (&str, u32) {
        let clock = WallTime::now();
        if self.shown_second != Some(clock.seconds()) {
            self.shown_second = Some(clock.seconds());
            let zone = self.zone.get_or_insert_with(TimeZone::of_environment);
            let LocalTime { year, month, day, hour, minute, second } = clock.local_time(zone);
            self.text.clear();
            // Writing to a String never fails.
            let _ = write!(self.text, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}");
        }
        (&self.text, clock.milliseconds())
    }
}

/// The longest line: PIPE_BUF bytes, so that a pipe takes the whole line or nothing.
const MAX_LINE: usize = 4096;
/// The end of a text that was too long.
const CUT: &[u8] = b"...";

/// Appends one line to a buffer.
struct LineWriter<'a> {
    out: &'a mut Vec<u8>,
    /// The length of the buffer at which the text is cut.
    limit: usize,
}

impl<'a> LineWriter<'a> {
    /// Creates a writer that appends less than `max` bytes to `out`, [`CUT`] included.
    fn append_to(out: &'a mut Vec<u8>, max: usize) -> Self {
        let limit = out.len() + max - CUT.len() - 1;
        Self { out, limit }
    }

    /// Appends [`CUT`] if the text was too long.
    fn mark_if_cut(self, written: fmt::Result) {
        if written.is_err() {
            self.out.extend(CUT);
        }
    }

    fn append_within_limit(&mut self, text: &str) -> fmt::Result {
        if self.out.len() + text.len() > self.limit {
            return Err(fmt::Error);
        }
        self.out.extend(text.as_bytes());
        Ok(())
    }
}

/// Escapes control characters, so that each event is one line even if a name or a path contains a newline.
impl Write for LineWriter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // This test is fast, and may find more than the control characters. In UTF-8, byte 0xC2 begins the control
        // characters U+0080 to U+009F, but also some printable characters.
        let may_be_control = |byte: u8| byte.is_ascii_control() || byte == 0xc2;
        if !text.bytes().any(may_be_control) && self.append_within_limit(text).is_ok() {
            return Ok(());
        }
        put_escaped(text, &mut |text| self.append_within_limit(text))
    }
}

/// Text that may contain control characters, for example from the command line. They are displayed escaped as in the
/// log, so that the text takes one line and a terminal does not act on its escape sequences.
#[derive(Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        put_escaped(self.0, &mut |text| f.write_str(text))
    }
}

/// Passes a text to `put`, character by character, with control characters escaped.
fn put_escaped(text: &str, put: &mut dyn FnMut(&str) -> fmt::Result) -> fmt::Result {
    for character in text.chars() {
        let mut buffer = [0; 4];
        if character.is_control() {
            for escaped in character.escape_default() {
                put(escaped.encode_utf8(&mut buffer))?;
            }
        } else {
            put(character.encode_utf8(&mut buffer))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(backlog: &mut Backlog, text: &str) -> bool {
        backlog.push(&mut LineFormatter::new(LogFormat::Text), Level::Info, &text)
    }

    /// A line without the time at its beginning, which has the form `2026-01-31 13:01:34,007`.
    fn without_time(line: &str) -> &str {
        let (time, rest) = line.split_at("2026-01-31 13:01:34,007 ".len());
        let form: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(form, "0000-00-00 00:00:00,000 ");
        rest
    }

    /// Writes the whole backlog to a reader that takes at most `max_bytes_per_write` bytes of each write. Returns the
    /// text that the reader has taken of each write.
    fn drain(backlog: &mut Backlog, max_bytes_per_write: usize) -> Vec<String> {
        let mut writes = vec![];
        let result = backlog.write_to(|line| {
            let taken = &line[..line.len().min(max_bytes_per_write)];
            writes.push(String::from_utf8_lossy(taken).into_owned());
            Ok(taken.len())
        });
        assert_eq!(result, Ok(()));
        writes
    }

    #[test]
    fn a_line_has_the_time_the_level_and_the_text() {
        let mut backlog = Backlog::default();
        assert!(push(&mut backlog, "spawned: 'web'"));
        assert_eq!(without_time(&drain(&mut backlog, usize::MAX).concat()), "INFO spawned: 'web'\n");
    }

    #[test]
    fn a_line_in_json_has_the_time_in_utc_the_level_and_the_message() {
        let mut line = Vec::new();
        LineFormatter::new(LogFormat::Json).append(&mut line, Level::Warn, &"a \"b\"\n");
        let object: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(object["level"], "WARN");
        assert_eq!(object["message"], r#"a "b"\n"#);
        let time = object["time"].as_str().unwrap();
        assert!(time.len() == "2026-01-31T13:01:34.007Z".len() && time.ends_with('Z'), "{time}");
        assert_eq!((line.last(), object.as_object().unwrap().len()), (Some(&b'\n'), 3));
    }

    #[test]
    fn a_line_in_json_fits_into_a_pipe() {
        let mut line = Vec::new();
        LineFormatter::new(LogFormat::Json).append(&mut line, Level::Info, &"\"".repeat(10_000));
        assert!((3500..=MAX_LINE).contains(&line.len()), "{}", line.len());
    }

    #[test]
    fn every_line_is_written_by_a_call_of_its_own() {
        let mut backlog = Backlog::default();
        assert!(push(&mut backlog, "a") && push(&mut backlog, "b"));
        let writes = drain(&mut backlog, usize::MAX);
        assert_eq!(writes.len(), 2);
        assert!(writes.iter().all(|line| line.ends_with('\n')), "{writes:?}");
    }

    #[test]
    fn a_partial_write_is_continued_where_it_ended() {
        let mut backlog = Backlog::default();
        assert!(push(&mut backlog, "some text"));
        assert_eq!(without_time(&drain(&mut backlog, 10).concat()), "INFO some text\n");
    }

    #[test]
    fn an_error_keeps_what_has_not_been_written() {
        let mut backlog = Backlog::default();
        assert!(push(&mut backlog, "a") && push(&mut backlog, "b"));
        let mut calls = 0;
        let result = backlog.write_to(|line| {
            calls += 1;
            if calls == 1 { Ok(line.len()) } else { Err(Errno::EAGAIN) }
        });
        assert_eq!(result, Err(Errno::EAGAIN));
        assert_eq!(backlog.write_to(|_| Ok(0)), Err(Errno::EAGAIN));
        assert_eq!(without_time(&drain(&mut backlog, usize::MAX).concat()), "INFO b\n");
    }

    #[test]
    fn a_full_backlog_rejects_lines_and_stays_within_its_limit() {
        let mut backlog = Backlog::default();
        let count = (0..10_000).take_while(|_| push(&mut backlog, &"x".repeat(100))).count();
        assert!((400..600).contains(&count), "{count} lines of 130 bytes");
        assert!(backlog.bytes.len() <= MAX_BACKLOG);
        assert_eq!(drain(&mut backlog, usize::MAX).len(), count, "a rejected line leaves nothing behind");
        assert!(push(&mut backlog, "there is room again"));
    }

    #[test]
    fn the_written_part_of_a_full_backlog_makes_room() {
        let mut backlog = Backlog::default();
        while push(&mut backlog, &"x".repeat(100)) {}
        let mut calls = 0;
        let _ = backlog.write_to(|line| {
            calls += 1;
            if calls <= 3 { Ok(line.len()) } else { Err(Errno::EAGAIN) }
        });
        assert!(push(&mut backlog, "a short line"));
        assert!(drain(&mut backlog, usize::MAX).last().is_some_and(|line| line.ends_with("a short line\n")));
    }

    #[test]
    fn no_line_follows_a_lost_one_before_the_loss_is_reported() {
        let mut backlog = Backlog { lost_lines: 1, ..Backlog::default() };
        assert!(!push(&mut backlog, "a"));
        backlog.lost_lines = 0;
        assert!(push(&mut backlog, "a"));
    }

    #[test]
    fn the_number_of_lost_lines_follows_the_backlog_and_is_reported_once() {
        let mut backlog = Backlog::default();
        assert!(push(&mut backlog, "kept"));
        backlog.lost_lines = 3;
        let mut written = vec![];
        let result = backlog.drain(
            |line| {
                written.push(String::from_utf8_lossy(line).into_owned());
                Ok(line.len())
            },
            |backlog, lost| assert!(push(backlog, &format!("lost {lost}"))),
        );
        assert_eq!(result, Ok(()));
        let written: Vec<_> = written.iter().map(|line| without_time(line)).collect();
        assert_eq!(written, ["INFO kept\n", "INFO lost 3\n"]);
        assert_eq!(backlog.lost_lines, 0);
    }

    #[test]
    fn lost_lines_are_not_reported_while_there_is_no_room() {
        let mut backlog = Backlog::default();
        assert!(push(&mut backlog, "kept"));
        backlog.lost_lines = 3;
        let result = backlog.drain(|_| Err(Errno::EAGAIN), |_, _| panic!("the backlog is not empty"));
        assert_eq!((result, backlog.lost_lines), (Err(Errno::EAGAIN), 3));
    }

    #[test]
    fn a_long_line_is_cut_to_what_a_pipe_takes_at_once() {
        let mut backlog = Backlog::default();
        assert!(push(&mut backlog, &"é".repeat(5000)));
        let lines = drain(&mut backlog, usize::MAX);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].len() <= MAX_LINE && lines[0].len() > MAX_LINE - 4, "{}", lines[0].len());
        assert!(lines[0].ends_with("é...\n"));
    }

    #[test]
    fn control_characters_are_escaped() {
        let mut backlog = Backlog::default();
        assert!(push(&mut backlog, "a\nb\x1b[31m\u{85}é"));
        let line = drain(&mut backlog, usize::MAX).concat();
        assert_eq!(without_time(&line), "INFO a\\nb\\u{1b}[31m\\u{85}é\n");
    }
}
