//! The whole law as a table: every state under every event, and what a reader of supervisord's manual expects.

use std::rc::Rc;

use super::*;
use crate::policy::spec::ShutdownOn;

const fn at(seconds: u64) -> Time {
    Time::from_nanos(seconds * 1_000_000_000)
}

fn spec() -> ProcessSpec {
    ProcessSpec {
        autostart: true,
        autorestart: AutoRestart::Unexpected,
        startsecs: 10,
        startretries: 3,
        exitcodes: Rc::new([0]),
        stopsignal: Signal::QUIT,
        stopwaitsecs: 10,
        stopasgroup: false,
        group_priority: 999,
        shutdown_on: ShutdownOn::Never,
    }
}

const EXIT_0: ExitStatus = ExitStatus::Code(0);
const EXIT_1: ExitStatus = ExitStatus::Code(1);
const KILLED: ExitStatus = ExitStatus::Signal { signal: Signal::KILL, core: false };

fn process(state: ProcessState, leftovers: Leftovers) -> Process {
    Process { state, leftovers, started: Some(at(0)), ..Process::default() }
}

/// What a step does, in a form that fits a table.
fn did(process: &mut Process, spec: &ProcessSpec, event: Event, now: Time) -> String {
    let mut words = Vec::new();
    process.handle(spec, event, now, &mut |action| {
        words.push(match action {
            ProcessAction::Spawn => "spawn".to_owned(),
            ProcessAction::Send(signal, SignalTarget::Leader) => format!("{signal}"),
            ProcessAction::Send(signal, SignalTarget::Group) => format!("{signal}*"),
            ProcessAction::AbandonGroup => "abandon".to_owned(),
            ProcessAction::Log(message) => {
                if matches!(message, ProcessMessage::Sending { .. }) {
                    return;
                }
                format!(
                    "'{}'",
                    message.about("x", 7, "why").to_string().split_whitespace().next().unwrap_or("")
                )
            }
        });
    });
    format!("{}{} {}", state_word(process.state), leftovers_word(process.leftovers), words.join(" "))
        .trim_end()
        .to_owned()
}

fn seconds(time: Time) -> u64 {
    time.duration_since(at(0)).as_secs()
}

fn state_word(state: ProcessState) -> String {
    match state {
        ProcessState::Stopped => "STOPPED".to_owned(),
        ProcessState::Starting { up_since: None } => "STARTING".to_owned(),
        ProcessState::Starting { up_since: Some(since) } => format!("STARTING@{}", seconds(since)),
        ProcessState::Running => "RUNNING".to_owned(),
        ProcessState::Backoff { until } => format!("BACKOFF@{}", seconds(until)),
        ProcessState::Stopping { kill_at: Some(at) } => format!("STOPPING@{}", seconds(at)),
        ProcessState::Stopping { kill_at: None } => "STOPPING!".to_owned(),
        ProcessState::Exited { restart_at: Some(at) } => format!("EXITED@{}", seconds(at)),
        ProcessState::Exited { restart_at: None } => "EXITED".to_owned(),
        ProcessState::Fatal => "FATAL".to_owned(),
    }
}

fn leftovers_word(leftovers: Leftovers) -> String {
    match leftovers {
        Leftovers::None => String::new(),
        Leftovers::Tolerated => "+tolerated".to_owned(),
        Leftovers::Terminating { kill_at } => format!("+terminating@{}", seconds(kill_at)),
        Leftovers::Killed { until } => format!("+killed@{}", seconds(until)),
    }
}

const STATES: [ProcessState; 10] = [
    ProcessState::Stopped,
    ProcessState::Starting { up_since: None },
    ProcessState::Starting { up_since: Some(at(0)) },
    ProcessState::Running,
    ProcessState::Backoff { until: at(10) },
    ProcessState::Stopping { kill_at: Some(at(10)) },
    ProcessState::Stopping { kill_at: None },
    ProcessState::Exited { restart_at: None },
    ProcessState::Exited { restart_at: Some(at(10)) },
    ProcessState::Fatal,
];
const LEFTOVERS: [Leftovers; 4] = [
    Leftovers::None,
    Leftovers::Tolerated,
    Leftovers::Terminating { kill_at: at(10) },
    Leftovers::Killed { until: at(10) },
];
const EARLY: u64 = 5;
const LATE: u64 = 20;

fn exited(exit: ExitStatus, group_alive: bool) -> Event {
    Event::Exited { exit, group_alive }
}

/// Every event, at a time before and after the deadlines where that makes a difference.
fn events() -> Vec<(&'static str, Event, u64)> {
    vec![
        ("start", Event::Start, EARLY),
        ("spawned", Event::Spawned, EARLY),
        ("spawn failed", Event::SpawnFailed, EARLY),
        ("spawn cancelled", Event::SpawnCancelled, EARLY),
        ("exit 0", exited(EXIT_0, false), EARLY),
        ("exit 0, group alive", exited(EXIT_0, true), EARLY),
        ("exit 1", exited(EXIT_1, false), EARLY),
        ("exit 1, group alive", exited(EXIT_1, true), EARLY),
        ("exit 0 late", exited(EXIT_0, false), LATE),
        ("group empty", Event::GroupEmpty, EARLY),
        ("group empty late", Event::GroupEmpty, LATE),
        ("tick", Event::Tick, EARLY),
        ("tick late", Event::Tick, LATE),
        ("disable starts", Event::DisableStarts, EARLY),
        ("stop", Event::Stop, EARLY),
        ("kill", Event::Kill, EARLY),
    ]
}

/// A leader that lives is a member of its group, so there is no rest beside it.
fn starting_points() -> Vec<(ProcessState, Leftovers)> {
    let leaderless = |state: &ProcessState| !process(*state, Leftovers::None).has_leader();
    STATES
        .iter()
        .flat_map(|state| {
            LEFTOVERS.iter().take(if leaderless(state) { 4 } else { 1 }).map(|leftovers| (*state, *leftovers))
        })
        .collect()
}

#[test]
fn every_state_under_every_event() {
    let mut table = String::new();
    for (state, leftovers) in starting_points() {
        for (name, event, now) in events() {
            let before = format!("{}{}", state_word(state), leftovers_word(leftovers));
            let after = did(&mut process(state, leftovers), &spec(), event, at(now));
            // Rows in which nothing happens are left out: the table below is the whole law all the same.
            if before != after {
                table += &format!("{before} | {name} -> {after}\n");
            }
        }
    }
    assert_eq!(table, include_str!("table.txt"), "\n{table}");
}

/// Steps a fresh process through events at given seconds, and says what each did.
fn story(spec: &ProcessSpec, events: &[(u64, Event)]) -> Vec<String> {
    let mut process = Process::default();
    events.iter().map(|(second, event)| did(&mut process, spec, *event, at(*second))).collect()
}

#[test]
fn a_crash_loop_waits_one_second_more_each_time_and_gives_up() {
    let early = exited(EXIT_1, false);
    let events = [
        (0, Event::Start),
        (0, Event::Spawned),
        (0, early),
        (1, Event::Tick),
        (1, Event::Spawned),
        (1, early),
        (3, Event::Tick),
        (3, Event::SpawnFailed),
    ];
    assert_eq!(
        story(&ProcessSpec { startretries: 2, ..spec() }, &events),
        [
            "STARTING spawn",
            "STARTING@0 'spawned:'",
            "BACKOFF@1 'exited:'",
            "STARTING spawn",
            "STARTING@1 'spawned:'",
            "BACKOFF@3 'exited:'",
            "STARTING spawn",
            "FATAL 'spawnerr:' 'gave'",
        ]
    );
}

#[test]
fn startretries_below_one_is_one_try() {
    for startretries in [0, -1, i64::MIN] {
        let told =
            story(&ProcessSpec { startretries, ..spec() }, &[(0, Event::Start), (0, Event::SpawnFailed)]);
        assert_eq!(told, ["STARTING spawn", "FATAL 'spawnerr:' 'gave'"]);
    }
}

#[test]
fn success_forgets_failed_starts() {
    let spec = ProcessSpec { startretries: 1, startsecs: 1, ..spec() };
    let events = [
        (0, Event::Start),
        (0, Event::SpawnFailed),
        (1, Event::Tick),
        (1, Event::Spawned),
        (2, Event::Tick),
        (9, exited(KILLED, false)),
        (9, Event::SpawnFailed),
    ];
    let told = story(&spec, &events);
    assert_eq!(told.last().map(String::as_str), Some("BACKOFF@10 'spawnerr:'"), "{told:?}");
}

#[test]
fn without_startsecs_no_start_is_too_quick_but_none_follows_within_a_second() {
    for startsecs in [0, -3] {
        let spec = ProcessSpec { startsecs, ..spec() };
        let events = [
            (0, Event::Start),
            (0, Event::Spawned),
            (0, exited(EXIT_1, false)),
            (1, Event::Tick),
            (1, Event::Spawned),
            (7, exited(EXIT_1, false)),
        ];
        assert_eq!(
            story(&spec, &events),
            [
                "STARTING spawn",
                "RUNNING 'spawned:' 'success:'",
                "EXITED@1 'exited:'",
                "STARTING spawn",
                "RUNNING 'spawned:' 'success:'",
                "STARTING 'exited:' spawn",
            ]
        );
    }
}

#[test]
fn autorestart_and_exitcodes_decide_what_follows_an_exit() {
    use AutoRestart::{Always, Never, Unexpected};
    let rows = [
        (Never, EXIT_0, false),
        (Never, EXIT_1, false),
        (Never, KILLED, false),
        (Unexpected, EXIT_0, false),
        (Unexpected, EXIT_1, true),
        (Unexpected, KILLED, true),
        (Always, EXIT_0, true),
        (Always, EXIT_1, true),
        (Always, KILLED, true),
    ];
    for (autorestart, exit, again) in rows {
        let spec = ProcessSpec { autorestart, ..spec() };
        let told =
            did(&mut process(ProcessState::Running, Leftovers::None), &spec, exited(exit, false), at(LATE));
        assert_eq!(told.ends_with("spawn"), again, "{autorestart:?} {exit:?}: {told}");
    }
    // Death by a signal is never expected, whatever the list holds.
    assert!(!KILLED.is_expected(&[0, 9, 137, 255]));
    assert!(!EXIT_0.is_expected(&[]));
}

#[test]
fn nothing_starts_once_it_is_held() {
    let starting = ProcessState::Starting { up_since: Some(at(0)) };
    for (state, expected) in [(starting, "FATAL 'exited:'"), (ProcessState::Running, "EXITED 'exited:'")] {
        let mut process = process(state, Leftovers::None);
        did(&mut process, &spec(), Event::DisableStarts, at(EARLY));
        assert_eq!(did(&mut process, &spec(), exited(EXIT_1, false), at(EARLY)), expected);
    }
    let mut fresh = process(ProcessState::Stopped, Leftovers::None);
    did(&mut fresh, &spec(), Event::DisableStarts, at(EARLY));
    assert_eq!(did(&mut fresh, &spec(), Event::Start, at(EARLY)), "STOPPED");
    // What a held process leaves behind is cleared, for all is to stop.
    let mut running = process(ProcessState::Running, Leftovers::None);
    did(&mut running, &spec(), Event::DisableStarts, at(EARLY));
    let told = did(&mut running, &spec(), exited(EXIT_0, true), at(EARLY));
    assert_eq!(told, "EXITED+terminating@15 'exited:' SIGTERM* SIGCONT*");
}

#[test]
fn stopasgroup_sends_the_stopsignal_to_the_group() {
    let spec = ProcessSpec { stopasgroup: true, stopwaitsecs: -1, ..spec() };
    let mut process = process(ProcessState::Running, Leftovers::None);
    assert_eq!(did(&mut process, &spec, Event::Stop, at(EARLY)), "STOPPING@5 SIGQUIT* SIGCONT*");
    assert_eq!(did(&mut process, &spec, Event::Tick, at(EARLY)), "STOPPING! 'killing' SIGKILL SIGKILL*");
    assert_eq!(did(&mut process, &spec, Event::Tick, at(LATE)), "STOPPING!", "SIGKILL is sent once");
}

#[test]
fn a_deadline_is_met_by_the_tick_at_its_time() {
    for (state, leftovers) in starting_points() {
        let mut process = process(state, leftovers);
        let mut last = None;
        while let Some(deadline) = process.deadline(&spec()) {
            did(&mut process, &spec(), Event::Tick, deadline);
            let now = Some((process.state, process.leftovers));
            assert_ne!(now, last, "a tick that does nothing would spin");
            last = now;
        }
    }
}
