//! What is said, and at which level: supervisord's lines byte for byte, because people search logs for them.

use super::exit::ExitStatus;
use super::level::Level;
use super::signal::{Signal, SignalTarget};
use super::spec::ProcId;
use std::fmt;

/// A line about one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessMessage {
    /// The program runs.
    Spawned,
    /// It stayed up.
    Success {
        /// As the file says it.
        startsecs: i64,
    },
    /// It ended by itself.
    Exited {
        /// How.
        exit: ExitStatus,
        /// Whether `exitcodes` lists that.
        expected: bool,
    },
    /// It ended because it was told to.
    Stopped {
        /// How.
        exit: ExitStatus,
        /// Whether `exitcodes` lists that.
        expected: bool,
    },
    /// No more tries.
    GaveUp,
    /// The start came to nothing; why is the kernel's to say.
    SpawnError,
    /// A signal is sent to end it.
    Sending {
        /// This one.
        signal: Signal,
        /// Sent to these.
        to: SignalTarget,
    },
    /// It did not stop in time.
    Killing,
    /// Members of its group are still there after SIGKILL.
    LeftBehind,
}

impl ProcessMessage {
    /// Its level, supervisord's where it has the line.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Self::Exited { expected: false, .. } | Self::Stopped { expected: false, .. } => Level::Warn,
            Self::Killing | Self::LeftBehind => Level::Warn,
            Self::Sending { .. } => Level::Debug,
            Self::Spawned | Self::SpawnError | Self::Success { .. } | Self::GaveUp => Level::Info,
            Self::Exited { expected: true, .. } | Self::Stopped { expected: true, .. } => Level::Info,
        }
    }

    /// Its text about the process of this name, whose process group has this number, and whose last start failed
    /// because of `why`.
    #[must_use]
    pub fn about<'a>(&'a self, name: &'a str, pid: i32, why: &'a str) -> impl fmt::Display + 'a {
        Line { message: self, name, pid, why }
    }
}

struct Line<'a> {
    message: &'a ProcessMessage,
    name: &'a str,
    pid: i32,
    why: &'a str,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { message, name, pid, why } = self;
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
            ProcessMessage::GaveUp => {
                write!(f, "gave up: {name} entered FATAL state, too many start retries too quickly")
            }
            ProcessMessage::SpawnError => write!(f, "spawnerr: {why}"),
            ProcessMessage::Sending { signal, to } => {
                let group = match to {
                    SignalTarget::Leader => "",
                    SignalTarget::Group => "process group ",
                };
                write!(f, "killing {name} (pid {pid}) {group}with signal {signal}")
            }
            ProcessMessage::Killing => write!(f, "killing '{name}' ({pid}) with SIGKILL"),
            ProcessMessage::LeftBehind => write!(f, "processes left behind: {name} (process group {pid})"),
        }
    }
}

/// A line about all processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SupervisorMessage {
    /// A signal asked for the end.
    Received(Signal),
    /// These are still there.
    Waiting(Vec<ProcId>),
    /// No process has `autostart`.
    NothingToStart,
    /// Something did not die of SIGKILL, or cannot be reached.
    LeftBehind,
    /// What else runs did not go in time.
    KillingRemaining,
    /// A signal came that has no effect here.
    Dropped(Signal),
    /// A child has changed its state.
    ChildQuit,
    /// The last line.
    Exiting {
        /// Why.
        cause: ExitCause,
        /// With what.
        code: u8,
    },
}

/// Why rsup leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCause {
    /// It was told to.
    Signal(Signal),
    /// A process with `shutdown_on` went FATAL.
    Fatal(ProcId),
    /// A process with `shutdown_on=exited` ended for good.
    Exited(ProcId),
    /// Nothing runs and nothing will.
    AllEnded,
    /// There was nothing to run.
    NothingToStart,
}

impl SupervisorMessage {
    /// Its level, and its text where processes have these names.
    #[must_use]
    pub fn line<'a>(&self, name: impl Fn(ProcId) -> &'a str) -> (Level, String) {
        match self {
            Self::Received(signal) => (Level::Warn, format!("received {signal} indicating exit request")),
            Self::Waiting(ids) => {
                let names: Vec<&str> = ids.iter().map(|id| name(*id)).collect();
                (Level::Info, format!("waiting for {} to die", names.join(", ")))
            }
            Self::NothingToStart => (Level::Error, "no program to start".to_owned()),
            Self::LeftBehind => (Level::Warn, "processes left behind".to_owned()),
            Self::KillingRemaining => (Level::Warn, "killing all other processes with SIGKILL".to_owned()),
            Self::Dropped(signal) => (Level::Debug, format!("received {signal}, which has no effect here")),
            Self::ChildQuit => (Level::Debug, "received SIGCHLD indicating a child quit".to_owned()),
            Self::Exiting { cause, code } => {
                let why = match cause {
                    ExitCause::Signal(signal) => format!("received {signal}"),
                    ExitCause::Fatal(id) => format!("{} entered FATAL state (shutdown_on)", name(*id)),
                    ExitCause::Exited(id) => format!("{} exited (shutdown_on)", name(*id)),
                    ExitCause::AllEnded => "no program runs, and none will".to_owned(),
                    ExitCause::NothingToStart => "no program to start".to_owned(),
                };
                (Level::Info, format!("rsup exits with status {code}: {why}"))
            }
        }
    }
}
