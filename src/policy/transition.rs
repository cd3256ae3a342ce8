//! The states that a process enters because of one event. There can be several: a process that exits and is restarted
//! at once enters EXITED and then STARTING.

use super::process::{Event, Process, ProcessState};
use super::state_name::StateName;

/// A change from one state to another, with what supervisord tells event listeners about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    pub from: StateName,
    pub to: StateName,
    /// The number of failed starts in a row.
    pub tries: i64,
    /// Whether the exit status of the last leader was expected.
    pub expected: bool,
}

/// What is known about a process before an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    pub(super) state: ProcessState,
    /// The two results of [`Process::successful_and_failed_starts`]: how often the process has entered RUNNING, and how
    /// often a start has failed.
    successful_starts: u32,
    failed_starts: u32,
}

impl Before {
    pub(super) fn new(process: &Process) -> Self {
        let (successful_starts, failed_starts) = process.successful_and_failed_starts();
        Self { state: process.state(), successful_starts, failed_starts }
    }
}

/// The states that a process has entered because of one event, in order.
pub(super) type Entered = [Option<StateName>; 3];

/// Compares a process before and after an event.
pub(super) fn entered_states(before: Before, event: Event, process: &Process) -> Entered {
    let (successes, failures) = process.successful_and_failed_starts();
    let start_succeeded = successes != before.successful_starts;
    let start_failed = failures != before.failed_starts;
    let was_stopping = matches!(before.state, ProcessState::Stopping(_));
    let has_ended = matches!(event, Event::Exited { .. } | Event::SpawnFailed | Event::FifoUnopenedByRsup);
    let has_entered_exited = matches!(event, Event::Exited { .. }) && !was_stopping && !start_failed;
    let [first, second] = if start_failed {
        [Some(StateName::Backoff), None]
    } else if was_stopping && has_ended {
        [Some(StateName::Stopped), None]
    } else {
        [start_succeeded.then_some(StateName::Running), has_entered_exited.then_some(StateName::Exited)]
    };
    let state = process.state().name();
    let before_last = second.or(first).unwrap_or(before.state.name());
    [first, second, (state != before_last).then_some(state)]
}
