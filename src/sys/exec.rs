//! What execve(2) takes: the paths at which an executable may be, and lists of pointers to strings.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    clippy::unwrap_used,
    reason = "the child calls `exec` in rsup's memory and must not panic: see clone_vm.rs"
)]

use super::errno::Errno;
use std::ffi::{CStr, CString, c_char};
use std::marker::PhantomData;
use std::ptr::null;

/// Yields the paths at which a command may be found, in supervisord's order. `word` is the first word of the command.
/// If `word` contains a slash, it is the only path. Otherwise, there is one path for each directory in `path`, which is
/// a value of PATH. An empty entry of `path` means the current directory.
pub(super) fn path_candidates(word: &[u8], path: &[u8]) -> impl Iterator<Item = CString> {
    let directories = if word.contains(&b'/') { b"" } else { path };
    directories.split(|byte| *byte == b':').filter_map(move |directory| {
        let separator: &[u8] = if directory.is_empty() { b"" } else { b"/" };
        CString::new([directory, separator, word].concat()).ok()
    })
}

/// A list of strings as execve(2) takes it: pointers to strings, followed by a null pointer.
#[derive(Debug)]
pub(super) struct CStrArray<'a> {
    pointers: Vec<*const c_char>,
    strings: PhantomData<&'a CStr>,
}

impl<'a> FromIterator<&'a CStr> for CStrArray<'a> {
    fn from_iter<T: IntoIterator<Item = &'a CStr>>(strings: T) -> Self {
        let pointers = strings.into_iter().map(CStr::as_ptr).chain([null()]).collect();
        Self { pointers, strings: PhantomData }
    }
}

unsafe extern "C" {
    /// The C library's list of rsup's own environment variables.
    static environ: *const *const c_char;
}

impl<'a> CStrArray<'a> {
    /// rsup's own environment, including entries without `=`, which `std::env` leaves out.
    pub(super) fn environment() -> Self {
        let mut pointers = Vec::new();
        // SAFETY: the C library has set `environ` before `main`. The functions of `time_zone.rs` that replace `environ`
        // restore it before they return.
        let mut next = unsafe { environ };
        loop {
            // SAFETY: `next` points to an element of `environ`. The last element is a null pointer, and the loop ends
            // there.
            let pointer = unsafe { *next };
            pointers.push(pointer);
            if pointer.is_null() {
                return Self { pointers, strings: PhantomData };
            }
            // SAFETY: `next` points to an element that is not the null pointer at the end, so another element follows.
            next = unsafe { next.add(1) };
        }
    }

    /// Returns the strings of the list in their order, without the null pointer at the end.
    pub(super) fn strings(&self) -> impl Iterator<Item = &CStr> {
        let pointers = self.pointers.iter().filter(|pointer| !pointer.is_null());
        // SAFETY: every pointer except the null pointer at the end comes from a `&'a CStr`, or from
        // `environ`, whose strings are never freed.
        pointers.map(|pointer| unsafe { CStr::from_ptr(*pointer) })
    }

    /// The index of the first string that starts with `prefix`.
    pub(super) fn position(&self, prefix: &[u8]) -> Option<usize> {
        self.strings().position(|string| string.to_bytes().starts_with(prefix))
    }

    /// Removes the first string that starts with `prefix`.
    pub(super) fn remove(&mut self, prefix: &[u8]) {
        if let Some(index) = self.position(prefix) {
            self.pointers.remove(index);
        }
    }

    /// Replaces the string at `index`, which must not be the index of the null pointer at the end. Async-signal-safe.
    pub(super) fn replace(&mut self, index: usize, string: &'a CStr) {
        if let Some(pointer) = self.pointers.get_mut(index) {
            *pointer = string.as_ptr();
        }
    }
}

/// Executes the file at `path`. Returns only if execve(2) fails, with the errno of execve(2).
/// Async-signal-safe.
pub(super) fn exec(path: &CStr, argv: &CStrArray<'_>, envp: &CStrArray<'_>) -> Errno {
    // SAFETY: `path` ends in NUL; both lists end in a null pointer, and their other pointers point to strings
    // that end in NUL and outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.pointers.as_ptr(), envp.pointers.as_ptr()) };
    Errno::last()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    fn candidates(word: &str, path: &str) -> Vec<String> {
        let candidates = path_candidates(word.as_bytes(), path.as_bytes());
        candidates.map(|candidate| candidate.into_string().unwrap()).collect()
    }

    #[test]
    fn a_word_with_a_slash_is_the_only_candidate() {
        assert_eq!(candidates("/bin/cat", "/usr/bin:/bin"), ["/bin/cat"]);
        assert_eq!(candidates("./cat", "/usr/bin:/bin"), ["./cat"]);
    }

    #[test]
    fn a_word_without_a_slash_is_looked_for_in_each_directory_in_order() {
        assert_eq!(candidates("cat", "/usr/bin:bin"), ["/usr/bin/cat", "bin/cat"]);
    }

    #[test]
    fn an_empty_entry_of_path_is_the_current_directory() {
        assert_eq!(candidates("cat", ":/bin::"), ["cat", "/bin/cat", "cat", "cat"]);
        assert_eq!(candidates("cat", ""), ["cat"]);
    }

    #[test]
    fn an_array_ends_in_one_null_pointer() {
        let array: CStrArray<'_> = [c"a", c"", c"b=c"].into_iter().collect();
        assert_eq!(
            array.pointers.iter().map(|pointer| pointer.is_null()).collect::<Vec<_>>(),
            [false, false, false, true]
        );
        assert_eq!(array.strings().collect::<Vec<_>>(), [c"a", c"", c"b=c"]);

        let empty: CStrArray<'_> = std::iter::empty().collect();
        assert_eq!(empty.pointers, [null()]);
    }

    #[test]
    fn a_string_is_found_by_its_prefix_and_replaced_in_place() {
        let mut array: CStrArray<'_> = [c"AB=1", c"A=2", c"A=3"].into_iter().collect();
        assert_eq!(array.position(b"A="), Some(1));
        assert_eq!(array.position(b"B="), None);
        array.replace(1, c"A=4");
        assert_eq!(array.strings().collect::<Vec<_>>(), [c"AB=1", c"A=4", c"A=3"]);
    }

    #[test]
    fn replacing_a_string_that_is_not_there_changes_nothing() {
        let mut array: CStrArray<'_> = [c"A=1"].into_iter().collect();
        array.replace(2, c"A=2");
        assert_eq!(array.strings().collect::<Vec<_>>(), [c"A=1"]);
    }

    #[test]
    fn the_environment_is_the_one_that_std_sees() {
        let array = CStrArray::environment();
        let from_std = std::env::vars_os()
            .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat())
            .collect::<Vec<_>>();
        let entries = array.strings().map(|entry| entry.to_bytes().to_vec());
        assert_eq!(entries.filter(|entry| entry.contains(&b'=')).collect::<Vec<_>>(), from_std);
        assert_eq!(array.pointers.last(), Some(&null()));
    }
}
