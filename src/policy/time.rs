//! Time as the laws see it: a number that is handed in.

use std::num::NonZeroU64;
use std::time::Duration;

/// A point on a clock that only goes forward, in nanoseconds since some start of its own. (Counted from one, so that
/// an `Option` of it takes no more room.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(NonZeroU64);

impl Time {
    /// The point `nanos` nanoseconds after the clock's start.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(nanos))
    }

    /// The point this many seconds later; the same point where a file says less than none.
    #[must_use]
    pub fn plus_secs(self, seconds: i64) -> Self {
        let seconds = u64::try_from(seconds).unwrap_or(0);
        Self(self.0.saturating_add(seconds.saturating_mul(1_000_000_000)))
    }

    /// How long it is from `now` until this point; zero when it has passed.
    #[must_use]
    pub fn duration_since(self, now: Self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(now.0.get()))
    }
}
