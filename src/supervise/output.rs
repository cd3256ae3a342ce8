//! The life of the relay, as PID 1 sees it. PID 1 never waits for the relay while programs run, and no output of a program
//! passes through PID 1.

use super::clock::now;
use super::relay::Relay;
use super::{RELAY_TAG, Supervisor, messages};
use crate::policy::{Level, ProcId, Signal, Time};
use crate::relay;
use crate::sys::{self, OutputStream, RelayChild};
use std::time::Duration;

/// How long rsup waits at its end until the relay has written everything.
const DRAIN_TIME: Duration = Duration::from_secs(3);
/// How long rsup waits until the relay has died after SIGKILL.
const KILL_TIME: Duration = Duration::from_secs(1);
/// The least number of seconds between two starts of the relay.
const RESTART_SECONDS: i64 = 1;

impl Supervisor {
    /// Starts the relay, if there is one.
    pub(super) fn start_relay(&mut self) {
        let Some(relay) = &mut self.relay else { return };
        relay.start_due = Some(now().plus_secs(RESTART_SECONDS));
        let plan = &relay.plan;
        let forked = sys::fork_relay(c"rsup-relay", &mut plan.descriptors(), || relay::run(plan));
        let watched = forked.and_then(|child| match self.poller.add(&child, RELAY_TAG) {
            Ok(()) => Ok(child),
            Err(errno) => {
                end(&child);
                Err(errno)
            }
        });
        match watched {
            Ok(child) => {
                self.remaining.spare(Some(child.pid()));
                if let Some(stream) = relay.log_stream.take() {
                    self.log.redirect(stream);
                }
                relay.fork_failed = false;
                self.log.line(Level::Debug, messages::relay_started(child.pid()));
                relay.child = Some(child);
            }
            Err(errno) => {
                // No relay would read the pipe. If the last relay has left a part of a line, this line is torn.
                if relay.plan.log.is_some() && relay.log_stream.is_none() {
                    relay.log_stream = Some(self.log.redirect(OutputStream::stderr()));
                }
                if !relay.fork_failed {
                    self.log.line(Level::Warn, messages::relay_not_started(errno));
                }
                relay.fork_failed = true;
            }
        }
    }

    /// Starts the relay again, if it does not run and was not started within the last second.
    pub(super) fn start_relay_if_due(&mut self, now: Time) {
        if self.relay.as_ref().and_then(Relay::deadline).is_some_and(|due| due <= now) {
            self.start_relay();
        }
    }

    /// Handles the end of the relay.
    pub(super) fn relay_exited(&mut self) {
        let Some(relay) = &mut self.relay else { return };
        let Some(child) = relay.child.take() else { return };
        if !child.wait_for_exit(Duration::ZERO) {
            relay.child = Some(child);
            return;
        }
        self.poller.remove(&child);
        self.remaining.spare(None);
        self.log.line(Level::Warn, messages::relay_exited(child.pid(), child.reap()));
    }

    /// Tells the relay that the child of a process has exited.
    pub(super) fn note_end(&mut self, id: ProcId) {
        if let Some(relay) = &self.relay {
            // If the pipe is full, the relay does not work. Only the last unfinished line comes later then.
            let _ = sys::write_record(&relay.ended, &relay::ended_record(id.0));
        }
    }

    /// Writes the last log lines. Then waits until the relay has written everything, but not longer than [`DRAIN_TIME`].
    pub(super) fn finish_output(&mut self) {
        if self.relay.as_ref().is_some_and(|relay| relay.child.is_none()) {
            // The pipes still contain what the programs have written since the last relay died.
            self.start_relay();
        }
        self.log.finish();
        let Some(Relay { plan, writers, ended, child, .. }) = self.relay.take() else { return };
        drop((writers, ended));
        let Some(child) = child else { return };
        // The relay may be stopped.
        let _ = sys::kill(child.pid(), Signal::CONT.number());
        let is_finished = child.wait_for_exit(DRAIN_TIME);
        if plan.log.is_some() {
            self.log.redirect(OutputStream::stderr());
        }
        if !is_finished {
            self.log.line(Level::Warn, messages::RELAY_NOT_FINISHED);
            self.log.finish();
            // Without a reload and outside a container, processes that rsup leaves behind may go on writing.
            if !self.context.is_pid1 && !self.processes.will_reload() {
                return;
            }
        }
        end(&child);
    }
}

/// Kills a relay, unless it has exited, and reaps it.
fn end(child: &RelayChild) {
    // kill(2) has no effect on a process that has exited.
    let _ = sys::kill(child.pid(), Signal::KILL.number());
    // A relay that writes to a mount that does not answer does not die.
    if child.wait_for_exit(KILL_TIME) {
        child.reap();
    }
}
