//! One command as a shell would start it: with everything that rsup was started with, in a process group of its own, and
//! with the terminal where rsup had it.

use super::fork::{exec, fork};
use super::{Errno, ExecStatus, Inherited, Pid, Report, SpawnError, Step, Strings, candidates, terminal};
use std::convert::Infallible;
use std::env;
use std::ffi::{CStr, CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Where a command is looked for when PATH does not say it, as `execvp` does.
const DEFAULT_PATH: &[u8] = b"/usr/local/bin:/bin:/usr/bin";

/// Starts the command of these words, which are bytes and stay what they are.
///
/// # Errors
/// Says what could not be made.
pub fn launch(words: &[OsString], inherited: Inherited) -> Result<(Pid, ExecStatus), SpawnError> {
    let path = env::var_os("PATH").map_or_else(|| DEFAULT_PATH.to_vec(), OsString::into_vec);
    // The empty word is no file's name, although with a directory before it it would be the directory.
    let word = words.first().map_or(&b""[..], |word| word.as_bytes());
    let candidates = if word.is_empty() { Vec::new() } else { candidates(word, &path) };
    // No kernel hands a NUL byte on, so none is lost here.
    let argv: Strings =
        words.iter().filter_map(|word| CString::new(word.as_bytes()).ok()).collect::<Vec<_>>().into();
    let mut envp: Strings = env::vars_os().filter_map(variable).collect::<Vec<_>>().into();
    let for_us = env::var_os("LISTEN_PID").is_some_and(|pid| *pid == *std::process::id().to_string());
    let has_terminal = terminal::is_ours();
    fork(|_| {
        // SAFETY: takes nothing, cannot fail.
        let own = unsafe { libc::getpid() };
        if has_terminal {
            // Here and in the parent, whoever comes first: the command may read from it at once.
            terminal::set_foreground(own);
        }
        // sd_listen_fds(3): the descriptors that rsup was handed are the command's now.
        let mut listen_pid = *LISTEN_PID;
        if for_us {
            write_decimal(&mut listen_pid, own);
            envp.replace(LISTEN_PID_KEY, &listen_pid);
        }
        inherited.give_back().map_err(|errno| Report { step: Step::Exec, candidate: 0, errno })?;
        exec_first(&candidates, &argv, &envp)
    })
}

const LISTEN_PID_KEY: &[u8] = b"LISTEN_PID=";
/// With room for the digits of any process id, and the NUL that ends it.
const LISTEN_PID: &[u8; 22] = b"LISTEN_PID=\0\0\0\0\0\0\0\0\0\0\0";

/// Async-signal-safe.
fn write_decimal(variable: &mut [u8; 22], pid: i32) {
    let mut divisor = 1_000_000_000;
    let mut places = variable.iter_mut().skip(LISTEN_PID_KEY.len());
    while divisor > 0 {
        let digits = pid / divisor;
        if digits > 0
            && let (Some(place), Ok(digit)) = (places.next(), u8::try_from(digits % 10))
        {
            *place = b'0' + digit;
        }
        divisor /= 10;
    }
}

fn variable((key, value): (OsString, OsString)) -> Option<CString> {
    CString::new([key.as_bytes(), b"=", value.as_bytes()].concat()).ok()
}

/// As `execvp`: the first candidate that can be executed; else the error of the last that exists. Async-signal-safe.
fn exec_first(candidates: &[CString], argv: &Strings, envp: &Strings) -> Result<Infallible, Report> {
    let mut failure = Report { step: Step::NotFound, candidate: 0, errno: Errno::ENOENT };
    for (candidate, path) in candidates.iter().map(CString::as_c_str).enumerate() {
        match exec(path, argv, envp) {
            Errno::ENOENT | Errno::ENOTDIR if !exists(path) => {}
            Errno::EACCES => failure = Report { step: Step::NoPermission, candidate, errno: Errno::EACCES },
            errno => return Err(Report { step: Step::Exec, candidate, errno }),
        }
    }
    Err(failure)
}

/// A script whose interpreter is missing exists.
fn exists(path: &CStr) -> bool {
    nix::unistd::access(path, nix::unistd::AccessFlags::F_OK).is_ok()
}
