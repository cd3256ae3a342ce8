//! Facts about the system, and settings of rsup's own process.

use super::errno::{Errno, cvt};
use super::exec::path_candidates;
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::AccessFlags;
use std::ffi::{CStr, OsString, c_char, c_int, c_uint};
use std::fs;
use std::io::Read as _;
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;

/// Copies the arguments that the C `main` was called with.
///
/// # Safety
/// `argv` must point to `argc` pointers, each of which points to a string that ends in NUL. The C standard guarantees
/// this for the arguments of `main`.
#[must_use]
pub unsafe fn arguments(argc: c_int, argv: *const *const c_char) -> Vec<OsString> {
    let count = usize::try_from(argc).unwrap_or(0);
    let argument = |index: usize| {
        // SAFETY: `index` is below `argc`, so the sum is inside the array that the caller guarantees.
        let place = unsafe { argv.add(index) };
        // SAFETY: `place` is inside the array, and the caller guarantees that the array holds pointers.
        let pointer = unsafe { *place };
        // SAFETY: the caller guarantees that every pointer of the array points to a string that ends in NUL.
        let text = unsafe { CStr::from_ptr(pointer) };
        OsString::from_vec(text.to_bytes().to_vec())
    };
    (0..count).map(argument).collect()
}

/// Returns whether rsup is PID 1 of its PID namespace.
#[must_use]
pub fn is_pid1() -> bool {
    std::process::id() == 1
}

/// Returns whether PID 1 of rsup's PID namespace is rsup's parent.
#[must_use]
pub fn is_child_of_pid1() -> bool {
    nix::unistd::getppid().as_raw() == 1
}

/// Returns the parent of a process. Returns `None` if /proc does not show the process.
#[must_use]
pub fn parent(pid: i32) -> Option<i32> {
    status_field(&status(pid)?, "PPid")?.parse().ok()
}

/// Returns whether a process ignores a signal. Returns false if /proc does not show the process.
pub(super) fn ignores_signal(pid: i32, signal: i32) -> bool {
    let ignored = status(pid).and_then(|status| mask_field(&status, "SigIgn"));
    ignored.is_some_and(|ignored| ignored & (1 << (signal - 1)) != 0)
}

fn status(pid: i32) -> Option<String> {
    // The file contains the name of the process, which may be invalid UTF-8.
    fs::read(format!("/proc/{pid}/status")).ok().map(|status| String::from_utf8_lossy(&status).into_owned())
}

fn mask_field(status: &str, key: &str) -> Option<u64> {
    u64::from_str_radix(status_field(status, key)?, 16).ok()
}

/// Returns the value of a key in the text of /proc/PID/status. A process cannot forge a line by its name, because the
/// kernel escapes the newlines of the name.
fn status_field<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
}

/// Makes rsup the parent of its orphaned descendants (`PR_SET_CHILD_SUBREAPER`). Does nothing if rsup is PID 1, because
/// PID 1 is the parent of orphans anyway.
///
/// # Errors
/// Returns the errno of prctl(2): EINVAL before Linux 3.4.
pub fn set_child_subreaper() -> Result<(), Errno> {
    if is_pid1() { Ok(()) } else { nix::sys::prctl::set_child_subreaper(true) }
}

/// Returns whether `path` is a regular file that rsup can read and that no user may execute. If such a file is given as
/// the command, it is probably a configuration file, and the option `-c` is missing before it.
#[must_use]
pub fn is_nonexecutable_readable_file(path: &str) -> bool {
    let is_data = |found: fs::Metadata| found.is_file() && found.mode() & 0o111 == 0;
    fs::metadata(path).is_ok_and(is_data) && fs::File::open(path).is_ok()
}

/// Whether a command can be found: at its path if it contains a slash, otherwise in one of the directories of PATH.
#[must_use]
pub fn is_on_path(command: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    path_candidates(command.as_bytes(), path.as_bytes())
        .any(|candidate| nix::unistd::access(candidate.as_c_str(), AccessFlags::X_OK).is_ok())
}

/// Whether a file is a Python script: its name ends in `.py`, or Python is its interpreter.
#[must_use]
pub fn is_python_script(path: &str) -> bool {
    let mut line = [0; 64];
    let length = fs::File::open(path).and_then(|mut file| file.read(&mut line)).unwrap_or(0);
    let line = line.get(..length).unwrap_or_default();
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    path.ends_with(".py") || line.starts_with(b"#!") && line.windows(6).any(|word| word == b"python")
}

/// Returns the name of this host (`nodename` of uname(2)), or an empty name if the host's name is not valid UTF-8.
#[must_use]
pub fn host_name() -> String {
    let names = nix::sys::utsname::uname();
    names.ok().and_then(|names| names.nodename().to_str().map(str::to_owned)).unwrap_or_default()
}

/// Whether `NO_COLOR` is unset or empty (<https://no-color.org>).
#[must_use]
pub fn allows_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Closes every descriptor above 2. rsup may have inherited a listening socket or a locked file, and the port or the
/// lock would stay in use as long as rsup runs. Call this function before rsup opens any descriptor.
pub fn close_inherited() {
    close_range(3, RawFd::MAX);
}

/// Closes the descriptors from `first` to `last`. No value that is used or dropped later may own one of them.
pub(super) fn close_range(first: RawFd, last: RawFd) {
    let [from, to] = [first, last].map(|fd| c_uint::try_from(fd).unwrap_or(c_uint::MAX));
    // SAFETY: close_range(2) touches no memory, and the caller guarantees that nothing uses these descriptors.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) };
    if cvt(closed).is_err() {
        // Linux before 5.9 has no close_range(2).
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
        let end = RawFd::try_from(soft.min(65_536)).unwrap_or(1024);
        for fd in (first..=last).take_while(|fd| *fd < end) {
            // SAFETY: close(2) touches no memory, and the caller guarantees that nothing uses this descriptor. The
            // kernel answers EBADF for a descriptor that is not open.
            unsafe { libc::close(fd) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_field_of_the_status_file_is_found_by_its_whole_key() {
        let status = "Name:\ttini\nPid:\t7\nPPid:\t1\nSigBlk:\tfffffffe7ffbfeff\nSigIgn:\t0000000000300000\n";
        assert_eq!(status_field(status, "PPid"), Some("1"));
        assert_eq!(status_field(status, "Pid"), Some("7"));
        assert_eq!(status_field(status, "Sig"), None);
        assert_eq!(mask_field(status, "SigIgn"), Some(0x30_0000));
        assert_eq!(mask_field(status, "Name"), None);
    }

    #[test]
    fn the_parent_of_the_own_process_is_found_in_proc() {
        let own = nix::unistd::getpid().as_raw();
        assert_eq!(parent(own), Some(nix::unistd::getppid().as_raw()));
        assert_eq!(parent(i32::MAX), None);
    }

    #[test]
    fn a_process_that_does_not_exist_ignores_no_signal() {
        assert!(!ignores_signal(i32::MAX, libc::SIGTSTP));
    }

    #[test]
    fn arguments_are_copied_byte_by_byte() {
        let strings = [c"rsup", c"", c"\xff\xfe"];
        let argv = strings.map(CStr::as_ptr);
        // SAFETY: `argv` holds three pointers to strings that end in NUL.
        let copied = unsafe { arguments(3, argv.as_ptr()) };
        let expected = strings.map(|string| OsString::from_vec(string.to_bytes().to_vec()));
        assert_eq!(copied, expected);
    }

    #[test]
    fn a_file_without_execute_permission_is_data() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "").unwrap();
        let name = path.to_str().unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(is_nonexecutable_readable_file(name));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o645)).unwrap();
        assert!(!is_nonexecutable_readable_file(name));
        assert!(!is_nonexecutable_readable_file(directory.path().to_str().unwrap()));
        assert!(!is_nonexecutable_readable_file(""));
    }
}
