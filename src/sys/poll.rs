//! Waiting for descriptors and for time to pass.
//!
//! If rsup runs the programs of a configuration file, it waits in [`Poller::wait`]. If rsup runs one command
//! (one-command mode), it waits in `signals::wait_for_signal`. [`poll_writable`] waits for room in one stream, such as
//! stdout or the request pipe, and [`sleep`] waits for a fixed time.

use super::errno::{Errno, cvt};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// An epoll(7) instance. The kernel keeps the list of descriptors, so that a wait costs the same for one program and
/// for a thousand.
#[derive(Debug)]
pub struct Poller(OwnedFd);

/// The maximum number of ready descriptors that one wait reports. The next wait reports the others.
const BATCH: usize = 64;

impl Poller {
    /// The tag that [`Poller::wait`] reports if the wait itself fails: any descriptor may be ready then.
    pub const WAIT_FAILED: u64 = u64::MAX;

    /// Creates a poller without descriptors.
    ///
    /// # Errors
    /// Returns the errno of epoll_create1(2).
    pub fn new() -> Result<Self, Errno> {
        // SAFETY: epoll_create1(2) takes one integer and touches no memory of rsup.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        cvt(fd.into())?;
        // SAFETY: the kernel has just created this descriptor, so nothing else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Makes [`Poller::wait`] report `tag` whenever `fd` is readable.
    ///
    /// # Errors
    /// Returns the errno of epoll_ctl(2).
    pub fn add(&self, fd: &impl AsFd, tag: u64) -> Result<(), Errno> {
        self.control(libc::EPOLL_CTL_ADD, fd, tag, libc::EPOLLIN)
    }

    /// Makes [`Poller::wait`] report `tag` once, when `fd` is readable. After the report, [`Poller::rearm`] makes it
    /// report once more.
    ///
    /// A child that is stuck before its exec may hold a copy of the descriptor. While such a copy exists, the
    /// descriptor stays in the epoll set even after rsup has closed its own copy. Without EPOLLONESHOT, epoll would
    /// report such a descriptor as ready again and again.
    ///
    /// # Errors
    /// Returns the errno of epoll_ctl(2).
    pub fn add_oneshot(&self, fd: &impl AsFd, tag: u64) -> Result<(), Errno> {
        self.control(libc::EPOLL_CTL_ADD, fd, tag, libc::EPOLLIN | libc::EPOLLONESHOT)
    }

    /// Makes [`Poller::wait`] report `tag` once more, when `fd` is readable. `fd` was added by [`Poller::add_oneshot`].
    ///
    /// # Errors
    /// Returns the errno of epoll_ctl(2).
    pub fn rearm(&self, fd: &impl AsFd, tag: u64) -> Result<(), Errno> {
        self.control(libc::EPOLL_CTL_MOD, fd, tag, libc::EPOLLIN | libc::EPOLLONESHOT)
    }

    /// Makes [`Poller::wait`] report `tag` if `fd` is writable, and later every time that `fd` becomes writable again.
    ///
    /// # Errors
    /// Returns the errno of epoll_ctl(2): EPERM for a regular file, which is always writable.
    pub fn watch_writable(&self, fd: &impl AsFd, tag: u64) -> Result<(), Errno> {
        let events = libc::EPOLLOUT | libc::EPOLLET;
        match self.control(libc::EPOLL_CTL_MOD, fd, tag, events) {
            Err(Errno::ENOENT) => self.control(libc::EPOLL_CTL_ADD, fd, tag, events),
            result => result,
        }
    }

    /// Makes [`Poller::wait`] no longer report `fd`.
    pub fn remove(&self, fd: &impl AsFd) {
        // An error is ignored. If the descriptor stays in the list, later waits can end early, again and again.
        let _ = self.control(libc::EPOLL_CTL_DEL, fd, 0, 0);
    }

    fn control(&self, operation: i32, fd: &impl AsFd, tag: u64, events: i32) -> Result<(), Errno> {
        let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: tag };
        let epoll = self.0.as_raw_fd();
        let fd = fd.as_fd().as_raw_fd();
        // SAFETY: epoll_ctl(2) reads one `epoll_event` from `event`, which stays valid during the call.
        cvt(unsafe { libc::epoll_ctl(epoll, operation, fd, &raw mut event) }.into()).map(drop)
    }

    /// Waits until a descriptor is ready or `timeout` has passed; without a timeout, until a descriptor is ready. Calls
    /// `ready` with the tag of each ready descriptor, or with [`Poller::WAIT_FAILED`] after an error.
    pub fn wait(&self, timeout: Option<Duration>, mut ready: impl FnMut(u64)) {
        let mut batch = [libc::epoll_event { events: 0, u64: 0 }; BATCH];
        let capacity = i32::try_from(BATCH).unwrap_or(1);
        let mut epoll_wait = |milliseconds| {
            // SAFETY: epoll_wait(2) writes at most `capacity` records, and `batch` has space for `capacity` records.
            unsafe { libc::epoll_wait(self.0.as_raw_fd(), batch.as_mut_ptr(), capacity, milliseconds) }
        };
        let mut count = epoll_wait(timeout.map_or(-1, milliseconds));
        if count == -1 {
            // SIGSTOP and SIGCONT interrupt the wait (EINTR) although all signals are blocked. The timeout may have
            // passed while rsup was stopped, so the second call does not wait, but reports what is ready now.
            count = epoll_wait(0);
        }
        if count == -1 {
            back_off();
            ready(Self::WAIT_FAILED);
        }
        for event in batch.iter().take(usize::try_from(count).unwrap_or(0)) {
            ready(event.u64);
        }
    }
}

/// Waits until `fd` is writable or `timeout` has passed. Returns whether `fd` is writable.
pub(super) fn poll_writable(fd: BorrowedFd<'_>, timeout: PollTimeout) -> bool {
    poll_for(fd, PollFlags::POLLOUT, timeout).unwrap_or(false)
}

/// Waits until `fd` is readable or `timeout` has passed. Returns whether `fd` is readable.
///
/// # Errors
/// Returns the errno of poll(2), which fails if a seccomp filter refuses the call.
pub(super) fn poll_readable(fd: BorrowedFd<'_>, timeout: PollTimeout) -> Result<bool, Errno> {
    poll_for(fd, PollFlags::POLLIN, timeout)
}

pub(super) fn poll_for(fd: BorrowedFd<'_>, wanted: PollFlags, timeout: PollTimeout) -> Result<bool, Errno> {
    let mut fds = [PollFd::new(fd, wanted)];
    poll(&mut fds, timeout)?;
    let [fd] = fds;
    Ok(fd.revents().is_some_and(|events| events.contains(wanted)))
}

/// Sleeps 50 ms before the caller repeats a call that has failed, so that the caller does not spin.
pub(super) fn back_off() {
    sleep(Duration::from_millis(50));
}

/// Sleeps for `time`, rounded up to milliseconds. Makes no system call if `time` is zero.
pub fn sleep(time: Duration) {
    if !time.is_zero() {
        // poll(2) fails here only if a seccomp filter refuses the call. The call has no descriptors, and no signal
        // handler runs in rsup that could interrupt it.
        if poll(&mut [], poll_timeout(time)).is_err() {
            sleep_without_poll(time);
        }
    }
}

/// Sleeps with usleep(3) where a seccomp filter refuses poll(2). If this function returned at once, a caller that
/// repeats a failed call would use all processor time.
pub(super) fn sleep_without_poll(time: Duration) {
    let microseconds = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
    // SAFETY: usleep(3) takes a number and accesses no memory.
    unsafe { libc::usleep(microseconds) };
}

pub(super) fn poll_timeout(time: Duration) -> PollTimeout {
    PollTimeout::try_from(milliseconds(time)).unwrap_or(PollTimeout::MAX)
}

/// Converts `time` to milliseconds. Rounds up, because a wait must not end before its deadline.
fn milliseconds(time: Duration) -> i32 {
    i32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::{pipe, read, write};

    #[test]
    fn milliseconds_are_rounded_up() {
        for (nanos, expected) in [(0, 0), (1, 1), (999_999, 1), (1_000_000, 1), (1_000_001, 2)] {
            assert_eq!(milliseconds(Duration::from_nanos(nanos)), expected, "{nanos} ns");
        }
        assert_eq!(milliseconds(Duration::MAX), i32::MAX);
    }

    const NONE: [u64; 0] = [];

    /// The tags of all descriptors that are ready now.
    fn ready(poller: &Poller) -> Vec<u64> {
        let mut tags = Vec::new();
        poller.wait(Some(Duration::ZERO), |tag| tags.push(tag));
        tags
    }

    #[test]
    fn a_readable_descriptor_is_reported_until_it_is_read_or_removed() {
        let poller = Poller::new().unwrap();
        let (reader, writer) = pipe().unwrap();
        poller.add(&reader, 7).unwrap();
        assert_eq!(ready(&poller), NONE);
        write(&writer, b"x").unwrap();
        assert_eq!(ready(&poller), [7]);
        assert_eq!(ready(&poller), [7]);
        read(&reader, &mut [0]).unwrap();
        assert_eq!(ready(&poller), NONE);
        write(&writer, b"x").unwrap();
        poller.remove(&reader);
        assert_eq!(ready(&poller), NONE);
    }

    #[test]
    fn a_oneshot_descriptor_is_reported_once_until_it_is_rearmed() {
        let poller = Poller::new().unwrap();
        let (reader, writer) = pipe().unwrap();
        poller.add_oneshot(&reader, 7).unwrap();
        write(&writer, b"x").unwrap();
        assert_eq!(ready(&poller), [7]);
        assert_eq!(ready(&poller), NONE);
        poller.rearm(&reader, 8).unwrap();
        assert_eq!(ready(&poller), [8]);
    }

    #[test]
    fn a_writable_descriptor_is_reported_each_time_that_it_becomes_writable() {
        let poller = Poller::new().unwrap();
        let (_reader, writer) = pipe().unwrap();
        poller.watch_writable(&writer, 7).unwrap();
        assert_eq!(ready(&poller), [7]);
        assert_eq!(ready(&poller), NONE);
        poller.watch_writable(&writer, 8).unwrap();
        assert_eq!(ready(&poller), [8]);
        assert!(poll_writable(writer.as_fd(), PollTimeout::ZERO));
    }

    #[test]
    fn a_regular_file_cannot_be_watched() {
        let poller = Poller::new().unwrap();
        assert_eq!(poller.watch_writable(&tempfile::tempfile().unwrap(), 7), Err(Errno::EPERM));
    }
}
