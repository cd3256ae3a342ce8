//! The commands that change something: `start`, `stop`, `restart`, `signal`, `shutdown` and `reload`.

use super::action::{Action, Before, Outcome};
use super::client_run::ClientRun;
use super::failure::Failure;
use super::names::{self, Name};
use super::running_rsup::{BoardLines, RequestSender, Rsup};
use crate::control::board::{Phase, Record};
use crate::control::request::Request;
use crate::sys::{ignore_sigterm, leave_group_of};
use std::time::Duration;

/// The pause between two reads of the board. It begins with the shortest one, and doubles up to the longest one.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(10);
/// If at most this many processes are pending, only the header and the lines of these processes are read. Otherwise the
/// whole board is read.
const MAX_SINGLE_LINE_READS: usize = 16;

/// Carries out `start`, `stop` or `signal` for the processes that the words name.
pub(super) fn start_stop_or_signal(
    client_run: &mut ClientRun<'_>,
    rsup: &Rsup,
    action: Action,
    words: &[&str],
) -> Result<(), Failure> {
    let why = "requires a process name";
    match action {
        _ if !words.is_empty() => carry_out(client_run, rsup, action, words),
        Action::Start => client_run.usage_error(2, "start", why),
        Action::Stop => client_run.usage_error(1, "stop", why),
        Action::Signal(_) => client_run.usage_error(1, "signal", "requires a signal name and a process name"),
    }
}

pub(super) fn restart(client_run: &mut ClientRun<'_>, rsup: &Rsup, words: &[&str]) -> Result<(), Failure> {
    if words.is_empty() {
        return client_run.usage_error(1, "restart", "requires a process name");
    }
    carry_out(client_run, rsup, Action::Stop, words)?;
    carry_out(client_run, rsup, Action::Start, words)
}

/// Asks the user if necessary, writes `announcement`, and sends `request`. If rsup is already shutting down, does not
/// write `announcement`, sends `request` only if it is a shutdown, and returns `ShuttingDown`.
pub(super) fn confirm_and_send(
    client_run: &ClientRun<'_>,
    rsup: &Rsup,
    request: Request,
    question: &str,
    announcement: &str,
) -> Result<(), Failure> {
    // The pipe is opened before the question. If rsup executes itself again before the user answers, the request cannot
    // reach the new run.
    let request_sender = rsup.open_request_pipe()?;
    if !client_run.confirms(question)? {
        return Ok(());
    }
    let is_running = rsup.phase()? == Phase::Running;
    let written =
        if is_running { client_run.line(format_args!("{announcement}")) } else { Err(Failure::ShuttingDown) };
    // A shutdown during a reload turns the reload into an exit.
    if is_running || request == Request::Shutdown {
        // After a shutdown request, an rsup that is PID 1 sends SIGTERM to the other processes of the container, and
        // then exits. `docker exec` reports the exit status of the client. So the client ignores SIGTERM, and sends the
        // request last.
        ignore_sigterm();
        request_sender.send(request)?;
    }
    written
}

/// Carries out the action for one word after the other. Waits for the processes of each word before it handles the next
/// word. If `all` is among the words, the other words are ignored.
fn carry_out(
    client_run: &mut ClientRun<'_>,
    rsup: &Rsup,
    action: Action,
    words: &[&str],
) -> Result<(), Failure> {
    let request_sender = rsup.open_request_pipe()?;
    if words.contains(&"all") {
        let board = rsup.read_unless_shutting_down()?;
        let targets = applicable(&board, action, None)?;
        return request_and_wait(client_run, rsup, &request_sender, action, &board, targets);
    }
    for word in words {
        let name = Name::parse(word);
        let board = rsup.read_unless_shutting_down()?;
        let first = board.records()?.iter().position(|record| name.matches(record));
        match (name, first) {
            (Name::Group(group), None) => {
                let status = if action == Action::Start { 2 } else { 1 };
                // A write error is ignored, for the reason that is given at `report`.
                let _ = client_run.error(status, format_args!("{group}: ERROR (no such group)"));
            }
            (Name::Group(_), Some(_)) => {
                let targets = applicable(&board, action, Some(name))?;
                request_and_wait(client_run, rsup, &request_sender, action, &board, targets)?;
            }
            (Name::Process { group, name }, None) => {
                report(client_run, &names::shown(group, name), Outcome::NoSuchProcess);
            }
            (Name::Process { .. }, Some(index)) => {
                request_and_wait(client_run, rsup, &request_sender, action, &board, vec![index])?;
            }
        }
    }
    Ok(())
}

/// The indices of the processes that the action changes, in the order in which they are served. The processes of one
/// group are adjacent on the board. The groups keep the order of the board. Within a group, the processes are ordered
/// by `priority`.
fn applicable(board: &BoardLines, action: Action, name: Option<Name<'_>>) -> Result<Vec<usize>, Failure> {
    let records = board.records()?;
    let mut order: Vec<usize> = Vec::new();
    for (index, record) in records.iter().enumerate() {
        if action.applies(record) && name.is_none_or(|name| name.matches(record)) {
            let goes_before = |other: &usize| {
                let other = records.get(*other);
                other.is_none_or(|other| other.group != record.group || other.priority <= record.priority)
            };
            let place = order.iter().rposition(goes_before).map_or(0, |last| last.saturating_add(1));
            order.insert(place, index);
        }
    }
    Ok(order)
}

/// A process for which a request was sent.
struct Pending {
    index: usize,
    name: String,
    before: Before,
}

/// Reports the processes that need no request. Sends a request for each other process. Then waits for all of them, and
/// writes each result when the board shows it.
fn request_and_wait(
    client_run: &mut ClientRun<'_>,
    rsup: &Rsup,
    request_sender: &RequestSender,
    action: Action,
    board: &BoardLines,
    targets: Vec<usize>,
) -> Result<(), Failure> {
    let mut pending = Vec::new();
    for index in targets {
        let record = board.record(index)?;
        let name = names::of(&record);
        match action.immediate_outcome(&record) {
            Some(outcome) => report(client_run, &name, outcome),
            None => {
                if action == Action::Stop {
                    // The program itself may have started this client. When rsup stops a program, it also ends the
                    // other members of the program's process group. But this client must wait for the end of the
                    // program, and `restart` must then request the start.
                    leave_group_of(record.pid);
                }
                request_sender.send(action.request(index))?;
                pending.push(Pending { index, name, before: Before::of(&record) });
            }
        }
    }
    let mut pause = SHORTEST_PAUSE;
    let mut rsup_has_ended = false;
    while !pending.is_empty() {
        // The phase is read before the records, so the records are at least as new as the phase.
        let board = if pending.len() > MAX_SINGLE_LINE_READS { rsup.read() } else { rsup.first_line() }?;
        let phase = board.phase();
        let mut waiting = Vec::new();
        for process in pending {
            let look = |now: &Record<'_>| action.outcome(&process.before, now, phase);
            let outcome = if board.has_records() {
                look(&board.record(process.index)?)
            } else {
                rsup.process(process.index, look)?
            };
            match outcome {
                Some(outcome) => report(client_run, &process.name, outcome),
                None => waiting.push(process),
            }
        }
        pending = waiting;
        if rsup_has_ended && !pending.is_empty() {
            return Err(Failure::HAS_ENDED);
        }
        if !pending.is_empty() {
            // After rsup has ended, the board is read once more, because rsup may have written to it after the previous
            // read.
            rsup_has_ended = request_sender.wait_for_end(pause);
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }
    Ok(())
}

/// Writes the line of a process. A write error is ignored: a program that restarts itself may be the only reader of
/// this output, and the stop ends this reader. Even then, `restart` must go on and request the start.
fn report(client_run: &mut ClientRun<'_>, name: &str, outcome: Outcome) {
    if let Some(status) = outcome.exit_status() {
        client_run.status = status;
    }
    let _ = client_run.line(format_args!("{name}: {}", outcome.text()));
}
