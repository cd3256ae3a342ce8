//! One command: rsup is PID 1, or a stand-in for it, and the command is what it is there for.

use super::text;
use crate::policy::{Exit, Signal};
use crate::sys::{
    self, Arrived, ExecStatus, Inherited, Pid, Poller, Report, SignalFd, Status, Step, terminal,
};
use std::ffi::OsString;
use std::time::Duration;

/// No such command, and one that cannot be executed (POSIX, 2.8.2).
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// What is left when the command has ended may take this long to go.
const GRACE: Duration = Duration::from_secs(1);

const SIGNALS: u64 = 0;

/// Runs a command until it ends. Returns its exit code, or 128 + n where signal n ended it.
///
/// # Errors
/// Text for stderr, where the kernel refuses what nothing can go without.
pub fn run_command(
    words: &[OsString],
    stop_timeout: Option<u64>,
    inherited: Inherited,
) -> Result<u8, String> {
    let is_pid1 = sys::is_pid1();
    if !is_pid1 {
        sys::adopt_orphans();
    }
    let unwatched = |errno| format!("Error: can't watch signals: {errno}\n");
    let signals = SignalFd::new().map_err(unwatched)?;
    let poller = Poller::new().map_err(unwatched)?;
    poller.add(&signals, SIGNALS).map_err(unwatched)?;
    let word = words.first().map_or_else(Default::default, |word| word.to_string_lossy().into_owned());
    let (group, status) = sys::launch(words, inherited)
        .map_err(|error| format!("Error: {}\n", text::spawn_error(&word, error)))?;
    terminal::hand_over(group);
    let stop_timeout = stop_timeout.map(Duration::from_secs);
    let command = Command { word, group, status, stop_timeout, stop_by: None, killed: false, is_pid1 };
    Ok(command.run(&poller, &signals))
}

struct Command {
    word: String,
    /// Its process, which leads the process group of the same number.
    group: Pid,
    /// Says why it could not be executed, if it ends at once.
    status: ExecStatus,
    stop_timeout: Option<Duration>,
    /// End of `stop_timeout`, which the first SIGTERM begins.
    stop_by: Option<Duration>,
    /// It was sent SIGKILL, for that was over.
    killed: bool,
    is_pid1: bool,
}

fn now() -> Duration {
    Duration::from_nanos(sys::monotonic_nanos())
}

impl Command {
    fn run(mut self, poller: &Poller, signals: &SignalFd) -> u8 {
        loop {
            let deadline = self.stop_by.filter(|_| !self.killed);
            let timeout = deadline.map(|deadline| deadline.saturating_sub(now()));
            let mut arrived = Vec::new();
            poller.wait(timeout, |_| signals.read(|signal| arrived.push(signal)));
            // Deaths first: a signal must not go to a number that is free.
            if let Some(exit) = self.reap() {
                return self.end(exit, poller, signals);
            }
            for signal in arrived {
                self.pass_on(signal);
            }
            if deadline.is_some_and(|deadline| now() >= deadline) {
                self.killed = true;
                let _ = sys::send_to_group(self.group, Signal::KILL.number());
            }
        }
    }

    /// Takes in dead and stopped children. Returns how the command ended, once it has.
    fn reap(&mut self) -> Option<Exit> {
        let mut exit = None;
        while let Ok(Some(child)) = sys::reap() {
            match child.status {
                _ if child.pid != self.group => {}
                Status::Stopped(signal) => self.stop_like_it(signal),
                status => exit = Some(text::exit(status)),
            }
        }
        exit
    }

    /// The shell that started rsup waits for rsup: it has to be told that its job has stopped.
    fn stop_like_it(&self, signal: i32) {
        let wants_terminal = [Signal::TTIN, Signal::TTOU].iter().any(|wish| wish.number() == signal);
        // A shell has brought rsup to the foreground without a word, as it does with a job that runs.
        let may_have_it = wants_terminal && terminal::hand_over(self.group);
        // Process 1 has no shell, and cannot stop: after ^Z nobody could ever continue the command.
        let is_stuck = self.is_pid1 && signal == Signal::TSTP.number() && terminal::belongs_to(self.group);
        if may_have_it || is_stuck {
            let _ = sys::send_to_group(self.group, Signal::CONT.number());
        } else if !self.is_pid1 {
            terminal::take_back(self.group);
            sys::send_to_self(Signal::STOP.number());
        }
    }

    fn pass_on(&mut self, arrived: Arrived) {
        let Some(signal) = Signal::from_number(arrived.signal.into()) else { return };
        // Its children's deaths are rsup's own matter, and so is what it sends itself.
        if signal == Signal::CHLD || arrived.sender == std::process::id() {
            return;
        }
        if signal == Signal::CONT {
            terminal::hand_over(self.group);
        }
        if signal == Signal::TERM && self.stop_by.is_none() {
            self.stop_by = self.stop_timeout.map(|timeout| now() + timeout);
        }
        let _ = sys::send_to_group(self.group, signal.number());
    }

    /// The command is gone: tells what it has left behind to go, and leaves with its code.
    fn end(self, exit: Exit, poller: &Poller, signals: &SignalFd) -> u8 {
        terminal::take_back(self.group);
        let mut failure = None;
        let _ = self.status.read(|report| failure = Some(report));
        self.clear(poller, signals);
        match failure {
            Some(report) => self.explain(report),
            None => exit.status(),
        }
    }

    /// SIGTERM and SIGCONT to what is left of its group, as process 1 to all there is; SIGKILL after a while.
    fn clear(&self, poller: &Poller, signals: &SignalFd) {
        // Once to each: a second SIGTERM means something else to many.
        let send = |signal: Signal| {
            let _ = if self.is_pid1 {
                sys::send_to_all(signal.number())
            } else {
                sys::send_to_group(self.group, signal.number())
            };
        };
        let is_left = || {
            let mut reaped = sys::reap();
            while let Ok(Some(_)) = reaped {
                reaped = sys::reap();
            }
            if self.is_pid1 { reaped.is_ok() } else { sys::group_exists(self.group) }
        };
        if !is_left() {
            return;
        }
        send(Signal::TERM);
        send(Signal::CONT);
        let grace = now() + GRACE;
        let deadline = self.stop_by.map_or(grace, |stop_by| stop_by.min(grace));
        while is_left() {
            if now() >= deadline {
                return send(Signal::KILL);
            }
            poller.wait(Some(deadline.saturating_sub(now())), |_| signals.read(|_| {}));
        }
    }

    /// One line about a command that could not be executed.
    fn explain(&self, report: Report) -> u8 {
        let word = &self.word;
        let (code, why) = match report.step {
            Step::NotFound | Step::NoPermission if sys::is_readable_file(word) => {
                (NOT_EXECUTABLE, "not executable; did you mean -c FILE?".to_owned())
            }
            Step::NotFound => (NOT_FOUND, "not found".to_owned()),
            _ => (NOT_EXECUTABLE, report.errno.desc().to_owned()),
        };
        sys::write_out(2, format!("rsup: can't run {word}: {why}\n").as_bytes());
        code
    }
}
