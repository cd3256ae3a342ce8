//! Clocks: a monotonic clock for deadlines, a clock of processor time, and the clock of the time of day for log lines.

use super::time_zone::TimeZone;
use std::mem::MaybeUninit;
use std::time::Duration;

fn clock_gettime(clock: libc::clockid_t) -> libc::timespec {
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: clock_gettime(2) writes one timespec, and `time` has room for one.
    unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) };
    // SAFETY: all bytes are initialised (zero if the call failed), and a timespec consists of integers.
    unsafe { time.assume_init() }
}

/// Returns CLOCK_MONOTONIC in nanoseconds. This clock is not changed when the time is set, and does not advance while
/// the machine is suspended.
#[must_use]
pub fn monotonic_nanos() -> u64 {
    nanos(libc::CLOCK_MONOTONIC)
}

/// Returns the processor time that rsup has used. (rsup has one thread, so the clock of the thread is enough.)
#[must_use]
pub fn processor_time() -> Duration {
    Duration::from_nanos(nanos(libc::CLOCK_THREAD_CPUTIME_ID))
}

fn nanos(clock: libc::clockid_t) -> u64 {
    nanoseconds(clock_gettime(clock))
}

fn nanoseconds(time: libc::timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// A time in the local time zone, to the second.
#[derive(Clone, Copy, Debug)]
pub struct LocalTime {
    /// The full year, such as 2026.
    pub year: i32,
    /// 1 to 12.
    pub month: i32,
    /// 1 to 31.
    pub day: i32,
    /// 0 to 23.
    pub hour: i32,
    /// 0 to 59.
    pub minute: i32,
    /// 0 to 60: a leap second is 60.
    pub second: i32,
}

/// A time of CLOCK_REALTIME.
#[derive(Clone, Copy)]
pub struct WallTime(libc::timespec);

impl WallTime {
    #[must_use]
    pub fn now() -> Self {
        Self(clock_gettime(libc::CLOCK_REALTIME))
    }

    /// Returns the time that is this number of seconds after 1970-01-01 00:00 UTC.
    #[must_use]
    pub fn from_seconds(seconds: u64) -> Self {
        // SAFETY: a timespec consists of integers, for which zero is a valid value.
        let mut time: libc::timespec = unsafe { std::mem::zeroed() };
        time.tv_sec = seconds.try_into().unwrap_or(0);
        Self(time)
    }

    /// Returns the seconds since 1970-01-01 00:00 UTC, and 0 for a time before.
    #[must_use]
    pub fn seconds(self) -> u64 {
        u64::try_from(self.0.tv_sec).unwrap_or(0)
    }

    /// Returns the nanoseconds since 1970-01-01 00:00 UTC. For an earlier time, returns only the
    /// nanoseconds of its second.
    #[must_use]
    pub fn nanoseconds(self) -> u64 {
        nanoseconds(self.0)
    }

    /// Returns the milliseconds of the second, 0 to 999, rounded down.
    #[must_use]
    pub fn milliseconds(self) -> u32 {
        u32::try_from(self.0.tv_nsec / 1_000_000).unwrap_or(0)
    }

    /// Converts this time to the local time of `zone`.
    #[must_use]
    pub fn local_time(self, zone: &TimeZone) -> LocalTime {
        let local = zone.local_time(&self.0);
        LocalTime {
            year: local.tm_year + 1900,
            month: local.tm_mon + 1,
            day: local.tm_mday,
            hour: local.tm_hour,
            minute: local.tm_min,
            second: local.tm_sec,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_does_not_go_back() {
        let before = monotonic_nanos();
        assert!(before > 0);
        assert!(monotonic_nanos() >= before);
    }

    #[test]
    fn a_time_keeps_its_seconds() {
        for seconds in [0, 1, 1_795_844_940] {
            assert_eq!(WallTime::from_seconds(seconds).seconds(), seconds);
        }
    }

    #[test]
    fn every_field_of_the_local_time_is_in_its_range() {
        let now = WallTime::now();
        assert!(now.milliseconds() <= 999);
        let local = now.local_time(&TimeZone::of_environment());
        assert!(local.year >= 2020);
        assert!((1..=12).contains(&local.month));
        assert!((1..=31).contains(&local.day));
        assert!((0..=23).contains(&local.hour));
        assert!((0..=59).contains(&local.minute));
        assert!((0..=60).contains(&local.second));
    }
}
