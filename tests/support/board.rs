//! The status board and the request pipe of a running rsup, as a client sees them.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use rsup::control::board::{Header, LINK, Record, State};
use rsup::control::request::Request;

use super::eventually;

/// The board of the rsup with a PID in the PID namespace of the test.
pub(crate) struct Board {
    pid: i32,
    file: PathBuf,
}

impl Board {
    /// Waits until rsup has written its board.
    pub(crate) fn of(pid: i32) -> Self {
        let file = eventually("rsup has a status board", || Self::find(pid));
        let board = Self { pid, file };
        eventually("rsup has written its status board", || board.try_header());
        board
    }

    /// The path of the board, if rsup has one.
    pub(crate) fn find(pid: i32) -> Option<PathBuf> {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let mut paths = descriptors.map(|entry| entry.unwrap().path());
        paths.find(|path| fs::read_link(path).is_ok_and(|link| link.as_os_str() == LINK))
    }

    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn try_header(&self) -> Option<Header> {
        Header::parse(self.lines().first()?).ok()
    }

    pub(crate) fn header(&self) -> Header {
        eventually("the header of the status board is complete", || self.try_header())
    }

    /// Calls `read` with the record at this place in start order. Reads again if rsup is writing the record.
    pub(crate) fn record<T>(&self, index: usize, read: impl Fn(&Record<'_>) -> T) -> T {
        eventually("the record is complete", || {
            let lines = self.lines();
            Record::parse(lines.get(index + 1)?).ok().map(|record| read(&record))
        })
    }

    pub(crate) fn state(&self, index: usize) -> State {
        self.record(index, |record| record.state)
    }

    /// Waits until the process at this place has a state.
    pub(crate) fn expect(&self, index: usize, state: State) {
        eventually(&format!("process {index} is {state:?}"), || (self.state(index) == state).then_some(()));
    }

    /// The request pipe, open for writing.
    pub(crate) fn pipe(&self) -> File {
        let path = format!("/proc/{}/fd/{}", self.pid, self.header().request_fd);
        File::options().write(true).open(path).unwrap()
    }

    /// Sends a request to this run of rsup.
    pub(crate) fn send(&self, request: Request) {
        self.pipe().write_all(request.render(self.header().run).as_bytes()).unwrap();
    }
}
