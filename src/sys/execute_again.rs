//! Executes rsup again in the same process, after a client has requested a reload.

use super::errno::Errno;
use super::rlimit::set_nofile_soft_limit;
use super::signals::ignore_hangup;
use nix::unistd::execv;
use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Executes rsup again with these arguments, which include the program's name. Returns only if that fails. Signals that
/// arrive in the meantime are not lost: they are blocked, and stay pending for the new program.
///
/// Before, restores what the new rsup must find as this rsup has found it: an ignored SIGHUP and the soft limit on
/// descriptors.
pub fn execute_again(arguments: &[OsString], hup_ignored: bool, nofile_soft_limit: Option<u64>) -> Errno {
    if hup_ignored {
        ignore_hangup();
    }
    if let Some(limit) = nofile_soft_limit {
        set_nofile_soft_limit(limit);
    }
    let words: Vec<CString> = arguments.iter().filter_map(|word| to_c_string(word)).collect();
    // The path comes first, because the kernel takes the name of the process from it: with /proc/self/exe, the name
    // would be `exe`. The path does not exist if the file has been deleted, and is unknown without /proc.
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
