//! The one place where rsup waits.

use super::errno::{Errno, cvt};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Descriptors to wait for. The kernel keeps the list, so a turn of the loop costs the same for one program and for a
/// thousand.
#[derive(Debug)]
pub struct Poller(OwnedFd);

/// How many ready descriptors one turn takes in; the others come first in the next.
const BATCH: usize = 64;

impl Poller {
    /// An empty list.
    ///
    /// # Errors
    /// Of `epoll_create1(2)`.
    pub fn new() -> Result<Self, Errno> {
        // SAFETY: takes a number and gives one.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        cvt(fd.into())?;
        // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The tag that stands for all, where it cannot be told what is ready.
    pub const ANY: u64 = u64::MAX;

    /// Wakes whenever `fd` can be read.
    ///
    /// # Errors
    /// Of `epoll_ctl(2)`.
    pub fn add(&self, fd: &impl AsFd, tag: u64) -> Result<(), Errno> {
        self.control(libc::EPOLL_CTL_ADD, fd, tag, libc::EPOLLIN)
    }

    /// Wakes when `fd` can be read, once. Once, since closing our end does not take it off the list while a child
    /// that was forked meanwhile has a copy and hangs before its exec: it would be ready for ever.
    ///
    /// # Errors
    /// Of `epoll_ctl(2)`.
    pub fn add_oneshot(&self, fd: &impl AsFd, tag: u64) -> Result<(), Errno> {
        self.control(libc::EPOLL_CTL_ADD, fd, tag, libc::EPOLLIN | libc::EPOLLONESHOT)
    }

    /// Wakes once more for a descriptor of [`Poller::add_oneshot`].
    ///
    /// # Errors
    /// Of `epoll_ctl(2)`.
    pub fn rearm(&self, fd: &impl AsFd, tag: u64) -> Result<(), Errno> {
        self.control(libc::EPOLL_CTL_MOD, fd, tag, libc::EPOLLIN | libc::EPOLLONESHOT)
    }

    /// Wakes where there is room to write to `fd`, and then whenever there is some after there was none.
    ///
    /// # Errors
    /// Of `epoll_ctl(2)`: EPERM for files, which always have room.
    pub fn watch_writable(&self, fd: &impl AsFd, tag: u64) -> Result<(), Errno> {
        let events = libc::EPOLLOUT | libc::EPOLLET;
        match self.control(libc::EPOLL_CTL_MOD, fd, tag, events) {
            Err(Errno::ENOENT) => self.control(libc::EPOLL_CTL_ADD, fd, tag, events),
            changed => changed,
        }
    }

    /// Does not wake for `fd` any more.
    pub fn remove(&self, fd: &impl AsFd) {
        // Should it stay, it wakes for nothing, and is forgotten then.
        let _ = self.control(libc::EPOLL_CTL_DEL, fd, 0, 0);
    }

    fn control(&self, operation: i32, fd: &impl AsFd, tag: u64, events: i32) -> Result<(), Errno> {
        let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: tag };
        let (list, fd) = (self.0.as_raw_fd(), fd.as_fd().as_raw_fd());
        // SAFETY: `event` lives through the call.
        cvt(unsafe { libc::epoll_ctl(list, operation, fd, &raw mut event) }.into()).map(drop)
    }

    /// Waits until something is ready or the time is over; for ever without a time. Hands over the tags of what is
    /// ready.
    pub fn wait(&self, timeout: Option<Duration>, mut ready: impl FnMut(u64)) {
        let mut batch = MaybeUninit::<[libc::epoll_event; BATCH]>::zeroed();
        let room = i32::try_from(BATCH).unwrap_or(1);
        // SAFETY: `batch` has room for as many records as are asked for.
        let mut wait = |timeout| unsafe {
            libc::epoll_wait(self.0.as_raw_fd(), batch.as_mut_ptr().cast(), room, timeout)
        };
        let mut count = wait(timeout.map_or(-1, milliseconds));
        if count == -1 {
            // EINTR, from a stop and continue: the loop goes round, for time has passed.
            count = wait(0);
        }
        if count == -1 {
            back_off();
            ready(Self::ANY);
        }
        // SAFETY: plain numbers, for which zeros are valid; the kernel writes whole records over them.
        let batch = unsafe { batch.assume_init() };
        for event in batch.iter().take(usize::try_from(count).unwrap_or(0)) {
            ready(event.u64);
        }
    }
}

/// Rests behind a call that has failed without a reason that the kernel could have: rsup neither ends for it nor spins.
pub(super) fn back_off() {
    sleep(Duration::from_millis(50));
}

/// Does nothing for this time; of no time it is no call.
pub fn sleep(time: Duration) {
    if time.is_zero() {
        return;
    }
    // SAFETY: an empty list; numbers.
    unsafe { libc::poll(std::ptr::null_mut(), 0, milliseconds(time)) };
}

/// Rounded up, so that a deadline has passed when the wait for it ends.
fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
}
