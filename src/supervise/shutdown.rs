//! Sends signals to many processes. This module forwards signals to all programs. The module also sends SIGTERM and
//! SIGKILL to processes that are still alive although the programs have ended or were asked to stop.

use super::Supervisor;
use super::clock::now;
use super::remaining::SignalResult;
use crate::policy::{ProcessIndex, Signal};
use crate::sys;

impl Supervisor {
    /// Forwards a signal to the process groups of all programs.
    pub(super) fn forward_to_programs(&mut self, signal: Signal) {
        // A process group's number belongs to rsup's programs only while the group has a member.
        self.drop_empty_groups(now());
        for group in self.slots.0.iter().filter_map(|slot| slot.group) {
            // An error (the group has just ended, or rsup may not signal it) concerns no other group.
            let _ = sys::killpg(group, signal.number());
        }
    }

    /// Sends SIGTERM and SIGCONT to the processes that no request to stop has reached. `only_leader_asked` lists, in
    /// ascending order, the programs of which rsup has asked only the leader (the child that rsup has forked). The
    /// other members of the process groups of these programs get the signals. A process that belongs to no process
    /// group of rsup's programs gets the signals too. If rsup is not PID 1, or if rsup will execute itself again, such
    /// a process must be a child of rsup.
    pub(super) fn send_term_to_remaining(&mut self, only_leader_asked: &[ProcessIndex]) {
        self.drop_empty_groups(now());
        let groups = self.slots.process_groups();
        let slots = &self.slots;
        let includes_non_children = self.context.is_pid1 && !self.processes.will_reload();
        let leaders = &self.leaders;
        let processes_are_listed = self.remaining.send_term_to_matching(|pid, group, is_child| {
            match group.and_then(|group| groups.get(group)) {
                Some(id) if only_leader_asked.binary_search(id).is_ok() => {
                    slots.get(*id).is_some_and(|slot| slot.leader != Some(pid))
                }
                Some(_) => false,
                // The PID is compared too, because the process group does not always identify a leader (the child that
                // rsup has forked): if a seccomp filter has refused setpgid(2), the leader is in rsup's process group.
                None => leaders.get(pid).is_none() && (includes_non_children || is_child),
            }
        });
        if !processes_are_listed {
            // Without /proc, rsup cannot leave out the leaders, so some leaders get SIGTERM after their stop signal.
            // rsup accepts this, because the other members would otherwise get SIGKILL without a request to stop.
            self.remaining
                .send_term_without_list(only_leader_asked.iter().filter_map(|id| slots.get(*id)?.group));
        }
    }

    /// Sends SIGTERM and SIGCONT to the processes that rsup has adopted since the call of
    /// [`Supervisor::send_term_to_remaining`], unless they belong to a process group of rsup's programs.
    pub(super) fn send_term_to_adopted(&mut self) {
        self.drop_empty_groups(now());
        let groups = self.slots.process_groups();
        let leaders = &self.leaders;
        self.remaining.send_term_to_adopted(|pid, group| {
            group.and_then(|group| groups.get(group)).is_none() && leaders.get(pid).is_none()
        });
    }

    /// Sends a signal to every process of the target of `remaining` that is still alive and was not sent this signal
    /// before. If rsup will execute itself again, the target is rsup's children. Then reaps the children that have
    /// exited.
    pub(super) fn signal_remaining(&mut self, signal: Signal) {
        if self.processes.will_reload() {
            self.remaining.limit_to_children();
        }
        let signal_result = self.remaining.signal(signal);
        let now = now();
        self.reap(now);
        match signal_result {
            SignalResult::NewlySent if signal == Signal::TERM => self.processes.on_sigterm_sent(now),
            SignalResult::NewlySent | SignalResult::AllSentBefore => {}
            SignalResult::NotListed => self.processes.on_remaining_not_listed(now),
            SignalResult::OnlyRefusedAreLeft => self.processes.on_remaining_not_permitted(now),
        }
    }
}
