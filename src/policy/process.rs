//! The law of one process: supervisord's states and what moves a process between them.
//!
//! A process is its leader (the child rsup started) and the rest of the leader's process group. The leader's life is
//! [`ProcessState`]; what is left of the group once the leader has been reaped is [`Leftovers`].

use super::exit::ExitStatus;
use super::message::ProcessMessage;
use super::signal::{Signal, SignalTarget};
use super::spec::{AutoRestart, ProcessSpec};
use super::time::Time;

/// Seconds between two starts of one process, whatever ended the first: nothing spins.
const MIN_START_INTERVAL_SECS: i64 = 1;
/// Seconds that what has been sent SIGKILL may take to vanish before nobody waits for it any longer.
pub(super) const KILL_GRACE_SECS: i64 = 1;

/// supervisord's process states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessState {
    /// Never started, or stopped because rsup leaves.
    Stopped,
    /// Forked. `up_since` is when the exec was known to have worked, none before that.
    Starting {
        /// Start of the `startsecs` it has to stay up.
        up_since: Option<Time>,
    },
    /// Stayed up for `startsecs`.
    Running,
    /// The start failed; tried again at `until`.
    Backoff {
        /// The earliest next start.
        until: Time,
    },
    /// Asked to stop. `kill_at` is when SIGKILL follows, none once it was sent.
    Stopping {
        /// End of `stopwaitsecs`.
        kill_at: Option<Time>,
    },
    /// Ended from RUNNING. `restart_at` is when it starts again, none when it will not.
    Exited {
        /// The earliest next start.
        restart_at: Option<Time>,
    },
    /// Could not be started, and will not be.
    Fatal,
}

/// What is left of the process group behind its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftovers {
    /// Nothing that is waited for.
    None,
    /// Members that are left alone: a launcher's daemon.
    Tolerated,
    /// Members that were sent SIGTERM; SIGKILL follows at `kill_at`.
    Terminating {
        /// End of `stopwaitsecs`.
        kill_at: Time,
    },
    /// Members that were sent SIGKILL; nobody waits for them after `until`.
    Killed {
        /// End of the grace.
        until: Time,
    },
}

/// What can happen to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// rsup has come up, and the process has `autostart`.
    Start,
    /// The exec of the last [`ProcessAction::Spawn`] is known to have worked.
    Spawned,
    /// The last [`ProcessAction::Spawn`] came to nothing, and no process is left of it.
    SpawnFailed,
    /// The last [`ProcessAction::Spawn`] was taken back before it was carried out.
    SpawnCancelled,
    /// The leader was reaped.
    Exited {
        /// How it ended.
        exit: ExitStatus,
        /// Whether its process group has other members.
        group_alive: bool,
    },
    /// The last member of the process group is gone.
    GroupEmpty,
    /// Time has passed.
    Tick,
    /// rsup begins to leave: nothing starts any more.
    DisableStarts,
    /// It is this process's turn to stop.
    Stop,
    /// Nobody waits any longer: SIGKILL to all of it.
    Kill,
}

/// What is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessAction {
    /// Start the program. [`Event::Spawned`] or [`Event::SpawnFailed`] answers.
    Spawn,
    /// Send a signal.
    Send(Signal, SignalTarget),
    /// Forget the process group: whoever is left of it is not waited for.
    AbandonGroup,
    /// Say it.
    Log(ProcessMessage),
}

/// One process and its history, as far as the law needs it.
#[derive(Clone, Debug)]
pub struct Process {
    state: ProcessState,
    leftovers: Leftovers,
    /// Failed starts in a row.
    failures: i64,
    /// When the last start was tried.
    started: Option<Time>,
    /// Nothing starts any more.
    starts_disabled: bool,
    /// How the leader ended last, and whether that was expected.
    last_exit: Option<(ExitStatus, bool)>,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            state: ProcessState::Stopped,
            leftovers: Leftovers::None,
            failures: 0,
            started: None,
            starts_disabled: false,
            last_exit: None,
        }
    }
}

impl Process {
    /// Its state.
    #[must_use]
    pub fn state(&self) -> ProcessState {
        self.state
    }

    /// How the leader ended last, and whether that was expected.
    #[must_use]
    pub fn last_exit(&self) -> Option<(ExitStatus, bool)> {
        self.last_exit
    }

    /// Whether a child of rsup runs, or may.
    #[must_use]
    pub fn has_leader(&self) -> bool {
        match self.state {
            ProcessState::Starting { .. } | ProcessState::Running | ProcessState::Stopping { .. } => true,
            ProcessState::Stopped
            | ProcessState::Backoff { .. }
            | ProcessState::Exited { .. }
            | ProcessState::Fatal => false,
        }
    }

    /// Whether anything is still to come of it by itself: it runs, it will run, or its leftovers are being cleared.
    #[must_use]
    pub fn is_active(&self) -> bool {
        let state = match self.state {
            ProcessState::Starting { .. }
            | ProcessState::Running
            | ProcessState::Stopping { .. }
            | ProcessState::Backoff { .. } => true,
            ProcessState::Exited { restart_at } => restart_at.is_some(),
            ProcessState::Stopped | ProcessState::Fatal => false,
        };
        state || self.is_terminating_leftovers()
    }

    /// Whether the stop has yet to wait for it: part of it lives and was not sent SIGKILL.
    #[must_use]
    pub fn blocks_stop(&self) -> bool {
        let killed = matches!(self.state, ProcessState::Stopping { kill_at: None });
        self.has_leader() && !killed || matches!(self.leftovers, Leftovers::Terminating { .. })
    }

    fn is_terminating_leftovers(&self) -> bool {
        matches!(self.leftovers, Leftovers::Terminating { .. } | Leftovers::Killed { .. })
    }

    /// When [`Event::Tick`] will have something to do. A start that waits for the group to be gone has no deadline
    /// of its own: [`Event::GroupEmpty`] brings it, or the group's own deadline.
    #[must_use]
    pub fn deadline(&self, spec: &ProcessSpec) -> Option<Time> {
        let state = match self.state {
            ProcessState::Starting { up_since } => up_since.map(|since| since.plus_secs(spec.startsecs)),
            ProcessState::Stopping { kill_at } => kill_at,
            ProcessState::Backoff { until } => (!self.is_terminating_leftovers()).then_some(until),
            ProcessState::Exited { restart_at } => restart_at.filter(|_| !self.is_terminating_leftovers()),
            ProcessState::Stopped | ProcessState::Running | ProcessState::Fatal => None,
        };
        let leftovers = match self.leftovers {
            Leftovers::Terminating { kill_at } => Some(kill_at),
            Leftovers::Killed { until } => Some(until),
            Leftovers::None | Leftovers::Tolerated => None,
        };
        state.into_iter().chain(leftovers).min()
    }

    /// The law: every state under every event.
    pub fn handle(
        &mut self,
        spec: &ProcessSpec,
        event: Event,
        now: Time,
        act: &mut impl FnMut(ProcessAction),
    ) {
        use ProcessState::{Backoff, Exited, Fatal, Running, Starting, Stopped, Stopping};
        match event {
            Event::Start => match self.state {
                Stopped => self.start(now, act),
                Starting { .. } | Running | Backoff { .. } | Stopping { .. } | Exited { .. } | Fatal => {}
            },
            Event::Spawned => match self.state {
                Starting { up_since: None } => self.exec_succeeded(spec, now, act),
                // The exec was under way when the stop came: it is a program that stops.
                Stopping { .. } => act(ProcessAction::Log(ProcessMessage::Spawned)),
                Starting { up_since: Some(_) }
                | Stopped
                | Running
                | Backoff { .. }
                | Exited { .. }
                | Fatal => {}
            },
            Event::SpawnFailed => match self.state {
                Starting { .. } => {
                    act(ProcessAction::Log(ProcessMessage::SpawnError));
                    self.start_failed(spec, now, act);
                }
                Stopping { .. } => {
                    act(ProcessAction::Log(ProcessMessage::SpawnError));
                    self.state = Stopped;
                }
                Stopped | Running | Backoff { .. } | Exited { .. } | Fatal => {}
            },
            Event::SpawnCancelled => match self.state {
                Starting { .. } => self.state = Stopped,
                Stopped | Running | Backoff { .. } | Stopping { .. } | Exited { .. } | Fatal => {}
            },
            Event::Exited { exit, group_alive } => match self.state {
                Starting { up_since } => {
                    // Reaped before any timed transition, so a program that is dead is never called RUNNING. One that
                    // had its `startsecs` by now ran, though its turn to be told so did not come.
                    if up_since.is_some_and(|since| now >= since.plus_secs(spec.startsecs)) {
                        self.exited_from_running(spec, exit, group_alive, now, act);
                    } else {
                        self.exited_too_early(spec, exit, group_alive, now, act);
                    }
                }
                Running => self.exited_from_running(spec, exit, group_alive, now, act),
                Stopping { kill_at } => self.exited_from_stopping(spec, exit, group_alive, kill_at, now, act),
                // No leader: nothing of ours was reaped.
                Stopped | Backoff { .. } | Exited { .. } | Fatal => {}
            },
            Event::GroupEmpty => match self.state {
                Backoff { .. } | Exited { .. } => {
                    self.leftovers = Leftovers::None;
                    self.start_if_due(now, act);
                }
                Stopped | Fatal => self.leftovers = Leftovers::None,
                // A living leader is a member.
                Starting { .. } | Running | Stopping { .. } => {}
            },
            Event::Tick => match self.state {
                Starting { up_since: Some(since) } if now >= since.plus_secs(spec.startsecs) => {
                    self.enter_running(spec, act);
                }
                Stopping { kill_at: Some(kill_at) } if now >= kill_at => self.kill_all(act),
                Backoff { .. } | Exited { .. } => {
                    self.tick_leftovers(now, act);
                    self.start_if_due(now, act);
                }
                Stopped | Fatal => self.tick_leftovers(now, act),
                Starting { .. } | Running | Stopping { .. } => {}
            },
            Event::DisableStarts => {
                self.starts_disabled = true;
                match self.state {
                    Backoff { .. } => self.state = Fatal,
                    Exited { .. } => self.state = Exited { restart_at: None },
                    Stopped | Starting { .. } | Running | Stopping { .. } | Fatal => {}
                }
            }
            Event::Stop => match self.state {
                Starting { .. } | Running => self.begin_stop(spec, now, act),
                Backoff { .. } => self.state = Fatal,
                Exited { .. } => {
                    self.state = Exited { restart_at: None };
                    self.terminate_if_tolerated(spec, now, act);
                }
                Stopped | Fatal => self.terminate_if_tolerated(spec, now, act),
                Stopping { .. } => {}
            },
            Event::Kill => match self.state {
                Starting { .. } | Running | Stopping { kill_at: Some(_) } => self.kill_all(act),
                Backoff { .. } => {
                    self.state = Fatal;
                    self.kill_leftovers(now, act);
                }
                Exited { .. } => {
                    self.state = Exited { restart_at: None };
                    self.kill_leftovers(now, act);
                }
                Stopped | Fatal => self.kill_leftovers(now, act),
                Stopping { kill_at: None } => {}
            },
        }
    }

    fn start(&mut self, now: Time, act: &mut impl FnMut(ProcessAction)) {
        if !self.starts_disabled {
            self.state = ProcessState::Starting { up_since: None };
            self.leftovers = Leftovers::None;
            self.started = Some(now);
            act(ProcessAction::Spawn);
        }
    }

    /// Starts when the time has come and nothing is left of the last one.
    fn start_if_due(&mut self, now: Time, act: &mut impl FnMut(ProcessAction)) {
        let due = match self.state {
            ProcessState::Backoff { until } => Some(until),
            ProcessState::Exited { restart_at } => restart_at,
            ProcessState::Stopped
            | ProcessState::Starting { .. }
            | ProcessState::Running
            | ProcessState::Stopping { .. }
            | ProcessState::Fatal => None,
        };
        if due.is_some_and(|due| now >= due) && !self.is_terminating_leftovers() {
            self.start(now, act);
        }
    }

    fn exec_succeeded(&mut self, spec: &ProcessSpec, now: Time, act: &mut impl FnMut(ProcessAction)) {
        self.state = ProcessState::Starting { up_since: Some(now) };
        act(ProcessAction::Log(ProcessMessage::Spawned));
        // With `startsecs=0` no start is too quick: RUNNING before any exit can be seen.
        if spec.startsecs <= 0 {
            self.enter_running(spec, act);
        }
    }

    fn enter_running(&mut self, spec: &ProcessSpec, act: &mut impl FnMut(ProcessAction)) {
        self.state = ProcessState::Running;
        self.failures = 0;
        act(ProcessAction::Log(ProcessMessage::Success { startsecs: spec.startsecs }));
    }

    /// A start that came to nothing: BACKOFF, and FATAL once the retries are used up.
    fn start_failed(&mut self, spec: &ProcessSpec, now: Time, act: &mut impl FnMut(ProcessAction)) {
        self.failures += 1;
        if self.starts_disabled {
            self.state = ProcessState::Fatal;
        } else if self.failures > spec.startretries {
            self.state = ProcessState::Fatal;
            self.failures = 0;
            act(ProcessAction::Log(ProcessMessage::GaveUp));
        } else {
            self.state = ProcessState::Backoff { until: now.plus_secs(self.failures) };
        }
    }

    /// The leader ended before its `startsecs` were over. Its exit code does not matter.
    fn exited_too_early(
        &mut self,
        spec: &ProcessSpec,
        exit: ExitStatus,
        group_alive: bool,
        now: Time,
        act: &mut impl FnMut(ProcessAction),
    ) {
        self.last_exit = Some((exit, false));
        act(ProcessAction::Log(ProcessMessage::Exited { exit, expected: false }));
        self.start_failed(spec, now, act);
        self.handle_leftovers(group_alive, OnLeaderExit::Terminate, spec, now, act);
    }

    /// The leader ended from RUNNING.
    fn exited_from_running(
        &mut self,
        spec: &ProcessSpec,
        exit: ExitStatus,
        group_alive: bool,
        now: Time,
        act: &mut impl FnMut(ProcessAction),
    ) {
        let expected = exit.is_expected(&spec.exitcodes);
        self.last_exit = Some((exit, expected));
        self.failures = 0;
        act(ProcessAction::Log(ProcessMessage::Exited { exit, expected }));
        let again = match spec.autorestart {
            AutoRestart::Always => true,
            AutoRestart::Unexpected => !expected,
            AutoRestart::Never => false,
        };
        let earliest = self.started.map_or(now, |started| started.plus_secs(MIN_START_INTERVAL_SECS));
        let restart_at = (again && !self.starts_disabled).then_some(now.max(earliest));
        self.state = ProcessState::Exited { restart_at };
        // What a launcher leaves behind is its daemon, unless the launcher is to run again or all is to stop.
        let terminate = restart_at.is_some() || self.starts_disabled;
        self.handle_leftovers(
            group_alive,
            if terminate { OnLeaderExit::Terminate } else { OnLeaderExit::Tolerate },
            spec,
            now,
            act,
        );
        self.start_if_due(now, act);
    }

    /// The leader ended because it was told to.
    fn exited_from_stopping(
        &mut self,
        spec: &ProcessSpec,
        exit: ExitStatus,
        group_alive: bool,
        kill_at: Option<Time>,
        now: Time,
        act: &mut impl FnMut(ProcessAction),
    ) {
        let expected = exit.is_expected(&spec.exitcodes);
        self.last_exit = Some((exit, expected));
        self.state = ProcessState::Stopped;
        act(ProcessAction::Log(ProcessMessage::Stopped { exit, expected }));
        match kill_at {
            // The rest has what is left of the leader's time.
            Some(kill_at) if group_alive => self.terminate_leftovers(kill_at, act),
            // SIGKILL went to the whole group.
            None if group_alive => {
                self.leftovers = Leftovers::Killed { until: now.plus_secs(KILL_GRACE_SECS) }
            }
            Some(_) | None => self.leftovers = Leftovers::None,
        }
    }

    fn handle_leftovers(
        &mut self,
        group_alive: bool,
        on_exit: OnLeaderExit,
        spec: &ProcessSpec,
        now: Time,
        act: &mut impl FnMut(ProcessAction),
    ) {
        match on_exit {
            OnLeaderExit::Terminate if group_alive => {
                self.terminate_leftovers(now.plus_secs(spec.stopwaitsecs), act)
            }
            OnLeaderExit::Tolerate if group_alive => self.leftovers = Leftovers::Tolerated,
            OnLeaderExit::Terminate | OnLeaderExit::Tolerate => self.leftovers = Leftovers::None,
        }
    }

    fn terminate_if_tolerated(&mut self, spec: &ProcessSpec, now: Time, act: &mut impl FnMut(ProcessAction)) {
        match self.leftovers {
            Leftovers::Tolerated => self.terminate_leftovers(now.plus_secs(spec.stopwaitsecs), act),
            Leftovers::None | Leftovers::Terminating { .. } | Leftovers::Killed { .. } => {}
        }
    }

    /// SIGTERM, and SIGCONT behind it: a stopped process cannot act on the first without the second.
    fn terminate_leftovers(&mut self, kill_at: Time, act: &mut impl FnMut(ProcessAction)) {
        self.leftovers = Leftovers::Terminating { kill_at };
        act(ProcessAction::Send(Signal::TERM, SignalTarget::Group));
        act(ProcessAction::Send(Signal::CONT, SignalTarget::Group));
    }

    fn tick_leftovers(&mut self, now: Time, act: &mut impl FnMut(ProcessAction)) {
        match self.leftovers {
            Leftovers::Terminating { kill_at } if now >= kill_at => self.kill_leftovers(now, act),
            // A zombie that its own parent does not reap, or a process stuck in the kernel: it must not keep the
            // program down for ever.
            Leftovers::Killed { until } if now >= until => {
                self.leftovers = Leftovers::None;
                act(ProcessAction::Log(ProcessMessage::LeftBehind));
                act(ProcessAction::AbandonGroup);
            }
            Leftovers::None
            | Leftovers::Tolerated
            | Leftovers::Terminating { .. }
            | Leftovers::Killed { .. } => {}
        }
    }

    fn kill_leftovers(&mut self, now: Time, act: &mut impl FnMut(ProcessAction)) {
        match self.leftovers {
            Leftovers::Tolerated | Leftovers::Terminating { .. } => {
                self.leftovers = Leftovers::Killed { until: now.plus_secs(KILL_GRACE_SECS) };
                act(ProcessAction::Log(ProcessMessage::Killing));
                kill(SignalTarget::Group, act);
            }
            Leftovers::None | Leftovers::Killed { .. } => {}
        }
    }

    fn begin_stop(&mut self, spec: &ProcessSpec, now: Time, act: &mut impl FnMut(ProcessAction)) {
        self.state = ProcessState::Stopping { kill_at: Some(now.plus_secs(spec.stopwaitsecs)) };
        let to = if spec.stopasgroup { SignalTarget::Group } else { SignalTarget::Leader };
        act(ProcessAction::Log(ProcessMessage::Sending { signal: spec.stopsignal, to }));
        act(ProcessAction::Send(spec.stopsignal, to));
        act(ProcessAction::Send(Signal::CONT, SignalTarget::Group));
    }

    /// The leader too, since it may have left its group.
    fn kill_all(&mut self, act: &mut impl FnMut(ProcessAction)) {
        self.state = ProcessState::Stopping { kill_at: None };
        act(ProcessAction::Log(ProcessMessage::Killing));
        act(ProcessAction::Send(Signal::KILL, SignalTarget::Leader));
        kill(SignalTarget::Group, act);
    }
}

fn kill(to: SignalTarget, act: &mut impl FnMut(ProcessAction)) {
    act(ProcessAction::Log(ProcessMessage::Sending { signal: Signal::KILL, to }));
    act(ProcessAction::Send(Signal::KILL, to));
}

/// What becomes of the group's other members when the leader has ended by itself.
#[derive(Clone, Copy)]
enum OnLeaderExit {
    Terminate,
    Tolerate,
}

#[cfg(test)]
mod tests;
