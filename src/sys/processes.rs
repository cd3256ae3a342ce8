//! The processes of rsup's PID namespace.

use super::directory::Names;
use super::errno::Errno;
use super::kill::Pid;
use nix::unistd::{getpgid, getpgrp, setpgid};
use std::fs;
use std::path::Path;

/// Lists the processes of rsup's PID namespace, except rsup and PID 1. (A [`Pid`] cannot represent PID 1.) Returns
/// `None` if /proc is missing, cannot be read, or belongs to another PID namespace. In another PID namespace, the
/// processes have other PIDs.
#[must_use]
pub fn processes() -> Option<Vec<Pid>> {
    let own = i32::try_from(std::process::id()).ok()?;
    let own_entry = fs::read_link("/proc/self").ok()?;
    if own_entry.to_str()?.parse() != Ok(own) {
        return None;
    }
    let numbers = Names::of(Path::new("/proc"))?.filter_map(|name| name.to_str()?.parse().ok());
    let numbers: Vec<i32> = numbers.collect();
    // A list without rsup's own PID is not complete. `numbers` is empty if a seccomp filter refuses getdents64(2).
    numbers.contains(&own).then_some(())?;
    Some(numbers.into_iter().filter(|number| *number != own).filter_map(Pid::new).collect())
}

/// Returns the ID of the process group that a process belongs to. Returns `None` if the ID is 0 or 1, because a [`Pid`]
/// cannot represent these numbers. The ID is 0 if the group is outside rsup's PID namespace.
///
/// # Errors
/// Returns the errno of getpgid(2): ESRCH if there is no such process, or the errno of a seccomp filter.
pub fn process_group(pid: Pid) -> Result<Option<Pid>, Errno> {
    let group = getpgid(Some(nix::unistd::Pid::from_raw(pid.number())))?;
    Ok(Pid::new(group.as_raw()))
}

/// Moves the calling process into a process group of its own, if it is in the group that `leader` leads.
pub fn leave_group_of(leader: i32) {
    if getpgrp().as_raw() == leader {
        let itself = nix::unistd::Pid::from_raw(0);
        // setpgid(2) fails for a session leader. A session leader already leads a process group of its own.
        let _ = setpgid(itself, itself);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_listed_and_the_process_itself_is_not() {
        let numbers: Vec<i32> = processes().unwrap().into_iter().map(Pid::number).collect();
        assert!(numbers.iter().all(|number| *number > 1));
        let parent = nix::unistd::getppid().as_raw();
        assert!(parent <= 1 || numbers.contains(&parent), "{numbers:?}");
        assert!(!numbers.contains(&nix::unistd::getpid().as_raw()), "{numbers:?}");
    }

    #[test]
    fn the_process_group_of_a_process_is_known_until_the_process_is_gone() {
        let own = Pid::new(nix::unistd::getpid().as_raw());
        assert_eq!(own.map(process_group), Some(Ok(Pid::new(nix::unistd::getpgrp().as_raw()))));
        // The kernel's limit on process IDs is 2^22.
        assert_eq!(process_group(Pid::new(1 << 23).unwrap()), Err(Errno::ESRCH));
    }
}
