//! The inputs and the results of loading a configuration.
//!
//! A field that has the name of a key holds the value of that key.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::rc::Rc;

use super::report::{Notice, Report};
use crate::policy::{Level, ProcessSpec, ShutdownOn, StartupWait};

/// What rsup must know about the machine to load a configuration.
#[derive(Clone, Copy)]
pub struct Machine<'a> {
    /// The environment that rsup was started with, for `%(ENV_X)s`.
    pub environment: &'a [(String, String)],
    /// The names of the environment variables whose values are not UTF-8. They are not in `environment`, so `%(ENV_X)s`
    /// cannot use them, but the programs inherit them.
    pub non_utf8_env_names: &'a [String],
    /// The node name that uname(2) returns, for `%(host_node_name)s`.
    pub host: &'a str,
    /// Lists a directory, for the wildcards of `[include]`.
    pub list_directory: &'a ListDirectory,
    /// Checks that the user of a `user` or `user:group` value exists, and the group too if the value has one. A user or
    /// group that is a number needs no entry in /etc/passwd or /etc/group. If the user does not exist, returns
    /// supervisord's message. For `--print-config`, this function accepts every value, so that the output does not
    /// depend on the machine.
    pub check_user: &'a dyn Fn(&str) -> Result<(), String>,
    /// For `--check`: the function that tries a step of rsup's start. If `None`, no step is tried.
    pub try_step: Option<&'a TryStep<'a>>,
}

/// A function that returns the names in a directory, without `.` and `..`. A directory that cannot be read has no
/// names.
pub type ListDirectory = dyn Fn(&Path) -> Box<dyn Iterator<Item = OsString>>;

/// A function that tries a step of rsup's start. If the step fails, the function returns why.
pub type TryStep<'a> = dyn Fn(RsupStartStep<'_>) -> Result<(), Obstacle> + 'a;

/// A step of rsup's start that may fail because of the machine, or because of the user that rsup runs as.
#[derive(Clone, Copy, Debug)]
pub enum RsupStartStep<'a> {
    /// rsup changes to the user of `[supervisord]`.
    SupervisordUser(&'a str),
    /// A program changes to its user.
    ProgramUser {
        /// The user of `[supervisord] user`. rsup changes to this user before it starts a program or creates a socket.
        /// `None` if rsup keeps its user.
        own_user: Option<&'a str>,
        user: &'a str,
    },
    /// rsup creates the socket of an `[fcgi-program:x]`.
    Socket {
        /// The user of `[supervisord] user`. rsup changes to this user before it starts a program or creates a socket.
        /// `None` if rsup keeps its user.
        own_user: Option<&'a str>,
        socket: &'a Socket,
        /// The program's user.
        user: Option<&'a str>,
    },
    /// rsup starts an event listener with these words as its command. If the first word is a Python interpreter, the
    /// step fails if this interpreter is not found. If the first word is a Python script, the step fails if PATH has
    /// neither `python3` nor `python`.
    ListenerCommand(&'a [String]),
}

/// What a failed [`RsupStartStep`] means. The text says why the step fails, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// rsup cannot start.
    Error(String),
    /// rsup can start: either only one program fails, or the cause may be gone before rsup starts.
    Warning(String),
}

/// The command-line options that override keys of `[supervisord]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    pub loglevel: Option<Level>,
    pub silent: bool,
    pub user: Option<String>,
    pub umask: Option<u32>,
    pub directory: Option<String>,
    pub minfds: Option<i64>,
    pub minprocs: Option<i64>,
    pub pidfile: Option<String>,
    pub identifier: Option<String>,
    pub shutdown_on: Option<ShutdownOn>,
    /// The seconds that the stop of all processes may take.
    pub stop_timeout: Option<u64>,
    pub output: Option<OutputMode>,
    pub startup: Option<Startup>,
}

#[derive(Debug)]
pub struct Loaded {
    /// `None` if the report has an error.
    pub config: Option<Config>,
    pub report: Report,
    /// The lines to log at start, in order.
    pub notices: Vec<Notice>,
}

/// The keys of `[supervisorctl]` that rsup's client uses.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// The URL of supervisord's server. rsup has no server, so the client uses this URL only to report an error: for
    /// the text of the message and for the exit status.
    pub supervisorctl_server_url: String,
    pub prompt: String,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self { supervisorctl_server_url: "http://localhost:9001".to_owned(), prompt: "supervisor".to_owned() }
    }
}

/// A configuration file with its includes.
#[derive(Clone, Debug)]
pub struct Config {
    pub supervisord: Supervisord,
    /// The processes of `[program:x]`, `[fcgi-program:x]` and `[eventlistener:x]` in the order in which supervisord
    /// starts them. If supervisord drops a process because another process or group has the same name, the process is
    /// not in this list.
    pub processes: Vec<ProcessConfig>,
    /// The event listeners that rsup does not run, because rsup itself does what they do. `--print-config` shows them.
    pub replaced_listeners: Vec<ProcessConfig>,
}

impl Config {
    /// Returns whether there is a process that rsup can start: now, or when a client requests it.
    #[must_use]
    pub fn has_processes(&self) -> bool {
        !self.processes.is_empty()
    }

    /// Returns whether there is an event listener that rsup runs.
    #[must_use]
    pub fn has_listeners(&self) -> bool {
        self.processes.iter().any(|process| process.listener.is_some())
    }
}

/// The kind of section that defines a process. If a `[group:g]` lists an `[fcgi-program:x]`, the kind of the
/// program's processes is [`ProcessKind::Program`], because supervisord runs them without the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessKind {
    Program,
    EventListener,
    FcgiProgram,
}

/// One process, with all values expanded. Users, directories and paths stay text, because their meaning depends on the
/// machine.
#[derive(Clone, Debug)]
pub struct ProcessConfig {
    pub kind: ProcessKind,
    /// The name of the program: `x` of `[program:x]`.
    pub program: Rc<str>,
    pub group: String,
    /// The process name, without the group.
    pub name: String,
    pub spec: ProcessSpec,
    pub command: String,
    /// The words of `command`, or the message of the `ValueError` that Python's `shlex.split` raises.
    pub argv: Result<Vec<String>, &'static str>,
    pub directory: Option<String>,
    pub umask: Option<u32>,
    /// The priority of the process. The group's priority is in `spec`.
    pub priority: i64,
    /// The value of the key for `--print-config`. `None` if the key is not set. For all else, rsup uses `startup_wait`
    /// in `spec`, which also has the default.
    pub startup_wait: Option<StartupWait>,
    pub user: Option<String>,
    /// The variables of the process's own section, which override those of `[supervisord]`. The variables are in the
    /// order in which their names are first set.
    pub environment: Vec<(String, String)>,
    /// `None` if the key is not set or is `AUTO`.
    pub serverurl: Option<String>,
    pub redirect_stderr: bool,
    pub stdout_logfile: LogFile,
    pub stdout_rotation: Rotation,
    /// [`LogFile::None`] if `redirect_stderr` is true.
    pub stderr_logfile: LogFile,
    pub stderr_rotation: Rotation,
    pub stdout_events: StreamEvents,
    pub stderr_events: StreamEvents,
    /// `None` if the process is no event listener.
    pub listener: Option<Rc<Listener>>,
    /// The socket of an `[fcgi-program:x]`. All processes of the group share one socket.
    pub socket: Option<Socket>,
}

/// The value of `stdout_logfile` or `stderr_logfile`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFile {
    /// The key is not set, or is `AUTO`.
    Auto,
    /// `NONE` or `off`, which discard the output.
    None,
    /// `syslog`, or `NONE` with `stdout_syslog=true` or `stderr_syslog=true`. The output goes to rsup's own stdout or
    /// stderr, as with [`LogFile::Auto`].
    Syslog,
    /// A path, which may be `/dev/stdout` or similar. A `~` in it is not expanded yet. An empty path discards the
    /// output, as in supervisord.
    Path(String),
}

/// Which output of a stream is sent to event listeners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamEvents {
    /// `*_events_enabled`: whether there is an event for each piece of output.
    pub enabled: bool,
    /// `*_capture_maxbytes`: how many bytes between the tokens of the capture mode are kept. With 0, there is no
    /// capture mode.
    pub capture_maxbytes: u64,
}

/// What an event listener has in addition to what every program has: the keys `events` and `buffer_size`, and what rsup
/// derives from the command of the listener and from the sections of the HTTP servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The names that `events` lists: event types, such as `TICK_5`, and families of event types, such as `TICK`.
    pub events: Vec<&'static str>,
    pub buffer_size: usize,
    /// `None` if rsup runs the listener.
    pub replacement: Option<Replacement>,
    /// The URL of the HTTP server that supervisord would open. `None` if the file has no section of such a server.
    pub http_server_url: Option<String>,
}

/// Why rsup does not run an event listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replacement {
    /// The listener starts programs in an order. rsup does this itself.
    OrderedStart,
    /// The listener supervisor_stdout prints the output of the programs with their names. rsup does this itself.
    SupervisorStdoutListener,
}

/// When a log file is rotated, and how many old files are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// `*_logfile_maxbytes`: a file of at least this many bytes is rotated. 0 if it is never rotated.
    pub max_bytes: u64,
    /// `*_logfile_backups`. With 0, rotation empties the file.
    pub backups: u64,
}

/// The value of `output`: how the output of the programs reaches rsup's own stdout and stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputMode {
    /// The programs inherit rsup's streams.
    #[default]
    Direct,
    /// The relay writes whole lines.
    Lines,
    /// As [`OutputMode::Lines`], with the name of the process before each line.
    Prefix,
    /// The relay writes each line as a JSON object, and rsup's own lines are JSON objects too.
    Json,
}

/// The value of `startup`: whether the processes of a priority wait for those of the previous priority when rsup
/// starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Startup {
    /// The processes are started at once, in the order of their priorities. Only a process with `depends_on` or
    /// `dependent_startup_wait_for` waits for other processes.
    #[default]
    Parallel,
    /// The processes of the next priority are started when those of the current one are up.
    Ordered,
}

/// Returns the N of `/dev/fd/N`, `/proc/self/fd/N` or `/proc/1/fd/N`. For `/dev/stdout`, N is 1, and for `/dev/stderr`,
/// N is 2. `/proc/1/fd/N` names descriptor N of PID 1. Each of the other paths names descriptor N of the process that
/// opens the path.
#[must_use]
pub fn descriptor_of_path(path: &str) -> Option<&str> {
    let folders = ["/dev/fd/", "/proc/self/fd/", "/proc/1/fd/"];
    match path {
        "/dev/stdout" => Some("1"),
        "/dev/stderr" => Some("2"),
        _ => folders.iter().find_map(|folder| path.strip_prefix(folder)),
    }
}

/// Replaces `~` in the path `~/x` of a log file or of the `pidfile` by `home`, rsup's own HOME, as supervisord does.
/// Without `home`, the path stays as it is.
#[must_use]
pub fn expand_home(path: &str, home: Option<&str>) -> String {
    match (path.strip_prefix("~/"), home) {
        (Some(below), Some(home)) => format!("{}/{below}", home.trim_end_matches('/')),
        (Some(_), None) | (None, _) => path.to_owned(),
    }
}

/// The socket of an `[fcgi-program:x]`, which is the stdin of each of its processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    pub address: SocketAddress,
    /// `socket_owner`: `user` or `user:group`. If `None`, the socket belongs to the program's `user`.
    pub owner: Option<String>,
    /// `socket_mode`, for Unix sockets.
    pub mode: u32,
    /// `socket_backlog`.
    pub backlog: Option<u16>,
}

/// The address of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketAddress {
    /// The host and the port of `tcp://host:port`.
    Tcp(String, u16),
    /// The absolute path of `unix:///path`.
    Unix(String),
}

impl fmt::Display for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) => write!(f, "tcp://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix://{path}"),
        }
    }
}

/// `[supervisord]`, after the command line has overridden its keys.
#[derive(Clone, Debug)]
pub struct Supervisord {
    /// Only `--print-config` uses this value, because rsup always stays in the foreground.
    pub nodaemon: bool,
    /// Whether rsup writes no log lines.
    pub silent: bool,
    pub user: Option<String>,
    /// Only `--print-config` uses this value. supervisord uses it only when it becomes a daemon, and rsup never becomes
    /// one.
    pub umask: u32,
    /// Only `--print-config` uses this value. supervisord uses it only when it becomes a daemon, and rsup never becomes
    /// one.
    pub directory: Option<String>,
    pub loglevel: Level,
    pub minfds: i64,
    pub minprocs: i64,
    pub identifier: String,
    /// The file into which rsup writes its PID. `None` if the key is not set.
    pub pidfile: Option<String>,
    /// The variables of every process, which the process's own `environment` overrides.
    pub environment: Vec<(String, String)>,
    /// The value for programs whose section does not set this key.
    pub shutdown_on: ShutdownOn,
    /// The seconds that the stop of all processes may take. Then rsup sends SIGKILL to everything that still runs.
    pub stop_timeout: Option<u64>,
    pub output: OutputMode,
    pub startup: Startup,
}
