//! Lists the entries of a directory.
//!
//! `std::fs::read_dir` is not used, because it panics if a seccomp filter refuses close(2). nix's `Dir` is not used
//! either: it panics if the filter refuses close(2) with EBADF. It also fails if a filter refuses fcntl(2), because it
//! calls fdopendir(3), which calls fcntl(2).

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;

/// Returns the names in a directory, without `.` and `..`, in no particular order. Returns no names for a directory
/// that cannot be read, and no further names after an error.
#[must_use]
pub fn list_directory(path: &Path) -> Box<dyn Iterator<Item = OsString>> {
    Box::new(Names::of(path).into_iter().flatten())
}

/// The names in a directory, without `.` and `..`. There are no further names after an error. The field is the stream
/// that opendir(3) has opened.
pub(super) struct Names(NonNull<libc::DIR>);

impl Names {
    /// Returns `None` for a directory that cannot be opened.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let path = CString::new(path.as_os_str().as_bytes()).ok()?;
        // SAFETY: `path` is a string that ends in NUL. opendir(3) does not keep the pointer.
        NonNull::new(unsafe { libc::opendir(path.as_ptr()) }).map(Self)
    }
}

impl Iterator for Names {
    type Item = OsString;

    fn next(&mut self) -> Option<OsString> {
        loop {
            // SAFETY: opendir(3) has returned this stream, and only `drop` closes it.
            let entry = NonNull::new(unsafe { libc::readdir(self.0.as_ptr()) })?;
            // SAFETY: readdir(3) has returned a pointer to this entry. The entry stays valid until the next call of
            // readdir(3) or closedir(3) for this stream.
            let name = unsafe { &raw const (*entry.as_ptr()).d_name };
            // SAFETY: the name of an entry ends in NUL.
            let name = unsafe { CStr::from_ptr(name.cast()) }.to_bytes();
            if name != b"." && name != b".." {
                return Some(OsStr::from_bytes(name).to_owned());
            }
        }
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        // The result is ignored: if a seccomp filter refuses close(2), the descriptor stays open, which does no harm.
        // SAFETY: opendir(3) has returned this stream, and nothing uses the stream after `drop`.
        unsafe { libc::closedir(self.0.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn every_name_is_listed_once_whatever_bytes_it_has() {
        let directory = tempfile::tempdir().unwrap();
        let mut names: Vec<_> = (0..1000).map(|number| OsString::from(format!("file{number:04}"))).collect();
        names.extend([OsString::from("..."), OsString::from(".x"), OsString::from_vec(b"\xff\n".to_vec())]);
        names.iter().for_each(|name| drop(std::fs::File::create(directory.path().join(name)).unwrap()));
        let mut listed: Vec<_> = list_directory(directory.path()).collect();
        listed.sort();
        names.sort();
        assert_eq!(listed, names);
    }

    #[test]
    fn what_is_no_directory_has_no_names() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for path in [file.path(), Path::new("/nonexistent"), Path::new(""), Path::new("/\0")] {
            assert_eq!(list_directory(path).count(), 0, "{path:?}");
        }
    }
}
