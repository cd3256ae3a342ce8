//! The hallway: facts from the kernel become events of the law, and its actions become calls. The only room that sees
//! both policy and sys.

mod command;
mod messages;
mod prepare;

pub use command::run_command;

use crate::config::{Config, Notice};
use crate::log::Log;
use crate::policy::{
    Action, Event, ExitStatus, Level, ProcId, ProcessAction, ProcessSet, RunContext, Settings, Signal,
    SignalInfo, SignalTarget, Time,
};
use crate::sys::{
    self, Child, ChildStatus, ExecFailure, ExecStatusPipe, ExecStep, Limit, Pid, Poller, RawSignal, SignalFd,
    SpawnDefaults, SpawnSpec, WaitStatus, terminal,
};
use prepare::{Preparer, Sockets};
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Supervises the programs of `config` until there is nothing left to do. Returns rsup's exit code.
///
/// # Errors
/// Only before the first program is started: text for stderr about what the kernel refused.
pub fn run(name: &str, config: Config, notices: Vec<Notice>) -> Result<u8, String> {
    let hup_ignored = sys::reset_dispositions();
    sys::close_inherited();
    let mut log = Log::new(config.supervisord.loglevel, config.supervisord.silent);
    log.line(Level::Info, format_args!("{name} started with pid {}", std::process::id()));
    for notice in notices {
        log.line(notice.level, notice.text);
    }
    // Before the user is switched, who may not raise them.
    raise_limits(&config, &mut log);
    become_user(&config, &mut log)?;
    let sockets = prepare::sockets(&config, &mut log)?;
    let defaults = prepare::defaults(&config)?;
    Ok(Supervisor::new(config, defaults, sockets, log, hup_ignored)?.run())
}

fn raise_limits(config: &Config, log: &mut Log) {
    let at_least = |number: i64| u64::try_from(number).unwrap_or(0);
    let (minfds, minprocs) = (at_least(config.supervisord.minfds), at_least(config.supervisord.minprocs));
    sys::raise_limits(minfds, minprocs, |Limit { name, wanted, raised }| {
        let key = if name == "RLIMIT_NOFILE" { "minfds" } else { "minprocs" };
        if raised {
            log.line(Level::Info, format_args!("Increased {name} limit to {wanted}"));
        } else {
            log.line(Level::Warn, format_args!("{name} limit is below {wanted} ({key}) and can't be raised"));
        }
    });
}

fn become_user(config: &Config, log: &mut Log) -> Result<(), String> {
    let Some(user) = &config.supervisord.user else { return Ok(()) };
    let ids = sys::resolve_user(user).map_err(|_| format!("Error: Invalid user name {user}\n"))?;
    sys::drop_privileges(&ids).map_err(|_| "Error: Can't drop privilege as nonroot user\n".to_owned())?;
    log.line(Level::Info, format_args!("Set uid to user {} succeeded", ids.uid));
    Ok(())
}

/// What the kernel needs to know of one process, and what it said.
struct Slot {
    name: Box<str>,
    /// How it is started, or supervisord's text why it never can be.
    program: &'static Result<SpawnSpec, String>,
    /// The child that was forked last, until it is reaped.
    leader: Option<Pid>,
    /// Its process group, until no member is left: the number is not free before that.
    group: Option<Pid>,
    /// The leader's number for log lines, also when it is gone.
    pid: i32,
    /// Tells whether the exec works; none once that is known.
    exec_status: Option<ExecStatusPipe>,
    /// The step that failed in the leader, which is about to exit.
    failure: Option<ExecFailure>,
    /// Why the last start failed.
    last_error: Box<str>,
    /// Keeps the leader's stdin from ending.
    stdin_keeper: Option<OwnedFd>,
}

impl Slot {
    /// Ends a start of which nobody would ever learn that it works.
    fn abort_start(&mut self, errno: sys::Errno) {
        self.failure = Some(ExecFailure { step: ExecStep::Streams, candidate: 0, errno });
        let _ = self.leader.map(|leader| sys::kill(leader, Signal::KILL.number()));
    }
}

struct Supervisor {
    log: Log,
    processes: ProcessSet,
    slots: Vec<Slot>,
    defaults: SpawnDefaults,
    /// The living leaders.
    pids: BTreeMap<Pid, ProcId>,
    /// Processes without a leader whose group may have members.
    leaderless: BTreeSet<ProcId>,
    poller: Poller,
    signals: SignalFd,
    context: RunContext,
    /// The last reaping was cut short.
    reap_incomplete: bool,
    /// How long the next is to wait when there is nothing else to do.
    rest: Duration,
    /// How often it has, since all the dead were taken in.
    rests: u32,
    /// It has stopped its programs and itself, and was not continued yet.
    suspended: bool,
    /// The signal of the last sweep, and the children that were sent it.
    last_sweep_signal: Option<Signal>,
    swept_pids: BTreeSet<Pid>,
}

/// The poller's tags of the signals and the log; a process has its place in start order.
const SIGNALS: u64 = u64::MAX - 1;
const LOG: u64 = u64::MAX - 2;

/// Actions that one turn does.
const ACTION_BATCH: usize = 8;

/// ChildStatus children that one turn takes in: a storm of them must not keep a stop waiting.
const REAP_BATCH: u32 = 1024;

/// So many dead children behind one another are a storm. To find one of them the kernel goes through all children, first
/// through those that were there first, and as long as it does nobody can die. So where each takes more of the processor's
/// time than it has to, and more are dying, rsup rests and lets them: without that, it can come to a hundred times the work.
const STORM: u32 = 48;
const LONG_FOR_ONE: Duration = Duration::from_micros(8);
/// As a multiple of the time that was too long; and at most, for whatever else happens has to wait.
const REST: u32 = 64;
const LONGEST_REST: Duration = Duration::from_millis(50);
/// So often before all dead are taken in: a machine may be that slow, and then they would only become more.
const RESTS: u32 = 60;

fn now() -> Time {
    Time::from_nanos(sys::monotonic_nanos())
}

impl Supervisor {
    /// Of the configuration nothing is kept but what the loop needs: with a thousand programs it counts.
    fn new(
        config: Config,
        defaults: SpawnDefaults,
        sockets: Sockets,
        log: Log,
        hup_ignored: bool,
    ) -> Result<Self, String> {
        sys::set_child_subreaper();
        let watch = || {
            let (signals, poller) = (SignalFd::new()?, Poller::new()?);
            poller.add(&signals, SIGNALS)?;
            Ok((signals, poller))
        };
        let (signals, poller) =
            watch().map_err(|errno: sys::Errno| format!("Error: can't watch signals: {errno}\n"))?;
        let has_terminal = terminal::has_controlling_tty();
        let context = RunContext {
            is_pid1: sys::is_pid1(),
            has_terminal,
            has_shell: has_terminal && terminal::is_shell_job(),
            hup_ignored,
        };
        let settings = Settings { stop_timeout: config.supervisord.stop_timeout };
        let mut preparer = Preparer::new(&config, sockets);
        // They stay in memory: a child may be at them to the last.
        let programs: Vec<_> = config.processes.iter().map(|process| preparer.prepare(process)).collect();
        let mut specs = Vec::with_capacity(config.processes.len());
        let mut slots = Vec::with_capacity(config.processes.len());
        for (process, program) in config.processes.into_iter().zip(programs.leak()) {
            slots.push(Slot {
                program,
                name: process.name.into(),
                leader: None,
                group: None,
                pid: 0,
                exec_status: None,
                failure: None,
                last_error: Box::default(),
                stdin_keeper: None,
            });
            specs.push(process.spec);
        }
        Ok(Self {
            log,
            processes: ProcessSet::new(specs, settings),
            slots,
            defaults,
            pids: BTreeMap::new(),
            leaderless: BTreeSet::new(),
            poller,
            signals,
            context,
            reap_incomplete: false,
            rest: Duration::ZERO,
            rests: 0,
            suspended: false,
            last_sweep_signal: None,
            swept_pids: BTreeSet::new(),
        })
    }

    /// The loop.
    fn run(mut self) -> u8 {
        let mut ready = Vec::new();
        self.log.defer_writes();
        self.processes.start_autostart(now());
        loop {
            if let Some(code) = self.run_actions() {
                self.log.finish();
                return code;
            }
            self.flush();
            let rest = mem::take(&mut self.rest);
            let time_left = || self.processes.deadline().map(|deadline| deadline.until(now()));
            let timeout = if self.processes.wants_more() {
                Some(Duration::ZERO)
            } else if self.reap_incomplete {
                sys::sleep(time_left().map_or(rest, |left| left.min(rest)));
                Some(Duration::ZERO)
            } else {
                time_left()
            };
            self.poller.wait(timeout, |tag| ready.push(tag));
            self.process_events(&mut ready);
        }
    }

    /// Turns what has happened into events. The order matters: an exec is known to have worked before the program's
    /// death is taken in, and every death before a signal is acted on (its number may be free) and before any timed
    /// transition (a dead program is not RUNNING), even where the news of it has not been read yet.
    fn process_events(&mut self, ready: &mut Vec<u64>) {
        let now = now();
        let (mut arrived, mut signalled) = (Vec::new(), false);
        for tag in ready.drain(..) {
            if tag == SIGNALS || tag == Poller::ANY {
                signalled = true;
                self.signals.read(|signal| arrived.push(signal));
            }
            if tag == LOG || tag == Poller::ANY {
                self.drain_backlog();
            }
            match tag {
                SIGNALS | LOG => {}
                Poller::ANY => (0..self.slots.len()).for_each(|place| self.exec_progress(ProcId(place), now)),
                place => self.exec_progress(ProcId(usize::try_from(place).unwrap_or(usize::MAX)), now),
            }
        }
        if signalled || self.reap_incomplete || self.processes.is_due(now) {
            self.reap(now);
        }
        for signal in arrived {
            self.receive(signal, now);
        }
        self.processes.tick(now);
    }

    fn flush(&mut self) {
        if let Some(stream) = self.log.flush() {
            // Unwatched, the next line catches up.
            let _ = self.poller.watch_writable(stream, LOG);
        }
    }

    fn drain_backlog(&mut self) {
        if self.log.drain_backlog() {
            self.poller.remove(self.log.stream());
        }
    }

    fn receive(&mut self, arrived: RawSignal, now: Time) {
        // rsup's own doing: SIGPIPE of a log line that nobody reads. A line about it would be the next.
        if arrived.sender == std::process::id() {
            return;
        }
        if let Some(signal) = Signal::from_number(arrived.signal.into()) {
            let (from_kernel, from_outside) = (arrived.from_kernel, arrived.sender == 0);
            let received = SignalInfo { signal, from_kernel, from_outside };
            self.processes.receive(received, self.context, now);
        }
    }

    /// Does what the law asks for, until it asks for nothing more or to leave; of very much a part, so that neither what
    /// happens meanwhile has to wait, nor the pipes of programs whose exec has worked are kept by all that follow.
    fn run_actions(&mut self) -> Option<u8> {
        for _ in 0..ACTION_BATCH {
            match self.processes.next_action()? {
                Action::Process(id, action) => self.run_process_action(id, action),
                Action::Announce(notice) => {
                    let name = |id: ProcId| self.slots.get(id.0).map_or("", |slot| &*slot.name);
                    let (level, text) = notice.line(name);
                    self.log.line(level, text);
                }
                Action::Reap => self.reap(now()),
                Action::Forward(signal) => {
                    self.forward(signal);
                    self.suspended &= signal != Signal::CONT;
                }
                Action::Suspend => {
                    self.suspended = true;
                    self.flush();
                    sys::kill_self(Signal::STOP.number());
                }
                Action::SignalRemaining(signal) => self.sweep(signal),
                Action::Quit(code) => return Some(code),
            }
        }
        None
    }

    fn run_process_action(&mut self, id: ProcId, action: ProcessAction) {
        match action {
            ProcessAction::Spawn => self.spawn(id),
            ProcessAction::Send(signal, to) => self.send(id, signal, to),
            ProcessAction::AbandonGroup => {
                self.leaderless.remove(&id);
                if let Some(slot) = self.slots.get_mut(id.0) {
                    slot.group = None;
                }
            }
            ProcessAction::Log(message) => {
                if let Some(Slot { name, pid, last_error, .. }) = self.slots.get(id.0) {
                    self.log.line(message.level(), message.about(name, *pid, last_error));
                }
            }
        }
    }

    fn send(&mut self, id: ProcId, signal: Signal, to: SignalTarget) {
        let Some(slot) = self.slots.get(id.0) else { return };
        let sent = match to {
            SignalTarget::Leader => slot.leader.map(|leader| sys::kill(leader, signal.number())),
            SignalTarget::Group => slot.group.map(|group| sys::killpg(group, signal.number())),
        };
        if let Some(Err(errno)) = sent {
            let (level, text) = messages::unsent(&slot.name, slot.pid, errno);
            self.log.line(level, text);
        }
    }

    /// Forks a program. What comes of it is told by its status pipe, or at once where there is no child.
    fn spawn(&mut self, id: ProcId) {
        let Some(slot) = self.slots.get_mut(id.0) else { return };
        let spawned = match slot.program {
            Ok(program) => sys::spawn(program, &mut self.defaults)
                .map_err(|error| messages::spawn_error(&slot.name, error)),
            Err(text) => Err(text.clone()),
        };
        match spawned {
            Ok(Child { pid, status, stdin_keeper }) => {
                slot.leader = Some(pid);
                slot.group = Some(pid);
                slot.pid = pid.number();
                slot.stdin_keeper = stdin_keeper;
                slot.failure = None;
                if let Err(errno) = self.poller.add_oneshot(&status, id.0 as u64) {
                    slot.abort_start(errno);
                }
                slot.exec_status = Some(status);
                self.pids.insert(pid, id);
            }
            Err(why) => {
                slot.last_error = why.into();
                self.processes.apply(id, Event::SpawnFailed, now());
            }
        }
    }

    /// Reads what a child says about its exec.
    fn exec_progress(&mut self, id: ProcId, now: Time) {
        let Some(slot) = self.slots.get_mut(id.0) else { return };
        let Some(exec) = &mut slot.exec_status else { return };
        let (name, failure, log) = (&slot.name, &mut slot.failure, &mut self.log);
        let known = exec.read(|report| {
            if report.step.is_harmless() {
                log.line(Level::Warn, messages::unusable_log_file(name, report));
            } else {
                *failure = Some(report);
            }
        });
        if !known {
            // There is more to come.
            if let Err(errno) = self.poller.rearm(exec, id.0 as u64) {
                slot.abort_start(errno);
            }
            return;
        }
        if let Some(exec) = slot.exec_status.take() {
            self.defaults.reclaim(exec);
        }
        // A failed start is told when its child is reaped: until then there is one.
        if slot.failure.is_none() {
            self.processes.apply(id, Event::Spawned, now);
        }
    }

    /// Takes in dead children until none is left, then asks after the groups: a zombie is still a member.
    fn reap(&mut self, now: Time) {
        let mut dead = Vec::new();
        // A batch that was cut short counts for the one that ends it.
        let mut any_dead = mem::replace(&mut self.reap_incomplete, true);
        let (mut living, mut storm) = (true, None);
        for taken in 1..=REAP_BATCH {
            match sys::wait_any() {
                Ok(Some(child)) => {
                    any_dead = true;
                    dead.extend(self.unregister_child(child).map(|id| (id, child)));
                }
                Ok(None) => {
                    self.reap_incomplete = false;
                    break;
                }
                Err(sys::Errno::ECHILD) => {
                    (self.reap_incomplete, living) = (false, false);
                    break;
                }
                // Not known to happen: there may be more, and the loop asks again.
                Err(_) => break,
            }
            // Somebody waits for what programs leave behind, and nobody for an orphan.
            if taken.is_multiple_of(STORM) && dead.is_empty() {
                let used = sys::processor_time();
                let since = storm.replace(used).map_or(Duration::ZERO, |before| used.saturating_sub(before));
                let too_long = since.saturating_sub(LONG_FOR_ONE * STORM);
                if !too_long.is_zero() && self.rests < RESTS && sys::sigchld_pending() {
                    self.rest = LONGEST_REST.min(too_long * REST);
                    self.rests = self.rests.saturating_add(1);
                    break;
                }
            }
        }
        for (id, child) in dead {
            self.leader_changed(id, child, now);
        }
        if !living {
            self.on_no_children(now);
        }
        self.drop_empty_groups(now);
        if !self.reap_incomplete {
            self.rests = 0;
            self.processes.on_reaped(any_dead, living, now);
        }
    }

    /// Whose leader it is. Its number is free from here on, so it must not be found again.
    fn unregister_child(&mut self, child: ChildStatus) -> Option<ProcId> {
        let id = match child.status {
            WaitStatus::Stopped(_) => self.pids.get(&child.pid).copied(),
            WaitStatus::Exited(_) | WaitStatus::Signaled { .. } | WaitStatus::Other => {
                self.swept_pids.remove(&child.pid);
                self.pids.remove(&child.pid)
            }
        };
        if id.is_none() {
            self.log.line(Level::Debug, messages::UnknownChild(child));
        }
        id
    }

    fn leader_changed(&mut self, id: ProcId, child: ChildStatus, now: Time) {
        match child.status {
            // rsup's own doing.
            WaitStatus::Stopped(_) if self.suspended => {}
            WaitStatus::Stopped(signal) => {
                let name = self.slots.get(id.0).map_or("", |slot| &*slot.name);
                self.log.line(Level::Warn, messages::stopped_child(name, child.pid, signal));
            }
            status => self.leader_ended(id, messages::exit(status), now),
        }
    }

    fn leader_ended(&mut self, id: ProcId, exit: ExitStatus, now: Time) {
        if let Some(slot) = self.slots.get_mut(id.0) {
            // Nobody's any more, or somebody else's.
            slot.leader = None;
        }
        // The pipe has its end by now; its news comes first. A child that was killed before its exec looks like one
        // that was killed right behind it.
        self.exec_progress(id, now);
        let Some(slot) = self.slots.get_mut(id.0) else { return };
        slot.exec_status = None;
        slot.stdin_keeper = None;
        let group_alive = slot.group.is_some_and(sys::group_exists);
        if group_alive {
            self.leaderless.insert(id);
        } else {
            slot.group = None;
        }
        let event = match (slot.failure.take(), slot.program) {
            (Some(report), Ok(program)) => {
                slot.last_error = messages::failed_step(program, &self.defaults, report).into();
                Event::SpawnFailed
            }
            (Some(_), Err(_)) | (None, _) => Event::Exited { exit, group_alive },
        };
        self.processes.apply(id, event, now);
    }

    /// The kernel knows of no child: whoever is still in the books was taken by somebody else.
    fn on_no_children(&mut self, now: Time) {
        while let Some((_, id)) = self.pids.pop_first() {
            self.leader_ended(id, ExitStatus::Unknown, now);
        }
    }

    /// Forgets the groups that have no member any more: their numbers may be somebody else's next.
    fn drop_empty_groups(&mut self, now: Time) {
        let (slots, processes) = (&mut self.slots, &mut self.processes);
        self.leaderless.retain(|id| {
            let Some(slot) = slots.get_mut(id.0) else { return false };
            let alive = slot.group.is_some_and(sys::group_exists);
            if !alive {
                slot.group = None;
                processes.apply(*id, Event::GroupEmpty, now);
            }
            alive
        });
    }

    /// To every group in the books: a group's number is ours while it has a member.
    fn forward(&mut self, signal: Signal) {
        self.drop_empty_groups(now());
        for group in self.slots.iter().filter_map(|slot| slot.group) {
            // Whoever is gone or not ours to signal does not keep the others from theirs.
            let _ = sys::killpg(group, signal.number());
        }
    }

    /// Tells everything else that is left to go, each once by each signal. Process 1 reaches all of its namespace; else
    /// there are the children, and those that their deaths bring.
    fn sweep(&mut self, signal: Signal) {
        let first = self.last_sweep_signal.replace(signal) != Some(signal);
        if first {
            self.swept_pids.clear();
        }
        let reached = if self.context.is_pid1 {
            if first {
                terminate(signal, sys::kill_all);
            }
            true
        } else if let Some(children) = sys::children() {
            for child in children.into_iter().filter(|child| self.swept_pids.insert(*child)) {
                terminate(signal, |signal| sys::kill(child, signal));
            }
            true
        } else {
            false
        };
        let now = now();
        self.reap(now);
        if !reached {
            self.processes.on_sweep_unreachable(now);
        }
    }
}

/// Behind SIGTERM comes SIGCONT: a stopped process cannot act on the first without the second.
fn terminate(signal: Signal, send: impl Fn(i32) -> Result<(), sys::Errno>) {
    // Whoever has gone meanwhile was not to be told.
    let _ = send(signal.number());
    if signal == Signal::TERM {
        let _ = send(Signal::CONT.number());
    }
}
