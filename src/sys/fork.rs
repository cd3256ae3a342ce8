//! Makes child processes. After a fork, the child has a copy of rsup's memory. After a vfork, the child uses rsup's own
//! memory, and rsup is suspended meanwhile.
//!
//! [`super::clone_vm`] starts the programs of a configuration file, and uses [`raw_fork`] where clone(2) with
//! `CLONE_VM` is not possible. In one-command mode, rsup runs one command and no configuration file. [`vfork_exec`],
//! which suspends rsup until the exec, may start this command, because rsup has nothing else to do until then.

use super::errno::{Errno, cvt};
use super::kill::Pid;
use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};

/// Whether children may use rsup's memory (`CLONE_VM`). The rustc flag `--cfg rsup_plain_fork` forbids this
/// use in one build. To forbid this use in every build, set the constant to `false`.
pub(super) const MAY_SHARE_MEMORY: bool = !cfg!(rsup_plain_fork);

/// Why a child could not be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpawnError {
    /// pipe2(2) failed, or fcntl(2) for a pipe of an event listener.
    Pipe(Errno),
    /// clone(2) failed, or mmap(2) for the child's stack.
    Fork(Errno),
}

/// Forks a process that leads its own process group and runs `run_child`, which either executes another program or
/// returns the exit status.
///
/// # Errors
/// Returns the errno of clone(2).
pub(super) fn fork_exec(run_child: impl FnOnce() -> u8) -> Result<Pid, Errno> {
    // SAFETY: rsup has one thread, so no other thread holds a lock when the memory is copied.
    let Some(pid) = unsafe { raw_fork(libc::SIGCHLD) }? else {
        let status = lead_group_and_run(run_child);
        // SAFETY: _exit(2) takes a number; unlike exit(3) it runs no exit handlers of the parent.
        unsafe { libc::_exit(status) }
    };
    set_process_group(pid.number());
    Ok(pid)
}

/// Returns whether `errno`, set by clone(2) with `CLONE_VM`, means that the flag was refused and that fork(2) may still
/// work. qemu-user and seccomp filters refuse the flag, each with an errno of its own. So every errno counts except
/// EAGAIN and ENOMEM: these two mean that no process can be created at all.
pub(super) fn is_clone_vm_refused(errno: Errno) -> bool {
    ![Errno::EAGAIN, Errno::ENOMEM].contains(&errno)
}

/// Does the same as [`fork_exec`], but suspends rsup until the child executes another program or exits. Until then
/// the child uses rsup's memory, and may allocate there. This call is faster than a fork, because a fork copies rsup's
/// memory. With a fork, this copying would be a third of the delay that rsup adds to the start of the command. If the
/// kernel refuses `CLONE_VM`, the child is forked.
///
/// # Errors
/// Returns the errno of clone(2).
pub(super) fn vfork_exec<F: FnOnce() -> u8>(run_child: F) -> Result<Pid, Errno> {
    extern "C" fn child_main<F: FnOnce() -> u8>(closure: *mut c_void) -> c_int {
        // SAFETY: `closure` points to the local variable `run_child` of `vfork_exec`. Only the child uses this
        // variable, because the call of `vfork_exec` in rsup is suspended.
        let run_child = unsafe { &mut *closure.cast::<Option<F>>() };
        run_child.take().map_or(0, lead_group_and_run)
    }
    if !MAY_SHARE_MEMORY {
        return fork_exec(run_child);
    }
    let mut run_child = Some(run_child);
    // The stack grows downwards on every machine that rsup is built for.
    // SAFETY: one past the end of the array is still within the bounds that `add` allows.
    let stack_top = unsafe { STACK.0.get().add(1) };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: CLONE_VFORK suspends rsup, which has one thread, until the child stops using the memory. So
    // only the child uses `STACK` and `run_child` meanwhile, and both stay valid for as long as the child uses
    // them.
    let pid = unsafe { libc::clone(child_main::<F>, stack_top.cast(), flags, (&raw mut run_child).cast()) };
    match (Pid::new(pid), Errno::last(), run_child) {
        (Some(pid), _, _) => Ok(pid),
        (None, errno, Some(run_child)) if is_clone_vm_refused(errno) => fork_exec(run_child),
        (None, errno, _) => Err(errno),
    }
}

fn lead_group_and_run(run_child: impl FnOnce() -> u8) -> c_int {
    set_process_group(0);
    run_child().into()
}

/// Makes a process the leader of its own process group; the number 0 means the caller. After a fork, or a clone(2)
/// without `CLONE_VFORK`, both the parent and the child call this function, so that a signal to the group reaches the
/// child, no matter which of the two processes runs first. After a vfork, only the child calls this function, because
/// the parent is suspended until the child's exec or exit. Async-signal-safe.
pub(super) fn set_process_group(pid: i32) {
    let pid = nix::unistd::Pid::from_raw(pid);
    // setpgid(2) fails in the parent if the child has already executed its program. In that case the child
    // itself has called setpgid(2).
    let _ = nix::unistd::setpgid(pid, pid);
}

/// The stack of the child of [`vfork_exec`]: enough for a few nested calls and the formatting of one line of text.
/// The stack is not a local array of `vfork_exec`, because Rust's stack probes would touch every page of such an array,
/// and each page would cost a page fault.
static STACK: Stack = Stack(UnsafeCell::new([0; 16 * 1024]));

/// The ABIs of x86_64 and aarch64 require this alignment of a stack.
#[repr(align(16))]
struct Stack(UnsafeCell<[u8; 16 * 1024]>);

// SAFETY: only the child of `vfork_exec` uses the array, and rsup is suspended while there is such a child.
unsafe impl Sync for Stack {}

/// Forks rsup by a direct call of clone(2). libc's fork() is not used: if rt_sigprocmask(2) fails in musl's fork(),
/// rsup's signal mask can be wrong afterwards. The kernel sends rsup the signal `exit_signal` when the child exits, and
/// no signal if `exit_signal` is 0. Returns the child's ID in the parent, and `None` in the child.
///
/// # Safety
/// Only the calling thread exists in the child. A lock that another thread held at the time of the call stays locked
/// in the child, so the child must not wait for such a lock.
///
/// # Errors
/// Returns the errno of clone(2).
pub(super) unsafe fn raw_fork(exit_signal: c_int) -> Result<Option<Pid>, Errno> {
    let flags = libc::c_long::from(exit_signal);
    // A null pointer means that the child continues on its copy of the parent's stack.
    let stack: libc::c_long = 0;
    let [first, second] = if cfg!(target_arch = "s390x") { [stack, flags] } else { [flags, stack] };
    // SAFETY: without CLONE_VM the child gets a copy of the memory, so the child cannot change the parent's
    // memory. The last three arguments of clone(2) are null pointers, which the kernel does not use without the flags
    // that belong to them.
    let pid = cvt(unsafe { libc::syscall(libc::SYS_clone, first, second, 0, 0, 0) })?;
    Ok(i32::try_from(pid).ok().and_then(Pid::new))
}
