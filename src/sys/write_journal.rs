//! Records the lines that a relay is writing to a regular file. If the relay is killed during the write, the next
//! relay writes the rest of these lines.

use super::relay::map_shared;
use super::stdio::{StreamKind, standard_fd, stream_kind};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Whence, lseek};
use std::cell::UnsafeCell;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

/// The lines that a relay is writing to rsup's stdout or stderr, if that is a regular file. SIGKILL can end a
/// write(2) to a file between two pages, so a killed relay may leave only a part of a line in the file. The later
/// relays share this memory. The next relay finds out from the position of the file how much is written, and writes
/// the rest.
#[derive(Debug)]
pub struct WriteJournal {
    file: BorrowedFd<'static>,
    /// How lseek(2) finds the position at which the next write begins.
    next: Whence,
    lines: &'static SharedLines,
}

/// The shared memory. At any time, only one relay uses it.
#[derive(Debug)]
#[repr(C)]
struct SharedLines {
    /// The position in the file at which the lines begin.
    start: AtomicI64,
    /// The number of bytes of the lines. 0 if nothing is being written.
    length: AtomicUsize,
    bytes: UnsafeCell<[u8; WriteJournal::CAPACITY]>,
}

// SAFETY: rsup has one thread, and rsup and the relays are processes of their own.
unsafe impl Sync for SharedLines {}

impl WriteJournal {
    /// The maximum number of bytes of the recorded lines.
    const CAPACITY: usize = 64 * 1024;

    /// Maps memory for the lines that are written to a standard descriptor. The memory is never unmapped. Returns
    /// `None` if the descriptor is not a regular file, or if fcntl(2) or mmap(2) fails.
    #[must_use]
    pub fn new(fd: RawFd) -> Option<Self> {
        let file = standard_fd(fd);
        if stream_kind(file) != StreamKind::RegularFile {
            return None;
        }
        let flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL).ok()?);
        let next = if flags.contains(OFlag::O_APPEND) { Whence::SeekEnd } else { Whence::SeekCur };
        let memory = map_shared(size_of::<SharedLines>()).ok()?;
        // SAFETY: the mapping begins at a page, is as long as a `SharedLines`, and is never unmapped. The kernel has
        // set it to zero, which is valid for each field.
        Some(Self { file, next, lines: unsafe { &*memory.cast() } })
    }

    /// Records lines that are written next. Records nothing if they are too long, or if a seccomp filter refuses
    /// lseek(2).
    pub fn begin(&self, lines: &[u8]) {
        let Ok(start) = lseek(self.file, 0, self.next) else { return };
        if lines.len() <= Self::CAPACITY {
            self.lines.start.store(start, Ordering::Relaxed);
            // SAFETY: the memory has room for the lines, and no reference to it exists.
            unsafe {
                self.lines.bytes.get().cast::<u8>().copy_from_nonoverlapping(lines.as_ptr(), lines.len())
            };
            // If this relay is killed before this store, the next relay finds the length 0 and writes nothing.
            self.lines.length.store(lines.len(), Ordering::Release);
        }
    }

    /// Returns the bytes that an earlier relay has recorded and that the file does not contain yet. These bytes are the
    /// last part of the recorded lines. The result is wrong if another process has written to the file meanwhile. In
    /// that case, the bytes of the other process may be in the middle of a line anyway.
    #[must_use]
    pub fn rest(&self) -> Vec<u8> {
        let length = self.lines.length.load(Ordering::Acquire);
        let written =
            lseek(self.file, 0, Whence::SeekCur).map(|end| end - self.lines.start.load(Ordering::Relaxed));
        // SAFETY: the reference ends before the next call of `begin`.
        let bytes = unsafe { &*self.lines.bytes.get() };
        let rest = usize::try_from(written.unwrap_or(-1)).ok().and_then(|written| bytes.get(written..length));
        rest.unwrap_or_default().to_vec()
    }

    /// Records that no line is left to write.
    pub fn end(&self) {
        self.lines.length.store(0, Ordering::Relaxed);
    }
}
