//! stderr as the log writes to it.

use super::errno::{Errno, cvt};
use super::stdio::{StreamKind, kind, poll_for_room, write};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const STDERR: i32 = 2;

/// stderr as a log writes to it: without ever waiting, for the reader may be slow, or gone, or one of the programs.
/// O_NONBLOCK on the descriptor itself is not the way, for the programs share its description.
#[derive(Debug)]
pub struct LogStream {
    kind: StreamKind,
    /// A description of its own that does not wait, where there can be one: terminals have no other way.
    own: Option<OwnedFd>,
}

impl LogStream {
    /// The stream that descriptor 2 is now.
    #[must_use]
    pub fn stderr() -> Self {
        let kind = kind(STDERR);
        let own = if kind == StreamKind::Terminal {
            let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
            nix::fcntl::open("/proc/self/fd/2", flags, Mode::empty()).ok()
        } else {
            None
        };
        Self { kind, own }
    }

    /// Writes as much as fits now; up to PIPE_BUF bytes to a pipe all or nothing. Returns how much that was.
    ///
    /// # Errors
    /// EAGAIN where there will be room later, another where there may never be.
    pub fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        let written = match (self.kind, &self.own) {
            (StreamKind::Pipe, _) => write_to_pipe(bytes),
            (StreamKind::Socket, _) => {
                let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
                // SAFETY: `bytes` is as long as its length.
                cvt(unsafe { libc::send(STDERR, bytes.as_ptr().cast(), bytes.len(), flags) } as libc::c_long)
            }
            (StreamKind::Terminal | StreamKind::Other, Some(own)) => {
                write_to_terminal(own.as_raw_fd(), bytes)
            }
            (StreamKind::Terminal | StreamKind::Other, None) => write_if_ready(bytes),
        };
        written.map(|length| usize::try_from(length).unwrap_or(0))
    }

    /// Waits until there is room for something, so many milliseconds at most.
    pub fn wait_for_room(&self, milliseconds: u64) {
        poll_for_room(self.as_fd().as_raw_fd(), i32::try_from(milliseconds).unwrap_or(i32::MAX));
    }
}

/// What becomes ready when there is room.
impl AsFd for LogStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: 0 to 2 are open from `open_standard_fds` on, and nobody closes them.
        self.own.as_ref().map_or(unsafe { BorrowedFd::borrow_raw(STDERR) }, AsFd::as_fd)
    }
}

/// `pwritev2` is the one call that can refuse to wait on a pipe that others want to wait on.
fn write_to_pipe(bytes: &[u8]) -> Result<libc::c_long, Errno> {
    let slice = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let (no_offset, flags) = (-1 as libc::c_long, libc::RWF_NOWAIT);
    // SAFETY: `slice` is one buffer, read only, which outlives the call.
    let written = unsafe {
        libc::syscall(libc::SYS_pwritev2, STDERR, &raw const slice, 1, no_offset, no_offset, flags)
    };
    match cvt(written) {
        // Full, or nobody reads it.
        Err(errno @ (Errno::EAGAIN | Errno::EPIPE)) => Err(errno),
        // Linux before 5.5 has no such flag for pipes, and a filter of system calls may not know the call.
        Err(_) => write_if_ready(bytes),
        written => written,
    }
}

/// A terminal has one writer at a time, and says EAGAIN to others while it has room: then it is their turn in no time.
fn write_to_terminal(fd: i32, bytes: &[u8]) -> Result<libc::c_long, Errno> {
    const TRIES: u32 = 100;
    for _ in 0..TRIES {
        match write(fd, bytes) {
            Err(Errno::EAGAIN) if poll_for_room(fd, 0) => {
                // SAFETY: takes nothing, cannot fail.
                unsafe { libc::sched_yield() };
            }
            written => return written,
        }
    }
    Err(Errno::EAGAIN)
}

fn write_if_ready(bytes: &[u8]) -> Result<libc::c_long, Errno> {
    if poll_for_room(STDERR, 0) { write(STDERR, bytes) } else { Err(Errno::EAGAIN) }
}
