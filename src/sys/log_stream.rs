//! Writes log lines to stderr without waiting for the reader of stderr. The reader may be slow or stopped, or may be a
//! program that rsup itself has to restart.
//!
//! rsup never sets O_NONBLOCK on descriptor 2, because the programs share its open file description, and their writes
//! would fail with EAGAIN. So each kind of stream needs its own method to write without waiting.

use super::errno::{Errno, cvt};
use super::poll::{poll_timeout, poll_writable};
use super::stdio::{STDERR, StreamKind, standard_fd, stream_kind};
use nix::fcntl::OFlag;
use nix::poll::PollTimeout;
use nix::sys::stat::Mode;
use nix::unistd::write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// stderr, and the way to write to it without waiting.
#[derive(Debug)]
pub struct LogStream {
    kind: StreamKind,
    /// The terminal on descriptor 2, opened again through /proc with O_NONBLOCK, so that the flag affects only rsup.
    /// There is no other way to write to a terminal without waiting. `None` if stderr is not a character device, or if
    /// it cannot be opened again.
    reopened: Option<OwnedFd>,
}

impl LogStream {
    /// Finds out what kind of stream descriptor 2 is now.
    #[must_use]
    pub fn stderr() -> Self {
        let kind = stream_kind(standard_fd(STDERR));
        let reopened = if kind == StreamKind::CharacterDevice {
            let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
            nix::fcntl::open("/proc/self/fd/2", flags, Mode::empty()).ok()
        } else {
            None
        };
        Self { kind, reopened }
    }

    /// Writes as much of `bytes` as there is room for, and returns the number of bytes written. A pipe takes up to
    /// PIPE_BUF bytes as a whole or not at all.
    ///
    /// # Errors
    /// Returns EAGAIN if there may be room later. After any other errno there may never be room again.
    pub fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        match (self.kind, &self.reopened) {
            (StreamKind::Pipe, _) => write_to_pipe(bytes),
            (StreamKind::Socket, _) => write_to_socket(bytes),
            (StreamKind::CharacterDevice | StreamKind::Other, Some(terminal)) => {
                write_to_terminal(terminal.as_fd(), bytes)
            }
            (StreamKind::CharacterDevice | StreamKind::Other, None) => write_if_ready(bytes),
        }
    }

    /// Waits until stderr has room for more bytes, for at most `milliseconds`.
    pub fn wait_for_room(&self, milliseconds: u64) {
        poll_writable(self.as_fd(), poll_timeout(Duration::from_millis(milliseconds)));
    }
}

/// Returns the descriptor that poll(2) and epoll(7) report as writable when stderr has room for more bytes.
impl AsFd for LogStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reopened.as_ref().map_or_else(|| standard_fd(STDERR), AsFd::as_fd)
    }
}

/// Uses pwritev2(2), because its flag RWF_NOWAIT affects only this one write. O_NONBLOCK would also affect the writes
/// of the programs to the same pipe.
fn write_to_pipe(bytes: &[u8]) -> Result<usize, Errno> {
    let buffer = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let buffers = &raw const buffer;
    // -1 means the current position. The system call takes the position in two halves.
    let offset: libc::c_long = -1;
    let flags = libc::RWF_NOWAIT;
    // SAFETY: the kernel reads one iovec, and the `bytes` that it points to. Both stay valid during the call; the
    // kernel does not write to `bytes` although the pointer is mutable.
    let written = unsafe { libc::syscall(libc::SYS_pwritev2, STDERR, buffers, 1, offset, offset, flags) };
    match cvt(written) {
        // The pipe is full, or no process has it open for reading.
        Err(errno @ (Errno::EAGAIN | Errno::EPIPE)) => Err(errno),
        // Linux before 5.5 does not support RWF_NOWAIT for pipes, and a seccomp filter may refuse pwritev2(2).
        Err(_) => write_if_ready(bytes),
        Ok(length) => Ok(usize::try_from(length).unwrap_or(0)),
    }
}

fn write_to_socket(bytes: &[u8]) -> Result<usize, Errno> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the kernel reads `bytes.len()` bytes from `bytes`, which stays valid during the call.
    let sent = unsafe { libc::send(STDERR, bytes.as_ptr().cast(), bytes.len(), flags) };
    match (usize::try_from(sent), Errno::last()) {
        (Ok(length), _) => Ok(length),
        // A seccomp filter that allows write(2) may refuse this call.
        (Err(_), Errno::EPERM | Errno::EACCES | Errno::ENOSYS) => write_if_ready(bytes),
        (Err(_), errno) => Err(errno),
    }
}

/// A terminal accepts one writer at a time, and returns EAGAIN to the others although it has room. The other writer
/// needs little time, so rsup yields the processor and tries again.
fn write_to_terminal(terminal: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    const TRIES: u32 = 100;
    for _ in 0..TRIES {
        match write(terminal, bytes) {
            Err(Errno::EAGAIN) if poll_writable(terminal, PollTimeout::ZERO) => std::thread::yield_now(),
            result => return result,
        }
    }
    Err(Errno::EAGAIN)
}

/// Writes only if poll(2) reports room. The write can still wait, if another writer takes the room first.
fn write_if_ready(bytes: &[u8]) -> Result<usize, Errno> {
    let stderr = standard_fd(STDERR);
    if poll_writable(stderr, PollTimeout::ZERO) { write(stderr, bytes) } else { Err(Errno::EAGAIN) }
}
