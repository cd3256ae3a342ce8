//! How a process ended, and what rsup's own exit code makes of it.

use super::signal::Signal;
use std::fmt;

/// How a process ended, as `waitpid` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It called `exit`.
    Code(u8),
    /// A signal ended it.
    Signal {
        /// Which.
        signal: Signal,
        /// Whether it left a core dump.
        core: bool,
    },
    /// It is gone, and the kernel does not say how.
    Unknown,
}

impl ExitStatus {
    /// Whether `exitcodes` lists it. Death by a signal is never listed (supervisord counts it as code -1).
    #[must_use]
    pub fn is_expected(self, exitcodes: &[u8]) -> bool {
        match self {
            Self::Code(code) => exitcodes.contains(&code),
            Self::Signal { .. } | Self::Unknown => false,
        }
    }

    /// What a shell would say: the code, or 128 + n for signal n; 1 where nobody knows.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal { signal, .. } => 128_u8.saturating_add(u8::try_from(signal.number()).unwrap_or(0)),
            Self::Unknown => 1,
        }
    }
}

/// supervisord's words: `exit status 1`, `terminated by SIGKILL`, `terminated by SIGSEGV (core dumped)`.
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
