//! What the kernel provides for the relay, the process that carries the output of the programs: its pipes, the fork
//! that creates it, and the memory from which the next relay sees where a killed relay stopped.

use super::errno::{Errno, cvt};
use super::fork::raw_fork;
use super::kill::Pid;
use super::poll::{poll_for, poll_timeout};
use super::spawn_program::open_for_writing;
use super::stdio::{StreamKind, stream_kind};
use super::system::close_range;
use super::wait::{WaitStatus, decode};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::PollFlags;
use nix::unistd::{pipe2, read, write};
use std::ffi::{CStr, c_void};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// A pipe through which rsup or a program writes to the relay. rsup keeps both ends open while programs may be started.
/// So the relay sees no end of file when a program exits, and a writer gets no EPIPE when the relay dies. When rsup
/// exits, the relay sees end of file as soon as no program has the writing end open.
#[derive(Debug)]
pub struct RelayPipe {
    pub reader: OwnedFd,
    pub writer: OwnedFd,
}

impl RelayPipe {
    /// Creates a pipe whose reading end does not wait.
    ///
    /// # Errors
    /// Returns the errno of pipe2(2) or of fcntl(2).
    pub fn with_nonblocking_reader() -> Result<Self, Errno> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self { reader, writer })
    }

    /// Creates a pipe whose ends do not wait. Programs do not get such a pipe, because most of them expect that a write
    /// waits for room.
    ///
    /// # Errors
    /// Returns the errno of pipe2(2).
    pub fn nonblocking() -> Result<Self, Errno> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        Ok(Self { reader, writer })
    }
}

/// Reads what a pipe contains, up to the length of `buffer`, without waiting. Returns 0 at end of file.
///
/// # Errors
/// Returns EAGAIN if the pipe is empty.
pub fn read_pipe(reader: &impl AsFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    read(reader, buffer)
}

/// Writes a record of at most PIPE_BUF bytes to a pipe whose writes do not wait.
///
/// # Errors
/// Returns EAGAIN if the pipe has no room for the record.
pub fn write_record(writer: &impl AsFd, record: &[u8]) -> Result<(), Errno> {
    write(writer, record).map(drop)
}

/// Opens a log file for appending, and creates it if it does not exist. If `truncate` is set, empties it.
///
/// # Errors
/// Returns the errno of open(2), and EINVAL if the path leads to something else than a regular file.
pub fn open_log_file(path: &Path, truncate: bool) -> Result<File, Errno> {
    let truncate = if truncate { OFlag::O_TRUNC } else { OFlag::empty() };
    let file = File::from(open_for_writing(path, OFlag::O_APPEND | OFlag::O_CREAT | truncate)?);
    if stream_kind(file.as_fd()) == StreamKind::RegularFile { Ok(file) } else { Err(Errno::EINVAL) }
}

/// A pipe that holds whole lines until a stream takes them. splice(2) moves them from this pipe to the stream, which
/// has to be a pipe too. The kernel keeps the rest of a line that was moved in part, so the next relay can complete the
/// line if this relay is killed.
#[derive(Debug)]
pub struct StagingPipe(RelayPipe);

impl StagingPipe {
    /// How many bytes an empty pipe takes at once.
    pub const CAPACITY: usize = 64 * 1024;

    /// Creates an empty pipe.
    ///
    /// # Errors
    /// Returns the errno of pipe2(2) or fcntl(2). Returns EPERM if the kernel gives this user only small pipes.
    pub fn new() -> Result<Self, Errno> {
        let pipe = RelayPipe::nonblocking()?;
        match fcntl(&pipe.reader, FcntlArg::F_GETPIPE_SZ)? {
            size if usize::try_from(size).is_ok_and(|size| size >= Self::CAPACITY) => Ok(Self(pipe)),
            _ => Err(Errno::EPERM),
        }
    }

    /// The descriptors of the pipe.
    pub fn descriptors(&self) -> [RawFd; 2] {
        [self.0.reader.as_raw_fd(), self.0.writer.as_raw_fd()]
    }

    /// Puts at most [`Self::CAPACITY`] bytes into the empty pipe, and returns their number. SIGKILL cannot interrupt
    /// this write, because it does not wait.
    ///
    /// # Errors
    /// Returns the errno of write(2).
    pub fn put(&self, lines: &[u8]) -> Result<usize, Errno> {
        write(&self.0.writer, lines)
    }

    /// Moves bytes to a stream, which must be a pipe, without waiting. Returns the number of bytes, or `None` if this
    /// pipe is empty.
    ///
    /// # Errors
    /// Returns EAGAIN if the stream has no room, and EPIPE if the stream has no reader. Otherwise returns the errno of
    /// ioctl(2) or splice(2).
    pub fn move_to(&self, stream: BorrowedFd<'_>) -> Result<Option<usize>, Errno> {
        // splice(2) returns EAGAIN also if this pipe is empty.
        if self.is_empty()? {
            return Ok(None);
        }
        let source = self.0.reader.as_raw_fd();
        let flags = libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MOVE;
        // SAFETY: the null pointers mean that both descriptors are used at their positions; no memory is touched.
        let moved = unsafe {
            libc::splice(source, null_mut(), stream.as_raw_fd(), null_mut(), Self::CAPACITY, flags)
        };
        cvt(moved as libc::c_long).map(|moved| usize::try_from(moved).ok())
    }

    fn is_empty(&self) -> Result<bool, Errno> {
        let mut bytes: libc::c_int = 0;
        // SAFETY: ioctl(2) with FIONREAD writes one int to `bytes`, which is an int and stays valid during the call.
        let result = unsafe { libc::ioctl(self.0.reader.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
        cvt(result.into()).map(|_| bytes == 0)
    }

    /// Moves bytes from the pipe to `buffer`. Returns their number, which is 0 if the pipe is empty.
    pub fn take(&self, buffer: &mut [u8]) -> usize {
        read(&self.0.reader, buffer).unwrap_or(0)
    }
}

/// For each stream, whether the relay has read a line only in part. The memory is shared with the later relays: if this
/// relay is killed, the next one knows which streams begin in the middle of a line.
#[derive(Debug)]
pub struct InsideLineFlags(&'static [AtomicU8]);

impl InsideLineFlags {
    /// Maps memory for this number of streams. It is never unmapped.
    ///
    /// # Errors
    /// Returns the errno of mmap(2).
    pub fn new(streams: usize) -> Result<Self, Errno> {
        let length = streams.max(1);
        let mapping = map_shared(length)?;
        // SAFETY: the mapping has `length` bytes, which the kernel has set to zero, and it is never unmapped. All
        // processes access it only through these atomics.
        Ok(Self(unsafe { std::slice::from_raw_parts(mapping.cast(), length) }))
    }

    /// Whether the relay may have read a line of this stream only in part.
    #[must_use]
    pub fn is_inside_line(&self, stream: usize) -> bool {
        self.0.get(stream).is_some_and(|inside| inside.load(Ordering::Relaxed) != 0)
    }

    /// Records whether the relay may have read a line of this stream only in part.
    pub fn set_inside_line(&self, stream: usize, inside: bool) {
        if let Some(position) = self.0.get(stream) {
            position.store(inside.into(), Ordering::Relaxed);
        }
    }
}

/// Maps memory that this process shares with the children that it forks later.
///
/// # Errors
/// Returns the errno of mmap(2).
pub(super) fn map_shared(length: usize) -> Result<*mut c_void, Errno> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: the kernel chooses an address range that nothing else uses.
    let mapping = unsafe { libc::mmap(null_mut(), length, access, kind, -1, 0) };
    if mapping == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(mapping) }
}

/// A relay that has been forked and not been reaped.
#[derive(Debug)]
pub struct RelayChild {
    pid: Pid,
    /// The reading end of a pipe of which only the relay has the writing end. It is at end of file when the relay has
    /// exited.
    exit_pipe: OwnedFd,
}

/// Forks the relay, which calls `run_relay` and exits with the exit status that `run_relay` returns. In the
/// relay, all descriptors above 2 except `keep` are closed.
///
/// The kernel sends no SIGCHLD for this child, and waitpid(2) without `__WCLONE` does not see this child. So
/// `wait_any` never reaps the relay, and returns ECHILD if the relay is the only child. /proc lists the relay among
/// the children nevertheless.
///
/// # Errors
/// Returns the errno of pipe2(2), fcntl(2) or clone(2).
pub fn fork_relay(
    name: &CStr,
    keep: &mut Vec<RawFd>,
    run_relay: impl FnOnce() -> u8,
) -> Result<RelayChild, Errno> {
    let (exit_pipe, writer) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&exit_pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    // SAFETY: rsup has one thread, so no other thread holds a lock when the memory is copied.
    let Some(pid) = unsafe { raw_fork(0) }? else {
        // SAFETY: prctl(2) with PR_SET_NAME reads a string that ends in NUL, and a `CStr` ends in NUL.
        unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
        keep.push(writer.as_raw_fd());
        close_all_except(keep);
        let status = run_relay();
        // SAFETY: _exit(2) takes a number; unlike exit(3) it runs no exit handlers of the parent.
        unsafe { libc::_exit(status.into()) }
    };
    Ok(RelayChild { pid, exit_pipe })
}

/// Closes every descriptor above 2 that is not in the list.
fn close_all_except(keep: &mut [RawFd]) {
    keep.sort_unstable();
    let mut first = 3;
    for kept in keep.iter().copied().chain([RawFd::MAX]) {
        if first < kept {
            // The relay never uses or drops a value that owns one of these descriptors.
            close_range(first, kept.saturating_sub(1));
        }
        first = kept.saturating_add(1);
    }
}

impl RelayChild {
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether the relay has exited.
    #[must_use]
    pub fn has_exited(&self) -> bool {
        // A seccomp filter that refuses read(2) must not make rsup wait for ever.
        read(&self.exit_pipe, &mut [0]) != Err(Errno::EAGAIN)
    }

    /// Waits until the relay has exited, for at most `timeout`. Returns whether it has exited.
    #[must_use]
    pub fn wait_for_exit(&self, timeout: Duration) -> bool {
        // poll(2) reports the end of file also if no event is requested.
        let _ = poll_for(self.exit_pipe.as_fd(), PollFlags::empty(), poll_timeout(timeout));
        self.has_exited()
    }

    /// Reaps the relay. Returns how it has ended, or `None` if it cannot be reaped yet. That can be so for a moment
    /// after [`RelayChild::has_exited`] has returned true.
    pub fn reap(&self) -> Option<WaitStatus> {
        let mut status = 0;
        let options = libc::__WCLONE | libc::WNOHANG;
        // SAFETY: waitpid(2) writes one int to `status`, which is an int and stays valid during the call.
        let pid = unsafe { libc::waitpid(self.pid.number(), &raw mut status, options) };
        match pid {
            0 => None,
            pid if pid == self.pid.number() => Some(decode(status)),
            // A seccomp filter refuses waitpid(2), and the relay stays a zombie.
            _ => Some(WaitStatus::Other),
        }
    }
}

impl AsFd for RelayChild {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.exit_pipe.as_fd()
    }
}
