//! Sends SIGTERM and SIGKILL to processes that are still alive although the programs have ended or were asked to stop.
//! Such a process is outside the programs' process groups, or is a member of one of these groups. Configuration mode
//! and one-command mode both use this module.

use super::pid_map::PidMap;
use crate::policy::Signal;
use crate::sys::{self, Errno, Pid};
use std::mem;

/// The processes that rsup signals when the programs have ended or were asked to stop, and the signals that these
/// processes were sent already. rsup avoids a second SIGTERM to a process, because many programs treat a second SIGTERM
/// differently.
pub(super) struct RemainingProcesses {
    target: TargetProcesses,
    /// Whether a single call of kill(2) has sent SIGTERM to all processes of the target.
    term_sent_to_target: bool,
    /// Whether SIGKILL has been sent to all processes of the target. Not used if the target is rsup's children.
    kill_sent_to_target: bool,
    /// The signals that single processes were sent.
    sent: PidMap<SentSignals>,
    /// The process groups in which rsup has no permission to send SIGKILL to any member.
    refused_groups: Vec<Pid>,
    /// The relay, which has to write the last output of the other processes. It blocks SIGTERM. rsup sends SIGKILL to
    /// the other processes one by one if /proc lists them, so that the relay stays alive.
    relay: Option<Pid>,
}

/// The signals that one process was sent.
#[derive(Clone, Copy, Default)]
struct SentSignals {
    /// The process was sent SIGTERM by a kill(2) of its own, or as a member of a process group.
    was_sent_term: bool,
    /// The process was sent SIGKILL by a kill(2) of its own.
    killed: bool,
    /// rsup has no permission to send SIGKILL to the process.
    kill_refused: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum TargetProcesses {
    /// Every process of the PID namespace except rsup. This is the target if rsup is PID 1 and will not execute itself
    /// again.
    Namespace,
    /// The children of rsup, including the orphans that rsup adopts later.
    Children,
    /// The members of one process group.
    Group(Pid),
}

/// The result of [`RemainingProcesses::signal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignalResult {
    /// A process was sent the signal for the first time.
    NewlySent,
    /// Every process that was found had been sent the signal before.
    AllSentBefore,
    /// No process could be found, because the target is rsup's children and the kernel does not list them.
    NotListed,
    /// rsup has no permission to send SIGKILL to any process that it waits for.
    OnlyRefusedAreLeft,
}

impl RemainingProcesses {
    /// The target is every process that rsup is responsible for: the PID namespace if rsup is PID 1, otherwise rsup's
    /// children.
    pub(super) fn of_configuration(is_pid1: bool) -> Self {
        Self::new(if is_pid1 { TargetProcesses::Namespace } else { TargetProcesses::Children })
    }

    /// If rsup is PID 1, the target is every process of the PID namespace. Otherwise the target is the process group of
    /// the command that rsup runs.
    pub(super) fn of_one_command(group: Pid, is_pid1: bool) -> Self {
        Self::new(if is_pid1 { TargetProcesses::Namespace } else { TargetProcesses::Group(group) })
    }

    /// Leaves out the processes that are not children of rsup, also if rsup is PID 1. A reload must not end the
    /// processes of `docker exec`, for example the script that has requested it.
    pub(super) fn limit_to_children(&mut self) {
        self.target = TargetProcesses::Children;
    }

    fn new(target: TargetProcesses) -> Self {
        Self {
            target,
            term_sent_to_target: false,
            kill_sent_to_target: false,
            sent: PidMap::new(),
            refused_groups: Vec::new(),
            relay: None,
        }
    }

    /// Sets the PID of the relay. `None` means that no relay runs.
    pub(super) fn set_relay(&mut self, relay: Option<Pid>) {
        self.relay = relay;
    }

    fn sent(&self, pid: Pid) -> SentSignals {
        self.sent.get(pid).copied().unwrap_or_default()
    }

    /// The children of rsup except the relay, in ascending order. `None` if the kernel does not list them.
    pub(super) fn children_except_relay(&self) -> Option<Vec<Pid>> {
        let mut children = sys::children()?;
        children.retain(|pid| Some(*pid) != self.relay);
        children.sort_unstable();
        Some(children)
    }

    /// The other processes of the PID namespace except the relay. `None` if /proc does not list them.
    fn processes(&self) -> Option<Vec<Pid>> {
        let mut processes = sys::processes()?;
        processes.retain(|pid| Some(*pid) != self.relay);
        Some(processes)
    }

    /// Sends SIGTERM or SIGKILL to the processes of the target that are still alive and were not sent this signal
    /// before.
    pub(super) fn signal(&mut self, signal: Signal) -> SignalResult {
        let is_new = if signal == Signal::KILL { self.kill() } else { self.send_term() };
        match is_new {
            None => SignalResult::NotListed,
            Some(_) if self.only_refused_are_left() => SignalResult::OnlyRefusedAreLeft,
            Some(true) => SignalResult::NewlySent,
            Some(false) => SignalResult::AllSentBefore,
        }
    }

    /// Sends SIGTERM and SIGCONT to the processes of the target that were not sent SIGTERM before. Returns whether a
    /// process was sent SIGTERM now, or `None` if the target is rsup's children and the kernel does not list them.
    fn send_term(&mut self) -> Option<bool> {
        match self.target {
            TargetProcesses::Children => self.send_term_to_children(|known, child| !known.sent(child).killed),
            // Some processes were sent SIGTERM one by one, and `sys::kill_all` would send it to them again. So rsup
            // asks only its children that were not asked before.
            TargetProcesses::Namespace
                if !self.term_sent_to_target && self.sent.values().any(|sent| sent.was_sent_term) =>
            {
                Some(self.send_term_to_adopted(|_, _| true))
            }
            TargetProcesses::Namespace => Some(self.send_term_to_target(sys::kill_all)),
            TargetProcesses::Group(group) => {
                Some(self.send_term_to_target(|signal| sys::killpg(group, signal)))
            }
        }
    }

    /// Sends SIGTERM and SIGCONT to the whole target, unless that was done before. Returns whether the signals were
    /// sent now.
    fn send_term_to_target(&mut self, send: impl Fn(i32) -> Result<(), Errno>) -> bool {
        let term_was_sent = mem::replace(&mut self.term_sent_to_target, true);
        if !term_was_sent {
            send_term_and_cont(send);
        }
        !term_was_sent
    }

    /// Sends SIGTERM and SIGCONT to the children of rsup for which `must_get_term` returns true, except those that were
    /// asked before. Returns whether a child was asked, or `None` if the kernel does not list the children.
    fn send_term_to_children(&mut self, must_get_term: impl Fn(&Self, Pid) -> bool) -> Option<bool> {
        let mut any_term_sent = false;
        for child in self.children_except_relay()? {
            if !self.sent(child).was_sent_term && must_get_term(self, child) {
                self.send_term_to_process(child);
                any_term_sent = true;
            }
        }
        Some(any_term_sent)
    }

    /// Sends SIGTERM and SIGCONT to the processes for which `must_get_term` returns true, except those that were asked
    /// before. The arguments of `must_get_term` are a PID, the result of [`sys::process_group`] for this PID, and
    /// whether the process is a child of rsup. A process for which that function fails gets no signal. Returns false if
    /// /proc does not list the processes.
    pub(super) fn send_term_to_matching(
        &mut self,
        must_get_term: impl Fn(Pid, Option<Pid>, bool) -> bool,
    ) -> bool {
        let Some(processes) = self.processes() else { return false };
        let children = self.children_except_relay().unwrap_or_default();
        for pid in processes {
            if self.sent(pid).was_sent_term {
                continue;
            }
            let Ok(group) = sys::process_group(pid) else { continue };
            if must_get_term(pid, group, children.binary_search(&pid).is_ok()) {
                self.send_term_to_process(pid);
            }
        }
        true
    }

    /// Sends SIGTERM and SIGCONT to the children of rsup for which `in_scope` returns true, except those that were
    /// asked before. The arguments of `in_scope` are a PID and the result of [`sys::process_group`] for this PID. Such
    /// a child is normally an orphan that rsup has adopted since the other processes were asked. It was not asked while
    /// its parent was alive, because the parent may have needed this child in order to stop. Returns whether a process
    /// was asked.
    pub(super) fn send_term_to_adopted(&mut self, in_scope: impl Fn(Pid, Option<Pid>) -> bool) -> bool {
        if self.term_sent_to_target {
            return false;
        }
        self.send_term_to_children(|_, child| {
            sys::process_group(child).is_ok_and(|group| in_scope(child, group))
        })
        .unwrap_or(false)
    }

    /// Notes that the members of a process group were sent SIGTERM. Does nothing if /proc does not list the processes.
    pub(super) fn note_term_to_group(&mut self, group: Pid) {
        let processes = self.processes().unwrap_or_default().into_iter();
        let members = processes.filter(|pid| sys::process_group(*pid) == Ok(Some(group)));
        members.for_each(|pid| self.note_asked(pid));
    }

    /// Sends SIGTERM and SIGCONT to processes. The caller uses this function if rsup cannot list the processes. If rsup
    /// is PID 1, every process gets the signals; otherwise the members of `groups` get them.
    pub(super) fn send_term_without_list(&mut self, groups: impl Iterator<Item = Pid>) {
        if self.target == TargetProcesses::Namespace {
            self.send_term_to_target(sys::kill_all);
        } else {
            groups.for_each(|group| send_term_and_cont(|signal| sys::killpg(group, signal)));
        }
    }

    fn note_asked(&mut self, pid: Pid) {
        self.sent.insert(pid, SentSignals { was_sent_term: true, ..self.sent(pid) });
    }

    fn send_term_to_process(&mut self, pid: Pid) {
        self.note_asked(pid);
        send_term_and_cont(|signal| sys::kill(pid, signal));
    }

    /// Sends SIGKILL to the processes of the target that were not sent SIGKILL before. Returns whether SIGKILL was sent
    /// now, or `None` if the target is rsup's children and the kernel does not list them.
    fn kill(&mut self) -> Option<bool> {
        if self.target != TargetProcesses::Children && mem::replace(&mut self.kill_sent_to_target, true) {
            return Some(false);
        }
        match self.target {
            TargetProcesses::Children => return self.kill_children(),
            TargetProcesses::Namespace => {
                self.kill_namespace();
                // The result of `kill_all` does not say to which processes rsup has no permission to send SIGKILL. So
                // rsup also sends SIGKILL to each child with a kill(2) of its own, which reports a missing permission.
                self.kill_children();
            }
            TargetProcesses::Group(group) => {
                let sent = sys::killpg(group, Signal::KILL.number());
                if sent == Err(Errno::EPERM) {
                    self.note_refused_group(group);
                }
            }
        }
        Some(true)
    }

    /// Sends SIGKILL to the children of rsup, except those that were sent SIGKILL before. Returns true if this
    /// call has sent SIGKILL to a child, and `None` if the kernel does not list the children.
    fn kill_children(&mut self) -> Option<bool> {
        let mut any_killed = false;
        for child in self.children_except_relay()? {
            if !self.sent(child).killed {
                self.kill_process(child);
                any_killed = true;
            }
        }
        Some(any_killed)
    }

    /// Sends SIGKILL to every process of the PID namespace. `sys::kill_all` would also kill the relay, so with a relay
    /// the processes are killed one by one. A process that is created meanwhile is killed when rsup, PID 1, exits.
    fn kill_namespace(&self) {
        let listed = self.relay.and_then(|_| self.processes());
        match listed {
            Some(processes) => processes.into_iter().for_each(|pid| {
                // An error means that the process has exited, or that rsup may not signal it.
                let _ = sys::kill(pid, Signal::KILL.number());
            }),
            None => {
                let _ = sys::kill_all(Signal::KILL.number());
            }
        }
    }

    fn kill_process(&mut self, pid: Pid) {
        self.sent.insert(pid, SentSignals { killed: true, ..self.sent(pid) });
        if sys::kill(pid, Signal::KILL.number()) == Err(Errno::EPERM) {
            self.note_kill_refused(pid);
        }
    }

    /// Notes that rsup has no permission to send SIGKILL to a child.
    pub(super) fn note_kill_refused(&mut self, child: Pid) {
        self.sent.insert(child, SentSignals { kill_refused: true, ..self.sent(child) });
    }

    /// Notes that rsup has no permission to send SIGKILL to any member of a process group.
    pub(super) fn note_refused_group(&mut self, group: Pid) {
        if !self.refused_groups.contains(&group) {
            self.refused_groups.push(group);
        }
    }

    /// Whether rsup has no permission to send SIGKILL to any of the processes that it waits for. If rsup cannot list
    /// its children, because /proc is missing, the answer is no.
    pub(super) fn only_refused_are_left(&self) -> bool {
        if self.refused_groups.is_empty() && !self.sent.values().any(|sent| sent.kill_refused) {
            return false;
        }
        if let TargetProcesses::Group(group) = self.target {
            return self.refused_groups.contains(&group);
        }
        let kill_was_refused = |child: &Pid| {
            let group = || sys::process_group(*child).ok().flatten();
            self.sent(*child).kill_refused
                || group().is_some_and(|group| self.refused_groups.contains(&group))
        };
        self.children_except_relay()
            .is_some_and(|children| !children.is_empty() && children.iter().all(kill_was_refused))
    }

    /// Forgets a child that has been reaped, because the next process with its PID has not been sent a signal.
    pub(super) fn forget(&mut self, child: Pid) {
        // The entry itself stays: to remove it, rsup would have to move all later entries.
        if self.sent.get(child).is_some() {
            self.sent.insert(child, SentSignals::default());
        }
    }
}

/// Sends SIGTERM, and then SIGCONT, because a stopped process handles SIGTERM only when it is continued.
fn send_term_and_cont(send: impl Fn(i32) -> Result<(), Errno>) {
    // An error means that the process has exited or that rsup may not signal it. Neither needs handling, because rsup
    // waits only until a deadline.
    let _ = send(Signal::TERM.number());
    let _ = send(Signal::CONT.number());
}
