//! The exit status of a process, and the exit code that rsup derives from it.

use super::signal::Signal;
use std::fmt;

/// The exit status of a process, as `waitpid` reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// The process called `exit` with this code.
    Code(u8),
    /// A signal terminated the process.
    Signal {
        /// The signal that terminated the process.
        signal: Signal,
        /// Whether the process left a core dump.
        core: bool,
    },
    /// The process has ended, and `waitpid` did not report its exit status.
    Unknown,
}

impl ExitStatus {
    /// Whether `exitcodes` lists the exit code. Returns false if a signal terminated the process: supervisord then uses
    /// the exit code -1, which `exitcodes` cannot contain.
    #[must_use]
    pub fn is_expected(self, exitcodes: &[u8]) -> bool {
        match self {
            Self::Code(code) => exitcodes.contains(&code),
            Self::Signal { .. } | Self::Unknown => false,
        }
    }

    /// The exit code that a shell would report: the code of `exit`, or 128 + n for signal n. Returns 1 if the exit
    /// status is unknown.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal { signal, .. } => 128_u8.saturating_add(u8::try_from(signal.number()).unwrap_or(0)),
            Self::Unknown => 1,
        }
    }
}

/// Writes the exit status in supervisord's words: `exit status 1`, `terminated by SIGKILL`, `terminated by SIGSEGV
/// (core dumped)`.
impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal { signal, core } => {
                write!(f, "terminated by {signal}{}", if *core { " (core dumped)" } else { "" })
            }
            Self::Unknown => f.write_str("unknown termination cause"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ExitStatus;
    use crate::policy::signal::Signal;

    fn terminated_by(number: i64) -> ExitStatus {
        ExitStatus::Signal { signal: Signal::from_number(number).unwrap(), core: false }
    }

    #[test]
    fn the_exit_code_is_the_one_that_a_shell_reports() {
        for code in 0..=255 {
            assert_eq!(ExitStatus::Code(code).exit_code(), code);
        }
        for (signal, code) in [(1, 129), (9, 137), (15, 143), (34, 162), (64, 192)] {
            assert_eq!(terminated_by(signal).exit_code(), code, "signal {signal}");
        }
        assert_eq!(ExitStatus::Signal { signal: Signal::QUIT, core: true }.exit_code(), 131);
        assert_eq!(ExitStatus::Unknown.exit_code(), 1);
    }

    #[test]
    fn only_the_listed_exit_codes_are_expected() {
        assert!(ExitStatus::Code(0).is_expected(&[0]));
        assert!(ExitStatus::Code(7).is_expected(&[0, 7]));
        assert!(!ExitStatus::Code(7).is_expected(&[0]));
        assert!(!ExitStatus::Code(0).is_expected(&[]));
    }

    #[test]
    fn termination_by_a_signal_and_an_unknown_exit_status_are_never_expected() {
        let every_code: Vec<u8> = (0..=255).collect();
        for signal in 1..=64 {
            assert!(!terminated_by(signal).is_expected(&every_code), "signal {signal}");
        }
        assert!(!ExitStatus::Unknown.is_expected(&every_code));
    }

    #[test]
    fn an_exit_status_is_written_in_the_words_of_supervisord() {
        assert_eq!(ExitStatus::Code(1).to_string(), "exit status 1");
        assert_eq!(terminated_by(9).to_string(), "terminated by SIGKILL");
        assert_eq!(terminated_by(40).to_string(), "terminated by signal 40");
        let dumped = ExitStatus::Signal { signal: Signal::QUIT, core: true };
        assert_eq!(dumped.to_string(), "terminated by SIGQUIT (core dumped)");
        assert_eq!(ExitStatus::Unknown.to_string(), "unknown termination cause");
    }
}
