//! Starting a program of the configuration: what it gets, and the steps between fork and exec.

use super::clone_vm::{ChildMemory, ChildSetup};
use super::credentials::{CredentialStep, is_own_user, set_credentials};
use super::fork::{self, CStrArray, exec, iter_cstrs, path_candidates, report_failure, spawn_with_status};
use super::rlimit::set_nofile_soft_limit;
use super::stdio::is_writable_pipe;
use super::{Credentials, Errno, ExecFailure, ExecStep, PackedCStrings, Pid, SpawnError, cvt, signals};
use nix::fcntl::{FcntlArg, OFlag};
use nix::sys::stat::Mode;
use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;

/// What all programs start from.
#[derive(Debug)]
pub struct SpawnDefaults {
    environment: &'static [CString],
    /// Their soft limit on descriptors; rsup's own if none.
    descriptors: Option<u64>,
    /// The place of a child that is gone, for the next.
    spare: Option<ChildMemory<PreparedExec>>,
}

impl SpawnDefaults {
    /// An environment, each variable of another name, which stays in memory; and a soft limit on descriptors, rsup's own
    /// if none.
    #[must_use]
    pub fn new(environment: Vec<CString>, descriptors: Option<u64>) -> Self {
        Self { environment: environment.leak(), descriptors, spare: None }
    }

    /// Takes back what a child was lent, for the next.
    pub fn reclaim(&mut self, status: ExecStatusPipe) {
        self.spare = status.reclaim().or(self.spare.take());
    }
}

/// Tells whether the exec of a program works.
pub type ExecStatusPipe = fork::ExecStatusPipe<PreparedExec>;

/// What a start needs of one program. There may be a thousand of them, so it is kept small.
#[derive(Debug)]
pub struct SpawnSpec {
    /// The arguments, the program's name first; and behind them its own variables, which take the place of the common ones
    /// of the same names.
    pub strings: PackedCStrings,
    /// How many of these are arguments.
    pub argc: usize,
    /// Where it runs.
    pub directory: Option<CString>,
    /// Its umask; rsup's own if none.
    pub umask: Option<u32>,
    /// Whom it runs as; rsup's own user if none.
    pub credentials: Option<Rc<Credentials>>,
    /// Its descriptor 0.
    pub stdin: Stdin,
    /// Its descriptor 1.
    pub stdout: Output,
    /// Its descriptor 2.
    pub stderr: Output,
}

/// Where a command is looked for when no PATH says it (supervisord's list).
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin:/usr/local/bin";

impl SpawnSpec {
    /// The first word of the command, as typed.
    #[must_use]
    pub fn argv0(&self) -> &CStr {
        self.argv().next().unwrap_or_default()
    }

    fn argv(&self) -> impl Iterator<Item = &CStr> + Clone {
        self.strings.iter().take(self.argc)
    }

    fn environment(&self) -> impl Iterator<Item = &CStr> + Clone {
        self.strings.iter().skip(self.argc)
    }

    /// Where the executable may be: the candidate of this number.
    #[must_use]
    pub fn candidate(&self, defaults: &SpawnDefaults, number: u16) -> Option<CString> {
        let mut list = Vec::new();
        path_candidates(self.argv0().to_bytes(), self.path(defaults), &mut list);
        iter_cstrs(&list).nth(number.into()).map(CStr::to_owned)
    }

    fn path<'a>(&'a self, defaults: &'a SpawnDefaults) -> &'a [u8] {
        let mut variables = self.environment().chain(defaults.environment.iter().map(CString::as_c_str));
        let path = variables.find_map(|variable| variable.to_bytes().strip_prefix(b"PATH="));
        path.filter(|path| !path.is_empty()).unwrap_or(DEFAULT_PATH)
    }

    /// Its whole environment.
    fn variables<'a>(&'a self, defaults: &'a [CString], list: &mut CStrArray<'a>) {
        list.extend(defaults.iter().map(CString::as_c_str));
        for own in self.environment() {
            let name = own.to_bytes().split_inclusive(|byte| *byte == b'=').next().unwrap_or_default();
            match defaults.iter().position(|variable| variable.as_bytes().starts_with(name)) {
                Some(index) => list.replace(index, own),
                None => list.extend([own]),
            }
        }
    }
}

/// What a program reads.
#[derive(Clone, Debug)]
pub enum Stdin {
    /// A pipe that nobody writes and that never ends.
    IdlePipe,
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
    ClosedFd,
    /// Thrown away.
    Discard,
    /// Where stdout goes.
    SameAsStdout,
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
    pub status: ExecStatusPipe,
    /// The writing end of [`Stdin::IdlePipe`]. Nobody writes; while it is open the program's stdin does not end.
    pub stdin_keeper: Option<OwnedFd>,
}

/// Forks, and starts the program in the child. Returns at once, whatever the child will meet.
///
/// # Errors
/// Says what could not be made.
pub fn spawn(program: &'static SpawnSpec, defaults: &mut SpawnDefaults) -> Result<Child, SpawnError> {
    let (_reader, stdin_keeper, stdin) = match &program.stdin {
        Stdin::IdlePipe => {
            let (reader, writer) = idle_pipe().map_err(SpawnError::Pipe)?;
            let stdin = reader.as_raw_fd();
            (Some(reader), writer, stdin)
        }
        Stdin::Socket(socket) => (None, None, socket.as_raw_fd()),
    };
    let (stdout, stderr) = (reopen(&program.stdout), reopen(&program.stderr));
    let number = |stream: &Option<OwnedFd>| stream.as_ref().map(AsRawFd::as_raw_fd);
    let streams = Streams { stdin, stdout: number(&stdout), stderr: number(&stderr) };
    let mut memory = match defaults.spare.take() {
        Some(memory) => memory,
        None => ChildMemory::new(PreparedExec::of(program)).map_err(SpawnError::Fork)?,
    };
    memory.setup().prepare(program, defaults, streams);
    let (pid, status) = spawn_with_status(memory)?;
    Ok(Child { pid, status, stdin_keeper })
}

/// A pipe that nobody writes, and what keeps it from ending.
///
/// Where /proc allows it, that is the program itself, which is handed both ends in one description. So rsup need not keep
/// the other end: a thousand of them would be passed on at each start, and closed.
fn idle_pipe() -> Result<(OwnedFd, Option<OwnedFd>), Errno> {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let both = nix::fcntl::open(
        in_proc(reader.as_raw_fd(), &mut [0; 32]),
        OFlag::O_RDWR | OFlag::O_CLOEXEC,
        Mode::empty(),
    );
    Ok(both.map_or((reader, Some(writer)), |both| (both, None)))
}

/// Where rsup's descriptor of this number can be opened anew. Async-signal-safe.
fn in_proc(fd: RawFd, path: &mut [u8; 32]) -> &CStr {
    // There is room, with a NUL behind.
    let _ = write!(&mut path[..], "/proc/self/fd/{fd}");
    CStr::from_bytes_until_nul(path).unwrap_or_default()
}

/// Descriptors that are opened before the fork: /proc knows rsup's own already, and would have to learn those of a child.
#[derive(Debug, Default)]
struct Streams {
    stdin: RawFd,
    stdout: Option<RawFd>,
    stderr: Option<RawFd>,
}

/// rsup's own stream, opened anew where the output is to be that: not to be had without /proc, or when the pipe is
/// another user's.
fn reopen(output: &Output) -> Option<OwnedFd> {
    match output {
        Output::Inherit { fd, reopen: true } => open(in_proc(*fd, &mut [0; 32]), OFlag::empty()).ok(),
        Output::Inherit { .. } | Output::File(_) | Output::ClosedFd => None,
        Output::Discard | Output::SameAsStdout => None,
    }
}

/// What a child becomes, and how.
#[derive(Debug)]
pub struct PreparedExec {
    program: &'static SpawnSpec,
    /// Whom it has to become.
    credentials: Option<&'static Credentials>,
    descriptors: Option<u64>,
    streams: Streams,
    candidates: Vec<u8>,
    argv: CStrArray<'static>,
    envp: CStrArray<'static>,
}

impl PreparedExec {
    fn of(program: &'static SpawnSpec) -> Self {
        let (argv, envp) = (CStrArray::default(), CStrArray::default());
        let (streams, candidates) = (Streams::default(), Vec::new());
        Self { program, credentials: None, descriptors: None, streams, candidates, argv, envp }
    }

    /// The lists keep their memory: in the long run a start takes none.
    fn prepare(&mut self, program: &'static SpawnSpec, defaults: &SpawnDefaults, streams: Streams) {
        (self.program, self.descriptors, self.streams) = (program, defaults.descriptors, streams);
        self.credentials = program.credentials.as_deref().filter(|credentials| !is_own_user(credentials));
        self.candidates.clear();
        path_candidates(program.argv0().to_bytes(), program.path(defaults), &mut self.candidates);
        self.argv.clear();
        self.argv.extend(program.argv());
        self.envp.clear();
        program.variables(defaults.environment, &mut self.envp);
    }
}

impl ChildSetup for PreparedExec {
    fn changes_user(&self) -> bool {
        self.credentials.is_some()
    }

    /// In supervisord's order.
    fn run(&self, status: BorrowedFd<'_>) -> Result<Infallible, ExecFailure> {
        let program = self.program;
        // By rsup's own rights, in rsup's own directory: as supervisord looks before it forks.
        let (candidate, path) = resolve_executable(iter_cstrs(&self.candidates))?;
        let failed = |step: ExecStep| move |errno: Errno| ExecFailure { step, candidate, errno };
        install_stdio(program, &self.streams, status).map_err(failed(ExecStep::Streams))?;
        if let Some(soft) = self.descriptors {
            set_nofile_soft_limit(soft);
        }
        if let Some(credentials) = self.credentials {
            set_credentials(credentials).map_err(|(step, errno)| {
                let step = match step {
                    CredentialStep::Groups => ExecStep::Groups,
                    CredentialStep::Gid => ExecStep::Gid,
                    CredentialStep::Uid => ExecStep::Uid,
                };
                ExecFailure { step, candidate, errno }
            })?;
        }
        if let Some(directory) = &program.directory {
            nix::unistd::chdir(directory.as_c_str()).map_err(failed(ExecStep::Chdir))?;
        }
        if let Some(umask) = program.umask {
            // SAFETY: a number.
            unsafe { libc::umask(umask) };
        }
        // Last, so that nothing disturbs the steps before; a signal that came meanwhile hits now.
        signals::unblock_all().map_err(failed(ExecStep::Exec))?;
        Err(failed(ExecStep::Exec)(exec(path, &self.argv, &self.envp)))
    }
}

/// The first candidate that exists, if it can be executed.
fn resolve_executable<'a>(
    candidates: impl Iterator<Item = &'a CStr>,
) -> Result<(u16, &'a CStr), ExecFailure> {
    for (candidate, path) in (0..=u16::MAX).zip(candidates) {
        let Ok(stat) = nix::sys::stat::stat(path) else { continue };
        let failed = |step, errno| Err(ExecFailure { step, candidate, errno });
        if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
            return failed(ExecStep::Directory, Errno::EISDIR);
        }
        if stat.st_mode & 0o111 == 0 {
            return failed(ExecStep::NotExecutable, Errno::EACCES);
        }
        return match nix::unistd::access(path, nix::unistd::AccessFlags::X_OK) {
            Ok(()) => Ok((candidate, path)),
            Err(errno) => failed(ExecStep::NoPermission, errno),
        };
    }
    Err(ExecFailure { step: ExecStep::NotFound, candidate: 0, errno: Errno::ENOENT })
}

/// Puts descriptors 0 to 2 in place.
fn install_stdio(program: &SpawnSpec, streams: &Streams, status: BorrowedFd<'_>) -> Result<(), Errno> {
    // Both are found before either is put in place, for each may be where the other goes.
    let stdout = open_output(&program.stdout, streams.stdout, libc::STDOUT_FILENO, ExecStep::Stdout, status)?;
    let stderr = open_output(&program.stderr, streams.stderr, libc::STDERR_FILENO, ExecStep::Stderr, status)?;
    dup_onto(streams.stdin, libc::STDIN_FILENO)?;
    dup_onto(stdout.unwrap_or(libc::STDOUT_FILENO), libc::STDOUT_FILENO)?;
    dup_onto(stderr.unwrap_or(libc::STDOUT_FILENO), libc::STDERR_FILENO)
}

fn dup_onto(from: RawFd, to: RawFd) -> Result<(), Errno> {
    // On itself it would stay close-on-exec; 0 to 2 never are.
    if from == to {
        return Ok(());
    }
    // SAFETY: numbers; in the child nobody owns `to`.
    cvt(unsafe { libc::dup2(from, to) }.into()).map(drop)
}

/// The descriptor that is to become `to`; none for the one that stdout is. A file that cannot be opened is reported,
/// and rsup's own stream taken.
fn open_output(
    output: &Output,
    reopened: Option<RawFd>,
    to: RawFd,
    step: ExecStep,
    status: BorrowedFd<'_>,
) -> Result<Option<RawFd>, Errno> {
    let opened = match output {
        Output::SameAsStdout => return Ok(None),
        // To share it is the second best.
        Output::Inherit { fd, .. } => {
            return reopened.map_or_else(|| dup_inherited(*fd, to), |fd| Ok(Some(fd)));
        }
        Output::File(path) => open(path, OFlag::O_CREAT | OFlag::O_APPEND),
        Output::ClosedFd => Err(Errno::EBADF),
        Output::Discard => open(c"/dev/null", OFlag::empty()),
    };
    match opened {
        Ok(opened) => Ok(Some(opened.into_raw_fd())),
        Err(errno) => {
            report_failure(status, ExecFailure { step, candidate: 0, errno });
            let own = Output::inherit(to);
            open_output(&own, reopen(&own).map(IntoRawFd::into_raw_fd), to, step, status)
        }
    }
}

/// rsup's own stream: itself where it stays in place, else a copy that outlasts the other's being replaced.
fn dup_inherited(fd: RawFd, to: RawFd) -> Result<Option<RawFd>, Errno> {
    if fd == to {
        return Ok(Some(to));
    }
    // SAFETY: numbers.
    let copied = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    cvt(copied.into()).map(|_| Some(copied))
}

/// Opens for writing without waiting (for a FIFO's reader, say); what is written later may wait.
fn open(path: &CStr, flags: OFlag) -> Result<OwnedFd, Errno> {
    let always = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let opened = nix::fcntl::open(path, flags | always, Mode::from_bits_truncate(0o666))?;
    // Should it fail, writing to it does not wait.
    let _ = nix::fcntl::fcntl(&opened, FcntlArg::F_SETFL(flags & OFlag::O_APPEND));
    Ok(opened)
}
