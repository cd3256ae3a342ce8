//! What rsup does with a signal that it receives while it runs a configuration file (src/README.md lists the signals).

use super::signal::Signal;

/// A received signal and its sender, as the kernel reports them.
#[derive(Clone, Copy, Debug)]
pub struct SignalInfo {
    pub signal: Signal,
    /// The sender is the kernel (`SI_KERNEL`), for example the terminal driver.
    pub from_kernel: bool,
    /// The sender is outside rsup's PID namespace, for example the container engine when rsup is PID 1.
    pub from_outside: bool,
}

/// The properties of rsup's own process that change the meaning of a signal.
#[derive(Clone, Copy, Debug)]
pub struct RunContext {
    /// rsup is PID 1 of its PID namespace.
    pub is_pid1: bool,
    /// rsup has a controlling terminal.
    pub has_terminal: bool,
    /// A shell on that terminal runs rsup as a job, and can continue rsup after a stop.
    pub has_shell: bool,
    /// SIGHUP was ignored when rsup was started, as `nohup` does.
    pub hup_ignored: bool,
}

/// What rsup does with a received signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalAction {
    /// Stop every program, then exit.
    Shutdown,
    /// Reap the children that have exited.
    Reap,
    /// Send the signal to the process groups of the programs.
    Forward,
    /// Send SIGSTOP to the process groups of the programs, then stop rsup itself.
    Suspend,
    /// Do nothing.
    Drop,
}

/// What rsup does with `received` when it runs in `context`.
#[must_use]
pub fn route_signal(received: SignalInfo, context: RunContext) -> SignalAction {
    match received.signal {
        Signal::CHLD => SignalAction::Reap,
        Signal::TERM | Signal::INT | Signal::QUIT => SignalAction::Shutdown,
        // The closing terminal and its shell send SIGHUP to every job; `nohup` asks rsup to survive that SIGHUP.
        Signal::HUP if context.hup_ignored && !context.is_pid1 => SignalAction::Drop,
        Signal::HUP if context.has_terminal && !context.is_pid1 => SignalAction::Shutdown,
        // The kernel does not stop PID 1 either.
        Signal::TSTP | Signal::TTIN | Signal::TTOU if context.is_pid1 => SignalAction::Drop,
        // Without a shell, no process could continue rsup after ^Z. For the same reason the kernel does not stop a process
        // of an orphaned process group.
        Signal::TSTP | Signal::TTIN | Signal::TTOU if received.from_kernel && !context.has_shell => {
            SignalAction::Drop
        }
        Signal::TSTP | Signal::TTIN | Signal::TTOU => SignalAction::Suspend,
        // Apache, nginx and php-fpm take SIGWINCH as the request for a graceful stop, so the SIGWINCH of a resized terminal
        // must not reach them. The client of `docker run -it` also sends its own SIGWINCH to PID 1, from outside.
        Signal::WINCH if received.from_kernel => SignalAction::Drop,
        Signal::WINCH if received.from_outside && context.has_terminal => SignalAction::Drop,
        _ => SignalAction::Forward,
    }
}

#[cfg(test)]
mod tests {
    use super::SignalAction::{Drop, Forward, Reap, Shutdown, Suspend};
    use super::{RunContext, SignalAction, SignalInfo, route_signal};
    use crate::policy::signal::Signal;

    const PID1: RunContext =
        RunContext { is_pid1: true, has_terminal: false, has_shell: false, hup_ignored: false };
    const PID1_WITH_TERMINAL: RunContext = RunContext { has_terminal: true, ..PID1 };
    /// Started by another program that is not a shell on a terminal.
    const SERVICE: RunContext = RunContext { is_pid1: false, ..PID1 };
    const ON_TERMINAL: RunContext = RunContext { has_terminal: true, ..SERVICE };
    const SHELL_JOB: RunContext = RunContext { has_shell: true, ..ON_TERMINAL };
    const NOHUP: RunContext = RunContext { hup_ignored: true, ..SHELL_JOB };
    const NOHUP_PID1: RunContext = RunContext { hup_ignored: true, ..PID1_WITH_TERMINAL };
    const CONTEXTS: [RunContext; 7] =
        [PID1, PID1_WITH_TERMINAL, SERVICE, ON_TERMINAL, SHELL_JOB, NOHUP, NOHUP_PID1];

    #[derive(Clone, Copy, PartialEq)]
    enum Sender {
        Process,
        Kernel,
        Outside,
    }
    const SENDERS: [Sender; 3] = [Sender::Process, Sender::Kernel, Sender::Outside];

    fn routed(signal: Signal, sender: Sender, context: RunContext) -> SignalAction {
        let from_kernel = sender == Sender::Kernel;
        // The kernel's signals have the sender 0, as the signals from outside the PID namespace have.
        let from_outside = sender != Sender::Process;
        route_signal(SignalInfo { signal, from_kernel, from_outside }, context)
    }

    /// The actions in the order of `CONTEXTS`, for each sender in the order of `SENDERS`.
    fn actions_for(signal: Signal) -> [[SignalAction; 7]; 3] {
        SENDERS.map(|sender| CONTEXTS.map(|context| routed(signal, sender, context)))
    }

    #[test]
    fn some_signals_have_the_same_action_in_every_context() {
        let rows = [
            (Signal::CHLD, Reap),
            (Signal::TERM, Shutdown),
            (Signal::INT, Shutdown),
            (Signal::QUIT, Shutdown),
            (Signal::CONT, Forward),
        ];
        for (signal, action) in rows {
            assert_eq!(actions_for(signal), [[action; 7]; 3], "{signal}");
        }
    }

    #[test]
    fn the_other_signals_are_forwarded_in_every_context() {
        let special = [
            Signal::CHLD,
            Signal::TERM,
            Signal::INT,
            Signal::QUIT,
            Signal::HUP,
            Signal::TSTP,
            Signal::TTIN,
            Signal::TTOU,
            Signal::WINCH,
        ];
        let signals = (1..=64).filter_map(Signal::from_number).filter(|signal| !special.contains(signal));
        for signal in signals {
            assert_eq!(actions_for(signal), [[Forward; 7]; 3], "{signal}");
        }
    }

    #[test]
    fn sighup_is_the_end_of_the_terminal_only_where_there_is_one() {
        let row = [Forward, Forward, Forward, Shutdown, Shutdown, Drop, Forward];
        assert_eq!(actions_for(Signal::HUP), [row; 3]);
    }

    #[test]
    fn sighup_stays_ignored_without_a_terminal_too() {
        let context = RunContext { hup_ignored: true, ..SERVICE };
        assert_eq!(routed(Signal::HUP, Sender::Process, context), Drop);
    }

    #[test]
    fn a_stop_signal_of_the_terminal_suspends_only_a_job_of_a_shell() {
        let by_kernel = [Drop, Drop, Drop, Drop, Suspend, Suspend, Drop];
        let by_others = [Drop, Drop, Suspend, Suspend, Suspend, Suspend, Drop];
        for signal in [Signal::TSTP, Signal::TTIN, Signal::TTOU] {
            assert_eq!(actions_for(signal), [by_others, by_kernel, by_others], "{signal}");
        }
    }

    #[test]
    fn sigwinch_of_a_resized_terminal_is_dropped() {
        let by_process = [Forward; 7];
        let by_kernel = [Drop; 7];
        let from_outside = [Forward, Drop, Forward, Drop, Drop, Drop, Drop];
        assert_eq!(actions_for(Signal::WINCH), [by_process, by_kernel, from_outside]);
    }
}
