//! Starts a child that uses rsup's own memory until its exec: clone(2) with `CLONE_VM`, but without
//! `CLONE_VFORK`.
//!
//! fork(2) copies the page tables. After a fork(2) the kernel also copies every page that the parent or the child
//! writes to. With fork(2), a restart takes 0.80 ms instead of 0.53 ms, and the start of 200 programs takes 45 ms
//! instead of 29 ms. vfork(2) copies nothing, but suspends rsup until the exec. An exec from a mount that does not
//! answer would therefore suspend rsup.
//!
//! The child has its own stack, descriptor table, signal dispositions and working directory, and runs at the
//! same time as rsup. Until it has executed its program or exited, these rules apply to it:
//!
//! - **It must not panic.** A panic runs the panic hook, which formats text and allocates from rsup's heap while
//!   rsup uses that heap. With `overflow-checks`, an unchecked `+` can panic. The files that contain the
//!   child's steps therefore forbid, by clippy lints, arithmetic that can overflow, indexing and `unwrap`. The few
//!   functions of other files that the steps call make one or two system calls and do nothing else.
//! - **It must not allocate or free.** The allocator takes no locks, because rsup has one thread. So the child and
//!   rsup would corrupt the heap if both used the allocator at the same time. The child also frees nothing at the
//!   end of [`ChildSetup::run`], which gets only a shared reference, and whose result has no drop glue.
//! - **It must not change its user.** setuid(2) clears the dumpable flag of the memory, which rsup shares. This
//!   would make /proc/1/fd permanently unreadable. If rsup set the flag again, the new user could ptrace the child
//!   and write to rsup's memory. A child that changes its user is forked: see [`ChildSetup::changes_user`].
//! - **It must not dump core.** Before Linux 5.16 a core dump kills every process that shares the memory.
//!   `signals::reset_dispositions` therefore installs a handler for each signal whose default action is a core dump.
//!   The handler exits.
//! - **It must not use thread-local variables other than errno.** The child has its own errno in [`FakeTcb`],
//!   so that a system call that fails in the child does not change rsup's errno. `FakeTcb` contains no other
//!   thread-local variable.
//! - **It reads only memory that no process changes meanwhile:** values that are never freed, its
//!   [`ChildBlock`], and the heap memory that the block points to. [`ExecStatusPipe`] prevents rsup's access
//!   to the block until the pipe is at end of file.
//!
//! One risk remains: the OOM killer kills every process that shares the victim's memory, so rsup also ends if the OOM
//! killer chooses a child before its exec. This is unlikely: the OOM killer chooses the process that uses most
//! memory, and a child before its exec uses no more than rsup does.
//!
//! If `fork::MAY_SHARE_MEMORY` is false, no child uses rsup's memory: every child is forked.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    clippy::unwrap_used,
    reason = "the child must not panic"
)]

use super::errno::Errno;
use super::exec_status::{ExecFailure, FailureReader, FailureReport, failure_pipe, report_failure};
use super::fork::{MAY_SHARE_MEMORY, SpawnError, is_clone_vm_refused, raw_fork, set_process_group};
use super::kill::Pid;
use std::cell::UnsafeCell;
use std::convert::Infallible;
use std::ffi::{c_int, c_void};
use std::mem::{ManuallyDrop, needs_drop, offset_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::{NonNull, null, null_mut};

/// What a child does between its creation and its exec.
pub(super) trait ChildSetup: 'static {
    /// Whether the child changes its user or its groups before its exec.
    fn changes_user(&self) -> bool;

    /// Runs the steps that end in an exec. Returns only if the program is not executed. A failure after which the
    /// start continues is written to `status` instead. The implementation must keep the rules at the top of this file.
    fn run(&self, status: BorrowedFd<'_>) -> Result<Infallible, ExecFailure>;
}

/// The size of the mapping that holds the child's stack and, above it, its [`ChildBlock`]. The kernel
/// provides only the pages that are used.
const MAPPING_SIZE: usize = 16 * 1024;

/// The stack must hold the child's nested calls and the frame of one signal handler (less than 4 KiB with
/// AVX-512).
const MIN_STACK_SIZE: usize = 12 * 1024;

/// The memory of one child: its stack and its [`ChildBlock`]. rsup may change this memory only while no child
/// uses it.
#[derive(Debug)]
pub(super) struct ChildMemory<S>(NonNull<ChildBlock<S>>);

/// The values that rsup passes to the child. The child's stack starts at the address of the block and grows
/// downwards, so the block has the alignment that a stack needs.
#[repr(align(16))]
struct ChildBlock<S> {
    setup: S,
    /// The writing end of the status pipe of the last child that was created. `None` before the first child.
    status: Option<BorrowedFd<'static>>,
    tcb: FakeTcb,
}

/// A minimal stand-in for libc's thread control block, so that the child and rsup have separate errnos. musl keeps
/// errno at a fixed offset of up to 256 bytes from the thread pointer: above it on x86_64, below it on
/// aarch64.
#[repr(C)]
struct FakeTcb {
    below: UnsafeCell<[u64; 32]>,
    /// The thread pointer points here. On x86_64 musl reads the address of the thread control block from this
    /// field.
    self_pointer: UnsafeCell<*const c_void>,
    above: UnsafeCell<[u64; 32]>,
}

/// The largest distance between the thread pointer and errno.
const ERRNO_REACH: usize = 256;

const _: () = assert!(offset_of!(FakeTcb, self_pointer) >= ERRNO_REACH);
const _: () = assert!(size_of::<FakeTcb>() >= offset_of!(FakeTcb, above).saturating_add(ERRNO_REACH));

impl FakeTcb {
    fn new() -> Self {
        let zeros = || UnsafeCell::new([0; 32]);
        Self { below: zeros(), self_pointer: UnsafeCell::new(null()), above: zeros() }
    }

    /// Makes `self` the thread control block of the calling process.
    fn install(&self) {
        let thread_pointer = self.self_pointer.get();
        // SAFETY: the child that owns this block is the only one that uses it, and holds no reference to the
        // field.
        unsafe { *thread_pointer = thread_pointer.cast_const().cast() };
        machine::set_thread_pointer(thread_pointer.cast_const().cast());
    }
}

/// How to set the thread pointer.
#[cfg(all(target_env = "musl", target_arch = "x86_64"))]
mod machine {
    pub(super) const IS_SUPPORTED: bool = true;

    /// From asm/prctl.h; the libc crate does not define it.
    const ARCH_SET_FS: super::c_int = 0x1002;

    pub(super) fn set_thread_pointer(tcb: *const super::c_void) {
        // The result is not checked: musl has made the same system call when rsup started, and would have ended
        // rsup if that call had failed.
        // SAFETY: `tcb` is the thread pointer of a `FakeTcb`. From now on libc uses the thread pointer only to reach
        // the bytes of this `FakeTcb`.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_FS, tcb) };
    }
}

#[cfg(all(target_env = "musl", target_arch = "aarch64"))]
mod machine {
    pub(super) const IS_SUPPORTED: bool = true;

    pub(super) fn set_thread_pointer(tcb: *const super::c_void) {
        // SAFETY: `tcb` is the thread pointer of a `FakeTcb`. From now on libc uses the thread pointer only to reach
        // the bytes of this `FakeTcb`.
        unsafe { core::arch::asm!("msr tpidr_el0, {}", in(reg) tcb, options(nostack, preserves_flags)) };
    }
}

/// On other machines and with other C libraries every child is forked.
#[cfg(not(all(target_env = "musl", any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod machine {
    pub(super) const IS_SUPPORTED: bool = false;

    pub(super) fn set_thread_pointer(_: *const super::c_void) {}
}

impl<S: ChildSetup> ChildMemory<S> {
    /// Maps memory for a child that runs `setup`. The memory is not taken from the heap, because the memory of a
    /// hundred children at once would fragment the heap.
    ///
    /// # Errors
    /// Returns the errno of mmap(2).
    pub(super) fn new(setup: S) -> Result<Self, Errno> {
        const {
            assert!(size_of::<ChildBlock<S>>() <= MAPPING_SIZE - MIN_STACK_SIZE);
            assert!(Self::STACK_SIZE.is_multiple_of(align_of::<ChildBlock<S>>()));
            // mmap(2) aligns the mapping to pages, and to nothing larger.
            assert!(align_of::<ChildBlock<S>>() <= 4096);
        }
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: the kernel chooses an address range that nothing else uses.
        let mapping = unsafe { libc::mmap(null_mut(), MAPPING_SIZE, access, kind, -1, 0) };
        let mapping =
            NonNull::new(mapping).filter(|_| mapping != libc::MAP_FAILED).ok_or_else(Errno::last)?;
        // SAFETY: STACK_SIZE is less than the size of the mapping.
        let block = unsafe { mapping.byte_add(Self::STACK_SIZE) }.cast();
        // SAFETY: from `block` to the end of the mapping there are as many bytes as a `ChildBlock` has, and the
        // assertions above make the address a multiple of the alignment of `ChildBlock`.
        unsafe { block.write(ChildBlock { setup, status: None, tcb: FakeTcb::new() }) };
        Ok(Self(block))
    }
}

impl<S> ChildMemory<S> {
    const STACK_SIZE: usize = MAPPING_SIZE - size_of::<ChildBlock<S>>();

    fn block(&mut self) -> &mut ChildBlock<S> {
        // SAFETY: `new` has initialised the block. No child uses the block. While a child may use it, the `ChildMemory`
        // is in an `ExecStatusPipe`, which gives the `ChildMemory` back only after the child's exec or exit.
        unsafe { self.0.as_mut() }
    }

    /// Replaces the setup, so that the memory can be used for the next child.
    pub(super) fn replace_setup(&mut self, setup: S) {
        self.block().setup = setup;
    }
}

impl<S> Drop for ChildMemory<S> {
    fn drop(&mut self) {
        // SAFETY: `new` has initialised the block, and no child uses the block: while there may be a child,
        // `ExecStatusPipe` prevents this drop.
        unsafe { self.0.drop_in_place() };
        // SAFETY: `new` has placed the block STACK_SIZE bytes above the start of the mapping.
        let mapping = unsafe { self.0.byte_sub(Self::STACK_SIZE) };
        // SAFETY: nothing refers to the mapping any more.
        unsafe { libc::munmap(mapping.as_ptr().cast(), MAPPING_SIZE) };
    }
}

/// Creates a child that leads its own process group and runs the setup in `memory`. Does not wait for the
/// child.
///
/// # Errors
/// Returns the errno of pipe2(2) or clone(2).
pub(super) fn spawn_with_status<S: ChildSetup>(
    mut memory: ChildMemory<S>,
) -> Result<(Pid, ExecStatusPipe<S>), SpawnError> {
    let (failures, status) = failure_pipe().map_err(SpawnError::Pipe)?;
    // SAFETY: only the child uses this value. `status` stays open until the child has been created, and the
    // child closes its own copy only by its exec or its exit.
    memory.block().status = Some(unsafe { BorrowedFd::borrow_raw(status.as_raw_fd()) });
    let child = create_child(&mut memory).map_err(SpawnError::Fork)?;
    let pipe = ExecStatusPipe { failures, memory: ManuallyDrop::new(memory) };
    set_process_group(child.number());
    Ok((child, pipe))
}

fn create_child<S: ChildSetup>(memory: &mut ChildMemory<S>) -> Result<Pid, Errno> {
    let shares_memory = MAY_SHARE_MEMORY && machine::IS_SUPPORTED && !memory.block().setup.changes_user();
    let block = memory.0.as_ptr().cast::<c_void>();
    if shares_memory {
        let flags = libc::CLONE_VM | libc::SIGCHLD;
        // SAFETY: the child keeps the rules at the top of this file. Its stack is the part of the mapping below
        // `block`. The caller passes the mapping to an `ExecStatusPipe`, which keeps the mapping while the child may
        // use it.
        let pid = unsafe { libc::clone(child_main::<S>, block, flags, block) };
        if pid != -1 || !is_clone_vm_refused(Errno::last()) {
            return Pid::new(pid).ok_or_else(Errno::last);
        }
    }
    // SAFETY: rsup has one thread, so no other thread holds a lock when the memory is copied.
    let child = unsafe { raw_fork(libc::SIGCHLD) }?;
    if child.is_none() {
        child_main::<S>(block);
    }
    // Only the parent reaches this line, because `child_main` does not return.
    child.ok_or(Errno::EAGAIN)
}

extern "C" fn child_main<S: ChildSetup>(block: *mut c_void) -> c_int {
    const { assert!(!needs_drop::<ExecFailure>()) };
    // SAFETY: `block` is the address of a `ChildBlock` that `create_child` has passed. No other process
    // writes to the block until this child has executed its program or exited, and the child itself writes
    // only to fields in an `UnsafeCell`.
    let block = unsafe { &*block.cast::<ChildBlock<S>>() };
    // This call comes first: every later system call may set errno, and must not set rsup's errno.
    block.tcb.install();
    set_process_group(0);
    if let Some(status) = block.status {
        let Err(failure) = block.setup.run(status);
        report_failure(status, failure);
    }
    // SAFETY: _exit(2) takes a number; unlike exit(3) it runs no exit handlers of the parent.
    unsafe { libc::_exit(127) }
}

/// Reads the reports of a child, and keeps the child's memory while the child may use it. Only `reclaim` gives the
/// memory back, and only at end of file: end of file proves that the child no longer uses the memory. If this value is
/// dropped, the memory is never freed.
#[derive(Debug)]
pub struct ExecStatusPipe<S> {
    failures: FailureReader,
    memory: ManuallyDrop<ChildMemory<S>>,
}

impl<S> ExecStatusPipe<S> {
    /// Passes every report that has arrived to `receive`. Returns whether the pipe is at end of file. At end of file,
    /// the exec has failed if a report was about a step that is not [harmless](super::ExecStep::failure_allows_exec).
    /// Otherwise the exec has succeeded, or a signal has killed the child.
    #[must_use]
    pub fn read(&mut self, receive: impl FnMut(FailureReport)) -> bool {
        self.failures.read(receive)
    }

    /// Returns the child's memory if the pipe is at end of file. End of file proves that the child no longer uses
    /// this memory: an exec switches to new memory before it closes the close-on-exec descriptors, and an exit
    /// releases the memory before it closes the descriptors.
    pub(super) fn reclaim(self) -> Option<ChildMemory<S>> {
        self.failures.is_at_eof().then(|| ManuallyDrop::into_inner(self.memory))
    }
}

impl<S> AsFd for ExecStatusPipe<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.failures.as_fd()
    }
}
