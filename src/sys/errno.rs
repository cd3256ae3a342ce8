//! The error numbers of failed system calls.

pub use nix::errno::Errno;

/// Turns the result of a raw system call into a `Result`. The standard library has a private function of the same name,
/// which does the same.
///
/// # Errors
/// Returns errno where the result is -1.
pub(super) fn cvt(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result == -1 { Err(Errno::last()) } else { Ok(result) }
}
