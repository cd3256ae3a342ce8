//! Event listeners: what they receive, and what the log says about them.

mod differential;
mod end_to_end;
mod in_the_field;
pub(crate) mod kinds;
mod log;
mod scenarios;

use std::path::Path;

use crate::support::{Rsup, Setup};

/// Which program supervises the processes of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side<'a> {
    /// The supervisord of this Python.
    Supervisord(&'a Path),
    Rsup,
}

impl Side<'_> {
    fn is_rsup(self) -> bool {
        self == Self::Rsup
    }

    /// Starts the server of this side. The log of either goes to stderr.
    fn start(self, setup: Setup) -> Rsup {
        match self {
            Side::Supervisord(python) => {
                let words =
                    [python.to_str().unwrap(), "-m", "supervisor.supervisord", "-c", "supervisord.conf"];
                setup.after("exec >&2").running(&words).start()
            }
            Side::Rsup => setup.start(),
        }
    }
}
