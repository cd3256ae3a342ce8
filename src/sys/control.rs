//! What the kernel provides for control: a file in memory, which rsup writes and its clients read, and a pipe in the
//! other direction. Clients open both through /proc/PID/fd.

use super::errno::{Errno, cvt};
use super::poll::{poll_for, poll_timeout, poll_writable, sleep_without_poll};
use nix::fcntl::OFlag;
use nix::poll::{PollFlags, PollTimeout};
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::unistd::{pipe2, read, write};
use std::ffi::CStr;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A file in memory that has no path.
#[derive(Debug)]
pub struct MemoryFile(File);

impl MemoryFile {
    /// Creates an empty file. The kernel shows `name` in /proc/PID/fd.
    ///
    /// # Errors
    /// Returns the errno of memfd_create(2).
    pub fn new(name: &CStr) -> Result<Self, Errno> {
        // MFD_NOEXEC_SEAL is set because `vm.memfd_noexec` may forbid memory files without it. Kernels before 6.3
        // return EINVAL for it.
        let created =
            Self::create_memfd(name, libc::MFD_CLOEXEC | libc::MFD_NOEXEC_SEAL).or_else(
                |errno| match errno {
                    Errno::EINVAL => Self::create_memfd(name, libc::MFD_CLOEXEC),
                    errno => Err(errno),
                },
            );
        let fd = created?;
        // A write of another process could damage the file. With this mode, other processes of rsup's user can open the
        // file only for reading, unless they have CAP_DAC_OVERRIDE. An error is ignored, because rsup also works
        // without this mode.
        let _ = fchmod(&fd, Mode::S_IRUSR);
        Ok(Self(fd.into()))
    }

    fn create_memfd(name: &CStr, flags: libc::c_uint) -> Result<OwnedFd, Errno> {
        // SAFETY: memfd_create(2) reads a string that ends in NUL, and a `CStr` ends in NUL.
        let fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
        cvt(fd.into())?;
        // SAFETY: the kernel has just created this descriptor, so nothing else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Writes `bytes` at `offset` with one call of pwrite(2).
    ///
    /// # Errors
    /// Returns the errno of pwrite(2), and ENOSPC if pwrite(2) has not written every byte.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), Errno> {
        match self.0.write_at(bytes, offset) {
            Ok(length) if length == bytes.len() => Ok(()),
            Ok(_) => Err(Errno::ENOSPC),
            Err(error) => Err(Errno::from_raw(error.raw_os_error().unwrap_or(0))),
        }
    }
}

/// The pipe from which rsup reads requests. rsup keeps the write end too: if no process had the write end open,
/// epoll(7) would report the read end as ready all the time.
#[derive(Debug)]
pub struct RequestPipe {
    reader: OwnedFd,
    _writer: OwnedFd,
}

impl RequestPipe {
    /// Creates the pipe.
    ///
    /// # Errors
    /// Returns the errno of pipe2(2).
    pub fn new() -> Result<Self, Errno> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        Ok(Self { reader, _writer: writer })
    }

    /// Reads what the pipe contains, up to the length of `buffer`, without waiting.
    ///
    /// # Errors
    /// Returns EAGAIN if the pipe is empty.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        read(&self.reader, buffer)
    }

    /// Returns the number of the read end. A client opens /proc/PID/fd/NUMBER for writing.
    #[must_use]
    pub fn number(&self) -> i32 {
        self.reader.as_raw_fd()
    }
}

impl AsFd for RequestPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

/// After a process has changed its user, the kernel lets only privileged processes open /proc/PID/fd of this process.
/// After this call, processes with rsup's user and group can open rsup's /proc/PID/fd again.
///
/// # Errors
/// Returns the errno of prctl(2).
pub fn set_dumpable() -> Result<(), Errno> {
    // SAFETY: prctl(2) with PR_SET_DUMPABLE takes one integer and touches no memory.
    cvt(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }.into()).map(drop)
}

/// Opens a regular file, or /dev/null, for reading. Every other file is refused without being opened: the function does
/// not wait for the writer of a FIFO, and a device does not notice the call.
///
/// # Errors
/// Returns the errno of open(2). Returns ENXIO if the file is neither a regular file nor /dev/null.
pub fn open_regular(path: &Path) -> Result<File, Errno> {
    let kind = if path.as_os_str() == "/dev/null" { libc::S_IFCHR } else { libc::S_IFREG };
    open_kind(path, kind, OFlag::O_RDONLY).map(File::from)
}

/// Opens the file at `path` if its type is `kind`: S_IFCHR, S_IFREG or S_IFIFO. If `kind` is S_IFIFO, the file must be
/// a pipe without a name. Returns ENXIO for every other file.
fn open_kind(path: &Path, kind: libc::mode_t, flags: OFlag) -> Result<OwnedFd, Errno> {
    // With O_PATH, open(2) does not wait, and has no effect on a device. The path below /proc/self/fd leads to the file
    // that was found, even if `path` leads to another file by now.
    let found = nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let found_kind = fstat(&found)?.st_mode & libc::S_IFMT;
    let found_path = PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd()));
    // Only a pipe without a name has a link with this text. The text for a file with a name begins with a slash.
    let is_unnamed_pipe =
        || fs::read_link(&found_path).is_ok_and(|link| link.as_os_str().as_bytes().starts_with(b"pipe:["));
    if found_kind != kind || (kind == libc::S_IFIFO && !is_unnamed_pipe()) {
        return Err(Errno::ENXIO);
    }
    let flags = flags | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    nix::fcntl::open(&*found_path, flags, Mode::empty())
}

/// The end of another rsup's request pipe into which a client writes.
#[derive(Debug)]
pub struct RequestWriter(OwnedFd);

impl RequestWriter {
    /// Opens the pipe at a path below /proc/PID/fd. The client reads the descriptor number in this path from a status
    /// board. A forged status board could contain the number of any descriptor, and the descriptor could lead to any
    /// file that the client may write. So this function checks that the file is an unnamed pipe.
    ///
    /// # Errors
    /// Returns the errno of open(2): ENOENT if rsup has ended. Returns ENXIO if the file is not an unnamed pipe, or if
    /// the pipe has no reader.
    pub fn open(path: &Path) -> Result<Self, Errno> {
        open_kind(path, libc::S_IFIFO, OFlag::O_WRONLY).map(Self)
    }

    /// Writes a request as a whole. Waits as long as the pipe is full.
    ///
    /// # Errors
    /// Returns the errno of write(2): EPIPE if rsup has ended or has executed itself again. The calling process must
    /// ignore SIGPIPE.
    pub fn write(&self, request: &[u8]) -> Result<(), Errno> {
        loop {
            match write(&self.0, request) {
                Err(Errno::EAGAIN) => {
                    poll_writable(self.0.as_fd(), PollTimeout::NONE);
                }
                Err(Errno::EINTR) => {}
                result => return result.map(drop),
            }
        }
    }

    /// Waits for `time`, or until rsup has ended or has executed itself again. Returns whether rsup has ended or has
    /// executed itself again: the pipe has no reader then.
    #[must_use]
    pub fn wait_until_reader_closes(&self, time: Duration) -> bool {
        // poll(2) fails if a seccomp filter refuses it. Without the sleep, the caller would use all processor time.
        poll_for(self.0.as_fd(), PollFlags::POLLERR, poll_timeout(time)).unwrap_or_else(|_| {
            sleep_without_poll(time);
            false
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path_of(fd: i32) -> std::path::PathBuf {
        format!("/proc/self/fd/{fd}").into()
    }

    #[test]
    fn a_memory_file_has_its_name_and_can_be_read_through_proc() {
        let file = MemoryFile::new(c"rsup").unwrap();
        file.write_at(b"world", 6).unwrap();
        file.write_at(b"hello ", 0).unwrap();
        let path = path_of(file.0.as_raw_fd());
        assert_eq!(fs::read_link(&path).unwrap().to_str(), Some("/memfd:rsup (deleted)"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "hello world");
    }

    #[test]
    fn a_request_is_read_and_an_empty_pipe_does_not_wait() {
        let pipe = RequestPipe::new().unwrap();
        let mut buffer = [0; 8];
        assert_eq!(pipe.read(&mut buffer), Err(Errno::EAGAIN));
        let writer = RequestWriter::open(&path_of(pipe.number())).unwrap();
        writer.write(b"request").unwrap();
        assert_eq!(pipe.read(&mut buffer), Ok(7));
        drop(writer);
        assert_eq!(pipe.read(&mut buffer), Err(Errno::EAGAIN));
    }

    #[test]
    fn only_a_pipe_without_a_name_is_opened_for_requests() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("pipe:[1]");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        let _reader = nix::fcntl::open(&fifo, OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty()).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        for path in [file.path(), &fifo, Path::new("/dev/null"), directory.path()] {
            assert_eq!(RequestWriter::open(path).err(), Some(Errno::ENXIO), "{path:?}");
        }
        assert_eq!(RequestWriter::open(Path::new("/nowhere")).err(), Some(Errno::ENOENT));
    }

    #[test]
    fn only_a_regular_file_is_opened_for_reading() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        for path in [&fifo, Path::new("/dev/zero"), directory.path()] {
            assert_eq!(open_regular(path).err(), Some(Errno::ENXIO), "{path:?}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "text").unwrap();
        assert_eq!(std::io::read_to_string(open_regular(file.path()).unwrap()).unwrap(), "text");
        open_regular(Path::new("/dev/null")).unwrap();
    }

    #[test]
    fn a_client_notices_that_the_reader_has_ended() {
        let pipe = RequestPipe::new().unwrap();
        let writer = RequestWriter::open(&path_of(pipe.number())).unwrap();
        assert!(!writer.wait_until_reader_closes(Duration::from_millis(1)));
        drop(pipe);
        assert!(writer.wait_until_reader_closes(Duration::from_secs(60)));
    }
}
