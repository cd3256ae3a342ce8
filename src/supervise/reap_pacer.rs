//! When to pause while many orphans are exiting.
//!
//! waitpid(-1) searches the list of children from the oldest one, and holds the lock of that list meanwhile. No child
//! can exit during the search. A parent that reaps orphans as fast as they exit therefore searches the list once for
//! each orphan, and slows down the exits. When reaping has become slow and more children are exiting, rsup pauses until
//! more of them are zombies. Without the pauses, the exit of many orphans at once takes up to 50 times the processor
//! time.

use std::time::Duration;

/// The number of orphans after which the pacer reads the processor time.
pub(super) const SAMPLE_SIZE: u32 = 48;
/// The processor time for one orphan above which reaping counts as slow.
const SLOW_PER_ORPHAN: Duration = Duration::from_micros(8);
/// The length of a pause, as a multiple of the excess. The excess is the processor time for [`SAMPLE_SIZE`] orphans,
/// minus `SLOW_PER_ORPHAN` for each of them.
const PAUSE_PER_EXCESS_TIME: u32 = 64;
/// The longest pause. Signals wait for the end of a pause. A pause ends at the next deadline at the latest.
const MAX_PAUSE: Duration = Duration::from_millis(50);
/// The largest number of pauses in a row. After these pauses, rsup reaps without a pause until no zombie is left. On a
/// slow machine reaping is always slow, so without this limit the zombies would accumulate.
const MAX_CONSECUTIVE_PAUSES: u32 = 60;

/// Decides how long rsup pauses between two passes of reaping.
#[derive(Debug, Default)]
pub(super) struct ReapPacer {
    /// The processor time that rsup had used at the last call of [`ReapPacer::pause_after_sample`] in the current pass.
    last_processor_time: Option<Duration>,
    /// The number of pauses since a pass last reaped every zombie.
    consecutive_pauses: u32,
}

impl ReapPacer {
    /// Begins a pass.
    pub(super) fn begin_pass(&mut self) {
        self.last_processor_time = None;
    }

    /// Returns how long rsup pauses now, or `None` for no pause. The caller asks after every [`SAMPLE_SIZE`] orphans of
    /// a pass, with the processor time that rsup has used so far. `more_exits_pending` returns whether more children
    /// have exited; the pacer calls it only when reaping is slow.
    pub(super) fn pause_after_sample(
        &mut self,
        processor_time: Duration,
        more_exits_pending: impl FnOnce() -> bool,
    ) -> Option<Duration> {
        // In the first sample of a pass there is no earlier time to subtract, so the difference is zero.
        let processor_time_used =
            processor_time.saturating_sub(self.last_processor_time.unwrap_or(processor_time));
        self.last_processor_time = Some(processor_time);
        let excess = processor_time_used.saturating_sub(SLOW_PER_ORPHAN * SAMPLE_SIZE);
        if excess.is_zero() || self.consecutive_pauses >= MAX_CONSECUTIVE_PAUSES || !more_exits_pending() {
            return None;
        }
        self.consecutive_pauses += 1;
        Some(MAX_PAUSE.min(excess.saturating_mul(PAUSE_PER_EXCESS_TIME)))
    }

    /// Notes that a pass has reaped every zombie.
    pub(super) fn note_all_reaped(&mut self) {
        self.consecutive_pauses = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Duration = Duration::from_micros(300);
    const SLOW: Duration = Duration::from_micros(400);

    /// Takes two samples of one pass, with `used` processor time between them. Returns the result of the second one.
    fn second_sample(pacer: &mut ReapPacer, used: Duration, more_exits_pending: bool) -> Option<Duration> {
        pacer.begin_pass();
        assert_eq!(
            pacer.pause_after_sample(Duration::ZERO, || true),
            None,
            "the first sample has nothing to compare with"
        );
        pacer.pause_after_sample(used, || more_exits_pending)
    }

    #[test]
    fn fast_reaping_never_pauses() {
        let mut pacer = ReapPacer::default();
        pacer.begin_pass();
        for sample in 0..1000 {
            assert_eq!(pacer.pause_after_sample(FAST * sample, || true), None);
        }
    }

    #[test]
    fn slow_reaping_pauses_in_proportion_to_the_excess_and_50_ms_at_most() {
        let mut pacer = ReapPacer::default();
        assert_eq!(second_sample(&mut pacer, SLOW, true), Some(Duration::from_micros(16 * 64)));
        assert_eq!(second_sample(&mut pacer, Duration::from_secs(1), true), Some(MAX_PAUSE));
        assert_eq!(second_sample(&mut pacer, Duration::MAX, true), Some(MAX_PAUSE));
    }

    #[test]
    fn slow_reaping_does_not_pause_when_no_further_child_has_exited() {
        assert_eq!(second_sample(&mut ReapPacer::default(), SLOW, false), None);
    }

    #[test]
    fn the_number_of_pauses_is_limited_until_every_zombie_is_reaped() {
        let mut pacer = ReapPacer::default();
        let pauses = |pacer: &mut ReapPacer| {
            (0..1000).take_while(|_| second_sample(pacer, SLOW, true).is_some()).count()
        };
        assert_eq!(pauses(&mut pacer), 60);
        assert_eq!(pauses(&mut pacer), 0);
        pacer.note_all_reaped();
        assert_eq!(pauses(&mut pacer), 60);
    }

    #[test]
    fn the_time_between_two_passes_does_not_count() {
        let mut pacer = ReapPacer::default();
        pacer.begin_pass();
        assert_eq!(pacer.pause_after_sample(Duration::from_secs(1), || true), None);
        pacer.begin_pass();
        assert_eq!(pacer.pause_after_sample(Duration::from_secs(2), || true), None);
    }

    #[test]
    fn a_clock_that_goes_back_does_not_pause() {
        let mut pacer = ReapPacer::default();
        pacer.begin_pass();
        assert_eq!(pacer.pause_after_sample(Duration::from_secs(9), || true), None);
        assert_eq!(pacer.pause_after_sample(Duration::from_secs(1), || true), None);
    }
}
