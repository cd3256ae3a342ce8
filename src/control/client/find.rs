//! Finds the rsup that the client controls.
//!
//! If `RSUP_PID` is set, the client uses only that process. Otherwise it uses the nearest ancestor that is an rsup,
//! then process 1, then the only other rsup in /proc. A process is an rsup if it has a board open for writing. (A
//! client has opened a board too, but only for reading.)
//!
//! Any process can have a file that looks like a board. So the client considers only processes of its own user and of
//! root, unless the variable names the process or it is process 1.

use super::failure::Failure;
use super::running_rsup::{Rsup, deadline};
use crate::control::board::LINK;
use crate::sys::{list_directory, parent};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::{env, process};

/// The variable that names the process to control.
const VARIABLE: &str = "RSUP_PID";
/// The bit of a link in /proc/PID/fd that says that the descriptor is open for writing.
const OPEN_FOR_WRITING: u32 = 0o200;

/// Finds the rsup to control.
pub(super) fn find() -> Result<Rsup, Failure> {
    if let Some(value) = env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        let pid = value.to_str().and_then(|value| value.parse().ok());
        return pid.map_or(Ok(None), |pid| open_board_of(pid, deadline()))?.ok_or_else(|| {
            let value = value.to_string_lossy();
            Failure::other(format!("{VARIABLE}={value} is not the process ID of an rsup with control"))
        });
    }
    // The processes share one deadline, so that many boards that are never complete take no more time than one.
    let search = Search { user: owner(own_pid()).map(|(user, _)| user), deadline: deadline() };
    let mut pid = parent(own_pid()).unwrap_or(0);
    while pid > 1 {
        if let Some(rsup) = search.open_if_trusted(pid)? {
            return Ok(rsup);
        }
        pid = parent(pid).unwrap_or(0);
    }
    match search.open_if_trusted(1)? {
        Some(rsup) => Ok(rsup),
        None => search.only_one(),
    }
}

/// The search for an rsup if the user has not set [`VARIABLE`].
struct Search {
    /// The effective user of the client.
    user: Option<u32>,
    deadline: u64,
}

impl Search {
    /// Looks at a process if it is process 1, or belongs to root or to the client's user. Another user may have forged
    /// a board.
    fn open_if_trusted(&self, pid: i32) -> Result<Option<Rsup>, Failure> {
        let user = owner(pid).map(|(user, _)| user);
        if pid == 1 || user == Some(0) || user == self.user {
            open_board_of(pid, self.deadline)
        } else {
            Ok(None)
        }
    }

    /// The only rsup among the processes of /proc. A child that rsup has forked and that has not executed its program
    /// yet does not count as a second rsup.
    fn only_one(&self) -> Result<Rsup, Failure> {
        let mut found: Option<Rsup> = None;
        let mut pids = String::new();
        let mut count = 0;
        let mut failure = Failure::RsupNotFound;
        // The kernel lists the processes in the order of their IDs, so an rsup normally comes before its children.
        for name in list_directory(Path::new("/proc")) {
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            let rsup = match self.open_if_trusted(pid) {
                Ok(Some(rsup)) => rsup,
                Ok(None) => continue,
                Err(why) => {
                    failure = why;
                    continue;
                }
            };
            // A child that has not executed its program yet has a copy of each descriptor of rsup.
            match &found {
                Some(first) if first.run == rsup.run && parent(first.pid) != Some(pid) => continue,
                Some(first) if first.run == rsup.run => {}
                _ => {
                    pids.push(' ');
                    pids.push_str(&pid.to_string());
                    count += 1;
                }
            }
            found = Some(rsup);
        }
        if count > 1 {
            let why = format!("several rsups run (processes{pids}): set {VARIABLE} to one of them");
            return Err(Failure::other(why));
        }
        found.ok_or(failure)
    }
}

/// Opens the board of a process. Returns `None` if the process is not an rsup. If the kernel refuses access, returns an
/// error if the process has the name of rsup (`is_named_rsup`), and otherwise `None`.
fn open_board_of(pid: i32, deadline: u64) -> Result<Option<Rsup>, Failure> {
    let directory = format!("/proc/{pid}/fd");
    let directory = Path::new(&directory);
    let mut is_refused = true;
    for name in list_directory(directory) {
        let path = directory.join(name);
        match fs::read_link(&path) {
            Ok(target) if target.as_os_str() == LINK => {}
            Err(error) if error.kind() == ErrorKind::PermissionDenied => break,
            Ok(_) | Err(_) => {
                is_refused = false;
                continue;
            }
        }
        let is_open_for_writing = |link: fs::Metadata| link.mode() & OPEN_FOR_WRITING != 0;
        if fs::symlink_metadata(&path).is_ok_and(is_open_for_writing)
            && let Some(rsup) = Rsup::open(pid, &path, deadline)?
        {
            return Ok(Some(rsup));
        }
    }
    if is_refused && is_named_rsup(pid) { Err(no_permission(pid)) } else { Ok(None) }
}

/// Whether a process that cannot be looked at has the name of rsup. The name `supervisord` is accepted only for PID 1.
/// PID 1 with this name was probably started through a link to rsup. Another process with this name may be the real
/// supervisord. A zombie is not accepted.
fn is_named_rsup(pid: i32) -> bool {
    let is_rsup = |name: Vec<u8>| name == b"rsup\n" || (pid == 1 && name == b"supervisord\n");
    // Every user may read this file, and it is empty for a zombie.
    let is_alive = fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| !words.is_empty());
    is_alive && fs::read(format!("/proc/{pid}/comm")).is_ok_and(is_rsup)
}

fn no_permission(pid: i32) -> Failure {
    Failure::other(format!(
        "no permission to control rsup (process {pid}): it runs as {}, and this is {}; run supervisorctl as that \
         user and group, or as root with CAP_SYS_PTRACE",
        user(pid),
        user(own_pid())
    ))
}

fn own_pid() -> i32 {
    process::id().cast_signed()
}

/// The effective user and group of a process in words.
fn user(pid: i32) -> String {
    owner(pid).map_or_else(|| "another user".to_owned(), |(user, group)| format!("uid {user} gid {group}"))
}

/// The effective user and group of a process.
fn owner(pid: i32) -> Option<(u32, u32)> {
    let directory = fs::metadata(format!("/proc/{pid}")).ok()?;
    Some((directory.uid(), directory.gid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_does_not_exist_is_no_rsup() {
        assert!(matches!(open_board_of(i32::MAX, 0), Ok(None)));
    }

    #[test]
    fn the_own_process_has_an_owner() {
        let (user, group) = owner(own_pid()).unwrap();
        assert_eq!(super::user(own_pid()), format!("uid {user} gid {group}"));
        assert_eq!(super::user(i32::MAX), "another user");
    }

    #[test]
    fn only_process_1_is_considered_if_no_process_has_the_right_user() {
        let search_of_another_user = Search { user: Some(u32::MAX), deadline: 0 };
        let is_root = owner(own_pid()).is_some_and(|(user, _)| user == 0);
        let is_ignored = matches!(search_of_another_user.open_if_trusted(own_pid()), Ok(None));
        assert!(is_ignored || is_root);
    }
}
