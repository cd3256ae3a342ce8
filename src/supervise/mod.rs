//! The hallway: facts from the kernel become events of the law, and its actions become calls. The only room that sees
//! both policy and sys.

mod program;
mod text;

use crate::config::{Config, Notice};
use crate::log::Log;
use crate::policy::{
    Action, Event, Exit, Fleet, Level, Message, ProcId, ProcessAction, Received, Route, Settings, Signal,
    Standing, Time, To, route,
};
use crate::sys::{
    self, Child, Dead, ExecStatus, Inherited, Limit, Pid, Poller, Program, Report, SignalFd, Status,
};
use program::Sockets;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

/// Supervises the programs of `config` until there is nothing left to do. Returns rsup's exit code.
///
/// # Errors
/// Only before the first program is started: text for stderr about what the kernel refused.
pub fn run(name: &str, config: &Config, notices: &[Notice], inherited: Inherited) -> Result<u8, String> {
    sys::close_inherited();
    if !sys::is_pid1() {
        sys::adopt_orphans();
    }
    let mut log = Log::new(config.supervisord.loglevel, config.supervisord.silent);
    log.line(Level::Info, format_args!("{name} started with pid {}", std::process::id()));
    for notice in notices {
        log.line(notice.level, &notice.text);
    }
    // Before the user is switched, who may not raise them.
    raise_limits(config, &mut log);
    become_user(config, &mut log)?;
    let sockets = program::sockets(config, &mut log)?;
    let supervisor = Supervisor::new(config, &sockets, log, inherited);
    Ok(supervisor.map_err(|errno| format!("Error: can't watch signals: {errno}\n"))?.run())
}

fn raise_limits(config: &Config, log: &mut Log) {
    let at_least = |number: i64| u64::try_from(number).unwrap_or(0);
    let (minfds, minprocs) = (at_least(config.supervisord.minfds), at_least(config.supervisord.minprocs));
    sys::raise_limits(minfds, minprocs, |Limit { name, wanted, raised }| {
        if raised {
            log.line(Level::Info, format_args!("Increased {name} limit to {wanted}"));
        } else {
            log.line(Level::Warn, format_args!("{name} limit is below {wanted} and can't be raised"));
        }
    });
}

fn become_user(config: &Config, log: &mut Log) -> Result<(), String> {
    let Some(user) = &config.supervisord.user else { return Ok(()) };
    let ids = sys::look_up(user).map_err(|_| format!("Error: Invalid user name {user}\n"))?;
    sys::become_user(&ids).map_err(|_| "Error: Can't drop privilege as nonroot user\n".to_owned())?;
    log.line(Level::Info, format_args!("Set uid to user {} succeeded", ids.uid));
    Ok(())
}

/// What the kernel needs to know of one process, and what it said.
struct Slot {
    name: String,
    /// How it is started, or supervisord's text why it never can be.
    program: Result<Program, String>,
    /// The child that was forked last, until it is reaped.
    leader: Option<Pid>,
    /// Its process group, until no member is left: the number is not free before that.
    group: Option<Pid>,
    /// The leader's number for log lines, also when it is gone.
    pid: i32,
    /// Tells whether the exec works; none once that is known.
    exec: Option<ExecStatus>,
    /// The step that failed in the leader, which is about to exit.
    failure: Option<Report>,
    /// Keeps the leader's stdin from ending.
    silence: Option<OwnedFd>,
}

struct Supervisor {
    log: Log,
    fleet: Fleet,
    slots: Vec<Slot>,
    /// The living leaders.
    pids: BTreeMap<Pid, ProcId>,
    /// Processes without a leader whose group may have members.
    leaderless: BTreeSet<ProcId>,
    poller: Poller,
    signals: SignalFd,
    standing: Standing,
    /// The last reaping was cut short.
    more_dead: bool,
}

/// The poller's tag of the signals; a process has its place in start order.
const SIGNALS: u64 = u64::MAX;

/// Dead children that one turn takes in: a storm of them must not keep a stop waiting.
const REAP_BATCH: usize = 1024;

/// Descriptors that rsup needs whatever it runs, and for each process: the writing end of its stdin, and for a moment
/// the pipe that tells of its exec.
const DESCRIPTORS: u64 = 16;
const DESCRIPTORS_EACH: u64 = 2;

fn now() -> Time {
    Time::from_nanos(sys::monotonic_nanos())
}

impl Supervisor {
    fn new(config: &Config, sockets: &Sockets, log: Log, inherited: Inherited) -> Result<Self, sys::Errno> {
        let signals = SignalFd::new()?;
        let poller = Poller::new()?;
        poller.add(&signals, SIGNALS)?;
        let standing = Standing {
            is_pid1: sys::is_pid1(),
            has_terminal: sys::has_terminal(),
            hup_ignored: inherited.ignores(Signal::HUP.number()),
        };
        let settings = Settings { stop_timeout: config.supervisord.stop_timeout };
        let specs = config.processes.iter().map(|process| process.spec.clone()).collect();
        let descriptors = sys::make_room(DESCRIPTORS + DESCRIPTORS_EACH * config.processes.len() as u64);
        let slot = |process| Slot {
            name: program::name(process),
            program: program::prepare(process, sockets, descriptors),
            leader: None,
            group: None,
            pid: 0,
            exec: None,
            failure: None,
            silence: None,
        };
        Ok(Self {
            log,
            fleet: Fleet::new(specs, settings),
            slots: config.processes.iter().map(slot).collect(),
            pids: BTreeMap::new(),
            leaderless: BTreeSet::new(),
            poller,
            signals,
            standing,
            more_dead: false,
        })
    }

    /// The loop.
    fn run(mut self) -> u8 {
        let mut ready = Vec::new();
        self.fleet.boot(now());
        loop {
            if let Some(code) = self.act() {
                return code;
            }
            let deadline = if self.more_dead { Some(now()) } else { self.fleet.deadline() };
            self.poller.wait(deadline.map(|deadline| deadline.until(now())), |tag| ready.push(tag));
            self.take_in(&mut ready);
        }
    }

    /// Turns what has happened into events. The order matters: an exec is known to have worked before the program's
    /// death is taken in, and every death before a signal is acted on (its number may be free) and before any timed
    /// transition (a dead program is not RUNNING).
    fn take_in(&mut self, ready: &mut Vec<u64>) {
        let now = now();
        let mut arrived = Vec::new();
        for tag in ready.drain(..) {
            match usize::try_from(tag).map(ProcId) {
                Ok(id) if tag != SIGNALS => self.exec_progress(id, now),
                Ok(_) | Err(_) => while self.signals.read(|signal| arrived.push(signal)) {},
            }
        }
        if !arrived.is_empty() || self.more_dead {
            self.reap(now);
        }
        for signal in arrived {
            self.receive(signal, now);
        }
        self.fleet.tick(now);
    }

    /// Does what the law asks for, until it asks for nothing more or to leave.
    fn act(&mut self) -> Option<u8> {
        while let Some(action) = self.fleet.next_action() {
            match action {
                Action::To(id, action) => self.act_on(id, action),
                Action::Announce(notice) => {
                    let name = |id: ProcId| self.slots.get(id.0).map_or("", |slot| slot.name.as_str());
                    let (level, text) = text::notice(&notice, name);
                    self.log.line(level, text);
                }
                Action::Reap => self.reap(now()),
                Action::Sweep(signal) => self.sweep(signal),
                Action::Leave(code) => return Some(code),
            }
        }
        None
    }

    fn act_on(&mut self, id: ProcId, action: ProcessAction) {
        let Some(slot) = self.slots.get_mut(id.0) else { return };
        match action {
            ProcessAction::Spawn => self.spawn(id),
            ProcessAction::Send(signal, To::Leader) => {
                slot.leader.map(|leader| sys::send(leader, signal.number()));
            }
            ProcessAction::Send(signal, To::Group) => {
                slot.group.map(|group| sys::send_to_group(group, signal.number()));
            }
            ProcessAction::Forget => {
                slot.group = None;
                self.leaderless.remove(&id);
            }
            ProcessAction::Log(message) => self.say(id, &message),
        }
    }

    fn say(&mut self, id: ProcId, message: &Message) {
        if let Some(slot) = self.slots.get(id.0) {
            self.log.line(message.level(), message.about(&slot.name, slot.pid));
        }
    }

    /// Forks a program. What comes of it is told by its status pipe, or at once where there is no child.
    fn spawn(&mut self, id: ProcId) {
        let Some(slot) = self.slots.get_mut(id.0) else { return };
        let spawned = match &slot.program {
            Ok(program) => sys::spawn(program).map_err(|error| text::spawn_error(&slot.name, error)),
            Err(text) => Err(text.clone()),
        };
        match spawned {
            Ok(Child { pid, status, silence }) => {
                slot.leader = Some(pid);
                slot.group = Some(pid);
                slot.pid = pid.number();
                slot.failure = None;
                slot.silence = silence;
                self.pids.insert(pid, id);
                // Without a place on the list, the exit or the next look at this process tells.
                let _ = self.poller.add_once(&status, id.0 as u64);
                slot.exec = Some(status);
            }
            Err(text) => {
                self.log.line(Level::Info, format_args!("spawnerr: {text}"));
                self.fleet.apply(id, Event::SpawnFailed, now());
            }
        }
    }

    /// Reads what a child says about its exec.
    fn exec_progress(&mut self, id: ProcId, now: Time) {
        let Some(slot) = self.slots.get_mut(id.0) else { return };
        let Some(exec) = &slot.exec else { return };
        let (name, failure, log) = (&slot.name, &mut slot.failure, &mut self.log);
        let known = exec.read(|report| {
            if report.step.is_harmless() {
                log.line(Level::Warn, text::unusable_log_file(name, report));
            } else {
                *failure = Some(report);
            }
        });
        if known {
            slot.exec = None;
            // A failed start is told when its child is reaped: until then there is one.
            if slot.failure.is_none() {
                self.fleet.apply(id, Event::Spawned, now);
            }
        }
    }

    /// Takes in dead children until none is left, then asks after the groups: a zombie is still a member.
    fn reap(&mut self, now: Time) {
        let mut dead = Vec::new();
        let mut any = true;
        self.more_dead = true;
        for _ in 0..REAP_BATCH {
            match sys::reap() {
                Ok(Some(child)) => match self.pids.get(&child.pid) {
                    Some(id) => dead.push((*id, child)),
                    None => self.log.line(Level::Debug, text::unknown_child(child)),
                },
                Ok(None) => {
                    self.more_dead = false;
                    break;
                }
                Err(_) => {
                    self.more_dead = false;
                    any = false;
                    break;
                }
            }
        }
        for (id, child) in dead {
            self.leader_changed(id, child, now);
        }
        if !any {
            self.lose_all(now);
        }
        self.leave_empty_groups(now);
        if !self.more_dead {
            self.fleet.children(any, now);
        }
    }

    fn leader_changed(&mut self, id: ProcId, child: Dead, now: Time) {
        let exit = match child.status {
            Status::Exited(code) => Exit::Code(code),
            Status::Signaled { signal, core } => match Signal::from_number(signal.into()) {
                Some(signal) => Exit::Signal { signal, core },
                None => Exit::Unknown,
            },
            Status::Stopped(signal) => {
                let name = self.slots.get(id.0).map_or("", |slot| slot.name.as_str());
                return self.log.line(Level::Warn, text::stopped_child(name, child.pid, signal));
            }
            Status::Other => return,
        };
        self.pids.remove(&child.pid);
        self.leader_ended(id, exit, now);
    }

    fn leader_ended(&mut self, id: ProcId, exit: Exit, now: Time) {
        // The pipe has its end by now; its news comes first.
        self.exec_progress(id, now);
        let Some(slot) = self.slots.get_mut(id.0) else { return };
        slot.leader = None;
        slot.exec = None;
        slot.silence = None;
        let rest = slot.group.is_some_and(sys::group_exists);
        if rest {
            self.leaderless.insert(id);
        } else {
            slot.group = None;
        }
        let event = match (slot.failure.take(), &slot.program) {
            (Some(report), Ok(program)) => {
                self.log.line(Level::Info, format_args!("spawnerr: {}", text::failed_step(program, report)));
                Event::SpawnFailed
            }
            (Some(_), Err(_)) | (None, _) => Event::Exited { exit, rest },
        };
        self.fleet.apply(id, event, now);
    }

    /// The kernel knows of no child: whoever is still in the books was taken by somebody else.
    fn lose_all(&mut self, now: Time) {
        while let Some((_, id)) = self.pids.pop_first() {
            self.leader_ended(id, Exit::Unknown, now);
        }
    }

    fn leave_empty_groups(&mut self, now: Time) {
        let (slots, fleet) = (&mut self.slots, &mut self.fleet);
        self.leaderless.retain(|id| {
            let Some(slot) = slots.get_mut(id.0) else { return false };
            let alive = slot.group.is_some_and(sys::group_exists);
            if !alive {
                slot.group = None;
                fleet.apply(*id, Event::GroupGone, now);
            }
            alive
        });
    }

    /// A signal that is not about children.
    fn receive(&mut self, arrived: sys::Arrived, now: Time) {
        let Some(signal) = Signal::from_number(arrived.signal.into()) else { return };
        let from_self = arrived.sender == std::process::id();
        let received = Received { signal, from_kernel: arrived.from_kernel, from_self };
        match route(received, self.standing) {
            Route::Shutdown => self.fleet.shutdown(signal, now),
            Route::Forward => self.forward(signal),
            Route::Suspend => {
                self.forward(Signal::STOP);
                sys::send_to_self(Signal::STOP.number());
            }
            Route::Drop => self.log.line(Level::Debug, text::dropped_signal(signal)),
            // Every wake-up reaps.
            Route::Reap => {}
        }
    }

    /// To every group in the books: a group's number is ours while it has a member.
    fn forward(&mut self, signal: Signal) {
        for group in self.slots.iter().filter_map(|slot| slot.group) {
            let _ = sys::send_to_group(group, signal.number());
        }
    }

    fn sweep(&mut self, signal: Signal) {
        let reached = sys::kill_children(signal.number());
        if reached && signal == Signal::TERM {
            let _ = sys::kill_children(Signal::CONT.number());
        }
        self.reap(now());
        if !reached {
            self.fleet.unreachable();
        }
    }
}
