//! Starting a program: fork, the steps in the child, exec, and how the parent learns what came of it.
//!
//! Not `vfork` nor `posix_spawn`, which hold the parent up until the exec: a hung mount below one program must not
//! hold up PID 1. The child reports each step that failed through a close-on-exec pipe; the pipe's end without a report
//! says that the exec worked.

use super::process::{UserStep, is_own_user, limit_descriptors, switch_user};
use super::stdio::is_writable_pipe;
use super::{Errno, Ids, Pid, check, signals};
use nix::fcntl::OFlag;
use std::ffi::{CStr, CString, c_char};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

/// Everything a start needs, prepared once: between fork and exec nothing may be allocated.
#[derive(Debug)]
pub struct Program {
    /// The first word of the command, as typed.
    pub word: String,
    /// Where the executable may be; the first that exists decides.
    pub candidates: Vec<CString>,
    /// The arguments, the program's name first.
    pub argv: Strings,
    /// The environment.
    pub envp: Strings,
    /// Where it runs.
    pub directory: Option<CString>,
    /// Its umask; rsup's own if none.
    pub umask: Option<u32>,
    /// Its soft limit on descriptors; rsup's own if none.
    pub descriptors: Option<u64>,
    /// Whom it runs as; rsup's own user if none.
    pub ids: Option<Ids>,
    /// Its descriptor 0.
    pub stdin: Input,
    /// Its descriptor 1.
    pub stdout: Output,
    /// Its descriptor 2.
    pub stderr: Output,
}

/// Strings as `execve` takes them.
#[derive(Debug)]
pub struct Strings {
    /// What the pointers point into; each string stays where it is when the list moves.
    _owned: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl From<Vec<CString>> for Strings {
    fn from(owned: Vec<CString>) -> Self {
        let end = std::iter::once(std::ptr::null());
        let pointers = owned.iter().map(|text| text.as_ptr()).chain(end).collect();
        Self { _owned: owned, pointers }
    }
}

/// What a program reads.
#[derive(Clone, Debug)]
pub enum Input {
    /// A pipe that nobody writes and that never ends.
    Silence,
    /// A listening socket, which is rsup's to keep open.
    Socket(Rc<OwnedFd>),
}

/// Where a stream of a program goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// rsup's own stream of this number.
    Inherit {
        /// 1 or 2.
        fd: RawFd,
        /// Opened anew, so that programs do not share the description and with it O_NONBLOCK.
        reopen: bool,
    },
    /// Appended to this file.
    File(CString),
    /// Thrown away.
    Discard,
    /// Where stdout goes.
    WithStdout,
}

impl Output {
    /// rsup's own stream of this number: a pipe is opened anew for each program where /proc allows that.
    #[must_use]
    pub fn inherit(fd: RawFd) -> Self {
        Self::Inherit { fd, reopen: is_writable_pipe(fd) }
    }
}

/// A program that was forked.
#[derive(Debug)]
pub struct Child {
    /// The leader of its own process group of the same number.
    pub pid: Pid,
    /// Tells whether the exec works.
    pub status: ExecStatus,
    /// The writing end of [`Input::Silence`]. Nobody writes; while it is open the program's stdin does not end.
    pub silence: Option<OwnedFd>,
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

/// Forks, and starts the program in the child. Returns at once, whatever the child will meet.
///
/// # Errors
/// Says what could not be made.
pub fn spawn(program: &Program) -> Result<Child, SpawnError> {
    let (stdin, silence) = match &program.stdin {
        Input::Silence => nix::unistd::pipe2(OFlag::O_CLOEXEC)
            .map(|(reader, writer)| (Rc::new(reader), Some(writer)))
            .map_err(SpawnError::Pipe)?,
        Input::Socket(socket) => (Rc::clone(socket), None),
    };
    let flags = OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let (status, status_writer) = nix::unistd::pipe2(flags).map_err(SpawnError::Pipe)?;
    // SAFETY: rsup has one thread, and the child only makes system calls on what was prepared, until it is another
    // program or ends.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        run_child(program, &stdin, &status_writer);
    }
    let pid = Pid::new(pid).ok_or_else(|| SpawnError::Fork(Errno::last()))?;
    // Here and in the child: whoever comes first, a signal to the group finds it. It fails when the exec came first.
    // SAFETY: numbers.
    unsafe { libc::setpgid(pid.number(), pid.number()) };
    Ok(Child { pid, status: ExecStatus(status), silence })
}

/// The child's life until it is the program, or has reported why not. Async-signal-safe throughout.
fn run_child(program: &Program, stdin: &OwnedFd, status: &OwnedFd) -> ! {
    let Err(report) = prepare_and_exec(program, stdin, status);
    tell(status, report);
    // SAFETY: takes a number; unlike exit(3) it runs nothing of the parent's.
    unsafe { libc::_exit(127) }
}

fn tell(status: &OwnedFd, report: Report) {
    // An empty pipe has room for it. Were the reader gone, nobody would want to know.
    let _ = nix::unistd::write(status, &report.to_bytes());
}

/// The steps, in supervisord's order.
fn prepare_and_exec(
    program: &Program,
    stdin: &OwnedFd,
    status: &OwnedFd,
) -> Result<std::convert::Infallible, Report> {
    // SAFETY: numbers.
    unsafe { libc::setpgid(0, 0) };
    // By rsup's own rights, in rsup's own directory: as supervisord looks before it forks.
    let (candidate, path) = find(&program.candidates)?;
    let failed = |step: Step| move |errno: Errno| Report { step, candidate, errno };
    connect(program, stdin.as_raw_fd(), status).map_err(failed(Step::Streams))?;
    if let Some(soft) = program.descriptors {
        limit_descriptors(soft);
    }
    if let Some(ids) = program.ids.as_ref().filter(|ids| !is_own_user(ids)) {
        switch_user(ids).map_err(|(step, errno)| {
            let step = match step {
                UserStep::Groups => Step::Groups,
                UserStep::Gid => Step::Gid,
                UserStep::Uid => Step::Uid,
            };
            Report { step, candidate, errno }
        })?;
    }
    if let Some(directory) = &program.directory {
        nix::unistd::chdir(directory.as_c_str()).map_err(failed(Step::Chdir))?;
    }
    if let Some(umask) = program.umask {
        // SAFETY: a number.
        unsafe { libc::umask(umask) };
    }
    // Last, so that nothing disturbs the steps before; a signal that came meanwhile hits now.
    signals::unblock_all().map_err(failed(Step::Exec))?;
    // SAFETY: the path ends in NUL, and both lists are ended by a null pointer and point to strings that do.
    unsafe { libc::execve(path.as_ptr(), program.argv.pointers.as_ptr(), program.envp.pointers.as_ptr()) };
    Err(failed(Step::Exec)(Errno::last()))
}

/// The first candidate that exists, if it can be executed.
fn find(candidates: &[CString]) -> Result<(usize, &CStr), Report> {
    for (candidate, path) in candidates.iter().enumerate() {
        let Ok(stat) = nix::sys::stat::stat(path.as_c_str()) else { continue };
        let failed = |step, errno| Err(Report { step, candidate, errno });
        if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
            return failed(Step::Directory, Errno::EISDIR);
        }
        if stat.st_mode & 0o111 == 0 {
            return failed(Step::NotExecutable, Errno::EACCES);
        }
        return match nix::unistd::access(path.as_c_str(), nix::unistd::AccessFlags::X_OK) {
            Ok(()) => Ok((candidate, path)),
            Err(errno) => failed(Step::NoPermission, errno),
        };
    }
    Err(Report { step: Step::NotFound, candidate: 0, errno: Errno::ENOENT })
}

/// Puts descriptors 0 to 2 in place.
fn connect(program: &Program, stdin: RawFd, status: &OwnedFd) -> Result<(), Errno> {
    // Both are found before either is put in place, for each may be where the other goes.
    let stdout = source(&program.stdout, libc::STDOUT_FILENO, Step::Stdout, status)?;
    let stderr = source(&program.stderr, libc::STDERR_FILENO, Step::Stderr, status)?;
    place(stdin, libc::STDIN_FILENO)?;
    place(stdout.unwrap_or(libc::STDOUT_FILENO), libc::STDOUT_FILENO)?;
    place(stderr.unwrap_or(libc::STDOUT_FILENO), libc::STDERR_FILENO)
}

fn place(from: RawFd, to: RawFd) -> Result<(), Errno> {
    // On itself it would stay close-on-exec; 0 to 2 never are.
    if from == to {
        return Ok(());
    }
    // SAFETY: numbers; in the child nobody owns `to`.
    check(unsafe { libc::dup2(from, to) }.into()).map(drop)
}

/// The descriptor that is to become `to`; none for the one that stdout is. A file that cannot be opened is reported,
/// and rsup's own stream taken.
fn source(output: &Output, to: RawFd, step: Step, status: &OwnedFd) -> Result<Option<RawFd>, Errno> {
    let opened = match output {
        Output::WithStdout => return Ok(None),
        Output::Inherit { fd, reopen: true } => {
            let path = if *fd == libc::STDOUT_FILENO { c"/proc/self/fd/1" } else { c"/proc/self/fd/2" };
            // Not to be had without /proc, or when the pipe is another user's: sharing it is the second best.
            return open(path, 0).map(Some).or_else(|_| copy(*fd, to));
        }
        Output::Inherit { fd, reopen: false } => return copy(*fd, to),
        Output::File(path) => open(path, libc::O_CREAT | libc::O_APPEND),
        Output::Discard => open(c"/dev/null", 0),
    };
    opened.map(Some).or_else(|errno| {
        tell(status, Report { step, candidate: 0, errno });
        source(&Output::inherit(to), to, step, status)
    })
}

/// rsup's own stream: itself where it stays in place, else a copy that outlasts the other's being replaced.
fn copy(fd: RawFd, to: RawFd) -> Result<Option<RawFd>, Errno> {
    if fd == to {
        return Ok(Some(to));
    }
    // SAFETY: numbers.
    let copied = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    check(copied.into()).map(|_| Some(copied))
}

/// Opens for writing without waiting (for a FIFO's reader, say); what is written later may wait.
fn open(path: &CStr, flags: i32) -> Result<RawFd, Errno> {
    let flags = flags | libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the path ends in NUL.
    let fd = unsafe { libc::open(path.as_ptr(), flags, 0o666) };
    check(fd.into())?;
    // SAFETY: numbers.
    unsafe { libc::fcntl(fd, libc::F_SETFL, flags & libc::O_APPEND) };
    Ok(fd)
}
