//! Log messages and their levels. If supervisord logs the same message, the text is byte for byte the same, because
//! people search logs for it.

use super::exit::ExitStatus;
use super::level::Level;
use super::signal::{Signal, SignalTarget};
use super::spec::ProcessIndex;
use super::startup::WaitReason;
use std::fmt;

/// A log message about one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessMessage {
    /// The exec of the program succeeded.
    Spawned,
    /// The process entered RUNNING.
    Success {
        /// The value of `startsecs` in the configuration file, even if it is negative.
        startsecs: i64,
    },
    /// The leader, which is the child that rsup forked for the program, exited. The process had not been requested to
    /// stop.
    Exited {
        exit: ExitStatus,
        /// Whether `exitcodes` lists the exit code and `startsecs` had elapsed.
        expected: bool,
    },
    /// The child that rsup forked for the program exited after the process had been requested to stop.
    Stopped {
        exit: ExitStatus,
        /// Whether `exitcodes` lists the exit code.
        expected: bool,
    },
    /// The process was requested to stop, or rsup is stopping every process. The child that rsup had forked for the
    /// process exited without executing the program.
    StoppedBeforeExec,
    /// The process entered FATAL, because the number of failed starts in a row exceeds `startretries`.
    GaveUp,
    /// rsup could not execute the program: the fork, the exec or a step before the exec failed.
    SpawnError,
    /// rsup stops a STARTING or RUNNING process, because a client has requested it or because rsup restarts an event
    /// listener. Not logged when rsup stops every process.
    StopRequested,
    /// rsup sends `stopsignal` or SIGKILL to the process.
    Sending { signal: Signal, to: SignalTarget },
    /// rsup sends SIGKILL, because the process did not stop in time or because rsup has to kill every process now.
    Killing,
    /// Members of the process group did not exit in time after SIGKILL, or rsup has no permission to signal them. rsup
    /// no longer waits for them.
    MembersLeftBehind,
}

impl ProcessMessage {
    /// The level of the message. If supervisord has the same message, its level is the same too.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Self::Exited { expected: false, .. } | Self::Stopped { expected: false, .. } => Level::Warn,
            Self::Killing | Self::MembersLeftBehind => Level::Warn,
            Self::Sending { .. } => Level::Debug,
            Self::Spawned | Self::SpawnError | Self::Success { .. } | Self::GaveUp => Level::Info,
            Self::StoppedBeforeExec | Self::StopRequested => Level::Info,
            Self::Exited { expected: true, .. } | Self::Stopped { expected: true, .. } => Level::Info,
        }
    }

    /// The text of the message. `name` is the name of the process. `pid` is the PID of the last child that rsup forked
    /// for the process, which is also the ID of the child's process group. `last_error` is the reason why the last
    /// start failed.
    #[must_use]
    pub fn display<'a>(&'a self, name: &'a str, pid: i32, last_error: &'a str) -> impl fmt::Display + 'a {
        DisplayedMessage { message: self, name, pid, last_error }
    }
}

struct DisplayedMessage<'a> {
    message: &'a ProcessMessage,
    name: &'a str,
    pid: i32,
    last_error: &'a str,
}

impl fmt::Display for DisplayedMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { message, name, pid, last_error } = self;
        match message {
            ProcessMessage::Spawned => write!(f, "spawned: '{name}' with pid {pid}"),
            ProcessMessage::Success { startsecs } => write!(
                f,
                "success: {name} entered RUNNING state, process has stayed up for > than {startsecs} seconds \
                 (startsecs)"
            ),
            ProcessMessage::Exited { exit, expected } => {
                write!(f, "exited: {name} ({exit}; {})", if *expected { "expected" } else { "not expected" })
            }
            ProcessMessage::Stopped { exit, .. } => write!(f, "stopped: {name} ({exit})"),
            ProcessMessage::StoppedBeforeExec => write!(f, "stopped: {name} (before its exec)"),
            ProcessMessage::StopRequested => write!(f, "waiting for {name} to stop"),
            ProcessMessage::GaveUp => {
                write!(f, "gave up: {name} entered FATAL state, too many start retries too quickly")
            }
            ProcessMessage::SpawnError => write!(f, "spawnerr: {last_error}"),
            ProcessMessage::Sending { signal, to } => {
                let target_text = match to {
                    SignalTarget::Leader => "",
                    SignalTarget::Group => "process group ",
                };
                write!(f, "killing {name} (pid {pid}) {target_text}with signal {signal}")
            }
            ProcessMessage::Killing => write!(f, "killing '{name}' ({pid}) with SIGKILL"),
            ProcessMessage::MembersLeftBehind => {
                write!(f, "processes left behind: {name} (process group {pid})")
            }
        }
    }
}

/// A log message about all processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SupervisorMessage {
    /// rsup received a signal that makes rsup stop every process and exit.
    ReceivedExitRequest(Signal),
    /// rsup is stopping every process, and the children that it forked for these processes have not exited yet.
    WaitingForExits(Vec<ProcessIndex>),
    /// There is no program that rsup could start. An event listener does not count as a program, unless the file
    /// defines only event listeners.
    NothingToStart,
    /// No program has `autostart=true`, so rsup waits until a client requests a start. An event listener may have
    /// `autostart=true`.
    WaitingForStartRequest,
    /// rsup exits although it still has children: SIGKILL did not end them in time, or rsup could not send them
    /// SIGKILL.
    ChildrenLeftBehind,
    /// After every program had ended or was sent SIGKILL, rsup sent SIGTERM to the remaining processes. Some of the
    /// remaining processes did not exit in time, and rsup sends SIGKILL to them.
    KillingRemaining,
    /// rsup received a signal that it neither obeys nor forwards: `route_signal` returned `SignalAction::Drop`.
    Dropped(Signal),
    /// rsup received a signal and forwards it to the programs. For each signal, only the first time is logged.
    Forwarding(Signal),
    /// rsup received SIGCHLD.
    SigchldReceived,
    /// rsup has stopped every process, because a client requested a reload, and executes itself again.
    Reloading,
    /// The first start of a process waits for other processes.
    StartWaits { id: ProcessIndex, reasons: Vec<WaitReason> },
    /// The first start of a process waits for something that can happen only after a client's request to start another
    /// process.
    NeverStarts { id: ProcessIndex, reasons: Vec<WaitReason> },
    /// rsup exits. In the log, only lines about the relay, about the status board or about lost lines can follow.
    Exiting { cause: ExitCause, code: u8 },
}

/// Why rsup exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCause {
    /// rsup received this signal.
    Signal(Signal),
    /// This process entered FATAL, and its `shutdown_on` is `fatal` or `exited`.
    Fatal(ProcessIndex),
    /// This process entered EXITED and will not be started again. Its `shutdown_on` is `exited`.
    Exited(ProcessIndex),
    /// No program runs, and none will be started. Event listeners may still run.
    AllEnded,
    /// There is no program that rsup could start. An event listener does not count as a program, unless the file
    /// defines only event listeners.
    NothingToStart,
    /// A client requested that rsup stop every process and exit.
    ShutdownRequest,
    /// A client requested a reload. rsup executes itself again instead of exiting.
    ReloadRequest,
}

impl SupervisorMessage {
    /// The level and the text of the message. `name` returns the name of a process.
    #[must_use]
    pub fn line<'a>(&self, name: impl Fn(ProcessIndex) -> &'a str) -> (Level, String) {
        match self {
            Self::ReceivedExitRequest(signal) => {
                (Level::Warn, format!("received {signal} indicating exit request"))
            }
            Self::WaitingForExits(ids) => {
                let names: Vec<&str> = ids.iter().map(|id| name(*id)).collect();
                (Level::Info, format!("waiting for {} to die", names.join(", ")))
            }
            Self::NothingToStart => (Level::Error, "no program to start".to_owned()),
            Self::WaitingForStartRequest => {
                (Level::Info, "no program has autostart=true; waiting for `supervisorctl start`".to_owned())
            }
            Self::Reloading => (Level::Info, "rsup executes itself again: reload requested".to_owned()),
            Self::ChildrenLeftBehind => (Level::Warn, "processes left behind".to_owned()),
            Self::KillingRemaining => (Level::Warn, "killing all other processes with SIGKILL".to_owned()),
            Self::Dropped(signal) => (Level::Debug, format!("received {signal}, which has no effect here")),
            Self::Forwarding(signal) => (Level::Info, format!("passing {signal} on to the programs")),
            Self::StartWaits { id, reasons } => {
                (Level::Info, format!("{} waits for {}", name(*id), describe(reasons)))
            }
            Self::NeverStarts { id, reasons } => {
                let what = describe(reasons);
                (Level::Error, format!("{} will not start: it waits in vain for {what}", name(*id)))
            }
            Self::SigchldReceived => (Level::Debug, "received SIGCHLD indicating a child quit".to_owned()),
            Self::Exiting { cause, code } => {
                let why = match cause {
                    ExitCause::Signal(signal) => format!("received {signal}"),
                    ExitCause::Fatal(id) => format!("{} entered FATAL state (shutdown_on)", name(*id)),
                    ExitCause::Exited(id) => format!("{} exited (shutdown_on)", name(*id)),
                    ExitCause::AllEnded => "no program runs, and none will".to_owned(),
                    ExitCause::NothingToStart => "no program to start".to_owned(),
                    ExitCause::ShutdownRequest => "shutdown requested".to_owned(),
                    ExitCause::ReloadRequest => "reload requested".to_owned(),
                };
                (Level::Info, format!("rsup exits with status {code}: {why}"))
            }
        }
    }
}

/// Describes what a process waits for: `db (RUNNING), job (EXITED or FATAL)`.
#[must_use]
pub fn describe(reasons: &[WaitReason]) -> String {
    let describe = |reason: &WaitReason| match reason {
        WaitReason::Program { name, states } => {
            let states: Vec<_> = states.iter().map(|state| state.name()).collect();
            format!("{name} ({})", states.join(" or "))
        }
        WaitReason::LowerPriorities => "the programs with lower priority numbers".to_owned(),
    };
    reasons.iter().map(describe).collect::<Vec<_>>().join(", ")
}
