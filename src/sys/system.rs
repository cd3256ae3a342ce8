//! What rsup asks of the system and sets for itself as a process.

use super::errno::cvt;
use nix::sys::resource::{Resource, getrlimit};
use std::ffi::{CStr, OsString, c_char, c_int};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;

/// The arguments that `main` was called with.
///
/// # Safety
/// `argv` points to `argc` pointers to strings that end in NUL, as the C standard promises `main`.
#[must_use]
pub unsafe fn arguments(argc: c_int, argv: *const *const c_char) -> Vec<OsString> {
    let count = usize::try_from(argc).unwrap_or(0);
    let argument = |index: usize| {
        // SAFETY: `index` is below `argc`: the place is inside the list,
        let place = unsafe { argv.add(index) };
        // SAFETY: holds a pointer,
        let pointer = unsafe { *place };
        // SAFETY: and that points to a string. The caller vouches for all three.
        let text = unsafe { CStr::from_ptr(pointer) };
        OsString::from_vec(text.to_bytes().to_vec())
    };
    (0..count).map(argument).collect()
}

/// Whether rsup is process 1 of its PID namespace.
#[must_use]
pub fn is_pid1() -> bool {
    std::process::id() == 1
}

/// Becomes the parent of orphans below it, as process 1 is anyway (`PR_SET_CHILD_SUBREAPER`).
pub fn set_child_subreaper() {
    if !is_pid1() {
        // Kernels from 3.4 on have it; without it orphans go elsewhere, which is all that is lost.
        let _ = nix::sys::prctl::set_child_subreaper(true);
    }
}

/// Whether this is a file that rsup may read and nobody may execute: something that was meant to be read, not to be run.
#[must_use]
pub fn is_readable_file(path: &str) -> bool {
    let is_data = |found: fs::Metadata| found.is_file() && found.mode() & 0o111 == 0;
    fs::metadata(path).is_ok_and(is_data) && fs::File::open(path).is_ok()
}

/// The name of this host as `uname(2)` gives it; empty where it is not text.
#[must_use]
pub fn host_name() -> String {
    let mut names = std::mem::MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: `names` is a valid place for what is written.
    unsafe { libc::uname(names.as_mut_ptr()) };
    // SAFETY: characters, for which zeros are valid.
    let names = unsafe { names.assume_init() };
    // SAFETY: uname(2) ends the name with NUL, and `names` outlives the borrow.
    let node = unsafe { CStr::from_ptr(names.nodename.as_ptr()) };
    node.to_str().unwrap_or_default().to_owned()
}

/// Closes every descriptor above 2: listeners and locks that rsup was started with are not PID 1's to hold. To be called
/// before rsup opens any of its own.
pub fn close_inherited() {
    // SAFETY: numbers; by the caller's duty nobody in rsup owns what is closed.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    if cvt(closed).is_err() {
        // Linux before 5.9.
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
        for fd in 3..i32::try_from(soft.min(65_536)).unwrap_or(1024) {
            // SAFETY: as above; a number that is not open is refused.
            unsafe { libc::close(fd) };
        }
    }
}
