//! Random walks of the whole law over a fake world: execs and forks fail, programs die, linger and ignore signals,
//! groups outlive their leaders, time jumps. Whatever happens, the laws hold.

use rsup::policy::{
    Action, AutoRestart, Event, Exit, Fleet, Message, Notice, ProcId, Process, ProcessAction, Received,
    Settings, ShutdownOn, Signal, Spec, Standing, State, Time, To,
};

const SECOND: u64 = 1_000_000_000;
const WALKS: u64 = 20_000;

/// What really is, as the kernel would know it.
#[derive(Clone, Default)]
struct Being {
    /// A child exists; whether its exec is done.
    leader: Option<Exec>,
    /// Other members of its group.
    members: u32,
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
    fleet: Fleet,
    specs: Vec<Spec>,
    beings: Vec<Being>,
    orphans: u32,
    stop_began: Option<u64>,
    signalled: bool,
    code: Option<u8>,
    waiting_for_children: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut specs: Vec<Spec> = (0..random.usize(1..6)).map(|_| spec(&mut random)).collect();
        specs.sort_by_key(|spec| spec.group_priority);
        let stop_timeout = random.bool().then(|| random.u64(0..8));
        Self {
            seed,
            now: random.u64(0..SECOND),
            fleet: Fleet::new(specs.clone(), Settings { stop_timeout }),
            beings: vec![Being::default(); specs.len()],
            specs,
            orphans: 0,
            stop_began: None,
            signalled: false,
            code: None,
            waiting_for_children: false,
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
        self.fleet.boot(self.time());
        self.act();
        for turn in 0..2_000 {
            if self.code.is_some() {
                return;
            }
            self.pass_time();
            self.happen();
            if turn == 1_000 || self.one_in(120) {
                let signal = *self.random.choice(&[Signal::TERM, Signal::INT, Signal::QUIT]).unwrap();
                self.stop_began.get_or_insert(self.now);
                let standing = Standing { is_pid1: true, has_terminal: false, hup_ignored: false };
                self.fleet.receive(
                    Received { signal, from_kernel: false, from_outside: false },
                    standing,
                    self.time(),
                );
                self.act();
            }
            self.settle();
        }
        self.fail("the stop always ends");
    }

    /// What is due is done, and soon nothing is.
    fn settle(&mut self) {
        for _ in 0..10 {
            self.fleet.tick(self.time());
            self.act();
            if self.fleet.deadline().is_none_or(|deadline| deadline > self.time()) {
                return;
            }
        }
        self.fail("a deadline is in the future, or it spins");
    }

    /// To the next deadline, a little on, or hours away.
    fn pass_time(&mut self) {
        let until_deadline = self.fleet.deadline().map(|deadline| deadline.until(self.time()).as_nanos());
        let step = match (self.random.u32(0..10), until_deadline) {
            (0..=3, Some(nanos)) => u64::try_from(nanos).unwrap().min(86_400 * SECOND),
            (9, _) if self.one_in(20) => self.random.u64(0..10_000) * SECOND,
            _ => self.random.u64(0..SECOND),
        };
        self.now += step;
        if let Some(began) = self.stop_began
            && self.now - began > 1_000_000 * SECOND
        {
            self.fail("the stop ends in time");
        }
    }

    /// Things happen to the processes, and the kernel tells.
    fn happen(&mut self) {
        for id in 0..self.beings.len() {
            if self.beings[id].leader == Some(Exec::Pending) && self.random.bool() {
                self.exec(id);
            }
            if self.beings[id].leader == Some(Exec::Done) {
                if self.one_in(8) {
                    self.beings[id].members += self.random.u32(0..3);
                }
                if self.one_in(10) {
                    let exit = self.exit();
                    self.die(id, exit);
                }
            } else if self.beings[id].outlived && (self.beings[id].members == 0 || self.one_in(10)) {
                self.beings[id].members = 0;
                self.beings[id].outlived = false;
                self.tell(id, Event::GroupGone);
            }
        }
        if self.one_in(30) {
            self.orphans = self.random.u32(0..3);
        }
        self.tell_of_children();
    }

    fn exit(&mut self) -> Exit {
        match self.random.u32(0..4) {
            0 | 1 => Exit::Code(0),
            2 => Exit::Code(self.random.u8(..)),
            _ => Exit::Signal {
                signal: Signal::from_number(self.random.i64(1..=64)).unwrap(),
                core: self.random.bool(),
            },
        }
    }

    fn exec(&mut self, id: usize) {
        if self.one_in(6) {
            self.beings[id].leader = None;
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

    fn die(&mut self, id: usize, exit: Exit) {
        // A death before the exec is news of both, in this order.
        if self.beings[id].leader == Some(Exec::Pending) {
            self.beings[id].up_since = Some(self.now);
            self.tell(id, Event::Spawned);
        }
        let being = &mut self.beings[id];
        being.leader = None;
        being.outlived = being.members > 0;
        let (rest, up) = (being.outlived, self.now - being.up_since.unwrap());
        let state = self.fleet.process(ProcId(id)).map(Process::state);
        if matches!(state, Some(State::Starting { .. })) && up < whole_seconds(self.specs[id].startsecs) {
            self.count_failure(id);
        } else {
            self.beings[id].failures = 0;
        }
        self.tell(id, Event::Exited { exit, rest });
    }

    fn tell(&mut self, id: usize, event: Event) {
        self.fleet.apply(ProcId(id), event, self.time());
        self.notice_shutdown_on(id);
        self.act();
    }

    /// Whether this process's end ends the whole, by the table of `shutdown_on`.
    fn notice_shutdown_on(&mut self, id: usize) {
        let state = self.fleet.process(ProcId(id)).unwrap().state();
        let ends = match self.specs[id].shutdown_on {
            ShutdownOn::Never => false,
            ShutdownOn::Fatal => state == State::Fatal,
            ShutdownOn::Exited => matches!(state, State::Fatal | State::Exited { restart_at: None }),
        };
        if ends {
            self.stop_began.get_or_insert(self.now);
        }
    }

    fn tell_of_children(&mut self) {
        let dead = self.random.bool();
        let any =
            self.orphans > 0 || self.beings.iter().any(|being| being.leader.is_some() || being.members > 0);
        self.fleet.children(dead, any, self.time());
        self.act();
    }

    fn act(&mut self) {
        while let Some(action) = self.fleet.next_action() {
            if self.code.is_some() {
                self.fail("nothing follows the leaving");
            }
            match action {
                Action::To(ProcId(id), action) => self.act_on(id, action),
                Action::Announce(Notice::Received(_)) => self.signalled = true,
                Action::Announce(_) => {}
                Action::Reap => self.waiting_for_children = true,
                Action::Forward(_) | Action::Suspend => self.fail("only what is to be passed on is"),
                Action::Sweep(signal) => {
                    self.signal_all(signal);
                    self.waiting_for_children = true;
                }
                Action::Leave(code) => self.leave(code),
            }
        }
        if std::mem::take(&mut self.waiting_for_children) {
            self.tell_of_children();
        }
    }

    fn act_on(&mut self, id: usize, action: ProcessAction) {
        match action {
            ProcessAction::Spawn => self.spawn(id),
            ProcessAction::Send(signal, to) => self.send(id, signal, to),
            ProcessAction::Forget => {
                self.beings[id].members = 0;
                self.beings[id].outlived = false;
            }
            ProcessAction::Log(Message::Success { .. }) => {
                let being = &self.beings[id];
                let Some(up_since) = being.up_since.filter(|_| being.leader == Some(Exec::Done)) else {
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
            self.count_failure(id);
            self.fleet.apply(ProcId(id), Event::SpawnFailed, self.time());
            self.notice_shutdown_on(id);
        } else {
            self.beings[id].leader = Some(Exec::Pending);
        }
    }

    fn send(&mut self, id: usize, signal: Signal, to: To) {
        let being = &mut self.beings[id];
        if being.leader.is_none() && (to == To::Leader || !being.outlived) {
            self.fail("a signal goes only to numbers that are in the books");
        }
        let mortal = !being.stuck && (signal == Signal::KILL || !being.deaf && signal != Signal::CONT);
        // The leader's own death is for chance to decide, so that signals and deaths come in every order.
        if to == To::Group && mortal {
            being.members = 0;
        }
    }

    fn signal_all(&mut self, signal: Signal) {
        if signal == Signal::KILL || self.random.bool() {
            self.orphans = 0;
        }
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

fn spec(random: &mut fastrand::Rng) -> Spec {
    let restart = [AutoRestart::Never, AutoRestart::Unexpected, AutoRestart::Always];
    let shutdown = [ShutdownOn::Never, ShutdownOn::Never, ShutdownOn::Fatal, ShutdownOn::Exited];
    Spec {
        autostart: random.u32(0..5) > 0,
        autorestart: *random.choice(&restart).unwrap(),
        startsecs: random.i64(-1..4),
        startretries: random.i64(-1..4),
        exitcodes: vec![0; random.usize(0..2)],
        stopsignal: Signal::TERM,
        stopwaitsecs: random.i64(-1..12),
        stopasgroup: random.bool(),
        group_priority: random.i64(1..4),
        shutdown_on: *random.choice(&shutdown).unwrap(),
    }
}

#[test]
fn the_laws_hold_whatever_happens() {
    let mut codes = std::collections::BTreeSet::new();
    for seed in 0..WALKS {
        let mut world = World::new(seed);
        world.live();
        codes.extend(world.code);
    }
    // The walks are worth something only if they end in many ways.
    assert!(codes.len() > 20, "{codes:?}");
}
