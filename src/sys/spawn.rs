//! Starting a program of the configuration: what it gets, and the steps between fork and exec.

use super::fork::{self, Pointers, candidates, exec, fork, strings, tell};
use super::lent::{Lent, Steps};
use super::process::{UserStep, is_own_user, limit_descriptors, switch_user};
use super::stdio::is_writable_pipe;
use super::{Errno, Ids, Pid, Report, SpawnError, Step, Strings, check, signals};
use nix::fcntl::{FcntlArg, OFlag};
use nix::sys::stat::Mode;
use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;

/// What all programs start from.
#[derive(Debug)]
pub struct Common {
    environment: &'static [CString],
    /// Their soft limit on descriptors; rsup's own if none.
    descriptors: Option<u64>,
    /// The place of a child that is gone, for the next.
    spare: Option<Lent<Image>>,
}

impl Common {
    /// An environment, each variable of another name, which stays in memory; and a soft limit on descriptors, rsup's own
    /// if none.
    #[must_use]
    pub fn new(environment: Vec<CString>, descriptors: Option<u64>) -> Self {
        Self { environment: environment.leak(), descriptors, spare: None }
    }

    /// Takes back what a child was lent, for the next.
    pub fn take_back(&mut self, status: ExecStatus) {
        self.spare = status.take_back().or(self.spare.take());
    }
}

/// Tells whether the exec of a program works.
pub type ExecStatus = fork::ExecStatus<Image>;

/// What a start needs of one program. There may be a thousand of them, so it is kept small.
#[derive(Debug)]
pub struct Program {
    /// The arguments, the program's name first; and behind them its own variables, which take the place of the common ones
    /// of the same names.
    pub strings: Strings,
    /// How many of these are arguments.
    pub argc: usize,
    /// Where it runs.
    pub directory: Option<CString>,
    /// Its umask; rsup's own if none.
    pub umask: Option<u32>,
    /// Whom it runs as; rsup's own user if none.
    pub ids: Option<Rc<Ids>>,
    /// Its descriptor 0.
    pub stdin: Input,
    /// Its descriptor 1.
    pub stdout: Output,
    /// Its descriptor 2.
    pub stderr: Output,
}

/// Where a command is looked for when no PATH says it (supervisord's list).
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin:/usr/local/bin";

impl Program {
    /// The first word of the command, as typed.
    #[must_use]
    pub fn word(&self) -> &CStr {
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
    pub fn candidate(&self, common: &Common, number: u16) -> Option<CString> {
        let mut list = Vec::new();
        candidates(self.word().to_bytes(), self.path(common), &mut list);
        strings(&list).nth(number.into()).map(CStr::to_owned)
    }

    fn path<'a>(&'a self, common: &'a Common) -> &'a [u8] {
        let mut variables = self.environment().chain(common.environment.iter().map(CString::as_c_str));
        let path = variables.find_map(|variable| variable.to_bytes().strip_prefix(b"PATH="));
        path.filter(|path| !path.is_empty()).unwrap_or(DEFAULT_PATH)
    }

    /// Its whole environment.
    fn variables<'a>(&'a self, common: &'a [CString], list: &mut Pointers<'a>) {
        list.extend(common.iter().map(CString::as_c_str));
        for own in self.environment() {
            let name = own.to_bytes().split_inclusive(|byte| *byte == b'=').next().unwrap_or_default();
            match common.iter().position(|variable| variable.as_bytes().starts_with(name)) {
                Some(index) => list.replace(index, own),
                None => list.extend([own]),
            }
        }
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
pub fn spawn(program: &'static Program, common: &mut Common) -> Result<Child, SpawnError> {
    let (_reader, silence, stdin) = match &program.stdin {
        Input::Silence => {
            let (reader, writer) = silence().map_err(SpawnError::Pipe)?;
            let stdin = reader.as_raw_fd();
            (Some(reader), writer, stdin)
        }
        Input::Socket(socket) => (None, None, socket.as_raw_fd()),
    };
    let (stdout, stderr) = (reopen(&program.stdout), reopen(&program.stderr));
    let number = |stream: &Option<OwnedFd>| stream.as_ref().map(AsRawFd::as_raw_fd);
    let streams = Streams { stdin, stdout: number(&stdout), stderr: number(&stderr) };
    let mut lent = match common.spare.take() {
        Some(lent) => lent,
        None => Lent::new(Image::of(program)).map_err(SpawnError::Fork)?,
    };
    lent.steps().prepare(program, common, streams);
    let (pid, status) = fork(lent)?;
    Ok(Child { pid, status, silence })
}

/// A pipe that nobody writes, and what keeps it from ending.
///
/// Where /proc allows it, that is the program itself, which is handed both ends in one description. So rsup need not keep
/// the other end: a thousand of them would be passed on at each start, and closed.
fn silence() -> Result<(OwnedFd, Option<OwnedFd>), Errno> {
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
        Output::Inherit { .. } | Output::File(_) | Output::NotOpen => None,
        Output::Discard | Output::WithStdout => None,
    }
}

/// What a child becomes, and how.
#[derive(Debug)]
pub struct Image {
    program: &'static Program,
    /// Whom it has to become.
    ids: Option<&'static Ids>,
    descriptors: Option<u64>,
    streams: Streams,
    candidates: Vec<u8>,
    argv: Pointers<'static>,
    envp: Pointers<'static>,
}

impl Image {
    fn of(program: &'static Program) -> Self {
        let (argv, envp) = (Pointers::default(), Pointers::default());
        let (streams, candidates) = (Streams::default(), Vec::new());
        Self { program, ids: None, descriptors: None, streams, candidates, argv, envp }
    }

    /// The lists keep their memory: in the long run a start takes none.
    fn prepare(&mut self, program: &'static Program, common: &Common, streams: Streams) {
        (self.program, self.descriptors, self.streams) = (program, common.descriptors, streams);
        self.ids = program.ids.as_deref().filter(|ids| !is_own_user(ids));
        self.candidates.clear();
        candidates(program.word().to_bytes(), program.path(common), &mut self.candidates);
        self.argv.clear();
        self.argv.extend(program.argv());
        self.envp.clear();
        program.variables(common.environment, &mut self.envp);
    }
}

impl Steps for Image {
    fn change_user(&self) -> bool {
        self.ids.is_some()
    }

    /// In supervisord's order.
    fn take(&self, status: BorrowedFd<'_>) -> Result<Infallible, Report> {
        let program = self.program;
        // By rsup's own rights, in rsup's own directory: as supervisord looks before it forks.
        let (candidate, path) = find(strings(&self.candidates))?;
        let failed = |step: Step| move |errno: Errno| Report { step, candidate, errno };
        connect(program, &self.streams, status).map_err(failed(Step::Streams))?;
        if let Some(soft) = self.descriptors {
            limit_descriptors(soft);
        }
        if let Some(ids) = self.ids {
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
        Err(failed(Step::Exec)(exec(path, &self.argv, &self.envp)))
    }
}

/// The first candidate that exists, if it can be executed.
fn find<'a>(candidates: impl Iterator<Item = &'a CStr>) -> Result<(u16, &'a CStr), Report> {
    for (candidate, path) in (0..=u16::MAX).zip(candidates) {
        let Ok(stat) = nix::sys::stat::stat(path) else { continue };
        let failed = |step, errno| Err(Report { step, candidate, errno });
        if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
            return failed(Step::Directory, Errno::EISDIR);
        }
        if stat.st_mode & 0o111 == 0 {
            return failed(Step::NotExecutable, Errno::EACCES);
        }
        return match nix::unistd::access(path, nix::unistd::AccessFlags::X_OK) {
            Ok(()) => Ok((candidate, path)),
            Err(errno) => failed(Step::NoPermission, errno),
        };
    }
    Err(Report { step: Step::NotFound, candidate: 0, errno: Errno::ENOENT })
}

/// Puts descriptors 0 to 2 in place.
fn connect(program: &Program, streams: &Streams, status: BorrowedFd<'_>) -> Result<(), Errno> {
    // Both are found before either is put in place, for each may be where the other goes.
    let stdout = source(&program.stdout, streams.stdout, libc::STDOUT_FILENO, Step::Stdout, status)?;
    let stderr = source(&program.stderr, streams.stderr, libc::STDERR_FILENO, Step::Stderr, status)?;
    place(streams.stdin, libc::STDIN_FILENO)?;
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
fn source(
    output: &Output,
    reopened: Option<RawFd>,
    to: RawFd,
    step: Step,
    status: BorrowedFd<'_>,
) -> Result<Option<RawFd>, Errno> {
    let opened = match output {
        Output::WithStdout => return Ok(None),
        // To share it is the second best.
        Output::Inherit { fd, .. } => return reopened.map_or_else(|| copy(*fd, to), |fd| Ok(Some(fd))),
        Output::File(path) => open(path, OFlag::O_CREAT | OFlag::O_APPEND),
        Output::NotOpen => Err(Errno::EBADF),
        Output::Discard => open(c"/dev/null", OFlag::empty()),
    };
    match opened {
        Ok(opened) => Ok(Some(opened.into_raw_fd())),
        Err(errno) => {
            tell(status, Report { step, candidate: 0, errno });
            let own = Output::inherit(to);
            source(&own, reopen(&own).map(IntoRawFd::into_raw_fd), to, step, status)
        }
    }
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
fn open(path: &CStr, flags: OFlag) -> Result<OwnedFd, Errno> {
    let always = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let opened = nix::fcntl::open(path, flags | always, Mode::from_bits_truncate(0o666))?;
    // Should it fail, writing to it does not wait.
    let _ = nix::fcntl::fcntl(&opened, FcntlArg::F_SETFL(flags & OFlag::O_APPEND));
    Ok(opened)
}
