//! Process IDs and signals to processes.

use super::errno::{Errno, cvt};
use super::system::is_pid1;
use std::num::NonZeroI32;

/// A process or process group above 1: the numbers by which `kill` can hit a stranger (-1, 0, 1) cannot be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pid(NonZeroI32);

impl Pid {
    /// The process of this number, if it can be one of ours.
    #[must_use]
    pub fn new(number: i32) -> Option<Self> {
        NonZeroI32::new(number).filter(|number| number.get() > 1).map(Self)
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0.get()
    }
}

fn raw_kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: two numbers; whom they hit is the caller's care, who has a `Pid` or means everything.
    cvt(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// Sends a signal to a process.
///
/// # Errors
/// Of `kill(2)`.
pub fn kill(pid: Pid, signal: i32) -> Result<(), Errno> {
    raw_kill(pid.number(), signal)
}

/// Sends a signal to a process group.
///
/// # Errors
/// Of `kill(2)`.
pub fn killpg(group: Pid, signal: i32) -> Result<(), Errno> {
    raw_kill(-group.number(), signal)
}

/// Whether the process group has a member, be it a zombie or somebody we may not signal.
#[must_use]
pub fn group_exists(group: Pid) -> bool {
    raw_kill(-group.number(), 0) != Err(Errno::ESRCH)
}

/// Sends a signal to rsup itself.
pub fn kill_self(signal: i32) {
    // SAFETY: takes nothing, cannot fail.
    let own = unsafe { libc::getpid() };
    // It is our own to signal.
    let _ = raw_kill(own, signal);
}

/// Sends a signal to rsup's own process group: to rsup itself, and to the others of a pipeline or script.
pub fn kill_own_group(signal: i32) {
    // It has us as a member.
    let _ = raw_kill(0, signal);
}

/// Sends a signal to everything in the PID namespace but rsup. Only process 1 may mean that: to others it is the whole
/// machine.
///
/// # Errors
/// EPERM where rsup is not process 1, else of `kill(2)`.
pub fn kill_all(signal: i32) -> Result<(), Errno> {
    if is_pid1() { raw_kill(-1, signal) } else { Err(Errno::EPERM) }
}
