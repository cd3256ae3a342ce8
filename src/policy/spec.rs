//! What the laws need to know of one process: the keys of its section that decide when it runs.

use super::signal::Signal;
use std::rc::Rc;

/// A process, named by its place in start order: the first process is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcId(pub usize);

/// `autorestart`: what an exit from RUNNING leads to (supervisord, `[program:x]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoRestart {
    /// Stay EXITED.
    Never,
    /// Start again only when the exit was not expected by `exitcodes`.
    Unexpected,
    /// Start again after every exit.
    Always,
}

/// `shutdown_on`: which end of this process ends the whole (DESIGN section 6; supervisord ignores the key).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownOn {
    /// None does.
    Never,
    /// FATAL does.
    Fatal,
    /// FATAL does, and EXITED when nothing will start it again.
    Exited,
}

/// The keys of one process that policy acts on, with supervisord's types: integers have no range there, so
/// negative numbers arrive here and mean what they mean to supervisord (as 0 does).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessSpec {
    /// Start it at start-up.
    pub autostart: bool,
    /// What an exit from RUNNING leads to.
    pub autorestart: AutoRestart,
    /// Seconds it must stay up to count as RUNNING.
    pub startsecs: i64,
    /// Failed starts that are followed by another try.
    pub startretries: i64,
    /// Exit codes that count as expected.
    pub exitcodes: Rc<[u8]>,
    /// How it is asked to stop.
    pub stopsignal: Signal,
    /// Seconds between that and SIGKILL.
    pub stopwaitsecs: i64,
    /// Whether `stopsignal` goes to the whole process group.
    pub stopasgroup: bool,
    /// Its group's place: lower starts first and stops last.
    pub group_priority: i64,
    /// Which end of it ends the whole.
    pub shutdown_on: ShutdownOn,
}
