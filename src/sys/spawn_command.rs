//! One command as a shell would start it: with everything that rsup was started with, in a process group of its own, and
//! with the terminal where rsup had it.

use super::fork::{CStrArray, exec, fork_exec, iter_cstrs, path_candidates, vfork_exec};
use super::signals::block_all;
use super::{Errno, ExecFailure, ExecStep, PackedCStrings, Pid, SavedMask, terminal};
use std::convert::Infallible;
use std::env;
use std::ffi::{CStr, OsString};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Where a command is looked for when PATH does not say it, as `execvp` does.
const DEFAULT_PATH: &[u8] = b"/usr/local/bin:/bin:/usr/bin";

/// Starts the command of these words, which are bytes and stay what they are; with the terminal on stdin, if it is for
/// it and rsup's group has it. Where it cannot be executed, `explain` says so in the child, which leaves with the code
/// that it returns.
///
/// # Errors
/// Of `clone(2)`.
pub fn spawn_command(
    words: &[OsString],
    inherited: SavedMask,
    terminal_is_for_it: bool,
    report_error: impl FnOnce(ExecFailure) -> u8,
) -> Result<Pid, Errno> {
    let path = env::var_os("PATH").map_or_else(|| DEFAULT_PATH.to_vec(), OsString::into_vec);
    // The empty word is no file's name, although with a directory before it it would be the directory.
    let word = words.first().map_or(&b""[..], |word| word.as_bytes());
    let mut list = Vec::new();
    if !word.is_empty() {
        path_candidates(word, &path, &mut list);
    }
    // No kernel hands a NUL byte on, so there is none here.
    let arguments = PackedCStrings::pack(words.iter().map(|word| [word.as_bytes()])).unwrap_or_default();
    let mut listen_pid = *LISTEN_PID;
    let argv: CStrArray<'_> = arguments.iter().collect();
    let mut envp = CStrArray::environment();
    let for_us = env::var_os("LISTEN_PID").is_some_and(|pid| *pid == *std::process::id().to_string());
    let for_us = if for_us { envp.position(LISTEN_PID_KEY) } else { None };
    let rsups_group = terminal::own_group();
    let steps = || {
        if terminal_is_for_it {
            // Before the exec: the command may read from it at once.
            terminal::grab_foreground(rsups_group);
        }
        // sd_listen_fds(3): the descriptors that rsup was handed are the command's now.
        if let Some(index) = for_us {
            let mut place = listen_pid.get_mut(LISTEN_PID_KEY.len()..).unwrap_or_default();
            // Into place, and there is room.
            let _ = write!(place, "{}", std::process::id());
            envp.replace(index, CStr::from_bytes_until_nul(&listen_pid).unwrap_or_default());
        }
        let given_back = inherited.restore();
        let failed = |errno| ExecFailure { step: ExecStep::Exec, candidate: 0, errno };
        let Err(report) =
            given_back.map_err(failed).and_then(|()| exec_first_candidate(iter_cstrs(&list), &argv, &envp));
        // A terminal may stop whom it does not belong to for a line (`stty tostop`), and a parent that stands still
        // could not notice.
        let _ = block_all();
        report_error(report)
    };
    // What the terminal's keys stop before its exec, only a parent that goes on can notice.
    if terminal_is_for_it { fork_exec(steps) } else { vfork_exec(steps) }
}

const LISTEN_PID_KEY: &str = "LISTEN_PID=";
/// With room for the digits of any process id, and the NUL that ends it.
const LISTEN_PID: &[u8; 22] = b"LISTEN_PID=\0\0\0\0\0\0\0\0\0\0\0";

/// As `execvp`: the first candidate that can be executed; else the error of the last that exists. Async-signal-safe.
fn exec_first_candidate<'a>(
    candidates: impl Iterator<Item = &'a CStr>,
    argv: &CStrArray<'_>,
    envp: &CStrArray<'_>,
) -> Result<Infallible, ExecFailure> {
    let mut failure = ExecFailure { step: ExecStep::NotFound, candidate: 0, errno: Errno::ENOENT };
    for (candidate, path) in (0..=u16::MAX).zip(candidates) {
        match exec(path, argv, envp) {
            Errno::ENOENT | Errno::ENOTDIR if !exists(path) => {}
            Errno::EACCES => {
                failure = ExecFailure { step: ExecStep::NoPermission, candidate, errno: Errno::EACCES }
            }
            errno => return Err(ExecFailure { step: ExecStep::Exec, candidate, errno }),
        }
    }
    Err(failure)
}

/// A script whose interpreter is missing exists.
fn exists(path: &CStr) -> bool {
    nix::unistd::access(path, nix::unistd::AccessFlags::F_OK).is_ok()
}
