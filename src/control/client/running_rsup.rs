//! The connection to a running rsup: its board and its request pipe, which are opened below /proc/PID/fd.

use super::failure::Failure;
use crate::config::StableSort;
use crate::control::board::{
    HEADER_START_LENGTH, Header, Phase, Record, Unreadable, is_whole, line_length_in,
};
use crate::control::request::Request;
use crate::sys::{Errno, RequestWriter, monotonic_nanos, open_regular, sleep};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

/// The time, in nanoseconds, for which the client reads an incomplete line again. A line stays incomplete only if a
/// write of rsup has failed or the file is not a board.
const READ_TIMEOUT_NANOS: u64 = 1_000_000_000;
const BETWEEN_READS: Duration = Duration::from_millis(1);
/// The limit on the bytes of the whole board. Any process may have a file with the name of a board.
const LARGEST_BOARD: usize = 1 << 28;

/// A running rsup.
#[derive(Debug)]
pub(super) struct Rsup {
    pub(super) pid: i32,
    pub(super) run: u64,
    board: File,
    processes: usize,
    line_length: usize,
    request_fd: i32,
}

impl Rsup {
    /// Opens the board at `path`, which is below /proc/`pid`/fd. Returns `None` if the file cannot be opened or is not
    /// a regular file. Reads the board again until `deadline` if rsup has not written it yet. `deadline` is a time of
    /// the monotonic clock in nanoseconds.
    pub(super) fn open(pid: i32, path: &Path, deadline: u64) -> Result<Option<Self>, Failure> {
        let Ok(board) = open_regular(path) else { return Ok(None) };
        let mut rsup = Self { pid, run: 0, board, processes: 0, line_length: 0, request_fd: 0 };
        let header = until_whole(pid, deadline, || {
            let mut start = [0; HEADER_START_LENGTH];
            rsup.board.read_exact_at(&mut start, 0).map_err(|_| Unreadable::Torn)?;
            rsup.line_length = line_length_in(&start).ok_or(Unreadable::Torn)?;
            rsup.read_lines(0, 1)?.header.ok_or(Unreadable::Torn)
        })?;
        let Header { processes, request_fd, run, .. } = header;
        Ok(Some(Self { run, processes, request_fd, ..rsup }))
    }

    /// Reads the whole board.
    pub(super) fn read(&self) -> Result<BoardLines, Failure> {
        self.read_whole_lines(0, self.processes.saturating_add(1))
    }

    /// Reads the whole board. Returns [`Failure::ShuttingDown`] if rsup is stopping every process.
    pub(super) fn read_unless_shutting_down(&self) -> Result<BoardLines, Failure> {
        let board = self.read()?;
        if board.phase() == Phase::ShuttingDown { Err(Failure::ShuttingDown) } else { Ok(board) }
    }

    /// Reads only the first line of the board.
    pub(super) fn first_line(&self) -> Result<BoardLines, Failure> {
        self.read_whole_lines(0, 1)
    }

    pub(super) fn phase(&self) -> Result<Phase, Failure> {
        self.first_line().map(|board| board.phase())
    }

    /// Reads only the line of the process at `index`, and passes it to `look`.
    pub(super) fn process<T>(&self, index: usize, look: impl FnOnce(&Record<'_>) -> T) -> Result<T, Failure> {
        let lines = self.read_whole_lines(index.saturating_add(1), 1)?;
        lines.record(0).map(|record| look(&record))
    }

    fn read_whole_lines(&self, first: usize, count: usize) -> Result<BoardLines, Failure> {
        until_whole(self.pid, deadline(), || self.read_lines(first, count))
    }

    fn read_lines(&self, first: usize, count: usize) -> Result<BoardLines, Unreadable> {
        let size = self.line_length.saturating_mul(count);
        if size > LARGEST_BOARD {
            return Err(Unreadable::OtherFormat);
        }
        let mut bytes = vec![0; size];
        let offset = u64::try_from(self.line_length.saturating_mul(first)).unwrap_or(u64::MAX);
        self.board.read_exact_at(&mut bytes, offset).map_err(|_| Unreadable::Torn)?;
        BoardLines::parse(bytes, self.pid, self.line_length, first == 0)
    }

    /// Opens the request pipe.
    pub(super) fn open_request_pipe(&self) -> Result<RequestSender, Failure> {
        let path = format!("/proc/{}/fd/{}", self.pid, self.request_fd);
        match RequestWriter::open(Path::new(&path)) {
            Ok(pipe) => Ok(RequestSender { pipe, run: self.run }),
            Err(Errno::ENXIO | Errno::ENOENT) => Err(Failure::HAS_ENDED),
            Err(errno) => Err(Failure::other(format!("can't open {path}: {errno}"))),
        }
    }
}

/// Returns the deadline of a read of the board that begins now. The deadline is a time of the monotonic clock in
/// nanoseconds. Until the deadline, the client repeats a read that finds an incomplete line.
pub(super) fn deadline() -> u64 {
    monotonic_nanos().saturating_add(READ_TIMEOUT_NANOS)
}

/// Calls `read` at least once, and again while it returns [`Unreadable::Torn`] and `deadline` has not passed.
/// [`Unreadable::OtherFormat`] is returned at once as a failure.
fn until_whole<T>(
    pid: i32,
    deadline: u64,
    mut read: impl FnMut() -> Result<T, Unreadable>,
) -> Result<T, Failure> {
    loop {
        match read() {
            Ok(value) => return Ok(value),
            Err(Unreadable::OtherFormat) => return Err(other_version(pid)),
            Err(Unreadable::Torn) if monotonic_nanos() > deadline => {
                let why = "has a damaged status, or cannot write its status; see its log";
                return Err(Failure::other(format!("rsup (process {pid}) {why}")));
            }
            Err(Unreadable::Torn) => sleep(BETWEEN_READS),
        }
    }
}

fn other_version(pid: i32) -> Failure {
    let why = "has another version than this client: use the supervisorctl of the same version";
    Failure::other(format!("rsup (process {pid}) {why}"))
}

/// One or more consecutive lines of a board. Each line is complete, but two lines may come from different moments.
#[derive(Debug)]
pub(super) struct BoardLines {
    pid: i32,
    text: String,
    line_length: usize,
    /// The header, if the lines begin with the first line of the board.
    header: Option<Header>,
}

impl BoardLines {
    fn parse(bytes: Vec<u8>, pid: i32, line_length: usize, has_header: bool) -> Result<Self, Unreadable> {
        // A torn line may contain a part of a character.
        let text = String::from_utf8(bytes).map_err(|_| Unreadable::Torn)?;
        let mut board = Self { pid, text, line_length, header: None };
        let lines = board.text.len().checked_div(line_length).unwrap_or(0);
        for index in 0..lines {
            board.line(index).filter(|line| is_whole(line)).ok_or(Unreadable::Torn)?;
        }
        // rsup writes no control characters except tabs and newlines, so a board with others is forged.
        if board.text.contains(|character: char| character.is_control() && !"\t\n".contains(character)) {
            return Err(Unreadable::OtherFormat);
        }
        if has_header {
            board.header = Some(Header::parse(board.line(0).ok_or(Unreadable::Torn)?)?);
        }
        Ok(board)
    }

    fn line(&self, index: usize) -> Option<&str> {
        let start = index.checked_mul(self.line_length)?;
        self.text.get(start..start.checked_add(self.line_length)?)
    }

    /// Returns the phase in the header, or [`Phase::Running`] if the header was not read.
    pub(super) fn phase(&self) -> Phase {
        self.header.map_or(Phase::Running, |header| header.phase)
    }

    /// The record of the process at this index. The index 0 is the first process line that this board contains.
    pub(super) fn record(&self, index: usize) -> Result<Record<'_>, Failure> {
        let line = self.line(index.saturating_add(usize::from(self.header.is_some())));
        line.and_then(|line| Record::parse(line).ok()).ok_or_else(|| other_version(self.pid))
    }

    /// Whether there are lines after the header. The first line of this board must be the header.
    pub(super) fn has_records(&self) -> bool {
        self.text.len() > self.line_length
    }

    /// All processes in the order of the board.
    pub(super) fn records(&self) -> Result<Vec<Record<'_>>, Failure> {
        let count = self.header.map_or(0, |header| header.processes);
        (0..count).map(|index| self.record(index)).collect()
    }

    /// All processes, sorted by the key that `text` returns. Processes with the same key stay in the order of the
    /// board.
    pub(super) fn records_sorted_by(
        &self,
        text: fn(&Record<'_>) -> String,
    ) -> Result<Vec<Record<'_>>, Failure> {
        let records = self.records()?;
        let mut order = StableSort::default();
        for record in &records {
            order.push(0, text(record));
        }
        Ok(order.apply(records).collect())
    }
}

/// The request pipe of a running rsup.
#[derive(Debug)]
pub(super) struct RequestSender {
    pipe: RequestWriter,
    run: u64,
}

impl RequestSender {
    /// Writes a request.
    pub(super) fn send(&self, request: Request) -> Result<(), Failure> {
        self.pipe.write(request.render(self.run).as_bytes()).map_err(|_| Failure::HAS_ENDED)
    }

    /// Waits for `time`, or until rsup has ended or has executed itself again. Returns whether rsup has ended or has
    /// executed itself again.
    pub(super) fn wait_for_end(&self, time: Duration) -> bool {
        self.pipe.wait_until_reader_closes(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::board::{State, line_length};
    use crate::sys::RequestPipe;
    use std::io::Write as _;
    use tempfile::NamedTempFile;

    const NAMES: [(&str, &str); 2] = [("web", "web"), ("g", "x")];

    /// A file with the lines of a board whose request pipe has this descriptor.
    fn board(request_fd: i32, phase: Phase) -> NamedTempFile {
        let length = line_length(NAMES.into_iter());
        let mut file = NamedTempFile::new().unwrap();
        let mut line = String::new();
        Header { processes: NAMES.len(), request_fd, run: 7, phase }.render(1, length, &mut line);
        file.write_all(line.as_bytes()).unwrap();
        for (group, name) in NAMES {
            record(group, name).render(1, length, &mut line);
            file.write_all(line.as_bytes()).unwrap();
        }
        file
    }

    fn record(group: &'static str, name: &'static str) -> Record<'static> {
        Record { pid: 5, started_at: 1, ended_at: 0, ..Record::example(group, name, State::Running) }
    }

    fn open(file: &NamedTempFile) -> Result<Rsup, Failure> {
        let own = std::process::id().cast_signed();
        Rsup::open(own, file.path(), deadline()).map(Option::unwrap)
    }

    #[test]
    fn a_board_is_read_as_a_whole_and_line_by_line() {
        let file = board(0, Phase::Running);
        let rsup = open(&file).unwrap();
        let board = rsup.read_unless_shutting_down().unwrap();
        assert_eq!(board.records().unwrap(), NAMES.map(|(group, name)| record(group, name)));
        let sorted = board.records_sorted_by(|record| record.name.clone().into_owned()).unwrap();
        assert_eq!(sorted, [record("web", "web"), record("g", "x")]);
        let sorted = board.records_sorted_by(|record| record.group.clone().into_owned()).unwrap();
        assert_eq!(sorted, [record("g", "x"), record("web", "web")]);
        let name = |index| rsup.process(index, |record| record.name.clone().into_owned()).unwrap();
        assert_eq!(name(0), "web");
        assert_eq!(name(1), "x");
        assert_eq!(rsup.phase().unwrap(), Phase::Running);
        for path in ["/nowhere", "/dev/zero", "/dev"] {
            assert!(Rsup::open(1, Path::new(path), deadline()).unwrap().is_none(), "{path}");
        }
    }

    #[test]
    fn a_board_of_an_rsup_that_shuts_down_is_refused() {
        let file = board(0, Phase::ShuttingDown);
        let rsup = open(&file).unwrap();
        assert!(matches!(rsup.read_unless_shutting_down(), Err(Failure::ShuttingDown)));
        assert_eq!(rsup.read().unwrap().records().unwrap().len(), NAMES.len());
    }

    fn text<T>(result: Result<T, Failure>) -> &'static str {
        match result {
            Err(Failure::Other(why)) => why,
            _ => "",
        }
    }

    #[test]
    fn a_board_of_another_version_is_reported() {
        let file = board(0, Phase::Running);
        file.as_file().write_all_at(b"rsup-board-2", 9).unwrap();
        assert!(text(open(&file)).contains("has another version"));
        let file = board(0, Phase::Running);
        let rsup = open(&file).unwrap();
        let line = std::fs::read_to_string(file.path()).unwrap().replace("RUNNING\t5", "WAITING\t5");
        std::fs::write(file.path(), line).unwrap();
        assert!(text(rsup.read().unwrap().records()).contains("has another version"));
    }

    #[test]
    fn a_line_that_is_never_whole_is_reported() {
        let file = board(0, Phase::Running);
        let rsup = open(&file).unwrap();
        file.as_file().write_all_at(b"00000002", 0).unwrap();
        assert!(text(rsup.phase()).contains("cannot write its status"));
        rsup.process(0, |_| ()).unwrap();
        // After the deadline, the line is read once.
        assert!(text(Rsup::open(1, file.path(), 0)).contains("cannot write its status"));
    }

    #[test]
    fn a_forged_board_is_refused_before_it_is_read() {
        let length = line_length(NAMES.into_iter());
        let open = |processes: usize, length: usize| {
            let file = board(0, Phase::Running);
            let line = format!("00000001\trsup-board-1\tprocesses {processes}\tline {length}\trequests 0");
            let line = format!("{line}\trun 0000000000000007\tRUNNING");
            file.as_file().write_all_at(line.as_bytes(), 0).unwrap();
            text(Rsup::open(1, file.path(), 0))
        };
        assert_eq!(open(NAMES.len(), length), "");
        for other in [64, length - 64, length + 1, length + 64, 1 << 16, 1 << 17, usize::MAX] {
            let why = open(NAMES.len(), other);
            assert!(why.contains("cannot write its status"), "{other}: {why}");
        }
        assert_eq!(open(131_072, length), "");
        assert!(open(131_073, length).contains("has another version"));
    }

    #[test]
    fn a_control_character_of_a_forged_board_does_not_reach_the_terminal() {
        for forged in ["\x1b", "\u{9b}", "\0"] {
            let file = board(0, Phase::Running);
            let rsup = open(&file).unwrap();
            let text_of_board = std::fs::read_to_string(file.path()).unwrap();
            let at = text_of_board.rfind('x').unwrap() - forged.len() + 1;
            file.as_file().write_all_at(forged.as_bytes(), at as u64).unwrap();
            assert!(text(rsup.read()).contains("has another version"), "{forged:?}");
        }
    }

    #[test]
    fn a_request_reaches_the_pipe_until_rsup_has_ended() {
        let pipe = RequestPipe::new().unwrap();
        let file = board(pipe.number(), Phase::Running);
        let rsup = open(&file).unwrap();
        let requests = rsup.open_request_pipe().unwrap();
        requests.send(Request::Stop(1)).unwrap();
        let mut buffer = [0; 100];
        let length = pipe.read(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], Request::Stop(1).render(7).as_bytes());
        drop(pipe);
        // A child of another test may have a copy of the pipe for a moment.
        assert!(requests.wait_for_end(Duration::from_secs(60)));
        assert_eq!(text(requests.send(Request::Stop(1))), "rsup has ended");
    }
}
