//! Forking, and how the parent learns what came of the exec.
//!
//! Not `vfork` nor `posix_spawn`, which hold the parent up until the exec: a hung mount below one program must not
//! hold up PID 1. The child reports each step that failed through a close-on-exec pipe; the pipe's end without a report
//! says that the exec worked.

use super::{Errno, Pid};
use nix::fcntl::OFlag;
use std::convert::Infallible;
use std::ffi::{CStr, CString, c_char};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Strings as `execve` takes them.
#[derive(Debug)]
pub struct Strings {
    /// What the pointers point into; each string stays where it is when the list moves.
    owned: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl From<Vec<CString>> for Strings {
    fn from(owned: Vec<CString>) -> Self {
        let end = std::iter::once(std::ptr::null());
        let pointers = owned.iter().map(|text| text.as_ptr()).chain(end).collect();
        Self { owned, pointers }
    }
}

/// Why nothing was forked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpawnError {
    /// No pipe could be made.
    Pipe(Errno),
    /// No process could be made.
    Fork(Errno),
}

/// A step between fork and exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// The file for stdout could not be opened; rsup's own stream is used instead.
    Stdout,
    /// The same for stderr.
    Stderr,
    /// None of the candidates exists.
    NotFound,
    /// The candidate is a directory.
    Directory,
    /// The candidate has no x bit.
    NotExecutable,
    /// The candidate has an x bit, but not for rsup.
    NoPermission,
    /// Descriptors 0 to 2 could not be put in place.
    Streams,
    /// setgroups(2) failed.
    Groups,
    /// setgid(2) failed.
    Gid,
    /// setuid(2) failed.
    Uid,
    /// The directory could not be entered.
    Chdir,
    /// execve(2) failed.
    Exec,
}

impl Step {
    const ALL: [Self; 12] = [
        Self::Stdout,
        Self::Stderr,
        Self::NotFound,
        Self::Directory,
        Self::NotExecutable,
        Self::NoPermission,
        Self::Streams,
        Self::Groups,
        Self::Gid,
        Self::Uid,
        Self::Chdir,
        Self::Exec,
    ];

    /// Whether the start goes on in spite of it.
    #[must_use]
    pub fn is_harmless(self) -> bool {
        matches!(self, Self::Stdout | Self::Stderr)
    }
}

/// A step that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which.
    pub step: Step,
    /// Which of the candidates it was about.
    pub candidate: usize,
    /// Why.
    pub errno: Errno,
}

impl Report {
    const SIZE: usize = 8;

    fn to_bytes(self) -> [u8; Self::SIZE] {
        let [a, b, c, d] = (self.errno as i32).to_le_bytes();
        let [e, f, ..] = self.candidate.to_le_bytes();
        [self.step as u8, 0, e, f, a, b, c, d]
    }

    fn from_bytes([step, _, e, f, a, b, c, d]: [u8; Self::SIZE]) -> Option<Self> {
        let step = *Step::ALL.get(usize::from(step))?;
        let errno = Errno::from_raw(i32::from_le_bytes([a, b, c, d]));
        Some(Self { step, candidate: usize::from(u16::from_le_bytes([e, f])), errno })
    }
}

/// The parent's end of the pipe that says whether an exec works.
#[derive(Debug)]
pub struct ExecStatus(OwnedFd);

impl ExecStatus {
    /// Hands over the reports that are there. Returns whether there will be no more: the exec has worked, unless one
    /// of the reports was about a step without which the start cannot go on.
    #[must_use]
    pub fn read(&self, mut receive: impl FnMut(Report)) -> bool {
        let mut bytes = [0; Report::SIZE];
        loop {
            match nix::unistd::read(&self.0, &mut bytes) {
                Ok(0) => return true,
                Ok(_) => {
                    if let Some(report) = Report::from_bytes(bytes) {
                        receive(report);
                    }
                }
                Err(_) => return false,
            }
        }
    }
}

impl AsFd for ExecStatus {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Where a command may be, as supervisord looks for it: a word with a slash is the path itself; else every entry of
/// `path`, an empty one being the current directory.
#[must_use]
pub fn candidates(word: &[u8], path: &[u8]) -> Vec<CString> {
    // A path with a NUL byte names no file.
    if word.contains(&b'/') {
        return CString::new(word).into_iter().collect();
    }
    let join = |directory: &[u8]| match directory {
        b"" => CString::new(word).ok(),
        _ => CString::new([directory, b"/", word].concat()).ok(),
    };
    path.split(|byte| *byte == b':').filter_map(join).collect()
}

impl Strings {
    /// Puts another string in the place of the first that begins so. Async-signal-safe.
    pub(super) fn replace(&mut self, beginning: &[u8], text: &[u8]) {
        let index = self.owned.iter().position(|string| string.as_bytes().starts_with(beginning));
        if let (Some(place), Ok(text)) =
            (index.and_then(|index| self.pointers.get_mut(index)), CStr::from_bytes_until_nul(text))
        {
            *place = text.as_ptr();
        }
    }
}

/// Forks a process that leads a group of its own and does `steps` until it is another program, or reports why not.
/// Returns at once, whatever the child will meet. The steps must be async-signal-safe; they have the pipe for reports
/// that do not end the start.
///
/// # Errors
/// Says what could not be made.
pub(super) fn fork(
    steps: impl FnOnce(&OwnedFd) -> Result<Infallible, Report>,
) -> Result<(Pid, ExecStatus), SpawnError> {
    let flags = OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let (status, status_writer) = nix::unistd::pipe2(flags).map_err(SpawnError::Pipe)?;
    // SAFETY: rsup has one thread, and the child only makes system calls on what was prepared, until it is another
    // program or ends.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: numbers.
        unsafe { libc::setpgid(0, 0) };
        let Err(report) = steps(&status_writer);
        tell(&status_writer, report);
        // SAFETY: takes a number; unlike exit(3) it runs nothing of the parent's.
        unsafe { libc::_exit(127) }
    }
    let pid = Pid::new(pid).ok_or_else(|| SpawnError::Fork(Errno::last()))?;
    // Here and in the child: whoever comes first, a signal to the group finds it. It fails when the exec came first.
    // SAFETY: numbers.
    unsafe { libc::setpgid(pid.number(), pid.number()) };
    Ok((pid, ExecStatus(status)))
}

/// Reports a failed step. Async-signal-safe.
pub(super) fn tell(status: &OwnedFd, report: Report) {
    // An empty pipe has room for it. Were the reader gone, nobody would want to know.
    let _ = nix::unistd::write(status, &report.to_bytes());
}

/// Becomes another program; returns only when that fails. Async-signal-safe.
pub(super) fn exec(path: &CStr, argv: &Strings, envp: &Strings) -> Errno {
    // SAFETY: the path ends in NUL, and both lists are ended by a null pointer and point to strings that do.
    unsafe { libc::execve(path.as_ptr(), argv.pointers.as_ptr(), envp.pointers.as_ptr()) };
    Errno::last()
}
