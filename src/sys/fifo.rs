//! FIFOs that are log files of programs. The reader of a FIFO gets end of file when the last process that has the FIFO
//! open for writing exits or closes it. So rsup keeps such a FIFO open for writing.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    clippy::unwrap_used,
    reason = "the child calls `has_fifo_unopened_by_rsup` in rsup's memory and must not panic: see clone_vm.rs"
)]

use super::errno::Errno;
use super::stdio::{STDERR, STDOUT, standard_fd};
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode, fstat, stat};
use std::ffi::CStr;
use std::os::fd::OwnedFd;

/// The device and the inode of a FIFO or of a pipe. No other file has the same pair while this file is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PipeId(libc::dev_t, libc::ino_t);

impl PipeId {
    /// Returns the device and the inode from `stat`, if the file is a FIFO or a pipe. Returns `None` for any other kind
    /// of file.
    fn of(stat: FileStat) -> Option<Self> {
        (stat.st_mode & libc::S_IFMT == libc::S_IFIFO).then_some(Self(stat.st_dev, stat.st_ino))
    }
}

/// Returns the pipes among rsup's own stdout and stderr. A log file can be a symbolic link to one of them.
#[must_use]
pub fn own_output_pipes() -> Vec<PipeId> {
    [STDOUT, STDERR].into_iter().filter_map(|stream| PipeId::of(fstat(standard_fd(stream)).ok()?)).collect()
}

/// A FIFO that rsup has open for writing, until the value is dropped.
#[derive(Debug)]
pub struct Fifo {
    pub id: PipeId,
    _write_end: OwnedFd,
}

impl Fifo {
    /// Opens a FIFO for writing. Returns `None` if the file is not a FIFO, or if stat(2) or fstat(2) fails, for example
    /// because the file does not exist.
    ///
    /// # Errors
    /// Returns EMFILE for a FIFO if `has_free_fd` is false. Returns the errno of open(2): ENXIO if no process has the
    /// FIFO open for reading.
    pub fn open(path: &CStr, has_free_fd: bool) -> Result<Option<Self>, Errno> {
        // This check comes first, because opening a device can have an effect on the device.
        if !stat(path).is_ok_and(|stat| PipeId::of(stat).is_some()) {
            return Ok(None);
        }
        if !has_free_fd {
            return Err(Errno::EMFILE);
        }
        // Without O_NONBLOCK, open(2) waits until a process opens the FIFO for reading.
        let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let write_end = nix::fcntl::open(path, flags, Mode::empty())?;
        // If a seccomp filter refuses fstat(2), rsup closes the FIFO again, and only the program opens it.
        Ok(fstat(&write_end).ok().and_then(PipeId::of).map(|id| Self { id, _write_end: write_end }))
    }
}

/// Returns whether one of `paths` leads to a FIFO whose ID is not in `opened_pipes`. Async-signal-safe.
pub(super) fn has_fifo_unopened_by_rsup<'a>(
    mut paths: impl Iterator<Item = &'a CStr>,
    opened_pipes: &[PipeId],
) -> bool {
    let id = |path| PipeId::of(stat(path).ok()?);
    paths.any(|path| id(path).is_some_and(|id| !opened_pipes.contains(&id)))
}
