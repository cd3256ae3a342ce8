//! Descriptors 0, 1 and 2: opening those that are closed, and finding out what kind of stream each is.

use super::errno::Errno;
use super::poll::poll_writable;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::PollTimeout;
use nix::sys::stat::Mode;
use std::os::fd::{BorrowedFd, IntoRawFd, RawFd};

pub(super) const STDIN: RawFd = libc::STDIN_FILENO;
pub const STDOUT: RawFd = libc::STDOUT_FILENO;
pub const STDERR: RawFd = libc::STDERR_FILENO;

/// Opens every closed descriptor from 0 to 2 on /dev/null, so that no other file of rsup gets one of these numbers. If
/// /dev/null cannot be opened, the descriptor becomes the read end of a pipe that has no writer: a read returns end of
/// file, and a write fails.
///
/// # Errors
/// Returns the errno of pipe(2) if neither /dev/null nor a pipe can be opened.
pub fn open_standard_fds() -> Result<(), Errno> {
    let mut streams = [STDIN, STDOUT, STDERR].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // nix's `poll` takes only open descriptors, and some of these three may be closed.
    // SAFETY: poll(2) reads and writes three records, and `streams` has three. With the timeout 0, poll(2) does not
    // wait.
    unsafe { libc::poll(streams.as_mut_ptr(), 3, 0) };
    for _ in streams.iter().filter(|stream| stream.revents & libc::POLLNVAL != 0) {
        // open(2) and pipe(2) return the lowest free number. That is the number of the closed descriptor that this pass
        // of the loop handles, because all lower ones are open by now. `into_raw_fd` keeps the descriptor open until
        // rsup exits.
        if nix::fcntl::open("/dev/null", OFlag::O_RDWR, Mode::empty()).map(IntoRawFd::into_raw_fd).is_err() {
            let (reader, _writer) = nix::unistd::pipe()?;
            let _ = reader.into_raw_fd();
        }
    }
    Ok(())
}

/// Borrows [`STDIN`], [`STDOUT`] or [`STDERR`].
pub(super) fn standard_fd(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: rsup never closes descriptors 0 to 2, so they stay open from `open_standard_fds` to the end.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// The kind of a descriptor's file. It decides how rsup can write to the descriptor without waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamKind {
    Pipe,
    Socket,
    /// A terminal, or a device such as /dev/null.
    CharacterDevice,
    RegularFile,
    /// A file of another type, or a descriptor that fstat(2) fails for.
    Other,
}

pub(super) fn stream_kind(fd: BorrowedFd<'_>) -> StreamKind {
    match nix::sys::stat::fstat(fd).map(|stat| stat.st_mode & libc::S_IFMT) {
        Ok(libc::S_IFIFO) => StreamKind::Pipe,
        Ok(libc::S_IFSOCK) => StreamKind::Socket,
        Ok(libc::S_IFCHR) => StreamKind::CharacterDevice,
        Ok(libc::S_IFREG) => StreamKind::RegularFile,
        Ok(_) | Err(_) => StreamKind::Other,
    }
}

/// Returns whether standard descriptor `fd` is the write end of a pipe. [`open_standard_fds`] may have put the read end
/// of a pipe in the place of a closed descriptor, and writes to a read end fail.
#[must_use]
pub fn is_writable_pipe(fd: RawFd) -> bool {
    let fd = standard_fd(fd);
    let access = fcntl(fd, FcntlArg::F_GETFL).map(|flags| flags & libc::O_ACCMODE);
    stream_kind(fd) == StreamKind::Pipe && access != Ok(libc::O_RDONLY)
}

/// Returns whether descriptors 1 and 2 lead to the same file, pipe or terminal.
#[must_use]
pub fn stdout_is_stderr() -> bool {
    let identity = |fd| nix::sys::stat::fstat(standard_fd(fd)).map(|stat| (stat.st_dev, stat.st_ino));
    identity(STDOUT).is_ok_and(|stdout| Ok(stdout) == identity(STDERR))
}

/// Writes all of `text` to [`STDOUT`] or [`STDERR`]. Waits while the stream has no room for more bytes. This function
/// is for the output of supervisorctl, and of options such as `--help` and `--check`. Log lines must not wait, so
/// `OutputStream` writes them.
///
/// # Errors
/// Returns the errno of the write(2) that failed. The rest of the text is not written. The errno is EPIPE if the reader
/// of the stream has closed it. By default, SIGPIPE ends the process in this case; a process that ignores or blocks
/// SIGPIPE gets the error.
pub fn write_out(fd: RawFd, mut text: &[u8]) -> Result<(), Errno> {
    let fd = standard_fd(fd);
    while !text.is_empty() {
        match nix::unistd::write(fd, text) {
            Ok(0) => return Err(Errno::EIO),
            Ok(length) => text = text.get(length..).unwrap_or_default(),
            Err(Errno::EAGAIN) if poll_writable(fd, PollTimeout::NONE) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Reads one byte from stdin. Returns `None` at the end of the input, and after an error.
#[must_use]
pub fn read_stdin_byte() -> Option<u8> {
    let mut byte = [0];
    loop {
        match nix::unistd::read(standard_fd(STDIN), &mut byte) {
            Ok(1) => return Some(u8::from_ne_bytes(byte)),
            Err(Errno::EINTR) => {}
            Ok(_) | Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn every_kind_of_stream_is_recognised() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        assert_eq!(stream_kind(reader.as_fd()), StreamKind::Pipe);
        assert_eq!(stream_kind(writer.as_fd()), StreamKind::Pipe);
        let (socket, _peer) = UnixStream::pair().unwrap();
        assert_eq!(stream_kind(socket.as_fd()), StreamKind::Socket);
        let device = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(stream_kind(device.as_fd()), StreamKind::CharacterDevice);
        assert_eq!(stream_kind(tempfile::tempfile().unwrap().as_fd()), StreamKind::RegularFile);
    }
}
