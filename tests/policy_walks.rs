//! Random walks of the whole law over a fake world: execs and forks fail, programs die, linger and ignore signals, are
//! dead before anybody knows, groups outlive their leaders, numbers are used again at once, unknown children come and
//! go, time jumps. Whatever happens, the laws hold. `WALKS` says how many walks.

use std::collections::{BTreeMap, BTreeSet};

use rsup::policy::{
    Action, AutoRestart, Event, ExitStatus, ProcId, Process, ProcessAction, ProcessMessage, ProcessSet,
    ProcessSpec, ProcessState, RunContext, Settings, ShutdownOn, Signal, SignalInfo, SignalTarget,
    SupervisorMessage, Time,
};

const SECOND: u64 = 1_000_000_000;
const WALKS: u64 = 20_000;

/// What really is, as the kernel would know it, and beside it what rsup was told.
#[derive(Clone, Default)]
struct Being {
    /// A child exists, dead or alive; whether its exec is done.
    leader: Option<Exec>,
    /// The child is dead, and was not waited for yet.
    dead: Option<ExitStatus>,
    /// Other members of its group that live.
    members: u32,
    /// Its process id and that of its group, which is in use while either has a member that was not waited for.
    number: Option<u32>,
    /// rsup was told that the group has outlived its leader, and not yet that it is gone.
    outlived: bool,
    /// Its group dies of nothing but SIGKILL.
    deaf: bool,
    /// It does not even die of that.
    stuck: bool,
    last_start: Option<u64>,
    up_since: Option<u64>,
    failures: i64,
}

#[derive(Clone, Copy, PartialEq)]
enum Exec {
    Pending,
    Done,
}

struct World {
    seed: u64,
    random: fastrand::Rng,
    now: u64,
    processes: ProcessSet,
    specs: Vec<ProcessSpec>,
    beings: Vec<Being>,
    orphans: u32,
    stop_began: Option<u64>,
    signalled: bool,
    code: Option<u8>,
    waiting_for_children: bool,
    context: RunContext,
    /// Where rsup is not process 1: whether the kernel lists its children.
    lists_children: bool,
    /// Numbers in use by whom rsup knows nothing of.
    strangers: BTreeSet<u32>,
    /// Whose each number was last.
    owners: BTreeMap<u32, usize>,
    seen: Seen,
}

/// What the walks have come to, for a walk is worth something only if much happens.
#[derive(Default)]
struct Seen {
    /// Facts that the law was told.
    steps: u64,
    /// How often each kind of thing has happened.
    events: BTreeMap<&'static str, u64>,
    /// What was told of a process in which state.
    pairs: BTreeSet<(&'static str, &'static str)>,
}

impl Seen {
    fn event(&mut self, event: &'static str) {
        *self.events.entry(event).or_default() += 1;
    }

    fn add(&mut self, other: Self) {
        self.steps += other.steps;
        other.events.into_iter().for_each(|(event, count)| *self.events.entry(event).or_default() += count);
        self.pairs.extend(other.pairs);
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut specs: Vec<ProcessSpec> = (0..random.usize(1..6)).map(|_| spec(&mut random)).collect();
        specs.sort_by_key(|spec| spec.group_priority);
        let stop_timeout = random.bool().then(|| random.u64(0..8));
        Self {
            seed,
            now: random.u64(0..SECOND),
            processes: ProcessSet::new(specs.clone(), Settings { stop_timeout }),
            beings: vec![Being::default(); specs.len()],
            specs,
            orphans: 0,
            stop_began: None,
            signalled: false,
            code: None,
            waiting_for_children: false,
            context: RunContext {
                is_pid1: random.bool(),
                has_terminal: random.bool(),
                has_shell: random.bool(),
                hup_ignored: random.bool(),
            },
            lists_children: random.bool(),
            strangers: BTreeSet::new(),
            owners: BTreeMap::new(),
            seen: Seen::default(),
            random,
        }
    }

    fn time(&self) -> Time {
        Time::from_nanos(self.now)
    }

    fn fail(&self, law: &str) -> ! {
        panic!("seed {}: {law}", self.seed)
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.random.u32(0..n) == 0
    }

    /// Lives until rsup leaves, or for so long that it never would.
    fn live(&mut self) {
        self.processes.start_autostart(self.time());
        self.act();
        for turn in 0..2_000 {
            if self.code.is_some() {
                return;
            }
            self.pass_time();
            self.happen();
            if self.random.bool() {
                self.reap();
            }
            // Between what rsup has asked the kernel for and what it does then, more happens.
            if self.one_in(4) {
                self.happen();
            }
            if self.code.is_none() && (turn == 1_000 || self.one_in(40)) {
                self.receive(turn == 1_000);
            }
            self.settle();
        }
        self.fail("the stop always ends");
    }

    /// A signal comes.
    fn receive(&mut self, to_stop: bool) {
        let requests = [Signal::TERM, Signal::INT, Signal::QUIT];
        // All but SIGKILL and SIGSTOP, which nobody receives.
        let others = (1..9).chain(10..19).chain(20..=64);
        let signal = match to_stop || self.one_in(3) {
            true => *self.random.choice(&requests).unwrap(),
            false => Signal::from_number(self.random.choice(others.collect::<Vec<_>>()).unwrap()).unwrap(),
        };
        let hangup = signal == Signal::HUP && self.context.has_terminal && !self.context.hup_ignored;
        if requests.contains(&signal) || hangup && !self.context.is_pid1 {
            if self.stop_began.is_some() {
                self.seen.event("told to stop again");
            }
            self.stop_began.get_or_insert(self.now);
        }
        let received =
            SignalInfo { signal, from_kernel: self.random.bool(), from_outside: self.random.bool() };
        self.seen.steps += 1;
        self.processes.receive(received, self.context, self.time());
        self.act();
    }

    /// What is due is done, and soon nothing is. The dead are taken in before.
    fn settle(&mut self) {
        for _ in 0..10 {
            if self.processes.deadline().is_some_and(|deadline| deadline <= self.time()) {
                self.reap();
            }
            self.seen.steps += 1;
            self.processes.tick(self.time());
            self.act();
            if self.processes.deadline().is_none_or(|deadline| deadline > self.time()) {
                return;
            }
        }
        self.fail("a deadline is in the future, or it spins");
    }

    /// To the next deadline, a little on, or hours away.
    fn pass_time(&mut self) {
        let until_deadline =
            self.processes.deadline().map(|deadline| deadline.duration_since(self.time()).as_nanos());
        let step = match (self.random.u32(0..10), until_deadline) {
            (0..=3, Some(nanos)) => u64::try_from(nanos).unwrap().min(86_400 * SECOND),
            (9, _) if self.one_in(20) => {
                self.seen.event("hours passed");
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

    /// Things happen to the processes. Only of an exec does the kernel tell by itself.
    fn happen(&mut self) {
        for id in 0..self.beings.len() {
            let being = &self.beings[id];
            let (pending, alive) =
                (being.leader == Some(Exec::Pending), being.leader.is_some() && being.dead.is_none());
            if pending && alive && self.random.bool() {
                self.exec(id);
            } else if alive {
                if !pending && self.one_in(8) {
                    self.beings[id].members += self.random.u32(0..3);
                }
                if self.one_in(10) {
                    self.beings[id].dead = Some(self.exit());
                }
            } else if self.one_in(10) {
                self.beings[id].members = 0;
            }
        }
        if self.one_in(30) {
            self.seen.event("unknown children");
            self.orphans = self.random.u32(0..3);
        }
        if self.one_in(10) {
            let number = self.free_number();
            self.strangers.insert(number);
        }
        if self.one_in(10) {
            self.strangers.pop_first();
        }
    }

    /// The lowest number that is free: the kernel does not have to be that quick to use one again.
    fn free_number(&self) -> u32 {
        let taken = |number: &u32| {
            self.strangers.contains(number) || self.beings.iter().any(|being| being.number == Some(*number))
        };
        (2..).find(|number| !taken(number)).unwrap()
    }

    /// rsup waits for its children: it is told of the dead in any order, then of the groups that are empty.
    fn reap(&mut self) {
        let mut dead: Vec<usize> =
            (0..self.beings.len()).filter(|id| self.beings[*id].dead.is_some()).collect();
        self.random.shuffle(&mut dead);
        for id in &dead {
            self.die(*id);
        }
        for id in 0..self.beings.len() {
            if self.beings[id].outlived && self.beings[id].members == 0 {
                self.beings[id].outlived = false;
                self.beings[id].number = None;
                self.tell(id, Event::GroupEmpty);
            }
        }
        self.tell_of_children(!dead.is_empty());
    }

    fn exit(&mut self) -> ExitStatus {
        match self.random.u32(0..4) {
            0 | 1 => ExitStatus::Code(0),
            2 => ExitStatus::Code(self.random.u8(..)),
            _ => ExitStatus::Signal {
                signal: Signal::from_number(self.random.i64(1..=64)).unwrap(),
                core: self.random.bool(),
            },
        }
    }

    /// An exec works, or not: then the child is gone as soon as that is known.
    fn exec(&mut self, id: usize) {
        if self.one_in(6) {
            self.seen.event("exec failed");
            self.beings[id].leader = None;
            self.beings[id].number = None;
            self.count_failure(id);
            self.tell(id, Event::SpawnFailed);
        } else {
            self.beings[id].leader = Some(Exec::Done);
            self.beings[id].up_since = Some(self.now);
            self.tell(id, Event::Spawned);
        }
    }

    fn count_failure(&mut self, id: usize) {
        self.beings[id].failures += 1;
        if self.beings[id].failures > self.specs[id].startretries.max(0) + 1 {
            self.fail("retries are bounded");
        }
    }

    fn die(&mut self, id: usize) {
        // Told of one, rsup may have acted on another.
        let Some(exit) = self.beings[id].dead.take() else { return };
        self.seen.event("died");
        // A death right behind the exec is news of both, in this order.
        if self.beings[id].leader == Some(Exec::Pending) {
            self.beings[id].leader = Some(Exec::Done);
            self.beings[id].up_since = Some(self.now);
            self.tell(id, Event::Spawned);
        }
        let being = &mut self.beings[id];
        being.leader = None;
        being.outlived = being.members > 0;
        if !being.outlived {
            being.number = None;
        }
        let group_alive = being.outlived;
        let up = self.now - being.up_since.unwrap();
        let state = self.processes.process(ProcId(id)).map(Process::state);
        if matches!(state, Some(ProcessState::Starting { .. }))
            && up < whole_seconds(self.specs[id].startsecs)
        {
            self.count_failure(id);
        } else {
            self.beings[id].failures = 0;
        }
        self.tell(id, Event::Exited { exit, group_alive });
    }

    fn tell(&mut self, id: usize, event: Event) {
        self.seen.steps += 1;
        let state = self.processes.process(ProcId(id)).unwrap().state();
        self.seen.pairs.insert((name_of(state), kind_of(event)));
        self.processes.apply(ProcId(id), event, self.time());
        self.notice_shutdown_on(id);
        self.act();
    }

    /// Whether this process's end ends the whole, by the table of `shutdown_on`.
    fn notice_shutdown_on(&mut self, id: usize) {
        let state = self.processes.process(ProcId(id)).unwrap().state();
        let ends = match self.specs[id].shutdown_on {
            ShutdownOn::Never => false,
            ShutdownOn::Fatal => state == ProcessState::Fatal,
            ShutdownOn::Exited => {
                matches!(state, ProcessState::Fatal | ProcessState::Exited { restart_at: None })
            }
        };
        if ends {
            self.stop_began.get_or_insert(self.now);
        }
    }

    fn tell_of_children(&mut self, dead: bool) {
        let dead = dead || self.random.bool();
        let any = self.orphans > 0
            || self.beings.iter().any(|being| being.leader.is_some() || being.members > 0 || being.outlived);
        self.seen.steps += 1;
        self.processes.on_reaped(dead, any, self.time());
        self.act();
    }

    fn act(&mut self) {
        while let Some(action) = self.processes.next_action() {
            if self.code.is_some() {
                self.fail("nothing follows the leaving");
            }
            match action {
                Action::Process(ProcId(id), action) => self.act_on(id, action),
                Action::Log(SupervisorMessage::Received(_)) => self.signalled = true,
                Action::Log(_) => {}
                Action::Reap => self.waiting_for_children = true,
                Action::Forward(signal) => self.forward(signal),
                Action::Suspend if self.context.is_pid1 => self.fail("process 1 is not suspended"),
                Action::Suspend => self.seen.event("suspended"),
                Action::SignalRemaining(signal) => self.sweep(signal),
                Action::Exit(code) => self.leave(code),
            }
        }
        if std::mem::take(&mut self.waiting_for_children) {
            self.reap();
        }
    }

    fn act_on(&mut self, id: usize, action: ProcessAction) {
        match action {
            ProcessAction::Spawn => self.spawn(id),
            ProcessAction::Send(signal, to) => self.send(id, signal, to),
            ProcessAction::AbandonGroup => {
                // Whoever is left has the number to itself from here on.
                self.strangers.extend(self.beings[id].number.take().filter(|_| self.beings[id].members > 0));
                self.beings[id].members = 0;
                self.beings[id].outlived = false;
            }
            ProcessAction::Log(ProcessMessage::Success { .. }) => {
                let being = &self.beings[id];
                let alive = being.leader == Some(Exec::Done) && being.dead.is_none();
                let Some(up_since) = being.up_since.filter(|_| alive) else {
                    self.fail("a dead program is never RUNNING");
                };
                if self.now - up_since < whole_seconds(self.specs[id].startsecs) {
                    self.fail("RUNNING comes after startsecs");
                }
                self.beings[id].failures = 0;
            }
            ProcessAction::Log(_) => {}
        }
    }

    fn spawn(&mut self, id: usize) {
        if self.stop_began.is_some() {
            self.fail("no start after the stop began");
        }
        let being = &mut self.beings[id];
        let too_soon = being.last_start.is_some_and(|last| self.now < last + SECOND);
        match being {
            Being { leader: Some(_), .. } => self.fail("no second instance"),
            Being { members: 1.., .. } => self.fail("no start beside what is left of the last one"),
            _ if too_soon => self.fail("a second between two starts"),
            _ => {}
        }
        being.last_start = Some(self.now);
        being.up_since = None;
        being.deaf = self.random.u32(0..4) == 0;
        being.stuck = self.random.u32(0..40) == 0;
        if self.one_in(6) {
            self.seen.event("fork failed");
            self.count_failure(id);
            self.seen.steps += 1;
            self.processes.apply(ProcId(id), Event::SpawnFailed, self.time());
            self.notice_shutdown_on(id);
        } else {
            self.seen.event("forked");
            let number = self.free_number();
            if self.owners.insert(number, id).is_some_and(|last| last != id) {
                self.seen.event("a number used again");
            }
            self.beings[id].number = Some(number);
            self.beings[id].leader = Some(Exec::Pending);
        }
    }

    fn send(&mut self, id: usize, signal: Signal, to: SignalTarget) {
        let being = &mut self.beings[id];
        if being.leader.is_none() && (to == SignalTarget::Leader || !being.outlived) || being.number.is_none()
        {
            self.fail("a signal goes only to numbers that are in the books");
        }
        if being.dead.is_some() || being.leader.is_none() && being.members == 0 {
            // It is not told again: kill(2) says nothing, or ESRCH, and the death is news that comes.
            self.seen.event("a signal to the dead");
        }
        let mortal = !being.stuck && (signal == Signal::KILL || !being.deaf && signal != Signal::CONT);
        // The leader's own death is for chance to decide, so that signals and deaths come in every order.
        if to == SignalTarget::Group && mortal {
            being.members = 0;
        }
    }

    fn forward(&mut self, signal: Signal) {
        self.seen.event("forwarded");
        let own = [Signal::CHLD, Signal::TERM, Signal::INT, Signal::QUIT, Signal::KILL];
        if own.contains(&signal) {
            self.fail("what is rsup's own is not passed on");
        }
        if self.context.is_pid1 && [Signal::TSTP, Signal::TTIN, Signal::TTOU, Signal::STOP].contains(&signal)
        {
            self.fail("process 1 suspends nobody");
        }
    }

    fn sweep(&mut self, signal: Signal) {
        if !self.context.is_pid1 && !self.lists_children {
            self.seen.event("nobody to be reached");
            self.seen.steps += 1;
            self.processes.on_sweep_unreachable(self.time());
        } else if signal == Signal::KILL || self.random.bool() {
            self.orphans = 0;
        }
        self.waiting_for_children = true;
    }

    fn leave(&mut self, code: u8) {
        let none_to_start = self.specs.iter().all(|spec| !spec.autostart);
        if none_to_start && code != 2 {
            self.fail("2 when there is nothing to start");
        }
        if self.specs.iter().all(|spec| spec.shutdown_on == ShutdownOn::Never) && self.signalled && code != 0
        {
            self.fail("0 when it was told to stop");
        }
        if self.stop_began.is_none() && self.beings.iter().any(|being| being.leader.is_some()) {
            self.fail("it leaves by itself only when nothing runs");
        }
        self.code = Some(code);
    }
}

fn whole_seconds(seconds: i64) -> u64 {
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
        group_priority: random.i64(1..4),
        shutdown_on: *random.choice(&shutdown).unwrap(),
    }
}

fn name_of(state: ProcessState) -> &'static str {
    match state {
        ProcessState::Stopped => "STOPPED",
        ProcessState::Starting { up_since: None } => "STARTING, before the exec",
        ProcessState::Starting { up_since: Some(_) } => "STARTING",
        ProcessState::Running => "RUNNING",
        ProcessState::Backoff { .. } => "BACKOFF",
        ProcessState::Stopping { kill_at: Some(_) } => "STOPPING",
        ProcessState::Stopping { kill_at: None } => "STOPPING, killed",
        ProcessState::Exited { restart_at: Some(_) } => "EXITED, to be restarted",
        ProcessState::Exited { restart_at: None } => "EXITED",
        ProcessState::Fatal => "FATAL",
    }
}

fn kind_of(event: Event) -> &'static str {
    match event {
        Event::Spawned => "spawned",
        Event::SpawnFailed => "spawn failed",
        Event::Exited { group_alive: false, .. } => "exited",
        Event::Exited { group_alive: true, .. } => "exited, the group stays",
        Event::GroupEmpty => "group gone",
        Event::Start
        | Event::SpawnCancelled
        | Event::Tick
        | Event::DisableStarts
        | Event::Stop
        | Event::Kill => "the fleet's own",
    }
}

#[test]
fn the_laws_hold_whatever_happens() {
    let walks = std::env::var("WALKS").map_or(WALKS, |walks| walks.parse().unwrap());
    let (mut codes, mut seen) = (BTreeSet::new(), Seen::default());
    for seed in 0..walks {
        let mut world = World::new(seed);
        world.live();
        codes.extend(world.code);
        seen.add(world.seen);
    }
    println!("{} steps in {walks} walks: {:#?}", seen.steps, seen.events);
    // The walks are worth something only if they end in many ways.
    assert!(codes.len() > 20, "{codes:?}");
    assert!(seen.steps > 50 * walks, "{} steps", seen.steps);
    assert_eq!(seen.pairs.len(), 19, "every news in every state in which it can come: {:#?}", seen.pairs);
    let events = [
        "forked",
        "fork failed",
        "exec failed",
        "died",
        "a signal to the dead",
        "a number used again",
        "unknown children",
        "hours passed",
        "told to stop again",
        "forwarded",
        "suspended",
        "nobody to be reached",
    ];
    for event in events {
        assert!(
            seen.events.get(event).is_some_and(|count| *count > walks / 100),
            "{event}: {:?}",
            seen.events
        );
    }
}
