//! One-command mode: rsup runs one command, as tini does, and exits with the command's code.

use super::clock::now;
use super::messages;
use super::remaining::RemainingProcesses;
use crate::error::Error;
use crate::log::Escaped;
use crate::policy::{
    ExitStatus, KILL_GRACE_SECS, KillDeadlines, KillOrGiveUp, ShutdownDeadlines, Signal, Time,
};
use crate::sys::{
    self, ChildStatus, Errno, ExecFailure, ExecStep, OutputStream, Pid, RawSignal, SavedMask, SpawnError,
    WaitStatus, terminal,
};
use std::ffi::OsString;

/// The exit codes of a shell for a command that does not exist, and for one that cannot be executed (POSIX, XCU 2.8.2).
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// Runs a command until it exits. Returns its exit code, or 128 + n if signal n ended it. `stop_timeout` is in seconds.
///
/// # Errors
/// Returns an error if the command cannot be forked.
pub fn run_command(
    words: &[OsString],
    stop_timeout: Option<u64>,
    inherited_mask: SavedMask,
) -> Result<u8, Error> {
    if let Err(errno) = sys::set_child_subreaper() {
        log_line(&messages::no_subreaper(errno));
    }
    let word = words.first().map_or_else(Default::default, |word| word.to_string_lossy().into_owned());
    let wants_foreground = terminal::wants_foreground();
    let pid = sys::spawn_one_command(words, inherited_mask, wants_foreground, |failure, interpreter| {
        report_exec_failure(&word, failure, &interpreter.to_string_lossy())
    })
    .map_err(|errno| Error::Spawn(messages::spawn_error(&word, SpawnError::Fork(errno))))?;
    let is_pid1 = sys::is_pid1();
    let command = RunningCommand {
        pid,
        wants_foreground,
        is_pid1,
        stop_timeout,
        term_forwarded: false,
        shutdown_deadlines: None,
        kill_deadlines: None,
        outside_group_term_sent: false,
        refusal_logged: false,
        remaining: RemainingProcesses::of_one_command(pid, is_pid1),
    };
    Ok(command.run())
}

struct RunningCommand {
    /// The PID of the command, which is also the ID of its process group.
    pid: Pid,
    /// Whether rsup makes the command's process group the terminal's foreground process group at the start and after
    /// SIGCONT. If false, rsup does this only when SIGTTIN or SIGTTOU has stopped the command. In both cases rsup's own
    /// process group must be in the foreground.
    wants_foreground: bool,
    is_pid1: bool,
    /// Seconds between the first SIGTERM and SIGKILL.
    stop_timeout: Option<u64>,
    /// Whether rsup has received SIGTERM and forwarded it to the command's process group.
    term_forwarded: bool,
    /// The deadlines that `stop_timeout` sets when rsup receives its first SIGTERM. `None` before that, and if
    /// `stop_timeout` is not set. At `ask_at`, if rsup is PID 1 and the command still runs, rsup sends SIGTERM to the
    /// processes outside the command's process group. At `kill_at`, rsup sends SIGKILL to the command, or to the
    /// processes that remain after the command has ended.
    shutdown_deadlines: Option<ShutdownDeadlines>,
    /// When the command's process group gets SIGKILL, and when rsup gives up 1 s later. Set together with
    /// `shutdown_deadlines`.
    kill_deadlines: Option<KillDeadlines>,
    /// Whether rsup has asked the processes outside the command's process group to stop while the command was still
    /// running.
    outside_group_term_sent: bool,
    /// Whether rsup has logged that it has no permission to signal the command. The line is logged only once.
    refusal_logged: bool,
    remaining: RemainingProcesses,
}

impl RunningCommand {
    fn run(mut self) -> u8 {
        // A child from before rsup's exec may be a zombie whose SIGCHLD has come before the exec.
        if let Some(exit) = self.reap_children() {
            return self.finish(exit);
        }
        loop {
            let deadline = self.deadline();
            let received = sys::wait_for_signal(deadline.map(|deadline| deadline.duration_since(now())));
            // Children are reaped first. After the command is reaped, its PID may belong to another process, so rsup
            // returns before it sends a signal.
            if let Some(exit) = self.reap_children() {
                return self.finish(exit);
            }
            if let Some(signal) = received {
                self.forward(signal);
            }
            if self.outside_group_term_at().is_some_and(|time| now() >= time) {
                self.terminate_outside_group();
            }
            // With a timeout of 0, SIGKILL is due as soon as SIGTERM has been forwarded. rsup sends SIGKILL only in the
            // next iteration, after it has reaped, so that a command that exits at once keeps its own exit code.
            if deadline.is_some()
                && let Some(stop) = &mut self.kill_deadlines
            {
                match stop.due(now()) {
                    Some(KillOrGiveUp::Kill) => {
                        stop.note_killed(now());
                        if self.kill_command() == Err(Errno::EPERM) {
                            return self.abandon(REFUSED);
                        }
                    }
                    Some(KillOrGiveUp::GiveUp) => return self.abandon(LEFT_BEHIND),
                    None => {}
                }
            }
        }
    }

    /// Returns the earliest time at which rsup must act while the command runs, even if no signal arrives.
    fn deadline(&self) -> Option<Time> {
        Time::earliest(self.kill_deadlines.and_then(|stop| stop.deadline()), self.outside_group_term_at())
    }

    /// When the processes outside the command's process group get SIGTERM, even if the command still runs. At the stop
    /// deadline these processes get SIGKILL, like the command. So they need time to stop before that deadline. `None`
    /// if no SIGTERM is due: if rsup is not PID 1, the processes outside the group get no signal.
    fn outside_group_term_at(&self) -> Option<Time> {
        let must_terminate_outside = self.is_pid1 && !self.outside_group_term_sent;
        self.shutdown_deadlines.filter(|_| must_terminate_outside).map(|times| times.ask_at)
    }

    /// Sends SIGTERM and SIGCONT to the processes outside the command's process group. Does nothing if /proc does not
    /// list the processes.
    fn terminate_outside_group(&mut self) {
        self.outside_group_term_sent = true;
        let command = self.pid;
        // The process group alone does not identify the command: if a seccomp filter has refused setpgid(2), the
        // command is in rsup's process group.
        self.remaining.send_term_to_matching(|pid, group, _| group != Some(command) && pid != command);
    }

    /// Sends SIGKILL to the command and to its process group.
    ///
    /// # Errors
    /// Returns the errno of kill(2) for the command. An error for the process group is ignored.
    fn kill_command(&self) -> Result<(), Errno> {
        // The command gets a signal of its own, because it may have moved to another process group.
        let leader_killed = sys::kill(self.pid, Signal::KILL.number());
        // An error means that the group has no member, or that rsup has no permission to signal any member. Neither
        // needs handling.
        let _ = sys::killpg(self.pid, Signal::KILL.number());
        leader_killed
    }

    /// Reaps every child that has exited. If a signal has stopped the command, decides whether rsup stops too. Returns
    /// the exit status of the command if the command has ended.
    fn reap_children(&mut self) -> Option<ExitStatus> {
        let mut exit = None;
        while let Ok(Some(child)) = self.wait_any() {
            match child.status {
                _ if child.pid != self.pid => {}
                WaitStatus::Stopped(signal) => self.on_command_stopped(signal),
                status => exit = Some(messages::exit_status(status)),
            }
        }
        exit
    }

    /// Does the same as [`sys::wait_any`]. Also removes a reaped child from `remaining`, because its PID may be used
    /// again.
    fn wait_any(&mut self) -> Result<Option<ChildStatus>, Errno> {
        let changed_child = sys::wait_any()?;
        if let Some(child) = changed_child
            && !matches!(child.status, WaitStatus::Stopped(_))
        {
            self.remaining.forget(child.pid);
        }
        Ok(changed_child)
    }

    /// Decides whether rsup stops too after a signal has stopped the command. The process that started rsup, for
    /// example a shell, notices only a stop of rsup itself.
    fn on_command_stopped(&self, signal: i32) {
        let needs_terminal = signal == Signal::TTIN.number() || signal == Signal::TTOU.number();
        let by_key = signal == Signal::TSTP.number() && terminal::either_group_is_foreground(self.pid);
        let has_terminal = terminal::has_controlling_tty();
        let is_shell_job = !self.is_pid1 && has_terminal && terminal::is_shell_job();
        // This variable is used only if rsup has no controlling terminal. If rsup's parent is PID 1, the parent may be
        // an init that does not react when rsup stops. rsup cannot forward SIGSTOP, so another process has sent SIGSTOP
        // directly to the command. That process may send SIGCONT only to the command. rsup would then stay stopped for
        // good. After any other stop signal, rsup stops: an init may have sent the signal to rsup, and rsup has then
        // forwarded the signal to the command. An init that forwards stop signals to rsup also forwards SIGCONT to
        // rsup.
        let rsup_would_stay_stopped = signal == Signal::STOP.number() && sys::is_child_of_pid1();
        // Some shells, for example bash, send no signal when they bring a running job to the foreground. rsup then
        // notices the change only when SIGTTIN or SIGTTOU has stopped the command.
        let got_terminal = needs_terminal && terminal::give_foreground(self.pid);
        // If rsup is not the job of a shell, no process would continue a command that Ctrl-Z has stopped.
        let command_would_stay_stopped = by_key && !is_shell_job;
        if got_terminal || command_would_stay_stopped {
            let _ = sys::killpg(self.pid, Signal::CONT.number());
        } else if is_shell_job {
            terminal::reclaim_foreground(self.pid);
            if needs_terminal || by_key {
                // Normally the terminal stops all processes of a job together. This signal may have reached only the
                // command's process group. So rsup sends the signal to rsup's own process group, which contains the
                // rest of the pipeline, or the script that started rsup. rsup itself blocks the signal, which stays
                // pending until SIGCONT discards it.
                sys::kill_own_group(signal);
            }
            sys::kill_self(Signal::STOP.number());
        } else if !self.is_pid1 && !has_terminal && !rsup_would_stay_stopped {
            sys::kill_self(Signal::STOP.number());
        }
    }

    /// Forwards a signal to the command's process group.
    fn forward(&mut self, raw: RawSignal) {
        let Some(signal) = Signal::from_number(raw.signal.into()) else { return };
        // SIGCHLD is about rsup's own children. SIGPIPE and SIGXFSZ are dropped if a write of rsup has caused them.
        if signal == Signal::CHLD || raw.is_from_own_write() {
            return;
        }
        if signal == Signal::CONT && self.wants_foreground {
            terminal::give_foreground(self.pid);
        }
        if signal == Signal::TERM {
            if self.kill_deadlines.is_none() {
                self.shutdown_deadlines =
                    self.stop_timeout.map(|seconds| ShutdownDeadlines::from_timeout(now(), seconds));
                self.kill_deadlines =
                    self.shutdown_deadlines.map(|times| KillDeadlines::with_kill_at(times.kill_at));
            }
            self.term_forwarded = true;
            self.remaining.note_term_to_group(self.pid);
        }
        let sent = sys::killpg_or_kill(self.pid, signal.number());
        if sent == Err(Errno::EPERM) && !self.refusal_logged {
            self.refusal_logged = true;
            log_line(&format!("no permission to send {signal} to the command"));
        }
    }

    /// Terminates the processes that remain after the command has ended. Returns the command's exit code.
    fn finish(mut self, exit: ExitStatus) -> u8 {
        terminal::reclaim_foreground(self.pid);
        self.terminate_remaining();
        exit.exit_code()
    }

    /// Exits while the command is still alive: SIGKILL did not end the command, or rsup has no permission to send
    /// SIGKILL to the command.
    fn abandon(self, why: &str) -> u8 {
        terminal::reclaim_foreground(self.pid);
        log_line(why);
        ExitStatus::Signal { signal: Signal::KILL, core: false }.exit_code()
    }

    /// Calls `send_term_to_remaining`. SIGKILL follows at `kill_at` of `shutdown_deadlines` if that is set, and
    /// otherwise after 1 s. If `send_term_to_remaining` has returned false, SIGKILL follows after 1 s at the earliest.
    /// Returns in one of three cases: no process is left; 1 s has passed since SIGKILL; rsup has no permission to send
    /// SIGKILL to any process that is left.
    fn terminate_remaining(&mut self) {
        if !self.reap_and_check_remaining() {
            return;
        }
        let in_one_second = now().plus_secs(KILL_GRACE_SECS);
        let mut kill_at = self.shutdown_deadlines.map_or(in_one_second, |times| times.kill_at);
        if !self.send_term_to_remaining() {
            kill_at = kill_at.max(in_one_second);
        }
        let mut remaining_deadlines = KillDeadlines::with_kill_at(kill_at);
        while self.reap_and_check_remaining() {
            match remaining_deadlines.due(now()) {
                Some(KillOrGiveUp::Kill) => {
                    self.remaining.signal(Signal::KILL);
                    remaining_deadlines.note_killed(now());
                }
                Some(KillOrGiveUp::GiveUp) => return log_line(LEFT_BEHIND),
                None if self.remaining.only_refused_are_left() => return log_line(REFUSED),
                None => {
                    let _ = sys::wait_for_signal(
                        remaining_deadlines.deadline().map(|deadline| deadline.duration_since(now())),
                    );
                    if self.term_forwarded {
                        let command = self.pid;
                        let is_pid1 = self.is_pid1;
                        self.remaining.send_term_to_adopted(|_, group| is_pid1 || group == Some(command));
                    }
                }
            }
        }
    }

    /// Sends SIGTERM to the remaining processes that were not sent SIGTERM before. If SIGTERM was forwarded to the
    /// command's process group, a member of this group gets SIGTERM only if the member is a child of rsup. Returns
    /// false if SIGTERM was forwarded, rsup is PID 1, and rsup cannot list the processes. In this case one kill(2)
    /// sends SIGTERM to all processes. The processes outside the command's process group were not sent SIGTERM before,
    /// so the caller must give them time before SIGKILL.
    fn send_term_to_remaining(&mut self) -> bool {
        if !self.term_forwarded {
            self.remaining.signal(Signal::TERM);
            return true;
        }
        // A stopped process handles the forwarded SIGTERM only when it is continued.
        let _ = sys::killpg(self.pid, Signal::CONT.number());
        let command = self.pid;
        let is_pid1 = self.is_pid1;
        // The command's process group was sent SIGTERM before. A member that was forked later did not get it. rsup
        // sends SIGTERM to such a member only if the member is a child of rsup. A member with another parent is left
        // alone, because the parent may need the member while the parent stops.
        let processes_are_listed =
            self.remaining.send_term_to_matching(
                |_, group, is_child| if group == Some(command) { is_child } else { is_pid1 },
            );
        if !processes_are_listed && self.is_pid1 {
            self.remaining.signal(Signal::TERM);
        }
        processes_are_listed || !self.is_pid1
    }

    /// Reaps every zombie. Returns whether a process is left. If rsup is PID 1, every child counts; otherwise every
    /// member of the command's process group counts.
    fn reap_and_check_remaining(&mut self) -> bool {
        let last = loop {
            match self.wait_any() {
                Ok(Some(_)) => {}
                last => break last,
            }
        };
        if self.is_pid1 { last.is_ok() } else { sys::group_exists(self.pid) }
    }
}

/// Logs why a command could not be executed. `interpreter` is the interpreter that causes the failure, or empty.
/// Returns the exit code for this reason.
fn report_exec_failure(word: &str, failure: ExecFailure, interpreter: &str) -> u8 {
    let (code, reason) = match failure.step {
        ExecStep::NotFound | ExecStep::NoPermission if sys::is_nonexecutable_readable_file(word) => {
            (NOT_EXECUTABLE, "not executable; did you mean -c FILE?".to_owned())
        }
        ExecStep::NotFound => (NOT_FOUND, "not found".to_owned()),
        _ => {
            let errno = failure.errno;
            (NOT_EXECUTABLE, errno.desc().to_owned() + &messages::about_interpreter(interpreter, errno))
        }
    };
    log_line(&format!("can't run {word}: {reason}"));
    code
}

const LEFT_BEHIND: &str = "processes left behind";
const REFUSED: &str = "processes left behind: no permission to send SIGKILL";

/// Writes one line to stderr, without waiting for a reader.
fn log_line(text: &str) {
    // If stderr has no room for the line, the line is lost.
    let _ = OutputStream::stderr().write(format!("rsup: {}\n", Escaped(text)).as_bytes());
}
