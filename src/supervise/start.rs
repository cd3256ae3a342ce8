//! Starts a program, and finds out whether its exec has succeeded.

use super::clock::now;
use super::{Supervisor, messages};
use crate::policy::{Event, Level, ProcessIndex, Time};
use crate::sys::{self, Child, FailureReport, FifoHandling, WallTime};

impl Supervisor {
    /// Forks a program. The result of its exec arrives later through the exec status pipe. If no child can be created,
    /// this function applies `Event::SpawnFailed` itself.
    pub(super) fn spawn(&mut self, id: ProcessIndex) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        slot.started_at = WallTime::now().seconds();
        let spawned = match slot.program {
            Ok(program) => {
                let tried = slot.tried_fifos.take().map(FifoHandling::OpenTried);
                let fifo_handling = tried.unwrap_or_else(|| self.fifos.fifo_handling_for(id, program));
                sys::spawn(program, &mut self.defaults, fifo_handling)
                    .map_err(|error| messages::spawn_error(&slot.name, error))
            }
            Err(text) => Err(text.clone()),
        };
        match spawned {
            Ok(Child { pid, status, stdin_writer, listener }) => {
                slot.leader = Some(pid);
                slot.group = Some(pid);
                slot.last_pid = pid.number();
                slot.pid_for_events = pid.number();
                slot.stdin_writer = stdin_writer;
                slot.failure = None;
                slot.interpreter = Box::default();
                if let Err(errno) = self.poller.add_oneshot(&status, id.0 as u64) {
                    slot.abort_start(errno);
                }
                slot.exec_status = Some(status);
                self.leaders.insert(pid, id);
                if let Err(errno) = self.tell_relay_of_fork(id, pid, listener.as_ref())
                    && let Some(slot) = self.slots.get_mut(id)
                {
                    slot.abort_start(errno);
                }
            }
            Err(text) => {
                slot.last_error = text.into();
                self.processes.apply(id, Event::SpawnFailed, now());
            }
        }
    }

    /// Reads every exec status pipe. The caller does this after an error of the poller, because any pipe may be ready
    /// then.
    pub(super) fn read_all_exec_statuses(&mut self, now: Time) {
        for index in 0..self.slots.0.len() {
            self.read_exec_status(ProcessIndex(index), now);
        }
    }

    /// Reads what a child has reported about its exec.
    pub(super) fn read_exec_status(&mut self, id: ProcessIndex, now: Time) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        let Some(status) = &mut slot.exec_status else { return };
        let name = &slot.name;
        let program = slot.program;
        let failure = &mut slot.failure;
        let log = &mut self.log;
        let interpreter = &mut slot.interpreter;
        let is_complete = status.read(|report| match report {
            FailureReport::Failure(report) if report.step.failure_allows_exec() => {
                if let Ok(program) = program {
                    log.line(Level::Warn, messages::unusable_log_file(name, program, report));
                }
            }
            FailureReport::Failure(report) => *failure = Some(report),
            FailureReport::UnusableInterpreter(path) => *interpreter = String::from_utf8_lossy(&path).into(),
        });
        if !is_complete {
            if let Err(errno) = self.poller.rearm(status, id.0 as u64) {
                slot.abort_start(errno);
            }
            return;
        }
        if let Some(status) = slot.exec_status.take() {
            self.defaults.reclaim(status);
        }
        // If the start has failed, this function applies no event. `Event::SpawnFailed` means that there is no child
        // any more, so `leader_exited` applies it when the child has been reaped.
        if slot.failure.is_none() {
            self.processes.apply(id, Event::ExecSucceeded, now);
        }
    }
}
