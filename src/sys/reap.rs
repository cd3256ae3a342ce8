//! Dead children. `libc::waitpid` and not nix's, which fails on a death by a real-time signal, after the kernel has
//! already let the child go.

use super::wait::pause;
use super::{Errno, Pid, check};

/// What `waitpid` says of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
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
pub struct Dead {
    /// Which; its number is free again unless it is only stopped.
    pub pid: Pid,
    /// How.
    pub status: Status,
}

/// Takes one child that has died or stopped, without waiting: `Ok(None)` when there is none now. The kernel looks for it
/// among all children: of a thousand that live it takes longer to find none than to start one.
///
/// # Errors
/// ECHILD when there is no child at all. No other is known; after another there may be more to take.
pub fn reap() -> Result<Option<Dead>, Errno> {
    const ANY: i32 = -1;
    match wait(ANY) {
        // The next SIGCHLD may be a long way off.
        Err(errno) if errno != Errno::ECHILD => {
            pause();
            wait(ANY)
        }
        taken => taken,
    }
}

/// Takes this child if it has died or stopped, without waiting.
#[must_use]
pub fn reap_child(child: Pid) -> Option<Dead> {
    wait(child.number()).unwrap_or(None)
}

fn wait(target: i32) -> Result<Option<Dead>, Errno> {
    let mut status = 0;
    // SAFETY: `status` is a valid place for the one int that is written.
    let pid = unsafe { libc::waitpid(target, &raw mut status, libc::WNOHANG | libc::WUNTRACED) };
    let (pid, status) = (check(pid.into())?, status);
    Ok(i32::try_from(pid).ok().and_then(Pid::new).map(|pid| Dead { pid, status: decode(status) }))
}

fn decode(status: i32) -> Status {
    if libc::WIFEXITED(status) {
        Status::Exited(u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(u8::MAX))
    } else if libc::WIFSIGNALED(status) {
        Status::Signaled { signal: libc::WTERMSIG(status), core: libc::WCOREDUMP(status) }
    } else if libc::WIFSTOPPED(status) {
        Status::Stopped(libc::WSTOPSIG(status))
    } else {
        Status::Other
    }
}
