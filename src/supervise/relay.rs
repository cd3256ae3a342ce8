//! Which streams of the programs go through the relay, and the pipes that lead to it.

use super::listener_plan::{ListenersBuilder, SubscribedEvents};
use super::messages::NO_RELAY_FOR_LISTENER;
use crate::config::{Config, LogFile, OutputMode, ProcessConfig, Rotation, StreamEvents, descriptor_of_path};
use crate::log::LogFormat;
use crate::policy::{Level, Time};
use crate::relay::{Channel, FilePlan, LineFormat, Plan, StreamPlan};
use crate::sys::{
    self, Errno, FdPassingSockets, InsideLineFlags, Output, OutputStream, RelayChild, RelayPipe, StagingPipe,
    WriteJournal,
};
use std::ffi::{CString, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The longest name in bytes that a line contains. A longer name is cut, because the name takes room in every
/// line, and a line has at most 64 KiB.
const MAX_SHOWN_NAME: usize = 1000;

/// The number of descriptors that rsup needs for the relay as a whole: its pipes, the pipe that shows that it has
/// exited, the sockets for the pipes of event listeners, and the pipes of the listener that is being started.
const SHARED_DESCRIPTORS: u64 = 16;
/// The number of descriptors that rsup needs for each stream that goes through the relay: both ends of its pipe.
const DESCRIPTORS_PER_STREAM: u64 = 2;

/// Returns an upper bound of the number of descriptors that rsup needs for the relay. Returns 0 only if no stream and
/// no event listener needs the relay.
pub(super) fn needed_descriptors(config: &Config) -> u64 {
    let mode = config.supervisord.output;
    let goes_through = |file: &LogFile, rotation: Rotation| match file {
        LogFile::Path(path) if descriptor_of_path(path).is_none() => {
            rotation.max_bytes > 0 || mode != OutputMode::Direct
        }
        LogFile::Path(_) | LogFile::Auto | LogFile::Syslog => mode != OutputMode::Direct,
        LogFile::None => false,
    };
    let has_events = |events: StreamEvents| events.enabled || events.capture_maxbytes > 0;
    let streams = config.processes.iter().map(|process| {
        let stdout = goes_through(&process.stdout_logfile, process.stdout_rotation);
        let stderr = goes_through(&process.stderr_logfile, process.stderr_rotation);
        u64::from(stdout || has_events(process.stdout_events))
            + u64::from(stderr || has_events(process.stderr_events))
    });
    match streams.sum::<u64>() {
        0 if !config.has_listeners() => 0,
        streams => SHARED_DESCRIPTORS + DESCRIPTORS_PER_STREAM * streams,
    }
}

/// Collects the streams that go through the relay while the programs are prepared.
pub(super) struct RelayBuilder {
    mode: OutputMode,
    /// The pipes that all streams have in common. `None` if the relay is not needed or not possible.
    shared: Option<SharedPipes>,
    streams: Vec<StreamPlan>,
    files: Vec<FilePlan>,
    writers: Vec<OwnedFd>,
    subscribed: SubscribedEvents,
    listeners: ListenersBuilder,
    /// The first error of a pipe that could not be created.
    pub(super) failure: Option<Errno>,
}

struct SharedPipes {
    records: RelayPipe,
    listeners: Option<FdPassingSockets>,
    log: Option<RelayPipe>,
    staging_pipes: [Option<StagingPipe>; 2],
    outlet_journals: [Option<WriteJournal>; 2],
    inside_line_flags: InsideLineFlags,
}

impl SharedPipes {
    fn new(config: &Config) -> Result<Self, Errno> {
        let mode = config.supervisord.output;
        let log = match mode {
            OutputMode::Direct => None,
            OutputMode::Lines | OutputMode::Prefix | OutputMode::Json => Some(RelayPipe::nonblocking()?),
        };
        Ok(Self {
            records: RelayPipe::nonblocking()?,
            listeners: config.has_listeners().then(FdPassingSockets::new).transpose()?,
            log,
            staging_pipes: [sys::STDOUT, sys::STDERR]
                .map(|fd| sys::is_writable_pipe(fd).then(StagingPipe::new).and_then(Result::ok)),
            outlet_journals: [sys::STDOUT, sys::STDERR].map(WriteJournal::new),
            // Two streams for each process, and rsup's own log.
            inside_line_flags: InsideLineFlags::new(2 * config.processes.len() + 1)?,
        })
    }
}

impl RelayBuilder {
    /// `is_wanted` says whether a stream may go through the relay. This function creates the pipes that all streams
    /// have in common. If that fails, there is no relay, and so no program may get a pipe to the relay.
    pub(super) fn new(config: &Config, is_wanted: bool) -> Self {
        let mode = config.supervisord.output;
        let shared = is_wanted.then(|| SharedPipes::new(config)).transpose();
        let failure = shared.as_ref().err().copied();
        Self {
            mode,
            shared: shared.ok().flatten(),
            streams: Vec::new(),
            files: Vec::new(),
            writers: Vec::new(),
            subscribed: SubscribedEvents::new(config),
            listeners: ListenersBuilder::default(),
            failure,
        }
    }

    /// Returns where the stdout of an event listener goes. If `direct` is a file, the relay also copies the stdout to
    /// this file. Otherwise there is no copy. supervisord writes a copy to a file in /tmp if `stdout_logfile` is not
    /// set. rsup's own stdout gets no copy, because the stdout of a listener contains only the event protocol.
    ///
    /// # Errors
    /// Returns the text after `spawnerr:` if there is no relay.
    pub(super) fn listener_output(
        &mut self,
        process: (usize, &ProcessConfig),
        direct: &Output,
    ) -> Result<Output, String> {
        let (_, config) = process;
        let log = match direct {
            Output::File(file) => Some(file_plan(&file.path, config.stdout_rotation)),
            _ => None,
        };
        self.listeners.add(process, log);
        if self.shared.is_some() { Ok(Output::Listener) } else { Err(NO_RELAY_FOR_LISTENER.to_owned()) }
    }

    /// Returns where a stream of a process goes: through the relay if necessary, otherwise to `direct`.
    pub(super) fn output(
        &mut self,
        process: (usize, &ProcessConfig),
        channel: Channel,
        direct: Output,
    ) -> Output {
        let (index, config) = process;
        let rotation = match channel {
            Channel::Stdout => config.stdout_rotation,
            Channel::Stderr => config.stderr_rotation,
        };
        let listener_needs = self.subscribed.stream(config, channel);
        let is_direct = self.mode == OutputMode::Direct && !listener_needs.has_any_need();
        let (outlet, file) = match &direct {
            Output::File(file) if rotation.max_bytes > 0 || listener_needs.has_any_need() => {
                (Some(channel), Some(self.file(&file.path, rotation)))
            }
            Output::File(_) if !is_direct => (Some(channel), None),
            Output::Inherit { fd: sys::STDOUT, .. } if !is_direct => (Some(Channel::Stdout), None),
            Output::Inherit { .. } if !is_direct => (Some(Channel::Stderr), None),
            Output::Discard if listener_needs.has_any_need() => (None, None),
            _ => return direct,
        };
        // With `output=prefix` and `output=json`, each line has the name of its process anyway.
        let prints_like_supervisor_stdout = listener_needs.supervisor_stdout_subscribes
            && matches!(self.mode, OutputMode::Direct | OutputMode::Lines);
        let outlet = if prints_like_supervisor_stdout { Some(Channel::Stdout) } else { outlet };
        if self.shared.is_none() {
            return direct;
        }
        let RelayPipe { reader, writer } = match RelayPipe::with_nonblocking_reader() {
            Ok(pipe) => pipe,
            Err(errno) => {
                self.failure = self.failure.or(Some(errno));
                return direct;
            }
        };
        let pipe = writer.as_raw_fd();
        self.streams.push(StreamPlan {
            pipe: reader,
            process: index,
            name: if prints_like_supervisor_stdout {
                cut_name(config.name.clone())
            } else {
                shown_name(config)
            },
            channel,
            outlet,
            file,
            prints_like_supervisor_stdout,
            has_log_events: listener_needs.has_log_events,
            capture_maxbytes: listener_needs.capture_maxbytes,
        });
        self.writers.push(writer);
        match direct {
            Output::File(direct) => Output::File(sys::LogFile {
                relay_pipe: file.map(|_| pipe),
                fallback: (!is_direct).then_some(pipe),
                ..direct
            }),
            _ => Output::Relay(pipe),
        }
    }

    /// Returns the index of a log file, which two streams may have in common.
    fn file(&mut self, path: &CString, rotation: Rotation) -> usize {
        let file = file_plan(path, rotation);
        let known = self.files.iter().position(|known| *known == file);
        known.unwrap_or_else(|| {
            self.files.push(file);
            self.files.len() - 1
        })
    }

    /// Returns the relay, which is not started yet. Returns `None` if no stream and no event listener needs the
    /// relay, or if it could not be prepared. `threshold` is the least severe level that rsup logs.
    pub(super) fn build(self, config: &Config, threshold: Option<Level>) -> Option<Relay> {
        let is_needed = |shared: &SharedPipes| !self.streams.is_empty() || shared.listeners.is_some();
        let SharedPipes { records, listeners, log, staging_pipes, outlet_journals, inside_line_flags } =
            self.shared.filter(is_needed)?;
        let (log_reader, unused_log_writer) =
            log.map(|log| (log.reader, OutputStream::pipe(log.writer))).unzip();
        let shown = self.streams.iter().filter(|stream| stream.file.is_none());
        let width = shown.map(|stream| stream.name.chars().count()).max().unwrap_or(0);
        let (format, log_format) = match self.mode {
            OutputMode::Direct | OutputMode::Lines => (LineFormat::Plain, LogFormat::Text),
            OutputMode::Prefix => (LineFormat::Prefix { width }, LogFormat::Text),
            OutputMode::Json => (LineFormat::Json, LogFormat::Json),
        };
        let plan = Plan {
            streams: self.streams,
            files: self.files,
            format,
            may_colour: sys::allows_colour(),
            log: log_reader,
            records: records.reader,
            listeners: listeners.map(|pipes| self.listeners.build(config, pipes)),
            inside_line_flags,
            staging_pipes,
            outlet_journals,
            threshold,
            log_format,
        };
        Some(Relay {
            plan,
            writers: self.writers,
            records: Some(records.writer),
            lost_records: 0,
            unused_log_writer,
            child: None,
            restart_allowed_at: None,
            start_failed: false,
        })
    }
}

fn file_plan(path: &CString, rotation: Rotation) -> FilePlan {
    let path = PathBuf::from(OsString::from_vec(path.as_bytes().to_vec()));
    FilePlan::new(path, rotation.max_bytes, rotation.backups)
}

/// The name that comes before the lines of a process: as supervisorctl prints it.
fn shown_name(process: &ProcessConfig) -> String {
    cut_name(if process.group == process.name {
        process.name.clone()
    } else {
        format!("{}:{}", process.group, process.name)
    })
}

/// Cuts a name to [`MAX_SHOWN_NAME`] bytes.
fn cut_name(mut name: String) -> String {
    name.truncate(name.floor_char_boundary(MAX_SHOWN_NAME));
    name
}

/// What rsup knows about the relay and keeps open for it.
pub(super) struct Relay {
    pub(super) plan: Plan,
    /// The writing ends of the programs' pipes. rsup keeps them open, so that the relay sees no end of file while a
    /// program restarts.
    pub(super) writers: Vec<OwnedFd>,
    /// The writing end of the pipe of [`crate::relay::ChangeRecord`]. rsup closes it before it exits, and the field is
    /// `None` then.
    pub(super) records: Option<OwnedFd>,
    /// How many records were lost since a record was last written, because the pipe was full. The next record that is
    /// written sets this number back to 0, and rsup logs the number if there are event listeners.
    pub(super) lost_records: u64,
    /// The stream that leads to the relay, for rsup's own log lines. `None` while the log writes to it. Always `None`
    /// with `output=direct`, because the relay then writes no log lines of rsup.
    pub(super) unused_log_writer: Option<OutputStream>,
    /// `None` if no relay runs.
    pub(super) child: Option<RelayChild>,
    /// When the relay may be started again. `None` if it was never started.
    pub(super) restart_allowed_at: Option<Time>,
    /// Whether the last attempt to start the relay has failed.
    pub(super) start_failed: bool,
}

impl Relay {
    /// When the relay has to be started. `None` if it runs or was never started.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.restart_allowed_at.filter(|_| self.child.is_none())
    }
}
