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
    /// Bit n - 1 stands for signal n.
    ignored: u64,
}

impl Inherited {
    /// Whether the signal of this number came ignored.
    #[must_use]
    pub fn ignores(&self, signal: i32) -> bool {
        u32::try_from(signal - 1).is_ok_and(|bit| self.ignored.checked_shr(bit).unwrap_or(0) & 1 == 1)
    }
}

/// Blocks every signal and gives each its default disposition: SIGCHLD too, which would be lost with its children if
/// it came ignored. Signals that arrive from here on wait to be read.
///
/// # Errors
/// Of `rt_sigprocmask(2)`.
pub fn take_over() -> Result<Inherited, Errno> {
    set_mask(ALL)?;
    let mut inherited = Inherited::default();
    for signal in 1..=64_u32 {
        // An ignored signal is thrown away even where it is blocked.
        if set_default(signal) == Ok(Disposition::Ignored) {
            inherited.ignored |= 1 << (signal - 1);
        }
    }
    Ok(inherited)
}

/// Replaces the whole mask: what was blocked before does not matter.
fn set_mask(mask: u64) -> Result<(), Errno> {
    // SAFETY: the kernel reads SET_SIZE bytes from `mask`, which lives through the call, and writes nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            std::ptr::null_mut::<u64>(),
            SET_SIZE,
        )
    };
    check(result).map(drop)
}

/// Unblocks everything: the last act of a child before its exec. Async-signal-safe.
pub(super) fn unblock_all() -> Result<(), Errno> {
    set_mask(0)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disposition {
    Ignored,
    Other,
}

/// Sets SIG_DFL and says what it was. SIGKILL and SIGSTOP are refused.
fn set_default(signal: u32) -> Result<Disposition, Errno> {
    // The kernel's `struct sigaction` differs between machines. On those that rsup is built for (x86, Arm, RISC-V, POWER,
    // s390) the handler comes first, all zeros is SIG_DFL without flags, and it is no longer than this.
    let default = [0_usize; 8];
    let mut old = [0_usize; 8];
    // SAFETY: both arrays live through the call and are at least as long as the kernel's struct.
    let result = unsafe {
        libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), old.as_mut_ptr(), SET_SIZE)
    };
    check(result)?;
    let [handler, ..] = old;
    Ok(if handler == libc::SIG_IGN { Disposition::Ignored } else { Disposition::Other })
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
