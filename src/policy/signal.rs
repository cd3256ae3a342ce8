//! Signal numbers and the names supervisord gives them.

use std::fmt;

/// A signal by its number, 0 to 64. A number and not an enum, since real-time signals have no names of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signal(u8);

/// Names of 1 to 31 as Linux numbers them on every machine rsup is built for; 29 is POLL in Python, so here too.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "POLL", "PWR", "SYS",
];
/// The two ends of the real-time range as glibc, and so Python and supervisord, numbers them.
const REAL_TIME: [(&str, u8); 2] = [("RTMIN", 34), ("RTMAX", 64)];
/// Other names of the same signals.
const ALIASES: [(&str, u8); 3] = [("CLD", 17), ("IOT", 6), ("IO", 29)];

impl Signal {
    /// Hangup.
    pub const HUP: Self = Self(1);
    /// Interrupt.
    pub const INT: Self = Self(2);
    /// Quit.
    pub const QUIT: Self = Self(3);
    /// Kill, which cannot be caught.
    pub const KILL: Self = Self(9);
    /// Terminate.
    pub const TERM: Self = Self(15);
    /// A child has changed its state.
    pub const CHLD: Self = Self(17);
    /// Continue if stopped.
    pub const CONT: Self = Self(18);
    /// Stop, which cannot be caught.
    pub const STOP: Self = Self(19);
    /// Stop typed at the terminal.
    pub const TSTP: Self = Self(20);
    /// Terminal read from the background.
    pub const TTIN: Self = Self(21);
    /// Terminal write from the background.
    pub const TTOU: Self = Self(22);
    /// The terminal's size has changed.
    pub const WINCH: Self = Self(28);

    /// The signal with this number, if Linux has it (1 to 64; 0 is no signal, but `kill` and supervisord take it).
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        u8::try_from(number).ok().filter(|n| *n <= 64).map(Self)
    }

    /// The signal with this name, with or without `SIG`, in upper case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.strip_prefix("SIG").unwrap_or(name);
        named().chain(ALIASES).find(|(known, _)| *known == name).map(|(_, number)| Self(number))
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }
}

/// `SIGTERM`; for numbers without a name supervisord's `signal 40`.
impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match named().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None => write!(f, "signal {}", self.0),
        }
    }
}

/// The receiver of a signal that rsup sends to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalTarget {
    /// Only the leader, which is the child that rsup forked.
    Leader,
    /// The leader's whole process group.
    Group,
}

/// The signals that have a name, each once.
fn named() -> impl Iterator<Item = (&'static str, u8)> {
    NAMES.into_iter().zip(1..).chain(REAL_TIME)
}
