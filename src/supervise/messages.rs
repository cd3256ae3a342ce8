//! The texts of log lines about children and about results of system calls. If supervisord logs the same event, the
//! text is supervisord's.

use crate::config::repr;
use crate::policy::{ExitStatus, Level, Signal};
use crate::sys::{
    self, ChildStatus, CredentialStep, Errno, ExecFailure, ExecStep, LogFile, Output, Pid, SpawnDefaults,
    SpawnError, SpawnSpec, WaitStatus,
};
use std::ffi::CStr;
use std::fmt;

/// The text after `spawnerr:` if rsup could not create the pipes or the child for a start.
pub(super) fn spawn_error(name: &str, error: SpawnError) -> String {
    match error {
        SpawnError::Pipe(Errno::EMFILE) => format!("too many open files to spawn '{name}'"),
        SpawnError::Pipe(errno) => format!("unknown error making dispatchers for '{name}': {errno:?}"),
        SpawnError::Fork(Errno::EAGAIN) => format!("Too many processes in process table to spawn '{name}'"),
        SpawnError::Fork(errno) => format!("unknown error during fork for '{name}': {errno:?}"),
    }
}

/// The text after `spawnerr:` for a child that could not execute the program. `interpreter` is the interpreter that
/// causes the failure, or empty.
pub(super) fn failed_step(
    program: &SpawnSpec,
    defaults: &SpawnDefaults,
    ExecFailure { step, candidate, errno }: ExecFailure,
    interpreter: &str,
) -> String {
    let word = program.argv0().to_string_lossy();
    let path = program.candidate(defaults, candidate).unwrap_or_default();
    let path = path.to_string_lossy();
    let setuid_failure = |step: CredentialStep| {
        let uid = program.credentials.as_ref().map_or(0, |credentials| credentials.uid);
        format!("couldn't setuid to {uid}: {}", failed_credentials(step, errno, sys::real_user_is_root()))
    };
    match step {
        ExecStep::NotFound => format!("can't find command {}", repr(&word)),
        ExecStep::IsDirectory => format!("command at {} is a directory", repr(&path)),
        ExecStep::NotExecutable => format!("command at {} is not executable", repr(&path)),
        ExecStep::NoPermission => format!("no permission to run command {}", repr(&path)),
        ExecStep::Groups => setuid_failure(CredentialStep::Groups),
        ExecStep::Gid => setuid_failure(CredentialStep::Gid),
        ExecStep::Uid => setuid_failure(CredentialStep::Uid),
        ExecStep::Chdir => {
            let directory =
                program.directory.as_ref().map_or_else(Default::default, |path| path.to_string_lossy());
            format!("couldn't chdir to {directory}: {errno:?}")
        }
        // The text is never used for `UnopenedFifo`: rsup opens the FIFO itself and repeats the start.
        ExecStep::Stdout | ExecStep::Stderr | ExecStep::Streams | ExecStep::UnopenedFifo => {
            format!("couldn't set up descriptors for {word}: {errno:?}")
        }
        ExecStep::Exec => {
            let hint = match interpreter {
                "" => relative_path_hint(program, &path, errno),
                interpreter => about_interpreter(interpreter, errno),
            };
            format!("couldn't exec {word}: {errno:?}{hint}")
        }
    }
}

/// The last part of a text about a failed exec. This part is empty, except for ENOENT and a relative path of a program
/// that has the key `directory`. The part then explains the error: the file was found from rsup's own directory, but
/// the path was executed from `directory`, as in supervisord.
fn relative_path_hint(program: &SpawnSpec, path: &str, errno: Errno) -> String {
    match &program.directory {
        Some(directory) if errno == Errno::ENOENT && !path.starts_with('/') => {
            format!(" (a relative path is executed in directory={})", directory.to_string_lossy())
        }
        Some(_) | None => String::new(),
    }
}

/// The end of a text about a failed exec. `path` is the path of the interpreter that caused the failure. If `path` is
/// empty, no interpreter caused it.
pub(super) fn about_interpreter(path: &str, errno: Errno) -> String {
    if path.is_empty() {
        return String::new();
    }
    let why = match errno {
        Errno::ENOENT if path.ends_with('\r') => "does not exist: the #! line ends with CR LF",
        Errno::ENOENT => "does not exist",
        _ => "cannot be executed",
    };
    format!(" (its interpreter {} {why})", repr(path))
}

/// Why a process could not switch to another user. `was_root` says whether the real user was root before. supervisord's
/// texts contain no errno, so rsup appends an errno other than EPERM. supervisord has no text for a failed setuid(2) of
/// root. The text for this failure is therefore rsup's own, and always contains the errno.
pub(super) fn failed_credentials(step: CredentialStep, errno: Errno, was_root: bool) -> String {
    let text = match step {
        _ if errno == Errno::EPERM && !was_root => return "Can't drop privilege as nonroot user".to_owned(),
        CredentialStep::Groups => "Could not set groups of effective user",
        CredentialStep::Gid => "Could not set group id of effective user",
        CredentialStep::Uid => return format!("Could not set user id of effective user: {errno:?}"),
    };
    if errno == Errno::EPERM { text.to_owned() } else { format!("{text}: {errno:?}") }
}

/// The text for a failure of prctl(2) with `PR_SET_CHILD_SUBREAPER`.
pub(super) fn no_subreaper(errno: Errno) -> String {
    format!("can't adopt orphans, their parent will be PID 1: {errno:?}")
}

/// The text for a failure to create the status board or the request pipe, or to give clients access to them.
pub(super) fn supervisorctl_unavailable(errno: Errno) -> String {
    format!("supervisorctl cannot control this rsup: {errno:?}")
}

/// The text for a failed write to the status board.
pub(super) fn board_not_written(errno: Errno) -> String {
    format!("supervisorctl may show old states: {errno:?}")
}

/// The text for the start of the relay.
pub(super) fn relay_started(pid: Pid) -> String {
    format!("relay started with pid {}", pid.number())
}

/// The text for the end of the relay while programs run.
pub(super) fn relay_exited(pid: Pid, status: WaitStatus) -> String {
    format!("relay with pid {} exited ({}); starting it again", pid.number(), exit_status(status))
}

/// The text for a relay that could not be forked.
pub(super) fn relay_not_started(errno: Errno) -> String {
    format!("can't start the relay: {errno:?}; output waits until a later attempt succeeds")
}

/// The text for a relay that had too little time at rsup's end.
pub(super) const RELAY_NOT_FINISHED: &str =
    "the relay could not write all output in time, because it was not read";

/// The text for pipes to the relay that could not be created.
pub(super) fn incomplete_relay(errno: Errno) -> String {
    format!("can't create the pipes to the relay: {errno:?}; some output goes directly to its file or stream")
}

/// The text for a limit on descriptors that is too low for the relay.
pub(super) fn too_few_descriptors_for_relay(needed: u64, limit: u64) -> String {
    format!(
        "the limit of {limit} open files is too low for the relay, which needs {needed}: log files are not rotated, and \
         `output` has no effect"
    )
}

/// The text after `spawnerr:` for an event listener, if there is no relay.
pub(super) const NO_RELAY_FOR_LISTENER: &str = "event listeners need the relay, which could not be prepared";

/// The reason of a failed start of a program that has exited before `startsecs` had elapsed.
pub(super) const EXITED_TOO_QUICKLY: &str = "Exited too quickly (process log may have details)";

/// The text for a log file that could not be opened. The program runs without the file.
pub(super) fn unusable_log_file(name: &str, program: &SpawnSpec, report: ExecFailure) -> String {
    let (stream, output) = match report.step {
        ExecStep::Stdout => ("stdout", &program.stdout),
        _ => ("stderr", &program.stderr),
    };
    let path = match output {
        Output::File(LogFile { path, .. }) | Output::RefusedFd(path) => path.to_string_lossy(),
        Output::Relay(_) | Output::Discard | Output::Inherit { .. } => "/dev/null".into(),
        Output::SameAsStdout | Output::Listener => "/dev/null".into(),
    };
    let errno = report.errno;
    let hint = if errno == Errno::ENXIO { " until a start at which a process reads the file" } else { "" };
    format!(
        "can't open {stream}_logfile of '{name}': {errno:?}: {path}; it goes to rsup's own {stream}{hint}"
    )
}

/// The text for a FIFO that rsup cannot keep open, because too few descriptors would be left to start programs.
pub(super) fn no_descriptor_for_fifo(name: &str, path: &CStr) -> String {
    let path = path.to_string_lossy();
    format!(
        "too few descriptors to keep {path} of '{name}' open: its reader sees end of file when the program exits"
    )
}

/// The text about a child that rsup did not start, such as an adopted orphan. The text is formatted only if the log
/// shows its level.
pub(super) struct UnknownChild(pub(super) ChildStatus);

impl fmt::Display for UnknownChild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(ChildStatus { pid, status }) = self;
        match status {
            WaitStatus::Stopped(signal) => {
                write!(f, "unknown pid {} stopped by {}", pid.number(), signal_name(*signal))
            }
            status => write!(f, "reaped unknown pid {} ({})", pid.number(), exit_status(*status)),
        }
    }
}

/// The text that says which signal has stopped a program's process.
pub(super) fn stopped_child(name: &str, pid: Pid, signal: i32) -> String {
    format!("{name} ({}) stopped by {}", pid.number(), signal_name(signal))
}

/// The level and text for a signal that could not be sent. ESRCH is normal: the last member of a process group may have
/// ended, and rsup notices that only at its next test of the group.
pub(super) fn signal_not_sent(name: &str, pid: i32, errno: Errno) -> (Level, String) {
    match errno {
        Errno::ESRCH => (
            Level::Debug,
            format!("unable to signal {name} (pid {pid}), it probably just exited on its own: {errno:?}"),
        ),
        _ => (Level::Critical, format!("unknown problem killing {name} ({pid}): {errno:?}")),
    }
}

/// Converts the status of waitpid(2) into the type of `policy`.
pub(super) fn exit_status(status: WaitStatus) -> ExitStatus {
    match status {
        WaitStatus::Exited(code) => ExitStatus::Code(code),
        WaitStatus::Signaled { signal, core } => match Signal::from_number(signal.into()) {
            Some(signal) => ExitStatus::Signal { signal, core },
            None => ExitStatus::Unknown,
        },
        WaitStatus::Stopped(_) | WaitStatus::Other => ExitStatus::Unknown,
    }
}

fn signal_name(signal: i32) -> String {
    Signal::from_number(signal.into()).map_or_else(|| format!("signal {signal}"), |signal| signal.to_string())
}
