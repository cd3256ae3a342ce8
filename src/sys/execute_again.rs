//! Executes rsup again in the same process, after a client has requested a reload.

use super::errno::Errno;
use super::rlimit::set_nofile_soft_limit;
use super::signals::ignore_hangup;
use nix::unistd::execv;
use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Executes rsup again with these arguments, which include the program's name. Returns only if every attempt failed,
/// with the last errno. Signals that arrive in the meantime are not lost: they are blocked, and stay pending for the
/// new program.
///
/// First restores the ignored SIGHUP and the soft limit on descriptors that this rsup found at its start. The new rsup
/// must find them unchanged.
pub fn execute_again(arguments: &[OsString], hup_ignored: bool, nofile_soft_limit: Option<u64>) -> Errno {
    if hup_ignored {
        ignore_hangup();
    }
    if let Some(limit) = nofile_soft_limit {
        set_nofile_soft_limit(limit);
    }
    let words: Vec<CString> = arguments.iter().filter_map(|word| to_c_string(word)).collect();
    // The path of the executable is tried first, because the kernel names the process after it. /proc/self/exe would
    // give the name `exe`. `path` is `None` if /proc is not mounted. If the file was deleted, `path` ends in
    // ` (deleted)`, and execve(2) fails for `path`.
    let path = env::current_exe().ok();
    let path = path.as_deref().and_then(|path| to_c_string(path.as_os_str()));
    let argv0 = arguments.first().and_then(|name| to_c_string(name));
    let mut errno = Errno::ENOENT;
    for candidate in [path, Some(c"/proc/self/exe".into()), argv0].into_iter().flatten() {
        errno = execv(&candidate, &words).err().unwrap_or(errno);
    }
    errno
}

/// An argument never contains a NUL byte, because rsup got it from the kernel.
fn to_c_string(text: &OsStr) -> Option<CString> {
    CString::new(text.as_bytes()).ok()
}
