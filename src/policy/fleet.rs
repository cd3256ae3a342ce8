//! The law of all processes together: who starts and stops when, the nearest deadline, and when rsup leaves with what.

use super::process::GRACE;
use super::{
    Cause, Event, Notice, Process, ProcessAction, Received, Route, ShutdownOn, Signal, Spec, Standing, State,
    Time, route,
};
use std::collections::{BTreeSet, VecDeque};

/// A process by its place in start order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcId(pub usize);

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Something about one process.
    To(ProcId, ProcessAction),
    /// A line about all.
    Announce(Notice),
    /// Ask the kernel for dead children, and answer with [`Fleet::children`].
    Reap,
    /// Send a signal to the process group of every process.
    Forward(Signal),
    /// Stop rsup itself, until it is continued.
    Suspend,
    /// Send a signal to everything that is left and was not sent it yet, then do [`Action::Reap`].
    Sweep(Signal),
    /// Leave with this exit code.
    Leave(u8),
}

/// What the fleet has to know about where it runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// Seconds that the whole stop may take, if that is limited.
    pub stop_timeout: Option<u64>,
}

/// Exit code and reason of a leaving that has begun; the first cause fixes both.
#[derive(Clone, Copy, Debug)]
struct Verdict {
    cause: Cause,
    code: u8,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Up,
    /// Processes from `told` on were asked to stop.
    Stopping {
        verdict: Verdict,
        told: usize,
        /// When the next `waiting for` line is due.
        report_at: Time,
    },
    /// The processes are gone; what else there is was asked to go. SIGKILL follows at `kill_at`; rsup leaves at
    /// `leave_at` whoever is left.
    Sweeping {
        verdict: Verdict,
        kill_at: Option<Time>,
        leave_at: Option<Time>,
    },
    Left,
}

/// The queue of actions keeps room for so many when it is empty.
const ACTIONS_KEPT: usize = 64;
/// Seconds between two `waiting for` lines.
const REPORT_INTERVAL: i64 = 3;

struct Member {
    spec: Spec,
    process: Process,
    /// Order of the last exits: a later exit has a higher number.
    exit_order: u64,
}

/// All processes in start order.
pub struct Fleet {
    members: Vec<Member>,
    settings: Settings,
    phase: Phase,
    /// The end of one may be the end of all.
    one_for_all: bool,
    deadlines: BTreeSet<(Time, ProcId)>,
    /// Members of which something is still to come by itself.
    busy: usize,
    /// Members told to stop that hold up the next priority.
    holding: usize,
    exits: u64,
    /// Exit code that the first process to go FATAL asks for.
    first_fatal: Option<u8>,
    /// When the first TERM, INT or QUIT was received.
    first_request: Option<Time>,
    /// End of `stop_timeout`.
    stop_deadline: Option<Time>,
    actions: VecDeque<Action>,
}

impl Fleet {
    /// Processes with these laws, in start order: group priority must not fall from one to the next.
    #[must_use]
    pub fn new(specs: Vec<Spec>, settings: Settings) -> Self {
        let one_for_all = specs.iter().any(|spec| spec.shutdown_on != ShutdownOn::Never);
        let member = |spec| Member { spec, process: Process::default(), exit_order: 0 };
        Self {
            members: specs.into_iter().map(member).collect(),
            settings,
            phase: Phase::Up,
            one_for_all,
            deadlines: BTreeSet::new(),
            busy: 0,
            holding: 0,
            exits: 0,
            first_fatal: None,
            first_request: None,
            stop_deadline: None,
            actions: VecDeque::new(),
        }
    }

    /// Whether what follows from the end of one process is the same whoever else has ended.
    #[must_use]
    pub fn takes_ends_singly(&self) -> bool {
        !self.one_for_all && matches!(self.phase, Phase::Up)
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
    pub fn wants_more(&self) -> bool {
        !self.actions.is_empty()
    }

    /// The process, if there is one of that number.
    #[must_use]
    pub fn process(&self, id: ProcId) -> Option<&Process> {
        self.members.get(id.0).map(|member| &member.process)
    }

    /// When [`Fleet::tick`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let own = match self.phase {
            Phase::Left => return None,
            Phase::Up => None,
            Phase::Stopping { report_at, .. } => earliest(Some(report_at), self.stop_deadline),
            Phase::Sweeping { kill_at, leave_at, .. } => earliest(kill_at, leave_at),
        };
        earliest(own, self.deadlines.first().map(|(time, _)| *time))
    }

    /// Whether [`Fleet::tick`] has something to do now.
    #[must_use]
    pub fn is_due(&self, now: Time) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// rsup is up: starts what has `autostart`.
    pub fn boot(&mut self, now: Time) {
        if !self.members.iter().any(|member| member.spec.autostart) {
            self.actions.push_back(Action::Announce(Notice::NothingToStart));
            return self.sweep(Verdict { cause: Cause::NothingToStart, code: 2 }, now);
        }
        for id in self.ids(0) {
            if self.members.get(id.0).is_some_and(|member| member.spec.autostart) {
                self.step(id, Event::Start, now);
            }
        }
    }

    /// Something has happened to one process.
    pub fn apply(&mut self, id: ProcId, event: Event, now: Time) {
        if self.has_left() {
            return;
        }
        let before = self.busy;
        self.step(id, event, now);
        self.advance(now);
        if before > 0 && self.busy == 0 && matches!(self.phase, Phase::Up) {
            self.actions.push_back(Action::Reap);
        }
    }

    /// A signal has come.
    pub fn receive(&mut self, received: Received, standing: Standing, now: Time) {
        let signal = received.signal;
        match route(received, standing) {
            Route::Shutdown => self.shutdown(signal, now),
            Route::Forward => self.actions.push_back(Action::Forward(signal)),
            Route::Suspend => self.actions.extend([Action::Forward(Signal::STOP), Action::Suspend]),
            Route::Drop => self.actions.push_back(Action::Announce(Notice::Dropped(signal))),
            Route::Reap => self.actions.push_back(Action::Announce(Notice::ChildQuit)),
        }
    }

    /// A signal asks for the end. The second one, at least a second after the first, means it.
    fn shutdown(&mut self, signal: Signal, now: Time) {
        if self.has_left() {
            return;
        }
        self.actions.push_back(Action::Announce(Notice::Received(signal)));
        match self.first_request {
            None => {
                self.first_request = Some(now);
                self.stop(Verdict { cause: Cause::Signal(signal), code: 0 }, now);
            }
            Some(first) if now >= first.after(1) => self.kill(now),
            Some(_) => {}
        }
    }

    /// The kernel was asked for dead children: whether it had some, and whether there are living ones.
    pub fn children(&mut self, dead: bool, living: bool, now: Time) {
        match self.phase {
            Phase::Up if !living && self.busy == 0 => self.sweep(self.verdict_of_all(), now),
            Phase::Sweeping { verdict, .. } if !living => self.leave(verdict),
            // Where rsup is not PID 1, a death may have given it children that it could not reach before.
            Phase::Sweeping { kill_at, .. } if dead => {
                let signal = if kill_at.is_some() { Signal::TERM } else { Signal::KILL };
                self.actions.push_back(Action::Sweep(signal));
            }
            Phase::Up | Phase::Stopping { .. } | Phase::Sweeping { .. } | Phase::Left => {}
        }
    }

    /// The last sweep could reach nobody: there is no list of what is left. Only what has been sent SIGKILL before is
    /// still waited for.
    pub fn unreachable(&mut self, now: Time) {
        if let Phase::Sweeping { verdict, leave_at, .. } = self.phase {
            let patience = if self.busy == 0 { now } else { now.after(GRACE) };
            let leave_at = Some(leave_at.unwrap_or(patience));
            self.phase = Phase::Sweeping { verdict, kill_at: None, leave_at };
        }
    }

    /// Time has passed: meets every deadline up to now, those included that this brings about.
    pub fn tick(&mut self, now: Time) {
        while !self.has_left() && (self.tick_process(now) || self.tick_phase(now)) {}
    }

    fn has_left(&self) -> bool {
        matches!(self.phase, Phase::Left)
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
            Phase::Stopping { verdict, told, report_at } if now >= report_at => {
                self.phase = Phase::Stopping { verdict, told, report_at: now.after(REPORT_INTERVAL) };
                self.report();
            }
            Phase::Sweeping { kill_at, .. } if due(kill_at) => {
                self.actions.push_back(Action::Announce(Notice::KillingTheRest));
                self.kill(now);
            }
            Phase::Sweeping { verdict, leave_at, .. } if due(leave_at) => {
                self.actions.push_back(Action::Announce(Notice::LeftBehind));
                self.leave(verdict);
            }
            Phase::Up | Phase::Stopping { .. } | Phase::Sweeping { .. } | Phase::Left => return false,
        }
        true
    }

    /// One step of one process, with the books kept: deadlines, counts, and what its end means for all.
    fn step(&mut self, id: ProcId, event: Event, now: Time) {
        let told = self.told();
        let Some(member) = self.members.get_mut(id.0) else { return };
        let before = (member.process.state(), member.process.is_busy(), member.process.holds_up_stop());
        let deadline_before = member.process.deadline(&member.spec);
        let actions = &mut self.actions;
        member
            .process
            .step(&member.spec, event, now, &mut |action| actions.push_back(Action::To(id, action)));

        let deadline = member.process.deadline(&member.spec);
        if deadline != deadline_before {
            deadline_before.map(|old| self.deadlines.remove(&(old, id)));
            deadline.map(|new| self.deadlines.insert((new, id)));
        }
        if matches!(event, Event::Exited { .. }) {
            self.exits += 1;
            member.exit_order = self.exits;
        }
        self.busy = recount(self.busy, before.1, member.process.is_busy());
        if id.0 >= told {
            self.holding = recount(self.holding, before.2, member.process.holds_up_stop());
        }
        if member.process.state() != before.0 {
            self.ended(id, now);
        }
    }

    /// A process has changed its state: whether that ends the whole (`shutdown_on`).
    fn ended(&mut self, id: ProcId, now: Time) {
        if !matches!(self.phase, Phase::Up) {
            return;
        }
        let Some(Member { spec, process, .. }) = self.members.get(id.0) else { return };
        let status = process.last_exit().map(|(exit, _)| exit.status());
        match (process.state(), spec.shutdown_on) {
            (State::Fatal, shutdown_on) => {
                let code = status.filter(|status| *status != 0).unwrap_or(1);
                self.first_fatal.get_or_insert(code);
                match shutdown_on {
                    ShutdownOn::Never => {}
                    ShutdownOn::Fatal | ShutdownOn::Exited => {
                        self.stop(Verdict { cause: Cause::Fatal(id), code }, now);
                    }
                }
            }
            (State::Exited { restart_at: None }, ShutdownOn::Exited) => {
                self.stop(Verdict { cause: Cause::Exited(id), code: status.unwrap_or(0) }, now);
            }
            (State::Exited { .. }, ShutdownOn::Never | ShutdownOn::Fatal | ShutdownOn::Exited) => {}
            (State::Stopped | State::Starting { .. } | State::Running, _) => {}
            (State::Backoff { .. } | State::Stopping { .. }, _) => {}
        }
    }

    /// Nothing runs and nothing will: the first that went FATAL decides, else the first whose last exit was not
    /// expected.
    fn verdict_of_all(&self) -> Verdict {
        let unexpected = |member: &Member| match member.process.last_exit() {
            Some((exit, false)) => Some((member.exit_order, exit.status())),
            Some((_, true)) | None => None,
        };
        let first_unexpected = || self.members.iter().filter_map(unexpected).min().map(|(_, status)| status);
        Verdict { cause: Cause::AllEnded, code: self.first_fatal.or_else(first_unexpected).unwrap_or(0) }
    }

    /// Begins to stop everything; nothing starts from here on.
    fn stop(&mut self, verdict: Verdict, now: Time) {
        if !matches!(self.phase, Phase::Up) {
            return;
        }
        self.stop_deadline =
            self.settings.stop_timeout.map(|seconds| now.after(i64::try_from(seconds).unwrap_or(i64::MAX)));
        self.phase =
            Phase::Stopping { verdict, told: self.members.len(), report_at: now.after(REPORT_INTERVAL) };
        self.cancel_spawns(now);
        for id in self.ids(0) {
            self.step(id, Event::Hold, now);
        }
        self.advance(now);
        self.report();
    }

    /// Takes back the starts that are decided but not carried out yet.
    fn cancel_spawns(&mut self, now: Time) {
        let mut cancelled = Vec::new();
        self.actions.retain(|action| match action {
            Action::To(id, ProcessAction::Spawn) => {
                cancelled.push(*id);
                false
            }
            Action::To(..) | Action::Announce(_) | Action::Reap => true,
            Action::Forward(_) | Action::Suspend | Action::Sweep(_) | Action::Leave(_) => true,
        });
        for id in cancelled {
            self.step(id, Event::Cancelled, now);
        }
    }

    /// Asks the next priority to stop while nobody holds it up, and goes on to the sweep behind the last.
    fn advance(&mut self, now: Time) {
        while let Phase::Stopping { verdict, told, report_at } = self.phase
            && self.holding == 0
        {
            let Some(last) = told.checked_sub(1).and_then(|last| self.members.get(last)) else {
                return self.sweep(verdict, now);
            };
            let priority = last.spec.group_priority;
            let same = |member: &&Member| member.spec.group_priority == priority;
            let count = self.members.iter().take(told).rev().take_while(same).count();
            let first = told - count;
            self.phase = Phase::Stopping { verdict, told: first, report_at };
            for id in self.ids(first).take(count) {
                // It counts from now on, whatever the step makes of it.
                let holds = self.process(id).is_some_and(Process::holds_up_stop);
                self.holding += usize::from(holds);
                self.step(id, Event::Stop, now);
            }
        }
    }

    /// The processes are done with: whatever else runs is asked to go.
    fn sweep(&mut self, verdict: Verdict, now: Time) {
        let patience = self.members.iter().map(|member| member.spec.stopwaitsecs).max().unwrap_or(0);
        let kill_at = earliest(Some(now.after(patience)), self.stop_deadline);
        self.phase = Phase::Sweeping { verdict, kill_at, leave_at: None };
        self.actions.push_back(Action::Sweep(Signal::TERM));
    }

    /// Nobody waits any longer: SIGKILL to everything.
    fn kill(&mut self, now: Time) {
        let (verdict, leave_at) = match self.phase {
            Phase::Stopping { verdict, .. } => (verdict, None),
            Phase::Sweeping { verdict, leave_at, .. } => (verdict, leave_at),
            Phase::Up | Phase::Left => return,
        };
        // Whoever asks again and again does not put the end off.
        let leave_at = Some(leave_at.unwrap_or_else(|| now.after(GRACE)));
        self.phase = Phase::Sweeping { verdict, kill_at: None, leave_at };
        for id in self.ids(0) {
            self.step(id, Event::Kill, now);
        }
        self.actions.push_back(Action::Sweep(Signal::KILL));
    }

    fn leave(&mut self, Verdict { cause, code }: Verdict) {
        self.phase = Phase::Left;
        self.actions.push_back(Action::Announce(Notice::Leaving { cause, code }));
        self.actions.push_back(Action::Leave(code));
    }

    /// Says who is still there.
    fn report(&mut self) {
        let waiting: Vec<ProcId> =
            self.ids(0).filter(|id| self.process(*id).is_some_and(Process::has_leader)).collect();
        if !waiting.is_empty() {
            self.actions.push_back(Action::Announce(Notice::Waiting(waiting)));
        }
    }

    /// The first of those that were asked to stop.
    fn told(&self) -> usize {
        match self.phase {
            Phase::Up => self.members.len(),
            Phase::Stopping { told, .. } => told,
            Phase::Sweeping { .. } | Phase::Left => 0,
        }
    }

    fn ids(&self, from: usize) -> impl Iterator<Item = ProcId> + use<> {
        (from..self.members.len()).map(ProcId)
    }
}

fn earliest(a: Option<Time>, b: Option<Time>) -> Option<Time> {
    a.into_iter().chain(b).min()
}

fn recount(count: usize, before: bool, after: bool) -> usize {
    (count + usize::from(after)).saturating_sub(usize::from(before))
}
