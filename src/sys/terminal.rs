//! The controlling terminal and its foreground process group. The functions treat every error as the answer "no",
//! because rsup may have no terminal.

use super::errno::Errno;
use super::kill::Pid;
use super::stdio::{STDIN, STDOUT, is_writable_pipe, standard_fd};
use super::system::{ignores_signal, parent};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::{getpgid, getpgrp, getppid, getsid, tcgetpgrp, tcsetpgrp};
use std::os::fd::{AsFd, BorrowedFd};

/// Returns whether rsup has a controlling terminal.
#[must_use]
pub fn has_controlling_tty() -> bool {
    on_terminal(|terminal| foreground(terminal).is_ok())
}

/// Returns whether rsup is a job of a shell with job control. Such a shell is notified when rsup stops, and can
/// continue rsup. Call this function only if rsup has a controlling terminal.
///
/// A job of a shell is never in the process group of the session leader. The command of `docker run -t` is itself the
/// session leader, so it is not a job of a shell. With `docker run --init`, an init such as tini puts the command into
/// a process group of its own, but never continues it. So this function also checks that the process that started
/// rsup's job is a shell.
#[must_use]
pub fn is_shell_job() -> bool {
    getsid(None) != Ok(getpgrp()) && job_starter().is_some_and(is_shell)
}

/// Returns the process that started rsup's job: the nearest ancestor outside rsup's own process group. A script that
/// runs rsup is in rsup's process group, so this function looks up the script's parent in /proc. Returns `None` if the
/// ancestor is outside the PID namespace, or if /proc is needed but missing.
fn job_starter() -> Option<i32> {
    let mut ancestor = getppid().as_raw();
    while ancestor > 0 && getpgid(Some(nix::unistd::Pid::from_raw(ancestor))) == Ok(getpgrp()) {
        ancestor = parent(ancestor)?;
    }
    Some(ancestor).filter(|ancestor| *ancestor > 0)
}

/// Returns whether the process `job_starter` is a shell that can continue rsup's job. If `job_starter` is PID 1, it may
/// be an init, which continues no job. PID 1 counts as a shell only if it ignores SIGTSTP: interactive shells do, and
/// tini, dumb-init and catatonit do not. If /proc is missing, PID 1 counts as an init. If rsup took an init for a shell
/// and stopped, it would stay stopped for good.
fn is_shell(job_starter: i32) -> bool {
    // A shell is in the same session as its jobs. If the shell has exited, `job_starter` is not the shell but another
    // ancestor, which may be in another session.
    getsid(Some(nix::unistd::Pid::from_raw(job_starter))) == getsid(None)
        && (job_starter != 1 || ignores_signal(1, libc::SIGTSTP))
}

/// Returns whether rsup should make the command's process group the foreground process group when it starts the
/// command. Returns true if stdin is the controlling terminal, with two exceptions:
///
/// - stdout is a pipe. The process at the other end may be a pager, which needs the terminal itself.
/// - tcgetpgrp(3) returns 0, because the foreground process group is outside the PID namespace. rsup may then be in the
///   background.
///
/// If the result is false, rsup calls [`give_foreground`] only after SIGTTIN or SIGTTOU has stopped the command.
#[must_use]
pub fn wants_foreground() -> bool {
    foreground(standard_fd(STDIN)).is_ok_and(|group| group > 0) && !is_writable_pipe(STDOUT)
}

/// Makes `group` the foreground process group if rsup's own process group is in the foreground now. Returns whether the
/// foreground process group has changed.
pub fn give_foreground(group: Pid) -> bool {
    on_terminal(|terminal| {
        foreground(terminal) == Ok(own_group()) && set_foreground(terminal, group.number())
    })
}

/// Makes rsup's own process group the foreground process group if `group` is in the foreground now.
pub fn reclaim_foreground(group: Pid) {
    on_terminal(|terminal| {
        foreground(terminal) == Ok(group.number()) && set_foreground(terminal, own_group())
    });
}

/// Returns whether rsup's own process group or `group` is the foreground process group, which gets the signals of the
/// terminal's keys.
#[must_use]
pub fn either_group_is_foreground(group: Pid) -> bool {
    on_terminal(foreground).is_ok_and(|foreground| [own_group(), group.number()].contains(&foreground))
}

/// Makes the caller's process group the foreground process group of the terminal on stdin if `group` is the foreground
/// process group now. A child calls this function between fork and exec, so it must be async-signal-safe.
pub(super) fn take_foreground_from(group: i32) {
    let stdin = standard_fd(STDIN);
    if foreground(stdin) == Ok(group) {
        set_foreground(stdin, own_group());
    }
}

/// Returns the ID of the caller's process group. Async-signal-safe.
pub(super) fn own_group() -> i32 {
    getpgrp().as_raw()
}

/// Calls `act` with the controlling terminal. Opens /dev/tty, because descriptor 0 may be another file, as in
/// `x | rsup less`. If /dev/tty cannot be opened, `act` gets descriptor 0.
fn on_terminal<T>(act: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let opened = nix::fcntl::open("/dev/tty", flags, Mode::empty());
    act(opened.as_ref().map_or_else(|_| standard_fd(STDIN), AsFd::as_fd))
}

/// Makes `group` the foreground process group. Returns whether tcsetpgrp(3) succeeded. In a background process,
/// tcsetpgrp(3) causes SIGTTOU unless this signal is blocked or ignored. rsup blocks every signal.
fn set_foreground(terminal: BorrowedFd<'_>, group: i32) -> bool {
    tcsetpgrp(terminal, nix::unistd::Pid::from_raw(group)).is_ok()
}

fn foreground(terminal: BorrowedFd<'_>) -> Result<i32, Errno> {
    tcgetpgrp(terminal).map(nix::unistd::Pid::as_raw)
}
