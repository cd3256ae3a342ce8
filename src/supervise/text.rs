//! What is said about facts of the kernel, in supervisord's words where it has some.

use crate::config::repr;
use crate::policy::{Cause, Level, Notice, ProcId, Signal};
use crate::sys::{Dead, Errno, Pid, Program, Report, SpawnError, Status, Step};

/// A line about all processes, and its level.
pub(super) fn notice<'a>(notice: &Notice, name: impl Fn(ProcId) -> &'a str) -> (Level, String) {
    match notice {
        Notice::Received(signal) => (Level::Warn, format!("received {signal} indicating exit request")),
        Notice::Waiting(ids) => {
            let names: Vec<&str> = ids.iter().map(|id| name(*id)).collect();
            (Level::Info, format!("waiting for {} to die", names.join(", ")))
        }
        Notice::NothingToStart => (Level::Error, "no program to start".to_owned()),
        Notice::LeftBehind => (Level::Warn, "processes left behind".to_owned()),
        Notice::Leaving { cause, code } => {
            let why = match cause {
                Cause::Signal(signal) => format!("received {signal}"),
                Cause::Fatal(id) => format!("{} entered FATAL state (shutdown_on)", name(*id)),
                Cause::Exited(id) => format!("{} exited (shutdown_on)", name(*id)),
                Cause::AllEnded => "no program runs, and none will".to_owned(),
                Cause::NothingToStart => "no program to start".to_owned(),
            };
            (Level::Info, format!("rsup exits with status {code}: {why}"))
        }
    }
}

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
pub(super) fn failed_step(program: &Program, Report { step, candidate, errno }: Report) -> String {
    let word = &program.word;
    let path = program.candidates.get(candidate).map_or_else(Default::default, |path| path.to_string_lossy());
    let uid = program.ids.as_ref().map_or(0, |ids| ids.uid);
    let setuid = |why: &str| match errno {
        Errno::EPERM => format!("couldn't setuid to {uid}: Can't drop privilege as nonroot user"),
        _ => format!("couldn't setuid to {uid}: {why}"),
    };
    match step {
        Step::NotFound => format!("can't find command {}", repr(word)),
        Step::Directory => format!("command at {} is a directory", repr(&path)),
        Step::NotExecutable => format!("command at {} is not executable", repr(&path)),
        Step::NoPermission => format!("no permission to run command {}", repr(&path)),
        Step::Groups => setuid("Could not set groups of effective user"),
        Step::Gid => setuid("Could not set group id of effective user"),
        Step::Uid => setuid("Could not set user id of effective user"),
        Step::Chdir => {
            let directory =
                program.directory.as_ref().map_or_else(Default::default, |path| path.to_string_lossy());
            format!("couldn't chdir to {directory}: {errno:?}")
        }
        Step::Stdout | Step::Stderr | Step::Streams => {
            format!("couldn't set up descriptors for {word}: {errno:?}")
        }
        Step::Exec => format!("couldn't exec {word}: {errno:?}"),
    }
}

/// A program's log file could not be opened, which does not keep the program from running.
pub(super) fn unusable_log_file(name: &str, report: Report) -> String {
    let stream = if report.step == Step::Stdout { "stdout" } else { "stderr" };
    format!("can't open {stream}_logfile of '{name}': {:?}; it goes to rsup's own {stream}", report.errno)
}

/// An orphan, whose end concerns nobody.
pub(super) fn unknown_child(Dead { pid, status }: Dead) -> String {
    let pid = pid.number();
    match status {
        Status::Exited(code) => format!("reaped unknown pid {pid} (exit status {code})"),
        Status::Signaled { signal, .. } => {
            format!("reaped unknown pid {pid} (terminated by {})", signal_name(signal))
        }
        Status::Stopped(signal) => format!("unknown pid {pid} stopped by {}", signal_name(signal)),
        Status::Other => format!("unknown pid {pid} has changed its state"),
    }
}

/// A program that waits to be continued.
pub(super) fn stopped_child(name: &str, pid: Pid, signal: i32) -> String {
    format!("{name} ({}) stopped by {}", pid.number(), signal_name(signal))
}

/// A signal that goes nowhere.
pub(super) fn dropped_signal(signal: Signal) -> String {
    format!("received {signal}, which has no effect here")
}

fn signal_name(signal: i32) -> String {
    Signal::from_number(signal.into()).map_or_else(|| format!("signal {signal}"), |signal| signal.to_string())
}
