//! The controlling terminal, if there is one: which process group is in its foreground. Every errno that says "no
//! terminal" is fine.

use super::errno::{Errno, cvt};
use super::kill::Pid;
use super::stdio;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Whether there is one.
#[must_use]
pub fn has_controlling_tty() -> bool {
    on_terminal(|fd| foreground(fd).is_ok())
}

/// Whether rsup is the job of a shell, which learns of its stop and can continue it. What has no terminal is none.
#[must_use]
pub fn has_job_control() -> bool {
    has_controlling_tty() && is_shell_job()
}

/// Whether what has a terminal is the job of a shell. What the terminal was opened for is none: it is in the group that
/// leads the session.
#[must_use]
pub fn is_shell_job() -> bool {
    // SAFETY: takes a number.
    own_group() != unsafe { libc::getsid(0) }
}

/// Whether a command is to have the terminal from its start on: where that is its stdin. What writes into a pipe is not
/// alone, and has to ask for it: the other end may be a pager, which needs it more. So has what is in a PID namespace
/// without the terminal's groups (their number is 0 there): it may be in the background.
#[must_use]
pub fn wants_foreground() -> bool {
    foreground(libc::STDIN_FILENO).is_ok_and(|group| group > 0)
        && !stdio::is_writable_pipe(libc::STDOUT_FILENO)
}

/// Gives the terminal to this process group, if rsup's own group has it. Returns whether it did.
pub fn give_foreground(group: Pid) -> bool {
    on_terminal(|fd| foreground(fd) == Ok(own_group()) && set_foreground(fd, group.number()))
}

/// Takes the terminal back from this process group, if it has it.
pub fn reclaim_foreground(group: Pid) {
    on_terminal(|fd| foreground(fd) == Ok(group.number()) && set_foreground(fd, own_group()));
}

/// Whether the terminal's keys are for rsup's own group or this one.
#[must_use]
pub fn is_foreground(group: Pid) -> bool {
    on_terminal(foreground).is_ok_and(|foreground| [own_group(), group.number()].contains(&foreground))
}

/// Takes the terminal on stdin from this process group for that of the caller. Async-signal-safe.
pub(super) fn grab_foreground(group: i32) {
    if foreground(libc::STDIN_FILENO) == Ok(group) {
        set_foreground(libc::STDIN_FILENO, own_group());
    }
}

/// Async-signal-safe.
pub(super) fn own_group() -> i32 {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::getpgrp() }
}

/// By its own name, since the descriptors may all be something else (`x | rsup less`); where there is no such name,
/// descriptor 0.
fn on_terminal<T>(act: impl FnOnce(RawFd) -> T) -> T {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let opened = nix::fcntl::open("/dev/tty", flags, Mode::empty());
    act(opened.as_ref().map_or(libc::STDIN_FILENO, OwnedFd::as_raw_fd))
}

/// From the background this needs SIGTTOU blocked, as rsup has everything.
fn set_foreground(fd: RawFd, group: i32) -> bool {
    // SAFETY: numbers.
    unsafe { libc::tcsetpgrp(fd, group) == 0 }
}

fn foreground(fd: RawFd) -> Result<i32, Errno> {
    // SAFETY: a number.
    let group = unsafe { libc::tcgetpgrp(fd) };
    cvt(group.into()).map(|_| group)
}
