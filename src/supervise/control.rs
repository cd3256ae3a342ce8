//! The status board, as rsup writes it, and the pipe from which rsup reads requests.

use super::slots::Slot;
use crate::control::board::{self, Header, Phase, Record, State};
use crate::control::request::{Request, RequestParser};
use crate::policy::{ProcessIndex, ProcessSet, ProcessSpec, ProcessState, describe};
use crate::sys::{Errno, MemoryFile, Pid, RequestPipe, WallTime};
use std::borrow::Cow;
use std::mem;

/// The number of bytes that one iteration of the loop reads from the request pipe. The rest waits for the next
/// iteration, so that requests never delay the handling of signals and exits for long.
const READ_SIZE: usize = 4096;

/// The status board and the request pipe.
pub(super) struct Control {
    board: MemoryFile,
    pipe: RequestPipe,
    requests: RequestParser,
    header: Header,
    /// The length of a line of the board, in bytes.
    line_length: usize,
    /// The sequence number of the line that was written last.
    sequence_number: u32,
    /// The memory for the text of a line.
    line: String,
    /// Whether the last write to the board has failed.
    write_failed: bool,
    /// The error of a write that was not reported yet.
    write_error: Option<Errno>,
}

impl Control {
    /// Creates the board, and the pipe for requests.
    ///
    /// # Errors
    /// Returns the errno of memfd_create(2) or of pipe2(2).
    pub(super) fn new(slots: &[Slot]) -> Result<Self, Errno> {
        let board = MemoryFile::new(board::NAME)?;
        let pipe = RequestPipe::new()?;
        let run = WallTime::now().nanoseconds();
        let header = Header { processes: slots.len(), request_fd: pipe.number(), run, phase: Phase::Running };
        let line_length = board::line_length(slots.iter().map(|slot| (&*slot.group_name, &*slot.name)));
        Ok(Self {
            board,
            pipe,
            requests: RequestParser::new(run),
            header,
            line_length,
            sequence_number: 0,
            line: String::new(),
            write_failed: false,
            write_error: None,
        })
    }

    pub(super) fn pipe(&self) -> &RequestPipe {
        &self.pipe
    }

    /// Writes the whole board for the first time. The header comes last, because it makes the board valid.
    pub(super) fn begin(&mut self, processes: &ProcessSet, slots: &[Slot]) {
        for index in 0..slots.len() {
            self.write_record(processes, slots, ProcessIndex(index));
        }
        self.write_header();
    }

    /// Writes the record of a process.
    pub(super) fn write_record(&mut self, processes: &ProcessSet, slots: &[Slot], id: ProcessIndex) {
        if let Some(record) = record(processes, slots, id) {
            self.sequence_number = self.sequence_number.wrapping_add(1);
            record.render(self.sequence_number, self.line_length, &mut self.line);
            self.write_line(id.0 as u64 + 1);
        }
    }

    /// Writes the new phase into the header when rsup begins to stop every process. Later calls do nothing.
    pub(super) fn update_phase(&mut self, processes: &ProcessSet) {
        if self.header.phase == Phase::Running && !processes.accepts_requests() {
            self.header.phase = Phase::ShuttingDown;
            self.write_header();
        }
    }

    fn write_header(&mut self) {
        self.sequence_number = self.sequence_number.wrapping_add(1);
        self.header.render(self.sequence_number, self.line_length, &mut self.line);
        self.write_line(0);
    }

    fn write_line(&mut self, index: u64) {
        let written = self.board.write_at(self.line.as_bytes(), self.line_length as u64 * index);
        let failed_before = mem::replace(&mut self.write_failed, written.is_err());
        if !failed_before {
            self.write_error = written.err().or(self.write_error);
        }
    }

    /// Returns the error of a failed write, once. If several writes in a row fail, returns only the first error.
    pub(super) fn take_write_error(&mut self) -> Option<Errno> {
        self.write_error.take()
    }

    /// Reads some of the requests in the pipe. Passes `None` to `on_request` for a line that is no request to this run.
    pub(super) fn read(&mut self, on_request: impl FnMut(Option<Request>)) {
        let mut buffer = [0; READ_SIZE];
        // The only expected error is EAGAIN, which means that the pipe is empty.
        let length = self.pipe.read(&mut buffer).unwrap_or(0);
        self.requests.read(buffer.get(..length).unwrap_or_default(), on_request);
    }
}

/// What the board says about a process.
fn record<'a>(processes: &ProcessSet, slots: &'a [Slot], id: ProcessIndex) -> Option<Record<'a>> {
    let slot = slots.get(id.0)?;
    let process = processes.process(id)?;
    let ProcessSpec { autostart, group_priority, .. } = processes.spec(id)?;
    let (successful_starts, failed_starts) = process.successful_and_failed_starts();
    let (exit, exit_expected) = match process.last_exit() {
        Some((exit, expected)) => (Cow::Owned(exit.to_string()), expected),
        None => (Cow::Borrowed(""), false),
    };
    Some(Record {
        group: Cow::Borrowed(&slot.group_name),
        name: Cow::Borrowed(&slot.name),
        state: state(process.state()),
        pid: slot.leader.map_or(0, Pid::number),
        started_at: slot.started_at,
        ended_at: slot.ended_at,
        exit,
        exit_expected,
        awaits_start: process.awaits_start(),
        successful_starts,
        failed_starts,
        served: slot.served,
        autostart: *autostart,
        group_priority: *group_priority,
        priority: slot.priority,
        waits_for: Cow::Owned(describe(&processes.wait_reasons(id))),
        failure: Cow::Borrowed(&slot.last_error),
    })
}

fn state(state: ProcessState) -> State {
    match state {
        ProcessState::Stopped => State::Stopped,
        ProcessState::Starting { .. } => State::Starting,
        ProcessState::Running => State::Running,
        ProcessState::Backoff { .. } => State::Backoff,
        ProcessState::Stopping(_) => State::Stopping,
        ProcessState::Exited { .. } => State::Exited,
        ProcessState::Fatal => State::Fatal,
    }
}
