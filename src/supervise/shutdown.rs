//! Signals from rsup to many processes: forwarding, and the final sweep.

use super::Supervisor;
use super::clock::now;
use crate::policy::Signal;
use crate::sys;

impl Supervisor {
    /// Sends a signal to the process group of every process.
    pub(super) fn forward(&mut self, signal: Signal) {
        // A process group's number belongs to rsup's programs only while the group has a member.
        self.drop_empty_groups(now());
        for group in self.slots.0.iter().filter_map(|slot| slot.group) {
            // An error (the group has just ended, or rsup may not signal it) concerns no other group.
            let _ = sys::killpg(group, signal.number());
        }
    }

    /// Sends a signal to every remaining process, and reaps those that have exited.
    pub(super) fn signal_remaining(&mut self, signal: Signal) {
        let reached = self.remaining.signal(signal);
        let now = now();
        self.reap(now);
        if !reached {
            self.processes.on_sweep_unreachable(now);
        }
    }
}
