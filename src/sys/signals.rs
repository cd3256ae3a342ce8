//! Signals are blocked, and read when their turn comes: no handler runs in rsup, nothing is interrupted, nothing is lost
//! while rsup is busy.
//!
//! Raw system calls throughout, since libc's sets and `sigaction` leave out 32 to 34, which musl keeps to itself: an
//! init that leaves those open dies of them, or loses them.

use super::errno::{Errno, cvt};
use super::poll::back_off;
use std::ffi::c_long;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{from_ref, null};
use std::time::Duration;

/// Every signal there is, 1 to 64, as the kernel's set.
const ALL: u64 = u64::MAX;
/// The kernel's set in bytes.
const SET_SIZE: usize = size_of::<u64>();

/// The mask that rsup was started with, before it took the signals over.
#[derive(Clone, Copy, Debug)]
pub struct SavedMask {
    blocked: u64,
}

impl SavedMask {
    /// Gives the mask back: the last act of a child before its exec, or of rsup itself where it only reads a file.
    /// Async-signal-safe.
    ///
    /// # Errors
    /// Of `rt_sigprocmask(2)`.
    pub fn restore(self) -> Result<(), Errno> {
        set_mask(self.blocked).map(drop)
    }
}

/// Blocks every signal: those that arrive from here on wait to be read, ignored ones too (Linux throws an ignored signal
/// away only where it is not blocked). SIGCHLD is given its default disposition, for children whose parent ignores it
/// are lost.
///
/// # Errors
/// Of `rt_sigprocmask(2)`.
pub fn block_all_signals() -> Result<SavedMask, Errno> {
    let inherited = SavedMask { blocked: block_all()? };
    // There is such a signal, and it can be caught.
    let _ = set_disposition(libc::SIGCHLD, libc::SIG_DFL);
    Ok(inherited)
}

/// Gives every signal its default disposition, for every program that is started from here on. Returns whether SIGHUP
/// came ignored, as `nohup` has it.
///
/// Until a child's exec, those that make a process dump core are caught: one that shares rsup's memory would dump rsup's,
/// and before Linux 5.16 that kills both.
pub fn reset_dispositions() -> bool {
    let mut hup_ignored = false;
    for signal in 1..=64 {
        let handler =
            if CORE_SIGNALS.contains(&signal) { exit_on_signal as *const () as usize } else { libc::SIG_DFL };
        let old = set_disposition(signal, handler);
        hup_ignored |= signal == libc::SIGHUP && old == Ok(libc::SIG_IGN);
    }
    hup_ignored
}

/// signal(7).
const CORE_SIGNALS: [i32; 10] = [
    libc::SIGQUIT,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGSEGV,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGSYS,
];

/// What is left of a child that such a signal reaches before its exec. rsup itself, who has them blocked, never comes here.
extern "C" fn exit_on_signal(signal: i32) {
    // SAFETY: takes a number, and does nothing but leave.
    unsafe { libc::_exit(128 + signal) };
}

/// Blocks every signal. Returns the mask before. Async-signal-safe.
pub(super) fn block_all() -> Result<u64, Errno> {
    set_mask(ALL)
}

/// Replaces the whole mask: what was blocked before does not matter. Returns it all the same.
fn set_mask(mask: u64) -> Result<u64, Errno> {
    let mut old = 0_u64;
    let (new, old_place) = (&raw const mask, &raw mut old);
    // SAFETY: the kernel reads and writes SET_SIZE bytes; both sets live through the call.
    let result =
        unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, new, old_place, SET_SIZE) };
    cvt(result).map(|_| old)
}

/// Unblocks everything: the last act of a child before its exec. Async-signal-safe.
pub(super) fn unblock_all() -> Result<(), Errno> {
    set_mask(0).map(drop)
}

/// As the kernel's records of signals have it.
const SIGCHLD: u32 = libc::SIGCHLD.cast_unsigned();

/// Whether there is news of a child's death that was not read yet.
#[must_use]
pub fn sigchld_pending() -> bool {
    let mut pending = 0_u64;
    // SAFETY: the kernel writes SET_SIZE bytes to `pending`, which lives through the call.
    let result = unsafe { libc::syscall(libc::SYS_rt_sigpending, &raw mut pending, SET_SIZE) };
    result == 0 && pending & (1 << (SIGCHLD - 1)) != 0
}

/// Sets SIG_DFL, SIG_IGN or a handler that does not return, and returns the one that was there. SIGKILL and SIGSTOP are
/// refused.
fn set_disposition(signal: i32, handler: usize) -> Result<usize, Errno> {
    /// Behind the flags is where a handler returns to. Without that, x86 calls none.
    const SA_RESTORER: usize = 0x0400_0000;
    // The kernel's `struct sigaction` differs between machines. On those that rsup is built for (x86, Arm, RISC-V, POWER,
    // s390) the handler comes first, then the flags, where there is one the restorer, then the mask, and it is no longer
    // than this. Everything else is blocked in a handler: several at once would not fit on a child's stack.
    let new = [handler, SA_RESTORER, handler, usize::MAX, usize::MAX, 0, 0, 0];
    let mut old = [0_usize; 8];
    // SAFETY: both arrays live through the call and are at least as long as the kernel's struct.
    let result =
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, new.as_ptr(), old.as_mut_ptr(), SET_SIZE) };
    cvt(result)?;
    let [handler, ..] = old;
    Ok(handler)
}

/// A signal as it was received.
#[derive(Clone, Copy, Debug)]
pub struct RawSignal {
    /// Its number, 1 to 64.
    pub signal: u32,
    /// Who sent it; 0 for the kernel and for senders outside the PID namespace.
    pub sender: u32,
    /// `SI_KERNEL`: not sent by a process.
    pub from_kernel: bool,
}

/// Waits for a signal, until the time is over or something disturbs it; for ever without a time. [`block_all_signals`] must have
/// blocked them all.
#[must_use]
pub fn wait_for_signal(timeout: Option<Duration>) -> Option<RawSignal> {
    // Two longs are a timespec to this call, on machines of 32 bits too.
    let long = |number: u64| c_long::try_from(number).unwrap_or(c_long::MAX);
    let timeout = timeout.map(|time| [long(time.as_secs()), long(time.subsec_nanos().into())]);
    let timeout = timeout.as_ref().map_or(null(), from_ref);
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let (all, place) = (ALL, info.as_mut_ptr());
    // Not sigtimedwait(3): behind an interruption it would wait for the whole time again.
    // SAFETY: the kernel reads SET_SIZE bytes and the time (or none); these and the place for the answer live through
    // the call.
    let signal =
        unsafe { libc::syscall(libc::SYS_rt_sigtimedwait, &raw const all, place, timeout, SET_SIZE) };
    // SAFETY: plain numbers, for which zeros are valid.
    let info = unsafe { info.assume_init() };
    // SAFETY: zero where the kernel has no such number to say.
    let sender = unsafe { info.si_pid() };
    let from_kernel = info.si_code == SI_KERNEL;
    if signal == -1 && ![Errno::EAGAIN, Errno::EINTR].contains(&Errno::last()) {
        // It is neither that the time is over, nor a stop and continue.
        back_off();
    }
    let signal = u32::try_from(signal).ok()?;
    Some(RawSignal { signal, sender: sender.cast_unsigned(), from_kernel })
}

/// The descriptor that signals are read from.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

/// How many signals one read takes in.
const BATCH: usize = 16;

impl SignalFd {
    /// A descriptor for every signal, which [`block_all_signals`] must have blocked.
    ///
    /// # Errors
    /// Of `signalfd(2)`.
    pub fn new() -> Result<Self, Errno> {
        let (all, flags) = (ALL, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        // SAFETY: the kernel reads SET_SIZE bytes from `all`, which lives through the call.
        let result = unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const all, SET_SIZE, flags) };
        let fd = i32::try_from(cvt(result)?).map_err(|_| Errno::EBADF)?;
        // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Hands over the signals that wait, up to a batch: whoever sends them without end must not hold up the loop.
    pub fn read(&self, mut receive: impl FnMut(RawSignal)) {
        let mut batch = MaybeUninit::<[libc::signalfd_siginfo; BATCH]>::zeroed();
        let fd = self.0.as_raw_fd();
        // SAFETY: `batch` has room for the bytes that are asked for.
        let length = unsafe { libc::read(fd, batch.as_mut_ptr().cast(), size_of_val(&batch)) };
        // SAFETY: plain numbers, for which zeros are valid; the kernel writes whole records over them.
        let batch = unsafe { batch.assume_init() };
        if length < 0 {
            // It was said to be ready, and will be again.
            back_off();
        }
        let count = usize::try_from(length).unwrap_or(0) / size_of::<libc::signalfd_siginfo>();
        for info in batch.iter().take(count) {
            let from_kernel = info.ssi_code == SI_KERNEL;
            receive(RawSignal { signal: info.ssi_signo, sender: info.ssi_pid, from_kernel });
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
