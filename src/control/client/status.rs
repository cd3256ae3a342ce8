//! The commands that only read the board: `status`, `pid` and `avail`, and rsup's own `health`.

use super::client_run::ClientRun;
use super::failure::Failure;
use super::names::{self, Name};
use super::running_rsup::BoardLines;
use crate::control::board::{Record, State};
use crate::sys::{LocalTime, TimeZone, WallTime};
use std::fmt::Write as _;

/// The smallest width of the name column of `status`. A longer name makes the column wider. Three blanks follow the
/// column.
const MIN_NAME_WIDTH: usize = 30;
const DAY: u64 = 86_400;
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

pub(super) fn status(
    client_run: &mut ClientRun<'_>,
    board: &BoardLines,
    words: &[&str],
) -> Result<(), Failure> {
    let records = records_sorted_by_group(board)?;
    let shown = find_named_records(client_run, &records, words, 4)?;
    client_run.write(table(&shown).as_bytes())?;
    let is_in_stopped_states =
        |record: &&Record<'_>| matches!(record.state, State::Stopped | State::Exited | State::Fatal);
    if shown.iter().any(is_in_stopped_states) {
        client_run.status = 3;
    }
    Ok(())
}

/// Shows each process that is meant to run and is not RUNNING. Sets the exit status to 1 if there is such a process, or
/// if a word names no process.
pub(super) fn health(
    client_run: &mut ClientRun<'_>,
    board: &BoardLines,
    words: &[&str],
) -> Result<(), Failure> {
    let records = records_sorted_by_group(board)?;
    let mut unhealthy = find_named_records(client_run, &records, words, 1)?;
    unhealthy.retain(|record| record.state != State::Running && is_meant_to_run(record));
    if !unhealthy.is_empty() {
        client_run.status = 1;
    }
    client_run.write(table(&unhealthy).as_bytes())
}

/// Whether the process should run now. A STOPPING or STOPPED process should run only if `awaits_start` is set, or if
/// its first start waits for other processes. An EXITED process should run only if `awaits_start` is set, or if its
/// exit was not expected. Every other process should run.
fn is_meant_to_run(record: &Record<'_>) -> bool {
    match record.state {
        State::Stopping | State::Stopped => record.awaits_start || !record.waits_for.is_empty(),
        State::Exited => record.awaits_start || !record.exit_expected,
        State::Starting | State::Running | State::Backoff | State::Fatal => true,
    }
}

/// Shows the PIDs of the processes that the words name; without words, rsup's own.
pub(super) fn pid(
    client_run: &mut ClientRun<'_>,
    own: i32,
    board: &BoardLines,
    words: &[&str],
) -> Result<(), Failure> {
    let records = records_sorted_by_group(board)?;
    if words.is_empty() {
        return client_run.line(format_args!("{own}"));
    }
    if words.contains(&"all") {
        for record in &records {
            client_run.line(format_args!("{}", record.pid))?;
        }
        return Ok(());
    }
    for word in words {
        let name = Name::parse(word);
        let is_process = matches!(name, Name::Process { .. });
        match records.iter().find(|record| is_process && name.matches(record)) {
            Some(record) if record.pid == 0 => client_run.error(7, format_args!("0"))?,
            Some(record) => client_run.line(format_args!("{}", record.pid))?,
            None => client_run.error(1, format_args!("No such process {word}"))?,
        }
    }
    Ok(())
}

pub(super) fn avail(client_run: &ClientRun<'_>, board: &BoardLines) -> Result<(), Failure> {
    let mut lines = String::new();
    for record in board.records_sorted_by(|record| record.name.clone().into_owned())? {
        lines.push_str(&avail_line(&record));
    }
    client_run.write(lines.as_bytes())
}

/// Returns the line of `avail` for a process. rsup reads its file only at start, so every process of the board is
/// `in use`.
fn avail_line(record: &Record<'_>) -> String {
    let start = if record.autostart { "auto" } else { "manual" };
    let name = names::of(record);
    format!("{name:<32} in use    {start:<9} {}:{}\n", record.group_priority, record.priority)
}

fn records_sorted_by_group(board: &BoardLines) -> Result<Vec<Record<'_>>, Failure> {
    // NUL sorts before every other character, and no name contains a NUL. So the processes are sorted by group, and
    // within a group by name.
    board.records_sorted_by(|record| [&*record.group, "\0", &*record.name].concat())
}

/// Returns the processes that the words name, in the order of the words; without words, all processes. If a word
/// names no process, reports an error with the exit status `error_status`.
fn find_named_records<'a>(
    client_run: &mut ClientRun<'_>,
    records: &'a [Record<'a>],
    words: &[&str],
    error_status: u8,
) -> Result<Vec<&'a Record<'a>>, Failure> {
    if words.is_empty() || words.contains(&"all") {
        return Ok(records.iter().collect());
    }
    let mut found = Vec::new();
    for word in words {
        let name = Name::parse(word);
        let before = found.len();
        found.extend(records.iter().filter(|record| name.matches(record)));
        if found.len() > before {
            continue;
        }
        match name {
            Name::Group(group) => {
                client_run.error(error_status, format_args!("{group}: ERROR (no such group)"))?
            }
            Name::Process { .. } => {
                client_run.error(error_status, format_args!("{word}: ERROR (no such process)"))?
            }
        }
    }
    Ok(found)
}

fn table(records: &[&Record<'_>]) -> String {
    let names: Vec<String> = records.iter().map(|record| names::of(record)).collect();
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let width = longest.max(MIN_NAME_WIDTH).saturating_add(3);
    let zone = TimeZone::of_environment();
    let now = WallTime::now().seconds();
    let mut table = String::new();
    for (name, record) in names.iter().zip(records) {
        let description = description(record, now, &zone);
        // Writing to a String cannot fail.
        let _ = writeln!(table, "{name:<width$}{:<10}{description}", record.state.name());
    }
    table
}

fn description(record: &Record<'_>, now: u64, zone: &TimeZone) -> String {
    match record.state {
        State::Running => {
            let uptime = uptime(now.saturating_sub(record.started_at));
            format!("pid {}, uptime {uptime}", record.pid)
        }
        State::Backoff | State::Fatal if record.failure.is_empty() => {
            format!("unknown error (try \"tail {}\")", record.name)
        }
        State::Backoff | State::Fatal => record.failure.clone().into_owned(),
        State::Stopped if !record.waits_for.is_empty() => format!("waiting for {}", record.waits_for),
        // If every start of a process has failed before there was a child, the process has no end time. supervisord
        // then shows the beginning of 1970 as the end time. The client shows `Not started`.
        State::Stopped | State::Exited if record.started_at == 0 || record.ended_at == 0 => {
            "Not started".to_owned()
        }
        State::Stopped | State::Exited => date(WallTime::from_seconds(record.ended_at).local_time(zone)),
        State::Starting | State::Stopping => String::new(),
    }
}

/// Returns a duration as Python writes a `timedelta`: `2 days, 7:33:20`.
fn uptime(seconds: u64) -> String {
    let days = match seconds / DAY {
        0 => String::new(),
        1 => "1 day, ".to_owned(),
        days => format!("{days} days, "),
    };
    let seconds = seconds % DAY;
    format!("{days}{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Returns a time in the form `Nov 28 05:49 AM`.
fn date(time: LocalTime) -> String {
    let index = usize::try_from(time.month).unwrap_or(0).saturating_sub(1);
    let month = MONTHS.get(index).copied().unwrap_or_default();
    let half = if time.hour < 12 { "AM" } else { "PM" };
    let hour = if time.hour % 12 == 0 { 12 } else { time.hour % 12 };
    format!("{month} {:02} {hour:02}:{:02} {half}", time.day, time.minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(group: &'static str, name: &'static str, state: State) -> Record<'static> {
        Record::example(group, name, state)
    }

    fn described(record: &Record<'_>) -> String {
        description(record, 1016, &TimeZone::default())
    }

    #[test]
    fn the_columns_are_those_of_supervisorctl() {
        let starting = record("starting", "starting", State::Starting);
        let long = "a_program_with_a_rather_long_name";
        let fatal = Record { failure: "can't find command '/no'".into(), ..record(long, long, State::Fatal) };
        let unstarted = Record { started_at: 0, ..record("g", "gb", State::Stopped) };
        assert_eq!(table(&[&starting]), format!("{:33}STARTING  \n", "starting"));
        assert_eq!(
            table(&[&fatal, &unstarted]),
            "a_program_with_a_rather_long_name   FATAL     can't find command '/no'\n\
             g:gb                                STOPPED   Not started\n"
        );
        // The width counts characters.
        let wide = record("ü", "ü", State::Stopping);
        assert_eq!(table(&[&wide]).chars().count(), 33 + 10 + 1);
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn every_state_has_its_description() {
        let running = Record { pid: 3957, ..record("web", "web", State::Running) };
        assert_eq!(described(&running), "pid 3957, uptime 0:00:16");
        let future = Record { started_at: 9999, ..running };
        assert_eq!(described(&future), "pid 3957, uptime 0:00:00");
        let backoff = record("g", "x", State::Backoff);
        assert_eq!(described(&backoff), "unknown error (try \"tail x\")");
        let why = "Exited too quickly (process log may have details)";
        assert_eq!(described(&Record { failure: why.into(), ..backoff }), why);
        for state in [State::Starting, State::Stopping] {
            assert_eq!(described(&record("x", "x", state)), "");
        }
        for state in [State::Stopped, State::Exited] {
            assert_eq!(described(&Record { started_at: 0, ..record("x", "x", state) }), "Not started");
            // Every start failed before there was a child.
            assert_eq!(described(&Record { ended_at: 0, ..record("x", "x", state) }), "Not started");
            let date = described(&record("x", "x", state));
            assert!(date.ends_with('M') && date.len() == "Nov 28 05:49 AM".len(), "{date}");
        }
    }

    #[test]
    fn an_uptime_has_the_form_of_python() {
        for (seconds, want) in [
            (0, "0:00:00"),
            (59, "0:00:59"),
            (3_600, "1:00:00"),
            (DAY - 1, "23:59:59"),
            (DAY, "1 day, 0:00:00"),
            (200_000, "2 days, 7:33:20"),
        ] {
            assert_eq!(uptime(seconds), want);
        }
    }

    #[test]
    fn a_date_has_the_form_of_the_c_locale() {
        let time = |month, day, hour, minute| LocalTime { year: 2026, month, day, hour, minute, second: 9 };
        assert_eq!(date(time(11, 28, 5, 49)), "Nov 28 05:49 AM");
        assert_eq!(date(time(1, 1, 0, 0)), "Jan 01 12:00 AM");
        assert_eq!(date(time(12, 31, 12, 5)), "Dec 31 12:05 PM");
        assert_eq!(date(time(5, 9, 23, 59)), "May 09 11:59 PM");
    }

    #[test]
    fn a_line_of_avail_has_four_columns() {
        let auto = Record { group_priority: 3, priority: 5, ..record("g", "ga", State::Running) };
        assert_eq!(avail_line(&auto), "g:ga                             in use    auto      3:5\n");
        let manual = Record { autostart: false, ..record("new", "new", State::Stopped) };
        assert_eq!(avail_line(&manual), "new                              in use    manual    999:999\n");
    }

    #[test]
    fn a_process_that_was_stopped_or_is_done_is_not_meant_to_run() {
        let meant = |state, awaits_start, exit_expected| {
            is_meant_to_run(&Record { awaits_start, exit_expected, ..record("x", "x", state) })
        };
        for (state, want) in [
            (State::Stopped, [false, true, false, true]),
            (State::Starting, [true; 4]),
            (State::Running, [true; 4]),
            (State::Backoff, [true; 4]),
            (State::Stopping, [false, true, false, true]),
            (State::Exited, [true, true, false, true]),
            (State::Fatal, [true; 4]),
        ] {
            let cases = [(false, false), (true, false), (false, true), (true, true)];
            assert_eq!(cases.map(|(due, expected)| meant(state, due, expected)), want, "{state:?}");
        }
    }
}
