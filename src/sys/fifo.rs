//! The FIFOs that are log files of programs. rsup keeps each of them open for writing, because the reader of a FIFO
//! gets end of file when the last process that has the FIFO open for writing exits or closes it.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    clippy::unwrap_used,
    reason = "the child calls `has_unopened_fifo` in rsup's memory and must not panic: see clone_vm.rs"
)]

use super::errno::Errno;
use super::stdio::{STDERR, STDOUT, standard_fd};
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode, fstat, stat};
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

/// The device and the inode of a FIFO or of a pipe. No other file has the same pair while this file is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PipeId(libc::dev_t, libc::ino_t);

impl PipeId {
    /// Returns `None` for any other kind of file.
    fn of(stat: FileStat) -> Option<Self> {
        (stat.st_mode & libc::S_IFMT == libc::S_IFIFO).then_some(Self(stat.st_dev, stat.st_ino))
    }
}

/// The pipes that rsup has open for writing.
#[derive(Debug)]
pub(super) struct OpenFifos {
    /// rsup's own stdout and stderr. A path such as `/dev/stdout` or a symbolic link to it leads to them.
    own_streams: Vec<PipeId>,
    log_files: Vec<OpenFifo>,
}

#[derive(Debug)]
struct OpenFifo {
    path: CString,
    id: PipeId,
    _write_end: OwnedFd,
}

impl OpenFifos {
    pub(super) fn new() -> Self {
        let id = |stream| PipeId::of(fstat(standard_fd(stream)).ok()?);
        Self { own_streams: [STDOUT, STDERR].into_iter().filter_map(id).collect(), log_files: Vec::new() }
    }

    pub(super) fn ids(&self) -> Vec<PipeId> {
        self.own_streams.iter().chain(self.log_files.iter().map(|fifo| &fifo.id)).copied().collect()
    }

    /// Opens the file if it is a FIFO. A FIFO that nobody reads stays closed, because the child that opens the FIFO
    /// next reports that error.
    ///
    /// # Errors
    /// Returns the errno of open(2).
    pub(super) fn open(&mut self, path: &CStr) -> Result<(), Errno> {
        // This check comes first, because opening a device can have an effect on the device.
        if !stat(path).is_ok_and(|stat| PipeId::of(stat).is_some()) {
            return Ok(());
        }
        // Without O_NONBLOCK, open(2) waits until a process opens the FIFO for reading.
        let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let opened = match nix::fcntl::open(path, flags, Mode::empty()) {
            Ok(opened) => opened,
            Err(Errno::ENXIO) => return Ok(()),
            Err(errno) => return Err(errno),
        };
        if let Some(id) = PipeId::of(fstat(&opened)?) {
            // This closes the former FIFO of this path, if a new one has replaced it.
            self.log_files.retain(|fifo| *fifo.path != *path);
            self.log_files.push(OpenFifo { path: path.to_owned(), id, _write_end: opened });
        }
        Ok(())
    }
}

/// Whether a path leads to a FIFO that is not in the list. Async-signal-safe.
pub(super) fn has_unopened_fifo<'a>(mut paths: impl Iterator<Item = &'a CStr>, open: &[PipeId]) -> bool {
    let id = |path| PipeId::of(stat(path).ok()?);
    paths.any(|path| id(path).is_some_and(|id| !open.contains(&id)))
}
