//! Descriptors 0, 1 and 2: there in any case, and written to without ever waiting for a reader.

use super::{Errno, check};
use std::os::fd::{BorrowedFd, IntoRawFd};

/// Puts something on each of 0 to 2 that is closed, so that no descriptor of rsup's own lands there: /dev/null, or
/// where there is none a pipe's reading end, on which reads end at once and writes fail.
pub fn open_missing() {
    for fd in 0..3 {
        // SAFETY: a number.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
            // The lowest free number is `fd`: those below were seen to. Left open on purpose.
            if nix::fcntl::open("/dev/null", nix::fcntl::OFlag::O_RDWR, nix::sys::stat::Mode::empty())
                .map(IntoRawFd::into_raw_fd)
                .is_err()
            {
                let _ = nix::unistd::pipe().map(|(reader, _writer)| reader.into_raw_fd());
            }
        }
    }
}

/// What a stream is, as far as writing without waiting depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pipe,
    Socket,
    Other,
}

fn kind(fd: i32) -> Kind {
    // SAFETY: 0 to 2 are open from `open_missing` on, and nobody closes them.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    match nix::sys::stat::fstat(fd).map(|stat| stat.st_mode & libc::S_IFMT) {
        Ok(libc::S_IFIFO) => Kind::Pipe,
        Ok(libc::S_IFSOCK) => Kind::Socket,
        Ok(_) | Err(_) => Kind::Other,
    }
}

/// Whether a stream is a pipe.
pub(super) fn is_pipe(fd: i32) -> bool {
    kind(fd) == Kind::Pipe
}

const STDERR: i32 = 2;

/// Writes a line to stderr, whole or not at all, and never waits: the reader may be slow, or gone, or one of the
/// programs. O_NONBLOCK is not the way, for the programs share the description. Returns whether it was written.
#[must_use]
pub fn write_line(line: &[u8]) -> bool {
    let written = match kind(STDERR) {
        Kind::Pipe => write_to_pipe(line),
        Kind::Socket => {
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            // SAFETY: `line` is as long as its length.
            let sent = unsafe { libc::send(STDERR, line.as_ptr().cast(), line.len(), flags) };
            check(sent as libc::c_long)
        }
        Kind::Other => write_if_ready(line),
    };
    written.is_ok_and(|length| usize::try_from(length) == Ok(line.len()))
}

/// `pwritev2` is the one call that can refuse to wait on a pipe that others want to wait on. Up to PIPE_BUF bytes it is
/// all or nothing.
fn write_to_pipe(line: &[u8]) -> Result<libc::c_long, Errno> {
    let slice = libc::iovec { iov_base: line.as_ptr().cast_mut().cast(), iov_len: line.len() };
    let (no_offset, flags) = (-1 as libc::c_long, libc::RWF_NOWAIT);
    // SAFETY: `slice` is one buffer, read only, which outlives the call.
    let written = unsafe {
        libc::syscall(libc::SYS_pwritev2, STDERR, &raw const slice, 1, no_offset, no_offset, flags)
    };
    match check(written) {
        // Linux before 5.5 has no RWF_NOWAIT on pipes.
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => write_if_ready(line),
        result => result,
    }
}

fn write_if_ready(line: &[u8]) -> Result<libc::c_long, Errno> {
    let mut poll = libc::pollfd { fd: STDERR, events: libc::POLLOUT, revents: 0 };
    // SAFETY: `poll` is one record, which outlives the call.
    unsafe { libc::poll(&raw mut poll, 1, 0) };
    if poll.revents & libc::POLLOUT == 0 {
        return Err(Errno::EAGAIN);
    }
    // SAFETY: `line` is as long as its length.
    let written = unsafe { libc::write(STDERR, line.as_ptr().cast(), line.len()) };
    check(written as libc::c_long)
}

/// Writes all of `text` to descriptor 1 or 2, waiting for the reader: for what a command line asked to be printed.
pub fn write_out(fd: i32, mut text: &[u8]) {
    while !text.is_empty() {
        // SAFETY: `text` is as long as its length.
        let written = unsafe { libc::write(fd, text.as_ptr().cast(), text.len()) };
        // A reader that is gone wants no more.
        let Ok(length @ 1..) = usize::try_from(written) else { return };
        text = text.get(length..).unwrap_or_default();
    }
}
