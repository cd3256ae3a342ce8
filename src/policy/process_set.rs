//! The state machine of all processes together: in which order they start and stop, which deadline is next, and when
//! and with which exit code rsup exits.

use super::kill_deadlines::{KILL_GRACE_SECS, KillDeadlines, KillOrGiveUp, ShutdownDeadlines};
use super::message::{ExitCause, SupervisorMessage};
use super::process::{Event, Process, ProcessAction, ProcessState};
use super::signal::{Signal, SignalTarget};
use super::signal_routing::{ReceivedSignal, Sender, SignalAction, SignalContext, route_signal};
use super::spec::{ProcessIndex, ProcessSpec, ShutdownOn, StartupWait};
use super::startup::{Goals, StartupOrder, WaitReason};
use super::state_name::StateName;
use super::time::Time;
use super::transition::{Before, Entered, Transition, entered_states};
use std::collections::VecDeque;
use std::mem;
use std::ops::Range;

/// Seconds between two log lines `waiting for ... to die`, which name the processes that have not exited yet.
const REPORT_INTERVAL_SECS: i64 = 3;
/// A signal that requests the stop counts as a second request only if it arrives at least this many seconds after the
/// first one. At a second request, rsup sends SIGKILL to every process.
const SECOND_REQUEST_AFTER_SECS: i64 = 1;
/// When rsup stops every process, rsup stops the event listeners only this number of seconds after the last failure or
/// unrequested exit of a program. In this time, a listener can act on the event about that program. A listener receives
/// no event while the listener is STARTING, so the time of such a listener begins when its `startsecs` have elapsed.
const LISTENER_GRACE_SECS: i64 = 1;
/// The capacity that the queue of actions and the list of changed processes keep when they are empty.
const MIN_QUEUE_CAPACITY: usize = 64;

/// What the caller has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Carry out an action for one process.
    Process(ProcessIndex, ProcessAction),
    /// Write a log message.
    Log(SupervisorMessage),
    /// Tell the event listeners that a process has entered a state.
    NotifyProcessState(ProcessIndex, Transition),
    /// Tell the event listeners that rsup begins to stop every process.
    NotifySupervisorStopping,
    /// Reap the children that have exited, then call [`ProcessSet::on_reaped`].
    Reap,
    /// Send a signal to the process group of every process.
    Forward(Signal),
    /// Stop rsup itself with SIGSTOP.
    Suspend,
    /// SIGKILL is near. Send SIGTERM and SIGCONT to the processes that no request to stop has reached:
    /// - the members of the process groups of `only_leader_asked`, except the leaders.
    /// - the processes that belong to no process group of rsup's programs.
    AskRemainingToStop { only_leader_asked: Vec<ProcessIndex> },
    /// Send SIGTERM and SIGCONT to the processes that rsup has adopted since [`Action::AskRemainingToStop`], unless
    /// they belong to a process group of rsup's programs.
    AskAdoptedToStop,
    /// Send a signal to every process that is still alive and was not sent this signal before. Then reap the children
    /// that have exited, and call [`ProcessSet::on_reaped`]. After that, call:
    /// - [`ProcessSet::on_sigterm_sent`] if the signal is SIGTERM and at least one process was sent SIGTERM now.
    /// - [`ProcessSet::on_remaining_not_listed`] if rsup cannot find out which processes are still alive.
    /// - [`ProcessSet::on_remaining_not_permitted`] if rsup has no permission to send SIGKILL to any process that is
    ///   left.
    SignalRemaining(Signal),
    /// Execute rsup again.
    Reload,
    /// Exit with this exit code.
    Exit(u8),
}

/// The settings that apply to all processes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// Seconds from the beginning of the stop until rsup sends SIGKILL to everything (the stop deadline). None if there
    /// is no such limit.
    pub stop_timeout: Option<u64>,
    /// Whether requests of clients can reach rsup: the request pipe could be created. This stays the same for the whole
    /// run. [`ProcessSet::accepts_requests`] says whether rsup carries out the requests.
    pub clients_can_reach_rsup: bool,
    /// `startup=ordered`: the processes with a lower (group priority, priority) must be up before the others start.
    pub ordered_startup: bool,
    /// Whether the actions contain [`Action::NotifyProcessState`] and [`Action::NotifySupervisorStopping`].
    pub notifies_listeners: bool,
}

/// rsup's exit code, and the reason why rsup exits. The first cause fixes both, with one exception: a signal or a
/// client's request that makes rsup exit replaces a reload.
#[derive(Clone, Copy, Debug)]
struct ExitDecision {
    cause: ExitCause,
    code: u8,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Running,
    /// rsup stops the processes. The groups with the highest priority number are stopped first.
    Stopping {
        decision: ExitDecision,
        /// The processes from this index on were requested to stop.
        first_stopping: usize,
        /// When the next log line `waiting for ... to die` is due.
        report_at: Time,
        /// Whether everything was asked to stop, because the stop deadline is near.
        all_asked: bool,
    },
    /// rsup sends SIGTERM or SIGKILL to everything that is still alive, for example to orphans that it has adopted.
    TerminatingRemaining {
        decision: ExitDecision,
        kill_deadlines: KillDeadlines,
    },
    Exiting,
}

struct ManagedProcess {
    spec: ProcessSpec,
    process: Process,
    /// The position of this process's last exit in the order of all exits, counted from 1. 0 if the process has not
    /// exited.
    exit_order: u64,
    /// The position of this process's last entry into FATAL in the order of all entries into FATAL, counted from 1. 0
    /// if the process has not entered FATAL.
    fatal_order: u64,
    /// Whether the process is in `ProcessSet::changed`.
    is_listed_as_changed: bool,
}

/// All processes, in the order in which rsup starts them.
pub struct ProcessSet {
    processes: Vec<ManagedProcess>,
    settings: Settings,
    phase: Phase,
    /// The deadlines of all processes, sorted. One change moves 16 bytes for each later deadline, which is little even
    /// with thousands of processes.
    deadlines: Vec<(Time, ProcessIndex)>,
    /// The number of processes that are [active](Process::is_active), without the event listeners.
    active_programs: usize,
    /// The number of event listeners that are [active](Process::is_active).
    active_listeners: usize,
    /// When a start of a program last failed, or a program last exited without a request to stop.
    last_unrequested_end: Option<Time>,
    /// While rsup stops every process: the time at which it stops the event listeners. `None` if it does not wait for a
    /// time.
    stop_listeners_at: Option<Time>,
    /// The number of processes that were requested to stop and that [block the
    /// stop](Process::blocks_stop_of_lower_priorities). While there is one, rsup does not stop the processes with a
    /// lower group priority.
    blocking_stop_of_lower_priorities: usize,
    /// The number of exits of all processes.
    exits: u64,
    /// How often a process has entered FATAL.
    fatals: u64,
    /// What the processes wait for before their first start.
    startup: StartupOrder,
    /// The processes that have nothing left to wait for, but were not started yet.
    ready_to_start: VecDeque<ProcessIndex>,
    /// When rsup received the first signal that requests the stop. A signal of an event listener does not count.
    first_shutdown_signal_at: Option<Time>,
    /// The deadlines of `stop_timeout`, once the stop has begun.
    shutdown_deadlines: Option<ShutdownDeadlines>,
    /// The received signals that were sent to the programs.
    logged_as_forwarded: Vec<Signal>,
    /// Whether rsup stays although no program runs: no program could be started at once when rsup started, and no
    /// client has requested a start yet.
    stays_without_programs: bool,
    /// Whether rsup will execute itself again after the stop.
    will_reload: bool,
    /// The processes whose state may have changed since the caller last took them.
    changed: Vec<ProcessIndex>,
    actions: VecDeque<Action>,
}

/// The public interface.
impl ProcessSet {
    /// Creates one process for each spec. The specs must be in the order in which the processes are started, which is
    /// by ascending group priority.
    #[must_use]
    pub fn new(mut specs: Vec<ProcessSpec>, settings: Settings) -> Self {
        // If there are only event listeners, they count as programs. Otherwise rsup would exit because no program
        // runs.
        if specs.iter().all(|spec| spec.is_listener) {
            specs.iter_mut().for_each(|spec| spec.is_listener = false);
        }
        let managed = |spec| ManagedProcess {
            spec,
            process: Process::default(),
            exit_order: 0,
            fatal_order: 0,
            is_listed_as_changed: false,
        };
        let startup = StartupOrder::new(&specs, settings.ordered_startup);
        Self {
            processes: specs.into_iter().map(managed).collect(),
            settings,
            phase: Phase::Running,
            deadlines: Vec::new(),
            active_programs: 0,
            active_listeners: 0,
            last_unrequested_end: None,
            stop_listeners_at: None,
            blocking_stop_of_lower_priorities: 0,
            exits: 0,
            fatals: 0,
            startup,
            ready_to_start: VecDeque::new(),
            first_shutdown_signal_at: None,
            shutdown_deadlines: None,
            logged_as_forwarded: Vec::new(),
            stays_without_programs: false,
            will_reload: false,
            changed: Vec::new(),
            actions: VecDeque::new(),
        }
    }

    /// Starts every process that has `autostart` or `dependent_startup`, as soon as it need not wait for another one.
    pub fn begin_first_starts(&mut self, now: Time) {
        let mut starting: Vec<(i64, ProcessIndex)> = Vec::new();
        for (index, ManagedProcess { spec, .. }) in self.processes.iter().enumerate() {
            if spec.autostart || spec.dependent_startup {
                // supervisord starts the processes with `autostart` first. The event listener
                // supervisord-dependent-startup then starts the others.
                let rank = if spec.autostart { i64::MIN } else { spec.start_rank };
                starting.push((rank, ProcessIndex(index)));
            }
        }
        starting.sort_unstable();
        // `request` is called for every process before the first start, because a start can only release processes
        // for which `request` was called.
        let (at_once, waiting): (Vec<_>, Vec<_>) =
            starting.into_iter().map(|(_, id)| id).partition(|id| self.startup.request(*id));
        let is_program = |id: &ProcessIndex| self.spec(*id).is_some_and(|spec| !spec.is_listener);
        if !at_once.iter().any(is_program) {
            if !self.settings.clients_can_reach_rsup || self.processes.is_empty() {
                self.actions.push_back(Action::Log(SupervisorMessage::NothingToStart));
                let decision = ExitDecision { cause: ExitCause::NothingToStart, code: 2 };
                return self.terminate_remaining(decision, now);
            }
            self.stays_without_programs = true;
            if waiting.is_empty() {
                self.actions.push_back(Action::Log(SupervisorMessage::WaitingForStartRequest));
            }
        }
        for id in waiting {
            let reasons = self.startup.reasons(id);
            self.actions.push_back(Action::Log(SupervisorMessage::StartWaits { id, reasons }));
        }
        for id in at_once {
            self.handle(id, Event::Start, now);
        }
    }

    /// Applies an event of one process.
    pub fn apply(&mut self, id: ProcessIndex, event: Event, now: Time) {
        if self.is_exiting() {
            return;
        }
        let active_before = self.active_programs + self.active_listeners;
        self.handle(id, event, now);
        self.stop_next_priority(now);
        match self.phase {
            // The caller reaps and then calls `on_reaped`, which makes rsup exit if no child is left.
            Phase::Running if active_before > 0 && self.active_programs == 0 => {
                self.actions.push_back(Action::Reap)
            }
            Phase::Running | Phase::Stopping { .. } | Phase::TerminatingRemaining { .. } | Phase::Exiting => {
            }
        }
    }

    /// Applies a signal that rsup has received.
    pub fn receive(&mut self, received: ReceivedSignal, context: SignalContext, now: Time) {
        let signal = received.signal;
        match route_signal(received, context) {
            SignalAction::Shutdown => self.shutdown(received, now),
            SignalAction::Forward => {
                // The signal may be the STOPSIGNAL of the base image, so the user may expect that it stops rsup. rsup
                // logs once for each signal that it only forwards the signal. A periodic task may send a signal often,
                // and a line each time would fill the log.
                if !self.logged_as_forwarded.contains(&signal) {
                    self.logged_as_forwarded.push(signal);
                    self.actions.push_back(Action::Log(SupervisorMessage::Forwarding(signal)));
                }
                self.actions.push_back(Action::Forward(signal));
            }
            SignalAction::Suspend => self.actions.extend([Action::Forward(Signal::STOP), Action::Suspend]),
            SignalAction::Drop => self.actions.push_back(Action::Log(SupervisorMessage::Dropped(signal))),
            // The caller has reaped the children before it applies a received signal, so rsup only logs SIGCHLD here.
            SignalAction::LogSigchld => {
                self.actions.push_back(Action::Log(SupervisorMessage::SigchldReceived))
            }
        }
    }

    /// Applies a client's request to start a process. The request has no effect once rsup has begun to stop every
    /// process.
    pub fn request_start(&mut self, id: ProcessIndex, now: Time) {
        if self.accepts_requests() {
            self.stays_without_programs = false;
            self.startup.cancel_wait(id);
            self.apply(id, Event::StartRequested, now);
        }
    }

    /// Applies a client's request to stop a process. The request has no effect once rsup has begun to stop every
    /// process.
    pub fn request_stop(&mut self, id: ProcessIndex, now: Time) {
        if self.accepts_requests() {
            self.startup.cancel_wait(id);
            self.apply(id, Event::StopRequested, now);
        }
    }

    /// Applies a client's request to send a signal to the leader of a process. The request has no effect during the
    /// stop, and on a process without a leader.
    pub fn request_signal(&mut self, id: ProcessIndex, signal: Signal) {
        if self.accepts_requests() && self.process(id).is_some_and(Process::has_leader) {
            let action = ProcessAction::Send(signal, SignalTarget::Leader);
            self.actions.push_back(Action::Process(id, action));
        }
    }

    /// Applies a client's request to stop every process and to exit. The request replaces a reload that has begun.
    pub fn request_shutdown(&mut self, now: Time) {
        let decision = ExitDecision { cause: ExitCause::ShutdownRequest, code: 0 };
        self.cancel_reload(decision);
        self.stop(decision, now);
    }

    /// Applies a client's request to stop every process and to execute rsup again.
    pub fn request_reload(&mut self, now: Time) {
        self.will_reload |= self.accepts_requests();
        self.stop(ExitDecision { cause: ExitCause::ReloadRequest, code: 0 }, now);
    }

    /// Whether rsup carries out every request of a client. Once rsup has begun to stop every process, it carries out
    /// only a request to shut down.
    #[must_use]
    pub fn accepts_requests(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    /// Whether rsup will execute itself again.
    #[must_use]
    pub fn will_reload(&self) -> bool {
        self.will_reload
    }

    /// Whether event listeners are [active](Process::is_active), no other process is, and rsup has not begun to stop
    /// every process. In this case, the listeners do not keep rsup from exiting.
    #[must_use]
    pub fn only_listeners_run(&self) -> bool {
        self.accepts_requests() && self.active_programs == 0 && self.active_listeners > 0
    }

    /// Stops a process that is STARTING or RUNNING, and starts the process again. If `also_if_exited` is true, also
    /// starts a process that is EXITED.
    pub fn restart(&mut self, id: ProcessIndex, also_if_exited: bool, now: Time) {
        match self.process(id).map(Process::state) {
            Some(ProcessState::Starting { .. } | ProcessState::Running) => {
                self.apply(id, Event::StopRequested, now);
            }
            Some(ProcessState::Exited { .. }) if also_if_exited => {}
            _ => return,
        }
        self.apply(id, Event::StartRequested, now);
    }

    /// Applies the result of reaping. `any_child_changed` says whether a child was reaped or was stopped by a signal,
    /// and `any_child_left` says whether rsup still has a child. If [`ProcessSet::only_listeners_run`], the event
    /// listeners do not count.
    pub fn on_reaped(&mut self, any_child_changed: bool, any_child_left: bool, now: Time) {
        match self.phase {
            Phase::Running
                if self.active_programs == 0 && !any_child_left && !self.stays_without_programs =>
            {
                let decision = self.decision_when_all_ended();
                if self.active_listeners > 0 {
                    self.stop(decision, now);
                } else {
                    self.terminate_remaining(decision, now);
                }
            }
            // If a process that has exited had children, rsup may have adopted them. It is possible that no request to
            // stop has reached these children.
            Phase::Stopping { all_asked: true, .. } if any_child_changed => {
                self.actions.push_back(Action::AskAdoptedToStop);
            }
            Phase::Running | Phase::Stopping { .. } => {}
            Phase::TerminatingRemaining { decision, .. } if !any_child_left => self.exit(decision),
            // If a process that has exited had children, rsup may have adopted them. If rsup is not PID 1, rsup signals
            // only its own children. The adopted processes were not its children before, so no earlier
            // `SignalRemaining` has reached them.
            Phase::TerminatingRemaining { kill_deadlines, .. } if any_child_changed => {
                self.actions.push_back(Action::SignalRemaining(kill_deadlines.first_signal(now)));
            }
            Phase::TerminatingRemaining { .. } | Phase::Exiting => {}
        }
    }

    /// Notes that the last [`Action::SignalRemaining`] has sent SIGTERM to a process that was not asked to stop before.
    pub fn on_sigterm_sent(&mut self, now: Time) {
        match &mut self.phase {
            Phase::TerminatingRemaining { kill_deadlines, .. } => kill_deadlines.note_asked(now),
            Phase::Running | Phase::Stopping { .. } | Phase::Exiting => {}
        }
    }

    /// Applies the result of the last [`Action::SignalRemaining`]: rsup has no permission to signal any child that is
    /// left. rsup exits without waiting for these children.
    pub fn on_remaining_not_permitted(&mut self, now: Time) {
        match &mut self.phase {
            Phase::TerminatingRemaining { kill_deadlines, .. } => kill_deadlines.give_up_at(now),
            Phase::Running | Phase::Stopping { .. } | Phase::Exiting => {}
        }
    }

    /// Notes that the last [`Action::SignalRemaining`] failed, because rsup cannot list its children. rsup exits at
    /// once if no process of the configuration file is active. Otherwise rsup waits up to `KILL_GRACE_SECS` seconds for
    /// the active processes to exit.
    pub fn on_remaining_not_listed(&mut self, now: Time) {
        let any_active = self.active_programs + self.active_listeners > 0;
        match &mut self.phase {
            Phase::TerminatingRemaining { kill_deadlines, .. } => {
                kill_deadlines.give_up_at(if any_active { now.plus_secs(KILL_GRACE_SECS) } else { now });
            }
            Phase::Running | Phase::Stopping { .. } | Phase::Exiting => {}
        }
    }

    /// Handles every deadline up to `now`, including a deadline that is set while another deadline is handled.
    pub fn tick(&mut self, now: Time) {
        while !self.is_exiting() && (self.tick_first_due_process(now) || self.tick_phase(now)) {}
    }

    /// Whether the process [may run](Process::runs_or_may_restart) and rsup has not begun to stop every process.
    #[must_use]
    pub fn may_start_again(&self, id: ProcessIndex) -> bool {
        self.accepts_requests() && self.process(id).is_some_and(Process::runs_or_may_restart)
    }

    /// When [`ProcessSet::tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let phase_deadline = match self.phase {
            Phase::Exiting => return None,
            Phase::Running => None,
            Phase::Stopping { report_at, all_asked, .. } => {
                let timeout_deadline =
                    self.shutdown_deadlines.map(|times| if all_asked { times.kill_at } else { times.ask_at });
                Time::earliest(self.stop_listeners_at.or(Some(report_at)), timeout_deadline)
            }
            Phase::TerminatingRemaining { kill_deadlines, .. } => kill_deadlines.deadline(),
        };
        Time::earliest(phase_deadline, self.deadlines.first().map(|(time, _)| *time))
    }

    /// When everything gets SIGKILL because of `stop_timeout`. None if `stop_timeout` is not set, or if no stop has
    /// begun.
    #[must_use]
    pub fn stop_deadline(&self) -> Option<Time> {
        self.shutdown_deadlines.map(|deadline| deadline.kill_at)
    }

    /// Whether [`ProcessSet::tick`] is due now.
    #[must_use]
    pub fn is_due(&self, now: Time) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// Removes the next action from the queue.
    pub fn next_action(&mut self) -> Option<Action> {
        let action = self.actions.pop_front();
        if action.is_none() {
            // The queue is long only while many programs start or stop at once. Its memory is not needed at other
            // times.
            self.actions.shrink_to(MIN_QUEUE_CAPACITY);
        }
        action
    }

    /// Removes a process from the list of those whose state may have changed.
    pub fn next_changed(&mut self) -> Option<ProcessIndex> {
        let Some(id) = self.changed.pop() else {
            self.changed.shrink_to(MIN_QUEUE_CAPACITY);
            return None;
        };
        if let Some(managed) = managed_mut(&mut self.processes, id) {
            managed.is_listed_as_changed = false;
        }
        Some(id)
    }

    /// Whether the queue contains an action.
    #[must_use]
    pub fn has_actions(&self) -> bool {
        !self.actions.is_empty()
    }

    #[must_use]
    pub fn process(&self, id: ProcessIndex) -> Option<&Process> {
        managed(&self.processes, id).map(|managed| &managed.process)
    }

    /// What the process waits for before its first start. Empty if it does not wait.
    #[must_use]
    pub fn wait_reasons(&self, id: ProcessIndex) -> Vec<WaitReason> {
        if self.accepts_requests() { self.startup.reasons(id) } else { Vec::new() }
    }

    #[must_use]
    pub fn spec(&self, id: ProcessIndex) -> Option<&ProcessSpec> {
        managed(&self.processes, id).map(|managed| &managed.spec)
    }
}

/// The transitions from one phase to the next.
impl ProcessSet {
    /// Begins the stop at the first signal that requests it. A later such signal, at least `SECOND_REQUEST_AFTER_SECS`
    /// seconds after the first one, makes rsup kill every process. A signal of an event listener begins the stop too,
    /// but counts neither as the first nor as the later signal: a listener may send a signal whenever a program stops,
    /// so it may send one for each program that rsup stops.
    fn shutdown(&mut self, received: ReceivedSignal, now: Time) {
        let signal = received.signal;
        self.cancel_reload(ExitDecision { cause: ExitCause::Signal(signal), code: 0 });
        if self.is_exiting() {
            return;
        }
        self.actions.push_back(Action::Log(SupervisorMessage::ReceivedExitRequest(signal)));
        let decision = ExitDecision { cause: ExitCause::Signal(signal), code: 0 };
        match self.first_shutdown_signal_at {
            _ if received.sender == Sender::Listener => self.stop(decision, now),
            None => {
                self.first_shutdown_signal_at = Some(now);
                self.stop(decision, now);
            }
            Some(first) if now >= first.plus_secs(SECOND_REQUEST_AFTER_SECS) => self.kill(now),
            Some(_) => {}
        }
    }

    /// Makes rsup exit instead of executing itself again, even if the reload is the next action. Has no effect if no
    /// client has requested a reload.
    fn cancel_reload(&mut self, exit: ExitDecision) {
        self.will_reload = false;
        match &mut self.phase {
            Phase::Stopping { decision, .. } | Phase::TerminatingRemaining { decision, .. } => {
                if decision.cause == ExitCause::ReloadRequest {
                    *decision = exit;
                }
            }
            Phase::Exiting => {
                let is_reload = |action: &Action| {
                    matches!(action, Action::Reload | Action::Log(SupervisorMessage::Reloading))
                };
                if self.actions.contains(&Action::Reload) {
                    self.actions.retain(|action| !is_reload(action));
                    self.exit(exit);
                }
            }
            Phase::Running => {}
        }
    }

    /// Begins the stop if `shutdown_on` names the new state of this process.
    fn apply_shutdown_on(&mut self, id: ProcessIndex, now: Time) {
        match self.phase {
            Phase::Running => {}
            Phase::Stopping { .. } | Phase::TerminatingRemaining { .. } | Phase::Exiting => return,
        }
        let Some(ManagedProcess { spec, process, .. }) = managed(&self.processes, id) else { return };
        let last_code = process.last_exit().map(|(exit, _)| exit.exit_code());
        match (process.state(), spec.shutdown_on) {
            (ProcessState::Fatal, shutdown_on) => {
                let code = fatal_code(process);
                match shutdown_on {
                    ShutdownOn::Never => {}
                    ShutdownOn::Fatal | ShutdownOn::Exited => {
                        self.stop(ExitDecision { cause: ExitCause::Fatal(id), code }, now);
                    }
                }
            }
            (ProcessState::Exited { restart_at: None }, ShutdownOn::Exited) => {
                let code = last_code.unwrap_or(0);
                self.stop(ExitDecision { cause: ExitCause::Exited(id), code }, now);
            }
            (ProcessState::Exited { .. }, ShutdownOn::Never | ShutdownOn::Fatal | ShutdownOn::Exited) => {}
            (ProcessState::Stopped | ProcessState::Starting { .. } | ProcessState::Running, _) => {}
            (ProcessState::Backoff { .. } | ProcessState::Stopping { .. }, _) => {}
        }
    }

    /// Begins to stop every process. No process is started any more.
    fn stop(&mut self, decision: ExitDecision, now: Time) {
        match self.phase {
            Phase::Running => {}
            Phase::Stopping { .. } | Phase::TerminatingRemaining { .. } | Phase::Exiting => return,
        }
        self.shutdown_deadlines =
            self.settings.stop_timeout.map(|seconds| ShutdownDeadlines::from_timeout(now, seconds));
        self.phase = Phase::Stopping {
            decision,
            first_stopping: self.processes.len(),
            report_at: now.plus_secs(REPORT_INTERVAL_SECS),
            all_asked: false,
        };
        if self.settings.notifies_listeners {
            self.actions.push_back(Action::NotifySupervisorStopping);
        }
        self.cancel_spawns(now);
        for id in self.ids(0) {
            self.handle(id, Event::DisableStarts, now);
        }
        self.stop_next_priority(now);
        self.log_still_running();
    }

    /// Removes the actions [`ProcessAction::Spawn`] that are still in the queue, so that no further program is started.
    fn cancel_spawns(&mut self, now: Time) {
        let mut cancelled = Vec::new();
        self.actions.retain(|action| match action {
            Action::Process(id, ProcessAction::Spawn) => {
                cancelled.push(*id);
                false
            }
            Action::Process(..) | Action::Log(_) | Action::Reap => true,
            Action::NotifyProcessState(..) | Action::NotifySupervisorStopping => true,
            Action::Forward(_) | Action::Suspend | Action::Reload | Action::Exit(_) => true,
            Action::AskRemainingToStop { .. } | Action::AskAdoptedToStop | Action::SignalRemaining(_) => true,
        });
        for id in cancelled {
            self.handle(id, Event::SpawnCancelled, now);
        }
    }

    /// Requests the processes to stop, one group priority after another. The highest number comes first. Returns as
    /// soon as a process [blocks the stop](Process::blocks_stop_of_lower_priorities), or if event listeners of the next
    /// priority still have time to act on the last failure or unrequested exit of a program. After the lowest number,
    /// sends SIGTERM to everything that is still alive.
    fn stop_next_priority(&mut self, now: Time) {
        while let Phase::Stopping { decision, first_stopping, .. } = self.phase
            && self.blocking_stop_of_lower_priorities == 0
        {
            let not_requested = self.processes.get(..first_stopping).unwrap_or_default();
            let Some(last) = not_requested.last() else {
                return self.terminate_remaining(decision, now);
            };
            let priority = last.spec.group_priority;
            let same_priority = |managed: &&ManagedProcess| managed.spec.group_priority == priority;
            let count = not_requested.iter().rev().take_while(same_priority).count();
            let first = first_stopping - count;
            // rsup does not compute `stop_listeners_at` again before this time has come. The time includes the
            // `startsecs` of a STARTING listener. If the time were computed again after this listener has entered
            // RUNNING, `startsecs` would be left out, and the new time could be earlier.
            if self.stop_listeners_at.is_none() {
                self.stop_listeners_at =
                    self.listener_grace_end(first..first_stopping).filter(|at| now < *at);
            }
            if self.stop_listeners_at.is_some() {
                return;
            }
            self.request_stop_from(first, now);
        }
    }

    /// When the active event listeners with these indices have had the time to act on the last failure or unrequested
    /// exit of a program. `None` if no listener with these indices is active, or if no program has failed or has exited
    /// without a request to stop.
    fn listener_grace_end(&self, indices: Range<usize>) -> Option<Time> {
        let ended_at = self.last_unrequested_end?;
        let mut grace_begins_at = None;
        for ManagedProcess { spec, process, .. } in self.processes.get(indices).unwrap_or_default() {
            if spec.is_listener && process.is_active() {
                let gets_event_at = if let ProcessState::Starting { exec_succeeded_at } = process.state() {
                    exec_succeeded_at
                        .unwrap_or(ended_at)
                        .min(ended_at)
                        .plus_secs(spec.startsecs)
                        .max(ended_at)
                } else {
                    ended_at
                };
                grace_begins_at = grace_begins_at.max(Some(gets_event_at));
            }
        }
        grace_begins_at.map(|begin| begin.plus_secs(LISTENER_GRACE_SECS))
    }

    /// Requests every process whose index is at least `first` to stop, unless the process was requested to stop before.
    fn request_stop_from(&mut self, first: usize, now: Time) {
        let Phase::Stopping { first_stopping, .. } = &mut self.phase else { return };
        let count = first_stopping.saturating_sub(first);
        *first_stopping = first;
        for id in self.ids(first).take(count) {
            // `handle` updates `blocking_stop_of_lower_priorities` only if the event changes whether the process blocks
            // the stop. So a process that already blocks the stop is counted here.
            let blocks_lower_priorities =
                self.process(id).is_some_and(Process::blocks_stop_of_lower_priorities);
            self.blocking_stop_of_lower_priorities += usize::from(blocks_lower_priorities);
            self.handle(id, Event::Stop, now);
        }
    }

    /// Sends a request to stop to everything that has not got one yet, because the stop deadline is near. These are the
    /// processes whose group priority was not reached yet, the other members of process groups in which only the leader
    /// was asked, and the processes outside the programs' process groups.
    fn ask_all_to_stop(&mut self, now: Time) {
        let Phase::Stopping { all_asked, .. } = &mut self.phase else { return };
        *all_asked = true;
        self.request_stop_from(0, now);
        let has_unasked_members =
            |id: &ProcessIndex| self.process(*id).is_some_and(Process::has_unasked_members);
        let only_leader_asked: Vec<ProcessIndex> = self.ids(0).filter(has_unasked_members).collect();
        for id in &only_leader_asked {
            self.handle(*id, Event::MembersAsked, now);
        }
        self.actions.push_back(Action::AskRemainingToStop { only_leader_asked });
        self.stop_next_priority(now);
    }

    /// Sends SIGTERM to everything that is still alive after every program has ended or was sent SIGKILL.
    fn terminate_remaining(&mut self, decision: ExitDecision, now: Time) {
        let wait_secs = self.processes.iter().map(|managed| managed.spec.stopwaitsecs).max().unwrap_or(0);
        let stop_deadline = self.shutdown_deadlines.map(|times| times.kill_at);
        let kill_deadlines = KillDeadlines::begin(now, wait_secs, stop_deadline);
        self.phase = Phase::TerminatingRemaining { decision, kill_deadlines };
        self.actions.push_back(Action::SignalRemaining(Signal::TERM));
    }

    /// Sends SIGKILL to everything, because a second request or the stop deadline asks for it.
    fn kill(&mut self, now: Time) {
        let (decision, mut kill_deadlines) = match self.phase {
            Phase::Stopping { decision, .. } => (decision, KillDeadlines::with_kill_at(now)),
            Phase::TerminatingRemaining { decision, kill_deadlines } => (decision, kill_deadlines),
            Phase::Running | Phase::Exiting => return,
        };
        kill_deadlines.note_forced_kill(now);
        self.phase = Phase::TerminatingRemaining { decision, kill_deadlines };
        for id in self.ids(0) {
            self.handle(id, Event::KillNow, now);
        }
        self.actions.push_back(Action::SignalRemaining(Signal::KILL));
    }

    fn exit(&mut self, ExitDecision { cause, code }: ExitDecision) {
        self.phase = Phase::Exiting;
        self.actions.extend(if cause == ExitCause::ReloadRequest {
            [Action::Log(SupervisorMessage::Reloading), Action::Reload]
        } else {
            [Action::Log(SupervisorMessage::Exiting { cause, code }), Action::Exit(code)]
        });
    }

    /// rsup's exit code when no program runs and none will be started. Event listeners do not count. If processes are
    /// FATAL, the exit code is the `fatal_code` of the process that became FATAL first. Otherwise only the last exit of
    /// each process counts. The exit code is that of the earliest unexpected exit among these last exits, or 0 if all
    /// of them were expected.
    fn decision_when_all_ended(&self) -> ExitDecision {
        let mut first_fatal: Option<(u64, u8)> = None;
        let mut first_unexpected: Option<(u64, u8)> = None;
        let keep_earlier = |first: &mut Option<(u64, u8)>, order: u64, code: u8| {
            *first = Some(first.map_or((order, code), |first| first.min((order, code))));
        };
        for ManagedProcess { spec, process, exit_order, fatal_order, .. } in &self.processes {
            if spec.is_listener {
                continue;
            }
            if process.state() == ProcessState::Fatal {
                keep_earlier(&mut first_fatal, *fatal_order, fatal_code(process));
            }
            if let Some((exit, false)) = process.last_exit() {
                keep_earlier(&mut first_unexpected, *exit_order, exit.exit_code());
            }
        }
        let code = first_fatal.or(first_unexpected).map_or(0, |(_, code)| code);
        ExitDecision { cause: ExitCause::AllEnded, code }
    }
}

/// Helpers of the functions above.
impl ProcessSet {
    /// Passes an event to one process, and then starts the processes that have waited for its new state.
    fn handle(&mut self, id: ProcessIndex, event: Event, now: Time) {
        self.handle_one(id, event, now);
        // A start can release further processes. They come to the end of the queue, because a recursive call could use
        // up the stack.
        while let Some(id) = self.ready_to_start.pop_front() {
            // The stop may have begun meanwhile.
            if self.accepts_requests() {
                self.handle_one(id, Event::Start, now);
            }
        }
    }

    /// Passes an event to one process, and then updates the deadlines and the counts. Begins the stop if `shutdown_on`
    /// names the new state of the process.
    fn handle_one(&mut self, id: ProcessIndex, event: Event, now: Time) {
        let is_reached_by_shutdown = self.shutdown_has_reached(id);
        let Some(managed) = managed_mut(&mut self.processes, id) else { return };
        let ManagedProcess { spec, process, exit_order, fatal_order, is_listed_as_changed } = managed;
        let before = Before::new(process);
        let state_before = before.state;
        debug_assert!(process.can_receive(event), "{event:?} cannot happen to {id:?} in {state_before:?}");
        let deadline_before = process.deadline(spec);
        let active_before = process.is_active();
        let blocking_before = process.blocks_stop_of_lower_priorities();
        let actions = &mut self.actions;
        let first_action = actions.len();
        process.handle(spec, event, now, &mut |action| actions.push_back(Action::Process(id, action)));

        let entered = entered_states(before, event, process);
        if self.settings.notifies_listeners {
            // The caller adds the PID to an event when it carries out the action `NotifyProcessState`. The action
            // `Spawn` changes the PID. So `NotifyProcessState` comes before `Spawn`: an event about the earlier child
            // has to contain the PID of that child.
            let tries = process.consecutive_failures();
            let expected = process.last_exit().is_some_and(|(_, expected)| expected);
            let mut from = state_before.name();
            for (at, to) in (first_action..).zip(entered.into_iter().flatten()) {
                let transition = Transition { from: mem::replace(&mut from, to), to, tries, expected };
                self.actions.insert(at, Action::NotifyProcessState(id, transition));
            }
        }
        if !mem::replace(is_listed_as_changed, true) {
            self.changed.push(id);
        }
        let deadline = process.deadline(spec);
        if deadline != deadline_before {
            if let Some(place) = deadline_before.and_then(|old| self.deadlines.binary_search(&(old, id)).ok())
            {
                self.deadlines.remove(place);
            }
            if let Some(new) = deadline
                && let Err(place) = self.deadlines.binary_search(&(new, id))
            {
                self.deadlines.insert(place, (new, id));
            }
        }
        let has_ended_unrequested = matches!(event, Event::Exited { .. } | Event::SpawnFailed)
            && !matches!(state_before, ProcessState::Stopping(_));
        if has_ended_unrequested && !spec.is_listener {
            self.last_unrequested_end = Some(now);
        }
        if matches!(event, Event::Exited { .. }) {
            self.exits += 1;
            *exit_order = self.exits;
        }
        if process.state() == ProcessState::Fatal && state_before != ProcessState::Fatal {
            self.fatals += 1;
            *fatal_order = self.fatals;
        }
        let active = if spec.is_listener { &mut self.active_listeners } else { &mut self.active_programs };
        update_count(active, active_before, process.is_active());
        if is_reached_by_shutdown {
            update_count(
                &mut self.blocking_stop_of_lower_priorities,
                blocking_before,
                process.blocks_stop_of_lower_priorities(),
            );
        }
        if process.state() != state_before {
            if !self.startup.is_empty() {
                let newly_reached = reached_goals(entered, spec, process);
                self.note_reached(id, newly_reached);
            }
            self.apply_shutdown_on(id, now);
        }
    }

    /// Notes what a process has reached. Releases the processes that have waited for it, and logs which processes can
    /// never start now. Has no effect during the stop.
    fn note_reached(&mut self, id: ProcessIndex, goals: Goals) {
        if !self.accepts_requests() {
            return;
        }
        let mut released: Vec<(i64, ProcessIndex)> = Vec::new();
        for (waiting, may_start) in self.startup.note_reached(id, goals) {
            let Some(managed) = managed_mut(&mut self.processes, waiting) else { continue };
            if may_start {
                released.push((managed.spec.start_rank, waiting));
            }
            if !mem::replace(&mut managed.is_listed_as_changed, true) {
                self.changed.push(waiting);
            }
        }
        released.sort_unstable();
        self.ready_to_start.extend(released.into_iter().map(|(_, id)| id));
        let processes = &self.processes;
        let has_ended_for_good = |id: ProcessIndex| {
            managed(processes, id).is_some_and(|managed| has_ended_for_good(&managed.process))
        };
        if has_ended_for_good(id) {
            for stuck in self.startup.end(id, has_ended_for_good) {
                let reasons = self.startup.reasons(stuck);
                self.actions.push_back(Action::Log(SupervisorMessage::NeverStarts { id: stuck, reasons }));
            }
        }
    }

    /// Handles one deadline of a process. Returns whether one was due.
    fn tick_first_due_process(&mut self, now: Time) -> bool {
        let due = self.deadlines.first().filter(|(deadline, _)| *deadline <= now).map(|(_, id)| *id);
        if let Some(id) = due {
            self.apply(id, Event::Tick, now);
        }
        due.is_some()
    }

    /// Handles one deadline of the phase. Returns whether one was due.
    fn tick_phase(&mut self, now: Time) -> bool {
        let is_shutdown_deadline_due = |time: fn(ShutdownDeadlines) -> Time| {
            self.shutdown_deadlines.is_some_and(|times| now >= time(times))
        };
        let asks_now = is_shutdown_deadline_due(|times| times.ask_at);
        let kills_now = is_shutdown_deadline_due(|times| times.kill_at);
        match &mut self.phase {
            Phase::Stopping { .. } if self.stop_listeners_at.is_some_and(|at| now >= at) => {
                self.stop_listeners_at = None;
                self.stop_next_priority(now);
            }
            Phase::Stopping { all_asked: false, .. } if asks_now => self.ask_all_to_stop(now),
            Phase::Stopping { .. } if kills_now => self.kill(now),
            Phase::Stopping { report_at, .. } if now >= *report_at => {
                *report_at = now.plus_secs(REPORT_INTERVAL_SECS);
                self.log_still_running();
            }
            Phase::TerminatingRemaining { decision, kill_deadlines } => match kill_deadlines.due(now) {
                // An action in the queue will send SIGTERM to processes that were not asked before. SIGKILL waits for
                // that action, because `on_sigterm_sent` then gives these processes time.
                Some(KillOrGiveUp::Kill)
                    if kill_deadlines.first_signal(now) == Signal::TERM
                        && contains_signal_remaining_action(&self.actions) =>
                {
                    return false;
                }
                Some(KillOrGiveUp::Kill) => {
                    kill_deadlines.note_killed(now);
                    self.actions.push_back(Action::Log(SupervisorMessage::KillingRemaining));
                    self.actions.push_back(Action::SignalRemaining(Signal::KILL));
                }
                Some(KillOrGiveUp::GiveUp) => {
                    let decision = *decision;
                    self.actions.push_back(Action::Log(SupervisorMessage::ChildrenLeftBehind));
                    self.exit(decision);
                }
                None => return false,
            },
            Phase::Running | Phase::Stopping { .. } | Phase::Exiting => return false,
        }
        true
    }

    /// While rsup stops: logs the processes that still have a leader.
    fn log_still_running(&mut self) {
        let waiting: Vec<ProcessIndex> =
            self.ids(0).filter(|id| self.process(*id).is_some_and(Process::has_leader)).collect();
        if !waiting.is_empty() {
            self.actions.push_back(Action::Log(SupervisorMessage::WaitingForExits(waiting)));
        }
    }

    /// Whether rsup has requested the process to stop, so that it counts in `blocking_stop_of_lower_priorities`. False
    /// outside the phase Stopping, because no other phase uses that number.
    fn shutdown_has_reached(&self, id: ProcessIndex) -> bool {
        match self.phase {
            Phase::Stopping { first_stopping, .. } => id.0 >= first_stopping,
            Phase::Running | Phase::TerminatingRemaining { .. } | Phase::Exiting => false,
        }
    }

    fn is_exiting(&self) -> bool {
        matches!(self.phase, Phase::Exiting)
    }

    /// The processes from the index `from` on.
    fn ids(&self, from: usize) -> impl Iterator<Item = ProcessIndex> + use<> {
        (from..self.processes.len()).map(ProcessIndex)
    }
}

/// What a process has reached by entering these states.
fn reached_goals(entered: Entered, spec: &ProcessSpec, process: &Process) -> Goals {
    let mut reached = Goals::default();
    for state in entered.into_iter().flatten() {
        reached.insert(state);
        let is_up = match spec.startup_wait {
            StartupWait::Running => state == StateName::Running,
            StartupWait::Exited => {
                state == StateName::Exited && process.last_exit().is_some_and(|(_, expected)| expected)
            }
        };
        if is_up {
            reached.insert_up_goal();
        }
    }
    reached
}

/// Whether a process is EXITED or FATAL, and will be started again only if a client requests it.
fn has_ended_for_good(process: &Process) -> bool {
    match process.state() {
        ProcessState::Exited { .. } | ProcessState::Fatal => !process.has_leader_or_restart(),
        ProcessState::Stopped | ProcessState::Starting { .. } | ProcessState::Running => false,
        ProcessState::Backoff { .. } | ProcessState::Stopping(_) => false,
    }
}

/// The exit code of rsup because of a process that became FATAL: its last exit code, or 1 if it last exited with 0 or
/// has never exited.
fn fatal_code(process: &Process) -> u8 {
    let last_code = process.last_exit().map(|(exit, _)| exit.exit_code());
    last_code.filter(|code| *code != 0).unwrap_or(1)
}

/// Whether the queue contains an [`Action::SignalRemaining`].
fn contains_signal_remaining_action(actions: &VecDeque<Action>) -> bool {
    actions.iter().any(|action| matches!(action, Action::SignalRemaining(_)))
}

/// The process with this ID. An unknown ID is a bug of the caller.
fn managed(processes: &[ManagedProcess], id: ProcessIndex) -> Option<&ManagedProcess> {
    debug_assert!(id.0 < processes.len(), "there is no process {id:?}");
    processes.get(id.0)
}

/// The process with this ID. An unknown ID is a bug of the caller.
fn managed_mut(processes: &mut [ManagedProcess], id: ProcessIndex) -> Option<&mut ManagedProcess> {
    debug_assert!(id.0 < processes.len(), "there is no process {id:?}");
    processes.get_mut(id.0)
}

/// Updates the number of processes that have a property, after one process may have gained or lost the property.
fn update_count(count: &mut usize, before: bool, after: bool) {
    debug_assert!(*count > 0 || !before, "a process that has the property was not counted");
    *count = (*count + usize::from(after)).saturating_sub(usize::from(before));
}

#[cfg(test)]
mod tests {
    use super::{Event, ProcessIndex, ProcessSet, Settings};
    use crate::policy::spec::ProcessSpec;
    use crate::policy::time::Time;

    const NOW: Time = Time::from_nanos(0);

    fn one_process() -> ProcessSet {
        ProcessSet::new(vec![ProcessSpec::example()], Settings::default())
    }

    #[test]
    #[cfg_attr(not(debug_assertions), ignore = "a release build ignores the event")]
    #[should_panic(expected = "there is no process ProcessIndex(1)")]
    fn an_event_of_an_unknown_process_fails_an_assertion() {
        one_process().apply(ProcessIndex(1), Event::Tick, NOW);
    }

    #[test]
    #[cfg_attr(not(debug_assertions), ignore = "a release build ignores the event")]
    #[should_panic(expected = "ExecSucceeded cannot happen to ProcessIndex(0) in Stopped")]
    fn an_event_that_cannot_happen_fails_an_assertion() {
        one_process().apply(ProcessIndex(0), Event::ExecSucceeded, NOW);
    }
}
