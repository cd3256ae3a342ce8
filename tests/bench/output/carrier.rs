//! What rotates log files: rsup, supervisord, and two loggers that get their input from a pipe.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::writers::{self, BACKUPS, MAX_BYTES, Place, Processes};
use crate::init::OTHER_RSUP;
use crate::tools;

/// What carries the output of a program into a log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carrier {
    Rsup,
    OtherRsup,
    S6Log,
    Svlogd,
    Supervisord,
}

impl Carrier {
    const ALL: [Self; 5] = [Self::Rsup, Self::OtherRsup, Self::S6Log, Self::Svlogd, Self::Supervisord];

    /// The carriers that are installed on this machine.
    pub(super) fn installed() -> Vec<Self> {
        Self::ALL.into_iter().filter(|carrier| carrier.binary().is_some()).collect()
    }

    fn binary(self) -> Option<PathBuf> {
        match self {
            Self::Rsup => Some(tools::rsup()),
            Self::OtherRsup => tools::other_rsup(),
            Self::S6Log => tools::find("s6-log"),
            Self::Svlogd => tools::find("svlogd"),
            Self::Supervisord => tools::find("supervisord"),
        }
    }

    /// Starts the carrier and a writer with these arguments, and waits until both are ready. Returns the PID of the
    /// process that carries the output.
    pub(super) fn start(self, words: &[&str], place: &mut Place, processes: &mut Processes) -> i32 {
        let ancestor = self.start_processes(words, place, processes);
        place.record();
        let pid = writers::find(ancestor, self.process());
        writers::wait_until_asleep(pid);
        pid
    }

    /// Returns the PID of the process that carries the output, or of an ancestor.
    fn start_processes(self, words: &[&str], place: &Place, processes: &mut Processes) -> i32 {
        let binary = self.binary().unwrap();
        if matches!(self, Self::Rsup | Self::OtherRsup | Self::Supervisord) {
            place.write_conf(&words.join(" "), 1, &place.rotation_keys());
            let mut command = place.supervisor(&binary);
            command.stdin(Stdio::null()).stdout(Stdio::null());
            return processes.start(command);
        }
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = Command::new(binary);
        if self == Self::Svlogd {
            fs::write(place.logs().join("config"), format!("s{MAX_BYTES}\nn{BACKUPS}\n")).unwrap();
        } else {
            command.args([format!("n{BACKUPS}"), format!("s{MAX_BYTES}")]);
        }
        command.arg(place.logs()).stdin(reader).stdout(Stdio::null());
        let carrier = processes.start(command);
        let mut command = Command::new(tools::writer());
        command.arg(place.path()).args(words).stdin(Stdio::null()).stdout(writer);
        processes.start(command);
        carrier
    }

    /// The name of the process that carries the output.
    fn process(self) -> &'static str {
        match self {
            Self::Rsup | Self::OtherRsup => "rsup-relay",
            Self::S6Log => "s6-log",
            Self::Svlogd => "svlogd",
            Self::Supervisord => "supervisord",
        }
    }
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Rsup => "rsup",
            Self::OtherRsup => OTHER_RSUP,
            Self::S6Log => "s6-log",
            Self::Svlogd => "svlogd",
            Self::Supervisord => "supervisord",
        })
    }
}
