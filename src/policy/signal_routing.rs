//! What rsup does with a signal that it receives while it runs the programs of a configuration file (src/README.md
//! lists the signals).

use super::signal::Signal;

/// A received signal and the kind of its sender. The kernel reports the PID of the sender, and whether the signal comes
/// from the kernel itself. `supervise` finds out the kind.
#[derive(Clone, Copy, Debug)]
pub struct ReceivedSignal {
    pub signal: Signal,
    pub sender: Sender,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The kernel (`SI_KERNEL`), for example the terminal driver.
    Kernel,
    /// A process outside rsup's PID namespace, for example the container engine when rsup is PID 1.
    OutsidePidNamespace,
    /// PID 1 of rsup's PID namespace.
    Pid1,
    /// A process in the process group of an event listener. If there are event listeners, a sender that has exited
    /// counts as such a process too.
    Listener,
    /// Any other process.
    OtherProcess,
}

/// The properties of rsup's own process that change the meaning of a signal.
#[derive(Clone, Copy, Debug)]
pub struct SignalContext {
    /// rsup is PID 1 of its PID namespace.
    pub is_pid1: bool,
    /// rsup has a controlling terminal.
    pub has_terminal: bool,
    /// A shell on rsup's controlling terminal runs rsup as a job. Such a shell can continue rsup after ^Z, and sends
    /// SIGHUP to its jobs when the terminal is closed. An init that started rsup (`docker run --init`) is not a shell.
    pub is_shell_job: bool,
    /// SIGHUP was ignored when rsup was started. `nohup` starts programs in this way.
    pub hup_ignored: bool,
}

/// What rsup does with a received signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalAction {
    /// Stop every program, then exit.
    Shutdown,
    /// Log the signal. rsup has reaped the children that have exited before it calls [`route_signal`].
    LogSigchld,
    /// Send the signal to the process groups of the programs.
    Forward,
    /// Send SIGSTOP to the process groups of the programs, then stop rsup itself.
    Suspend,
    /// Only log the signal.
    Drop,
}

/// What rsup does with `received` when it runs in `context`.
#[must_use]
pub fn route_signal(received: ReceivedSignal, context: SignalContext) -> SignalAction {
    let SignalContext { is_pid1, has_terminal, is_shell_job, hup_ignored } = context;
    let from_kernel = received.sender == Sender::Kernel;
    // If PID 1 is an init that started rsup, the init receives signals and forwards them to rsup. The terminal may be
    // the origin of such a signal.
    let from_init = received.sender == Sender::Pid1 && !is_pid1 && !is_shell_job;
    match received.signal {
        Signal::CHLD => SignalAction::LogSigchld,
        Signal::TERM | Signal::INT | Signal::QUIT => SignalAction::Shutdown,
        // rsup is started with `nohup` so that it survives the SIGHUP that the kernel or the shell sends to every job
        // when the terminal is closed.
        Signal::HUP if hup_ignored && !is_pid1 => SignalAction::Drop,
        // When the terminal is closed, the kernel or the shell sends SIGHUP. If a shell runs rsup as a job, any sender
        // counts as that shell. Every other SIGHUP is meant for the programs: many of them read their configuration
        // again.
        Signal::HUP if has_terminal && !is_pid1 && (from_kernel || is_shell_job) => SignalAction::Shutdown,
        // The default action of these signals is to stop the process, but the kernel does not apply it to PID 1. So
        // rsup does not stop itself either when it is PID 1.
        Signal::TSTP | Signal::TTIN | Signal::TTOU if is_pid1 => SignalAction::Drop,
        // Without a shell, no process could continue rsup after ^Z. For the same reason the kernel does not stop a
        // process of an orphaned process group.
        Signal::TSTP | Signal::TTIN | Signal::TTOU if from_kernel && !is_shell_job => SignalAction::Drop,
        Signal::TSTP | Signal::TTIN | Signal::TTOU if from_init && has_terminal => SignalAction::Drop,
        Signal::TSTP | Signal::TTIN | Signal::TTOU => SignalAction::Suspend,
        // Apache takes SIGWINCH as the request for a graceful stop, so rsup does not forward the SIGWINCH of a resized
        // terminal. The client of `docker run -it` also sends SIGWINCH to PID 1. If rsup is PID 1, this signal comes
        // from outside the PID namespace. Otherwise the init that is PID 1 forwards it to rsup.
        Signal::WINCH if from_kernel => SignalAction::Drop,
        Signal::WINCH if has_terminal && (from_init || received.sender == Sender::OutsidePidNamespace) => {
            SignalAction::Drop
        }
        _ => SignalAction::Forward,
    }
}

#[cfg(test)]
mod tests {
    use super::SignalAction::{Drop, Forward, LogSigchld, Shutdown, Suspend};
    use super::{ReceivedSignal, Sender, SignalAction, SignalContext, route_signal};
    use crate::policy::signal::Signal;

    const PID1: SignalContext =
        SignalContext { is_pid1: true, has_terminal: false, is_shell_job: false, hup_ignored: false };
    const PID1_WITH_TERMINAL: SignalContext = SignalContext { has_terminal: true, ..PID1 };
    /// rsup is not PID 1 and has no controlling terminal, for example with `docker run --init`.
    const SERVICE: SignalContext = SignalContext { is_pid1: false, ..PID1 };
    /// rsup leads the session of its terminal, or an init has started rsup on a terminal.
    const ON_TERMINAL: SignalContext = SignalContext { has_terminal: true, ..SERVICE };
    const SHELL_JOB: SignalContext = SignalContext { is_shell_job: true, ..ON_TERMINAL };
    const NOHUP: SignalContext = SignalContext { hup_ignored: true, ..SHELL_JOB };
    const NOHUP_PID1: SignalContext = SignalContext { hup_ignored: true, ..PID1_WITH_TERMINAL };
    const CONTEXTS: [SignalContext; 7] =
        [PID1, PID1_WITH_TERMINAL, SERVICE, ON_TERMINAL, SHELL_JOB, NOHUP, NOHUP_PID1];
    const SENDERS: [Sender; 4] =
        [Sender::OtherProcess, Sender::Pid1, Sender::Kernel, Sender::OutsidePidNamespace];

    /// The actions in the order of `CONTEXTS`, for each sender in the order of `SENDERS`.
    fn actions_for(signal: Signal) -> [[SignalAction; 7]; 4] {
        SENDERS.map(|sender| CONTEXTS.map(|context| route_signal(ReceivedSignal { signal, sender }, context)))
    }

    #[test]
    fn some_signals_have_the_same_action_in_every_context() {
        let rows = [
            (Signal::CHLD, LogSigchld),
            (Signal::TERM, Shutdown),
            (Signal::INT, Shutdown),
            (Signal::QUIT, Shutdown),
            (Signal::CONT, Forward),
        ];
        for (signal, action) in rows {
            assert_eq!(actions_for(signal), [[action; 7]; 4], "{signal}");
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
            assert_eq!(actions_for(signal), [[Forward; 7]; 4], "{signal}");
        }
    }

    #[test]
    fn sighup_means_a_closed_terminal_if_the_kernel_or_a_shell_may_have_sent_it() {
        let by_kernel = [Forward, Forward, Forward, Shutdown, Shutdown, Drop, Forward];
        let by_others = [Forward, Forward, Forward, Forward, Shutdown, Drop, Forward];
        assert_eq!(actions_for(Signal::HUP), [by_others, by_others, by_kernel, by_others]);
    }

    #[test]
    fn sighup_stays_ignored_without_a_terminal_too() {
        let context = SignalContext { hup_ignored: true, ..SERVICE };
        let received = ReceivedSignal { signal: Signal::HUP, sender: Sender::OtherProcess };
        assert_eq!(route_signal(received, context), Drop);
    }

    #[test]
    fn a_stop_signal_of_the_terminal_suspends_only_a_job_of_a_shell() {
        let by_kernel = [Drop, Drop, Drop, Drop, Suspend, Suspend, Drop];
        let by_pid1 = [Drop, Drop, Suspend, Drop, Suspend, Suspend, Drop];
        let by_others = [Drop, Drop, Suspend, Suspend, Suspend, Suspend, Drop];
        for signal in [Signal::TSTP, Signal::TTIN, Signal::TTOU] {
            assert_eq!(actions_for(signal), [by_others, by_pid1, by_kernel, by_others], "{signal}");
        }
    }

    #[test]
    fn sigwinch_of_a_resized_terminal_is_dropped() {
        let by_process = [Forward; 7];
        let by_pid1 = [Forward, Forward, Forward, Drop, Forward, Forward, Forward];
        let by_kernel = [Drop; 7];
        let from_outside = [Forward, Drop, Forward, Drop, Drop, Drop, Drop];
        assert_eq!(actions_for(Signal::WINCH), [by_process, by_pid1, by_kernel, from_outside]);
    }
}
