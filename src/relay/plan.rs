//! What PID 1 tells the relay before the fork.

use crate::log::LogFormat;
use crate::policy::Level;
use crate::sys::{LineJournal, LinePositions, StagingPipe};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

/// Everything that the relay has to know. The next relay gets the same plan.
#[derive(Debug)]
pub struct Plan {
    pub streams: Vec<StreamPlan>,
    /// The log files of the streams. Two streams may have the same file.
    pub files: Vec<FilePlan>,
    /// What becomes of lines that go to rsup's own stdout and stderr.
    pub format: LineFormat,
    /// Whether names may be displayed in colour on a terminal.
    pub may_colour: bool,
    /// The pipe from which the relay reads rsup's own log lines. `None` if rsup writes them itself.
    pub log: Option<OwnedFd>,
    /// The pipe from which the relay reads the records of [`ended_record`]. Its end of file means that no program will be
    /// started any more.
    pub ended: OwnedFd,
    /// Which streams are read up to the middle of a line. The last entry belongs to rsup's own log.
    pub positions: LinePositions,
    /// For stdout and stderr, the pipe that holds the lines that are being written. `None` if the stream is not a pipe.
    pub staging: [Option<StagingPipe>; 2],
    /// For stdout and stderr, the memory that holds these lines if the stream is a regular file.
    pub journals: [Option<LineJournal>; 2],
    /// The least severe level of the relay's own log lines. `None` if it writes none.
    pub threshold: Option<Level>,
    pub log_format: LogFormat,
}

/// stdout or stderr of one process.
#[derive(Debug)]
pub struct StreamPlan {
    /// The reading end of the pipe to which the process writes.
    pub pipe: OwnedFd,
    /// The index of the process in the configuration.
    pub process: usize,
    /// The name of the process, as supervisorctl prints it.
    pub name: String,
    pub channel: Channel,
    /// Which of rsup's own streams receives the lines, if no log file does.
    pub outlet: Channel,
    /// The index of the log file in [`Plan::files`]. `None` if the lines go to one of rsup's own streams.
    pub file: Option<usize>,
}

/// One of the two output streams of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    Stdout,
    Stderr,
}

/// A log file that the relay writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePlan {
    pub path: PathBuf,
    /// The file is rotated when it has this many bytes. 0 if it is never rotated.
    pub max_bytes: u64,
    /// How many old files are kept. With 0, rotation empties the file.
    pub backups: u64,
}

/// What becomes of a line that goes to one of rsup's own streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFormat {
    Plain,
    /// The name of the process, filled up with spaces to `width` characters, comes before the line.
    Prefix {
        width: usize,
    },
    /// The line is the `message` of a JSON object.
    Json,
}

impl Plan {
    /// The descriptors that the relay needs.
    #[must_use]
    pub fn descriptors(&self) -> Vec<RawFd> {
        let pipes = self.streams.iter().map(|stream| stream.pipe.as_raw_fd());
        let own = self.log.iter().chain([&self.ended]).map(AsRawFd::as_raw_fd);
        pipes.chain(own).chain(self.staging.iter().flatten().flat_map(StagingPipe::descriptors)).collect()
    }
}

/// The record that PID 1 writes to the pipe [`Plan::ended`] when the child of a process has exited.
#[must_use]
pub fn ended_record(process: usize) -> [u8; 4] {
    u32::try_from(process).unwrap_or(u32::MAX).to_le_bytes()
}

/// The processes of several [`ended_record`]s.
pub(super) fn ended_processes(records: &[u8]) -> impl Iterator<Item = usize> {
    records.as_chunks().0.iter().map(|record| u32::from_le_bytes(*record) as usize)
}
