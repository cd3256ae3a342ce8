//! The PIDs, the descriptors and the last error of each process.

use super::pid_map::PidMap;
use crate::control::board::ServedCounts;
use crate::policy::{ProcessIndex, Signal};
use crate::sys::{self, Errno, ExecFailure, ExecStatusPipe, ExecStep, FifoOpenErrors, Pid, SpawnSpec};
use std::os::fd::OwnedFd;

/// The PIDs, the descriptors and the last error of one process. The state of the process is in `ProcessSet`, at the
/// same index.
pub(super) struct Slot {
    pub(super) name: Box<str>,
    /// The name of the process's supervisord group.
    pub(super) group_name: Box<str>,
    /// The priority of the process within its group.
    pub(super) priority: i64,
    /// How to start the program, or the text after `spawnerr:` that says why no start is possible. A child reads the
    /// specification from rsup's memory until its exec, so the specification is never freed.
    pub(super) program: &'static Result<SpawnSpec, String>,
    /// The child of the last fork, until that child is reaped.
    pub(super) leader: Option<Pid>,
    /// The child's process group, until the group has no member or rsup stops waiting for the group. The kernel does
    /// not use the number again while the group has a member.
    pub(super) group: Option<Pid>,
    /// The PID of the last child. Log lines need it also after the child has been reaped, when `leader` is `None`.
    pub(super) last_pid: i32,
    /// The PID in the events about this process: the PID of the last child, or 0 if a later start has begun and rsup
    /// has forked no child for that start. Used only if there are event listeners.
    pub(super) pid_for_events: i32,
    /// The pipe that reports the child's exec, until the result of the exec is known.
    pub(super) exec_status: Option<ExecStatusPipe>,
    /// The step that failed in the child. The child exits next.
    pub(super) failure: Option<ExecFailure>,
    /// The path of the interpreter because of which the last exec failed: that of a script, or the dynamic loader of a
    /// program. Empty if the exec has not failed, or failed for another reason.
    pub(super) interpreter: Box<str>,
    /// Why the most recent failed start failed.
    pub(super) last_error: Box<str>,
    /// The result of rsup's own attempt to open the log files that are FIFOs. The next fork takes it. If it has an
    /// error for a file, the child does not open this file, and reports the error instead. `None` if rsup has made no
    /// attempt since the last fork.
    pub(super) tried_fifos: Option<FifoOpenErrors>,
    /// The write end of the leader's stdin. The leader reads no end of file while this descriptor is open.
    pub(super) stdin_writer: Option<OwnedFd>,
    /// When the last start was attempted, in seconds since 1970. 0 if there was none.
    pub(super) started_at: u64,
    /// When the last child exited, in seconds since 1970. 0 if there was none.
    pub(super) ended_at: u64,
    /// The numbers of client requests for this process that rsup has served.
    pub(super) served: ServedCounts,
}

impl Slot {
    pub(super) fn new(
        name: String,
        group_name: String,
        priority: i64,
        program: &'static Result<SpawnSpec, String>,
    ) -> Self {
        Self {
            name: name.into(),
            group_name: group_name.into(),
            priority,
            program,
            leader: None,
            group: None,
            last_pid: 0,
            pid_for_events: 0,
            exec_status: None,
            failure: None,
            interpreter: Box::default(),
            last_error: Box::default(),
            tried_fifos: None,
            stdin_writer: None,
            started_at: 0,
            ended_at: 0,
            served: ServedCounts::default(),
        }
    }

    /// Kills a child whose start cannot continue: rsup cannot observe the exec, or the relay cannot get the pipes of
    /// the event listener. Records the errno as the reason of the failed start.
    pub(super) fn abort_start(&mut self, errno: Errno) {
        self.failure = Some(ExecFailure { step: ExecStep::Streams, candidate: 0, errno });
        if let Some(leader) = self.leader {
            // kill(2) also succeeds for a zombie. If kill(2) fails with EPERM, the child may continue, and the start
            // counts as failed when the child exits.
            let _ = sys::kill(leader, Signal::KILL.number());
        }
    }
}

/// The slots of all processes. The index of a slot is the [`ProcessIndex`] of its process.
pub(super) struct Slots(pub(super) Vec<Slot>);

impl Slots {
    /// The slot of a process. Every `ProcessIndex` is an index into this table. Only a bug can lead to `None`, and
    /// debug builds panic then.
    pub(super) fn get(&self, id: ProcessIndex) -> Option<&Slot> {
        let slot = self.0.get(id.0);
        debug_assert!(slot.is_some(), "no process has the index {}", id.0);
        slot
    }

    /// The mutable slot of a process.
    pub(super) fn get_mut(&mut self, id: ProcessIndex) -> Option<&mut Slot> {
        let slot = self.0.get_mut(id.0);
        debug_assert!(slot.is_some(), "no process has the index {}", id.0);
        slot
    }

    /// The process groups of all processes, each with its process.
    pub(super) fn process_groups(&self) -> PidMap<ProcessIndex> {
        let group_of = |(index, slot): (usize, &Slot)| Some((slot.group?, ProcessIndex(index)));
        self.0.iter().enumerate().filter_map(group_of).collect()
    }

    /// The name of a process.
    pub(super) fn name(&self, id: ProcessIndex) -> &str {
        self.get(id).map_or("", |slot| &*slot.name)
    }
}
