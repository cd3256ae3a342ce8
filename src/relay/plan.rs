//! What rsup tells the relay before the fork.

use crate::log::LogFormat;
use crate::policy::Level;
use crate::sys::{FdPassingSockets, InsideLineFlags, StagingPipe, WriteJournal};
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
    /// The pipe from which the relay reads each [`ChangeRecord`](super::ChangeRecord). Its end of file means that no
    /// program will be started any more.
    pub records: OwnedFd,
    /// `None` if there are no event listeners.
    pub listeners: Option<ListenersPlan>,
    /// For each stream, whether the relay may have read only the beginning of a line. The entry after those of the
    /// streams is for rsup's own log.
    pub inside_line_flags: InsideLineFlags,
    /// For stdout and stderr, the pipe that holds the lines that are being written. `None` if the stream is not a pipe,
    /// or if the staging pipe could not be created.
    pub staging_pipes: [Option<StagingPipe>; 2],
    /// For stdout and stderr, the memory that holds the lines that are being written. `None` if the stream is not a
    /// regular file, or if the memory could not be created.
    pub outlet_journals: [Option<WriteJournal>; 2],
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
    /// The name of the process: as supervisorctl prints it, or without the group if `prints_like_supervisor_stdout`.
    pub name: String,
    pub channel: Channel,
    /// Which of rsup's own streams receives the lines if there is no log file, if it cannot be opened, or if
    /// `prints_like_supervisor_stdout`. `None` if the lines are then discarded.
    pub outlet: Option<Channel>,
    /// The index of the log file in [`Plan::files`]. `None` if there is no log file.
    pub file: Option<usize>,
    /// Whether the lines go to rsup's own stdout as the event listener supervisor_stdout prints them: with the name of
    /// the process and the channel before each line. The lines then go there even if they also go to a log file.
    pub prints_like_supervisor_stdout: bool,
    /// Whether listeners receive each piece of output as an event.
    pub has_log_events: bool,
    /// How many bytes between the tokens of the capture mode are kept. `None` if the stream has no capture mode.
    pub capture_maxbytes: Option<usize>,
}

/// One of the two output streams of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    Stdout,
    Stderr,
}

impl Channel {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
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

/// The largest number of old log files. Each rotation looks for every one of them.
const MAX_BACKUPS: u64 = 10_000;

impl FilePlan {
    #[must_use]
    pub fn new(path: PathBuf, max_bytes: u64, backups: u64) -> Self {
        Self { path, max_bytes, backups: backups.min(MAX_BACKUPS) }
    }
}

/// What rsup tells the relay about all listeners.
#[derive(Debug)]
pub struct ListenersPlan {
    /// The `identifier` of `[supervisord]`.
    pub server: String,
    /// The names of all processes, those of the listeners included, in the order of the configuration.
    pub names: Vec<ProcessName>,
    /// The PID of the last child of each process when the relay was forked. 0 if there was none.
    pub pids: Vec<i32>,
    pub pools: Vec<PoolPlan>,
    /// The listeners of all pools, in the order of the configuration.
    pub listeners: Vec<ListenerPlan>,
    /// Through this socket, rsup sends the pipes of each listener that it starts.
    pub pipes: FdPassingSockets,
}

/// What rsup tells the relay about a pool.
#[derive(Debug)]
pub struct PoolPlan {
    pub name: String,
    /// The names that the key `events` lists.
    pub events: Vec<&'static str>,
    /// How many events wait at most. There is room for at least one.
    pub buffer_size: usize,
}

/// What rsup tells the relay about a listener.
#[derive(Debug)]
pub struct ListenerPlan {
    /// The index of the process in the configuration.
    pub process: usize,
    /// The index of its pool.
    pub pool: usize,
    /// The file to which the relay copies what the listener writes to its stdout.
    pub log: Option<FilePlan>,
}

/// The name of a process and of its group.
#[derive(Debug)]
pub struct ProcessName {
    pub process: String,
    pub group: String,
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
    /// The name of the process and the channel come before the line.
    NameAndChannel,
}

impl Plan {
    /// The descriptors that the relay needs.
    #[must_use]
    pub fn descriptors(&self) -> Vec<RawFd> {
        let mut descriptors = vec![self.records.as_raw_fd()];
        descriptors.extend(self.log.iter().map(AsRawFd::as_raw_fd));
        for stream in &self.streams {
            descriptors.push(stream.pipe.as_raw_fd());
        }
        if let Some(listeners) = &self.listeners {
            descriptors.push(listeners.pipes.receiver());
        }
        for staging_pipe in self.staging_pipes.iter().flatten() {
            descriptors.extend(staging_pipe.descriptors());
        }
        descriptors
    }
}
