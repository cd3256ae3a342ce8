//! Process IDs, and the signals that rsup sends.

use super::errno::{Errno, cvt};
use super::system::is_pid1;
use std::num::NonZeroI32;

/// A process ID or process group ID greater than 1. PID 1 and the arguments that have a special meaning to kill(2)
/// (0, -1 and the other negative numbers) cannot be represented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pid(NonZeroI32);

impl Pid {
    /// Returns `None` for a number below 2.
    #[must_use]
    pub fn new(number: i32) -> Option<Self> {
        NonZeroI32::new(number).filter(|number| number.get() > 1).map(Self)
    }

    #[must_use]
    pub fn number(self) -> i32 {
        self.0.get()
    }
}

/// Calls kill(2). Unlike a [`Pid`], `pid` may be 1, and may have a special meaning to kill(2): 0, -1 or the negative ID
/// of a process group.
fn raw_kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: kill(2) takes two integers and reads or writes no memory of rsup.
    cvt(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// Sends a signal to a process.
///
/// # Errors
/// Returns the errno of kill(2).
pub fn kill(pid: Pid, signal: i32) -> Result<(), Errno> {
    raw_kill(pid.number(), signal)
}

/// Sends a signal to every member of a process group.
///
/// # Errors
/// Returns the errno of kill(2): EPERM only if rsup may signal none of the members.
pub fn killpg(group: Pid, signal: i32) -> Result<(), Errno> {
    raw_kill(-group.number(), signal)
}

/// Sends a signal to the process group whose ID is `leader`. `leader` must be a child that rsup has not reaped. If a
/// seccomp filter has refused setpgid(2), there is no such group, and only the process `leader` gets the signal.
///
/// # Errors
/// Returns the errno of kill(2): EPERM only if rsup may signal none of the members.
pub fn killpg_or_kill(leader: Pid, signal: i32) -> Result<(), Errno> {
    match killpg(leader, signal) {
        Err(Errno::ESRCH) => kill(leader, signal),
        result => result,
    }
}

/// Returns whether a process group has a member. A zombie counts as a member, and so does a process that rsup may not
/// signal.
#[must_use]
pub fn group_exists(group: Pid) -> bool {
    raw_kill(-group.number(), 0) != Err(Errno::ESRCH)
}

/// Sends a signal to rsup itself.
pub fn kill_self(signal: i32) {
    // A process may always signal itself.
    let _ = raw_kill(nix::unistd::getpid().as_raw(), signal);
}

/// Sends a signal to rsup's own process group: to rsup, and to the other processes of its pipeline or script.
pub fn kill_own_group(signal: i32) {
    // kill(2) succeeds if it reaches one member, and rsup is a member.
    let _ = raw_kill(0, signal);
}

/// Sends a signal to every process of the PID namespace except rsup. Only PID 1 may do this: from any other process,
/// kill(-1) would also reach processes that are not descendants of rsup.
///
/// # Errors
/// Returns EPERM if rsup is not PID 1, and otherwise the errno of kill(2).
pub fn kill_all(signal: i32) -> Result<(), Errno> {
    if is_pid1() { raw_kill(-1, signal) } else { Err(Errno::EPERM) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_is_greater_than_one() {
        for number in [i32::MIN, -2, -1, 0, 1] {
            assert_eq!(Pid::new(number), None, "{number}");
        }
        for number in [2, 3, i32::MAX] {
            assert_eq!(Pid::new(number).map(Pid::number), Some(number));
        }
    }

    #[test]
    fn the_own_process_group_exists_and_an_unused_one_does_not() {
        // The kernel's limit on process IDs is 2^22.
        assert!(!group_exists(Pid::new(1 << 23).unwrap()));
        if let Some(own) = Pid::new(nix::unistd::getpgrp().as_raw()) {
            assert!(group_exists(own));
        }
    }

    #[test]
    fn only_pid_1_may_signal_every_process() {
        if !is_pid1() {
            assert_eq!(kill_all(0), Err(Errno::EPERM));
        }
    }
}
