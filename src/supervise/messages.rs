//! What is said about facts of the kernel, in supervisord's words where it has some.

use crate::config::repr;
use crate::policy::{ExitStatus, Level, Signal};
use crate::sys::{
    ChildStatus, Errno, ExecFailure, ExecStep, Pid, SpawnDefaults, SpawnError, SpawnSpec, WaitStatus,
};
use std::fmt;

/// Why nothing was forked.
pub(super) fn spawn_error(name: &str, error: SpawnError) -> String {
    match error {
        SpawnError::Pipe(Errno::EMFILE) => format!("too many open files to spawn '{name}'"),
        SpawnError::Pipe(errno) => format!("unknown error making dispatchers for '{name}': {errno:?}"),
        SpawnError::Fork(Errno::EAGAIN) => format!("Too many processes in process table to spawn '{name}'"),
        SpawnError::Fork(errno) => format!("unknown error during fork for '{name}': {errno:?}"),
    }
}

/// Why the child did not become the program.
pub(super) fn failed_step(
    program: &SpawnSpec,
    defaults: &SpawnDefaults,
    ExecFailure { step, candidate, errno }: ExecFailure,
) -> String {
    let word = program.argv0().to_string_lossy();
    let path = program.candidate(defaults, candidate).unwrap_or_default();
    let path = path.to_string_lossy();
    let uid = program.credentials.as_ref().map_or(0, |credentials| credentials.uid);
    let setuid = |why: &str| match errno {
        Errno::EPERM => format!("couldn't setuid to {uid}: Can't drop privilege as nonroot user"),
        _ => format!("couldn't setuid to {uid}: {why}"),
    };
    match step {
        ExecStep::NotFound => format!("can't find command {}", repr(&word)),
        ExecStep::Directory => format!("command at {} is a directory", repr(&path)),
        ExecStep::NotExecutable => format!("command at {} is not executable", repr(&path)),
        ExecStep::NoPermission => format!("no permission to run command {}", repr(&path)),
        ExecStep::Groups => setuid("Could not set groups of effective user"),
        ExecStep::Gid => setuid("Could not set group id of effective user"),
        ExecStep::Uid => setuid("Could not set user id of effective user"),
        ExecStep::Chdir => {
            let directory =
                program.directory.as_ref().map_or_else(Default::default, |path| path.to_string_lossy());
            format!("couldn't chdir to {directory}: {errno:?}")
        }
        ExecStep::Stdout | ExecStep::Stderr | ExecStep::Streams => {
            format!("couldn't set up descriptors for {word}: {errno:?}")
        }
        ExecStep::Exec => format!("couldn't exec {word}: {errno:?}"),
    }
}

/// A program's log file could not be opened, which does not keep the program from running.
pub(super) fn unusable_log_file(name: &str, report: ExecFailure) -> String {
    let stream = if report.step == ExecStep::Stdout { "stdout" } else { "stderr" };
    format!("can't open {stream}_logfile of '{name}': {:?}; it goes to rsup's own {stream}", report.errno)
}

/// An orphan, whose end concerns nobody: put into words only where somebody reads it.
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

/// A program that waits to be continued.
pub(super) fn stopped_child(name: &str, pid: Pid, signal: i32) -> String {
    format!("{name} ({}) stopped by {}", pid.number(), signal_name(signal))
}

/// A signal that did not reach a program: no wonder where it has just ended, else supervisord's worst line.
pub(super) fn unsent(name: &str, pid: i32, errno: Errno) -> (Level, String) {
    match errno {
        Errno::ESRCH => (
            Level::Debug,
            format!("unable to signal {name} (pid {pid}), it probably just exited on its own: {errno:?}"),
        ),
        _ => (Level::Critical, format!("unknown problem killing {name} ({pid}): {errno:?}")),
    }
}

/// How a child ended, in the words of the law.
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
