//! Children: the list of them, and the changes of state that waitpid(2) reports.
//!
//! nix's `waitpid` cannot be used: it fails when a real-time signal has killed the child, after the kernel has already
//! reaped that child. `libc::waitpid` returns the status of every child.

use super::errno::{Errno, cvt};
use super::kill::Pid;
use super::poll::back_off;
use std::fs;

/// What waitpid(2) reports about a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitStatus {
    /// The child has exited with this exit status.
    Exited(u8),
    /// A signal has killed the child; `core` says whether the child has dumped core.
    Signaled { signal: i32, core: bool },
    /// This signal has stopped the child, which is still alive.
    Stopped(i32),
    /// A status that waitpid(2) does not describe.
    Other,
}

/// A child that has changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildStatus {
    /// The kernel may use this number again, unless the child is only stopped.
    pub pid: Pid,
    pub status: WaitStatus,
}

/// Reaps one dead child, or reports one stopped child, without waiting. Returns `None` if there is neither.
///
/// The kernel searches the list of all children. With a thousand living children, a search that finds nothing takes
/// longer than the start of a program.
///
/// # Errors
/// Returns ECHILD if rsup has no child. Any other errno should be impossible: the call is repeated once after 50 ms,
/// and returns the errno of the second attempt. There may still be dead children then.
pub fn wait_any() -> Result<Option<ChildStatus>, Errno> {
    match waitpid_any() {
        // Without a second attempt, the child would stay a zombie until the next SIGCHLD.
        Err(errno) if errno != Errno::ECHILD => {
            back_off();
            waitpid_any()
        }
        result => result,
    }
}

fn waitpid_any() -> Result<Option<ChildStatus>, Errno> {
    const ANY_CHILD: i32 = -1;
    let mut status = 0;
    // SAFETY: waitpid(2) writes one int to `status`, which is an int and stays valid during the call.
    let pid = unsafe { libc::waitpid(ANY_CHILD, &raw mut status, libc::WNOHANG | libc::WUNTRACED) };
    cvt(pid.into())?;
    Ok(Pid::new(pid).map(|pid| ChildStatus { pid, status: decode(status) }))
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

/// Lists the children of rsup, zombies included. Returns `None` if the kernel does not list them: without /proc, or
/// built without CONFIG_PROC_CHILDREN.
#[must_use]
pub fn children() -> Option<Vec<Pid>> {
    // rsup has one thread, so the children of the thread are all children.
    fs::read_to_string("/proc/thread-self/children").ok().map(|list| parse_children(&list))
}

fn parse_children(list: &str) -> Vec<Pid> {
    list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).filter_map(Pid::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_status_is_decoded() {
        for code in 0..=u8::MAX {
            assert_eq!(decode(i32::from(code) << 8), WaitStatus::Exited(code));
        }
    }

    #[test]
    fn a_death_by_any_signal_is_decoded_including_real_time_signals() {
        for signal in 1..=64 {
            assert_eq!(decode(signal), WaitStatus::Signaled { signal, core: false });
            assert_eq!(decode(signal | 0x80), WaitStatus::Signaled { signal, core: true });
        }
    }

    #[test]
    fn every_signal_that_stops_is_decoded() {
        for signal in [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU] {
            assert_eq!(decode(signal << 8 | 0x7f), WaitStatus::Stopped(signal));
        }
    }

    #[test]
    fn the_status_of_a_continued_child_is_decoded_as_other() {
        assert_eq!(decode(0xffff), WaitStatus::Other);
    }

    #[test]
    fn the_kernels_list_of_children_is_parsed() {
        let pids = |numbers: &[i32]| numbers.iter().copied().filter_map(Pid::new).collect::<Vec<_>>();
        assert_eq!(parse_children(""), []);
        assert_eq!(parse_children("12 345 6789 "), pids(&[12, 345, 6789]));
        assert_eq!(parse_children("1 x 99999999999 7\n"), pids(&[7]));
    }
}
