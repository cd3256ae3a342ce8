//! Finds the rsup that the client controls.
//!
//! The client takes the first of these: the process that the variable `RSUP_PID` names, the nearest ancestor of the
//! client that is an rsup, process 1, and the only other process of /proc that is one. A process is an rsup if it has a
//! board that it can write. (A client has opened a board too, but only for reading.)

use super::connection::Rsup;
use super::failure::Failure;
use crate::control::board::NAME;
use crate::sys::list_directory;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::{env, process};

/// The variable that names the process to control.
const VARIABLE: &str = "RSUP_PID";
/// The bit of a link in /proc/PID/fd that says that the descriptor is open for writing.
const WRITABLE: u32 = 0o200;

/// Finds the rsup to control.
pub(super) fn find() -> Result<Rsup, Failure> {
    if let Some(value) = env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        let pid = value.to_str().and_then(|value| value.parse().ok());
        return pid.map_or(Ok(None), look_at)?.ok_or_else(|| {
            let value = value.to_string_lossy();
            Failure::other(format!("{VARIABLE}={value} is not the process ID of an rsup with control"))
        });
    }
    let mut pid = std::os::unix::process::parent_id();
    while pid > 1 {
        if let Ok(Some(rsup)) = look_at(pid) {
            return Ok(rsup);
        }
        pid = parent(pid).unwrap_or(0);
    }
    match look_at(1) {
        Ok(Some(rsup)) => Ok(rsup),
        // The errors of the processes above are found again.
        Ok(None) | Err(_) => only_one(),
    }
}

/// The only process of /proc that is an rsup and not a copy of another one.
fn only_one() -> Result<Rsup, Failure> {
    let mut found: Option<Rsup> = None;
    let mut pids = String::new();
    let mut failure = Failure::NotFound;
    // The kernel lists the processes in the order of their IDs.
    for name in list_directory(Path::new("/proc")) {
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        let rsup = match look_at(pid) {
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
            }
        }
        found = Some(rsup);
    }
    if pids.rfind(' ') > Some(0) {
        let why = format!("several rsups run (processes{pids}): set {VARIABLE} to one of them");
        return Err(Failure::other(why));
    }
    found.ok_or(failure)
}

/// Opens the board of a process. Returns `None` if the process is not an rsup, and also if the kernel does not let the
/// client look at a process that has another name than rsup.
fn look_at(pid: u32) -> Result<Option<Rsup>, Failure> {
    let directory = format!("/proc/{pid}/fd");
    let directory = Path::new(&directory);
    let board = format!("/memfd:{NAME} (deleted)");
    let mut is_refused = true;
    for name in list_directory(directory) {
        let path = directory.join(name);
        match fs::read_link(&path) {
            Ok(target) if target.as_os_str() == board.as_str() => {}
            Err(error) if error.kind() == ErrorKind::PermissionDenied => break,
            Ok(_) | Err(_) => {
                is_refused = false;
                continue;
            }
        }
        let is_writable = |link: fs::Metadata| link.mode() & WRITABLE != 0;
        if fs::symlink_metadata(&path).is_ok_and(is_writable)
            && let Some(rsup) = Rsup::open(pid, &path)?
        {
            return Ok(Some(rsup));
        }
    }
    if is_refused && is_named_rsup(pid) { Err(no_permission(pid)) } else { Ok(None) }
}

/// Whether a process that cannot be looked at has the name of rsup. (`supervisord` may be the name of a link to rsup.)
fn is_named_rsup(pid: u32) -> bool {
    let name = read(pid, "comm");
    name == "rsup\n" || (pid == 1 && name == "supervisord\n")
}

fn no_permission(pid: u32) -> Failure {
    Failure::other(format!(
        "no permission to control rsup (process {pid}): it runs as {}, and this is {}; run supervisorctl as that \
         user and group, or as root with CAP_SYS_PTRACE",
        user(pid),
        user(process::id())
    ))
}

/// The effective user and group of a process.
fn user(pid: u32) -> String {
    let ids = fs::metadata(format!("/proc/{pid}")).map(|owner| (owner.uid(), owner.gid()));
    ids.map_or_else(|_| "another user".to_owned(), |(uid, gid)| format!("uid {uid} gid {gid}"))
}

/// The parent of a process. `None` if the process has no parent in this PID namespace.
fn parent(pid: u32) -> Option<u32> {
    parent_in_stat(&read(pid, "stat")).filter(|parent| *parent > 0)
}

/// Reads the fourth field of /proc/PID/stat. The second field, the name in parentheses, may contain anything.
fn parent_in_stat(stat: &str) -> Option<u32> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The text of a file of /proc/PID, which is empty if the file cannot be read.
fn read(pid: u32, file: &str) -> String {
    let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_found_behind_any_name() {
        assert_eq!(parent_in_stat("7 (a) S 5) R 3 1"), Some(3));
        assert_eq!(parent_in_stat("7 (sh) S 0 1"), Some(0));
        assert_eq!(parent(process::id()), Some(std::os::unix::process::parent_id()));
        assert_eq!(parent(1), None);
    }

    #[test]
    fn a_process_that_does_not_exist_is_no_rsup() {
        assert!(matches!(look_at(u32::MAX), Ok(None)));
    }
}
