//! Starts a program of the configuration file: what rsup prepares before the fork, and the steps of the child
//! up to its exec.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    clippy::unwrap_used,
    reason = "the steps run in rsup's memory and must not panic: see clone_vm.rs"
)]

use super::alloc::retry_allocations_forever;
use super::clone_vm::{self, ChildMemory, ChildSetup, spawn_with_status};
use super::credentials::{Credentials, needs_no_change, set_credentials};
use super::errno::{Errno, cvt};
use super::exec::{CStrArray, exec, path_candidates};
use super::exec_status::{ExecFailure, ExecStep, report_failure, report_interpreter};
use super::fifo::{PipeId, has_fifo_unopened_by_rsup};
use super::fork::SpawnError;
use super::interpreter::unusable_interpreter;
use super::kill::Pid;
use super::listener::ListenerPipes;
use super::rlimit::set_nofile_soft_limit;
use super::signals;
use super::stdio::{STDERR, STDOUT, StreamKind, is_writable_pipe, stream_kind};
use nix::NixPath;
use nix::fcntl::{FcntlArg, OFlag};
use nix::sys::stat::Mode;
use nix::unistd::AccessFlags;
use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;

/// What all programs have in common: the environment, the limit on descriptors, and memory for the next child.
#[derive(Debug)]
pub struct SpawnDefaults {
    environment: &'static [CString],
    nofile_soft_limit: Option<u64>,
    /// The memory of an earlier child that has executed its program or has exited. The next child uses this memory.
    spare_memory: Option<ChildMemory<PreparedExec>>,
}

impl SpawnDefaults {
    /// Takes the environment of all programs and their soft limit on descriptors. No name may occur twice in the
    /// environment. The environment is never freed. If the limit is `None`, programs get rsup's own limit.
    #[must_use]
    pub fn new(environment: Vec<CString>, nofile_soft_limit: Option<u64>) -> Self {
        Self { environment: environment.leak(), nofile_soft_limit, spare_memory: None }
    }

    /// The soft limit on descriptors that programs get, if it differs from rsup's own.
    #[must_use]
    pub fn nofile_soft_limit(&self) -> Option<u64> {
        self.nofile_soft_limit
    }

    /// Keeps the memory of a child for the next child, but only if the pipe `status` is at end of file. End of file
    /// shows that the child no longer uses this memory.
    pub fn reclaim(&mut self, status: ExecStatusPipe) {
        self.spare_memory = status.reclaim().or(self.spare_memory.take());
    }
}

/// The pipe that shows rsup whether the exec of a program succeeds.
pub type ExecStatusPipe = clone_vm::ExecStatusPipe<PreparedExec>;

/// How to start one program.
#[derive(Debug)]
pub struct SpawnSpec {
    /// The arguments, starting with the command's name.
    pub argv: Vec<CString>,
    /// The program's own environment variables as `NAME=value`. A variable replaces the variable of the same name in
    /// the environment that all programs have in common.
    pub environment: Vec<CString>,
    /// The working directory; `None` is rsup's own.
    pub directory: Option<CString>,
    /// `None` is rsup's own umask.
    pub umask: Option<u32>,
    /// `None` is rsup's own user.
    pub credentials: Option<Rc<Credentials>>,
    pub stdin: Stdin,
    pub stdout: Output,
    pub stderr: Output,
}

/// Where a command is looked for if PATH is unset or empty (supervisord's list).
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin:/usr/local/bin";

impl SpawnSpec {
    /// The first word of the command, which has not been looked up in PATH.
    #[must_use]
    pub fn argv0(&self) -> &CStr {
        self.argv.first().map(CString::as_c_str).unwrap_or_default()
    }

    /// Returns one of the paths at which the command is looked for. `index` is the index that an [`ExecFailure`]
    /// contains.
    #[must_use]
    pub fn candidate(&self, defaults: &SpawnDefaults, index: u16) -> Option<CString> {
        self.candidates(defaults.environment).nth(index.into())
    }

    /// The paths of the log files that a child opens.
    pub fn log_files(&self) -> impl Iterator<Item = &CStr> {
        [&self.stdout, &self.stderr].into_iter().filter_map(Output::log_file)
    }

    fn candidates<'a>(&'a self, defaults: &'a [CString]) -> impl Iterator<Item = CString> {
        let mut variables = self.environment.iter().chain(defaults);
        let path = variables.find_map(|variable| variable.as_bytes().strip_prefix(b"PATH="));
        let path = path.filter(|path| !path.is_empty()).unwrap_or(DEFAULT_PATH);
        path_candidates(self.argv0().to_bytes(), path)
    }

    /// Returns the program's whole environment: the defaults, followed by the program's own variables. If a default has
    /// the same name as an own variable, the own variable takes the default's place.
    fn merged_environment<'a>(&'a self, defaults: &'a [CString]) -> CStrArray<'a> {
        let mut merged: Vec<&CStr> = defaults.iter().map(CString::as_c_str).collect();
        for own in &self.environment {
            // The name includes the `=`, because `A` alone would also match `AB=`.
            let name = own.as_bytes().split_inclusive(|byte| *byte == b'=').next().unwrap_or_default();
            match merged.iter_mut().find(|variable| variable.to_bytes().starts_with(name)) {
                Some(variable) => *variable = own,
                None => merged.push(own),
            }
        }
        merged.into_iter().collect()
    }
}

/// The file to which descriptor 0 of a program leads.
#[derive(Clone, Debug)]
pub enum Stdin {
    /// A pipe to which nothing is written and which never reaches end of file.
    IdlePipe,
    /// A listening socket, which rsup keeps open.
    Socket(Rc<OwnedFd>),
    /// A pipe that is created for each run of an event listener. The relay writes to it.
    Listener,
}

/// The file or stream to which descriptor 1 or 2 of a program leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// rsup's own stdout or stderr.
    Inherit {
        /// 1 or 2.
        fd: RawFd,
        /// Whether rsup opens the stream again through /proc for each program. Each program then has its own open file
        /// description, so a program that sets O_NONBLOCK does not affect the others.
        reopen: bool,
    },
    /// A log file.
    File(LogFile),
    /// A path such as /dev/fd/3, which names a descriptor other than 1 and 2. rsup reports EBADF instead of opening the
    /// path. rsup has closed all inherited descriptors above 2, so a descriptor of such a number is now one of rsup's
    /// own. A path of descriptor 0, rsup's own stdin, is refused too.
    RefusedFd(CString),
    /// /dev/null.
    Discard,
    /// The program's stdout.
    SameAsStdout,
    /// The writing end of a pipe to the relay, which stays open as long as programs may be started.
    Relay(RawFd),
    /// A pipe that is created for each run of an event listener. The relay reads it.
    Listener,
}

/// A log file of a program, and the pipes to the relay that the program may get instead of the file. The pipes stay
/// open as long as programs may be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    pub path: CString,
    /// The pipe to the relay, if the relay writes the file. The relay writes the file if the file is rotated, or if
    /// event listeners need the output. The child opens the file nevertheless, so that the file exists and an error is
    /// reported. The child uses the pipe only if the file is regular: a FIFO or a device cannot be rotated.
    pub relay_pipe: Option<RawFd>,
    /// The pipe that the program gets if the file cannot be opened. If `None`, it gets rsup's own stream.
    pub fallback: Option<RawFd>,
}

impl LogFile {
    /// A file to which the program itself appends.
    #[must_use]
    pub fn direct(path: CString) -> Self {
        Self { path, relay_pipe: None, fallback: None }
    }
}

impl Output {
    /// Returns the path, if the output is a file that the child opens.
    #[must_use]
    pub fn log_file(&self) -> Option<&CStr> {
        match self {
            Self::File(file) => Some(&file.path),
            Self::Relay(_)
            | Self::Inherit { .. }
            | Self::RefusedFd(_)
            | Self::Discard
            | Self::SameAsStdout
            | Self::Listener => None,
        }
    }

    /// Clears O_NONBLOCK of the pipe to the relay. An earlier run of the program may have set it, and the writes of a
    /// program that does not expect it would fail.
    fn make_relay_pipe_blocking(&self) {
        let pipe = match self {
            Self::Relay(pipe) => Some(*pipe),
            Self::File(file) => file.relay_pipe.or(file.fallback),
            Self::Inherit { .. } | Self::RefusedFd(_) | Self::Discard => None,
            Self::SameAsStdout | Self::Listener => None,
        };
        if let Some(pipe) = pipe {
            // SAFETY: fcntl(2) with F_SETFL takes numbers and touches no memory.
            unsafe { libc::fcntl(pipe, libc::F_SETFL, 0) };
        }
    }

    /// Returns the [`Output`] of a program that writes to rsup's own stdout (`fd` is 1) or stderr (`fd` is 2). If this
    /// stream is a pipe, rsup opens it again for each program, where /proc allows it.
    #[must_use]
    pub fn inherit(fd: RawFd) -> Self {
        Self::Inherit { fd, reopen: is_writable_pipe(fd) }
    }
}

/// A child that was forked for a program.
#[derive(Debug)]
pub struct Child {
    /// The PID of the child. It is also the ID of the process group that the child leads.
    pub pid: Pid,
    pub status: ExecStatusPipe,
    /// The writing end of [`Stdin::IdlePipe`], if rsup has to keep the writing end. Reads from the program's
    /// stdin wait until rsup closes the writing end.
    pub stdin_writer: Option<OwnedFd>,
    /// The relay's ends of the pipes of an event listener.
    pub listener: Option<ListenerPipes>,
}

/// What a child does about log files that are FIFOs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FifoHandling {
    /// This list holds the FIFOs that rsup has open for this program. It also holds rsup's own stdout and stderr, if
    /// they are pipes. If a log file is a FIFO that is not in the list, the child reports [`ExecStep::UnopenedFifo`]
    /// and exits.
    ExitIfUnopened(Vec<PipeId>),
    /// rsup has already tried to open the log files that are FIFOs, so the child does not look for unopened FIFOs. If
    /// there is an error for a log file, the child reports the error and does not open the file.
    OpenTried(FifoOpenErrors),
}

/// The errors of rsup's own attempt to open the log files of a program that are FIFOs. If there is an error for a file,
/// the child does not open this file, and reports this error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FifoOpenErrors {
    pub stdout: Option<Errno>,
    pub stderr: Option<Errno>,
}

/// Forks a child that executes the program. Does not wait for the exec.
///
/// # Errors
/// Returns the errno of the system call that failed.
pub fn spawn(
    program: &'static SpawnSpec,
    defaults: &mut SpawnDefaults,
    fifo_handling: FifoHandling,
) -> Result<Child, SpawnError> {
    let mut stdin_writer = None;
    let mut listener = None;
    let mut stdout = reopen_inherited(&program.stdout);
    let stdin = match &program.stdin {
        Stdin::IdlePipe => {
            let (reader, writer) = idle_pipe().map_err(SpawnError::Pipe)?;
            stdin_writer = writer;
            Rc::new(reader)
        }
        Stdin::Socket(socket) => Rc::clone(socket),
        Stdin::Listener => {
            let (pipes, ends) = ListenerPipes::new().map_err(SpawnError::Pipe)?;
            listener = Some(pipes);
            stdout = Some(ends.stdout);
            Rc::new(ends.stdin)
        }
    };
    for output in [&program.stdout, &program.stderr] {
        output.make_relay_pipe_blocking();
    }
    let stderr = reopen_inherited(&program.stderr);
    let streams = PreopenedStreams {
        stdin: stdin.as_raw_fd(),
        stdout: stdout.as_ref().map(AsRawFd::as_raw_fd),
        stderr: stderr.as_ref().map(AsRawFd::as_raw_fd),
    };
    let setup = PreparedExec::new(program, defaults, streams, fifo_handling);
    let memory = match defaults.spare_memory.take() {
        Some(mut memory) => {
            memory.replace_setup(setup);
            memory
        }
        None => ChildMemory::new(setup).map_err(SpawnError::Fork)?,
    };
    let (pid, status) = spawn_with_status(memory)?;
    retry_allocations_forever();
    Ok(Child { pid, status, stdin_writer, listener })
}

/// Makes a pipe that never reaches end of file. Returns the reading end, and the writing end if rsup has to
/// keep it open.
///
/// Where /proc allows it, the pipe is opened again for both reading and writing: the program's stdin is then
/// also the writing end that keeps the pipe open. Otherwise rsup holds one writing end for each program, and
/// every child inherits all of them and closes them at its exec.
fn idle_pipe() -> Result<(OwnedFd, Option<OwnedFd>), Errno> {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let reader_in_proc = format!("/proc/self/fd/{}", reader.as_raw_fd());
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let both_ends = nix::fcntl::open(reader_in_proc.as_str(), flags, Mode::empty());
    Ok(both_ends.map_or((reader, Some(writer)), |both_ends| (both_ends, None)))
}

/// Opens rsup's own stdout or stderr again, if `output` has `reopen` set. Returns `None` if `reopen` is not set, or if
/// the stream cannot be opened because /proc is missing or the pipe belongs to another user.
fn reopen_inherited(output: &Output) -> Option<OwnedFd> {
    match output {
        Output::Inherit { fd, reopen: true } => reopen(*fd),
        Output::Inherit { .. } | Output::File(_) | Output::RefusedFd(_) => None,
        Output::Discard | Output::SameAsStdout | Output::Relay(_) | Output::Listener => None,
    }
}

/// Opens rsup's own stdout or stderr again. Async-signal-safe.
fn reopen(fd: RawFd) -> Option<OwnedFd> {
    // Formatting the number would need code that can panic.
    let path = if fd == STDOUT { c"/proc/self/fd/1" } else { c"/proc/self/fd/2" };
    open_for_writing(path, OFlag::empty()).ok()
}

/// The descriptors for a program. rsup opens them before the fork, because that is less work for the kernel: if the
/// child opened them through /proc, the kernel would first have to create the child's entries in /proc.
#[derive(Debug)]
struct PreopenedStreams {
    stdin: RawFd,
    stdout: Option<RawFd>,
    stderr: Option<RawFd>,
}

/// Everything that the child needs for its exec.
#[derive(Debug)]
pub struct PreparedExec {
    program: &'static SpawnSpec,
    /// The user that the child has to become; `None` if the child keeps rsup's user.
    credentials: Option<&'static Credentials>,
    nofile_soft_limit: Option<u64>,
    fifos: FifoHandling,
    streams: PreopenedStreams,
    candidates: Vec<CString>,
    argv: CStrArray<'static>,
    envp: CStrArray<'static>,
}

impl PreparedExec {
    fn new(
        program: &'static SpawnSpec,
        defaults: &SpawnDefaults,
        streams: PreopenedStreams,
        fifos: FifoHandling,
    ) -> Self {
        let credentials = program.credentials.as_deref();
        Self {
            program,
            credentials: credentials.filter(|credentials| !needs_no_change(credentials)),
            nofile_soft_limit: defaults.nofile_soft_limit,
            fifos,
            streams,
            candidates: program.candidates(defaults.environment).collect(),
            argv: program.argv.iter().map(CString::as_c_str).collect(),
            envp: program.merged_environment(defaults.environment),
        }
    }
}

impl ChildSetup for PreparedExec {
    fn changes_user(&self) -> bool {
        self.credentials.is_some()
    }

    /// Prepares the child and executes the program. The steps are in the same order as in supervisord.
    fn run(&self, status: BorrowedFd<'_>) -> Result<Infallible, ExecFailure> {
        // This call comes before the child changes its user and its directory, because supervisord looks for the
        // executable before the fork, as its own user and in its own directory.
        let (candidate, path) = resolve_executable(self.candidates.iter().map(CString::as_c_str))?;
        let failed = |step: ExecStep| move |errno: Errno| ExecFailure { step, candidate, errno };
        let log_file_errors = match &self.fifos {
            // rsup must open the FIFO before the program does. Otherwise the FIFO's reader would get end of file if the
            // program exited before rsup opened the FIFO. EAGAIN has no meaning, because rsup does not use the errno.
            FifoHandling::ExitIfUnopened(open)
                if has_fifo_unopened_by_rsup(self.program.log_files(), open) =>
            {
                return Err(failed(ExecStep::UnopenedFifo)(Errno::EAGAIN));
            }
            FifoHandling::ExitIfUnopened(_) => FifoOpenErrors::default(),
            FifoHandling::OpenTried(errors) => *errors,
        };
        install_stdio(self.program, &self.streams, log_file_errors, status)
            .map_err(failed(ExecStep::Streams))?;
        if let Some(limit) = self.nofile_soft_limit {
            set_nofile_soft_limit(limit);
        }
        if let Some(credentials) = self.credentials {
            set_credentials(credentials)
                .map_err(|(step, errno)| failed(ExecStep::of_credentials(step))(errno))?;
        }
        if let Some(directory) = &self.program.directory {
            nix::unistd::chdir(directory.as_c_str()).map_err(failed(ExecStep::Chdir))?;
        }
        if let Some(umask) = self.program.umask {
            // nix's umask is not used, because it can panic.
            // SAFETY: umask(2) takes a number and cannot fail.
            unsafe { libc::umask(umask) };
        }
        // Unblocking comes last, so that no signal interrupts the steps above. A pending signal takes effect
        // here.
        signals::unblock_all().map_err(failed(ExecStep::Exec))?;
        let errno = exec(path, &self.argv, &self.envp);
        if let Some(interpreter) = unusable_interpreter(path) {
            report_interpreter(status, interpreter.path());
        }
        Err(failed(ExecStep::Exec)(errno))
    }
}

/// Returns the index and the path of the first file of `candidates` that exists. Fails if none of the files exists, or
/// if the first file that exists is not executable.
fn resolve_executable<'a>(
    candidates: impl Iterator<Item = &'a CStr>,
) -> Result<(u16, &'a CStr), ExecFailure> {
    for (candidate, path) in (0..=u16::MAX).zip(candidates) {
        let Ok(stat) = nix::sys::stat::stat(path) else { continue };
        let failed = |step, errno| Err(ExecFailure { step, candidate, errno });
        if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
            return failed(ExecStep::IsDirectory, Errno::EISDIR);
        }
        if stat.st_mode & 0o111 == 0 {
            return failed(ExecStep::NotExecutable, Errno::EACCES);
        }
        return match nix::unistd::access(path, AccessFlags::X_OK) {
            // EPERM and ENOSYS mean that a seccomp filter refuses access(2). execve(2) decides later whether the file
            // is executable.
            Ok(()) | Err(Errno::EPERM | Errno::ENOSYS) => Ok((candidate, path)),
            Err(errno) => failed(ExecStep::NoPermission, errno),
        };
    }
    Err(ExecFailure { step: ExecStep::NotFound, candidate: 0, errno: Errno::ENOENT })
}

/// Makes the program's stdin, stdout and stderr the descriptors 0, 1 and 2.
fn install_stdio(
    program: &SpawnSpec,
    streams: &PreopenedStreams,
    errors: FifoOpenErrors,
    status: BorrowedFd<'_>,
) -> Result<(), Errno> {
    // stdout and stderr are both opened before descriptor 1 or 2 is replaced, because the program's stdout may be
    // rsup's stderr, and the program's stderr may be rsup's stdout.
    let report = |step| move |errno| report_failure(status, ExecFailure { step, candidate: 0, errno });
    let stdout =
        open_output(&program.stdout, streams.stdout, errors.stdout, STDOUT, report(ExecStep::Stdout))?;
    let stderr =
        open_output(&program.stderr, streams.stderr, errors.stderr, STDERR, report(ExecStep::Stderr))?;
    dup_onto(streams.stdin, libc::STDIN_FILENO)?;
    dup_onto(stdout.unwrap_or(STDOUT), STDOUT)?;
    dup_onto(stderr.unwrap_or(STDOUT), STDERR)
}

fn dup_onto(from: RawFd, to: RawFd) -> Result<(), Errno> {
    // The descriptor has the right number already. It is one of 0 to 2, which are never close-on-exec, so there is
    // nothing to do.
    if from == to {
        return Ok(());
    }
    // SAFETY: dup2(2) takes two numbers; it closes `to`, one of 0 to 2, which no `OwnedFd` owns.
    cvt(unsafe { libc::dup2(from, to) }.into()).map(drop)
}

/// Returns the descriptor that the caller duplicates as `to`, or `None` if stderr goes to the program's stdout. If
/// `error` is set, a log file is not opened, and `error` counts as the error of the open. If a file cannot be opened,
/// reports the errno and returns the descriptor of [`fallback`].
fn open_output(
    output: &Output,
    preopened: Option<RawFd>,
    error: Option<Errno>,
    to: RawFd,
    report: impl FnOnce(Errno),
) -> Result<Option<RawFd>, Errno> {
    let opened = match output {
        Output::SameAsStdout => return Ok(None),
        Output::Relay(pipe) => return Ok(Some(*pipe)),
        Output::Listener => return Ok(Some(preopened.unwrap_or(to))),
        Output::Inherit { fd, .. } => {
            return match preopened {
                Some(reopened) => Ok(Some(reopened)),
                None => dup_unless_equal(*fd, to).map(Some),
            };
        }
        Output::File(file) => error.map_or_else(|| open_log_or_pipe(file), Err),
        Output::RefusedFd(_) => Err(Errno::EBADF),
        Output::Discard => open_for_writing(c"/dev/null", OFlag::empty()).map(IntoRawFd::into_raw_fd),
    };
    opened.map(Some).or_else(|errno| {
        report(errno);
        Ok(Some(fallback(output, to)))
    })
}

/// Opens a log file. Returns the descriptor to which the program writes: the file, or the pipe to the relay.
fn open_log_or_pipe(file: &LogFile) -> Result<RawFd, Errno> {
    let opened = open_for_writing(file.path.as_c_str(), OFlag::O_CREAT | OFlag::O_APPEND)?;
    let is_regular = stream_kind(opened.as_fd()) == StreamKind::RegularFile;
    Ok(file.relay_pipe.filter(|_| is_regular).unwrap_or_else(|| opened.into_raw_fd()))
}

/// Returns the descriptor that replaces a log file that cannot be opened: the pipe to the relay, or rsup's own stream.
fn fallback(output: &Output, to: RawFd) -> RawFd {
    if let Output::File(LogFile { fallback: Some(pipe), .. }) = output {
        return *pipe;
    }
    let reopened = if is_writable_pipe(to) { reopen(to) } else { None };
    reopened.map_or(to, IntoRawFd::into_raw_fd)
}

/// Returns a descriptor for the stream `fd`, which is one of rsup's own. The caller puts the result in the place of
/// `to`. If `fd` and `to` are equal, the result is `fd` itself. Otherwise the result is a duplicate, because the
/// caller may replace `fd` before it uses the result.
fn dup_unless_equal(fd: RawFd, to: RawFd) -> Result<RawFd, Errno> {
    if fd == to {
        return Ok(to);
    }
    // SAFETY: fcntl(2) with F_DUPFD_CLOEXEC takes numbers and closes nothing.
    let duplicate = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    cvt(duplicate.into()).map(|_| duplicate)
}

/// Opens a file for writing. If the file is a FIFO without a reader, fails instead of waiting for a reader. Later
/// writes may wait.
pub(super) fn open_for_writing<P: NixPath + ?Sized>(path: &P, flags: OFlag) -> Result<OwnedFd, Errno> {
    let always = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let opened = nix::fcntl::open(path, flags | always, Mode::from_bits_truncate(0o666))?;
    // This call clears O_NONBLOCK. If the call fails, the program's writes to a full FIFO fail instead of
    // waiting.
    let _ = nix::fcntl::fcntl(&opened, FcntlArg::F_SETFL(flags & OFlag::O_APPEND));
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(argv: &[&CStr], environment: &[&CStr]) -> SpawnSpec {
        SpawnSpec {
            argv: argv.iter().copied().map(CStr::to_owned).collect(),
            environment: environment.iter().copied().map(CStr::to_owned).collect(),
            directory: None,
            umask: None,
            credentials: None,
            stdin: Stdin::IdlePipe,
            stdout: Output::Discard,
            stderr: Output::SameAsStdout,
        }
    }

    fn defaults(environment: &[&CStr]) -> SpawnDefaults {
        SpawnDefaults::new(environment.iter().copied().map(CStr::to_owned).collect(), None)
    }

    #[test]
    fn own_variables_replace_those_of_the_same_names_and_the_others_follow() {
        let defaults = defaults(&[c"AB=1", c"A=2", c"C=3"]);
        let program = program(&[c"cat"], &[c"D=4", c"A=5", c"E=", c"C="]);
        let merged = program.merged_environment(defaults.environment);
        let expected: [&[u8]; 5] = [b"AB=1", b"A=5", b"C=", b"D=4", b"E="];
        assert_eq!(merged.strings().map(CStr::to_bytes).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_programs_own_path_decides_where_its_command_is_looked_for() {
        let defaults = defaults(&[c"PATH=/common"]);
        let first = |program: &SpawnSpec| program.candidate(&defaults, 0).unwrap();
        assert_eq!(*first(&program(&[c"cat"], &[c"PATH=/own"])), *c"/own/cat");
        assert_eq!(*first(&program(&[c"cat"], &[])), *c"/common/cat");
        assert_eq!(*first(&program(&[c"cat"], &[c"PATH="])), *c"/bin/cat");
        assert_eq!(*first(&program(&[c"a/cat"], &[])), *c"a/cat");
    }

    #[test]
    fn a_candidate_that_does_not_exist_is_none() {
        let defaults = defaults(&[]);
        assert_eq!(program(&[c"cat"], &[]).candidate(&defaults, 3), None);
    }

    #[test]
    fn a_directory_is_not_skipped_but_refused() {
        let candidates = [c"/does/not/exist", c"/", c"/bin/sh"];
        let failure = ExecFailure { step: ExecStep::IsDirectory, candidate: 1, errno: Errno::EISDIR };
        assert_eq!(resolve_executable(candidates.into_iter()), Err(failure));
    }

    #[test]
    fn the_first_candidate_that_exists_is_resolved() {
        let candidates = [c"/does/not/exist", c"/bin/sh", c"/"];
        assert_eq!(resolve_executable(candidates.into_iter()), Ok((1, c"/bin/sh")));
    }

    #[test]
    fn without_an_existing_candidate_the_command_is_not_found() {
        let failure = ExecFailure { step: ExecStep::NotFound, candidate: 0, errno: Errno::ENOENT };
        assert_eq!(resolve_executable([c"/does/not/exist"].into_iter()), Err(failure));
    }
}
