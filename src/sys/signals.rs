//! The signals that rsup receives. All signals are blocked, and rsup reads the pending signals when it is ready for
//! them. So no handler runs in rsup, no handler interrupts a system call, and no signal is lost while rsup is busy.
//!
//! This file makes raw system calls, because the signal sets and `sigaction` of libc omit the signals 32 to 34, which
//! musl uses itself. If these three signals were not blocked, they would kill rsup, or would be lost if rsup is PID 1.

use super::errno::{Errno, cvt};
use super::poll::{back_off, poll_readable, poll_timeout};
use nix::poll::PollTimeout;
use std::ffi::{c_long, c_ulong};
use std::mem::{MaybeUninit, offset_of, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{from_ref, null};
use std::time::Duration;

/// The signals 1 to 64, as the kernel's signal set.
const ALL: u64 = u64::MAX;
/// The size of the kernel's signal set in bytes.
const SET_SIZE: usize = size_of::<u64>();

/// The signal mask that rsup was started with.
#[derive(Clone, Copy, Debug)]
pub struct SavedMask {
    blocked: u64,
}

impl SavedMask {
    /// Sets this mask again. In one-command mode, the child calls this function just before its exec. rsup itself
    /// calls this function in a mode that starts no program, so that signals can end rsup. Async-signal-safe.
    ///
    /// # Errors
    /// Returns the errno of rt_sigprocmask(2).
    pub fn restore(self) -> Result<(), Errno> {
        set_mask(self.blocked).map(drop)
    }
}

/// Blocks every signal. From now on a signal stays pending until rsup reads it, even if the signal is ignored: Linux
/// discards an ignored signal only while it is not blocked. But rt_sigaction(2) discards a pending signal if the
/// signal's new action is to ignore it. Also sets SIGCHLD to its default disposition, because the kernel reaps the
/// children of a process that ignores SIGCHLD.
///
/// # Errors
/// Returns the errno of rt_sigprocmask(2).
pub fn block_all_signals() -> Result<SavedMask, Errno> {
    let inherited = SavedMask { blocked: block_all()? };
    // rt_sigaction(2) fails only for a signal that does not exist or cannot be caught.
    let _ = set_disposition(libc::SIGCHLD, libc::SIG_DFL);
    Ok(inherited)
}

/// Sets every signal to its default disposition, except the signals whose default action is a core dump. The programs
/// that are started later inherit the default disposition. Returns whether SIGHUP was ignored before: nohup(1) starts a
/// command with SIGHUP ignored.
///
/// The signals that dump core get a handler that exits. exec(2) resets a handler to the default disposition, so the
/// handler runs only in a child before its exec. Such a child may share rsup's memory. If the child dumped core, the
/// dump would contain rsup's memory, and Linux before 5.16 would also kill rsup.
pub fn reset_dispositions() -> bool {
    let mut hup_ignored = false;
    for signal in 1..=64 {
        let handler = if CORE_SIGNALS.contains(&signal) {
            exit_on_core_signal as *const () as usize
        } else {
            libc::SIG_DFL
        };
        // rt_sigaction(2) fails for SIGKILL and SIGSTOP, whose disposition is always the default.
        let old = set_disposition(signal, handler);
        hup_ignored |= signal == libc::SIGHUP && old == Ok(libc::SIG_IGN);
    }
    hup_ignored
}

/// The signals whose default action is a core dump, by signal(7).
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

/// The handler of `CORE_SIGNALS`. It ends a child that gets one of these signals before its exec. It never runs in rsup
/// itself, which has these signals blocked.
extern "C" fn exit_on_core_signal(signal: i32) {
    // SAFETY: _exit(2) takes one integer and does not return. Unlike exit(3), it runs no function that rsup has
    // registered.
    unsafe { libc::_exit(signal.saturating_add(128)) };
}

/// Makes rsup ignore SIGHUP, as nohup(1) does for the program that it executes.
pub(super) fn ignore_hangup() {
    // rt_sigaction(2) cannot fail for SIGHUP.
    let _ = set_disposition(libc::SIGHUP, libc::SIG_IGN);
}

/// Makes a write to a pipe without a reader fail with EPIPE. By default, such a write ends the process (SIGPIPE).
pub fn ignore_broken_pipe() {
    // rt_sigaction(2) cannot fail for SIGPIPE.
    let _ = set_disposition(libc::SIGPIPE, libc::SIG_IGN);
}

/// Makes rsup ignore SIGTERM. Only rsup as the client, which does the work of supervisorctl, calls this function.
pub fn ignore_sigterm() {
    // rt_sigaction(2) cannot fail for SIGTERM.
    let _ = set_disposition(libc::SIGTERM, libc::SIG_IGN);
}

/// Blocks every signal and returns the former mask. Async-signal-safe.
pub(super) fn block_all() -> Result<u64, Errno> {
    set_mask(ALL)
}

/// Unblocks every signal. The child for a program of the configuration file calls this function just before its exec.
/// Async-signal-safe.
pub(super) fn unblock_all() -> Result<(), Errno> {
    set_mask(0).map(drop)
}

/// Replaces the signal mask and returns the former one.
fn set_mask(mask: u64) -> Result<u64, Errno> {
    let mut old = 0_u64;
    let new_place = &raw const mask;
    let old_place = &raw mut old;
    // SAFETY: the kernel reads SET_SIZE bytes from `mask` and writes SET_SIZE bytes to `old`. Both have this size and
    // stay valid during the call.
    let result =
        unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, new_place, old_place, SET_SIZE) };
    cvt(result).map(|_| old)
}

/// Returns whether a SIGCHLD is pending.
#[must_use]
pub fn sigchld_pending() -> bool {
    let mut pending = 0_u64;
    // SAFETY: the kernel writes SET_SIZE bytes to `pending`, which has this size and stays valid during the call.
    let result = unsafe { libc::syscall(libc::SYS_rt_sigpending, &raw mut pending, SET_SIZE) };
    result == 0 && pending & (1 << (libc::SIGCHLD - 1)) != 0
}

/// Whether the kernel's `struct sigaction` has the field `sa_restorer` on this machine. RISC-V and LoongArch do not
/// have this field.
const HAS_RESTORER: bool = cfg!(any(
    target_arch = "x86",
    target_arch = "x86_64",
    target_arch = "arm",
    target_arch = "aarch64",
    target_arch = "powerpc",
    target_arch = "powerpc64",
    target_arch = "s390x",
));

/// The kernel's `struct sigaction` (include/linux/signal_types.h). libc's struct has a different layout.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KernelSigaction {
    handler: usize,
    flags: c_ulong,
    /// The function that a handler returns to.
    restorer: [usize; HAS_RESTORER as usize],
    /// The signals that are blocked while the handler runs: 64 bits, in words of the size of a `long`.
    mask: [c_ulong; 64 / c_ulong::BITS as usize],
}

const _: () = {
    let word = size_of::<c_ulong>();
    let words_before_mask = if HAS_RESTORER { 3 } else { 2 };
    assert!(
        HAS_RESTORER
            || cfg!(any(target_arch = "riscv32", target_arch = "riscv64", target_arch = "loongarch64")),
        "whether this architecture has sa_restorer is not known (and MIPS has another order of fields)"
    );
    assert!(offset_of!(KernelSigaction, handler) == 0);
    assert!(offset_of!(KernelSigaction, flags) == word);
    assert!(offset_of!(KernelSigaction, restorer) == 2 * word);
    assert!(offset_of!(KernelSigaction, mask) == words_before_mask * word);
    assert!(size_of::<KernelSigaction>() == words_before_mask * word + SET_SIZE);
};

impl KernelSigaction {
    /// `handler` is SIG_DFL, SIG_IGN or a function that does not return. The function runs with every signal blocked,
    /// because the stack of a child has no space for several handlers at once.
    fn new(handler: usize) -> Self {
        /// The flag that says that `restorer` is set (asm/signal.h). x86-64 runs no handler without this flag.
        const SA_RESTORER: c_ulong = 0x0400_0000;
        Self {
            handler,
            flags: if HAS_RESTORER { SA_RESTORER } else { 0 },
            // The handler never returns, so the restorer is never called and can be any function.
            restorer: [handler; HAS_RESTORER as usize],
            mask: [c_ulong::MAX; 64 / c_ulong::BITS as usize],
        }
    }
}

/// Sets the disposition of a signal to SIG_DFL, to SIG_IGN or to a function that does not return. Returns the former
/// disposition.
///
/// # Errors
/// Returns EINVAL for SIGKILL, SIGSTOP and numbers that are not 1 to 64.
fn set_disposition(signal: i32, handler: usize) -> Result<usize, Errno> {
    sigaction(signal, &KernelSigaction::new(handler)).map(|old| old.handler)
}

fn sigaction(signal: i32, new: &KernelSigaction) -> Result<KernelSigaction, Errno> {
    let mut old = KernelSigaction::new(libc::SIG_DFL);
    let new_place = from_ref(new);
    let old_place = &raw mut old;
    // SAFETY: the kernel reads its `struct sigaction` from `new` and writes one to `old`. Both have the layout of that
    // struct and stay valid during the call. A handler in `new` never returns (see `KernelSigaction::new`), so its
    // invalid restorer is never called.
    let result = unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, new_place, old_place, SET_SIZE) };
    cvt(result).map(|_| old)
}

/// A signal that rsup has received.
#[derive(Clone, Copy, Debug)]
pub struct RawSignal {
    /// 1 to 64.
    pub signal: u32,
    /// The process ID of the sender. 0 is the kernel, or a process outside the PID namespace.
    pub sender_pid: u32,
    /// Whether `si_code` is SI_KERNEL, which means that the signal comes from the kernel and not from a process.
    pub from_kernel: bool,
}

impl RawSignal {
    /// Returns whether a write of rsup caused this signal. The kernel sends SIGPIPE in rsup's name when rsup writes to
    /// a pipe without a reader, and SIGXFSZ when rsup writes beyond RLIMIT_FSIZE. Every other signal from rsup's PID
    /// was sent before rsup's exec, as in `kill -TERM $$; exec rsup`.
    #[must_use]
    pub fn is_from_own_write(self) -> bool {
        let caused_by_writes = [libc::SIGPIPE.cast_unsigned(), libc::SIGXFSZ.cast_unsigned()];
        caused_by_writes.contains(&self.signal) && self.sender_pid == std::process::id()
    }
}

/// Takes one pending signal. If no signal is pending, waits until a signal arrives or `timeout` has passed. Without a
/// timeout, waits until a signal arrives. Returns `None` after `timeout`, or if rsup was stopped and continued during
/// the wait. [`block_all_signals`] must have been called before.
#[must_use]
pub fn wait_for_signal(timeout: Option<Duration>) -> Option<RawSignal> {
    // The kernel's rt_sigtimedwait takes two longs as its timespec. On 32-bit machines, libc's timespec may be larger.
    let long = |number: u64| c_long::try_from(number).unwrap_or(c_long::MAX);
    let timespec = timeout.map(|time| [long(time.as_secs()), long(time.subsec_nanos().into())]);
    let timespec = timespec.as_ref().map_or(null(), from_ref);
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let awaited = ALL;
    let awaited_set = &raw const awaited;
    // rsup makes a raw system call, because musl's sigtimedwait(3) starts the whole timeout again after an
    // interruption.
    // SAFETY: the kernel reads SET_SIZE bytes from `awaited` and a timespec from `timespec` (unless null), and writes
    // one siginfo to `info`. All three have these sizes and stay valid during the call.
    let signal = unsafe {
        libc::syscall(libc::SYS_rt_sigtimedwait, awaited_set, info.as_mut_ptr(), timespec, SET_SIZE)
    };
    // EAGAIN means that `timeout` has passed. EINTR means that rsup was stopped and continued. Any other errno means
    // that a seccomp filter refuses rt_sigtimedwait(2).
    if signal == -1 && ![Errno::EAGAIN, Errno::EINTR].contains(&Errno::last()) {
        return wait_for_signal_by_fd(timeout);
    }
    // SAFETY: all bytes are initialised (zero where the kernel has written nothing), and a siginfo consists of integers
    // and of pointers that this function does not read.
    let info = unsafe { info.assume_init() };
    // SAFETY: every byte of the union is initialised, and `si_pid` is an integer, for which all bytes are valid.
    let sender = unsafe { info.si_pid() };
    let from_kernel = info.si_code == SI_KERNEL;
    let signal = u32::try_from(signal).ok()?;
    Some(RawSignal { signal, sender_pid: sender.cast_unsigned(), from_kernel })
}

/// Does what [`wait_for_signal`] does, but uses signalfd(2), because a seccomp filter refuses rt_sigtimedwait(2).
fn wait_for_signal_by_fd(timeout: Option<Duration>) -> Option<RawSignal> {
    let Ok(signals) = SignalFd::new() else {
        // No system call is left that could receive a signal.
        back_off();
        return None;
    };
    match poll_readable(signals.as_fd(), timeout.map_or(PollTimeout::NONE, poll_timeout)) {
        Ok(true) => {}
        // `timeout` has passed.
        Ok(false) => return None,
        // A seccomp filter refuses poll(2), so rsup cannot wait for a signal. rsup pauses instead, and then reads a
        // pending signal.
        Err(_) => back_off(),
    }
    let mut received = None;
    signals.read_up_to(1, |signal| received = Some(signal));
    received
}

/// A signalfd(2): the descriptor that pending signals are read from.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

/// The maximum number of signals that one [`SignalFd::read`] takes.
const BATCH: usize = 16;

impl SignalFd {
    /// Creates one descriptor, which reports all signals. [`block_all_signals`] must have been called before.
    ///
    /// # Errors
    /// Returns the errno of signalfd(2).
    pub fn new() -> Result<Self, Errno> {
        let awaited = ALL;
        let awaited_set = &raw const awaited;
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // SAFETY: the kernel reads SET_SIZE bytes from `awaited`, which has this size and stays valid during the call.
        let result = unsafe { libc::syscall(libc::SYS_signalfd4, -1, awaited_set, SET_SIZE, flags) };
        let fd = i32::try_from(cvt(result)?).map_err(|_| Errno::EBADF)?;
        // SAFETY: the kernel has just created this descriptor, so nothing else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Takes up to 16 pending signals and calls `receive` with each. The limit lets rsup's main loop continue even if a
    /// process sends signals without end.
    pub fn read(&self, receive: impl FnMut(RawSignal)) {
        self.read_up_to(BATCH, receive);
    }

    /// Takes up to `limit` pending signals, and at most 16.
    fn read_up_to(&self, limit: usize, mut receive: impl FnMut(RawSignal)) {
        let mut batch = MaybeUninit::<[libc::signalfd_siginfo; BATCH]>::zeroed();
        let size = limit.min(BATCH) * size_of::<libc::signalfd_siginfo>();
        // SAFETY: read(2) writes at most `size` bytes to `batch`, which is at least as large.
        let length = unsafe { libc::read(self.0.as_raw_fd(), batch.as_mut_ptr().cast(), size) };
        // SAFETY: all bytes are initialised (zero where the kernel has written nothing), and the records consist of
        // integers.
        let batch = unsafe { batch.assume_init() };
        if length < 0 {
            // If the descriptor is readable although read(2) fails, rsup's main loop calls this function again at once.
            // The pause keeps the loop from using all processor time.
            back_off();
        }
        let count = usize::try_from(length).unwrap_or(0) / size_of::<libc::signalfd_siginfo>();
        for info in batch.iter().take(count) {
            let from_kernel = info.ssi_code == SI_KERNEL;
            receive(RawSignal { signal: info.ssi_signo, sender_pid: info.ssi_pid, from_kernel });
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The `si_code` of a signal that the kernel has sent (asm-generic/siginfo.h).
const SI_KERNEL: i32 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    // Each test changes a different signal, because tests run in threads of one process.

    #[test]
    fn a_disposition_is_read_back_as_it_was_set() {
        let signal = 40;
        set_disposition(signal, libc::SIG_IGN).unwrap();
        assert_eq!(set_disposition(signal, libc::SIG_DFL), Ok(libc::SIG_IGN));
        assert_eq!(set_disposition(signal, libc::SIG_DFL), Ok(libc::SIG_DFL));
    }

    #[test]
    fn a_signal_that_musl_hides_has_a_disposition_too() {
        for signal in [32, 33, 34] {
            let before = sigaction(signal, &KernelSigaction::new(libc::SIG_IGN)).unwrap();
            let ignored = sigaction(signal, &before).unwrap();
            assert_eq!(ignored.handler, libc::SIG_IGN);
        }
    }

    #[test]
    fn the_kernel_has_every_field_of_the_struct_where_rsup_writes_it() {
        let signal = 41;
        let written = KernelSigaction::new(exit_on_core_signal as *const () as usize);
        sigaction(signal, &written).unwrap();
        let read_back = sigaction(signal, &KernelSigaction::new(libc::SIG_DFL)).unwrap();
        // The kernel never blocks SIGKILL and SIGSTOP, which are in the first word of the mask.
        let mut expected = written;
        expected.mask[0] &= !(1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1));
        assert_eq!(read_back, expected);
    }

    #[test]
    fn the_disposition_of_a_signal_that_cannot_be_caught_is_not_changed() {
        for signal in [0, libc::SIGKILL, libc::SIGSTOP, 65] {
            assert_eq!(set_disposition(signal, libc::SIG_IGN), Err(Errno::EINVAL), "{signal}");
        }
    }

    #[test]
    fn the_mask_of_a_thread_is_replaced_and_restored() {
        let saved = SavedMask { blocked: block_all().unwrap() };
        // The kernel never blocks SIGKILL and SIGSTOP.
        let unblockable = 1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1);
        assert_eq!(block_all(), Ok(ALL & !unblockable));
        saved.restore().unwrap();
        assert_eq!(set_mask(saved.blocked), Ok(saved.blocked));
    }
}
