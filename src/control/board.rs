//! The format of the status board: a file in memory that says what each process does. `supervise` writes it, and the
//! client reads it.
//!
//! The board consists of lines of one length, which is a multiple of `ALIGNMENT` bytes. The first line is the
//! [`Header`]; the others are [`Record`]s, one for each process, in the order in which rsup starts the processes. The
//! fields of a line are separated by tabs. In the group, the name, `waits_for` and `failure`, a control character or a
//! backslash is written as `\xNN`. No other field contains one. The client shows a control character in this form too,
//! because a terminal could act on the character itself.
//!
//! A line is written with one call of pwrite(2). A reader may still get the beginning of the new line and the end of
//! the old line. So the sequence number of the line, a number that changes with every write, is both its first and its
//! last field. A reader that finds two different sequence numbers reads again. If a line that was read is a mixture of
//! two versions, its two sequence numbers are equal only if the reader and the writer have overtaken each other within
//! this line.

use std::borrow::Cow;
use std::ffi::CStr;
use std::fmt::Write;

/// The name of the file, from which the kernel makes the text of [`LINK`].
pub const NAME: &CStr = c"rsup";
/// The target of the symbolic link in /proc/PID/fd that leads to the board.
pub const LINK: &str = "/memfd:rsup (deleted)";

/// The first field of the header after its sequence number. The `1` at the end is increased when a client of the old
/// format would misread the new board.
const FORMAT: &str = "rsup-board-1";
/// The length of a line is a multiple of this number of bytes.
const ALIGNMENT: usize = 64;
/// The bytes of a line for all fields except the names. The two texts at the end of a record, `waits_for` and
/// `failure`, get the bytes that the other fields do not need. A longer text is cut.
const LENGTH_WITHOUT_NAMES: usize = 384;
/// The longest line that a client accepts.
const LONGEST_LINE: usize = 1 << 16;
/// The largest number of processes that a client accepts. The limits exist because a forged board can claim any size.
const MOST_PROCESSES: usize = 1 << 17;
/// The number of bytes at the beginning of a board that contain the length of its lines.
pub const HEADER_START_LENGTH: usize = ALIGNMENT;
/// A part of the padding of a line.
const BLANKS: &str = "                                                                ";
/// The number of bytes of a sequence number and of one tab. A line begins with the sequence number and a tab, and ends
/// with a tab, the sequence number and a newline.
const SEQUENCE_FIELD_LENGTH: usize = 9;

/// The first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The number of processes.
    pub processes: usize,
    /// The number of the descriptor of the read end of the request pipe, in the rsup process.
    pub request_fd: i32,
    /// A run lasts from one execution of rsup to its exit or reload. Each run has another number. rsup ignores a
    /// request with the number of another run.
    pub run: u64,
    pub phase: Phase,
}

/// Whether rsup accepts requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Running,
    /// rsup is stopping every process. It accepts no request except `shutdown`, which turns a reload into an exit.
    ShuttingDown,
}

/// The line of one process. After `parse`, control characters in the strings are still written as `\xNN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub group: Cow<'a, str>,
    /// The name of the process, without the group.
    pub name: Cow<'a, str>,
    pub state: State,
    /// The PID of the child that runs the program, or 0.
    pub pid: i32,
    /// When the last start was attempted, in seconds since 1970. 0 if the process was never started.
    pub started_at: u64,
    /// When the most recent child exited, in seconds since 1970. 0 if no child has exited.
    pub ended_at: u64,
    /// How the last child ended, in supervisord's words, such as `exit status 1`. A child that could not execute the
    /// program does not count. Empty if no other child has ended.
    pub exit: Cow<'a, str>,
    /// Whether the last exit was expected: `exitcodes` lists the exit code, and the exit was not a failed start.
    pub exit_expected: bool,
    /// Whether rsup will start this process without a new request. Only set in STOPPED, STOPPING, EXITED or FATAL. Not
    /// set while the first start waits for other processes (`waits_for`).
    pub awaits_start: bool,
    /// How often the process has entered RUNNING.
    pub successful_starts: u32,
    /// How often a start has failed.
    pub failed_starts: u32,
    /// How many requests for this process rsup has served.
    pub served: ServedCounts,
    pub autostart: bool,
    pub group_priority: i64,
    /// The priority of the process within its group.
    pub priority: i64,
    /// What the first start waits for, such as `db (RUNNING)`. Empty if the process does not wait.
    pub waits_for: Cow<'a, str>,
    /// The reason of the most recent failed start. Empty if no start has failed.
    pub failure: Cow<'a, str>,
}

/// The numbers of served requests of one process. Every number wraps around at 2³². Before a request, a client reads
/// the counter for that kind of request. A changed counter means that rsup has served this request, or a request of
/// the same kind from another client. The client cannot tell these two cases apart. For a start or a stop, the
/// difference does not matter. For a signal, the client may report success before its own signal is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServedCounts {
    pub start_requests: u32,
    pub stop_requests: u32,
    pub signal_requests: u32,
}

/// supervisord's process states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Stopped,
    Starting,
    Running,
    Backoff,
    Stopping,
    Exited,
    Fatal,
}

impl State {
    const ALL: [Self; 7] = [
        Self::Stopped,
        Self::Starting,
        Self::Running,
        Self::Backoff,
        Self::Stopping,
        Self::Exited,
        Self::Fatal,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stopped => "STOPPED",
            Self::Starting => "STARTING",
            Self::Running => "RUNNING",
            Self::Backoff => "BACKOFF",
            Self::Stopping => "STOPPING",
            Self::Exited => "EXITED",
            Self::Fatal => "FATAL",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::ShuttingDown => "SHUTDOWN",
        }
    }
}

/// Returns the length of the lines of a board with these processes. Each item is the group and the name of a process.
#[must_use]
pub fn line_length<'a>(names: impl Iterator<Item = (&'a str, &'a str)>) -> usize {
    let longest = names.map(|(group, name)| escape(group).len() + escape(name).len()).max().unwrap_or(0);
    (LENGTH_WITHOUT_NAMES + longest).next_multiple_of(ALIGNMENT)
}

/// Returns the length of the lines of a board, which is in the first [`HEADER_START_LENGTH`] bytes of the board.
/// Returns `None` if `start` contains no valid length, for example because rsup has not written the header yet.
#[must_use]
pub fn line_length_in(start: &[u8]) -> Option<usize> {
    let length: usize = number(str::from_utf8(start).ok()?.split('\t').nth(3)?.strip_prefix("line ")?)?;
    let is_valid =
        (LENGTH_WITHOUT_NAMES..=LONGEST_LINE).contains(&length) && length.is_multiple_of(ALIGNMENT);
    is_valid.then_some(length)
}

impl Header {
    /// Replaces `line` by the text of this header.
    pub fn render(&self, sequence_number: u32, line_length: usize, line: &mut String) {
        let Self { processes, request_fd, run, phase } = self;
        let fields = format_args!(
            "{FORMAT}\tprocesses {processes}\tline {line_length}\trequests {request_fd}\trun {run:016x}\t{}",
            phase.name()
        );
        render_line(sequence_number, line_length, line, &|line| {
            // Writing to a String cannot fail.
            let _ = line.write_fmt(fields);
        });
    }

    /// Reads the first line of a board.
    ///
    /// # Errors
    /// See [`Unreadable`].
    pub fn parse(line: &str) -> Result<Self, Unreadable> {
        Self::from_fields(fields(line)?).ok_or(Unreadable::OtherFormat)
    }

    fn from_fields<'a>(mut fields: impl Iterator<Item = &'a str>) -> Option<Self> {
        if fields.next()? != FORMAT {
            return None;
        }
        let mut value = |key: &str| fields.next()?.strip_prefix(key)?.strip_prefix(' ');
        let processes = number(value("processes")?).filter(|processes| *processes <= MOST_PROCESSES)?;
        let _length = value("line")?;
        let request_fd = number(value("requests")?)?;
        let run = u64::from_str_radix(value("run")?, 16).ok()?;
        let phase = fields.next()?;
        let phase = [Phase::Running, Phase::ShuttingDown].into_iter().find(|known| known.name() == phase)?;
        Some(Self { processes, request_fd, run, phase })
    }
}

impl<'a> Record<'a> {
    /// Replaces `line` by the text of this record.
    pub fn render(&self, sequence_number: u32, line_length: usize, line: &mut String) {
        let ServedCounts { start_requests, stop_requests, signal_requests } = self.served;
        render_line(sequence_number, line_length, line, &|line| {
            // Writing to a String cannot fail.
            let _ = write!(
                line,
                "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t\
                 {start_requests}\t{stop_requests}\t{signal_requests}\t{}\t{}\t{}\t{}\t{}",
                escape(&self.group),
                escape(&self.name),
                self.state.name(),
                self.pid,
                self.started_at,
                self.ended_at,
                self.exit,
                word_or_dash(self.exit_expected, "expected"),
                word_or_dash(self.awaits_start, "due"),
                self.successful_starts,
                self.failed_starts,
                word_or_dash(self.autostart, "auto"),
                self.group_priority,
                self.priority,
                escape(&self.waits_for),
                escape(&self.failure),
            );
        });
    }

    /// Reads the line of a process.
    ///
    /// # Errors
    /// See [`Unreadable`].
    pub fn parse(line: &'a str) -> Result<Self, Unreadable> {
        Self::from_fields(fields(line)?).ok_or(Unreadable::OtherFormat)
    }

    fn from_fields(mut fields: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut next = || fields.next();
        Some(Self {
            group: restore_backslashes(next()?),
            name: restore_backslashes(next()?),
            state: State::from_name(next()?)?,
            pid: number(next()?)?,
            started_at: number(next()?)?,
            ended_at: number(next()?)?,
            exit: next()?.into(),
            exit_expected: next()? == "expected",
            awaits_start: next()? == "due",
            successful_starts: number(next()?)?,
            failed_starts: number(next()?)?,
            served: ServedCounts {
                start_requests: number(next()?)?,
                stop_requests: number(next()?)?,
                signal_requests: number(next()?)?,
            },
            autostart: next()? == "auto",
            group_priority: number(next()?)?,
            priority: number(next()?)?,
            waits_for: restore_backslashes(next()?),
            // The line has no room for this field if `waits_for` is long.
            failure: restore_backslashes(next().unwrap_or_default()),
        })
    }
}

/// Whether a line ends with a newline, and its two sequence numbers are equal. A client makes this check for every line
/// that it reads. It is faster than [`Record::parse`], which compares the sequence numbers too.
#[must_use]
pub fn is_whole(line: &str) -> bool {
    let line = line.as_bytes().strip_suffix(b"\n");
    line.is_some_and(|line| line.first_chunk::<{ SEQUENCE_FIELD_LENGTH - 1 }>() == line.last_chunk())
}

/// Why a line of the board cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The line is incomplete: rsup is writing the line, a write of rsup has failed, or the file is not a board. The
    /// reader reads again until its deadline.
    Torn,
    /// The board has the format of another version of rsup.
    OtherFormat,
}

/// Parses an integer that fits into both `i64` and `T`.
fn number<T: TryFrom<i64>>(text: &str) -> Option<T> {
    integer(text)?.try_into().ok()
}

/// Parses an `i64`. This code is not part of the generic [`number`], because a copy for every type would make the
/// program larger.
#[inline(never)]
fn integer(text: &str) -> Option<i64> {
    text.parse().ok()
}

fn word_or_dash(is_set: bool, word: &'static str) -> &'static str {
    if is_set { word } else { "-" }
}

fn render_line(sequence_number: u32, line_length: usize, line: &mut String, body: &dyn Fn(&mut String)) {
    // A line of the board ends with a tab and the sequence number (`SEQUENCE_FIELD_LENGTH` bytes), and a newline (1
    // byte).
    let room = line_length.saturating_sub(SEQUENCE_FIELD_LENGTH + 1);
    line.clear();
    // Writing to a String cannot fail.
    let _ = write!(line, "{sequence_number:08x}\t");
    body(line);
    line.truncate(line.floor_char_boundary(room));
    // A width in the format string would add the blanks one by one.
    while let Some(blanks) = room.checked_sub(line.len()).filter(|missing| *missing > 0) {
        line.push_str(BLANKS.get(..blanks).unwrap_or(BLANKS));
    }
    let _ = writeln!(line, "\t{sequence_number:08x}");
}

/// Splits a line, which may end with a newline, into the fields between its two sequence numbers.
fn fields(line: &str) -> Result<impl Iterator<Item = &str>, Unreadable> {
    let line = line.trim_end_matches('\n');
    let (first, rest) = line.split_once('\t').ok_or(Unreadable::OtherFormat)?;
    let (body, last) = rest.rsplit_once('\t').ok_or(Unreadable::OtherFormat)?;
    // A search by bytes is much faster than one by characters, and a line has hundreds of blanks.
    let end = body.bytes().rposition(|byte| byte != b' ').map_or(0, |last| last.saturating_add(1));
    if first == last { Ok(body.get(..end).unwrap_or_default().split('\t')) } else { Err(Unreadable::Torn) }
}

fn escape(text: &str) -> Cow<'_, str> {
    let is_special = |character: char| character.is_control() || character == '\\';
    if !text.contains(is_special) {
        return text.into();
    }
    let mut escaped = String::new();
    for character in text.chars() {
        if is_special(character) {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "\\x{:02x}", u32::from(character));
        } else {
            escaped.push(character);
        }
    }
    escaped.into()
}

/// Returns a text in the form in which the client shows and compares it. Control characters stay escaped.
fn restore_backslashes(text: &str) -> Cow<'_, str> {
    if text.contains('\\') { text.replace(r"\x5c", r"\").into() } else { text.into() }
}

#[cfg(test)]
impl Record<'static> {
    /// A process of the tests that has run once.
    pub(crate) fn example(group: &'static str, name: &'static str, state: State) -> Self {
        Self {
            group: group.into(),
            name: name.into(),
            state,
            pid: 0,
            started_at: 1000,
            ended_at: 2000,
            exit: "".into(),
            exit_expected: false,
            awaits_start: false,
            successful_starts: 1,
            failed_starts: 0,
            served: ServedCounts::default(),
            autostart: true,
            group_priority: 999,
            priority: 999,
            waits_for: "".into(),
            failure: "".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record<'static> {
        Record {
            group: "workers".into(),
            name: "worker_00".into(),
            state: State::Backoff,
            pid: 7,
            started_at: 1_790_000_000,
            ended_at: 1_790_000_001,
            exit: "exit status 1".into(),
            exit_expected: false,
            awaits_start: false,
            successful_starts: 3,
            failed_starts: u32::MAX,
            served: ServedCounts { start_requests: 1, stop_requests: 2, signal_requests: 3 },
            autostart: true,
            group_priority: -1,
            priority: 999,
            waits_for: "".into(),
            failure: "can't find command '/no/such/thing'".into(),
        }
    }

    fn rendered(record: &Record<'_>, sequence_number: u32, line_length: usize) -> String {
        let mut line = String::new();
        record.render(sequence_number, line_length, &mut line);
        assert_eq!(line.len(), line_length);
        assert!(line.ends_with('\n'));
        assert_eq!(line.matches('\n').count(), 1);
        line
    }

    #[test]
    fn the_link_contains_the_name_of_the_board() {
        assert_eq!(format!("/memfd:{} (deleted)", NAME.to_str().unwrap()), LINK);
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let plain = record();
        let special = Record { name: "a\\b\\x41\\x5c\\é".into(), failure: "über\\".into(), ..record() };
        let empty = Record {
            group: "".into(),
            name: "".into(),
            exit: "".into(),
            waits_for: "".into(),
            failure: "".into(),
            exit_expected: true,
            awaits_start: true,
            autostart: false,
            ..record()
        };
        for record in [plain, special, empty] {
            let length = line_length([(&*record.group, &*record.name)].into_iter());
            assert_eq!(Record::parse(&rendered(&record, 9, length)), Ok(record));
        }
    }

    #[test]
    fn a_control_character_stays_escaped() {
        let record = Record { name: "a\tb\n\\\x7f\u{9b}é".into(), failure: "\x1b[0m".into(), ..record() };
        let line = rendered(&record, 9, 512);
        let read = Record::parse(&line).unwrap();
        assert_eq!(read.name, r"a\x09b\x0a\\x7f\x9bé");
        assert_eq!(read.failure, r"\x1b[0m");
    }

    #[test]
    fn every_state_and_phase_is_read_as_it_was_written() {
        for state in State::ALL {
            let record = Record { state, ..record() };
            assert_eq!(Record::parse(&rendered(&record, 0, 512)).map(|read| read.state), Ok(state));
        }
        for phase in [Phase::Running, Phase::ShuttingDown] {
            let header = Header { processes: 1000, request_fd: 5, run: u64::MAX, phase };
            let mut line = String::new();
            header.render(u32::MAX, 512, &mut line);
            assert_eq!(line.len(), 512);
            assert_eq!(Header::parse(&line), Ok(header));
        }
    }

    #[test]
    fn the_text_of_a_failure_is_cut_between_two_characters() {
        let record = Record { failure: "ü".repeat(500).into(), ..record() };
        for length in 512..520 {
            let line = rendered(&record, 1, length);
            let read = Record::parse(&line).unwrap();
            assert!(read.failure.chars().all(|character| character == 'ü'), "{}", read.failure);
            assert!(read.failure.len() > 200, "{}", read.failure);
        }
    }

    #[test]
    fn a_long_text_of_the_waits_is_cut_and_leaves_no_room_for_a_failure() {
        for waits in 0..1000 {
            let record = Record { waits_for: "ü".repeat(waits).into(), ..record() };
            let line = rendered(&record, 1, 512);
            let read = Record::parse(&line).unwrap();
            assert!(record.waits_for.starts_with(&*read.waits_for), "{line}");
            assert!(record.failure.starts_with(&*read.failure), "{line}");
            assert!(read.waits_for.len() > 200 || read == record, "{line}");
        }
    }

    #[test]
    fn the_longest_values_leave_room_for_the_text_of_a_failure() {
        let longest = Record {
            state: State::Starting,
            pid: i32::MAX,
            started_at: 99_999_999_999,
            ended_at: 99_999_999_999,
            exit: "terminated by SIGSTKFLT (core dumped)".into(),
            exit_expected: true,
            awaits_start: true,
            successful_starts: u32::MAX,
            served: ServedCounts {
                start_requests: u32::MAX,
                stop_requests: u32::MAX,
                signal_requests: u32::MAX,
            },
            group_priority: i64::MIN,
            priority: i64::MIN,
            waits_for: "".into(),
            failure: "x".repeat(1000).into(),
            ..record()
        };
        let length = line_length([(&*longest.group, &*longest.name)].into_iter());
        let line = rendered(&longest, u32::MAX, length);
        assert!(Record::parse(&line).unwrap().failure.len() >= 100, "{line}");
    }

    #[test]
    fn a_line_with_two_sequence_numbers_is_torn() {
        let old = rendered(&record(), 1, 512);
        let new = rendered(&Record { state: State::Running, ..record() }, 2, 512);
        for at in SEQUENCE_FIELD_LENGTH..512 - SEQUENCE_FIELD_LENGTH {
            let torn = format!("{}{}", &new[..at], &old[at..]);
            assert_eq!(Record::parse(&torn), Err(Unreadable::Torn), "{at}");
            assert!(!is_whole(&torn) && is_whole(&new), "{at}");
        }
    }

    #[test]
    fn a_board_of_another_format_is_reported() {
        let mut line = String::new();
        Header { processes: 1, request_fd: 5, run: 1, phase: Phase::Running }.render(1, 512, &mut line);
        for other in [line.replace("board-1", "board-2"), line.replace("processes", "p"), String::new()] {
            assert_eq!(Header::parse(&other), Err(Unreadable::OtherFormat), "{other}");
        }
        let line = rendered(&record(), 1, 512).replace("BACKOFF", "UNKNOWN");
        assert_eq!(Record::parse(&line), Err(Unreadable::OtherFormat));
    }
}
