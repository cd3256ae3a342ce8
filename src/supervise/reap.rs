//! Reaping children, and what their exits mean for the processes of the configuration.

use super::pid_map::PidMap;
use super::reap_pacer::SAMPLE_SIZE;
use super::{Supervisor, messages};
use crate::policy::{Event, ExitStatus, Level, Process, ProcessIndex, ProcessState, Time};
use crate::relay::ChangeRecord;
use crate::sys::{self, ChildStatus, Errno, ExecFailure, ExecStep, Pid, WaitStatus, WallTime};
use std::ffi::CStr;
use std::mem;

/// The number of children that one pass reaps, so that a stop request does not wait until thousands of exits have been
/// handled.
const REAP_BATCH: u32 = 1024;

impl Supervisor {
    /// Reaps children, and then looks for empty process groups. The order matters: a zombie is still a member of its
    /// process group. One call reaps at most [`REAP_BATCH`] children, and may end earlier for a pause. If zombies may
    /// be left, `reap_incomplete` is true afterwards, and the main loop calls this function again.
    pub(super) fn reap(&mut self, now: Time) {
        // An incomplete pass does not call `on_reaped`, although it may have reaped children. `any_child_changed` is
        // therefore true from the start if the last pass was incomplete, so that this pass reports the children of the
        // last pass.
        let mut any_child_changed = mem::replace(&mut self.reap_incomplete, true);
        let mut has_children = true;
        let mut leader_statuses = Vec::new();
        self.pacer.begin_pass();
        for count in 1..=REAP_BATCH {
            match sys::wait_any() {
                Ok(Some(child)) => {
                    any_child_changed = true;
                    leader_statuses.extend(self.unregister_if_exited(child).map(|id| (id, child)));
                }
                Ok(None) => {
                    self.reap_incomplete = false;
                    break;
                }
                Err(Errno::ECHILD) => {
                    self.reap_incomplete = false;
                    has_children = false;
                    break;
                }
                // An errno other than ECHILD means that a seccomp filter refuses the call. Some zombies may be left, so
                // `reap_incomplete` stays true and the main loop calls `reap` again.
                Err(_) => break,
            }
            // A pass that has reaped a program's own process does not pause, so that the exit of that process is
            // handled at once.
            if count.is_multiple_of(SAMPLE_SIZE)
                && leader_statuses.is_empty()
                && let Some(delay) =
                    self.pacer.pause_after_sample(sys::processor_time(), sys::sigchld_pending)
            {
                self.reap_delay = delay;
                break;
            }
        }
        for (id, child) in leader_statuses {
            self.handle_leader_status(id, child, now);
        }
        if !has_children {
            self.on_no_children(now);
        }
        let child_prevents_exit = has_children && self.has_child_preventing_exit();
        self.drop_empty_groups(now);
        if !self.reap_incomplete {
            self.pacer.note_all_reaped();
            self.processes.on_reaped(any_child_changed, child_prevents_exit, now);
        }
    }

    /// Whether one of rsup's children keeps rsup from exiting. Call this function only if rsup has a child. Normally
    /// every child keeps rsup from exiting. If all programs have ended and only event listeners run, only an adopted
    /// orphan does. To find an orphan, rsup needs the kernel's list of its children. Without this list the result is
    /// false.
    fn has_child_preventing_exit(&self) -> bool {
        if !self.processes.only_listeners_run() {
            return true;
        }
        let is_leader = |pid: &Pid| self.leaders.get(*pid).is_some();
        self.remaining.children_except_relay().is_some_and(|children| !children.iter().all(is_leader))
    }

    /// Returns the process of the configuration that `child` was forked for, or `None` for an orphan. A child that has
    /// exited is removed from every table, because its PID is free from now on.
    fn unregister_if_exited(&mut self, child: ChildStatus) -> Option<ProcessIndex> {
        let id = match child.status {
            WaitStatus::Stopped(_) => self.leaders.get(child.pid).copied(),
            WaitStatus::Exited(_) | WaitStatus::Signaled { .. } | WaitStatus::Other => {
                self.remaining.forget(child.pid);
                self.leaders.remove(child.pid)
            }
        };
        if id.is_none() {
            self.log.line(Level::Debug, messages::UnknownChild(child));
        }
        id
    }

    fn handle_leader_status(&mut self, id: ProcessIndex, child: ChildStatus, now: Time) {
        match child.status {
            // rsup itself has stopped all programs, so no line is logged.
            WaitStatus::Stopped(_) if self.suspended => {}
            WaitStatus::Stopped(signal) => {
                let name = self.slots.name(id);
                self.log.line(Level::Warn, messages::stopped_child(name, child.pid, signal));
            }
            status => self.leader_exited(id, messages::exit_status(status), now),
        }
    }

    fn leader_exited(&mut self, id: ProcessIndex, exit: ExitStatus, now: Time) {
        if let Some(slot) = self.slots.get_mut(id) {
            // The PID is free: another process may have it by now.
            slot.leader = None;
        }
        self.tell_relay(ChangeRecord::Ended { process: id.0 });
        // The child has exited, so no report can arrive on its exec status pipe any more. The reports are handled
        // before the exit, because they say whether the exec has failed. Without a report rsup assumes that the exec
        // has succeeded: a child that was killed before its exec looks like a program that was killed right after its
        // exec.
        self.read_exec_status(id, now);
        let Some(slot) = self.slots.get_mut(id) else { return };
        slot.exec_status = None;
        slot.stdin_writer = None;
        slot.ended_at = WallTime::now().seconds();
        let group_alive = slot.group.is_some_and(sys::group_exists);
        if group_alive {
            if let Err(place) = self.leaderless.binary_search(&id) {
                self.leaderless.insert(place, id);
            }
        } else {
            slot.group = None;
        }
        let event = match (slot.failure.take(), slot.program) {
            (Some(ExecFailure { step: ExecStep::UnopenedFifo, .. }), Ok(program)) => {
                // rsup opens the FIFOs only for a next start. If there is none, rsup does not open them, because
                // stat(2) and open(2) can wait for a file system that does not answer.
                if self.processes.may_start_again(id) {
                    let warn = |path: &CStr| {
                        self.log.line(Level::Warn, messages::no_descriptor_for_fifo(&slot.name, path));
                    };
                    slot.tried_fifos = Some(self.fifos.open_fifos(id, program, warn));
                }
                Event::FifoUnopenedByRsup
            }
            (Some(failure), Ok(program)) => {
                let text = messages::failed_step(program, &self.defaults, failure, &slot.interpreter);
                slot.last_error = text.into();
                Event::SpawnFailed
            }
            (Some(_), Err(_)) | (None, _) => Event::Exited { exit, group_alive },
        };
        self.processes.apply(id, event, now);
        let state = self.processes.process(id).map(Process::state);
        // After an exit, a process enters these states only if the exit came before `startsecs`.
        let is_failed = matches!(state, Some(ProcessState::Backoff { .. } | ProcessState::Fatal));
        if matches!(event, Event::Exited { .. }) && is_failed {
            slot.last_error = messages::EXITED_TOO_QUICKLY.into();
        }
    }

    /// Handles ECHILD: rsup has no child. A leader that is still in the table has ended, but waitpid(2) did not report
    /// the end to rsup, so the exit status is unknown.
    fn on_no_children(&mut self, now: Time) {
        for id in mem::replace(&mut self.leaders, PidMap::new()).into_values() {
            self.leader_exited(id, ExitStatus::Unknown, now);
        }
    }

    /// Drops the process groups that have no member any more. The kernel may use their numbers for other processes
    /// next.
    pub(super) fn drop_empty_groups(&mut self, now: Time) {
        let slots = &mut self.slots;
        let processes = &mut self.processes;
        self.leaderless.retain(|id| {
            let Some(slot) = slots.get_mut(*id) else { return false };
            let is_alive = slot.group.is_some_and(sys::group_exists);
            if !is_alive {
                slot.group = None;
                processes.apply(*id, Event::GroupEmpty, now);
            }
            is_alive
        });
    }
}
