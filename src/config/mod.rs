//! From text to [`Config`]. Pure but for `load.rs`, which reads the files.

use crate::policy::{ShutdownOn, Spec};

/// What a configuration file and its includes come to.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[supervisord]`.
    pub supervisord: Supervisord,
    /// Every process that may run, in start order; shadowed ones are gone.
    pub processes: Vec<Process>,
}

/// One process of a `[program:x]` or `[fcgi-program:x]`, every value expanded and resolved but for what the machine
/// decides (users, directories, commands: text).
#[derive(Clone, Debug)]
pub struct Process {
    /// The group it belongs to.
    pub group: String,
    /// Its own name, which the log lines use.
    pub name: String,
    /// When it runs.
    pub spec: Spec,
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
    /// `[supervisord] environment` overlaid by the program's own, in order of first mention.
    pub environment: Vec<(String, String)>,
    /// `serverurl`; `AUTO` is none.
    pub serverurl: Option<String>,
    /// `redirect_stderr`.
    pub redirect_stderr: bool,
    /// `stdout_logfile`.
    pub stdout_logfile: LogFile,
    /// `stderr_logfile`.
    pub stderr_logfile: LogFile,
    /// For `[fcgi-program:x]`: where to listen.
    pub socket: Option<String>,
}

/// Where a stream of a program goes, as the file says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFile {
    /// Not set, or `AUTO`.
    Auto,
    /// `NONE` or `off`.
    None,
    /// `syslog`, by either key.
    Syslog,
    /// A path as written, `/dev/stdout` and its kin included.
    Path(String),
}

/// `[supervisord]`, with the command line already laid over it.
#[derive(Clone, Debug)]
pub struct Supervisord {
    /// `shutdown_on`, the default for programs that do not say it.
    pub shutdown_on: ShutdownOn,
    pub stop_timeout: Option<u64>,
}

/// TEMP
pub fn repr(text: &str) -> String {
    format!("'{text}'")
}
