//! A point in time that the caller passes in, because the module `policy` reads no clock.

use std::num::NonZeroU64;
use std::time::Duration;

/// A point in time of a monotonic clock, in nanoseconds since the clock's start. The stored number is one larger, so it
/// is never 0 and `Option<Time>` needs no more memory than `Time`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(NonZeroU64);

impl Time {
    /// The point `nanos` nanoseconds after the clock's start.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(nanos))
    }

    /// The point `seconds` later. A negative number, which a configuration file may contain, counts as 0.
    #[must_use]
    pub fn plus_secs(self, seconds: i64) -> Self {
        let seconds = u64::try_from(seconds).unwrap_or(0);
        Self(self.0.saturating_add(seconds.saturating_mul(1_000_000_000)))
    }

    /// The point `duration` later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// Returns the earlier of two points, or the only one that is given. Returns None if neither is given.
    #[must_use]
    pub fn earliest(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        a.into_iter().chain(b).min()
    }

    /// The time from `earlier` to this point, or zero if `earlier` is the later of the two.
    #[must_use]
    pub fn duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::Time;
    use std::time::Duration;

    #[test]
    fn a_negative_number_of_seconds_counts_as_zero() {
        let time = Time::from_nanos(5);
        assert_eq!(time.plus_secs(-1), time);
        assert_eq!(time.plus_secs(i64::MIN), time);
        assert_eq!(time.plus_secs(2), Time::from_nanos(2_000_000_005));
    }

    #[test]
    fn the_last_point_of_the_clock_is_never_passed() {
        let last = Time::from_nanos(u64::MAX);
        assert_eq!(last.plus_secs(1), last);
        assert_eq!(last.plus(Duration::MAX), last);
        assert_eq!(Time::from_nanos(0).plus_secs(i64::MAX), last);
    }

    #[test]
    fn the_duration_since_a_later_point_is_zero() {
        let early = Time::from_nanos(1);
        let late = Time::from_nanos(4);
        assert_eq!(late.duration_since(early), Duration::from_nanos(3));
        assert_eq!(early.duration_since(late), Duration::ZERO);
    }
}
