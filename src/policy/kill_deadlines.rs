//! The deadlines for the stop of all processes. Some are set by `stop_timeout`. The others belong to the final sweep,
//! in which rsup sends SIGTERM and later SIGKILL to everything that still runs.

use super::signal::Signal;
use super::time::Time;
use std::time::Duration;

/// Seconds that rsup waits for a process to disappear after SIGKILL.
pub const KILL_GRACE_SECS: i64 = 1;
/// A process that gets SIGTERM late has a minimum time before SIGKILL. This constant is the upper limit of that minimum
/// time, in seconds. SIGTERM is late in three cases: the leader of the process group got its stop signal earlier; the
/// stop deadline is near; the final sweep has already begun.
pub(super) const MAX_LATE_STOPWAIT_SECS: i64 = 5;

/// The deadlines that `stop_timeout` sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownDeadlines {
    /// When rsup sends a request to stop to every process that has not got one yet. The time from then to `kill_at` is
    /// a third of `stop_timeout`, but at most 5 s.
    pub ask_at: Time,
    /// When everything gets SIGKILL.
    pub kill_at: Time,
}

impl ShutdownDeadlines {
    /// The deadlines of a stop that begins now and may take this many seconds.
    #[must_use]
    pub fn from_timeout(now: Time, stop_timeout: u64) -> Self {
        let whole = Duration::from_secs(stop_timeout);
        let last_part = (whole / 3).min(Duration::from_secs(MAX_LATE_STOPWAIT_SECS.unsigned_abs()));
        Self { ask_at: now.plus(whole.saturating_sub(last_part)), kill_at: now.plus(whole) }
    }
}

/// The deadlines of a sweep, in which rsup first sends SIGTERM to processes and later SIGKILL.
#[derive(Clone, Copy, Debug)]
pub struct KillDeadlines {
    /// When SIGKILL is due. `None` after SIGKILL has been sent, or if rsup cannot send SIGKILL. If rsup sends SIGTERM
    /// to further processes, [`KillDeadlines::note_asked`] can set a new time.
    kill_at: Option<Time>,
    /// When rsup stops waiting for the processes to exit. `None` while `kill_at` is set.
    give_up_at: Option<Time>,
    /// The least number of seconds from SIGTERM to SIGKILL for a process that rsup finds after the sweep has begun.
    /// SIGKILL can come earlier only because of `latest_kill_at`.
    late_stopwait_secs: i64,
    /// From this time on, a process that rsup finds gets SIGKILL at once. Without this limit, processes that start
    /// other processes could prolong the sweep for ever.
    latest_kill_at: Time,
}

/// What rsup has to do at a deadline of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillOrGiveUp {
    /// Send SIGKILL, and call [`KillDeadlines::note_killed`].
    Kill,
    /// Exit, although some processes did not die.
    GiveUp,
}

impl KillDeadlines {
    /// The deadlines of a sweep that begins with SIGTERM at `now`. SIGKILL is due after `wait_secs`, or at the stop
    /// deadline if that is earlier.
    #[must_use]
    pub fn begin(now: Time, wait_secs: i64, stop_deadline: Option<Time>) -> Self {
        let late_stopwait_secs = wait_secs.min(MAX_LATE_STOPWAIT_SECS);
        let limit = |time: Time| stop_deadline.map_or(time, |deadline| deadline.min(time));
        let kill_at = limit(now.plus_secs(wait_secs));
        Self {
            kill_at: Some(kill_at),
            give_up_at: None,
            late_stopwait_secs,
            latest_kill_at: limit(kill_at.plus_secs(late_stopwait_secs)),
        }
    }

    /// The deadlines of a sweep in which SIGKILL is due at `kill_at` for every process, no matter when rsup finds it.
    #[must_use]
    pub fn with_kill_at(kill_at: Time) -> Self {
        Self { kill_at: Some(kill_at), give_up_at: None, late_stopwait_secs: 0, latest_kill_at: kill_at }
    }

    /// Notes that rsup has just sent SIGTERM to processes that had not got it before. These processes get
    /// `late_stopwait_secs` seconds to exit. SIGKILL is not due earlier, unless `latest_kill_at` comes first.
    pub fn note_asked(&mut self, now: Time) {
        let kill_at = now.plus_secs(self.late_stopwait_secs).min(self.latest_kill_at);
        if kill_at > now && self.kill_at.is_none_or(|due| due < kill_at) {
            self.kill_at = Some(kill_at);
            self.give_up_at = None;
        }
    }

    /// Notes that SIGKILL is sent.
    pub fn note_killed(&mut self, now: Time) {
        self.kill_at = None;
        self.give_up_at.get_or_insert(now.plus_secs(KILL_GRACE_SECS));
    }

    /// Notes that SIGKILL is sent because a second stop request or the stop deadline requires it. A process that rsup
    /// finds from now on gets SIGKILL at once. If this function is called again, the end of the wait stays the same.
    pub fn note_forced_kill(&mut self, now: Time) {
        self.latest_kill_at = self.latest_kill_at.min(now);
        self.note_killed(now);
    }

    /// Ends the wait at `time` at the latest. SIGKILL is no longer due, because rsup cannot send it to any remaining
    /// process.
    pub fn give_up_at(&mut self, time: Time) {
        self.kill_at = None;
        self.give_up_at = Some(self.give_up_at.map_or(time, |earlier| earlier.min(time)));
    }

    /// The first signal for a process that rsup finds at `now`. This is SIGTERM, but SIGKILL once the latest time for
    /// SIGKILL has come.
    #[must_use]
    pub fn first_signal(&self, now: Time) -> Signal {
        if now < self.latest_kill_at { Signal::TERM } else { Signal::KILL }
    }

    /// The time of the next step. From this time on, [`KillDeadlines::due`] returns the step.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        Time::earliest(self.kill_at, self.give_up_at)
    }

    /// The step whose deadline has passed.
    #[must_use]
    pub fn due(&self, now: Time) -> Option<KillOrGiveUp> {
        let is_due = |deadline: Option<Time>| deadline.is_some_and(|deadline| now >= deadline);
        if is_due(self.kill_at) {
            Some(KillOrGiveUp::Kill)
        } else {
            is_due(self.give_up_at).then_some(KillOrGiveUp::GiveUp)
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
        let mut sweep = KillDeadlines::begin(at(0), 10, None);
        assert_eq!((sweep.deadline(), sweep.due(at(9))), (Some(at(10)), None));
        assert_eq!(sweep.due(at(10)), Some(KillOrGiveUp::Kill));
        sweep.note_killed(at(10));
        assert_eq!((sweep.deadline(), sweep.due(at(10))), (Some(at(11)), None));
        assert_eq!(sweep.due(at(11)), Some(KillOrGiveUp::GiveUp));
    }

    #[test]
    fn a_process_that_is_found_late_gets_five_seconds_once() {
        let mut sweep = KillDeadlines::begin(at(0), 10, None);
        sweep.note_asked(at(4));
        assert_eq!(sweep.deadline(), Some(at(10)), "there is time enough");
        sweep.note_killed(at(10));
        assert_eq!(sweep.first_signal(at(10)), Signal::TERM);
        sweep.note_asked(at(10));
        assert_eq!(sweep.deadline(), Some(at(15)));
        sweep.note_asked(at(12));
        assert_eq!(sweep.deadline(), Some(at(15)), "no process prolongs the sweep for ever");
        sweep.note_killed(at(15));
        assert_eq!((sweep.first_signal(at(15)), sweep.deadline()), (Signal::KILL, Some(at(16))));
        sweep.note_asked(at(15));
        assert_eq!(sweep.deadline(), Some(at(16)));
    }

    #[test]
    fn the_stop_deadline_limits_the_sweep() {
        let mut sweep = KillDeadlines::begin(at(0), 10, Some(at(3)));
        assert_eq!((sweep.deadline(), sweep.first_signal(at(3))), (Some(at(3)), Signal::KILL));
        sweep.note_asked(at(2));
        assert_eq!(sweep.deadline(), Some(at(3)));
    }

    #[test]
    fn a_second_kill_does_not_postpone_the_end() {
        let mut sweep = KillDeadlines::begin(at(0), 10, None);
        sweep.note_forced_kill(at(3));
        sweep.note_forced_kill(at(4));
        assert_eq!((sweep.deadline(), sweep.first_signal(at(3))), (Some(at(4)), Signal::KILL));
    }

    #[test]
    fn unreachable_processes_are_not_killed() {
        let mut sweep = KillDeadlines::with_kill_at(at(10));
        sweep.give_up_at(at(2));
        assert_eq!((sweep.due(at(1)), sweep.due(at(2))), (None, Some(KillOrGiveUp::GiveUp)));
    }

    #[test]
    fn the_wait_ends_at_once_when_sigkill_reaches_no_process() {
        let mut sweep = KillDeadlines::with_kill_at(at(10));
        sweep.note_killed(at(10));
        sweep.give_up_at(at(10));
        assert_eq!(sweep.due(at(10)), Some(KillOrGiveUp::GiveUp));
    }

    #[test]
    fn a_third_of_stop_timeout_and_at_most_five_seconds_are_left_for_what_was_not_asked_before() {
        let milliseconds = |stop_timeout| {
            let ShutdownDeadlines { ask_at, kill_at } = ShutdownDeadlines::from_timeout(at(7), stop_timeout);
            (ask_at.duration_since(at(7)).as_millis(), kill_at.duration_since(at(7)).as_millis())
        };
        assert_eq!(milliseconds(0), (0, 0));
        assert_eq!(milliseconds(1), (666, 1000));
        assert_eq!(milliseconds(9), (6000, 9000));
        assert_eq!(milliseconds(600), (595_000, 600_000));
        assert_eq!(ShutdownDeadlines::from_timeout(at(7), u64::MAX).kill_at, Time::from_nanos(u64::MAX));
    }
}
