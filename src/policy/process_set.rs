//! The law of all processes together: who starts and stops when, the nearest deadline, and when rsup leaves with what.

use super::message::{ExitCause, SupervisorMessage};
use super::process::{Event, KILL_GRACE_SECS, Process, ProcessAction, ProcessState};
use super::signal::Signal;
use super::signal_routing::{RunContext, SignalAction, SignalInfo, route_signal};
use super::spec::{ProcId, ProcessSpec, ShutdownOn};
use super::time::Time;
use std::collections::{BTreeSet, VecDeque};

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Something about one process.
    Process(ProcId, ProcessAction),
    /// A line about all.
    Log(SupervisorMessage),
    /// Ask the kernel for dead children, and answer with [`ProcessSet::on_reaped`].
    Reap,
    /// Send a signal to the process group of every process.
    Forward(Signal),
    /// Stop rsup itself, until it is continued.
    Suspend,
    /// Send a signal to everything that is left and was not sent it yet, then do [`Action::Reap`].
    SignalRemaining(Signal),
    /// Leave with this exit code.
    Exit(u8),
}

/// What the fleet has to know about where it runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// Seconds that the whole stop may take, if that is limited.
    pub stop_timeout: Option<u64>,
}

/// Exit code and reason of a leaving that has begun; the first cause fixes both.
#[derive(Clone, Copy, Debug)]
struct ExitDecision {
    cause: ExitCause,
    code: u8,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Running,
    /// Processes from `told` on were asked to stop.
    Stopping {
        decision: ExitDecision,
        first_stopping: usize,
        /// When the next `waiting for` line is due.
        report_at: Time,
    },
    /// The processes are gone; what else there is was asked to go. SIGKILL follows at `kill_at`; rsup leaves at
    /// `quit_at` whoever is left.
    TerminatingRemaining {
        decision: ExitDecision,
        kill_at: Option<Time>,
        quit_at: Option<Time>,
    },
    Exited,
}

/// The queue of actions keeps room for so many when it is empty.
const ACTIONS_KEPT: usize = 64;
/// Seconds between two `waiting for` lines.
const REPORT_INTERVAL: i64 = 3;

struct ManagedProcess {
    spec: ProcessSpec,
    process: Process,
    /// Order of the last exits: a later exit has a higher number.
    exit_order: u64,
}

/// All processes in start order.
pub struct ProcessSet {
    processes: Vec<ManagedProcess>,
    settings: Settings,
    phase: Phase,
    deadlines: BTreeSet<(Time, ProcId)>,
    /// Members of which something is still to come by itself.
    active: usize,
    /// Members told to stop that hold up the next priority.
    blocking_stop: usize,
    exits: u64,
    /// Exit code that the first process to go FATAL asks for.
    first_fatal: Option<u8>,
    /// When the first TERM, INT or QUIT was received.
    first_request: Option<Time>,
    /// End of `stop_timeout`.
    stop_deadline: Option<Time>,
    actions: VecDeque<Action>,
}

impl ProcessSet {
    /// Processes with these laws, in start order: group priority must not fall from one to the next.
    #[must_use]
    pub fn new(specs: Vec<ProcessSpec>, settings: Settings) -> Self {
        let managed = |spec| ManagedProcess { spec, process: Process::default(), exit_order: 0 };
        Self {
            processes: specs.into_iter().map(managed).collect(),
            settings,
            phase: Phase::Running,
            deadlines: BTreeSet::new(),
            active: 0,
            blocking_stop: 0,
            exits: 0,
            first_fatal: None,
            first_request: None,
            stop_deadline: None,
            actions: VecDeque::new(),
        }
    }

    /// The next thing to do, in order.
    pub fn next_action(&mut self) -> Option<Action> {
        let action = self.actions.pop_front();
        if action.is_none() {
            // A thousand programs at once take room that is not needed again before they stop.
            self.actions.shrink_to(ACTIONS_KEPT);
        }
        action
    }

    /// Whether there is more to do.
    #[must_use]
    pub fn has_actions(&self) -> bool {
        !self.actions.is_empty()
    }

    /// The process, if there is one of that number.
    #[must_use]
    pub fn process(&self, id: ProcId) -> Option<&Process> {
        self.processes.get(id.0).map(|managed| &managed.process)
    }

    /// When [`ProcessSet::tick`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let own = match self.phase {
            Phase::Exited => return None,
            Phase::Running => None,
            Phase::Stopping { report_at, .. } => earliest(Some(report_at), self.stop_deadline),
            Phase::TerminatingRemaining { kill_at, quit_at, .. } => earliest(kill_at, quit_at),
        };
        earliest(own, self.deadlines.first().map(|(time, _)| *time))
    }

    /// Whether [`ProcessSet::tick`] has something to do now.
    #[must_use]
    pub fn is_due(&self, now: Time) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// rsup is up: starts what has `autostart`.
    pub fn start_autostart(&mut self, now: Time) {
        if !self.processes.iter().any(|managed| managed.spec.autostart) {
            self.actions.push_back(Action::Log(SupervisorMessage::NothingToStart));
            return self.terminate_remaining(ExitDecision { cause: ExitCause::NothingToStart, code: 2 }, now);
        }
        for id in self.ids(0) {
            if self.processes.get(id.0).is_some_and(|managed| managed.spec.autostart) {
                self.handle(id, Event::Start, now);
            }
        }
    }

    /// Something has happened to one process.
    pub fn apply(&mut self, id: ProcId, event: Event, now: Time) {
        if self.has_exited() {
            return;
        }
        let before = self.active;
        self.handle(id, event, now);
        self.stop_next_priority(now);
        if before > 0 && self.active == 0 && matches!(self.phase, Phase::Running) {
            self.actions.push_back(Action::Reap);
        }
    }

    /// A signal has come.
    pub fn receive(&mut self, received: SignalInfo, context: RunContext, now: Time) {
        let signal = received.signal;
        match route_signal(received, context) {
            SignalAction::Shutdown => self.shutdown(signal, now),
            SignalAction::Forward => self.actions.push_back(Action::Forward(signal)),
            SignalAction::Suspend => self.actions.extend([Action::Forward(Signal::STOP), Action::Suspend]),
            SignalAction::Drop => self.actions.push_back(Action::Log(SupervisorMessage::Dropped(signal))),
            SignalAction::Reap => self.actions.push_back(Action::Log(SupervisorMessage::ChildQuit)),
        }
    }

    /// A signal asks for the end. The second one, at least a second after the first, means it.
    fn shutdown(&mut self, signal: Signal, now: Time) {
        if self.has_exited() {
            return;
        }
        self.actions.push_back(Action::Log(SupervisorMessage::Received(signal)));
        match self.first_request {
            None => {
                self.first_request = Some(now);
                self.stop(ExitDecision { cause: ExitCause::Signal(signal), code: 0 }, now);
            }
            Some(first) if now >= first.plus_secs(1) => self.kill(now),
            Some(_) => {}
        }
    }

    /// The kernel was asked for dead children: whether it had some, and whether there are living ones.
    pub fn on_reaped(&mut self, dead: bool, living: bool, now: Time) {
        match self.phase {
            Phase::Running if !living && self.active == 0 => {
                self.terminate_remaining(self.decision_when_all_ended(), now)
            }
            Phase::TerminatingRemaining { decision, .. } if !living => self.quit(decision),
            // Where rsup is not PID 1, a death may have given it children that it could not reach before.
            Phase::TerminatingRemaining { kill_at, .. } if dead => {
                let signal = if kill_at.is_some() { Signal::TERM } else { Signal::KILL };
                self.actions.push_back(Action::SignalRemaining(signal));
            }
            Phase::Running | Phase::Stopping { .. } | Phase::TerminatingRemaining { .. } | Phase::Exited => {}
        }
    }

    /// The last sweep could reach nobody: there is no list of what is left. Only what has been sent SIGKILL before is
    /// still waited for.
    pub fn on_sweep_unreachable(&mut self, now: Time) {
        if let Phase::TerminatingRemaining { decision, quit_at, .. } = self.phase {
            let wait_secs = if self.active == 0 { now } else { now.plus_secs(KILL_GRACE_SECS) };
            let quit_at = Some(quit_at.unwrap_or(wait_secs));
            self.phase = Phase::TerminatingRemaining { decision, kill_at: None, quit_at };
        }
    }

    /// Time has passed: meets every deadline up to now, those included that this brings about.
    pub fn tick(&mut self, now: Time) {
        while !self.has_exited() && (self.tick_process(now) || self.tick_phase(now)) {}
    }

    fn has_exited(&self) -> bool {
        matches!(self.phase, Phase::Exited)
    }

    fn tick_process(&mut self, now: Time) -> bool {
        let due = self.deadlines.first().filter(|(deadline, _)| *deadline <= now).map(|(_, id)| *id);
        if let Some(id) = due {
            self.apply(id, Event::Tick, now);
        }
        due.is_some()
    }

    fn tick_phase(&mut self, now: Time) -> bool {
        let due = |deadline: Option<Time>| deadline.is_some_and(|deadline| now >= deadline);
        match self.phase {
            Phase::Stopping { .. } if due(self.stop_deadline) => self.kill(now),
            Phase::Stopping { decision, first_stopping, report_at } if now >= report_at => {
                self.phase =
                    Phase::Stopping { decision, first_stopping, report_at: now.plus_secs(REPORT_INTERVAL) };
                self.report();
            }
            Phase::TerminatingRemaining { kill_at, .. } if due(kill_at) => {
                self.actions.push_back(Action::Log(SupervisorMessage::KillingRemaining));
                self.kill(now);
            }
            Phase::TerminatingRemaining { decision, quit_at, .. } if due(quit_at) => {
                self.actions.push_back(Action::Log(SupervisorMessage::LeftBehind));
                self.quit(decision);
            }
            Phase::Running | Phase::Stopping { .. } | Phase::TerminatingRemaining { .. } | Phase::Exited => {
                return false;
            }
        }
        true
    }

    /// One step of one process, with the books kept: deadlines, counts, and what its end means for all.
    fn handle(&mut self, id: ProcId, event: Event, now: Time) {
        let first_stopping = self.first_stopping();
        let Some(managed) = self.processes.get_mut(id.0) else { return };
        let before = (managed.process.state(), managed.process.is_active(), managed.process.blocks_stop());
        let deadline_before = managed.process.deadline(&managed.spec);
        let actions = &mut self.actions;
        managed
            .process
            .handle(&managed.spec, event, now, &mut |action| actions.push_back(Action::Process(id, action)));

        let deadline = managed.process.deadline(&managed.spec);
        if deadline != deadline_before {
            deadline_before.map(|old| self.deadlines.remove(&(old, id)));
            deadline.map(|new| self.deadlines.insert((new, id)));
        }
        if matches!(event, Event::Exited { .. }) {
            self.exits += 1;
            managed.exit_order = self.exits;
        }
        self.active = recount(self.active, before.1, managed.process.is_active());
        if id.0 >= first_stopping {
            self.blocking_stop = recount(self.blocking_stop, before.2, managed.process.blocks_stop());
        }
        if managed.process.state() != before.0 {
            self.check_shutdown_on(id, now);
        }
    }

    /// A process has changed its state: whether that ends the whole (`shutdown_on`).
    fn check_shutdown_on(&mut self, id: ProcId, now: Time) {
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        let Some(ManagedProcess { spec, process, .. }) = self.processes.get(id.0) else { return };
        let status = process.last_exit().map(|(exit, _)| exit.exit_code());
        match (process.state(), spec.shutdown_on) {
            (ProcessState::Fatal, shutdown_on) => {
                let code = status.filter(|status| *status != 0).unwrap_or(1);
                self.first_fatal.get_or_insert(code);
                match shutdown_on {
                    ShutdownOn::Never => {}
                    ShutdownOn::Fatal | ShutdownOn::Exited => {
                        self.stop(ExitDecision { cause: ExitCause::Fatal(id), code }, now);
                    }
                }
            }
            (ProcessState::Exited { restart_at: None }, ShutdownOn::Exited) => {
                self.stop(ExitDecision { cause: ExitCause::Exited(id), code: status.unwrap_or(0) }, now);
            }
            (ProcessState::Exited { .. }, ShutdownOn::Never | ShutdownOn::Fatal | ShutdownOn::Exited) => {}
            (ProcessState::Stopped | ProcessState::Starting { .. } | ProcessState::Running, _) => {}
            (ProcessState::Backoff { .. } | ProcessState::Stopping { .. }, _) => {}
        }
    }

    /// Nothing runs and nothing will: the first that went FATAL decides, else the first whose last exit was not
    /// expected.
    fn decision_when_all_ended(&self) -> ExitDecision {
        let unexpected = |managed: &ManagedProcess| match managed.process.last_exit() {
            Some((exit, false)) => Some((managed.exit_order, exit.exit_code())),
            Some((_, true)) | None => None,
        };
        let first_unexpected =
            || self.processes.iter().filter_map(unexpected).min().map(|(_, status)| status);
        ExitDecision {
            cause: ExitCause::AllEnded,
            code: self.first_fatal.or_else(first_unexpected).unwrap_or(0),
        }
    }

    /// Begins to stop everything; nothing starts from here on.
    fn stop(&mut self, decision: ExitDecision, now: Time) {
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        self.stop_deadline = self
            .settings
            .stop_timeout
            .map(|seconds| now.plus_secs(i64::try_from(seconds).unwrap_or(i64::MAX)));
        self.phase = Phase::Stopping {
            decision,
            first_stopping: self.processes.len(),
            report_at: now.plus_secs(REPORT_INTERVAL),
        };
        self.cancel_spawns(now);
        for id in self.ids(0) {
            self.handle(id, Event::DisableStarts, now);
        }
        self.stop_next_priority(now);
        self.report();
    }

    /// Takes back the starts that are decided but not carried out yet.
    fn cancel_spawns(&mut self, now: Time) {
        let mut cancelled = Vec::new();
        self.actions.retain(|action| match action {
            Action::Process(id, ProcessAction::Spawn) => {
                cancelled.push(*id);
                false
            }
            Action::Process(..) | Action::Log(_) | Action::Reap => true,
            Action::Forward(_) | Action::Suspend | Action::SignalRemaining(_) | Action::Exit(_) => true,
        });
        for id in cancelled {
            self.handle(id, Event::SpawnCancelled, now);
        }
    }

    /// Asks the next priority to stop while nobody holds it up, and goes on to the sweep behind the last.
    fn stop_next_priority(&mut self, now: Time) {
        while let Phase::Stopping { decision, first_stopping, report_at } = self.phase
            && self.blocking_stop == 0
        {
            let Some(last) = first_stopping.checked_sub(1).and_then(|last| self.processes.get(last)) else {
                return self.terminate_remaining(decision, now);
            };
            let priority = last.spec.group_priority;
            let same = |managed: &&ManagedProcess| managed.spec.group_priority == priority;
            let count = self.processes.iter().take(first_stopping).rev().take_while(same).count();
            let first = first_stopping - count;
            self.phase = Phase::Stopping { decision, first_stopping: first, report_at };
            for id in self.ids(first).take(count) {
                // It counts from now on, whatever the step makes of it.
                let holds = self.process(id).is_some_and(Process::blocks_stop);
                self.blocking_stop += usize::from(holds);
                self.handle(id, Event::Stop, now);
            }
        }
    }

    /// The processes are done with: whatever else runs is asked to go.
    fn terminate_remaining(&mut self, decision: ExitDecision, now: Time) {
        let wait_secs = self.processes.iter().map(|managed| managed.spec.stopwaitsecs).max().unwrap_or(0);
        let kill_at = earliest(Some(now.plus_secs(wait_secs)), self.stop_deadline);
        self.phase = Phase::TerminatingRemaining { decision, kill_at, quit_at: None };
        self.actions.push_back(Action::SignalRemaining(Signal::TERM));
    }

    /// Nobody waits any longer: SIGKILL to everything.
    fn kill(&mut self, now: Time) {
        let (decision, quit_at) = match self.phase {
            Phase::Stopping { decision, .. } => (decision, None),
            Phase::TerminatingRemaining { decision, quit_at, .. } => (decision, quit_at),
            Phase::Running | Phase::Exited => return,
        };
        // Whoever asks again and again does not put the end off.
        let quit_at = Some(quit_at.unwrap_or_else(|| now.plus_secs(KILL_GRACE_SECS)));
        self.phase = Phase::TerminatingRemaining { decision, kill_at: None, quit_at };
        for id in self.ids(0) {
            self.handle(id, Event::Kill, now);
        }
        self.actions.push_back(Action::SignalRemaining(Signal::KILL));
    }

    fn quit(&mut self, ExitDecision { cause, code }: ExitDecision) {
        self.phase = Phase::Exited;
        self.actions.push_back(Action::Log(SupervisorMessage::Exiting { cause, code }));
        self.actions.push_back(Action::Exit(code));
    }

    /// Says who is still there.
    fn report(&mut self) {
        let waiting: Vec<ProcId> =
            self.ids(0).filter(|id| self.process(*id).is_some_and(Process::has_leader)).collect();
        if !waiting.is_empty() {
            self.actions.push_back(Action::Log(SupervisorMessage::Waiting(waiting)));
        }
    }

    /// The first of those that were asked to stop.
    fn first_stopping(&self) -> usize {
        match self.phase {
            Phase::Running => self.processes.len(),
            Phase::Stopping { first_stopping, .. } => first_stopping,
            Phase::TerminatingRemaining { .. } | Phase::Exited => 0,
        }
    }

    fn ids(&self, from: usize) -> impl Iterator<Item = ProcId> + use<> {
        (from..self.processes.len()).map(ProcId)
    }
}

fn earliest(a: Option<Time>, b: Option<Time>) -> Option<Time> {
    a.into_iter().chain(b).min()
}

fn recount(count: usize, before: bool, after: bool) -> usize {
    (count + usize::from(after)).saturating_sub(usize::from(before))
}
