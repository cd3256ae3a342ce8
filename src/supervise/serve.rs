//! Keeps the status board up to date, and serves the requests of clients.

use super::{Supervisor, messages};
use crate::control::board::ServedCounts;
use crate::control::request::Request;
use crate::policy::{Level, Process, ProcessIndex, Signal, Time};

impl Supervisor {
    /// Writes the whole board for the first time.
    pub(super) fn write_initial_board(&mut self) {
        self.forget_changes();
        if let Some(control) = &mut self.control {
            control.begin(&self.processes, &self.slots.0);
        }
    }

    /// Empties the list of the processes that have changed. The board contains these changes, or there is no board.
    fn forget_changes(&mut self) {
        while self.processes.next_changed().is_some() {}
    }

    /// Writes to the board what has changed since the last call.
    pub(super) fn update_board(&mut self) {
        let Some(control) = &mut self.control else { return self.forget_changes() };
        control.update_phase(&self.processes);
        let is_stopping = !self.processes.accepts_requests();
        while let Some(id) = self.processes.next_changed() {
            // While rsup stops every process, `status` is refused, and a client waits only for the end of a process. So
            // the record of a process that still runs is not needed.
            let still_runs = self.processes.process(id).is_some_and(Process::has_leader);
            if !(is_stopping && still_runs) {
                control.write_record(&self.processes, &self.slots.0, id);
            }
        }
        if let Some(errno) = control.take_write_error() {
            self.log.line(Level::Warn, messages::board_not_written(errno));
        }
    }

    /// Reads requests, and applies them. Requests stay in the pipe while the queue of policy's actions is not empty, so
    /// that clients cannot make that queue grow without a limit.
    pub(super) fn read_requests(&mut self, now: Time) {
        let Some(control) = &mut self.control else { return };
        if self.processes.has_actions() {
            return;
        }
        let mut requests = Vec::new();
        control.read(|request| requests.push(request));
        for request in requests {
            match request {
                Some(request) => self.serve(request, now),
                None => self.log.line(Level::Debug, "ignored a request that this run does not understand"),
            }
        }
    }

    fn serve(&mut self, request: Request, now: Time) {
        let index = match request {
            Request::Shutdown => return self.processes.request_shutdown(now),
            Request::Reload => return self.processes.request_reload(now),
            Request::Start(index) | Request::Stop(index) | Request::Signal(index, _) => index,
        };
        // The index comes from a client, so it may be too large.
        let Some(slot) = self.slots.0.get_mut(index) else { return };
        let id = ProcessIndex(index);
        let ServedCounts { start_requests, stop_requests, signal_requests } = &mut slot.served;
        match request {
            Request::Start(_) => {
                *start_requests = start_requests.wrapping_add(1);
                self.processes.request_start(id, now);
            }
            Request::Stop(_) => {
                *stop_requests = stop_requests.wrapping_add(1);
                self.processes.request_stop(id, now);
            }
            // During the stop, rsup sends no requested signal. The client then reports that the request has failed.
            Request::Signal(_, number) if self.processes.accepts_requests() => {
                *signal_requests = signal_requests.wrapping_add(1);
                if let Some(signal) = Signal::from_number(number.into()) {
                    self.processes.request_signal(id, signal);
                }
            }
            Request::Signal(..) | Request::Shutdown | Request::Reload => {}
        }
        // A client that has requested a start or a stop waits for the new number of served requests, even if the
        // request has no other effect.
        if let Some(control) = &mut self.control {
            control.write_record(&self.processes, &self.slots.0, id);
        }
    }
}
