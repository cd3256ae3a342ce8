//! What becomes of a signal that rsup receives (DESIGN's table of signals for configuration mode).

use super::signal::Signal;

/// A signal and what the kernel says of its sender.
#[derive(Clone, Copy, Debug)]
pub struct SignalInfo {
    /// Which.
    pub signal: Signal,
    /// The kernel sent it (`SI_KERNEL`): the terminal driver, for the signals of the terminal.
    pub from_kernel: bool,
    /// It came from outside the PID namespace: the container's engine, for process 1.
    pub from_outside: bool,
}

/// Where rsup runs, as far as signals mean something else there.
#[derive(Clone, Copy, Debug)]
pub struct RunContext {
    /// It is process 1 of its namespace.
    pub is_pid1: bool,
    /// It has a controlling terminal.
    pub has_terminal: bool,
    /// It is the job of a shell there, which can continue what has stopped.
    pub has_shell: bool,
    /// It was started with SIGHUP ignored, as `nohup` does.
    pub hup_ignored: bool,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalAction {
    /// Stop everything and leave.
    Shutdown,
    /// A child has changed its state.
    Reap,
    /// To the process groups of the programs.
    Forward,
    /// SIGSTOP to the process groups, then to rsup itself.
    Suspend,
    /// Nothing.
    Drop,
}

/// Decides.
#[must_use]
pub fn route_signal(received: SignalInfo, context: RunContext) -> SignalAction {
    match received.signal {
        Signal::CHLD => SignalAction::Reap,
        Signal::TERM | Signal::INT | Signal::QUIT => SignalAction::Shutdown,
        // As it came: the terminal sends it when it closes, and so does the shell.
        Signal::HUP if context.hup_ignored && !context.is_pid1 => SignalAction::Drop,
        Signal::HUP if context.has_terminal && !context.is_pid1 => SignalAction::Shutdown,
        Signal::TSTP | Signal::TTIN | Signal::TTOU if context.is_pid1 => SignalAction::Drop,
        // ^Z: as the kernel has it for groups that nobody could continue.
        Signal::TSTP | Signal::TTIN | Signal::TTOU if received.from_kernel && !context.has_shell => {
            SignalAction::Drop
        }
        Signal::TSTP | Signal::TTIN | Signal::TTOU => SignalAction::Suspend,
        // Apache, nginx and php-fpm take WINCH as a graceful stop: a resized terminal must not reach them. The client of
        // `docker run -it` has it proxied beside.
        Signal::WINCH if received.from_kernel => SignalAction::Drop,
        Signal::WINCH if received.from_outside && context.has_terminal => SignalAction::Drop,
        _ => SignalAction::Forward,
    }
}
