//! Clocks: one that only goes forward for the laws, and the one on the wall for log lines.

use std::mem::MaybeUninit;
use std::time::Duration;

fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: `time` is a valid place for the timespec that is written.
    unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) };
    // SAFETY: plain numbers, for which zeros are valid; these clocks always exist.
    unsafe { time.assume_init() }
}

/// Nanoseconds on CLOCK_MONOTONIC: not moved by clock steps, and standing still while the machine sleeps.
#[must_use]
pub fn monotonic_nanos() -> u64 {
    nanos(libc::CLOCK_MONOTONIC)
}

/// What rsup has used of the processor's time.
#[must_use]
pub fn processor_time() -> Duration {
    Duration::from_nanos(nanos(libc::CLOCK_THREAD_CPUTIME_ID))
}

fn nanos(clock: libc::clockid_t) -> u64 {
    let time = read(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// A second in local time.
#[derive(Clone, Copy, Debug)]
pub struct LocalTime {
    /// The year, such as 2026.
    pub year: i32,
    /// 1 to 12.
    pub month: i32,
    /// 1 to 31.
    pub day: i32,
    /// 0 to 23.
    pub hour: i32,
    /// 0 to 59.
    pub minute: i32,
    /// 0 to 60.
    pub second: i32,
}

/// A moment on the clock on the wall.
#[derive(Clone, Copy)]
pub struct WallClock(libc::timespec);

impl WallClock {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self(read(libc::CLOCK_REALTIME))
    }

    /// Seconds since 1970; 0 before.
    #[must_use]
    pub fn seconds(self) -> u64 {
        u64::try_from(self.0.tv_sec).unwrap_or(0)
    }

    /// 0 to 999, not rounded up.
    #[must_use]
    pub fn milliseconds(self) -> u32 {
        u32::try_from(self.0.tv_nsec / 1_000_000).unwrap_or(0)
    }

    /// The second by `TZ` or /etc/localtime; in UTC where there is neither.
    #[must_use]
    pub fn local_time(self) -> LocalTime {
        let mut local = MaybeUninit::<libc::tm>::zeroed();
        // SAFETY: both point to values that live through the call; rsup has one thread, so the zone is not changed
        // meanwhile.
        unsafe { libc::localtime_r(&raw const self.0.tv_sec, local.as_mut_ptr()) };
        // SAFETY: zeros are a valid tm, should the time be out of range.
        let local = unsafe { local.assume_init() };
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
