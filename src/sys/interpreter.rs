//! What the beginning of a file says about how execve(2) executes the file: text for a shell, or an interpreter that the file
//! names.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    clippy::unwrap_used,
    reason = "the child calls these functions in rsup's memory and must not panic: see clone_vm.rs"
)]

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::Whence;
use std::ffi::CStr;

/// The number of bytes that the kernel reads to decide how to execute a file (`BINPRM_BUF_SIZE`).
const HEAD_SIZE: usize = 256;

/// Whether a file can be a script for /bin/sh: a file that can be read and whose beginning contains no NUL byte. A program for
/// another machine contains one, and a shell would only report a syntax error in it. Async-signal-safe.
pub(super) fn is_text(path: &CStr) -> bool {
    let mut head = [0; HEAD_SIZE];
    read_at(path, 0, &mut head).is_some_and(|read| !read.contains(&0))
}

/// Reads the bytes of a file from an offset on, as many as there are up to the size of the buffer.
fn read_at<'a>(path: &CStr, offset: libc::off_t, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = nix::fcntl::open(path, flags, Mode::empty()).ok()?;
    nix::unistd::lseek(&file, offset, Whence::SeekSet).ok()?;
    let length = nix::unistd::read(&file, buffer).ok()?;
    buffer.get(..length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    use std::path::PathBuf;

    /// A file with these bytes.
    struct File {
        path: PathBuf,
        _directory: tempfile::TempDir,
    }

    impl File {
        fn new(bytes: &[u8]) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("file");
            std::fs::write(&path, bytes).unwrap();
            Self { path, _directory: directory }
        }

        fn name(&self) -> CString {
            CString::new(self.path.as_os_str().as_bytes()).unwrap()
        }
    }

    #[test]
    fn a_file_without_nul_bytes_at_its_beginning_is_text() {
        let long = [b"x".repeat(HEAD_SIZE), vec![0]].concat();
        for text in [&b""[..], b"echo x\n", b"\xef\xbb\xbf#!/bin/sh\n", b"\xff", &long] {
            assert!(is_text(&File::new(text).name()), "{text:02x?}");
        }
        for binary in [&b"\x7fELF\x02\x01\x01\0"[..], b"\xff\xfe#\0!\0", b"\0"] {
            assert!(!is_text(&File::new(binary).name()), "{binary:02x?}");
        }
        assert!(!is_text(c"/there/is/none"));
        assert!(!is_text(c"/"));
    }
}
