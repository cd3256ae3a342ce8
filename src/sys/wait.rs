//! ChildStatus children. `libc::waitpid` and not nix's, which fails on a death by a real-time signal, after the kernel has
//! already let the child go.

use super::errno::{Errno, cvt};
use super::kill::Pid;
use super::poll::back_off;
use std::fs;

/// What `waitpid` says of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitStatus {
    /// It called exit.
    Exited(u8),
    /// A signal ended it.
    Signaled {
        /// Its number.
        signal: i32,
        /// Whether it left a core dump.
        core: bool,
    },
    /// A signal stopped it; it lives.
    Stopped(i32),
    /// Nothing that waitpid(2) knows.
    Other,
}

/// A child that has changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildStatus {
    /// Which; its number is free again unless it is only stopped.
    pub pid: Pid,
    /// How.
    pub status: WaitStatus,
}

/// Takes one child that has died or stopped, without waiting: `Ok(None)` when there is none now. The kernel looks for it
/// among all children: of a thousand that live it takes longer to find none than to start one.
///
/// # Errors
/// ECHILD when there is no child at all. No other is known; after another there may be more to take.
pub fn wait_any() -> Result<Option<ChildStatus>, Errno> {
    match waitpid_any() {
        // The next SIGCHLD may be a long way off.
        Err(errno) if errno != Errno::ECHILD => {
            back_off();
            waitpid_any()
        }
        taken => taken,
    }
}

fn waitpid_any() -> Result<Option<ChildStatus>, Errno> {
    const ANY_CHILD: i32 = -1;
    let mut status = 0;
    // SAFETY: `status` is a valid place for the one int that is written.
    let pid = unsafe { libc::waitpid(ANY_CHILD, &raw mut status, libc::WNOHANG | libc::WUNTRACED) };
    let (pid, status) = (cvt(pid.into())?, status);
    Ok(i32::try_from(pid).ok().and_then(Pid::new).map(|pid| ChildStatus { pid, status: decode(status) }))
}

fn decode(status: i32) -> WaitStatus {
    if libc::WIFEXITED(status) {
        WaitStatus::Exited(u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(u8::MAX))
    } else if libc::WIFSIGNALED(status) {
        WaitStatus::Signaled { signal: libc::WTERMSIG(status), core: libc::WCOREDUMP(status) }
    } else if libc::WIFSTOPPED(status) {
        WaitStatus::Stopped(libc::WSTOPSIG(status))
    } else {
        WaitStatus::Other
    }
}

/// The living and dead children of rsup; none where there is no /proc to list them.
#[must_use]
pub fn children() -> Option<Vec<Pid>> {
    let children = fs::read_to_string("/proc/thread-self/children").ok()?;
    Some(children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).filter_map(Pid::new).collect())
}
