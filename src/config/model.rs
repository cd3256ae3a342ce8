//! The types that loading produces, and what loading is given.

use std::fmt;

use super::report::{Notice, Report};
use crate::policy::{Level, ProcessSpec, ShutdownOn};

/// What loading needs to know of the machine.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The environment rsup was started with, for `%(ENV_X)s`.
    pub environment: &'a [(String, String)],
    /// The node name of uname, for `%(host_node_name)s`.
    pub host: &'a str,
    /// Whether the users of this `user=` text exist here, else supervisord's text (`Invalid user name nosuch`);
    /// for `--print-config` one that accepts everything.
    pub check_user: &'a dyn Fn(&str) -> Result<(), String>,
}

/// What the command line says about `[supervisord]`; it beats the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--loglevel`.
    pub loglevel: Option<Level>,
    /// `--silent`.
    pub silent: bool,
    /// `--user`.
    pub user: Option<String>,
    /// `--umask`.
    pub umask: Option<u32>,
    /// `--directory`.
    pub directory: Option<String>,
    /// `--minfds`.
    pub minfds: Option<i64>,
    /// `--minprocs`.
    pub minprocs: Option<i64>,
    /// `--shutdown-on`.
    pub shutdown_on: Option<ShutdownOn>,
    /// `--stop-timeout`, in seconds.
    pub stop_timeout: Option<u64>,
}

/// What loading came to.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration, unless the report holds an error.
    pub config: Option<Config>,
    /// Every error and warning.
    pub report: Report,
    /// What is to be logged at start, in order.
    pub notices: Vec<Notice>,
}

/// What a configuration file and its includes come to.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[supervisord]`.
    pub supervisord: Supervisord,
    /// Every process that may run, in start order; shadowed ones are gone.
    pub processes: Vec<ProcessConfig>,
    /// The processes of `[eventlistener:x]`: shown by `--print-config`, never run.
    pub listeners: Vec<ProcessConfig>,
}

impl Config {
    /// Whether anything is started; nothing can be later, for nobody is there to say so.
    #[must_use]
    pub fn starts(&self) -> bool {
        self.processes.iter().any(|process| process.spec.autostart)
    }
}

/// Which kind of section a process comes from. A program that a `[group:x]` lists is a [`SectionKind::Program`], whatever its
/// section says: supervisord drops the socket of such an `[fcgi-program:x]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionKind {
    /// `[program:x]`.
    Program,
    /// `[eventlistener:x]`.
    EventListener,
    /// `[fcgi-program:x]`.
    FcgiProgram,
}

/// One process of a `[program:x]` or `[fcgi-program:x]`, every value expanded and resolved but for what the machine
/// decides (users, directories, commands: text).
#[derive(Clone, Debug)]
pub struct ProcessConfig {
    /// The kind of its section.
    pub kind: SectionKind,
    /// The group it belongs to.
    pub group: String,
    /// Its own name, which the log lines use.
    pub name: String,
    /// When it runs.
    pub spec: ProcessSpec,
    /// `command`, expanded.
    pub command: String,
    /// `command` split as `shlex.split` does, or why it cannot be (`No closing quotation`, `No escaped character`).
    pub argv: Result<Vec<String>, &'static str>,
    /// `directory`.
    pub directory: Option<String>,
    /// `umask`.
    pub umask: Option<u32>,
    /// `priority` of the process itself (its group's is in `spec`).
    pub priority: i64,
    /// `killasgroup`: read and printed; rsup always kills the whole group.
    pub killasgroup: bool,
    /// `user`, as written.
    pub user: Option<String>,
    /// Its own `environment`, which lies over that of `[supervisord]`, in order of first mention.
    pub environment: Vec<(String, String)>,
    /// `serverurl`; `AUTO` is none.
    pub serverurl: Option<String>,
    /// `redirect_stderr`.
    pub redirect_stderr: bool,
    /// `stdout_logfile`.
    pub stdout_logfile: LogFile,
    /// `stderr_logfile`; [`LogFile::None`] with `redirect_stderr`.
    pub stderr_logfile: LogFile,
    /// For `[fcgi-program:x]`: where to listen; one socket for all processes of the group.
    pub socket: Option<Socket>,
}

/// Where a stream of a program goes, as the file says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFile {
    /// Not set, or `AUTO`.
    Auto,
    /// `NONE` or `off`.
    None,
    /// `syslog`, or `NONE` beside `stdout_syslog=true`: the stream is inherited.
    Syslog,
    /// A path as written (`~` too), `/dev/stdout` and its kin included. Empty: no file, as supervisord has it.
    Path(String),
}

/// The socket of an `[fcgi-program:x]`, which each of its processes gets as its stdin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Where it listens.
    pub address: Address,
    /// `socket_owner` as written (`user` or `user:group`); none: the program's `user`.
    pub owner: Option<String>,
    /// `socket_mode`, 0700 unless set; for unix sockets.
    pub mode: u32,
    /// `socket_backlog`.
    pub backlog: Option<u16>,
}

/// Where a socket listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `tcp://host:port`.
    Tcp(String, u16),
    /// `unix:///path`.
    Unix(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) => write!(f, "tcp://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix://{path}"),
        }
    }
}

/// `[supervisord]`, with the command line already laid over it.
#[derive(Clone, Debug)]
pub struct Supervisord {
    /// `nodaemon`: read and shown; rsup always stays in the foreground.
    pub nodaemon: bool,
    /// `silent`: no log lines of its own.
    pub silent: bool,
    /// `user`, as written.
    pub user: Option<String>,
    /// `umask`, 022 unless set; supervisord applies it only when it daemonizes.
    pub umask: u32,
    /// `directory`; supervisord applies it only when it daemonizes.
    pub directory: Option<String>,
    /// `loglevel`.
    pub loglevel: Level,
    /// `minfds`.
    pub minfds: i64,
    /// `minprocs`.
    pub minprocs: i64,
    /// `identifier`.
    pub identifier: String,
    /// `environment`, which every process gets below its own.
    pub environment: Vec<(String, String)>,
    /// `shutdown_on`, the default for programs that do not say it.
    pub shutdown_on: ShutdownOn,
    /// `stop_timeout` in seconds: one deadline for the whole stop.
    pub stop_timeout: Option<u64>,
}
