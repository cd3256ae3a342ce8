//! Descriptors 0, 1 and 2: there in any case, and written to without ever waiting for a reader.

use super::errno::{Errno, cvt};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::os::fd::{BorrowedFd, IntoRawFd};

/// Puts something on each of 0 to 2 that is closed, so that no descriptor of rsup's own lands there: /dev/null, or
/// where there is none a pipe's reading end, on which reads end at once and writes fail.
pub fn open_standard_fds() {
    let mut streams = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: as many records as it says, which outlive the call.
    unsafe { libc::poll(streams.as_mut_ptr(), 3, 0) };
    for _ in streams.iter().filter(|stream| stream.revents & libc::POLLNVAL != 0) {
        // The lowest free number is this one: those below were seen to. Left open on purpose.
        if nix::fcntl::open("/dev/null", OFlag::O_RDWR, Mode::empty()).map(IntoRawFd::into_raw_fd).is_err() {
            let _ = nix::unistd::pipe().map(|(reader, _writer)| reader.into_raw_fd());
        }
    }
}

/// What a stream is, as far as writing without waiting depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamKind {
    Pipe,
    Socket,
    Terminal,
    Other,
}

pub(super) fn kind(fd: i32) -> StreamKind {
    // SAFETY: 0 to 2 are open from `open_standard_fds` on, and nobody closes them.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    match nix::sys::stat::fstat(fd).map(|stat| stat.st_mode & libc::S_IFMT) {
        Ok(libc::S_IFIFO) => StreamKind::Pipe,
        Ok(libc::S_IFSOCK) => StreamKind::Socket,
        Ok(libc::S_IFCHR) => StreamKind::Terminal,
        Ok(_) | Err(_) => StreamKind::Other,
    }
}

/// Whether a stream is a pipe's writing end; [`open_standard_fds`] may have put a reading one there.
pub(super) fn is_writable_pipe(fd: i32) -> bool {
    // SAFETY: a number.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    kind(fd) == StreamKind::Pipe && flags & libc::O_ACCMODE != libc::O_RDONLY
}

/// Whether there is room for something, after this many milliseconds at most; -1 for ever.
pub(super) fn poll_for_room(fd: i32, timeout: i32) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
    // SAFETY: `poll` is one record, which outlives the call.
    unsafe { libc::poll(&raw mut poll, 1, timeout) };
    poll.revents & libc::POLLOUT != 0
}

pub(super) fn write(fd: i32, bytes: &[u8]) -> Result<libc::c_long, Errno> {
    // SAFETY: `bytes` is as long as its length.
    cvt(unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) } as libc::c_long)
}

/// Writes all of `text` to descriptor 1 or 2, waiting for the reader: for what a command line asked to be printed.
pub fn write_out(fd: i32, mut text: &[u8]) {
    while !text.is_empty() {
        match write(fd, text).map(usize::try_from) {
            Ok(Ok(length @ 1..)) => text = text.get(length..).unwrap_or_default(),
            Err(Errno::EAGAIN) if poll_for_room(fd, -1) => {}
            // A reader that is gone wants no more.
            _ => return,
        }
    }
}
