//! What rsup does for event listeners: it gives their pipes to the relay, and tells the relay what happens to the
//! processes. The relay does everything else.

use super::Supervisor;
use super::clock::now;
use crate::policy::{Level, ProcessIndex, Sender, StateName, Time, Transition};
use crate::relay::{ChangeRecord, ListenersPlan};
use crate::sys::{self, Errno, ListenerPipes, Pid, RawSignal, WallTime};
use std::mem;

impl Supervisor {
    /// Tells the relay what has happened. Without a relay, does nothing.
    pub(super) fn tell_relay(&mut self, record: ChangeRecord) {
        let Some(relay) = &mut self.relay else { return };
        let Some(records) = &relay.records else { return };
        // The pipe is full if the relay has not read 4096 records in time.
        if sys::write_record(records, &record.to_bytes()).is_err() {
            relay.lost_records += 1;
            return;
        }
        let lost_count = mem::take(&mut relay.lost_records);
        if lost_count > 0 && relay.plan.listeners.is_some() {
            let text = format_args!(
                "the relay did not read {lost_count} events of processes in time; the event listeners are started again"
            );
            self.log.line(Level::Warn, text);
            // A lost record may be about a listener. The relay then does not know the listener's pipes or its state.
            self.restart_listeners(now());
        }
    }

    /// Tells the event listeners that a process has entered a state.
    pub(super) fn notify(&mut self, id: ProcessIndex, transition: Transition) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        if transition.to == StateName::Starting {
            // The earlier child has exited. rsup has not forked the next child yet, and never forks it if rsup begins
            // to stop now.
            slot.pid_for_events = 0;
        }
        let pid = if transition.from.has_leader() { slot.pid_for_events } else { 0 };
        self.tell_relay(ChangeRecord::StateEntered { process: id.0, pid, transition });
    }

    /// Tells the relay that a child was forked. If the child is a listener, gives the listener's pipes to the relay.
    /// Does nothing if no event listener needs the relay.
    ///
    /// # Errors
    /// Returns the errno of sendmsg(2): the relay cannot get the pipes.
    pub(super) fn tell_relay_of_fork(
        &mut self,
        id: ProcessIndex,
        pid: Pid,
        pipes: Option<&ListenerPipes>,
    ) -> Result<(), Errno> {
        let Some(listeners) = self.relay.as_mut().and_then(|relay| relay.plan.listeners.as_mut()) else {
            return Ok(());
        };
        if let Some(pipes) = pipes {
            listeners.pipes.send(pid.number(), pipes)?;
        }
        // A relay that is forked later gets the PID from the plan, because an earlier relay may have read the record
        // that is written below.
        if let Some(known) = listeners.pids.get_mut(id.0) {
            *known = pid.number();
        }
        self.tell_relay(ChangeRecord::Forked { process: id.0, pid: pid.number() });
        Ok(())
    }

    /// Starts the event listeners again, because the relay that had their pipes has died or has lost records.
    pub(super) fn restart_listeners(&mut self, now: Time) {
        let unix_time = WallTime::now().seconds();
        for id in self.listeners() {
            // When the relay dies, the stdin of the listener is closed, and the listener may then exit. rsup may notice
            // that the listener has exited before it notices that the relay has died. So rsup also starts a listener
            // that has just exited.
            let has_just_exited = self.slots.get(id).is_some_and(|slot| slot.ended_at + 1 >= unix_time);
            self.processes.restart(id, has_just_exited, now);
        }
    }

    fn listeners_plan(&self) -> Option<&ListenersPlan> {
        self.relay.as_ref()?.plan.listeners.as_ref()
    }

    /// The indices of the event listeners.
    fn listeners(&self) -> Vec<ProcessIndex> {
        let listeners = self.listeners_plan().map_or(&[][..], |plan| &plan.listeners);
        listeners.iter().map(|listener| ProcessIndex(listener.process)).collect()
    }

    /// The sender of a signal, as `policy` distinguishes senders.
    pub(super) fn sender(&self, raw: RawSignal) -> Sender {
        match raw.sender_pid {
            _ if raw.from_kernel => Sender::Kernel,
            0 => Sender::OutsidePidNamespace,
            1 => Sender::Pid1,
            pid if self.may_be_of_listener(pid) => Sender::Listener,
            _ => Sender::OtherProcess,
        }
    }

    /// Whether the sender of a signal belongs to an event listener. The sender can be the listener, or a kill(1) that
    /// the listener has run. If the sender has exited already, nothing shows whose process it was. So, if there are
    /// listeners, a PID without a process counts as that of a listener.
    fn may_be_of_listener(&self, pid: u32) -> bool {
        let listeners = self.listeners();
        if listeners.is_empty() {
            return false;
        }
        let Some(Ok(group)) = i32::try_from(pid).ok().and_then(Pid::new).map(sys::process_group) else {
            return true;
        };
        let has_group_of_pid =
            |id: &ProcessIndex| self.slots.get(*id).is_some_and(|slot| slot.group == group);
        group.is_some() && listeners.iter().any(has_group_of_pid)
    }
}
