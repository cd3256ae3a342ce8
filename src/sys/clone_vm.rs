//! A child in rsup's own memory: a start without a copy of it.
//!
//! What fork(2) takes longest for is to copy the tables of the parent's memory, and then, page by page, what either of the
//! two writes to. So a child gets nothing but a stack, and reads what rsup has prepared where it lies (`CLONE_VM` without
//! `CLONE_VFORK`: rsup goes on meanwhile). In return
//!
//! - what it reads nobody changes until it is gone: what was made for it ([`ChildMemory`] sees to that), and what never ends;
//! - it neither allocates nor frees: the allocator knows of one thread;
//! - it has an `errno` of its own: see [`FakeTcb`];
//! - no signal that is sent to it makes it dump core, which before Linux 5.16 kills everybody who has the same memory: see
//!   `signals::reset_dispositions`;
//! - it becomes nobody else. The kernel shuts the memory of who does that off from /proc, for good, so that `/proc/1/fd/1`
//!   would be shut to all; and else its new user could trace it, and write into rsup's memory. Who has to become somebody
//!   else gets a copy.
//!
//! What is left: whoever the kernel kills for want of memory takes along those who share his. That picks who has most, and
//! a child that is not a program yet has no more than rsup.

use super::fork::{ExecFailure, raw_fork, report_failure, set_process_group};
use super::{Errno, Pid};
use std::cell::UnsafeCell;
use std::convert::Infallible;
use std::ffi::{c_int, c_void};
use std::os::fd::{BorrowedFd, RawFd};
use std::ptr::{NonNull, null, null_mut};

/// What a child does until it is another program.
pub(super) trait ChildSetup: 'static {
    /// Whether the child becomes another user on its way.
    fn changes_user(&self) -> bool;

    /// Does it, or says why not. Makes system calls on what was prepared, and nothing else. The pipe is for reports that
    /// do not end the start.
    fn run(&self, status: BorrowedFd<'_>) -> Result<Infallible, ExecFailure>;
}

/// The child's stack and, at its end, what the child reads. That is enough for a few calls one in the other, the longest
/// list of groups that is looked at, and a signal's frame; what is never used takes no memory.
const MAPPING_SIZE: usize = 16 * 1024;

/// The place of one child, which is rsup's before and after it.
#[derive(Debug)]
pub(super) struct ChildMemory<S>(NonNull<ChildBlock<S>>);

// The stack grows downwards from here, and has to begin like this.
#[repr(align(16))]
struct ChildBlock<S> {
    setup: S,
    status: RawFd,
    thread: FakeTcb,
}

/// What the C library keeps for a thread, as far as a child needs it: `errno`. It is somewhere around the place that the
/// machine's thread pointer points to, and zero before the first error.
#[repr(C)]
struct FakeTcb {
    below: UnsafeCell<[usize; 32]>,
    /// musl on x86 looks here for where it is.
    itself: UnsafeCell<*const c_void>,
    above: UnsafeCell<[usize; 32]>,
}

impl FakeTcb {
    fn new() -> Self {
        let zeros = || UnsafeCell::new([0; 32]);
        Self { below: zeros(), itself: UnsafeCell::new(null()), above: zeros() }
    }

    /// Makes it the thread of the process that calls.
    fn install(&self) {
        let itself = self.itself.get();
        // SAFETY: nobody else looks.
        unsafe { *itself = itself.cast_const().cast() };
        machine::set_thread_pointer(itself.cast_const().cast());
    }
}

/// Whether it is known what makes an area the running thread's, and how that is done.
#[cfg(all(target_env = "musl", target_arch = "x86_64"))]
mod machine {
    pub(super) const IS_SUPPORTED: bool = true;

    /// asm/prctl.h; libc does not have it.
    const ARCH_SET_FS: super::c_int = 0x1002;

    pub(super) fn set_thread_pointer(area: *const super::c_void) {
        // It has worked when rsup started.
        // SAFETY: a number to the kernel; what is read through it from here on is `FakeTcb`.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_FS, area) };
    }
}

#[cfg(all(target_env = "musl", target_arch = "aarch64"))]
mod machine {
    pub(super) const IS_SUPPORTED: bool = true;

    pub(super) fn set_thread_pointer(area: *const super::c_void) {
        // SAFETY: what is read through it from here on is `FakeTcb`.
        unsafe { core::arch::asm!("msr tpidr_el0, {}", in(reg) area, options(nostack, preserves_flags)) };
    }
}

/// Here each child has a memory of its own.
#[cfg(not(all(target_env = "musl", any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod machine {
    pub(super) const IS_SUPPORTED: bool = false;

    pub(super) fn set_thread_pointer(_: *const super::c_void) {}
}

impl<S: ChildSetup> ChildMemory<S> {
    /// A place for a child that takes these steps.
    ///
    /// # Errors
    /// Of `mmap(2)`.
    pub(super) fn new(setup: S) -> Result<Self, Errno> {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // Not of the heap: a hundred children at once would leave it full of holes.
        // SAFETY: takes numbers.
        let place = unsafe { libc::mmap(null_mut(), MAPPING_SIZE, access, kind, -1, 0) };
        let place = NonNull::new(place).filter(|_| place != libc::MAP_FAILED).ok_or_else(Errno::last)?;
        // SAFETY: inside of what was mapped, up to its end.
        let start = unsafe { place.byte_add(Self::STACK_SIZE) }.cast();
        // SAFETY: as above.
        unsafe { start.write(ChildBlock { setup, status: -1, thread: FakeTcb::new() }) };
        Ok(Self(start))
    }
}

impl<S> ChildMemory<S> {
    const STACK_SIZE: usize = MAPPING_SIZE - size_of::<ChildBlock<S>>();

    fn block(&mut self) -> &mut ChildBlock<S> {
        // SAFETY: it was written, and there is no child: while there is one, `ExecStatusPipe` keeps it to itself.
        unsafe { self.0.as_mut() }
    }

    /// The steps, for the next child.
    pub(super) fn setup(&mut self) -> &mut S {
        &mut self.block().setup
    }
}

impl<S: ChildSetup> ChildMemory<S> {
    /// Makes a child that takes the steps, as the leader of a group of its own. Until it is another program or dead, the
    /// place is the child's: the caller must neither look at it nor free it.
    ///
    /// # Errors
    /// Of `clone(2)`.
    pub(super) fn clone(&mut self, status: RawFd) -> Result<Pid, Errno> {
        self.block().status = status;
        let start = self.0.as_ptr().cast::<c_void>();
        if machine::IS_SUPPORTED && !self.block().setup.changes_user() {
            let flags = libc::CLONE_VM | libc::SIGCHLD;
            // SAFETY: rsup has one thread. The child has this stack and nothing else that is written to.
            let pid = unsafe { libc::clone(child_main::<S>, start, flags, start) };
            // Emulators (qemu-user) and filters of system calls may know threads and copies, and nothing between.
            if pid != -1 || [Errno::EAGAIN, Errno::ENOMEM].contains(&Errno::last()) {
                return Pid::new(pid).ok_or_else(Errno::last);
            }
        }
        // SAFETY: rsup has one thread, and the child only makes system calls on what was prepared, until it is another
        // program or ends.
        let child = unsafe { raw_fork() }?;
        if child.is_none() {
            child_main::<S>(start);
        }
        child.ok_or(Errno::EAGAIN)
    }
}

impl<S> Drop for ChildMemory<S> {
    fn drop(&mut self) {
        // SAFETY: it was written, and there is no child: `ExecStatusPipe` drops none that it has.
        unsafe { self.0.drop_in_place() };
        // SAFETY: where it was mapped,
        let place = unsafe { self.0.byte_sub(Self::STACK_SIZE) };
        // SAFETY: and nobody looks any more.
        unsafe { libc::munmap(place.as_ptr().cast(), MAPPING_SIZE) };
    }
}

extern "C" fn child_main<S: ChildSetup>(start: *mut c_void) -> c_int {
    // SAFETY: it is this child's, and written to by nobody.
    let start = unsafe { &*start.cast::<ChildBlock<S>>() };
    start.thread.install();
    set_process_group(0);
    // SAFETY: a copy of the parent's, which nobody here closes.
    let status = unsafe { BorrowedFd::borrow_raw(start.status) };
    let Err(report) = start.setup.run(status);
    report_failure(status, report);
    // SAFETY: takes a number; unlike exit(3) it runs nothing of the parent's.
    unsafe { libc::_exit(127) }
}
