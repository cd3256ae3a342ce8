//! The keys of a program's section that decide when its process runs.

use super::signal::Signal;
use super::state_name::StateName;
use std::rc::Rc;

/// The index of a process in the order in which rsup starts the processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcessIndex(pub usize);

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

/// What a process waits for before its first start: the processes of another program have reached a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// The name of the other program.
    pub name: Rc<str>,
    /// The processes of the other program. All of them must have reached the state.
    pub processes: Rc<[ProcessIndex]>,
    /// The wait ends when all processes have reached the same one of these states. A process has reached a state if
    /// it was in this state at any time, even if it is in another state now.
    pub states: Rc<[StateName]>,
}

/// What makes a process count as up. With `startup=ordered`, a step begins when all processes of the previous steps
/// are up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartupWait {
    /// The process is up once it has entered RUNNING, even if it is in another state now.
    Running,
    /// The process is up once it has entered EXITED with an expected exit code, even if it is in another state now.
    Exited,
}

/// The part of the configuration of one process that decides when rsup starts, restarts and stops the process, and
/// when the process makes rsup exit. As in supervisord, the integers of the keys may be negative: a negative number of
/// seconds or retries means the same as 0.
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
    /// The priority of the process within its group. With `startup=ordered`, the processes of one pair of group
    /// priority and priority are one step.
    pub priority: i64,
    pub shutdown_on: ShutdownOn,
    /// When the process is up, so that the next step of `startup=ordered` begins.
    pub startup_wait: StartupWait,
    /// What the process waits for before its first start. Empty if the process has neither `autostart` nor
    /// `dependent_startup`.
    pub dependencies: Vec<Dependency>,
    /// Whether rsup starts the process although `autostart` is false, because the section sets
    /// `dependent_startup=true`. Always false if `autostart` is true, which is the default.
    pub dependent_startup: bool,
    /// The place among processes that may be started at the same moment: a smaller number is started first, then the
    /// smaller [`ProcessIndex`]. When rsup starts, the number of a process with `autostart` is not used: these
    /// processes are started before the others.
    pub start_rank: i64,
    /// Whether the process is an event listener. It waits for no process, no process waits for it, and rsup does not
    /// stay because of it.
    pub is_listener: bool,
}

#[cfg(test)]
impl ProcessSpec {
    /// A specification with supervisord's defaults.
    pub(super) fn example() -> Self {
        Self {
            autostart: true,
            autorestart: AutoRestart::Unexpected,
            startsecs: 1,
            startretries: 3,
            exitcodes: Rc::new([0]),
            stopsignal: Signal::TERM,
            stopwaitsecs: 10,
            stopasgroup: false,
            killasgroup: false,
            group_priority: 999,
            priority: 999,
            shutdown_on: ShutdownOn::Never,
            startup_wait: StartupWait::Running,
            dependencies: Vec::new(),
            dependent_startup: false,
            start_rank: 999,
            is_listener: false,
        }
    }
}
