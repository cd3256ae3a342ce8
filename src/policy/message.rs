//! What is said, and at which level: supervisord's lines byte for byte, because people search logs for them.

use super::{Exit, Level, Signal, To};
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
    /// It is asked to stop.
    Stopping {
        /// By this.
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
            Self::Stopping { .. } => Level::Debug,
            Self::Spawned | Self::Success { .. } | Self::GaveUp => Level::Info,
            Self::Exited { expected: true, .. } | Self::Stopped { expected: true, .. } => Level::Info,
        }
    }

    /// Its text about the process of this name, whose process group has this number.
    #[must_use]
    pub fn about<'a>(&'a self, name: &'a str, pid: i32) -> impl fmt::Display + 'a {
        Line { message: self, name, pid }
    }
}

struct Line<'a> {
    message: &'a Message,
    name: &'a str,
    pid: i32,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { message, name, pid } = self;
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
            Message::Stopping { signal, to } => {
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
