//! Starting a program of the configuration: what it gets, and the steps between fork and exec.

use super::fork::{exec, fork, tell};
use super::process::{UserStep, is_own_user, limit_descriptors, switch_user};
use super::stdio::is_writable_pipe;
use super::{Errno, ExecStatus, Ids, Pid, Report, SpawnError, Step, Strings, check, signals};
use nix::fcntl::OFlag;
use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
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
    /// A descriptor that rsup was not started with: what has its number now is rsup's own, and not to be had.
    NotOpen,
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
    let (pid, status) = fork(|status| prepare_and_exec(program, &stdin, status))?;
    Ok(Child { pid, status, silence })
}

/// The steps, in supervisord's order.
fn prepare_and_exec(program: &Program, stdin: &OwnedFd, status: &OwnedFd) -> Result<Infallible, Report> {
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
    Err(failed(Step::Exec)(exec(path, &program.argv, &program.envp)))
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
        Output::NotOpen => Err(Errno::EBADF),
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
