//! Keeps the status board up to date, and serves the requests of clients.

use super::{Supervisor, messages};
use crate::control::request::Request;
use crate::policy::{Level, ProcId, Process, Signal, SignalTarget, Time};

impl Supervisor {
    /// Writes the whole board for the first time.
    pub(super) fn begin_board(&mut self) {
        if let Some(control) = &mut self.control {
            control.begin(&self.processes, &self.slots.0);
        }
    }

    /// Writes to the board what has changed since the last call.
    pub(super) fn update_board(&mut self) {
        while let Some(id) = self.processes.next_changed() {
            if let Some(control) = &mut self.control {
                control.write_record(&self.processes, &self.slots.0, id);
            }
        }
        let Some(control) = &mut self.control else { return };
        control.update_phase(&self.processes);
        if let Some(errno) = control.take_write_error() {
            self.log.line(Level::Warn, messages::board_not_written(errno));
        }
    }

    /// Reads requests, and applies them. While policy has actions in its queue, the requests wait in the pipe, so that
    /// clients cannot make the queue grow without a limit.
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
        match request {
            Request::Start(index) => {
                if let Some(slot) = self.slots.0.get_mut(index) {
                    slot.served.starts = slot.served.starts.wrapping_add(1);
                    self.processes.request_start(ProcId(index), now);
                }
            }
            Request::Stop(index) => {
                if let Some(slot) = self.slots.0.get_mut(index) {
                    slot.served.stops = slot.served.stops.wrapping_add(1);
                    self.processes.request_stop(ProcId(index), now);
                }
            }
            Request::Signal(index, number) => {
                if let Some(slot) = self.slots.0.get_mut(index) {
                    slot.served.signals = slot.served.signals.wrapping_add(1);
                    self.signal_by_request(ProcId(index), number);
                }
            }
            Request::Shutdown => self.processes.request_shutdown(now),
            Request::Reload => self.processes.request_reload(now),
        }
    }

    fn signal_by_request(&mut self, id: ProcId, number: i32) {
        let has_leader = self.processes.process(id).is_some_and(Process::has_leader);
        if let Some(signal) = Signal::from_number(number.into())
            && has_leader
            && self.processes.accepts_requests()
        {
            self.send(id, signal, SignalTarget::Leader);
        }
        // The state of the process is the same as before, but the number of served requests is not.
        if let Some(control) = &mut self.control {
            control.write_record(&self.processes, &self.slots.0, id);
        }
    }
}
