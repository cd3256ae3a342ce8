//! The keys of a program's section that decide when its process runs.

use super::signal::Signal;
use std::rc::Rc;

/// The index of a process in the order in which rsup starts the processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcId(pub usize);

/// `autorestart`: whether a process that exited from RUNNING is started again (supervisord, `[program:x]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoRestart {
    /// The process stays EXITED.
    Never,
    /// The process is started again unless `exitcodes` lists its exit code.
    Unexpected,
    /// The process is started again after every exit.
    Always,
}

/// `shutdown_on`: the state of this process that makes rsup stop every process and exit. The key is rsup's own
/// (src/README.md); supervisord ignores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownOn {
    /// No state of this process ends rsup.
    Never,
    /// The state FATAL.
    Fatal,
    /// The state FATAL, or the state EXITED if `autorestart` does not start the process again.
    Exited,
}

/// The configuration keys of one process that affect its state machine. As in supervisord, the integers may be
/// negative: a negative number of seconds or retries means the same as 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessSpec {
    /// Whether the process is started when rsup starts.
    pub autostart: bool,
    pub autorestart: AutoRestart,
    /// Seconds from the exec until the process counts as RUNNING.
    pub startsecs: i64,
    /// How many times in a row a failed start is retried. If the last retry fails too, the process enters FATAL.
    pub startretries: i64,
    /// The exit codes that are expected.
    pub exitcodes: Rc<[u8]>,
    /// The signal that asks the process to stop.
    pub stopsignal: Signal,
    /// Seconds from `stopsignal` to SIGKILL.
    pub stopwaitsecs: i64,
    /// Whether `stopsignal` goes to the whole process group.
    pub stopasgroup: bool,
    /// Whether SIGKILL goes to the leader and the whole process group at the same time, even if only the leader was
    /// sent `stopsignal`.
    pub killasgroup: bool,
    /// The priority of the process's supervisord group: a group with a lower number starts earlier and stops later.
    pub group_priority: i64,
    pub shutdown_on: ShutdownOn,
}
