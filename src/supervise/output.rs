//! How rsup starts, watches and ends the relay. While programs run, rsup itself never waits for the relay, and no
//! output of a program passes through rsup itself.

use super::clock::now;
use super::relay::Relay;
use super::{RELAY_TAG, Supervisor, messages};
use crate::log::Log;
use crate::policy::{Level, Signal, Time};
use crate::relay;
use crate::sys::{self, OutputStream, RelayChild, WaitStatus};
use std::time::Duration;

/// How long rsup waits at its end until the relay has written everything.
const DRAIN_TIME: Duration = Duration::from_secs(3);
/// How long rsup waits for the relay in any case, even if `stop_timeout` leaves less time.
const LEAST_DRAIN_TIME: Duration = Duration::from_millis(200);
/// How long rsup waits until the relay has died after SIGKILL.
const WAIT_AFTER_KILL: Duration = Duration::from_secs(1);
/// While rsup exits, it waits for at most this many relays. If one dies, rsup starts the next one.
const MAX_RELAYS_AT_EXIT: u32 = 3;
/// The largest number of attempts to reap a relay that is exiting. rsup waits 1 ms between two attempts.
const REAP_ATTEMPTS: u64 = 100;
/// The least number of seconds between two starts of the relay. While rsup exits, rsup starts the next relay at once.
const MIN_SECONDS_BETWEEN_STARTS: i64 = 1;

impl Supervisor {
    /// Starts the relay, if there is one.
    pub(super) fn start_relay(&mut self) {
        let Some(relay) = &mut self.relay else { return };
        relay.restart_allowed_at = Some(now().plus_secs(MIN_SECONDS_BETWEEN_STARTS));
        let plan = &relay.plan;
        let forked = sys::fork_relay(c"rsup-relay", &mut plan.descriptors(), || relay::run(plan));
        let watched = forked.and_then(|child| match self.poller.add(&child, RELAY_TAG) {
            Ok(()) => Ok(child),
            Err(errno) => {
                kill_and_reap(&child);
                Err(errno)
            }
        });
        match watched {
            Ok(child) => {
                self.remaining.set_relay(Some(child.pid()));
                if let Some(stream) = relay.unused_log_writer.take() {
                    self.log.redirect(stream);
                }
                relay.start_failed = false;
                self.log.line(Level::Debug, messages::relay_started(child.pid()));
                relay.child = Some(child);
            }
            Err(errno) => {
                relay.redirect_log_to_stderr(&mut self.log);
                if !relay.start_failed {
                    self.log.line(Level::Warn, messages::relay_not_started(errno));
                }
                relay.start_failed = true;
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
        let Some(child) = relay.child.take_if(|child| child.has_exited()) else { return };
        let Some(status) = child.reap() else {
            // The relay has closed its descriptors, but cannot be reaped yet. The poller reports its end again, and
            // rsup then tries again.
            relay.child = Some(child);
            return;
        };
        self.poller.remove(&child);
        self.remaining.set_relay(None);
        if matches!(status, WaitStatus::Exited(_)) {
            // The relay exited because it could not work, and the next relay may fail too. So rsup writes its log
            // lines itself until a relay runs again.
            relay.redirect_log_to_stderr(&mut self.log);
        }
        self.log.line(Level::Warn, messages::relay_exited(child.pid(), status));
        self.restart_listeners(now());
    }

    /// Writes the last log lines. Then waits until the relay has written everything, but not longer than
    /// [`DRAIN_TIME`]. If `stop_timeout` ends earlier, waits until then, but at least [`LEAST_DRAIN_TIME`].
    pub(super) fn finish_output(&mut self) {
        if self.relay.is_none() {
            return self.log.drain_at_exit();
        }
        self.ensure_relay_runs();
        // The relay exits when its pipes are closed and empty, so the last lines have to be in the pipe before that.
        self.log.drain_at_exit();
        if let Some(relay) = &mut self.relay {
            relay.writers.clear();
            relay.records = None;
        }
        let stop_deadline = self.processes.stop_deadline().unwrap_or(now().plus(DRAIN_TIME));
        let end = now().plus(DRAIN_TIME).min(stop_deadline).max(now().plus(LEAST_DRAIN_TIME));
        let mut is_finished = false;
        for _ in 0..MAX_RELAYS_AT_EXIT {
            is_finished = self.wait_until_relay_finishes(end);
            if is_finished || now() >= end {
                break;
            }
            // The relay has died and has left bytes in the pipes, so another relay must write them.
            self.ensure_relay_runs();
        }
        self.kill_or_leave_relay(is_finished || now() < end);
    }

    /// Makes sure that a relay runs while rsup exits: continues it if it is stopped, or starts one.
    fn ensure_relay_runs(&mut self) {
        match self.relay.as_ref().and_then(|relay| relay.child.as_ref()) {
            Some(child) if !child.has_exited() => {
                // The relay may be stopped.
                let _ = sys::kill(child.pid(), Signal::CONT.number());
            }
            Some(child) => {
                reap(child);
                self.start_relay();
            }
            None => self.start_relay(),
        }
    }

    /// Waits until the relay has exited. Returns whether it has written everything.
    fn wait_until_relay_finishes(&mut self, end: Time) -> bool {
        let Some(relay) = &mut self.relay else { return true };
        let Some(child) = relay.child.take_if(|child| child.wait_for_exit(end.duration_since(now()))) else {
            return false;
        };
        let status = reap(&child);
        self.remaining.set_relay(None);
        status == Some(WaitStatus::Exited(relay::FINISHED))
    }

    /// Kills the relay if it still runs and must not outlive rsup. Then writes the log lines that are left. If
    /// `is_in_time` is false, logs that the relay has not finished.
    fn kill_or_leave_relay(&mut self, is_in_time: bool) {
        let Some(relay) = &mut self.relay else { return };
        // If rsup is not PID 1 and does not execute itself again, other processes may outlive rsup and continue to
        // write. The relay then stays, to carry their output.
        let relay_must_end = self.context.is_pid1 || self.processes.will_reload();
        if let Some(child) = relay.child.take_if(|_| relay_must_end) {
            kill_and_reap(&child);
        }
        relay.redirect_log_to_stderr(&mut self.log);
        if !is_in_time {
            self.log.line(Level::Warn, messages::RELAY_NOT_FINISHED);
        }
        self.log.drain_at_exit();
    }
}

impl Relay {
    /// Makes rsup write its log lines itself, because perhaps no relay reads them. If the last relay has written only
    /// a part of a line, rsup's next log line follows directly after this part.
    fn redirect_log_to_stderr(&mut self, log: &mut Log) {
        if self.plan.log.is_some() && self.unused_log_writer.is_none() {
            self.unused_log_writer = Some(log.redirect(OutputStream::stderr()));
        }
    }
}

/// Kills a relay and reaps it.
fn kill_and_reap(child: &RelayChild) {
    // kill(2) has no effect on a process that has exited.
    let _ = sys::kill(child.pid(), Signal::KILL.number());
    // A relay does not die while it writes to a mount that does not answer, so the wait for its end has a limit.
    if child.wait_for_exit(WAIT_AFTER_KILL) {
        reap(child);
    }
}

/// Reaps a relay that has closed its descriptors, and so exits at this moment.
fn reap(child: &RelayChild) -> Option<WaitStatus> {
    (0..REAP_ATTEMPTS).find_map(|attempt| {
        sys::sleep(Duration::from_millis(attempt.min(1)));
        child.reap()
    })
}
