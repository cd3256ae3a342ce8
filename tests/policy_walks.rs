//! Random walks through policy with a fake kernel. Forks and execs fail, programs exit or ignore signals, process
//! groups outlive their leaders, PIDs are reused at once, unknown children appear, and time jumps. The invariants of
//! policy must hold after every step. The environment variable `WALKS` sets the number of walks.

use std::collections::{BTreeMap, BTreeSet};

use rsup::policy::{
    Action, AutoRestart, Dependency, Event, ExitStatus, Process, ProcessAction, ProcessIndex, ProcessMessage,
    ProcessSet, ProcessSpec, ProcessState, ReceivedSignal, Sender, Settings, ShutdownOn, Signal,
    SignalContext, SignalTarget, StartupWait, StateName, StopStep, SupervisorMessage, Time, Transition,
};

const SECOND: u64 = 1_000_000_000;
const WALKS: u64 = 20_000;
/// The most seconds between the request and SIGKILL for a process that is asked later than its program.
const LATE_REQUEST_SECS: i64 = 5;

/// One process as the fake kernel sees it, and what rsup knows about it.
#[derive(Clone, Default)]
struct FakeProcess {
    /// The leader, from the fork until it is reaped.
    leader: Option<Exec>,
    /// The exit status of a leader that has exited and is not reaped yet.
    zombie: Option<ExitStatus>,
    /// The number of other living members of the process group.
    members: u32,
    /// The PID of the leader and the ID of its process group. The PID is in use until the leader is reaped and the
    /// process group is empty.
    pid: Option<u32>,
    /// rsup knows that the process group has outlived its leader, and does not know yet that the group is empty.
    group_outlived_leader: bool,
    /// Only SIGKILL ends the members of the process group.
    ignores_sigterm: bool,
    /// SIGKILL does not end the members either, as if they hung in the kernel.
    ignores_sigkill: bool,
    /// rsup has no permission to signal the leader and the members.
    refuses_signals: bool,
    /// When the leader was sent the signal that asks it to stop.
    leader_asked: Option<u64>,
    leader_killed: bool,
    /// When the other members of the process group were sent the signal that asks them to stop.
    members_asked: Option<u64>,
    last_start: Option<u64>,
    up_since: Option<u64>,
    /// The number of failed starts in a row.
    failures: i64,
    /// A client has stopped the process, and no client has requested a start since.
    stopped_by_request: bool,
    /// When a client has last requested to stop the process.
    last_stop_request: Option<u64>,
    /// The process was started at least once.
    was_started: bool,
    /// A client has requested the start or the stop of the process, so its first start waits for nothing any more.
    ends_wait: bool,
    /// The states that the process has been in.
    reached: BTreeSet<StateName>,
    /// The process has been up in the sense of `startup_wait`.
    was_up: bool,
    /// The last state in the notifications for the listeners. None if there was no notification.
    told: Option<StateName>,
}

/// A child of rsup that is not a leader.
#[derive(Clone, Copy)]
struct Orphan {
    /// When the orphan was sent SIGTERM.
    asked: Option<u64>,
    refuses_signals: bool,
    /// The orphan was sent SIGKILL.
    killed: bool,
}

/// Whether the exec of a leader is done.
#[derive(Clone, Copy, PartialEq)]
enum Exec {
    Pending,
    Done,
}

/// One random walk: rsup's policy, the fake kernel, and what the invariants need to know of the past.
struct Walk {
    seed: u64,
    random: fastrand::Rng,
    now: u64,
    processes: ProcessSet,
    specs: Vec<ProcessSpec>,
    fakes: Vec<FakeProcess>,
    /// The children that are not leaders.
    orphans: Vec<Orphan>,
    /// rsup has adopted a child since it last reaped.
    adopted: bool,
    /// When the final sweep began.
    sweep_began: Option<u64>,
    /// When the first stop signal was received.
    first_request: Option<u64>,
    /// A second stop request asks for SIGKILL.
    kill_requested: bool,
    stop_timeout: Option<u64>,
    accepts_requests: bool,
    /// `startup=ordered`.
    ordered_startup: bool,
    /// A client has requested the start of a process.
    start_requested: bool,
    /// Clients have made several requests before rsup has acted on one.
    requests_are_queued: bool,
    /// When a stop signal or `shutdown_on` began the stop.
    stop_began: Option<u64>,
    received_stop_signal: bool,
    /// The signals that the log says are passed on to the programs.
    passed_on: BTreeSet<Signal>,
    /// There was a notification for the listeners that the stop begins.
    stop_was_told: bool,
    /// rsup has begun the stop because only listeners ran.
    only_listeners_ran: bool,
    /// When a program has last failed or ended that was not being stopped.
    last_death: Option<u64>,
    exit_code: Option<u8>,
    reap_requested: bool,
    context: SignalContext,
    /// Whether /proc lists rsup's children. Without that list, only PID 1 can send a signal to every remaining process.
    can_list_children: bool,
    /// PIDs of processes that rsup does not know.
    foreign_pids: BTreeSet<u32>,
    /// The process that had each PID last.
    last_owners: BTreeMap<u32, usize>,
    coverage: Coverage,
}

/// What happened in the walks. A walk in which little happens proves little.
#[derive(Default)]
struct Coverage {
    /// The number of calls that gave policy a new fact.
    steps: u64,
    /// How often each incident occurred.
    incidents: BTreeMap<&'static str, u64>,
    /// The combinations of a process's state and an event that occurred.
    pairs: BTreeSet<(&'static str, &'static str)>,
}

impl Coverage {
    fn count(&mut self, incident: &'static str) {
        *self.incidents.entry(incident).or_default() += 1;
    }

    fn add(&mut self, other: Self) {
        self.steps += other.steps;
        for (incident, count) in other.incidents {
            *self.incidents.entry(incident).or_default() += count;
        }
        self.pairs.extend(other.pairs);
    }
}

impl Walk {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut specs: Vec<ProcessSpec> = (0..random.usize(1..6)).map(|_| spec(&mut random)).collect();
        specs.sort_by_key(|spec| spec.group_priority);
        if specs.iter().all(|spec| spec.is_listener) {
            specs[0].is_listener = false;
        }
        add_dependencies(&mut specs, &mut random);
        let ordered_startup = random.u32(0..3) == 0;
        let stop_timeout = random.bool().then(|| random.u64(0..8));
        let accepts_requests = random.bool();
        Self {
            seed,
            now: random.u64(0..SECOND),
            processes: ProcessSet::new(
                specs.clone(),
                Settings {
                    stop_timeout,
                    clients_can_reach_rsup: accepts_requests,
                    ordered_startup,
                    notifies_listeners: true,
                },
            ),
            fakes: vec![FakeProcess::default(); specs.len()],
            specs,
            orphans: vec![],
            adopted: false,
            sweep_began: None,
            first_request: None,
            kill_requested: false,
            stop_timeout,
            accepts_requests,
            ordered_startup,
            start_requested: false,
            requests_are_queued: false,
            stop_began: None,
            received_stop_signal: false,
            passed_on: BTreeSet::new(),
            stop_was_told: false,
            only_listeners_ran: false,
            last_death: None,
            exit_code: None,
            reap_requested: false,
            context: SignalContext {
                is_pid1: random.bool(),
                has_terminal: random.bool(),
                is_shell_job: random.bool(),
                hup_ignored: random.bool(),
            },
            can_list_children: random.bool(),
            foreign_pids: BTreeSet::new(),
            last_owners: BTreeMap::new(),
            coverage: Coverage::default(),
            random,
        }
    }

    fn time(&self) -> Time {
        Time::from_nanos(self.now)
    }

    fn fail(&self, invariant: &str) -> ! {
        panic!("seed {}: violated: {invariant}", self.seed)
    }

    fn one_chance_in(&mut self, n: u32) -> bool {
        self.random.u32(0..n) == 0
    }

    /// Runs until rsup exits. Fails if rsup is still running long after a stop signal.
    fn run(&mut self) {
        self.processes.begin_first_starts(self.time());
        self.run_actions();
        for turn in 0..2_000 {
            if self.exit_code.is_some() {
                return;
            }
            self.advance_clock();
            self.change_processes();
            if self.random.bool() {
                self.reap();
            }
            // Processes also change between rsup's reaping and rsup's next call.
            if self.one_chance_in(4) {
                self.change_processes();
            }
            if self.exit_code.is_none() && (turn == 1_000 || self.one_chance_in(30)) {
                self.receive_signal(turn == 1_000);
            }
            if self.exit_code.is_none() && self.accepts_requests && self.one_chance_in(3) {
                self.request();
            }
            self.run_due_timers();
            self.check_starts();
            self.check_told();
        }
        self.fail("the stop always ends");
    }

    /// rsup receives a random signal, or a random stop signal.
    fn receive_signal(&mut self, to_stop: bool) {
        let requests = [Signal::TERM, Signal::INT, Signal::QUIT];
        // A process cannot receive SIGKILL and SIGSTOP.
        let others = (1..9).chain(10..19).chain(20..=64);
        let signal = match to_stop || self.one_chance_in(3) {
            true => *self.random.choice(&requests).unwrap(),
            false => Signal::from_number(self.random.choice(others.collect::<Vec<_>>()).unwrap()).unwrap(),
        };
        let senders = [Sender::Kernel, Sender::OutsidePidNamespace, Sender::Pid1, Sender::OtherProcess];
        let sender = *self.random.choice(&senders).unwrap();
        let from_terminal =
            self.context.has_terminal && (sender == Sender::Kernel || self.context.is_shell_job);
        let hangup = signal == Signal::HUP && from_terminal && !self.context.hup_ignored;
        if requests.contains(&signal) || hangup && !self.context.is_pid1 {
            if self.stop_began.is_some() {
                self.coverage.count("repeated stop signal");
            }
            self.stop_began.get_or_insert(self.now);
        }
        self.coverage.steps += 1;
        self.processes.receive(ReceivedSignal { signal, sender }, self.context, self.time());
        self.run_actions();
    }

    /// Clients make one to four requests before rsup acts on any of them. Sometimes a signal follows at once.
    fn request(&mut self) {
        self.requests_are_queued = true;
        for _ in 0..self.random.u32(1..=4) {
            self.make_request();
        }
        if self.one_chance_in(10) {
            self.receive_signal(false);
        }
        self.run_actions();
        self.requests_are_queued = false;
    }

    /// A client requests the start or the stop of a process, or a signal, or, less often, the stop of every process.
    fn make_request(&mut self) {
        self.coverage.steps += 1;
        let id = self.random.usize(0..self.specs.len());
        let state = self.processes.process(ProcessIndex(id)).unwrap().state();
        let is_running = self.processes.accepts_requests();
        let request = self.random.u32(0..400);
        match request {
            0 => self.processes.request_shutdown(self.time()),
            1 => self.processes.request_reload(self.time()),
            2..=180 => self.processes.request_start(ProcessIndex(id), self.time()),
            181..=360 => self.processes.request_stop(ProcessIndex(id), self.time()),
            _ => {
                let usr1 = Signal::from_number(10).unwrap();
                self.processes.request_signal(ProcessIndex(id), usr1);
            }
        }
        if !is_running {
            self.coverage.count("request during the stop");
        } else if request < 2 {
            self.stop_began.get_or_insert(self.now);
        } else if request <= 180 {
            self.fakes[id].ends_wait = true;
            self.coverage.pairs.insert((state_name(state), "start requested"));
            self.start_requested = true;
            self.fakes[id].stopped_by_request = false;
            if !matches!(
                state,
                ProcessState::Starting { .. } | ProcessState::Running | ProcessState::Backoff { .. }
            ) {
                self.fakes[id].failures = 0;
            }
        } else if request <= 360 {
            self.fakes[id].ends_wait = true;
            self.coverage.pairs.insert((state_name(state), "stop requested"));
            let fake = &mut self.fakes[id];
            fake.last_stop_request = Some(self.now);
            // The action that starts the process may be in the queue already. Then one more start follows.
            fake.stopped_by_request = match self.processes.process(ProcessIndex(id)).unwrap().state() {
                ProcessState::Stopped => fake.last_start.is_some(),
                ProcessState::Stopping(_) => fake.leader.is_some(),
                _ => false,
            };
        }
    }

    /// Handles every deadline that is due, and reaps before each, as the main loop does. After a few rounds, no
    /// deadline may be due.
    fn run_due_timers(&mut self) {
        for _ in 0..10 {
            if self.processes.deadline().is_some_and(|deadline| deadline <= self.time()) {
                self.reap();
            }
            self.coverage.steps += 1;
            self.processes.tick(self.time());
            self.run_actions();
            if self.processes.deadline().is_none_or(|deadline| deadline > self.time()) {
                return;
            }
        }
        self.fail("the next deadline is in the future, so the main loop does not spin");
    }

    /// Advances the clock to the next deadline, by less than a second, or by hours.
    fn advance_clock(&mut self) {
        let until_deadline =
            self.processes.deadline().map(|deadline| deadline.duration_since(self.time()).as_nanos());
        let step = match (self.random.u32(0..10), until_deadline) {
            (0..=3, Some(nanos)) => u64::try_from(nanos).unwrap().min(86_400 * SECOND),
            (9, _) if self.one_chance_in(20) => {
                self.coverage.count("hours passed");
                self.random.u64(0..10_000) * SECOND
            }
            _ => self.random.u64(0..SECOND),
        };
        self.now += step;
        if let Some(began) = self.stop_began
            && self.now - began > 1_000_000 * SECOND
        {
            self.fail("the stop ends in time");
        }
    }

    /// Changes the processes at random. rsup learns at once only of a finished exec.
    fn change_processes(&mut self) {
        for id in 0..self.fakes.len() {
            let fake = &self.fakes[id];
            let pending = fake.leader == Some(Exec::Pending);
            let alive = fake.leader.is_some() && fake.zombie.is_none();
            if pending && alive && self.random.bool() {
                self.finish_exec(id);
            } else if alive {
                if !pending && self.one_chance_in(8) {
                    self.fakes[id].members += self.random.u32(0..3);
                }
                if self.one_chance_in(10) {
                    self.fakes[id].zombie = Some(self.random_exit_status());
                }
            } else if self.one_chance_in(10) {
                self.fakes[id].members = 0;
            }
        }
        if self.one_chance_in(30) {
            self.change_orphans();
        }
        if self.one_chance_in(10) {
            let pid = self.free_pid();
            self.foreign_pids.insert(pid);
        }
        if self.one_chance_in(10) {
            self.foreign_pids.pop_first();
        }
    }

    /// Some orphans exit, and rsup adopts others. `kill(-1)` by PID 1 has reached these others too.
    fn change_orphans(&mut self) {
        self.coverage.count("unknown children");
        self.orphans.truncate(self.random.usize(0..3));
        let asked = self.sweep_began.filter(|_| self.context.is_pid1);
        for _ in 0..self.random.u32(0..3) {
            let refuses_signals = self.random.u32(0..10) == 0;
            self.orphans.push(Orphan { asked, refuses_signals, killed: false });
            self.adopted = true;
        }
    }

    /// The lowest free PID: the fake kernel reuses a PID as early as possible.
    fn free_pid(&self) -> u32 {
        let taken = |pid: &u32| {
            self.foreign_pids.contains(pid) || self.fakes.iter().any(|fake| fake.pid == Some(*pid))
        };
        (2..).find(|pid| !taken(pid)).unwrap()
    }

    /// rsup reaps its children in random order, and then looks for process groups that have become empty.
    fn reap(&mut self) {
        let mut zombies: Vec<usize> =
            (0..self.fakes.len()).filter(|id| self.fakes[*id].zombie.is_some()).collect();
        self.random.shuffle(&mut zombies);
        for id in &zombies {
            self.reap_leader(*id);
        }
        for id in 0..self.fakes.len() {
            if self.fakes[id].group_outlived_leader && self.fakes[id].members == 0 {
                self.fakes[id].group_outlived_leader = false;
                self.fakes[id].pid = None;
                self.apply(id, Event::GroupEmpty);
            }
        }
        self.report_reaped(!zombies.is_empty());
    }

    fn random_exit_status(&mut self) -> ExitStatus {
        match self.random.u32(0..4) {
            0 | 1 => ExitStatus::Code(0),
            2 => ExitStatus::Code(self.random.u8(..)),
            _ => ExitStatus::Signal {
                signal: Signal::from_number(self.random.i64(1..=64)).unwrap(),
                core: self.random.bool(),
            },
        }
    }

    /// The exec of a leader succeeds, fails, or must wait until rsup has opened a FIFO. When rsup learns of the last
    /// two, the leader is reaped already.
    fn finish_exec(&mut self, id: usize) {
        if self.one_chance_in(6) {
            self.coverage.count("exec failed");
            self.fakes[id].leader = None;
            self.fakes[id].pid = None;
            self.count_failed_start(id);
            self.apply(id, Event::SpawnFailed);
        } else if self.one_chance_in(10) {
            self.coverage.count("exec deferred");
            self.fakes[id].leader = None;
            self.fakes[id].pid = None;
            // The next start repeats this one, so the interval between two starts does not apply.
            self.fakes[id].last_start = None;
            self.apply(id, Event::FifoUnopenedByRsup);
        } else {
            self.fakes[id].leader = Some(Exec::Done);
            self.fakes[id].up_since = Some(self.now);
            self.apply(id, Event::ExecSucceeded);
        }
    }

    /// Counts a failed fork or exec. The failure of a start that is being stopped anyway does not count.
    fn count_failed_start(&mut self, id: usize) {
        let state = self.processes.process(ProcessIndex(id)).unwrap().state();
        if !matches!(state, ProcessState::Stopping(_)) {
            self.note_death(id);
            self.count_failure(id);
        }
    }

    fn note_death(&mut self, id: usize) {
        if !self.specs[id].is_listener {
            self.last_death = Some(self.now);
        }
    }

    fn count_failure(&mut self, id: usize) {
        self.fakes[id].failures += 1;
        if self.fakes[id].failures > self.specs[id].startretries.max(0) + 1 {
            self.fail("retries are bounded");
        }
    }

    fn reap_leader(&mut self, id: usize) {
        // An event of another process may already have made rsup reap this leader.
        let Some(exit) = self.fakes[id].zombie.take() else { return };
        self.coverage.count("leader exited");
        // rsup learns of the exec before it learns of the exit.
        if self.fakes[id].leader == Some(Exec::Pending) {
            self.fakes[id].leader = Some(Exec::Done);
            self.fakes[id].up_since = Some(self.now);
            self.apply(id, Event::ExecSucceeded);
        }
        let fake = &mut self.fakes[id];
        fake.leader = None;
        fake.group_outlived_leader = fake.members > 0;
        if !fake.group_outlived_leader {
            fake.pid = None;
        }
        let group_alive = fake.group_outlived_leader;
        let up = self.now - fake.up_since.unwrap();
        let state = self.processes.process(ProcessIndex(id)).map(Process::state);
        if matches!(state, Some(ProcessState::Starting { .. } | ProcessState::Running)) {
            self.note_death(id);
        }
        if matches!(state, Some(ProcessState::Starting { .. })) && up < nanoseconds(self.specs[id].startsecs)
        {
            self.count_failure(id);
        } else {
            self.fakes[id].failures = 0;
            if matches!(state, Some(ProcessState::Starting { .. } | ProcessState::Running)) {
                let expected = self.specs[id].exitcodes.iter().any(|code| exit == ExitStatus::Code(*code));
                // A process that is STARTING and exits after `startsecs` passes RUNNING.
                self.fakes[id].reached.extend([StateName::Running, StateName::Exited]);
                self.fakes[id].was_up |= expected || self.specs[id].startup_wait == StartupWait::Running;
            }
        }
        self.apply(id, Event::Exited { exit, group_alive });
    }

    fn apply(&mut self, id: usize, event: Event) {
        self.coverage.steps += 1;
        let state = self.processes.process(ProcessIndex(id)).unwrap().state();
        self.coverage.pairs.insert((state_name(state), event_name(event)));
        self.processes.apply(ProcessIndex(id), event, self.time());
        self.note_shutdown_on(id);
        self.run_actions();
    }

    /// Records that the stop has begun if `shutdown_on` names the present state of the process.
    fn note_shutdown_on(&mut self, id: usize) {
        let state = self.processes.process(ProcessIndex(id)).unwrap().state();
        let stops = match self.specs[id].shutdown_on {
            ShutdownOn::Never => false,
            ShutdownOn::Fatal => state == ProcessState::Fatal,
            ShutdownOn::Exited => {
                matches!(state, ProcessState::Fatal | ProcessState::Exited { restart_at: None })
            }
        };
        if stops {
            self.stop_began.get_or_insert(self.now);
        }
    }

    /// Passes the result of reaping to policy. At random, an orphan was reaped as well.
    fn report_reaped(&mut self, leader_reaped: bool) {
        let any_changed = leader_reaped || std::mem::take(&mut self.adopted) || self.random.bool();
        let exists =
            |fake: &FakeProcess| fake.leader.is_some() || fake.members > 0 || fake.group_outlived_leader;
        let only_listeners = self.processes.only_listeners_run();
        let counts = |id: &usize| !(only_listeners && self.specs[*id].is_listener);
        let any_child_left = !self.orphans.is_empty()
            || (0..self.fakes.len()).filter(counts).any(|id| exists(&self.fakes[id]));
        self.coverage.steps += 1;
        self.processes.on_reaped(any_changed, any_child_left, self.time());
        self.run_actions();
    }

    fn run_actions(&mut self) {
        self.note_milestones();
        while let Some(action) = self.processes.next_action() {
            self.note_milestones();
            if self.exit_code.is_some() {
                self.fail("no action follows the exit");
            }
            match action {
                Action::Process(ProcessIndex(id), action) => self.run_process_action(id, action),
                Action::Log(SupervisorMessage::ReceivedExitRequest(_)) => {
                    self.received_stop_signal = true;
                    let first = *self.first_request.get_or_insert(self.now);
                    self.kill_requested |= self.now >= first + SECOND;
                }
                Action::Log(SupervisorMessage::Forwarding(signal)) => {
                    if !self.passed_on.insert(signal) {
                        self.fail("the log says once that a signal is passed on");
                    }
                }
                Action::Log(_) => {}
                Action::NotifyProcessState(ProcessIndex(id), transition) => {
                    self.note_transition(id, transition)
                }
                Action::NotifySupervisorStopping => self.note_stop(),
                Action::Reap => self.reap_requested = true,
                // SIGSTOP is what rsup sends before it suspends itself. rsup cannot receive it.
                Action::Forward(signal) if signal != Signal::STOP && !self.passed_on.contains(&signal) => {
                    self.fail("a signal is passed on only after the log says so");
                }
                Action::Forward(signal) => self.forward(signal),
                Action::Suspend if self.context.is_pid1 => self.fail("PID 1 does not suspend itself"),
                Action::Suspend => self.coverage.count("suspended"),
                Action::AskRemainingToStop { only_leader_asked: members_of } => {
                    self.ask_remaining(&members_of)
                }
                Action::AskAdoptedToStop if self.context.is_pid1 || self.can_list_children => {
                    self.ask_orphans();
                }
                Action::AskAdoptedToStop => {}
                Action::SignalRemaining(signal) => self.signal_remaining(signal),
                Action::Reload => {
                    self.coverage.count("reloaded");
                    if self.received_stop_signal {
                        self.fail("rsup is not executed again after a stop signal");
                    }
                    self.exit(0);
                }
                Action::Exit(code) => self.exit(code),
            }
        }
        if std::mem::take(&mut self.reap_requested) {
            self.reap();
        }
    }

    fn run_process_action(&mut self, id: usize, action: ProcessAction) {
        match action {
            ProcessAction::Spawn => self.spawn(id),
            ProcessAction::Send(signal, to) => self.send(id, signal, to),
            ProcessAction::AbandonGroup => {
                // If the group has members, its ID stays in use, and rsup does not know it any more.
                self.foreign_pids.extend(self.fakes[id].pid.take().filter(|_| self.fakes[id].members > 0));
                self.fakes[id].members = 0;
                self.fakes[id].group_outlived_leader = false;
            }
            ProcessAction::Log(ProcessMessage::Success { .. }) => {
                let fake = &self.fakes[id];
                let alive = fake.leader == Some(Exec::Done) && fake.zombie.is_none();
                let Some(up_since) = fake.up_since.filter(|_| alive) else {
                    self.fail("a process that has exited never enters RUNNING");
                };
                if self.now - up_since < nanoseconds(self.specs[id].startsecs) {
                    self.fail("a process enters RUNNING only after startsecs");
                }
                self.fakes[id].failures = 0;
                self.fakes[id].reached.insert(StateName::Running);
                self.fakes[id].was_up |= self.specs[id].startup_wait == StartupWait::Running;
            }
            ProcessAction::Log(_) => {}
        }
    }

    fn spawn(&mut self, id: usize) {
        if self.stop_began.is_some() {
            self.fail("no process is started after the stop began");
        }
        self.fakes[id].reached.insert(StateName::Starting);
        if !std::mem::replace(&mut self.fakes[id].was_started, true) && !self.fakes[id].ends_wait {
            if !self.may_start_first(id) {
                self.fail("no process is started before what it waits for");
            }
            if self.waits(id) {
                self.coverage.count("started after a wait");
            }
        }
        let fake = &mut self.fakes[id];
        if fake.stopped_by_request {
            self.fail("only a request starts a process that a client has stopped");
        }
        let fake = &mut self.fakes[id];
        let too_soon = fake.last_start.is_some_and(|last| self.now < last + SECOND);
        match fake {
            FakeProcess { leader: Some(_), .. } => self.fail("no second leader is started"),
            FakeProcess { members: 1.., .. } => {
                self.fail("no process is started while its last process group has members")
            }
            _ if too_soon => self.fail("two starts of a process are at least a second apart"),
            _ => {}
        }
        fake.last_start = Some(self.now);
        fake.up_since = None;
        fake.ignores_sigterm = self.random.u32(0..4) == 0;
        fake.ignores_sigkill = self.random.u32(0..40) == 0;
        fake.refuses_signals = self.random.u32(0..20) == 0;
        fake.leader_asked = None;
        fake.leader_killed = false;
        fake.members_asked = None;
        if self.one_chance_in(6) {
            self.coverage.count("fork failed");
            self.count_failed_start(id);
            self.coverage.steps += 1;
            self.processes.apply(ProcessIndex(id), Event::SpawnFailed, self.time());
            self.note_shutdown_on(id);
        } else {
            self.coverage.count("forked");
            let pid = self.free_pid();
            if self.last_owners.insert(pid, id).is_some_and(|last| last != id) {
                self.coverage.count("PID reused");
            }
            self.fakes[id].pid = Some(pid);
            self.fakes[id].leader = Some(Exec::Pending);
        }
    }

    fn send(&mut self, id: usize, signal: Signal, to: SignalTarget) {
        let fake = &mut self.fakes[id];
        let known = match to {
            SignalTarget::Leader => fake.leader.is_some(),
            SignalTarget::Group => fake.leader.is_some() || fake.group_outlived_leader,
        };
        if !known || fake.pid.is_none() {
            // A start and a stop were requested at once, and the start has failed.
            if self.requests_are_queued {
                return self.coverage.count("signal without a receiver");
            }
            self.fail("a signal is sent only to a known leader or process group");
        }
        if fake.zombie.is_some() || fake.leader.is_none() && fake.members == 0 {
            // kill(2) succeeds or returns ESRCH. rsup learns of the exit only by reaping.
            self.coverage.count("signal to an exited process");
        }
        self.check_stop_signal(id, signal, to);
        let fake = &mut self.fakes[id];
        if fake.refuses_signals {
            self.coverage.count("signal refused");
            return self.report_refusal(id, signal, to);
        }
        let ends_members = !fake.ignores_sigkill
            && (signal == Signal::KILL || !fake.ignores_sigterm && signal != Signal::CONT);
        // The leader exits at random, and not here, so that signals and exits occur in every order.
        if to == SignalTarget::Group && ends_members {
            fake.members = 0;
        }
    }

    /// rsup learns that the kernel has refused a signal, and looks at the process group of a leader that refuses
    /// SIGKILL.
    fn report_refusal(&mut self, id: usize, signal: Signal, to: SignalTarget) {
        if to == SignalTarget::Leader && signal != Signal::KILL {
            return;
        }
        self.coverage.steps += 1;
        let state = self.processes.process(ProcessIndex(id)).unwrap().state();
        self.coverage.pairs.insert((state_name(state), event_name(Event::GroupSignalNotPermitted)));
        self.processes.apply(ProcessIndex(id), Event::GroupSignalNotPermitted, self.time());
        let process = self.processes.process(ProcessIndex(id)).unwrap();
        let waits = match process.state() {
            ProcessState::Stopping(_) => {
                self.fakes[id].leader_killed && process.blocks_stop_of_lower_priorities()
            }
            ProcessState::Starting { .. } | ProcessState::Running => false,
            _ => signal == Signal::KILL && process.blocks_stop_of_lower_priorities(),
        };
        if waits {
            self.fail("a process that refuses SIGKILL delays nothing");
        }
    }

    /// The rules about SIGTERM (the stop signal of every process here) and SIGKILL.
    fn check_stop_signal(&mut self, id: usize, signal: Signal, to: SignalTarget) {
        let wait = nanoseconds(self.specs[id].stopwaitsecs);
        let late_wait = nanoseconds(self.specs[id].stopwaitsecs.min(LATE_REQUEST_SECS));
        let killasgroup = self.specs[id].killasgroup;
        let now = self.now;
        let is_exempt = self.kill_requested;
        let deadline_passed = self.stop_deadline_passed();
        // At the moment of the death, the signal may already be among the actions.
        let has_time = self.last_death.is_none_or(|died| now == died || now >= died + SECOND);
        let is_early = self.specs[id].is_listener && !has_time && self.stop_began.is_some();
        let has_stop_timeout = self.stop_timeout.is_some();
        let fake = &mut self.fakes[id];
        let leader_is_alive = fake.leader.is_some();
        let mut broken = None;
        if signal == Signal::TERM {
            if leader_is_alive && !fake.leader_killed && fake.leader_asked.replace(now).is_some() {
                broken = Some("no leader is asked twice");
            }
            if to == SignalTarget::Group && fake.members_asked.replace(now).is_some() {
                broken = Some("no member of a process group is asked twice");
            }
            let asks_leader = leader_is_alive && !fake.leader_killed && fake.last_stop_request != Some(now);
            if is_early && asks_leader && !is_exempt && !has_stop_timeout {
                broken = Some("a listener has a second for the last event");
            }
        } else if signal == Signal::KILL && !is_exempt {
            let too_early = |asked: Option<u64>, wait: u64| {
                asked.is_none_or(|asked| now < asked + wait && !deadline_passed)
            };
            if leader_is_alive && !fake.leader_killed && too_early(fake.leader_asked, wait) {
                broken = Some("no leader is sent SIGKILL without a request and time");
            }
            // With `killasgroup`, SIGKILL reaches the whole process group of a leader that was asked.
            let group_is_asked = killasgroup && leader_is_alive;
            if to == SignalTarget::Group && !group_is_asked && too_early(fake.members_asked, late_wait) {
                broken = Some("no member of a process group is sent SIGKILL without a request and time");
            }
        }
        fake.leader_killed |= signal == Signal::KILL && leader_is_alive;
        if let Some(invariant) = broken {
            self.fail(invariant);
        }
    }

    fn stop_deadline_passed(&self) -> bool {
        let deadline =
            self.stop_began.zip(self.stop_timeout).map(|(began, timeout)| began + timeout * SECOND);
        deadline.is_some_and(|deadline| self.now >= deadline)
    }

    /// The stop deadline is near: rsup asks the members of these groups, and all orphans. Without a list of the
    /// processes the leaders are asked again.
    fn ask_remaining(&mut self, members_of: &[ProcessIndex]) {
        self.coverage.count("asked before the stop deadline");
        for ProcessIndex(id) in members_of {
            if self.fakes[*id].members_asked.replace(self.now).is_some() {
                self.fail("no member of a process group is asked twice");
            }
            if !self.fakes[*id].ignores_sigterm && !self.fakes[*id].refuses_signals {
                self.fakes[*id].members = 0;
            }
        }
        if self.context.is_pid1 || self.can_list_children {
            self.ask_orphans();
        }
    }

    /// Returns whether an orphan was asked that was not asked before.
    fn ask_orphans(&mut self) -> bool {
        let now = self.now;
        let mut asked_new = false;
        for orphan in &mut self.orphans {
            asked_new |= orphan.asked.is_none();
            orphan.asked.get_or_insert(now);
        }
        if self.random.bool() {
            self.orphans.retain(|orphan| orphan.refuses_signals);
        }
        asked_new
    }

    fn kill_orphans(&mut self) {
        let longest = self.specs.iter().map(|spec| spec.stopwaitsecs).max().unwrap_or(0);
        let late_wait = nanoseconds(longest.min(LATE_REQUEST_SECS));
        // A process that rsup finds after this time prolongs the sweep no more.
        let sweep_end = self.sweep_began.map(|began| began + nanoseconds(longest) + late_wait);
        let is_exempt = self.kill_requested || sweep_end.is_some_and(|end| self.now >= end);
        for orphan in &self.orphans {
            let is_early = |asked: u64| self.now < asked + late_wait && !self.stop_deadline_passed();
            // At the stop deadline, a child that rsup has adopted at this moment gets SIGKILL at once.
            let was_asked = orphan.asked.is_some() || self.stop_deadline_passed();
            if !is_exempt && !orphan.killed && (!was_asked || orphan.asked.is_some_and(is_early)) {
                self.fail("no remaining process is sent SIGKILL without a request and time");
            }
        }
        self.orphans.retain(|orphan| orphan.refuses_signals);
        self.orphans.iter_mut().for_each(|orphan| orphan.killed = true);
    }

    /// Checks that there is a notification for the listeners for each change of the state, in order.
    fn note_transition(&mut self, id: usize, transition: Transition) {
        let told = self.fakes[id].told.replace(transition.to).unwrap_or(StateName::Stopped);
        if transition.from != told || transition.from == transition.to {
            self.fail("each transition begins in the state in which the last one has ended");
        }
    }

    /// Notes the notification for the listeners that the stop begins. If nothing has requested the stop, only listeners may
    /// run.
    fn note_stop(&mut self) {
        if std::mem::replace(&mut self.stop_was_told, true) {
            self.fail("there is one notification that the stop begins");
        }
        if self.stop_began.is_none() {
            let runs = |id: usize| !self.specs[id].is_listener && self.fakes[id].leader.is_some();
            if (0..self.specs.len()).any(runs) {
                self.fail("without a request, rsup stops only listeners");
            }
            self.coverage.count("stopped the listeners, because nothing else ran");
            self.stop_began = Some(self.now);
            self.only_listeners_ran = true;
        }
    }

    /// Checks that the listeners know the state of each process.
    fn check_told(&self) {
        for (id, fake) in self.fakes.iter().enumerate() {
            let state = self.processes.process(ProcessIndex(id)).unwrap().state();
            if fake.told.unwrap_or(StateName::Stopped) != state.name() {
                self.fail("the last notification names the present state");
            }
        }
    }

    /// Notes in which states the processes are.
    fn note_milestones(&mut self) {
        for (id, fake) in self.fakes.iter_mut().enumerate() {
            let process = self.processes.process(ProcessIndex(id)).unwrap();
            let milestones: &[StateName] = match process.state() {
                ProcessState::Stopped => &[],
                ProcessState::Starting { .. } => &[StateName::Starting],
                ProcessState::Running => &[StateName::Running],
                ProcessState::Backoff { .. } => &[StateName::Backoff],
                ProcessState::Stopping(_) => &[StateName::Stopping],
                ProcessState::Exited { .. } => &[StateName::Exited],
                // After the last failed start, a process passes BACKOFF on its way to FATAL.
                ProcessState::Fatal => &[StateName::Backoff, StateName::Fatal],
            };
            fake.reached.extend(milestones);
            fake.was_up |= match self.specs[id].startup_wait {
                StartupWait::Running => process.state() == ProcessState::Running,
                StartupWait::Exited => {
                    matches!(process.state(), ProcessState::Exited { .. })
                        && process.last_exit().is_some_and(|(_, expected)| expected)
                }
            };
        }
    }

    /// Whether nothing is left that the first start of the process has to wait for.
    fn may_start_first(&self, id: usize) -> bool {
        let is_reached = |dependency: &Dependency| {
            let all_reached = |state: &StateName| {
                dependency.processes.iter().all(|other| self.fakes[other.0].reached.contains(state))
            };
            dependency.states.iter().any(all_reached)
        };
        self.specs[id].dependencies.iter().all(is_reached)
            && self.steps_before(id).iter().all(|other| self.fakes[*other].was_up)
    }

    /// With `startup=ordered`, the processes with `autostart` that have a lower priority.
    fn steps_before(&self, id: usize) -> Vec<usize> {
        let step = |id: usize| (self.specs[id].group_priority, self.specs[id].priority);
        let is_before = |other: &usize| {
            self.ordered_startup && self.is_in_step(id) && self.is_in_step(*other) && step(*other) < step(id)
        };
        (0..self.specs.len()).filter(is_before).collect()
    }

    fn is_in_step(&self, id: usize) -> bool {
        self.specs[id].autostart && !self.specs[id].is_listener
    }

    fn waits(&self, id: usize) -> bool {
        !self.specs[id].dependencies.is_empty() || !self.steps_before(id).is_empty()
    }

    /// Fails if a process that has nothing left to wait for was not started.
    fn check_starts(&mut self) {
        if self.exit_code.is_some() || self.stop_began.is_some() || !self.processes.accepts_requests() {
            return;
        }
        for id in 0..self.fakes.len() {
            let spec = &self.specs[id];
            let fake = &self.fakes[id];
            let is_due = (spec.autostart || spec.dependent_startup) && !fake.was_started && !fake.ends_wait;
            let waits = !self.processes.wait_reasons(ProcessIndex(id)).is_empty();
            if is_due && waits == self.may_start_first(id) {
                self.fail("a process waits if and only if something that it waits for has not happened");
            }
            if is_due && !waits {
                self.fail("a process that has nothing left to wait for is started");
            }
            if is_due {
                self.coverage.count("waiting");
            }
        }
    }

    fn forward(&mut self, signal: Signal) {
        self.coverage.count("forwarded");
        let own = [Signal::CHLD, Signal::TERM, Signal::INT, Signal::QUIT, Signal::KILL];
        if own.contains(&signal) {
            self.fail("rsup does not forward the signals that it handles itself");
        }
        if self.context.is_pid1 && [Signal::TSTP, Signal::TTIN, Signal::TTOU, Signal::STOP].contains(&signal)
        {
            self.fail("PID 1 does not stop the programs");
        }
    }

    fn signal_remaining(&mut self, signal: Signal) {
        if !self.context.is_pid1 && !self.can_list_children {
            self.coverage.count("children could not be listed");
            self.coverage.steps += 1;
            self.processes.on_remaining_not_listed(self.time());
        } else if signal == Signal::KILL {
            self.kill_orphans();
        } else {
            self.sweep_began.get_or_insert(self.now);
            if self.ask_orphans() {
                self.coverage.steps += 1;
                self.processes.on_sigterm_sent(self.time());
            }
        }
        let is_left = |fake: &FakeProcess| fake.leader.is_some() || fake.group_outlived_leader;
        if !self.orphans.is_empty()
            && self.orphans.iter().all(|orphan| orphan.killed)
            && !self.fakes.iter().any(is_left)
        {
            self.coverage.count("only processes that refuse SIGKILL were left");
            self.coverage.steps += 1;
            self.processes.on_remaining_not_permitted(self.time());
        }
        self.reap_requested = true;
    }

    fn exit(&mut self, code: u8) {
        let starts_at_once = |id: usize| {
            let spec = &self.specs[id];
            !spec.is_listener && (spec.autostart || spec.dependent_startup) && !self.waits(id)
        };
        let nothing_to_start = !(0..self.specs.len()).any(starts_at_once);
        if nothing_to_start && !self.accepts_requests && code != 2 {
            self.fail("the exit code is 2 if rsup can start no program");
        }
        if nothing_to_start && self.accepts_requests && !self.start_requested && self.stop_began.is_none() {
            self.fail("without autostart, rsup stays until a client requests a start");
        }
        if self.stop_began.is_none() && self.fakes.iter().any(|fake| fake.stopped_by_request) {
            self.fail("rsup stays while a client may start a process that a client has stopped");
        }
        if self.specs.iter().all(|spec| spec.shutdown_on == ShutdownOn::Never)
            && self.received_stop_signal
            && !self.only_listeners_ran
            && code != 0
        {
            self.fail("the exit code is 0 after a stop signal");
        }
        if self.stop_began.is_none() && self.fakes.iter().any(|fake| fake.leader.is_some()) {
            self.fail("without a stop, rsup exits only when no leader runs");
        }
        self.exit_code = Some(code);
    }
}

fn nanoseconds(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0) * SECOND
}

fn spec(random: &mut fastrand::Rng) -> ProcessSpec {
    let restart = [AutoRestart::Never, AutoRestart::Unexpected, AutoRestart::Always];
    let shutdown = [ShutdownOn::Never, ShutdownOn::Never, ShutdownOn::Fatal, ShutdownOn::Exited];
    ProcessSpec {
        autostart: random.u32(0..5) > 0,
        autorestart: *random.choice(&restart).unwrap(),
        startsecs: random.i64(-1..4),
        startretries: random.i64(-1..4),
        exitcodes: vec![0; random.usize(0..2)].into(),
        stopsignal: Signal::TERM,
        stopwaitsecs: random.i64(-1..12),
        stopasgroup: random.bool(),
        killasgroup: random.u32(0..4) == 0,
        group_priority: random.i64(1..4),
        priority: random.i64(1..3),
        startup_wait: *random.choice(&[StartupWait::Running, StartupWait::Exited]).unwrap(),
        dependencies: Vec::new(),
        dependent_startup: false,
        start_rank: 0,
        shutdown_on: *random.choice(&shutdown).unwrap(),
        is_listener: random.u32(0..6) == 0,
    }
}

/// Lets some processes wait for processes that come before them in this list. So there is no cycle.
fn add_dependencies(specs: &mut [ProcessSpec], random: &mut fastrand::Rng) {
    let states = [
        StateName::Starting,
        StateName::Running,
        StateName::Running,
        StateName::Backoff,
        StateName::Stopping,
        StateName::Exited,
        StateName::Exited,
        StateName::Fatal,
    ];
    for (id, spec) in specs.iter_mut().enumerate().skip(1) {
        spec.start_rank = random.i64(0..3);
        if random.u32(0..3) > 0 {
            continue;
        }
        spec.dependent_startup = !spec.autostart;
        for _ in 0..random.usize(1..3) {
            let first = random.usize(0..id);
            let last = random.usize(first..id);
            let count = random.usize(1..3);
            let states: Vec<StateName> = random.choose_multiple(states, count);
            spec.dependencies.push(Dependency {
                name: "other".into(),
                processes: (first..=last).map(ProcessIndex).collect(),
                states: states.into(),
            });
        }
    }
}

fn state_name(state: ProcessState) -> &'static str {
    match state {
        ProcessState::Stopped => "STOPPED",
        ProcessState::Starting { exec_succeeded_at: None } => "STARTING before the exec",
        ProcessState::Starting { exec_succeeded_at: Some(_) } => "STARTING",
        ProcessState::Running => "RUNNING",
        ProcessState::Backoff { .. } => "BACKOFF",
        ProcessState::Stopping(StopStep::LeaderAsked { .. }) => "STOPPING",
        ProcessState::Stopping(StopStep::GroupAsked { .. }) => "STOPPING with its process group",
        ProcessState::Stopping(StopStep::LeaderKilled { .. }) => "STOPPING after SIGKILL to the leader",
        ProcessState::Stopping(StopStep::GroupKilled) => "STOPPING after SIGKILL",
        ProcessState::Exited { restart_at: Some(_) } => "EXITED before a restart",
        ProcessState::Exited { restart_at: None } => "EXITED",
        ProcessState::Fatal => "FATAL",
    }
}

fn event_name(event: Event) -> &'static str {
    match event {
        Event::ExecSucceeded => "exec succeeded",
        Event::SpawnFailed => "spawn failed",
        Event::FifoUnopenedByRsup => "fifo unopened by rsup",
        Event::Exited { group_alive: false, .. } => "exited",
        Event::Exited { group_alive: true, .. } => "exited with group alive",
        Event::GroupEmpty => "group empty",
        Event::GroupSignalNotPermitted => "group signal not permitted",
        Event::Start
        | Event::SpawnCancelled
        | Event::Tick
        | Event::DisableStarts
        | Event::Stop
        | Event::StartRequested
        | Event::StopRequested
        | Event::MembersAsked
        | Event::KillNow => "created by ProcessSet itself",
    }
}

#[test]
fn the_invariants_hold_in_random_walks() {
    let walks = std::env::var("WALKS").map_or(WALKS, |walks| walks.parse().unwrap());
    let mut codes = BTreeSet::new();
    let mut coverage = Coverage::default();
    for seed in 0..walks {
        let mut walk = Walk::new(seed);
        walk.run();
        codes.extend(walk.exit_code);
        coverage.add(walk.coverage);
    }
    println!("{} steps in {walks} walks: {:#?}", coverage.steps, coverage.incidents);
    assert!(codes.len() > 20, "too few different exit codes: {codes:?}");
    assert!(coverage.steps > 50 * walks, "only {} steps", coverage.steps);
    // The kernel can cause its events in 41 combinations of state and event, and a client each of its 2 requests in 12
    // states. The walks must reach all of them.
    assert_eq!(coverage.pairs.len(), 65, "{:#?}", coverage.pairs);
    let incidents = [
        "forked",
        "fork failed",
        "exec failed",
        "exec deferred",
        "leader exited",
        "signal to an exited process",
        "PID reused",
        "unknown children",
        "hours passed",
        "repeated stop signal",
        "forwarded",
        "suspended",
        "children could not be listed",
        "signal refused",
        "asked before the stop deadline",
        "request during the stop",
        "signal without a receiver",
        "reloaded",
        "only processes that refuse SIGKILL were left",
    ];
    for incident in incidents {
        let count = coverage.incidents.get(incident).copied().unwrap_or(0);
        assert!(count > walks / 100, "{incident}: {:?}", coverage.incidents);
    }
}
