//! The terminal on descriptor 0, if there is one: which process group is in its foreground.

use super::Pid;

/// Gives the terminal to this process group, if rsup's own group has it. Returns whether it did; every errno that says
/// "no terminal" is fine.
pub fn hand_over(group: Pid) -> bool {
    is_ours() && set_foreground(group.number())
}

/// Takes the terminal back from this process group, if it has it.
pub fn take_back(group: Pid) {
    if belongs_to(group) {
        // SAFETY: takes nothing, cannot fail.
        set_foreground(unsafe { libc::getpgrp() });
    }
}

/// Whether this process group is in the foreground.
#[must_use]
pub fn belongs_to(group: Pid) -> bool {
    foreground() == group.number()
}

/// Whether rsup's process group is in the foreground.
pub(super) fn is_ours() -> bool {
    // SAFETY: takes nothing, cannot fail.
    foreground() == unsafe { libc::getpgrp() }
}

/// Puts a process group in the foreground. From the background this needs SIGTTOU blocked, as rsup has everything.
/// Async-signal-safe.
pub(super) fn set_foreground(group: i32) -> bool {
    // SAFETY: numbers.
    unsafe { libc::tcsetpgrp(libc::STDIN_FILENO, group) == 0 }
}

fn foreground() -> i32 {
    // SAFETY: a number.
    unsafe { libc::tcgetpgrp(libc::STDIN_FILENO) }
}
