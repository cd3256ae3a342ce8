//! The TICK events: one at the beginning of each slice of the wall clock.

use super::event::Event;
use std::time::Duration;

/// The wall clock is divided into slices of these lengths in seconds, for TICK_5, TICK_60 and TICK_3600.
const PERIODS: [u64; 3] = [5, 60, 3600];

/// The TICK events that at least one pool wants.
#[derive(Debug, Default)]
pub(super) struct Ticks {
    /// For each length that a pool wants: the length, and the beginning of the latest slice of this length. Both are
    /// in seconds.
    latest_slices: Vec<(u64, u64)>,
}

impl Ticks {
    /// `now` is the number of seconds since 1970. `is_wanted` says whether a pool wants the events of a name.
    pub(super) fn new(now: u64, is_wanted: &dyn Fn(&str) -> bool) -> Self {
        let mut slices = Vec::new();
        for period in PERIODS {
            if is_wanted(&Event::tick(period, now).name) {
                slices.push((period, slice_start(period, now)));
            }
        }
        Self { latest_slices: slices }
    }

    /// The events that are due: one for each length for which `now` is in another slice than at the last call. The
    /// slices between these two slices get no event. `now` is the number of seconds since 1970.
    pub(super) fn due(&mut self, now: u64) -> Vec<Event> {
        let mut events = Vec::new();
        for (period, last) in &mut self.latest_slices {
            let present = slice_start(*period, now);
            if present != *last {
                *last = present;
                events.push(Event::tick(*period, present));
            }
        }
        events
    }

    /// The time until the next TICK event is due. `None` if no pool wants TICK events. `now` is in milliseconds since
    /// 1970.
    pub(super) fn wait(&self, now: u64) -> Option<Duration> {
        let wait = |(period, last): &(u64, u64)| {
            let present = slice_start(*period, now / 1000);
            let next = if present == *last { present + period } else { present };
            (next * 1000).saturating_sub(now)
        };
        self.latest_slices.iter().map(wait).min().map(Duration::from_millis)
    }
}

fn slice_start(period: u64, now: u64) -> u64 {
    now - now % period
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slice_has_one_event() {
        let mut ticks = Ticks::new(3604, &|_| true);
        assert_eq!(ticks.due(3604), []);
        assert_eq!(ticks.wait(3_604_250), Some(Duration::from_millis(750)));
        assert_eq!(ticks.wait(3_605_000), Some(Duration::ZERO));
        assert_eq!(ticks.due(3605), [Event::tick(5, 3605)]);
        assert_eq!(ticks.wait(3_605_000), Some(Duration::from_secs(5)));
        assert_eq!(ticks.due(3609), []);
        assert_eq!(ticks.due(7201), [Event::tick(5, 7200), Event::tick(60, 7200), Event::tick(3600, 7200)]);
        assert_eq!(ticks.due(7199), [Event::tick(5, 7195), Event::tick(60, 7140), Event::tick(3600, 3600)]);
    }

    #[test]
    fn only_periods_that_a_pool_wants_have_events() {
        let mut ticks = Ticks::new(60, &|name| name == "TICK_60");
        assert_eq!(ticks.wait(60_000), Some(Duration::from_secs(60)));
        assert_eq!(ticks.due(125), [Event::tick(60, 120)]);
        let ticks = Ticks::new(60, &|_| false);
        assert_eq!(ticks.wait(60_000), None);
    }
}
