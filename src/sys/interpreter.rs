//! Reads the beginning of a file for which execve(2) has failed. The beginning shows whether a shell can run the file,
//! and which interpreter the file names.

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
use nix::sys::stat::{FileStat, Mode};
use nix::unistd::{AccessFlags, Whence};
use std::ffi::CStr;

/// The number of bytes that the kernel reads to decide how to execute a file (`BINPRM_BUF_SIZE`).
const HEAD_SIZE: usize = 256;

/// Returns whether a file can be a script for /bin/sh: the file can be read, and its beginning contains no NUL byte.
/// The beginning of a program for another machine contains a NUL byte, and a shell would only report a syntax error in
/// such a program. Async-signal-safe.
pub(super) fn is_text(path: &CStr) -> bool {
    let mut head = [0; HEAD_SIZE];
    read_at(path, 0, &mut head).is_some_and(|read| !read.contains(&0))
}

/// The path of an interpreter.
pub(super) struct Interpreter {
    /// The path, followed by at least one NUL byte.
    bytes: [u8; HEAD_SIZE],
}

impl Interpreter {
    /// Returns `None` if `path` is empty, or if `path` and a NUL byte together are longer than `HEAD_SIZE` bytes.
    fn new(path: &[u8]) -> Option<Self> {
        let mut bytes = [0; HEAD_SIZE];
        let (_, place) = bytes.split_last_mut()?;
        place.get_mut(..path.len())?.copy_from_slice(path);
        (!path.is_empty()).then_some(Self { bytes })
    }

    pub(super) fn path(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }

    /// Returns whether the interpreter is a regular file that this process may execute. Async-signal-safe.
    fn is_executable(&self) -> bool {
        let is_file = |stat: FileStat| stat.st_mode & libc::S_IFMT == libc::S_IFREG;
        nix::sys::stat::stat(self.path()).is_ok_and(is_file)
            && nix::unistd::access(self.path(), AccessFlags::X_OK).is_ok()
    }
}

/// The maximum number of interpreters in a chain: the interpreter of a script may itself be a script, which has an
/// interpreter. The kernel refuses a longer chain (`exec_binprm`).
const MAX_INTERPRETER_CHAIN: usize = 5;

/// Returns the interpreter because of which execve(2) fails for the file at `path`: an interpreter that does not exist
/// or may not be executed. The errno of execve(2) does not tell whether the interpreter or the file itself is the
/// cause. Async-signal-safe.
pub(super) fn unusable_interpreter(path: &CStr) -> Option<Interpreter> {
    let mut interpreter = interpreter_of(path)?;
    for _ in 0..MAX_INTERPRETER_CHAIN {
        if !interpreter.is_executable() {
            return Some(interpreter);
        }
        interpreter = interpreter_of(interpreter.path())?;
    }
    None
}

/// The interpreter of a script, or the dynamic loader of a program.
fn interpreter_of(path: &CStr) -> Option<Interpreter> {
    let mut head = [0; HEAD_SIZE];
    match read_at(path, 0, &mut head)? {
        [b'#', b'!', line @ ..] => interpreter_of_script(line),
        head @ [0x7f, b'E', b'L', b'F', ..] => loader_of_program(path, head),
        _ => None,
    }
}

/// Reads the line after `#!` as the kernel does: the path ends at a blank, at the end of the line or at a NUL byte. A
/// carriage return is a part of the path. If the path does not end within the first [`HEAD_SIZE`] bytes of the file,
/// this function returns the beginning of the path. The kernel executes no interpreter then.
fn interpreter_of_script(line: &[u8]) -> Option<Interpreter> {
    let line = line.split(|byte| matches!(byte, b'\n' | 0)).next()?;
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    Interpreter::new(words.next()?)
}

/// Where an ELF file contains the fields that are needed to find the path of its dynamic loader: the offsets of these
/// fields in bytes, and the size of an address. The fields are described in elf(5).
struct ElfLayout {
    address_size: usize,
    e_phoff_at: usize,
    e_phentsize_at: usize,
    e_phnum_at: usize,
    p_offset_at: usize,
    p_filesz_at: usize,
}

const ELF32: ElfLayout = ElfLayout {
    address_size: 4,
    e_phoff_at: 28,
    e_phentsize_at: 42,
    e_phnum_at: 44,
    p_offset_at: 4,
    p_filesz_at: 16,
};
const ELF64: ElfLayout = ElfLayout {
    address_size: 8,
    e_phoff_at: 32,
    e_phentsize_at: 54,
    e_phnum_at: 56,
    p_offset_at: 8,
    p_filesz_at: 32,
};

/// The size of an entry of the program header table of a 64-bit file.
const ENTRY_SIZE: usize = 56;
/// Limit on the entries that are read, because the number in the file can be wrong.
const MAX_ENTRIES: u64 = 64;

/// Returns the dynamic loader that the segment PT_INTERP names. Numbers are read in the byte order of this machine,
/// because execve(2) refuses a file in the other byte order with ENOEXEC.
fn loader_of_program(path: &CStr, head: &[u8]) -> Option<Interpreter> {
    let layout = if *head.get(4)? == libc::ELFCLASS64 { &ELF64 } else { &ELF32 };
    let table_offset = read_number(head, layout.e_phoff_at, layout.address_size)?;
    let entry_size = read_number(head, layout.e_phentsize_at, 2)?;
    let entry_count = read_number(head, layout.e_phnum_at, 2)?.min(MAX_ENTRIES);
    for index in 0..entry_count {
        let offset = table_offset.checked_add(index.checked_mul(entry_size)?)?;
        let mut entry = [0; ENTRY_SIZE];
        let entry = read_at(path, offset.try_into().ok()?, &mut entry)?;
        if read_number(entry, 0, 4)? == u64::from(libc::PT_INTERP) {
            let offset = read_number(entry, layout.p_offset_at, layout.address_size)?;
            let size = read_number(entry, layout.p_filesz_at, layout.address_size)?;
            let mut loader_path = [0; HEAD_SIZE];
            let loader = loader_path.get_mut(..size.try_into().ok()?)?;
            let loader = read_at(path, offset.try_into().ok()?, loader)?;
            return Interpreter::new(loader.split(|byte| *byte == 0).next()?);
        }
    }
    None
}

/// Reads an unsigned number of `size` bytes (2, 4 or 8) at `offset`, in the byte order of this machine.
fn read_number(bytes: &[u8], offset: usize, size: usize) -> Option<u64> {
    let bytes = bytes.get(offset..offset.checked_add(size)?)?;
    match size {
        2 => Some(u16::from_ne_bytes(bytes.try_into().ok()?).into()),
        4 => Some(u32::from_ne_bytes(bytes.try_into().ok()?).into()),
        _ => Some(u64::from_ne_bytes(bytes.try_into().ok()?)),
    }
}

/// Reads a file from `offset` on. Returns the bytes read: as many as `buffer` has space for, or fewer if the file ends
/// before.
fn read_at<'a>(path: &CStr, offset: libc::off_t, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = nix::fcntl::open(path, flags, Mode::empty()).ok()?;
    nix::unistd::lseek(&file, offset, Whence::SeekSet).ok()?;
    let length = nix::unistd::read(&file, buffer).ok()?;
    buffer.get(..length)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests may panic")]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    use std::path::PathBuf;

    /// A temporary file, in a directory that is deleted when the value is dropped.
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

    fn unusable_interpreter_path(bytes: &[u8]) -> Option<CString> {
        unusable_interpreter(&File::new(bytes).name()).map(|interpreter| interpreter.path().to_owned())
    }

    #[test]
    fn the_interpreter_of_a_script_is_read_as_the_kernel_reads_it() {
        let table: [(&[u8], Option<&CStr>); 9] = [
            (b"#!/there/is/none\n", Some(c"/there/is/none")),
            (b"#! \t/there/is/none -x y\n", Some(c"/there/is/none")),
            (b"#!/bin/sh\r\nexit\r\n", Some(c"/bin/sh\r")),
            (b"#!/there/is/none", Some(c"/there/is/none")),
            (b"#!/\n", Some(c"/")),
            (b"#!/dev/null\n", Some(c"/dev/null")),
            (b"#!/bin/sh\n", None),
            (b"#!\n", None),
            (b"echo\n", None),
        ];
        for (text, want) in table {
            assert_eq!(unusable_interpreter_path(text).as_deref(), want, "{text:02x?}");
        }
    }

    #[test]
    fn the_interpreter_of_an_interpreter_is_found() {
        use std::os::unix::fs::PermissionsExt;
        let inner = File::new(b"#!/there/is/none\n");
        let outer = [b"#!", inner.name().as_bytes(), b"\n"].concat();
        assert_eq!(unusable_interpreter_path(&outer), Some(inner.name()));
        std::fs::set_permissions(&inner.path, PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(unusable_interpreter_path(&outer).as_deref(), Some(c"/there/is/none"));
    }

    #[test]
    fn a_chain_of_interpreters_that_never_ends_is_no_finding() {
        use std::os::unix::fs::PermissionsExt;
        let file = File::new(b"");
        std::fs::write(&file.path, [b"#!", file.name().as_bytes()].concat()).unwrap();
        std::fs::set_permissions(&file.path, PermissionsExt::from_mode(0o755)).unwrap();
        assert!(unusable_interpreter(&file.name()).is_none());
    }

    /// Returns the bytes of an ELF file whose second segment is PT_INTERP and contains the path `loader`.
    fn program(layout: &ElfLayout, class: u8, loader: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 300];
        let mut put = |offset: usize, number: u64, size: usize| {
            let number = if cfg!(target_endian = "little") {
                number.to_le_bytes()[..size].to_vec()
            } else {
                number.to_be_bytes()[8 - size..].to_vec()
            };
            bytes[offset..offset + size].copy_from_slice(&number);
        };
        put(layout.e_phoff_at, 64, layout.address_size);
        put(layout.e_phentsize_at, ENTRY_SIZE as u64, 2);
        put(layout.e_phnum_at, 2, 2);
        put(64, 1, 4);
        put(64 + ENTRY_SIZE, libc::PT_INTERP.into(), 4);
        put(64 + ENTRY_SIZE + layout.p_offset_at, 300, layout.address_size);
        put(64 + ENTRY_SIZE + layout.p_filesz_at, loader.len() as u64, layout.address_size);
        bytes[..5].copy_from_slice(&[0x7f, b'E', b'L', b'F', class]);
        [bytes, loader.to_vec()].concat()
    }

    #[test]
    fn unusable_loader_is_found() {
        for (layout, class) in [(&ELF64, libc::ELFCLASS64), (&ELF32, libc::ELFCLASS32)] {
            let found = unusable_interpreter_path(&program(layout, class, b"/lib/ld-none.so.1\0"));
            assert_eq!(found.as_deref(), Some(c"/lib/ld-none.so.1"), "{class}");
            assert_eq!(unusable_interpreter_path(&program(layout, class, b"/bin/sh\0")), None);
            assert_eq!(unusable_interpreter_path(&program(layout, class, &[b'x'; HEAD_SIZE + 1])), None);
        }
        assert_eq!(unusable_interpreter_path(b"\x7fELF\x02"), None);
    }
}
