//! Derives the result of a request from the line that the status board has for the process. This file makes no system
//! call.

use crate::control::board::{Phase, Record, ServedCounts, State};
use crate::control::request::Request;

/// What a command does with each of the processes that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Start,
    Stop,
    /// Send this signal. `None` if the command line names no signal that exists.
    Signal(Option<i32>),
}

/// The result for one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Started,
    AlreadyStarted,
    NoSuchFile,
    NotExecutable,
    SpawnError,
    AbnormalTermination,
    Stopped,
    /// The process cannot be stopped, because it does not run.
    NotRunning,
    Signalled,
    BadSignal,
    /// rsup did not send the signal: the process does not run, or rsup is shutting down.
    NotSignallable,
    NoSuchProcess,
}

impl Outcome {
    /// The text after the name of the process in the output.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::AlreadyStarted => "ERROR (already started)",
            Self::NoSuchFile => "ERROR (no such file)",
            Self::NotExecutable => "ERROR (file is not executable)",
            Self::SpawnError => "ERROR (spawn error)",
            Self::AbnormalTermination => "ERROR (abnormal termination)",
            Self::Stopped => "stopped",
            Self::NotRunning | Self::NotSignallable => "ERROR (not running)",
            Self::Signalled => "signalled",
            Self::BadSignal => "ERROR (bad signal name)",
            Self::NoSuchProcess => "ERROR (no such process)",
        }
    }

    /// The exit status that the outcome causes. `None` if the exit status stays as it is.
    pub(super) fn exit_status(self) -> Option<u8> {
        match self {
            Self::Started | Self::AlreadyStarted | Self::Stopped | Self::NotRunning | Self::Signalled => None,
            Self::NoSuchFile | Self::NotExecutable | Self::BadSignal | Self::NoSuchProcess => Some(1),
            Self::SpawnError | Self::AbnormalTermination | Self::NotSignallable => Some(7),
        }
    }
}

/// What a line of the board said before the request was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    pid: i32,
    successful_starts: u32,
    failed_starts: u32,
    served: ServedCounts,
}

impl Before {
    pub(super) fn of(record: &Record<'_>) -> Self {
        let Record { pid, successful_starts, failed_starts, served, .. } = *record;
        Self { pid, successful_starts, failed_starts, served }
    }
}

impl Action {
    /// Whether the action changes this process. `all` and `group:*` skip every process for which this is false.
    pub(super) fn applies(self, record: &Record<'_>) -> bool {
        let runs = matches!(record.state, State::Starting | State::Running | State::Backoff);
        match self {
            Self::Start => !runs,
            // A process that will start without a request must not start after `stop`.
            Self::Stop => runs || record.awaits_start || !record.waits_for.is_empty(),
            Self::Signal(_) => matches!(record.state, State::Starting | State::Running | State::Stopping),
        }
    }

    /// Returns the outcome if the action needs no request.
    pub(super) fn immediate_outcome(self, record: &Record<'_>) -> Option<Outcome> {
        match self {
            Self::Signal(None) => Some(Outcome::BadSignal),
            Self::Signal(Some(0)) if self.applies(record) => Some(Outcome::Signalled),
            _ if self.applies(record) => None,
            Self::Start => Some(Outcome::AlreadyStarted),
            Self::Stop => Some(Outcome::NotRunning),
            Self::Signal(_) => Some(Outcome::NotSignallable),
        }
    }

    /// Returns the request for the process at this index of the board.
    pub(super) fn request(self, index: usize) -> Request {
        match self {
            Self::Start => Request::Start(index),
            Self::Stop => Request::Stop(index),
            Self::Signal(signal) => Request::Signal(index, signal.unwrap_or(0)),
        }
    }

    /// Returns the outcome, as soon as the board shows it.
    pub(super) fn outcome(self, before: &Before, now: &Record<'_>, phase: Phase) -> Option<Outcome> {
        match self {
            Self::Start => start_outcome(before, now, phase),
            Self::Stop => stop_outcome(before, now, phase),
            Self::Signal(_) if now.served.signal_requests != before.served.signal_requests => {
                Some(Outcome::Signalled)
            }
            // During a shutdown, rsup sends no requested signal. rsup stops the process.
            Self::Signal(_) if phase == Phase::ShuttingDown => Some(Outcome::NotSignallable),
            Self::Signal(_) => None,
        }
    }
}

/// rsup starts a STOPPING process after the process has ended, so the client waits. supervisord refuses such a start.
fn start_outcome(before: &Before, now: &Record<'_>, phase: Phase) -> Option<Outcome> {
    let is_served = now.served.start_requests != before.served.start_requests;
    if is_served && now.successful_starts != before.successful_starts {
        Some(Outcome::Started)
    } else if is_served && now.failed_starts != before.failed_starts {
        Some(failed_start(&now.failure))
    } else if phase == Phase::ShuttingDown || (is_served && stays_without_child(now)) {
        Some(Outcome::AbnormalTermination)
    } else {
        None
    }
}

fn stop_outcome(before: &Before, now: &Record<'_>, phase: Phase) -> Option<Outcome> {
    // During a shutdown, rsup stops every process without a request of a client, so the counter may stay the same.
    let is_served = now.served.stop_requests != before.served.stop_requests || phase == Phase::ShuttingDown;
    // Another client may have started the process again. Then the process has another PID, or the new start has failed.
    let has_ended = stays_without_child(now)
        || now.state == State::Backoff
        || (now.pid != before.pid && now.state != State::Stopping);
    (is_served && has_ended).then_some(Outcome::Stopped)
}

/// Whether the process has no child, and rsup will not start one without a request. This function does not check
/// `waits_for`, because a served start or stop request and a shutdown end the wait for the first start.
fn stays_without_child(record: &Record<'_>) -> bool {
    matches!(record.state, State::Stopped | State::Exited | State::Fatal) && !record.awaits_start
}

/// Returns the outcome of a start that failed for this reason.
fn failed_start(reason: &str) -> Outcome {
    let not_executable_beginnings =
        ["can't parse command", "command is empty", "no permission to run command"];
    let not_executable_endings = [" is not executable", " is a directory"];
    if reason.starts_with("can't find command") {
        Outcome::NoSuchFile
    } else if not_executable_beginnings.iter().any(|start| reason.starts_with(start))
        || (reason.starts_with("command at ")
            && not_executable_endings.iter().any(|end| reason.ends_with(end)))
    {
        Outcome::NotExecutable
    } else {
        Outcome::SpawnError
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(state: State) -> Record<'static> {
        let served = ServedCounts { start_requests: 5, stop_requests: 5, signal_requests: 5 };
        Record { successful_starts: 5, failed_starts: 5, served, ..Record::example("x", "x", state) }
    }

    const STATES: [State; 7] = [
        State::Stopped,
        State::Starting,
        State::Running,
        State::Backoff,
        State::Stopping,
        State::Exited,
        State::Fatal,
    ];

    #[test]
    fn the_state_decides_whether_a_request_is_sent() {
        let running = Some(Outcome::AlreadyStarted);
        let idle = Some(Outcome::NotRunning);
        let mute = Some(Outcome::NotSignallable);
        let start = [None, running, running, running, None, None, None];
        let stop = [idle, None, None, None, idle, idle, idle];
        let signal = [mute, None, None, mute, None, mute, mute];
        for (index, state) in STATES.into_iter().enumerate() {
            let record = record(state);
            assert_eq!(Action::Start.immediate_outcome(&record), start[index], "{state:?}");
            assert_eq!(Action::Stop.immediate_outcome(&record), stop[index], "{state:?}");
            assert_eq!(Action::Signal(Some(1)).immediate_outcome(&record), signal[index], "{state:?}");
            assert_eq!(Action::Signal(None).immediate_outcome(&record), Some(Outcome::BadSignal));
            let nothing_sent = Some(signal[index].unwrap_or(Outcome::Signalled));
            assert_eq!(Action::Signal(Some(0)).immediate_outcome(&record), nothing_sent, "{state:?}");
        }
        for state in [State::Stopped, State::Stopping, State::Exited, State::Fatal] {
            let due = Record { awaits_start: true, ..record(state) };
            assert_eq!(Action::Stop.immediate_outcome(&due), None, "{state:?}");
            assert_eq!(Action::Start.immediate_outcome(&due), None, "{state:?}");
        }
    }

    /// The outcome of a start that was sent to a STOPPED process.
    fn start(now: Record<'_>, phase: Phase) -> Option<Outcome> {
        Action::Start.outcome(&Before::of(&record(State::Stopped)), &now, phase)
    }

    #[test]
    fn a_start_ends_with_running_with_the_first_failure_or_at_rest() {
        let running = Phase::Running;
        let served = |state| Record {
            served: ServedCounts { start_requests: 6, stop_requests: 5, signal_requests: 5 },
            ..record(state)
        };
        for state in STATES {
            assert_eq!(start(record(state), running), None, "{state:?} before the request was served");
            assert_eq!(start(Record { successful_starts: 6, ..record(state) }, running), None);
            assert_eq!(
                start(Record { successful_starts: 6, ..served(state) }, running),
                Some(Outcome::Started)
            );
            assert_eq!(
                start(Record { failed_starts: 6, ..served(state) }, running),
                Some(Outcome::SpawnError)
            );
            let stays_without_child = matches!(state, State::Stopped | State::Exited | State::Fatal);
            let ended = Some(Outcome::AbnormalTermination);
            assert_eq!(start(served(state), running), ended.filter(|_| stays_without_child), "{state:?}");
            assert_eq!(start(Record { awaits_start: true, ..served(state) }, running), None, "{state:?}");
            assert_eq!(start(record(state), Phase::ShuttingDown), ended, "{state:?}");
        }
        // The numbers wrap around.
        let before = Before::of(&Record { successful_starts: u32::MAX, ..record(State::Exited) });
        let now = Record { successful_starts: 0, ..served(State::Running) };
        assert_eq!(Action::Start.outcome(&before, &now, running), Some(Outcome::Started));
    }

    #[test]
    fn the_reason_of_a_failed_start_decides_its_outcome() {
        for (reason, want, status) in [
            ("can't find command '/no/such'", Outcome::NoSuchFile, 1),
            ("command at '/x' is not executable", Outcome::NotExecutable, 1),
            ("command at '/x' is a directory", Outcome::NotExecutable, 1),
            ("can't parse command 'a \"': No closing quotation", Outcome::NotExecutable, 1),
            ("command is empty", Outcome::NotExecutable, 1),
            ("no permission to run command '/x'", Outcome::NotExecutable, 1),
            ("Exited too quickly (process log may have details)", Outcome::SpawnError, 7),
            ("couldn't setuid to 1: Can't find user", Outcome::SpawnError, 7),
            ("", Outcome::SpawnError, 7),
        ] {
            assert_eq!(failed_start(reason), want, "{reason}");
            assert_eq!(want.exit_status(), Some(status), "{reason}");
        }
    }

    /// The outcome of a stop that was sent to a process with the PID 7.
    fn stop(now: Record<'_>, phase: Phase) -> Option<Outcome> {
        let before = Record { pid: 7, ..record(State::Running) };
        Action::Stop.outcome(&Before::of(&before), &now, phase)
    }

    #[test]
    fn a_stop_ends_when_the_process_has_ended() {
        let stopped = Some(Outcome::Stopped);
        let served = |state, pid| Record {
            served: ServedCounts { start_requests: 5, stop_requests: 6, signal_requests: 5 },
            pid,
            ..record(state)
        };
        for (now, want) in [
            (served(State::Stopping, 7), None),
            (served(State::Stopped, 0), stopped),
            (served(State::Exited, 0), stopped),
            (served(State::Fatal, 0), stopped),
            // Another client has started the process again.
            (served(State::Starting, 8), stopped),
            (served(State::Backoff, 0), stopped),
            // The process had another PID when the request was served, and still runs.
            (served(State::Stopping, 8), None),
            (served(State::Running, 7), None),
            (Record { awaits_start: true, ..served(State::Stopping, 7) }, None),
            (Record { awaits_start: true, ..served(State::Exited, 7) }, None),
            (record(State::Stopped), None),
            (Record { pid: 8, ..record(State::Running) }, None),
        ] {
            assert_eq!(stop(now.clone(), Phase::Running), want, "{now:?}");
        }
        // The process was in BACKOFF. Another client has started it again, and the start has failed.
        let before = Before::of(&record(State::Backoff));
        let outcome = |now: &Record<'_>| Action::Stop.outcome(&before, now, Phase::Running);
        assert_eq!(outcome(&record(State::Backoff)), None);
        assert_eq!(outcome(&served(State::Backoff, 0)), stopped);
        assert_eq!(outcome(&served(State::Starting, 8)), stopped);
        assert_eq!(stop(record(State::Stopped), Phase::ShuttingDown), stopped);
        assert_eq!(stop(Record { pid: 7, ..record(State::Stopping) }, Phase::ShuttingDown), None);
    }

    #[test]
    fn a_signal_ends_when_it_was_served() {
        let record = |state| Record { pid: 7, ..record(state) };
        let before = Before::of(&record(State::Running));
        let outcome = |now: &Record<'_>, phase| Action::Signal(Some(1)).outcome(&before, now, phase);
        let served = Record {
            served: ServedCounts { start_requests: 5, stop_requests: 5, signal_requests: 6 },
            ..record(State::Exited)
        };
        assert_eq!(outcome(&record(State::Running), Phase::Running), None);
        assert_eq!(outcome(&served, Phase::Running), Some(Outcome::Signalled));
        assert_eq!(outcome(&record(State::Running), Phase::ShuttingDown), Some(Outcome::NotSignallable));
    }

    #[test]
    fn an_outcome_without_an_error_leaves_the_exit_status() {
        for outcome in [Outcome::Started, Outcome::AlreadyStarted, Outcome::Stopped, Outcome::NotRunning] {
            assert_eq!(outcome.exit_status(), None, "{outcome:?}");
        }
        assert_eq!(Outcome::NotSignallable.exit_status(), Some(7));
        assert_eq!(Outcome::NotSignallable.text(), Outcome::NotRunning.text());
    }
}
