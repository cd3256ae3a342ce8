//! One command: rsup is PID 1, or a stand-in for it, and the command is what it is there for.

use super::messages;
use crate::policy::{ExitStatus, Signal};
use crate::sys::{
    self, ExecFailure, ExecStep, LogStream, Pid, RawSignal, SavedMask, SpawnError, WaitStatus, terminal,
};
use std::ffi::OsString;
use std::time::Duration;

/// No such command, and one that cannot be executed (POSIX, 2.8.2).
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// What is left when the command has ended may take this long to go, and as long to die of SIGKILL.
const KILL_GRACE_SECS: Duration = Duration::from_secs(1);

/// Runs a command until it ends. Returns its exit code, or 128 + n where signal n ended it.
///
/// # Errors
/// Text for stderr, where the kernel refuses what nothing can go without.
pub fn run_command(
    words: &[OsString],
    stop_timeout: Option<u64>,
    inherited: SavedMask,
) -> Result<u8, String> {
    sys::set_child_subreaper();
    let word = words.first().map_or_else(Default::default, |word| word.to_string_lossy().into_owned());
    let has_terminal = terminal::wants_foreground();
    let group =
        sys::spawn_command(words, inherited, has_terminal, |report| report_exec_failure(&word, report))
            .map_err(|errno| format!("Error: {}\n", messages::spawn_error(&word, SpawnError::Fork(errno))))?;
    let stop_timeout = stop_timeout.map(Duration::from_secs);
    let is_pid1 = sys::is_pid1();
    let command = Command { group, has_terminal, stop_timeout, kill_at: None, is_pid1 };
    Ok(command.run())
}

struct Command {
    /// Its process, which leads the process group of the same number.
    group: Pid,
    /// It gets the terminal whenever rsup has it, and does not have to ask.
    has_terminal: bool,
    stop_timeout: Option<Duration>,
    /// End of `stop_timeout`, which the first SIGTERM begins.
    kill_at: Option<Duration>,
    is_pid1: bool,
}

fn now() -> Duration {
    Duration::from_nanos(sys::monotonic_nanos())
}

impl Command {
    fn run(mut self) -> u8 {
        let mut exit_at = None;
        loop {
            let deadline = exit_at.or(self.kill_at);
            let arrived = sys::wait_for_signal(deadline.map(|deadline| deadline.saturating_sub(now())));
            // Deaths first: a signal must not go to a number that is free.
            if let Some(exit) = self.reap() {
                return self.finish(exit);
            }
            if let Some(arrived) = arrived {
                self.forward(arrived);
            }
            if deadline.is_some_and(|deadline| now() >= deadline) {
                if exit_at.is_some() {
                    return self.abandon();
                }
                let _ = sys::killpg(self.group, Signal::KILL.number());
                exit_at = Some(now() + KILL_GRACE_SECS);
            }
        }
    }

    /// Takes in dead and stopped children. Returns how the command ended, once it has.
    fn reap(&mut self) -> Option<ExitStatus> {
        let mut exit = None;
        while let Ok(Some(child)) = sys::wait_any() {
            match child.status {
                _ if child.pid != self.group => {}
                WaitStatus::Stopped(signal) => self.suspend_with_child(signal),
                status => exit = Some(messages::exit(status)),
            }
        }
        exit
    }

    /// The shell that started rsup waits for rsup: it has to be told that its job has stopped.
    fn suspend_with_child(&self, signal: i32) {
        let asks = [Signal::TTIN, Signal::TTOU].iter().any(|wish| wish.number() == signal);
        let by_key = signal == Signal::TSTP.number() && terminal::is_foreground(self.group);
        let has_shell = !self.is_pid1 && terminal::has_job_control();
        // A shell may have brought rsup to the foreground without a word, as it does with a job that runs. And where
        // there is no shell, nobody could ever continue what ^Z has stopped.
        if (asks && terminal::give_foreground(self.group)) || (by_key && !has_shell) {
            let _ = sys::killpg(self.group, Signal::CONT.number());
        } else if has_shell {
            terminal::reclaim_foreground(self.group);
            if asks || by_key {
                // What the terminal does, it does to a whole job: to the rest of a pipeline, or the script around rsup.
                sys::kill_own_group(signal);
            }
            sys::kill_self(Signal::STOP.number());
        }
    }

    fn forward(&mut self, arrived: RawSignal) {
        let Some(signal) = Signal::from_number(arrived.signal.into()) else { return };
        // Its children's deaths are rsup's own matter, and so is what it sends itself.
        if signal == Signal::CHLD || arrived.sender == std::process::id() {
            return;
        }
        if signal == Signal::CONT && self.has_terminal {
            terminal::give_foreground(self.group);
        }
        if signal == Signal::TERM && self.kill_at.is_none() {
            self.kill_at = self.stop_timeout.and_then(|timeout| now().checked_add(timeout));
        }
        let _ = sys::killpg(self.group, signal.number());
    }

    /// The command is gone: tells what it has left behind to go, and leaves with its code.
    fn finish(self, exit: ExitStatus) -> u8 {
        terminal::reclaim_foreground(self.group);
        self.terminate_remaining();
        exit.exit_code()
    }

    /// It does not die of SIGKILL, or may not be sent it.
    fn abandon(self) -> u8 {
        terminal::reclaim_foreground(self.group);
        log_line(LEFT_BEHIND);
        ExitStatus::Signal { signal: Signal::KILL, core: false }.exit_code()
    }

    /// SIGTERM and SIGCONT to what is left of its group, as process 1 to all there is; SIGKILL after a while.
    fn terminate_remaining(&self) {
        // Once to each: a second SIGTERM means something else to many.
        let send = |signal: Signal| {
            let _ = if self.is_pid1 {
                sys::kill_all(signal.number())
            } else {
                sys::killpg(self.group, signal.number())
            };
        };
        let is_left = || {
            let mut reaped = sys::wait_any();
            while let Ok(Some(_)) = reaped {
                reaped = sys::wait_any();
            }
            if self.is_pid1 { reaped.is_ok() } else { sys::group_exists(self.group) }
        };
        let is_left_at = |deadline: Duration| {
            while is_left() {
                if now() >= deadline {
                    return true;
                }
                let _ = sys::wait_for_signal(Some(deadline.saturating_sub(now())));
            }
            false
        };
        if !is_left() {
            return;
        }
        send(Signal::TERM);
        send(Signal::CONT);
        let grace = now() + KILL_GRACE_SECS;
        if is_left_at(self.kill_at.map_or(grace, |kill_at| kill_at.min(grace))) {
            send(Signal::KILL);
            if is_left_at(now() + KILL_GRACE_SECS) {
                log_line(LEFT_BEHIND);
            }
        }
    }
}

/// One line about a command that could not be executed. Returns the exit code that says it too.
fn report_exec_failure(word: &str, report: ExecFailure) -> u8 {
    let (code, why) = match report.step {
        ExecStep::NotFound | ExecStep::NoPermission if sys::is_readable_file(word) => {
            (NOT_EXECUTABLE, "not executable; did you mean -c FILE?".to_owned())
        }
        ExecStep::NotFound => (NOT_FOUND, "not found".to_owned()),
        _ => (NOT_EXECUTABLE, report.errno.desc().to_owned()),
    };
    log_line(&format!("can't run {word}: {why}"));
    code
}

const LEFT_BEHIND: &str = "processes left behind";

/// One line on stderr, without waiting for somebody to read it.
fn log_line(text: &str) {
    let _ = LogStream::stderr().write(format!("rsup: {text}\n").as_bytes());
}
