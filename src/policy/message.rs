//! What is said, and at which level: supervisord's lines byte for byte, because people search logs for them.

use super::{Exit, Level, ProcId, Signal, To};
use std::fmt;

/// A line about one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
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
        exit: Exit,
        /// Whether `exitcodes` lists that.
        expected: bool,
    },
    /// It ended because it was told to.
    Stopped {
        /// How.
        exit: Exit,
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
        to: To,
    },
    /// It did not stop in time.
    Killing,
    /// Members of its group are still there after SIGKILL.
    LeftBehind,
}

impl Message {
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
    message: &'a Message,
    name: &'a str,
    pid: i32,
    why: &'a str,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { message, name, pid, why } = self;
        match message {
            Message::Spawned => write!(f, "spawned: '{name}' with pid {pid}"),
            Message::Success { startsecs } => write!(
                f,
                "success: {name} entered RUNNING state, process has stayed up for > than {startsecs} seconds \
                 (startsecs)"
            ),
            Message::Exited { exit, expected } => {
                write!(f, "exited: {name} ({exit}; {})", if *expected { "expected" } else { "not expected" })
            }
            Message::Stopped { exit, .. } => write!(f, "stopped: {name} ({exit})"),
            Message::GaveUp => {
                write!(f, "gave up: {name} entered FATAL state, too many start retries too quickly")
            }
            Message::SpawnError => write!(f, "spawnerr: {why}"),
            Message::Sending { signal, to } => {
                let group = match to {
                    To::Leader => "",
                    To::Group => "process group ",
                };
                write!(f, "killing {name} (pid {pid}) {group}with signal {signal}")
            }
            Message::Killing => write!(f, "killing '{name}' ({pid}) with SIGKILL"),
            Message::LeftBehind => write!(f, "processes left behind: {name} (process group {pid})"),
        }
    }
}

/// A line about all processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A signal asked for the end.
    Received(Signal),
    /// These are still there.
    Waiting(Vec<ProcId>),
    /// No process has `autostart`.
    NothingToStart,
    /// Something did not die of SIGKILL, or cannot be reached.
    LeftBehind,
    /// What else runs did not go in time.
    KillingTheRest,
    /// A signal came that has no effect here.
    Dropped(Signal),
    /// A child has changed its state.
    ChildQuit,
    /// The last line.
    Leaving {
        /// Why.
        cause: Cause,
        /// With what.
        code: u8,
    },
}

/// Why rsup leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
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

impl Notice {
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
            Self::KillingTheRest => (Level::Warn, "killing all other processes with SIGKILL".to_owned()),
            Self::Dropped(signal) => (Level::Debug, format!("received {signal}, which has no effect here")),
            Self::ChildQuit => (Level::Debug, "received SIGCHLD indicating a child quit".to_owned()),
            Self::Leaving { cause, code } => {
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
}
