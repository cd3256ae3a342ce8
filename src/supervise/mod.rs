//! The loop of configuration mode. It turns what `sys` reports into events for `policy`, and it carries out the actions
//! that `policy` returns.

mod check;
mod clock;
mod command;
mod control;
mod fifos;
mod listener_plan;
mod listeners;
mod messages;
mod output;
mod pid_file;
mod pid_map;
mod prepare;
mod reap;
mod reap_pacer;
mod relay;
mod remaining;
mod serve;
mod shutdown;
mod slots;
mod start;

pub use check::try_step;
pub use command::run_command;

use crate::config::{Config, Notice, OutputMode, Startup};
use crate::error::Error;
use crate::log::Log;
use crate::policy::{
    Action, Event, Level, ProcessAction, ProcessIndex, ProcessSet, ReceivedSignal, Settings, Signal,
    SignalContext, SignalTarget, Time,
};
use crate::relay::ChangeRecord;
use crate::sys::{self, Errno, Poller, RawSignal, SignalFd, SpawnDefaults, TooLowLimit, terminal};
use clock::now;
use control::Control;
use fifos::OpenFifos;
use pid_file::PidFile;
use pid_map::PidMap;
use prepare::{Preparer, Sockets};
use reap_pacer::ReapPacer;
use relay::Relay;
use remaining::RemainingProcesses;
use slots::{Slot, Slots};
use std::ffi::OsString;
use std::mem;
use std::time::Duration;

/// How the loop ends.
enum ExitOrReload {
    /// rsup exits with this exit code.
    Exit(u8),
    /// rsup executes itself again.
    Reload,
}

/// Supervises the programs of `config` until no process is left to run. Returns rsup's exit code. If a client requests
/// a reload, executes rsup again with `arguments`, which include rsup's own `argv[0]`.
///
/// # Errors
/// Returns an error if a step before the start of the first program fails, or if rsup cannot be executed again.
pub fn run(name: &str, config: Config, notices: Vec<Notice>, arguments: &[OsString]) -> Result<u8, Error> {
    let hup_ignored = sys::reset_dispositions();
    sys::close_inherited();
    let mut log = Log::new(config.supervisord.loglevel, config.supervisord.silent);
    if config.supervisord.output == OutputMode::Json {
        log.use_json();
    }
    log.line(Level::Info, format_args!("{name} started with pid {}", std::process::id()));
    for notice in notices {
        log.line(notice.level, notice.text);
    }
    // The limits are raised before rsup changes its user, because only root can raise a hard limit.
    raise_limits(&config, &mut log);
    drop_privileges(&config, &mut log)?;
    let sockets = prepare::sockets(&config, &mut log)?;
    let spawn_defaults = prepare::defaults(&config)?;
    let former_nofile_limit = spawn_defaults.nofile_soft_limit();
    match Supervisor::new(config, spawn_defaults, sockets, log, hup_ignored)?.run() {
        ExitOrReload::Exit(code) => Ok(code),
        ExitOrReload::Reload => {
            Err(Error::Reload(sys::execute_again(arguments, hup_ignored, former_nofile_limit)))
        }
    }
}

fn raise_limits(config: &Config, log: &mut Log) {
    let non_negative = |number: i64| u64::try_from(number).unwrap_or(0);
    let minfds = non_negative(config.supervisord.minfds);
    let minprocs = non_negative(config.supervisord.minprocs);
    sys::raise_limits(minfds, minprocs, |TooLowLimit { name, wanted, raised }| {
        let key = if name == "RLIMIT_NOFILE" { "minfds" } else { "minprocs" };
        match raised {
            Ok(()) => log.line(Level::Info, format_args!("Increased {name} limit to {wanted}")),
            Err(errno) => {
                let text =
                    format_args!("{name} limit is below {wanted} ({key}) and can't be raised: {errno:?}");
                log.line(Level::Warn, text);
            }
        }
    });
}

fn drop_privileges(config: &Config, log: &mut Log) -> Result<(), Error> {
    let Some(user) = &config.supervisord.user else { return Ok(()) };
    let credentials = sys::resolve_user(user).map_err(|_| Error::UnknownUser(user.clone()))?;
    let was_root = sys::real_user_is_root();
    sys::drop_privileges(&credentials).map_err(|(step, errno)| {
        Error::DropPrivileges(messages::failed_credentials(step, errno, was_root))
    })?;
    log.line(Level::Info, format_args!("Set uid to user {} succeeded", credentials.uid));
    // After the change of the user, the kernel lets only privileged processes open /proc/PID/fd of rsup, where clients
    // find the status board. This call also allows processes with rsup's user and group.
    if let Err(errno) = sys::set_dumpable() {
        log.line(Level::Warn, messages::supervisorctl_unavailable(errno));
    }
    Ok(())
}

struct Supervisor {
    log: Log,
    /// The states of all processes.
    processes: ProcessSet,
    /// The PIDs, the descriptors and the last error of every process.
    slots: Slots,
    defaults: SpawnDefaults,
    fifos: OpenFifos,
    /// None if the status board or the request pipe could not be created.
    control: Option<Control>,
    /// `None` if neither a stream nor an event listener needs the relay, or if the relay could not be prepared.
    relay: Option<Relay>,
    pid_file: PidFile,
    /// The leaders that have not been reaped, with their processes. A leader is the child that rsup forks for a process
    /// of the configuration.
    leaders: PidMap<ProcessIndex>,
    /// The processes of the configuration whose child (the leader) has been reaped, but whose process group still has
    /// members, in ascending order.
    leaderless: Vec<ProcessIndex>,
    poller: Poller,
    signals: SignalFd,
    context: SignalContext,
    /// Whether the last pass of reaping ended before every zombie was reaped.
    reap_incomplete: bool,
    pacer: ReapPacer,
    /// How long rsup pauses before the next pass of reaping, if it has nothing else to do.
    reap_delay: Duration,
    /// Whether rsup has stopped its programs and itself with SIGSTOP, and has not been continued yet.
    suspended: bool,
    /// The processes that get SIGTERM and then SIGKILL when the programs have ended or were asked to stop, and the
    /// signals that they were sent already.
    remaining: RemainingProcesses,
}

/// The number that the poller reports when a signal can be read. For an exec status pipe, the poller reports the index
/// of the process.
const SIGNAL_TAG: u64 = u64::MAX - 1;
/// The number that the poller reports when the log's stream has room.
const LOG_TAG: u64 = u64::MAX - 2;
/// The number that the poller reports when the request pipe is not empty.
const REQUEST_TAG: u64 = u64::MAX - 3;
/// The number that the poller reports when the relay has exited.
const RELAY_TAG: u64 = u64::MAX - 4;

/// The largest number of actions in one iteration. Between two iterations rsup handles new events, and closes the exec
/// status pipes of programs that have started. A small number keeps the delay of events short. It also keeps the number
/// of open pipes small, so a child inherits fewer copies of these pipes.
const ACTION_BATCH: usize = 8;

impl Supervisor {
    /// Prepares the loop. Frees the parts of the configuration that the loop does not need, because they take much
    /// memory if a file has thousands of programs.
    fn new(
        config: Config,
        defaults: SpawnDefaults,
        sockets: Sockets,
        mut log: Log,
        hup_ignored: bool,
    ) -> Result<Self, Error> {
        if let Err(errno) = sys::set_child_subreaper() {
            log.line(Level::Warn, messages::no_subreaper(errno));
        }
        let signals = SignalFd::new().map_err(Error::WatchSignals)?;
        let poller = Poller::new().map_err(Error::WatchSignals)?;
        poller.add(&signals, SIGNAL_TAG).map_err(Error::WatchSignals)?;
        let is_pid1 = sys::is_pid1();
        let has_terminal = terminal::has_controlling_tty();
        let is_shell_job = has_terminal && terminal::is_shell_job();
        let mut preparer = Preparer::new(&config, sockets, &mut log);
        let programs: Vec<_> =
            (0..).zip(&config.processes).map(|process| preparer.prepare(process)).collect();
        let relay = preparer.into_relay(&config, &mut log);
        let needed_descriptors = prepare::needed_descriptors(&config);
        let pid_file = PidFile::new(config.supervisord.pidfile.clone());
        let mut specs = Vec::with_capacity(config.processes.len());
        let mut slots = Vec::with_capacity(config.processes.len());
        // A child reads its specification from rsup's memory until its exec, so rsup never frees the specifications.
        for (process, program) in config.processes.into_iter().zip(programs.leak()) {
            slots.push(Slot::new(process.name, process.group, process.priority, program));
            specs.push(process.spec);
        }
        let control = Control::new(&slots).and_then(|control| {
            poller.add(control.pipe(), REQUEST_TAG)?;
            Ok(control)
        });
        let control =
            control.map_err(|errno| log.line(Level::Warn, messages::supervisorctl_unavailable(errno))).ok();
        let settings = Settings {
            stop_timeout: config.supervisord.stop_timeout,
            clients_can_reach_rsup: control.is_some(),
            ordered_startup: config.supervisord.startup == Startup::Ordered,
            notifies_listeners: relay.as_ref().is_some_and(|relay| relay.plan.listeners.is_some()),
        };
        let fifos = OpenFifos::new(sys::soft_nofile_limit().saturating_sub(needed_descriptors));
        Ok(Self {
            log,
            processes: ProcessSet::new(specs, settings),
            slots: Slots(slots),
            defaults,
            fifos,
            control,
            relay,
            pid_file,
            leaders: PidMap::new(),
            leaderless: Vec::new(),
            poller,
            signals,
            context: SignalContext { is_pid1, has_terminal, is_shell_job, hup_ignored },
            // A child from before rsup's exec may be a zombie whose SIGCHLD has come before the exec.
            reap_incomplete: true,
            pacer: ReapPacer::default(),
            reap_delay: Duration::ZERO,
            suspended: false,
            remaining: RemainingProcesses::of_configuration(is_pid1),
        })
    }

    /// Runs the loop until an action [`Action::Exit`] or [`Action::Reload`].
    fn run(mut self) -> ExitOrReload {
        let mut ready = Vec::new();
        self.log.defer_writes();
        if let Err(error) = self.pid_file.write() {
            self.log.line(Level::Debug, error);
        }
        self.start_relay();
        self.tell_relay(ChangeRecord::SupervisorRunning);
        self.processes.begin_first_starts(now());
        self.write_initial_board();
        loop {
            let exit_or_reload = self.run_actions();
            // The board is written before the log, so that a client that reads the board after a line of the log finds
            // the new state there.
            self.update_board();
            if let Some(exit_or_reload) = exit_or_reload {
                self.pid_file.remove();
                self.finish_output();
                return exit_or_reload;
            }
            self.flush_log();
            self.fifos.retain(|id| self.processes.may_start_again(id));
            let timeout = self.sleep_and_return_timeout();
            self.poller.wait(timeout, |tag| ready.push(tag));
            self.process_events(&mut ready);
        }
    }

    /// Returns how long the poller may wait. If reaping is incomplete and rsup has no action to run, first sleeps for
    /// `reap_delay`, but at most until the next deadline.
    fn sleep_and_return_timeout(&mut self) -> Option<Duration> {
        let delay = mem::take(&mut self.reap_delay);
        if self.processes.has_actions() {
            return Some(Duration::ZERO);
        }
        let relay_start_due_at = self.relay.as_ref().and_then(Relay::deadline);
        let deadline = Time::earliest(self.processes.deadline(), relay_start_due_at);
        let until_deadline = deadline.map(|deadline| deadline.duration_since(now()));
        if !self.reap_incomplete {
            return until_deadline;
        }
        sys::sleep(until_deadline.map_or(delay, |left| left.min(delay)));
        Some(Duration::ZERO)
    }

    /// Turns what has happened into events, in this order:
    /// 1. The results of execs, because a program has started before it exits.
    /// 2. Every exited child, if a signal can be read, a deadline is due, or the last pass of reaping was incomplete.
    ///    The child is reaped even if its SIGCHLD has not been read yet. Reaping also finds the process groups that
    ///    are empty now. The kernel may use the numbers of empty groups for other processes, which must not get signals
    ///    from rsup.
    /// 3. Signals, then the requests of clients, and then deadlines. They come after the exits. Otherwise a program
    ///    that has exited could become RUNNING because of a deadline.
    fn process_events(&mut self, ready: &mut Vec<u64>) {
        let now = now();
        let mut received = Vec::new();
        let mut has_signals = false;
        let mut has_requests = false;
        for tag in ready.drain(..) {
            if tag == SIGNAL_TAG || tag == Poller::WAIT_FAILED {
                has_signals = true;
                self.signals.read(|signal| received.push(signal));
            }
            if tag == LOG_TAG || tag == Poller::WAIT_FAILED {
                self.write_log_backlog();
            }
            has_requests |= tag == REQUEST_TAG || tag == Poller::WAIT_FAILED;
            match tag {
                SIGNAL_TAG | LOG_TAG | REQUEST_TAG => {}
                RELAY_TAG => self.relay_exited(),
                Poller::WAIT_FAILED => {
                    self.read_all_exec_statuses(now);
                    self.relay_exited();
                }
                index => {
                    self.read_exec_status(ProcessIndex(usize::try_from(index).unwrap_or(usize::MAX)), now)
                }
            }
        }
        if has_signals || self.reap_incomplete || self.processes.is_due(now) {
            self.reap(now);
        }
        for signal in received {
            self.receive(signal, now);
        }
        if has_requests {
            self.read_requests(now);
        }
        self.processes.tick(now);
        self.start_relay_if_due(now);
    }

    /// Writes the log lines of this iteration. If the log's stream had no room for some of them, the poller watches the
    /// stream.
    fn flush_log(&mut self) {
        if let Some(stream) = self.log.flush() {
            // If the stream cannot be watched, rsup writes the backlog when it logs the next line.
            let _ = self.poller.watch_writable(stream, LOG_TAG);
        }
    }

    fn write_log_backlog(&mut self) {
        if self.log.drain_backlog() {
            self.poller.remove(self.log.stream());
        }
    }

    fn receive(&mut self, raw: RawSignal, now: Time) {
        // rsup's own writes of log lines can cause SIGPIPE or SIGXFSZ. Such a signal is not logged, because that log
        // line could cause the same signal again.
        if raw.is_from_own_write() {
            return;
        }
        if let Some(signal) = Signal::from_number(raw.signal.into()) {
            let sender = self.sender(raw);
            self.processes.receive(ReceivedSignal { signal, sender }, self.context, now);
        }
    }

    /// Runs up to [`ACTION_BATCH`] actions. Returns how the loop ends after an action [`Action::Exit`] or
    /// [`Action::Reload`].
    fn run_actions(&mut self) -> Option<ExitOrReload> {
        for _ in 0..ACTION_BATCH {
            match self.processes.next_action()? {
                Action::Process(id, action) => self.run_process_action(id, action),
                Action::Log(message) => {
                    let (level, text) = message.line(|id| self.slots.name(id));
                    self.log.line(level, text);
                }
                Action::NotifyProcessState(id, transition) => self.notify(id, transition),
                Action::NotifySupervisorStopping => self.tell_relay(ChangeRecord::SupervisorStopping),
                Action::Reap => self.reap(now()),
                Action::Forward(signal) => {
                    self.forward_to_programs(signal);
                    self.suspended &= signal != Signal::CONT;
                }
                Action::Suspend => {
                    self.suspended = true;
                    self.update_board();
                    self.flush_log();
                    sys::kill_self(Signal::STOP.number());
                }
                Action::AskRemainingToStop { only_leader_asked } => {
                    self.send_term_to_remaining(&only_leader_asked)
                }
                Action::AskAdoptedToStop => self.send_term_to_adopted(),
                Action::SignalRemaining(signal) => self.signal_remaining(signal),
                Action::Reload => return Some(ExitOrReload::Reload),
                Action::Exit(code) => return Some(ExitOrReload::Exit(code)),
            }
        }
        None
    }

    fn run_process_action(&mut self, id: ProcessIndex, action: ProcessAction) {
        match action {
            ProcessAction::Spawn => self.spawn(id),
            ProcessAction::Send(signal, target) => self.send(id, signal, target),
            ProcessAction::AbandonGroup => {
                self.leaderless.retain(|known| *known != id);
                if let Some(slot) = self.slots.get_mut(id) {
                    slot.group = None;
                }
            }
            ProcessAction::Log(message) => {
                if let Some(Slot { name, last_pid, last_error, .. }) = self.slots.get(id) {
                    self.log.line(message.level(), message.display(name, *last_pid, last_error));
                }
            }
        }
    }

    fn send(&mut self, id: ProcessIndex, signal: Signal, target: SignalTarget) {
        let Some(slot) = self.slots.get(id) else { return };
        let receiver = match target {
            SignalTarget::Leader => slot.leader,
            SignalTarget::Group => slot.group,
        };
        let Some(receiver) = receiver else { return };
        let sent = match target {
            SignalTarget::Leader => sys::kill(receiver, signal.number()),
            SignalTarget::Group => sys::killpg(receiver, signal.number()),
        };
        let Err(errno) = sent else { return };
        let (level, text) = messages::signal_not_sent(&slot.name, slot.last_pid, errno);
        self.log.line(level, text);
        if errno != Errno::EPERM {
            return;
        }
        let refused_group = match target {
            SignalTarget::Leader if signal == Signal::KILL => {
                self.remaining.note_kill_refused(receiver);
                slot.group.filter(|group| sys::killpg(*group, 0) == Err(Errno::EPERM))
            }
            SignalTarget::Leader => None,
            SignalTarget::Group => Some(receiver),
        };
        if let Some(group) = refused_group {
            if signal == Signal::KILL {
                self.remaining.note_refused_group(group);
            }
            self.processes.apply(id, Event::GroupSignalNotPermitted, now());
        }
    }
}
