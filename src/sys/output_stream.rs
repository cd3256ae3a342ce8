//! Writes to stdout or stderr without waiting for the reader. The reader may be slow or stopped, or may be a program
//! that rsup itself has to restart.
//!
//! rsup never sets O_NONBLOCK on descriptors 1 and 2. The programs share the open file descriptions of these
//! descriptors, so the programs' writes would then fail with EAGAIN. So each kind of stream needs its own method to
//! write without waiting.

use super::errno::{Errno, cvt};
use super::poll::{poll_timeout, poll_writable};
use super::stdio::{STDERR, STDOUT, StreamKind, standard_fd, stream_kind};
use nix::fcntl::OFlag;
use nix::poll::PollTimeout;
use nix::sys::stat::Mode;
use nix::unistd::write;
use std::io::IsTerminal;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// stdout, stderr or a pipe, and the way to write to it without waiting.
#[derive(Debug)]
pub struct OutputStream {
    fd: BorrowedFd<'static>,
    kind: StreamKind,
    /// The terminal, opened again through /proc with O_NONBLOCK, so that the flag affects only rsup. There is no other
    /// way to write to a terminal without waiting. `None` if the stream is not a character device, or if it cannot be
    /// opened again.
    reopened_terminal: Option<OwnedFd>,
}

impl OutputStream {
    /// Finds out what kind of stream descriptor 1 is now.
    #[must_use]
    pub fn stdout() -> Self {
        Self::of(STDOUT, "/proc/self/fd/1")
    }

    /// Finds out what kind of stream descriptor 2 is now.
    #[must_use]
    pub fn stderr() -> Self {
        Self::of(STDERR, "/proc/self/fd/2")
    }

    /// A stream that writes to a pipe. The pipe stays open until rsup exits.
    #[must_use]
    pub fn pipe(writer: OwnedFd) -> Self {
        // SAFETY: `into_raw_fd` gives up the only owner of the descriptor, so nothing closes it.
        let fd = unsafe { BorrowedFd::borrow_raw(writer.into_raw_fd()) };
        Self { fd, kind: StreamKind::Pipe, reopened_terminal: None }
    }

    fn of(fd: RawFd, path: &str) -> Self {
        let fd = standard_fd(fd);
        let kind = stream_kind(fd);
        let reopened_terminal = if kind == StreamKind::CharacterDevice {
            let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
            nix::fcntl::open(path, flags, Mode::empty()).ok()
        } else {
            None
        };
        Self { fd, kind, reopened_terminal }
    }

    /// Writes as much of `bytes` as there is room for, and returns the number of bytes written. A pipe takes up to
    /// PIPE_BUF bytes as a whole or not at all.
    ///
    /// # Errors
    /// Returns EAGAIN if there may be room later. After any other errno there may never be room again.
    pub fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        match (self.kind, &self.reopened_terminal) {
            (StreamKind::Pipe, _) => write_to_pipe(self.fd, bytes),
            (StreamKind::Socket, _) => write_to_socket(self.fd, bytes),
            // A write to a regular file waits for no reader.
            (StreamKind::RegularFile, _) => write(self.fd, bytes),
            (StreamKind::CharacterDevice | StreamKind::Other, Some(terminal)) => {
                write_to_terminal(terminal.as_fd(), bytes)
            }
            (StreamKind::CharacterDevice | StreamKind::Other, None) => write_if_ready(self.fd, bytes),
        }
    }

    /// Whether the stream is a terminal.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.fd.is_terminal()
    }

    /// Waits until the stream has room for more bytes, for at most `milliseconds`.
    pub fn wait_for_room(&self, milliseconds: u64) {
        poll_writable(self.as_fd(), poll_timeout(Duration::from_millis(milliseconds)));
    }
}

/// Returns the descriptor that poll(2) and epoll(7) report as writable when the stream has room for more bytes.
impl AsFd for OutputStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reopened_terminal.as_ref().map_or(self.fd, AsFd::as_fd)
    }
}

/// Uses pwritev2(2), because its flag RWF_NOWAIT affects only this one write. O_NONBLOCK would also affect the writes
/// of the programs to the same pipe.
fn write_to_pipe(pipe: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    let buffer = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let buffers = &raw const buffer;
    // -1 means the current position. The system call takes the position in two halves.
    let offset: libc::c_long = -1;
    let flags = libc::RWF_NOWAIT;
    // SAFETY: the kernel reads one iovec, and the `bytes` that it points to. Both stay valid during the call; the
    // kernel does not write to `bytes` although the pointer is mutable.
    let written =
        unsafe { libc::syscall(libc::SYS_pwritev2, pipe.as_raw_fd(), buffers, 1, offset, offset, flags) };
    match cvt(written) {
        // The pipe is full, no process has it open for reading, or the descriptor is the reading end.
        Err(errno @ (Errno::EAGAIN | Errno::EPIPE | Errno::EBADF)) => Err(errno),
        // Linux before 6.4 does not support RWF_NOWAIT for pipes. Later kernels do not support it for a FIFO, for a
        // pipe that was opened through /proc, or after splice(2). A seccomp filter may also refuse pwritev2(2).
        Err(_) => write_if_ready(pipe, bytes),
        Ok(length) => Ok(usize::try_from(length).unwrap_or(0)),
    }
}

fn write_to_socket(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the kernel reads `bytes.len()` bytes from `bytes`, which stays valid during the call.
    let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    match (usize::try_from(sent), Errno::last()) {
        (Ok(length), _) => Ok(length),
        // A seccomp filter that allows write(2) may refuse this call.
        (Err(_), Errno::EPERM | Errno::EACCES | Errno::ENOSYS) => write_if_ready(socket, bytes),
        (Err(_), errno) => Err(errno),
    }
}

/// A terminal accepts one writer at a time, and returns EAGAIN to the others although it has room. The other writer
/// needs little time. So if poll(2) reports room after EAGAIN, rsup yields the processor and tries again, up to `TRIES`
/// times in all.
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

/// Writes only if poll(2) reports room. The write can still wait, if there is room for only a part of `bytes`, or if
/// another writer takes the room first.
fn write_if_ready(stream: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    if poll_writable(stream, PollTimeout::ZERO) { write(stream, bytes) } else { Err(Errno::EAGAIN) }
}
