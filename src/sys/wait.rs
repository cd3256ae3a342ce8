//! Children: the list of them, and the changes of state that waitpid(2) reports.
//!
//! nix's `waitpid` cannot be used. It returns an error if a real-time signal has killed a child, although the kernel
//! has reaped the child. The child's PID and status are then lost. `libc::waitpid` returns the status of every child.

use super::errno::{Errno, cvt};
use super::kill::Pid;
use super::poll::back_off;
use std::fs;
use std::mem::MaybeUninit;

/// What waitpid(2) reports about a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitStatus {
    /// The child has exited with this exit status.
    Exited(u8),
    /// A signal has killed the child; `core` says whether the child has dumped core.
    Signaled { signal: i32, core: bool },
    /// This signal has stopped the child, which is still alive.
    Stopped(i32),
    /// Any other status, such as that of a continued child. rsup does not ask the kernel to report such a status.
    /// `RelayChild::reap` returns this value if waitpid(2) fails.
    Other,
}

/// A child that has changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildStatus {
    /// The PID of the child. If the child has ended, it is reaped already, and the kernel may use this PID again.
    pub pid: Pid,
    pub status: WaitStatus,
}

/// Reaps one dead child, or reports one stopped child, without waiting. Returns `None` if there is neither.
///
/// The kernel searches the list of all children in every call. If a thousand children live, a call that returns `None`
/// takes longer than the start of a program. So do not call this function more often than necessary.
///
/// # Errors
/// Returns ECHILD if rsup has no child. Any other errno of waitpid(2) means that a seccomp filter refuses waitpid(2).
/// This function then calls waitid(2) instead. If the filter refuses waitid(2) as well, this function waits 50 ms and
/// returns the errno of waitid(2). In this case zombies may be left.
pub fn wait_any() -> Result<Option<ChildStatus>, Errno> {
    match waitpid_any() {
        // A seccomp filter refuses waitpid(2). Without waitid(2), rsup could not reap any child.
        Err(errno) if errno != Errno::ECHILD => waitid_any().inspect_err(|errno| {
            if *errno != Errno::ECHILD {
                back_off();
            }
        }),
        result => result,
    }
}

fn waitid_any() -> Result<Option<ChildStatus>, Errno> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WSTOPPED | libc::WNOHANG;
    // SAFETY: waitid(2) writes one siginfo, and `info` is one that lives through the call.
    cvt(unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options) }.into())?;
    // SAFETY: all bytes are initialised (zero where the kernel has written nothing), and a siginfo consists of integers
    // and of pointers that this function does not read.
    let info = unsafe { info.assume_init() };
    // SAFETY: every byte of the union is initialised, and `si_pid` is an integer, for which all bytes are valid.
    let pid = unsafe { info.si_pid() };
    // SAFETY: every byte of the union is initialised, and `si_status` is an integer, for which all bytes are valid.
    let value = unsafe { info.si_status() };
    Ok(Pid::new(pid).map(|pid| ChildStatus { pid, status: status_of_siginfo(info.si_code, value) }))
}

fn status_of_siginfo(code: i32, value: i32) -> WaitStatus {
    match code {
        libc::CLD_EXITED => WaitStatus::Exited(u8::try_from(value).unwrap_or(u8::MAX)),
        libc::CLD_KILLED | libc::CLD_DUMPED => {
            WaitStatus::Signaled { signal: value, core: code == libc::CLD_DUMPED }
        }
        libc::CLD_STOPPED => WaitStatus::Stopped(value),
        _ => WaitStatus::Other,
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

pub(super) fn decode(status: i32) -> WaitStatus {
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

/// Lists the children of rsup, zombies included. Returns `None` if /proc is missing, or if the kernel was built without
/// CONFIG_PROC_CHILDREN.
#[must_use]
pub fn children() -> Option<Vec<Pid>> {
    // rsup has one thread, so this file lists all children of rsup.
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
    fn waitid_reports_what_waitpid_reports() {
        for code in 0..=u8::MAX {
            assert_eq!(status_of_siginfo(libc::CLD_EXITED, code.into()), WaitStatus::Exited(code));
        }
        for signal in 1..=64 {
            let killed = |core| WaitStatus::Signaled { signal, core };
            assert_eq!(status_of_siginfo(libc::CLD_KILLED, signal), killed(false));
            assert_eq!(status_of_siginfo(libc::CLD_DUMPED, signal), killed(true));
            assert_eq!(status_of_siginfo(libc::CLD_STOPPED, signal), WaitStatus::Stopped(signal));
        }
        assert_eq!(status_of_siginfo(libc::CLD_CONTINUED, libc::SIGCONT), WaitStatus::Other);
    }

    #[test]
    fn the_kernels_list_of_children_is_parsed() {
        let pids = |numbers: &[i32]| numbers.iter().copied().filter_map(Pid::new).collect::<Vec<_>>();
        assert_eq!(parse_children(""), []);
        assert_eq!(parse_children("12 345 6789 "), pids(&[12, 345, 6789]));
        assert_eq!(parse_children("1 x 99999999999 7\n"), pids(&[7]));
    }
}
