//! The state machine of one process: supervisord's states, and the events that move a process from one to another.
//!
//! A process consists of its leader, which is the child that rsup forks for the program, and of the remaining members
//! of the leader's process group. [`ProcessState`] is the state of the leader. [`Leftovers`] is the state of the
//! remaining members after the leader was reaped.

use super::exit::ExitStatus;
use super::kill_deadlines::{KILL_GRACE_SECS, MAX_LATE_STOPWAIT_SECS};
use super::message::ProcessMessage;
use super::signal::{Signal, SignalTarget};
use super::spec::{AutoRestart, ProcessSpec};
use super::state_name::StateName;
use super::time::Time;

/// The shortest time between two starts of one process. Without the minimum, a process with `startsecs=0` that exits at
/// once would be restarted in a busy loop. The start after [`Event::FifoUnopenedByRsup`] does not wait for this time.
const MIN_START_INTERVAL_SECS: i64 = 1;

/// supervisord's process states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessState {
    /// The process was never started, or it exited after a request to stop, or a request to stop cancelled its next
    /// start.
    Stopped,
    /// The process is being started.
    Starting {
        /// When the exec succeeded. `startsecs` counts from this time. None until rsup knows that the exec has
        /// succeeded.
        exec_succeeded_at: Option<Time>,
    },
    /// The process stayed up for `startsecs`.
    Running,
    /// The last start failed, and the process will be started again.
    Backoff {
        /// When the next start is due.
        until: Time,
    },
    /// The process was requested to stop, and the leader has not been reaped yet.
    Stopping(StopStep),
    /// The leader exited from RUNNING.
    Exited {
        /// When the next start because of `autorestart` is due. None if there is no such start. A client may have
        /// requested another start.
        restart_at: Option<Time>,
    },
    /// The process could not be started. rsup starts the process again only if a client requests the start.
    Fatal,
}

impl ProcessState {
    #[must_use]
    pub fn name(self) -> StateName {
        match self {
            Self::Stopped => StateName::Stopped,
            Self::Starting { .. } => StateName::Starting,
            Self::Running => StateName::Running,
            Self::Backoff { .. } => StateName::Backoff,
            Self::Stopping(_) => StateName::Stopping,
            Self::Exited { .. } => StateName::Exited,
            Self::Fatal => StateName::Fatal,
        }
    }
}

/// The signals that a stop has sent so far to the leader and to the other members of its process group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopStep {
    /// The leader was sent `stopsignal`. The other members were not asked to stop.
    LeaderAsked {
        /// When SIGKILL to the leader is due.
        kill_at: Time,
    },
    /// The leader was sent `stopsignal`. The other members were sent `stopsignal` or SIGTERM.
    GroupAsked {
        /// When SIGKILL to the leader is due.
        kill_at: Time,
        /// When SIGKILL to the other members is due. This is never earlier than `kill_at`.
        kill_members_at: Time,
    },
    /// The leader was sent SIGKILL. The other members were sent `stopsignal` or SIGTERM.
    LeaderKilled {
        /// When SIGKILL to the other members is due.
        kill_members_at: Time,
    },
    /// The leader and the other members were sent SIGKILL, except those that rsup has no permission to signal.
    GroupKilled,
}

/// The members that a process group still has after its leader was reaped: the remaining members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftovers {
    /// There are no remaining members, or rsup stopped waiting for them.
    None,
    /// The leader was reaped. rsup lets the other members of its process group run, because one may be a daemon that
    /// the leader has started.
    Tolerated,
    /// The leader was reaped. The other members of its process group were sent `stopsignal` or SIGTERM.
    Terminating {
        /// When SIGKILL to the process group is due.
        kill_at: Time,
    },
    /// The leader was reaped. The other members of its process group were sent SIGKILL.
    Killed {
        /// When rsup stops waiting for the process group to become empty.
        until: Time,
    },
}

/// An input of [`Process::handle`]: what has happened to the process, or what rsup has decided about the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// rsup starts a process with `autostart` or `dependent_startup` for the first time. No client has requested this
    /// start, and the process waits for no other process any more.
    Start,
    /// The exec of the last [`ProcessAction::Spawn`] succeeded.
    ExecSucceeded,
    /// The last [`ProcessAction::Spawn`] failed. There are three cases: rsup created no child; the child failed before
    /// its exec or in its exec; rsup killed the child, because its start could not continue. If there was a child, rsup
    /// has reaped the child.
    SpawnFailed,
    /// A log file is a FIFO that rsup had not opened. The child of the last [`ProcessAction::Spawn`] found this FIFO
    /// and exited before its exec, so that rsup can open the FIFO. rsup has reaped the child. Unless rsup is stopping
    /// every process, rsup has also tried to open the FIFO.
    FifoUnopenedByRsup,
    /// The last [`ProcessAction::Spawn`] was withdrawn before it was carried out, because rsup begins to stop every
    /// process.
    SpawnCancelled,
    /// The leader was reaped.
    Exited {
        exit: ExitStatus,
        /// Whether the process group still has a member.
        group_alive: bool,
    },
    /// The process group has no member any more.
    GroupEmpty,
    /// A deadline may have passed.
    Tick,
    /// rsup begins to stop every process: no process is started any more.
    DisableStarts,
    /// rsup requests the process to stop, because rsup is stopping every process.
    Stop,
    /// A client requests the start of the process, or rsup restarts the process, which is an event listener.
    StartRequested,
    /// A client requests the stop of the process, or rsup restarts the process, which is an event listener.
    StopRequested,
    /// The deadline of `stop_timeout` is near. The caller sends SIGTERM to those members of the process group that were
    /// not asked to stop yet.
    MembersAsked,
    /// SIGKILL must be sent now to the leader and to the other members of its process group, because of a second
    /// request to stop or because `stop_timeout` has elapsed.
    KillNow,
    /// The kernel refused a signal to the process group with EPERM: rsup has no permission to signal any of its
    /// members.
    GroupSignalNotPermitted,
}

/// What the caller of [`Process::handle`] has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessAction {
    /// Start the program, and report [`Event::ExecSucceeded`], [`Event::SpawnFailed`] or [`Event::FifoUnopenedByRsup`].
    Spawn,
    /// Send a signal.
    Send(Signal, SignalTarget),
    /// Forget the ID of the process group, although the group may still have members: rsup does not wait for them any
    /// longer.
    AbandonGroup,
    /// Write a log message.
    Log(ProcessMessage),
}

/// What the last request of a client still demands of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestInEffect {
    /// There was no request that had an effect, or rsup has carried out the requested start, or rsup is stopping every
    /// process.
    None,
    /// The process must be started. It has no leader yet, or its leader is still being stopped.
    Start {
        /// The earliest time of the start.
        at: Time,
    },
    /// The process must not be started until a client requests a start.
    Stop,
}

/// The state of one process, and the part of its history that determines the next transitions.
#[derive(Clone, Debug)]
pub struct Process {
    state: ProcessState,
    leftovers: Leftovers,
    request_in_effect: RequestInEffect,
    /// The number of failed starts in a row.
    consecutive_failures: i64,
    /// How often the process has entered RUNNING. The number wraps around.
    successful_starts: u32,
    /// How often a start has failed. The number wraps around.
    total_failed_starts: u32,
    /// When the last start was attempted.
    started_at: Option<Time>,
    /// Whether the process must not be started any more, because rsup is stopping every process.
    starts_disabled: bool,
    /// The last exit status of a leader whose exec succeeded, and whether that exit status was expected. None if there
    /// is no such exit status.
    last_exit: Option<(ExitStatus, bool)>,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            state: ProcessState::Stopped,
            leftovers: Leftovers::None,
            request_in_effect: RequestInEffect::None,
            consecutive_failures: 0,
            successful_starts: 0,
            total_failed_starts: 0,
            started_at: None,
            starts_disabled: false,
            last_exit: None,
        }
    }
}

impl Process {
    #[must_use]
    pub fn state(&self) -> ProcessState {
        self.state
    }

    /// The last exit status of a leader whose exec succeeded, and whether that exit status was expected. None if there
    /// is no such exit status.
    #[must_use]
    pub fn last_exit(&self) -> Option<(ExitStatus, bool)> {
        self.last_exit
    }

    /// How often the process has entered RUNNING, and how often a start has failed. Both numbers wrap around.
    #[must_use]
    pub fn successful_and_failed_starts(&self) -> (u32, u32) {
        (self.successful_starts, self.total_failed_starts)
    }

    /// The number of failed starts in a row.
    #[must_use]
    pub fn consecutive_failures(&self) -> i64 {
        self.consecutive_failures
    }

    /// Whether the process has a leader: see [`StateName::has_leader`].
    #[must_use]
    pub fn has_leader(&self) -> bool {
        self.state.name().has_leader()
    }

    /// Whether the process has a leader or will be started again.
    #[must_use]
    pub fn has_leader_or_restart(&self) -> bool {
        self.has_leader() || self.start_due_at().is_some()
    }

    /// Whether the process is STOPPED, STOPPING, EXITED or FATAL, and rsup will start the process because of a request
    /// or of `autorestart`. A first start that waits for other processes does not count.
    #[must_use]
    pub fn awaits_start(&self) -> bool {
        match self.state {
            ProcessState::Stopped | ProcessState::Exited { .. } | ProcessState::Fatal => {
                self.start_due_at().is_some()
            }
            ProcessState::Stopping(_) => matches!(self.request_in_effect, RequestInEffect::Start { .. }),
            ProcessState::Starting { .. } | ProcessState::Running | ProcessState::Backoff { .. } => false,
        }
    }

    /// When the next start of a process without a leader is due. None if the process has a leader or will not be
    /// started again.
    fn start_due_at(&self) -> Option<Time> {
        let requested_start_at = match self.request_in_effect {
            RequestInEffect::Start { at } => Some(at),
            RequestInEffect::None | RequestInEffect::Stop => None,
        };
        match self.state {
            ProcessState::Backoff { until } => Some(until),
            ProcessState::Exited { restart_at } => restart_at.or(requested_start_at),
            ProcessState::Stopped | ProcessState::Fatal => requested_start_at,
            ProcessState::Starting { .. } | ProcessState::Running | ProcessState::Stopping(_) => None,
        }
    }

    /// Whether the process runs or may run again: it has a leader, it will be started again, or a client has stopped it
    /// and may start it again.
    #[must_use]
    pub fn runs_or_may_restart(&self) -> bool {
        self.has_leader_or_restart() || self.request_in_effect == RequestInEffect::Stop
    }

    /// Whether the process runs or may run again, or rsup waits for other members of its process group to exit.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.runs_or_may_restart() || self.awaits_leftovers()
    }

    /// Whether rsup has to wait for this process before it stops the processes with a lower group priority. The wait
    /// ends when the leader has exited or was sent SIGKILL, and when the other members of its process group that rsup
    /// waits for have also exited or were sent SIGKILL.
    #[must_use]
    pub fn blocks_stop_of_lower_priorities(&self) -> bool {
        let killed = matches!(self.state, ProcessState::Stopping(StopStep::GroupKilled));
        self.has_leader() && !killed || matches!(self.leftovers, Leftovers::Terminating { .. })
    }

    /// Whether the leader was asked to stop and the other members of its process group were not.
    #[must_use]
    pub fn has_unasked_members(&self) -> bool {
        matches!(self.state, ProcessState::Stopping(StopStep::LeaderAsked { .. }))
    }

    fn awaits_leftovers(&self) -> bool {
        matches!(self.leftovers, Leftovers::Terminating { .. } | Leftovers::Killed { .. })
    }

    /// When [`Event::Tick`] is due. While rsup waits for other members of the process group to exit, the time of the
    /// next start is left out, because the process cannot be started before this wait ends.
    #[must_use]
    pub fn deadline(&self, spec: &ProcessSpec) -> Option<Time> {
        let leader_deadline = match self.state {
            ProcessState::Starting { exec_succeeded_at } => {
                exec_succeeded_at.map(|since| since.plus_secs(spec.startsecs))
            }
            ProcessState::Stopping(
                StopStep::LeaderAsked { kill_at } | StopStep::GroupAsked { kill_at, .. },
            ) => Some(kill_at),
            ProcessState::Stopping(StopStep::LeaderKilled { kill_members_at }) => Some(kill_members_at),
            ProcessState::Stopping(StopStep::GroupKilled) => None,
            ProcessState::Running => None,
            ProcessState::Stopped
            | ProcessState::Backoff { .. }
            | ProcessState::Exited { .. }
            | ProcessState::Fatal => self.start_due_at().filter(|_| !self.awaits_leftovers()),
        };
        let leftovers_deadline = match self.leftovers {
            Leftovers::Terminating { kill_at } => Some(kill_at),
            Leftovers::Killed { until } => Some(until),
            Leftovers::None | Leftovers::Tolerated => None,
        };
        Time::earliest(leader_deadline, leftovers_deadline)
    }

    /// Whether `event` can happen in the present state. The caller of [`Process::handle`] asserts this condition: an
    /// event that cannot happen is a bug of the caller, for example an event that is meant for another process.
    #[must_use]
    pub(super) fn can_receive(&self, event: Event) -> bool {
        match event {
            Event::ExecSucceeded | Event::SpawnFailed | Event::FifoUnopenedByRsup | Event::SpawnCancelled => {
                matches!(
                    self.state,
                    ProcessState::Starting { exec_succeeded_at: None } | ProcessState::Stopping(_)
                )
            }
            Event::Exited { .. } => self.has_leader(),
            Event::Start
            | Event::GroupEmpty
            | Event::Tick
            | Event::DisableStarts
            | Event::Stop
            | Event::StartRequested
            | Event::StopRequested
            | Event::MembersAsked
            | Event::KillNow
            | Event::GroupSignalNotPermitted => true,
        }
    }

    /// Applies `event`, and passes the resulting actions to `emit`, in order. An event that `can_receive` excludes
    /// causes no panic, because a bug must not end rsup when it is PID 1.
    pub fn handle(
        &mut self,
        spec: &ProcessSpec,
        event: Event,
        now: Time,
        emit: &mut impl FnMut(ProcessAction),
    ) {
        use ProcessState::{Backoff, Exited, Fatal, Running, Starting, Stopped, Stopping};
        match event {
            Event::Start => match self.state {
                Stopped => self.start(now, emit),
                Starting { .. } | Running | Backoff { .. } | Stopping(_) | Exited { .. } | Fatal => {}
            },
            Event::ExecSucceeded => match self.state {
                Starting { exec_succeeded_at: None } => self.exec_succeeded(spec, now, emit),
                // The stop was requested while the exec was in progress.
                Stopping(_) => emit(ProcessAction::Log(ProcessMessage::Spawned)),
                Starting { exec_succeeded_at: Some(_) }
                | Stopped
                | Running
                | Backoff { .. }
                | Exited { .. }
                | Fatal => {}
            },
            Event::SpawnFailed => match self.state {
                Starting { .. } => {
                    emit(ProcessAction::Log(ProcessMessage::SpawnError));
                    self.start_failed(spec, now, emit);
                }
                Stopping(_) => {
                    emit(ProcessAction::Log(ProcessMessage::SpawnError));
                    self.state = Stopped;
                    self.start_if_due(now, emit);
                }
                Stopped | Running | Backoff { .. } | Exited { .. } | Fatal => {}
            },
            Event::FifoUnopenedByRsup => self.fifo_unopened_by_rsup(now, emit),
            Event::SpawnCancelled => match self.state {
                // A client may have requested the stop of a process whose start was not carried out yet.
                Starting { .. } | Stopping(_) => self.state = Stopped,
                Stopped | Running | Backoff { .. } | Exited { .. } | Fatal => {}
            },
            Event::Exited { exit, group_alive } => match self.state {
                Starting { exec_succeeded_at } => {
                    // rsup reaps children before it handles deadlines, so a leader can be reaped in STARTING although
                    // `startsecs` have elapsed. This exit is handled like an exit from RUNNING.
                    if exec_succeeded_at.is_some_and(|since| now >= since.plus_secs(spec.startsecs)) {
                        self.successful_starts = self.successful_starts.wrapping_add(1);
                        self.exited_from_running(spec, exit, group_alive, now, emit);
                    } else {
                        self.exited_too_early(spec, exit, group_alive, now, emit);
                    }
                }
                Running => self.exited_from_running(spec, exit, group_alive, now, emit),
                Stopping(step) => self.exited_from_stopping(spec, exit, group_alive, step, now, emit),
                // There is no leader that could have exited.
                Stopped | Backoff { .. } | Exited { .. } | Fatal => {}
            },
            Event::GroupEmpty => match self.state {
                Stopped | Backoff { .. } | Exited { .. } | Fatal => {
                    self.leftovers = Leftovers::None;
                    self.start_if_due(now, emit);
                }
                // The event is about the process group of an earlier leader. rsup stopped waiting for that group and
                // started the process again. The event cannot be about the present leader's group, because rsup looks
                // for empty groups only among those whose leader was reaped.
                Starting { .. } | Running | Stopping(_) => {}
            },
            Event::Tick => match self.state {
                Starting { exec_succeeded_at: Some(since) } if now >= since.plus_secs(spec.startsecs) => {
                    self.enter_running(spec, emit);
                }
                Stopping(step) => self.tick_stop(spec, step, now, emit),
                Stopped | Backoff { .. } | Exited { .. } | Fatal => {
                    self.tick_leftovers(now, emit);
                    self.start_if_due(now, emit);
                }
                Starting { .. } | Running => {}
            },
            Event::DisableStarts => {
                self.starts_disabled = true;
                self.request_in_effect = RequestInEffect::None;
                match self.state {
                    Backoff { .. } => self.state = Fatal,
                    Exited { .. } => self.state = Exited { restart_at: None },
                    Stopped | Starting { .. } | Running | Stopping(_) | Fatal => {}
                }
            }
            Event::Stop => match self.state {
                Starting { .. } | Running => self.begin_stop(spec, now, emit),
                Backoff { .. } => self.state = Fatal,
                Exited { .. } => {
                    self.state = Exited { restart_at: None };
                    self.terminate_tolerated_leftovers(spec, now, emit);
                }
                Stopped | Fatal => self.terminate_tolerated_leftovers(spec, now, emit),
                Stopping(_) => {}
            },
            Event::StartRequested => self.start_requested(spec, now, emit),
            Event::StopRequested => self.stop_requested(spec, now, emit),
            Event::MembersAsked => self.members_asked(spec, now),
            Event::KillNow => self.kill_now(now, emit),
            Event::GroupSignalNotPermitted => self.group_signal_not_permitted(now, emit),
        }
    }

    /// Starts the program again after [`Event::FifoUnopenedByRsup`], unless a stop was requested. A log file of the
    /// program is a FIFO, and rsup has tried to open this FIFO since the last start.
    fn fifo_unopened_by_rsup(&mut self, now: Time, emit: &mut impl FnMut(ProcessAction)) {
        use ProcessState::{Backoff, Exited, Fatal, Running, Starting, Stopped, Stopping};
        match self.state {
            Starting { exec_succeeded_at: None } if !self.starts_disabled => self.start(now, emit),
            Starting { exec_succeeded_at: None } | Stopping(_) => {
                emit(ProcessAction::Log(ProcessMessage::StoppedBeforeExec));
                self.state = Stopped;
                self.start_if_due(now, emit);
            }
            Starting { exec_succeeded_at: Some(_) }
            | Stopped
            | Running
            | Backoff { .. }
            | Exited { .. }
            | Fatal => {}
        }
    }

    /// Starts a process that is STOPPED, STOPPING, EXITED or FATAL, as soon as that is possible: not within
    /// `MIN_START_INTERVAL_SECS` after the last start, not before the leader of a STOPPING process has exited, and not
    /// while rsup waits for other members of its process group to exit. Members that were allowed to run on are sent
    /// SIGTERM now. Failed starts are counted from zero again. In the other states the request has no effect.
    fn start_requested(&mut self, spec: &ProcessSpec, now: Time, emit: &mut impl FnMut(ProcessAction)) {
        use ProcessState::{Backoff, Exited, Fatal, Running, Starting, Stopped, Stopping};
        if self.starts_disabled {
            return;
        }
        let start = RequestInEffect::Start { at: self.earliest_start(now) };
        match self.state {
            Stopped | Exited { .. } | Fatal => {
                self.consecutive_failures = 0;
                if self.start_due_at().is_none() {
                    self.request_in_effect = start;
                }
                self.terminate_tolerated_leftovers(spec, now, emit);
                self.start_if_due(now, emit);
            }
            Stopping(_) => {
                self.consecutive_failures = 0;
                self.request_in_effect = start;
            }
            Starting { .. } | Running | Backoff { .. } => {}
        }
    }

    /// Stops a process until a client requests a start.
    fn stop_requested(&mut self, spec: &ProcessSpec, now: Time, emit: &mut impl FnMut(ProcessAction)) {
        use ProcessState::{Backoff, Exited, Fatal, Running, Starting, Stopped, Stopping};
        if self.starts_disabled {
            return;
        }
        match self.state {
            Starting { .. } | Running => {
                self.request_in_effect = RequestInEffect::Stop;
                emit(ProcessAction::Log(ProcessMessage::StopRequested));
                self.begin_stop(spec, now, emit);
            }
            Stopping(_) => self.request_in_effect = RequestInEffect::Stop,
            Stopped | Backoff { .. } | Exited { .. } | Fatal if self.start_due_at().is_some() => {
                self.request_in_effect = RequestInEffect::Stop;
                self.state = Stopped;
            }
            // The process does not run and will not be started, so the request has no effect.
            Stopped | Backoff { .. } | Exited { .. } | Fatal => {}
        }
    }

    /// Records that the caller sends SIGTERM to the other members of the process group now ([`Event::MembersAsked`]).
    fn members_asked(&mut self, spec: &ProcessSpec, now: Time) {
        use ProcessState::{Backoff, Exited, Fatal, Running, Starting, Stopped, Stopping};
        match self.state {
            Stopping(StopStep::LeaderAsked { kill_at }) => {
                let kill_members_at = kill_at.max(earliest_member_kill(spec, now));
                self.state = Stopping(StopStep::GroupAsked { kill_at, kill_members_at });
            }
            Stopping(StopStep::GroupAsked { .. } | StopStep::LeaderKilled { .. } | StopStep::GroupKilled) => {
            }
            Stopped | Starting { .. } | Running | Backoff { .. } | Exited { .. } | Fatal => {}
        }
    }

    /// Sends SIGKILL at once to the leader and to the other members of its process group. The process is not started
    /// again.
    fn kill_now(&mut self, now: Time, emit: &mut impl FnMut(ProcessAction)) {
        use ProcessState::{Backoff, Exited, Fatal, Running, Starting, Stopped, Stopping};
        match self.state {
            Starting { .. } | Running => self.kill_all(emit),
            Stopping(StopStep::LeaderAsked { .. } | StopStep::GroupAsked { .. }) => self.kill_all(emit),
            Stopping(StopStep::LeaderKilled { .. }) => self.kill_members(emit),
            Backoff { .. } => {
                self.state = Fatal;
                self.kill_leftovers(now, emit);
            }
            Exited { .. } => {
                self.state = Exited { restart_at: None };
                self.kill_leftovers(now, emit);
            }
            Stopped | Fatal => self.kill_leftovers(now, emit),
            Stopping(StopStep::GroupKilled) => {}
        }
    }

    /// Applies [`Event::GroupSignalNotPermitted`]: the kernel does not let rsup signal the process group. If the leader
    /// was sent SIGKILL, rsup no longer plans SIGKILL for the other members. If the leader was reaped and the other
    /// members were sent SIGKILL, rsup no longer waits for them.
    fn group_signal_not_permitted(&mut self, now: Time, emit: &mut impl FnMut(ProcessAction)) {
        use ProcessState::{Backoff, Exited, Fatal, Running, Starting, Stopped, Stopping};
        match self.state {
            Stopping(StopStep::LeaderKilled { .. }) => self.state = Stopping(StopStep::GroupKilled),
            // Nothing changes, because the processes may still exit by themselves. rsup sends SIGKILL later, or has
            // already tried to send SIGKILL.
            Stopping(StopStep::LeaderAsked { .. } | StopStep::GroupAsked { .. } | StopStep::GroupKilled) => {}
            Stopped | Backoff { .. } | Exited { .. } | Fatal => {
                self.abandon_killed_leftovers(emit);
                self.start_if_due(now, emit);
            }
            Starting { .. } | Running => {}
        }
    }

    fn start(&mut self, now: Time, emit: &mut impl FnMut(ProcessAction)) {
        if !self.starts_disabled {
            self.state = ProcessState::Starting { exec_succeeded_at: None };
            self.leftovers = Leftovers::None;
            self.request_in_effect = RequestInEffect::None;
            self.started_at = Some(now);
            emit(ProcessAction::Spawn);
        }
    }

    /// Starts the process if its next start is due and rsup does not wait for members of its process group to exit.
    fn start_if_due(&mut self, now: Time, emit: &mut impl FnMut(ProcessAction)) {
        if self.start_due_at().is_some_and(|due| now >= due) && !self.awaits_leftovers() {
            self.start(now, emit);
        }
    }

    /// The earliest time from `now` on at which the last start is at least `MIN_START_INTERVAL_SECS` ago.
    fn earliest_start(&self, now: Time) -> Time {
        self.started_at.map_or(now, |started| now.max(started.plus_secs(MIN_START_INTERVAL_SECS)))
    }

    fn exec_succeeded(&mut self, spec: &ProcessSpec, now: Time, emit: &mut impl FnMut(ProcessAction)) {
        self.state = ProcessState::Starting { exec_succeeded_at: Some(now) };
        emit(ProcessAction::Log(ProcessMessage::Spawned));
        // With `startsecs=0` the process enters RUNNING before any exit can be noticed, so no exit comes too early.
        if spec.startsecs <= 0 {
            self.enter_running(spec, emit);
        }
    }

    fn enter_running(&mut self, spec: &ProcessSpec, emit: &mut impl FnMut(ProcessAction)) {
        self.state = ProcessState::Running;
        self.consecutive_failures = 0;
        self.successful_starts = self.successful_starts.wrapping_add(1);
        emit(ProcessAction::Log(ProcessMessage::Success { startsecs: spec.startsecs }));
    }

    /// Enters BACKOFF after a failed start. Enters FATAL instead if more than `startretries` starts in a row have
    /// failed, or if starts are disabled.
    fn start_failed(&mut self, spec: &ProcessSpec, now: Time, emit: &mut impl FnMut(ProcessAction)) {
        self.consecutive_failures += 1;
        self.total_failed_starts = self.total_failed_starts.wrapping_add(1);
        if self.starts_disabled {
            self.state = ProcessState::Fatal;
        } else if self.consecutive_failures > spec.startretries {
            self.state = ProcessState::Fatal;
            emit(ProcessAction::Log(ProcessMessage::GaveUp));
        } else {
            self.state = ProcessState::Backoff { until: now.plus_secs(self.consecutive_failures) };
        }
    }

    /// The leader exited before `startsecs` had elapsed. The start failed, even if `exitcodes` lists the exit code.
    fn exited_too_early(
        &mut self,
        spec: &ProcessSpec,
        exit: ExitStatus,
        group_alive: bool,
        now: Time,
        emit: &mut impl FnMut(ProcessAction),
    ) {
        self.last_exit = Some((exit, false));
        emit(ProcessAction::Log(ProcessMessage::Exited { exit, expected: false }));
        self.start_failed(spec, now, emit);
        self.terminate_or_tolerate_leftovers(group_alive, LeftoverHandling::Terminate, spec, now, emit);
    }

    fn exited_from_running(
        &mut self,
        spec: &ProcessSpec,
        exit: ExitStatus,
        group_alive: bool,
        now: Time,
        emit: &mut impl FnMut(ProcessAction),
    ) {
        let expected = exit.is_expected(&spec.exitcodes);
        self.last_exit = Some((exit, expected));
        self.consecutive_failures = 0;
        emit(ProcessAction::Log(ProcessMessage::Exited { exit, expected }));
        let wants_restart = match spec.autorestart {
            AutoRestart::Always => true,
            AutoRestart::Unexpected => !expected,
            AutoRestart::Never => false,
        };
        let restart_at = (wants_restart && !self.starts_disabled).then_some(self.earliest_start(now));
        self.state = ProcessState::Exited { restart_at };
        // One of the other members of the process group may be the daemon that the leader was meant to start. rsup
        // terminates them only if it starts the process again or is stopping every process.
        let terminates_leftovers = restart_at.is_some() || self.starts_disabled;
        self.terminate_or_tolerate_leftovers(
            group_alive,
            if terminates_leftovers { LeftoverHandling::Terminate } else { LeftoverHandling::Tolerate },
            spec,
            now,
            emit,
        );
        self.start_if_due(now, emit);
    }

    fn exited_from_stopping(
        &mut self,
        spec: &ProcessSpec,
        exit: ExitStatus,
        group_alive: bool,
        step: StopStep,
        now: Time,
        emit: &mut impl FnMut(ProcessAction),
    ) {
        let expected = exit.is_expected(&spec.exitcodes);
        self.last_exit = Some((exit, expected));
        self.state = ProcessState::Stopped;
        emit(ProcessAction::Log(ProcessMessage::Stopped { exit, expected }));
        match step {
            _ if !group_alive => self.leftovers = Leftovers::None,
            StopStep::LeaderAsked { kill_at } => {
                self.terminate_leftovers(kill_at.max(earliest_member_kill(spec, now)), emit);
            }
            // The other members of the process group were asked to stop before. rsup sends them no second SIGTERM,
            // because many programs treat a second SIGTERM differently.
            StopStep::GroupAsked { kill_members_at, .. } | StopStep::LeaderKilled { kill_members_at } => {
                self.leftovers = Leftovers::Terminating { kill_at: kill_members_at };
            }
            StopStep::GroupKilled => {
                self.leftovers = Leftovers::Killed { until: now.plus_secs(KILL_GRACE_SECS) };
            }
        }
        self.start_if_due(now, emit);
    }

    fn terminate_or_tolerate_leftovers(
        &mut self,
        group_alive: bool,
        leftover_handling: LeftoverHandling,
        spec: &ProcessSpec,
        now: Time,
        emit: &mut impl FnMut(ProcessAction),
    ) {
        match leftover_handling {
            LeftoverHandling::Terminate if group_alive => {
                self.terminate_leftovers(now.plus_secs(spec.stopwaitsecs), emit)
            }
            LeftoverHandling::Tolerate if group_alive => self.leftovers = Leftovers::Tolerated,
            LeftoverHandling::Terminate | LeftoverHandling::Tolerate => self.leftovers = Leftovers::None,
        }
    }

    fn terminate_tolerated_leftovers(
        &mut self,
        spec: &ProcessSpec,
        now: Time,
        emit: &mut impl FnMut(ProcessAction),
    ) {
        match self.leftovers {
            Leftovers::Tolerated => self.terminate_leftovers(now.plus_secs(spec.stopwaitsecs), emit),
            Leftovers::None | Leftovers::Terminating { .. } | Leftovers::Killed { .. } => {}
        }
    }

    fn terminate_leftovers(&mut self, kill_at: Time, emit: &mut impl FnMut(ProcessAction)) {
        self.leftovers = Leftovers::Terminating { kill_at };
        terminate_group(emit);
    }

    fn tick_leftovers(&mut self, now: Time, emit: &mut impl FnMut(ProcessAction)) {
        match self.leftovers {
            Leftovers::Terminating { kill_at } if now >= kill_at => self.kill_leftovers(now, emit),
            // A zombie whose parent does not reap it, or a process that hangs in the kernel, must not prevent the next
            // start for ever.
            Leftovers::Killed { until } if now >= until => self.abandon_killed_leftovers(emit),
            Leftovers::None
            | Leftovers::Tolerated
            | Leftovers::Terminating { .. }
            | Leftovers::Killed { .. } => {}
        }
    }

    fn abandon_killed_leftovers(&mut self, emit: &mut impl FnMut(ProcessAction)) {
        match self.leftovers {
            Leftovers::Killed { .. } => {
                self.leftovers = Leftovers::None;
                emit(ProcessAction::Log(ProcessMessage::MembersLeftBehind));
                emit(ProcessAction::AbandonGroup);
            }
            Leftovers::None | Leftovers::Tolerated | Leftovers::Terminating { .. } => {}
        }
    }

    fn kill_leftovers(&mut self, now: Time, emit: &mut impl FnMut(ProcessAction)) {
        match self.leftovers {
            Leftovers::Tolerated | Leftovers::Terminating { .. } => {
                self.leftovers = Leftovers::Killed { until: now.plus_secs(KILL_GRACE_SECS) };
                emit(ProcessAction::Log(ProcessMessage::Killing));
                kill(SignalTarget::Group, emit);
            }
            Leftovers::None | Leftovers::Killed { .. } => {}
        }
    }

    fn begin_stop(&mut self, spec: &ProcessSpec, now: Time, emit: &mut impl FnMut(ProcessAction)) {
        let kill_at = now.plus_secs(spec.stopwaitsecs);
        let (step, to) = if spec.stopasgroup {
            (StopStep::GroupAsked { kill_at, kill_members_at: kill_at }, SignalTarget::Group)
        } else {
            (StopStep::LeaderAsked { kill_at }, SignalTarget::Leader)
        };
        self.state = ProcessState::Stopping(step);
        emit(ProcessAction::Log(ProcessMessage::Sending { signal: spec.stopsignal, to }));
        emit(ProcessAction::Send(spec.stopsignal, to));
        emit(ProcessAction::Send(Signal::CONT, SignalTarget::Group));
    }

    /// Sends the SIGKILL that is due: to the leader, to the other members of its process group, or to both. If the
    /// other members were not asked to stop yet, they get SIGTERM when the leader gets SIGKILL. With `killasgroup`, all
    /// members get SIGKILL together with the leader instead.
    fn tick_stop(
        &mut self,
        spec: &ProcessSpec,
        step: StopStep,
        now: Time,
        emit: &mut impl FnMut(ProcessAction),
    ) {
        match step {
            StopStep::LeaderAsked { kill_at } if now >= kill_at => {
                if spec.killasgroup {
                    return self.kill_all(emit);
                }
                self.kill_leader(earliest_member_kill(spec, now), emit);
                terminate_group(emit);
            }
            StopStep::GroupAsked { kill_at, kill_members_at } if now >= kill_at => {
                if spec.killasgroup || now >= kill_members_at {
                    return self.kill_all(emit);
                }
                self.kill_leader(kill_members_at, emit);
            }
            StopStep::LeaderKilled { kill_members_at } if now >= kill_members_at => self.kill_members(emit),
            StopStep::LeaderAsked { .. }
            | StopStep::GroupAsked { .. }
            | StopStep::LeaderKilled { .. }
            | StopStep::GroupKilled => {}
        }
    }

    fn kill_leader(&mut self, kill_members_at: Time, emit: &mut impl FnMut(ProcessAction)) {
        self.state = ProcessState::Stopping(StopStep::LeaderKilled { kill_members_at });
        emit(ProcessAction::Log(ProcessMessage::Killing));
        kill(SignalTarget::Leader, emit);
    }

    /// Sends SIGKILL to the process group of a leader that was sent SIGKILL before and has not been reaped.
    fn kill_members(&mut self, emit: &mut impl FnMut(ProcessAction)) {
        self.state = ProcessState::Stopping(StopStep::GroupKilled);
        kill(SignalTarget::Group, emit);
    }

    /// Sends SIGKILL to the process group, and also to the leader itself, because the leader may have moved to another
    /// group.
    fn kill_all(&mut self, emit: &mut impl FnMut(ProcessAction)) {
        self.state = ProcessState::Stopping(StopStep::GroupKilled);
        emit(ProcessAction::Log(ProcessMessage::Killing));
        emit(ProcessAction::Send(Signal::KILL, SignalTarget::Leader));
        kill(SignalTarget::Group, emit);
    }
}

/// Sends SIGTERM and then SIGCONT, because a process that a signal has stopped cannot act on SIGTERM before it is
/// continued.
fn terminate_group(emit: &mut impl FnMut(ProcessAction)) {
    emit(ProcessAction::Send(Signal::TERM, SignalTarget::Group));
    emit(ProcessAction::Send(Signal::CONT, SignalTarget::Group));
}

fn kill(to: SignalTarget, emit: &mut impl FnMut(ProcessAction)) {
    emit(ProcessAction::Log(ProcessMessage::Sending { signal: Signal::KILL, to }));
    emit(ProcessAction::Send(Signal::KILL, to));
}

/// The earliest time for SIGKILL to those members of a process group that are asked to stop at `now`. These members
/// need a time of their own. The leader was asked earlier, so the time of the leader's SIGKILL may be too early for
/// them.
fn earliest_member_kill(spec: &ProcessSpec, now: Time) -> Time {
    now.plus_secs(spec.stopwaitsecs.min(MAX_LATE_STOPWAIT_SECS))
}

/// What rsup does with the other members of the process group when the leader exits without a request to stop.
#[derive(Clone, Copy)]
enum LeftoverHandling {
    Terminate,
    Tolerate,
}

#[cfg(test)]
mod tests;
