//! The deadlines of the final sweep, in which everything that still runs gets SIGTERM, and later SIGKILL.

use super::signal::Signal;
use super::time::Time;

/// Seconds that rsup waits for a process to disappear after SIGKILL.
pub const KILL_GRACE_SECS: i64 = 1;

/// The deadlines of a sweep that has begun with SIGTERM.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// When SIGKILL is due. `None` once SIGKILL has been sent.
    kill_at: Option<Time>,
    /// When rsup stops waiting. `None` before SIGKILL.
    give_up_at: Option<Time>,
}

/// What rsup has to do at a deadline of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SweepStep {
    /// Send SIGKILL, and call [`Sweep::kill`].
    Kill,
    /// Exit, although some processes did not die.
    GiveUp,
}

impl Sweep {
    /// Begins with SIGTERM. SIGKILL is due at `kill_at`.
    #[must_use]
    pub fn begin(kill_at: Time) -> Self {
        Self { kill_at: Some(kill_at), give_up_at: None }
    }

    /// Notes that SIGKILL is sent. Further requests to kill do not postpone the end of the wait.
    pub fn kill(&mut self, now: Time) {
        self.kill_at = None;
        self.give_up_at.get_or_insert(now.plus_secs(KILL_GRACE_SECS));
    }

    /// Sets the end of the wait to `time`, or leaves an earlier end. No SIGKILL is sent, because no remaining
    /// process can be reached.
    pub fn give_up_at(&mut self, time: Time) {
        self.kill_at = None;
        self.give_up_at.get_or_insert(time);
    }

    /// The signal for a process that is found only now.
    #[must_use]
    pub fn signal(&self) -> Signal {
        if self.kill_at.is_some() { Signal::TERM } else { Signal::KILL }
    }

    /// When [`Sweep::due`] returns the next step.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.kill_at.into_iter().chain(self.give_up_at).min()
    }

    /// The step whose deadline has passed.
    #[must_use]
    pub fn due(&self, now: Time) -> Option<SweepStep> {
        let is_due = |deadline: Option<Time>| deadline.is_some_and(|deadline| now >= deadline);
        if is_due(self.kill_at) {
            Some(SweepStep::Kill)
        } else {
            is_due(self.give_up_at).then_some(SweepStep::GiveUp)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn sigkill_follows_sigterm_and_one_second_later_the_wait_ends() {
        let mut sweep = Sweep::begin(at(10));
        assert_eq!((sweep.signal(), sweep.deadline(), sweep.due(at(9))), (Signal::TERM, Some(at(10)), None));
        assert_eq!(sweep.due(at(10)), Some(SweepStep::Kill));
        sweep.kill(at(10));
        assert_eq!((sweep.signal(), sweep.deadline(), sweep.due(at(10))), (Signal::KILL, Some(at(11)), None));
        assert_eq!(sweep.due(at(11)), Some(SweepStep::GiveUp));
    }

    #[test]
    fn a_second_kill_does_not_postpone_the_end() {
        let mut sweep = Sweep::begin(at(10));
        sweep.kill(at(3));
        sweep.kill(at(4));
        assert_eq!(sweep.deadline(), Some(at(4)));
    }

    #[test]
    fn unreachable_processes_are_not_killed() {
        let mut sweep = Sweep::begin(at(10));
        sweep.give_up_at(at(2));
        assert_eq!((sweep.due(at(1)), sweep.due(at(2))), (None, Some(SweepStep::GiveUp)));
    }
}
