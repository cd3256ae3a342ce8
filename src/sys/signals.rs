//! Signals come in through a descriptor: no handlers, nothing is interrupted, nothing is lost while rsup is busy.
//!
//! Raw system calls throughout, since libc's sets and `sigaction` leave out 32 to 34, which musl keeps to itself: an
//! init that leaves those open dies of them, or loses them.

use super::{Errno, check};
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Every signal there is, 1 to 64, as the kernel's set.
const ALL: u64 = u64::MAX;
/// The kernel's set in bytes.
const SET_SIZE: usize = size_of::<u64>();

/// What rsup was started with, before it took the signals over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inherited {
    /// Bit n - 1 stands for signal n, here and below.
    ignored: u64,
    blocked: u64,
}

impl Inherited {
    /// Whether the signal of this number came ignored.
    #[must_use]
    pub fn ignores(&self, signal: i32) -> bool {
        u32::try_from(signal - 1).is_ok_and(|bit| self.ignored.checked_shr(bit).unwrap_or(0) & 1 == 1)
    }

    /// Gives back what was taken over, but for an ignored SIGCHLD, which no program expects. The last act of a child
    /// before its exec, or of rsup itself where it only reads a file. Async-signal-safe.
    ///
    /// # Errors
    /// Of `rt_sigprocmask(2)`.
    pub fn give_back(self) -> Result<(), Errno> {
        for signal in (1..=64_u32).filter(|signal| self.ignored >> (signal - 1) & 1 == 1) {
            if signal != libc::SIGCHLD.cast_unsigned() {
                // It was ignored before, so it can be.
                let _ = set_disposition(signal, libc::SIG_IGN);
            }
        }
        set_mask(self.blocked).map(drop)
    }
}

/// Blocks every signal and gives each its default disposition: SIGCHLD too, which would be lost with its children if
/// it came ignored. Signals that arrive from here on wait to be read.
///
/// # Errors
/// Of `rt_sigprocmask(2)`.
pub fn take_over() -> Result<Inherited, Errno> {
    let mut inherited = Inherited { ignored: 0, blocked: set_mask(ALL)? };
    for signal in 1..=64_u32 {
        // An ignored signal is thrown away even where it is blocked.
        if set_disposition(signal, libc::SIG_DFL) == Ok(libc::SIG_IGN) {
            inherited.ignored |= 1 << (signal - 1);
        }
    }
    Ok(inherited)
}

/// Replaces the whole mask: what was blocked before does not matter. Returns it all the same.
fn set_mask(mask: u64) -> Result<u64, Errno> {
    let mut old = 0_u64;
    let (new, old_place) = (&raw const mask, &raw mut old);
    // SAFETY: the kernel reads and writes SET_SIZE bytes; both sets live through the call.
    let result =
        unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, new, old_place, SET_SIZE) };
    check(result).map(|_| old)
}

/// Unblocks everything: the last act of a child before its exec. Async-signal-safe.
pub(super) fn unblock_all() -> Result<(), Errno> {
    set_mask(0).map(drop)
}

/// Sets SIG_DFL or SIG_IGN and returns the handler that was there. SIGKILL and SIGSTOP are refused.
fn set_disposition(signal: u32, handler: usize) -> Result<usize, Errno> {
    // The kernel's `struct sigaction` differs between machines. On those that rsup is built for (x86, Arm, RISC-V, POWER,
    // s390) the handler comes first, zeros behind it are no flags and no mask, and it is no longer than this.
    let new = [handler, 0, 0, 0, 0, 0, 0, 0];
    let mut old = [0_usize; 8];
    // SAFETY: both arrays live through the call and are at least as long as the kernel's struct.
    let result =
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, new.as_ptr(), old.as_mut_ptr(), SET_SIZE) };
    check(result)?;
    let [handler, ..] = old;
    Ok(handler)
}

/// A signal as it was received.
#[derive(Clone, Copy, Debug)]
pub struct Arrived {
    /// Its number, 1 to 64.
    pub signal: u32,
    /// Who sent it; 0 for the kernel and for senders outside the PID namespace.
    pub sender: u32,
    /// `SI_KERNEL`: not sent by a process.
    pub from_kernel: bool,
}

/// The descriptor that signals are read from.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

/// How many signals one read takes in.
const BATCH: usize = 16;

impl SignalFd {
    /// A descriptor for every signal, which [`take_over`] must have blocked.
    ///
    /// # Errors
    /// Of `signalfd(2)`.
    pub fn new() -> Result<Self, Errno> {
        let (all, flags) = (ALL, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        // SAFETY: the kernel reads SET_SIZE bytes from `all`, which lives through the call.
        let result = unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const all, SET_SIZE, flags) };
        let fd = i32::try_from(check(result)?).map_err(|_| Errno::EBADF)?;
        // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Hands over the signals that wait, up to a batch: whoever sends them without end must not hold up the loop.
    pub fn read(&self, mut receive: impl FnMut(Arrived)) {
        let mut batch = MaybeUninit::<[libc::signalfd_siginfo; BATCH]>::zeroed();
        let fd = self.0.as_raw_fd();
        // SAFETY: `batch` has room for the bytes that are asked for.
        let length = unsafe { libc::read(fd, batch.as_mut_ptr().cast(), size_of_val(&batch)) };
        // SAFETY: plain numbers, for which zeros are valid; the kernel writes whole records over them.
        let batch = unsafe { batch.assume_init() };
        let count = usize::try_from(length).unwrap_or(0) / size_of::<libc::signalfd_siginfo>();
        for info in batch.iter().take(count) {
            let from_kernel = info.ssi_code == SI_KERNEL;
            receive(Arrived { signal: info.ssi_signo, sender: info.ssi_pid, from_kernel });
        }
    }
}

/// `si_code` of a signal that no process sent (asm-generic/siginfo.h); libc has it for some systems only.
const SI_KERNEL: i32 = 0x80;

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
