//! The current time, in the type that `policy` uses.

use crate::policy::Time;
use crate::sys;

/// Reads CLOCK_MONOTONIC.
pub(super) fn now() -> Time {
    Time::from_nanos(sys::monotonic_nanos())
}
