//! Signal numbers, and supervisord's names of signals.

use std::fmt;

/// A signal number from 0 to 64. `Signal` is not an enum because most real-time signals have no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signal(u8);

/// The names of the signals 1 to 31. The numbers are the same on every architecture that rsup is built for. supervisord
/// names signal 29 POLL.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "POLL", "PWR", "SYS",
];
/// The first and the last real-time signal, with the numbers that glibc, Python and supervisord use.
const REAL_TIME: [(&str, u8); 2] = [("RTMIN", 34), ("RTMAX", 64)];
/// Second names of signals in `NAMES`.
const ALIASES: [(&str, u8); 3] = [("CLD", 17), ("IOT", 6), ("IO", 29)];

impl Signal {
    pub const HUP: Self = Self(1);
    pub const INT: Self = Self(2);
    pub const QUIT: Self = Self(3);
    pub const KILL: Self = Self(9);
    pub const TERM: Self = Self(15);
    pub const CHLD: Self = Self(17);
    pub const CONT: Self = Self(18);
    pub const STOP: Self = Self(19);
    pub const TSTP: Self = Self(20);
    pub const TTIN: Self = Self(21);
    pub const TTOU: Self = Self(22);
    pub const WINCH: Self = Self(28);

    /// The signal with this number, from 0 to 64. 0 is no signal, but kill(2) and supervisord accept it.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        u8::try_from(number).ok().filter(|n| *n <= 64).map(Self)
    }

    /// The signal with this name. The name must be in upper case, and may begin with `SIG`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.strip_prefix("SIG").unwrap_or(name);
        named_signals().chain(ALIASES).find(|(known, _)| *known == name).map(|(_, number)| Self(number))
    }

    #[must_use]
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }
}

/// Writes the name, for example `SIGTERM`. A signal without a name is written as supervisord writes it: `signal 40`.
impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match named_signals().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None => write!(f, "signal {}", self.0),
        }
    }
}

/// The receiver of a signal that rsup sends to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalTarget {
    /// Only the leader, which is the child that rsup forked for the program.
    Leader,
    /// The leader's whole process group.
    Group,
}

/// Each signal that has a name, once: its name without `SIG`, and its number.
fn named_signals() -> impl Iterator<Item = (&'static str, u8)> {
    NAMES.into_iter().zip(1..).chain(REAL_TIME)
}

#[cfg(test)]
mod tests {
    use super::Signal;

    fn number_of(name: &str) -> Option<i32> {
        Signal::from_name(name).map(Signal::number)
    }

    #[test]
    fn a_signal_number_is_from_0_to_64() {
        for number in 0..=64 {
            assert_eq!(Signal::from_number(number).map(Signal::number), i32::try_from(number).ok());
        }
        for number in [i64::MIN, -1, 65, 255, 256, i64::MAX] {
            assert_eq!(Signal::from_number(number), None, "{number}");
        }
    }

    #[test]
    fn a_name_is_accepted_with_and_without_its_prefix() {
        assert_eq!(number_of("TERM"), Some(15));
        assert_eq!(number_of("SIGTERM"), Some(15));
        for name in ["", "SIG", "SIGSIGTERM", "term", "sigterm", "RTMIN+1", "15"] {
            assert_eq!(number_of(name), None, "{name}");
        }
    }

    #[test]
    fn every_name_that_is_written_is_also_accepted() {
        for number in 0..=64 {
            let signal = Signal::from_number(number).unwrap();
            match Signal::from_name(&signal.to_string()) {
                Some(found) => assert_eq!(found, signal),
                None => assert_eq!(signal.to_string(), format!("signal {number}")),
            }
        }
    }

    #[test]
    fn the_names_have_the_numbers_of_linux() {
        let rows = [
            (Signal::HUP, 1, "SIGHUP"),
            (Signal::INT, 2, "SIGINT"),
            (Signal::QUIT, 3, "SIGQUIT"),
            (Signal::KILL, 9, "SIGKILL"),
            (Signal::TERM, 15, "SIGTERM"),
            (Signal::CHLD, 17, "SIGCHLD"),
            (Signal::CONT, 18, "SIGCONT"),
            (Signal::STOP, 19, "SIGSTOP"),
            (Signal::TSTP, 20, "SIGTSTP"),
            (Signal::TTIN, 21, "SIGTTIN"),
            (Signal::TTOU, 22, "SIGTTOU"),
            (Signal::WINCH, 28, "SIGWINCH"),
        ];
        for (signal, number, name) in rows {
            assert_eq!(signal.number(), number);
            assert_eq!(signal.to_string(), name);
        }
        assert_eq!(number_of("SYS"), Some(31));
    }

    #[test]
    fn aliases_are_accepted_and_never_written() {
        for (alias, number, name) in [("CLD", 17, "SIGCHLD"), ("IOT", 6, "SIGABRT"), ("IO", 29, "SIGPOLL")] {
            let signal = Signal::from_name(alias).unwrap();
            assert_eq!(signal.number(), number);
            assert_eq!(signal.to_string(), name);
        }
    }

    #[test]
    fn of_the_real_time_signals_only_the_first_and_the_last_have_a_name() {
        assert_eq!(number_of("RTMIN"), Some(34));
        assert_eq!(number_of("RTMAX"), Some(64));
        for number in (32..34).chain(35..64) {
            assert_eq!(Signal::from_number(number).unwrap().to_string(), format!("signal {number}"));
        }
    }
}
