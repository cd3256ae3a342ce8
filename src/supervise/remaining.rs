//! The final sweep of configuration mode and one-command mode: rsup sends signals to every process that is still alive
//! after the programs have ended.

use crate::policy::Signal;
use crate::sys::{self, Errno, Pid};
use std::collections::BTreeSet;

/// The processes that the final sweep signals. Each process is sent each signal once, because a second SIGTERM has
/// a different meaning for many programs.
pub(super) struct RemainingProcesses {
    target: Target,
    /// The signal that was sent last.
    last_signal: Option<Signal>,
    /// The children that were sent that signal, for [`Target::Children`].
    signalled: BTreeSet<Pid>,
}

enum Target {
    /// Every process of the PID namespace, which only PID 1 may signal.
    Namespace,
    /// The children of rsup, and the orphans that rsup has adopted since.
    Children,
    /// The members of one process group.
    Group(Pid),
}

impl RemainingProcesses {
    /// Every process that rsup is responsible for.
    pub(super) fn all(is_pid1: bool) -> Self {
        Self::new(if is_pid1 { Target::Namespace } else { Target::Children })
    }

    /// The remaining members of the one command's process group; as PID 1, every process of the PID namespace.
    pub(super) fn of_command(group: Pid, is_pid1: bool) -> Self {
        Self::new(if is_pid1 { Target::Namespace } else { Target::Group(group) })
    }

    fn new(target: Target) -> Self {
        Self { target, last_signal: None, signalled: BTreeSet::new() }
    }

    /// Sends a signal to every remaining process that was not sent the signal before. Returns false if no process could
    /// be reached, because /proc is missing and rsup is not PID 1.
    pub(super) fn signal(&mut self, signal: Signal) -> bool {
        let is_new = self.last_signal.replace(signal) != Some(signal);
        if is_new {
            self.signalled.clear();
        }
        match self.target {
            Target::Namespace if is_new => send_to(signal, sys::kill_all),
            Target::Group(group) if is_new => send_to(signal, |number| sys::killpg(group, number)),
            Target::Namespace | Target::Group(_) => {}
            Target::Children => {
                let Some(children) = sys::children() else { return false };
                for child in children.into_iter().filter(|child| self.signalled.insert(*child)) {
                    send_to(signal, |number| sys::kill(child, number));
                }
            }
        }
        true
    }

    /// Forgets a child that has been reaped, because the next process with its PID has not been sent the signal.
    pub(super) fn forget(&mut self, child: Pid) {
        self.signalled.remove(&child);
    }
}

/// Sends SIGCONT after SIGTERM, because a stopped process handles SIGTERM only when it is continued.
fn send_to(signal: Signal, send: impl Fn(i32) -> Result<(), Errno>) {
    // A process that has exited, or that rsup may not signal, needs no handling: the sweep's deadlines end the wait.
    let _ = send(signal.number());
    if signal == Signal::TERM {
        let _ = send(Signal::CONT.number());
    }
}
