//! The whole law as a table: every state under every event, and what a reader of supervisord's manual expects.

use std::rc::Rc;

use super::*;
use crate::policy::ShutdownOn;

const fn at(seconds: u64) -> Time {
    Time::from_nanos(seconds * 1_000_000_000)
}

fn spec() -> Spec {
    Spec {
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

const EXIT_0: Exit = Exit::Code(0);
const EXIT_1: Exit = Exit::Code(1);
const KILLED: Exit = Exit::Signal { signal: Signal::KILL, core: false };

fn process(state: State, rest: Rest) -> Process {
    Process { state, rest, started: Some(at(0)), ..Process::default() }
}

/// What a step does, in a form that fits a table.
fn did(process: &mut Process, spec: &Spec, event: Event, now: Time) -> String {
    let mut words = Vec::new();
    process.step(spec, event, now, &mut |action| {
        words.push(match action {
            Action::Spawn => "spawn".to_owned(),
            Action::Send(signal, To::Leader) => format!("{signal}"),
            Action::Send(signal, To::Group) => format!("{signal}*"),
            Action::Forget => "forget".to_owned(),
            Action::Log(message) => {
                if matches!(message, Message::Sending { .. }) {
                    return;
                }
                format!(
                    "'{}'",
                    message.about("x", 7, "why").to_string().split_whitespace().next().unwrap_or("")
                )
            }
        });
    });
    format!("{}{} {}", state_word(process.state), rest_word(process.rest), words.join(" "))
        .trim_end()
        .to_owned()
}

fn seconds(time: Time) -> u64 {
    time.until(at(0)).as_secs()
}

fn state_word(state: State) -> String {
    match state {
        State::Stopped => "STOPPED".to_owned(),
        State::Starting { up_since: None } => "STARTING".to_owned(),
        State::Starting { up_since: Some(since) } => format!("STARTING@{}", seconds(since)),
        State::Running => "RUNNING".to_owned(),
        State::Backoff { until } => format!("BACKOFF@{}", seconds(until)),
        State::Stopping { kill_at: Some(at) } => format!("STOPPING@{}", seconds(at)),
        State::Stopping { kill_at: None } => "STOPPING!".to_owned(),
        State::Exited { restart_at: Some(at) } => format!("EXITED@{}", seconds(at)),
        State::Exited { restart_at: None } => "EXITED".to_owned(),
        State::Fatal => "FATAL".to_owned(),
    }
}

fn rest_word(rest: Rest) -> String {
    match rest {
        Rest::None => String::new(),
        Rest::Alone => "+rest".to_owned(),
        Rest::Clearing { kill_at } => format!("+clearing@{}", seconds(kill_at)),
        Rest::Killed { until } => format!("+killed@{}", seconds(until)),
    }
}

const STATES: [State; 10] = [
    State::Stopped,
    State::Starting { up_since: None },
    State::Starting { up_since: Some(at(0)) },
    State::Running,
    State::Backoff { until: at(10) },
    State::Stopping { kill_at: Some(at(10)) },
    State::Stopping { kill_at: None },
    State::Exited { restart_at: None },
    State::Exited { restart_at: Some(at(10)) },
    State::Fatal,
];
const RESTS: [Rest; 4] =
    [Rest::None, Rest::Alone, Rest::Clearing { kill_at: at(10) }, Rest::Killed { until: at(10) }];
const EARLY: u64 = 5;
const LATE: u64 = 20;

fn exited(exit: Exit, rest: bool) -> Event {
    Event::Exited { exit, rest }
}

/// Every event, at a time before and after the deadlines where that makes a difference.
fn events() -> Vec<(&'static str, Event, u64)> {
    vec![
        ("start", Event::Start, EARLY),
        ("spawned", Event::Spawned, EARLY),
        ("spawn failed", Event::SpawnFailed, EARLY),
        ("cancelled", Event::Cancelled, EARLY),
        ("exit 0", exited(EXIT_0, false), EARLY),
        ("exit 0, rest", exited(EXIT_0, true), EARLY),
        ("exit 1", exited(EXIT_1, false), EARLY),
        ("exit 1, rest", exited(EXIT_1, true), EARLY),
        ("exit 0 late", exited(EXIT_0, false), LATE),
        ("group gone", Event::GroupGone, EARLY),
        ("group gone late", Event::GroupGone, LATE),
        ("tick", Event::Tick, EARLY),
        ("tick late", Event::Tick, LATE),
        ("hold", Event::Hold, EARLY),
        ("stop", Event::Stop, EARLY),
        ("kill", Event::Kill, EARLY),
    ]
}

/// A leader that lives is a member of its group, so there is no rest beside it.
fn starting_points() -> Vec<(State, Rest)> {
    let leaderless = |state: &State| !process(*state, Rest::None).has_leader();
    STATES
        .iter()
        .flat_map(|state| {
            RESTS.iter().take(if leaderless(state) { 4 } else { 1 }).map(|rest| (*state, *rest))
        })
        .collect()
}

#[test]
fn every_state_under_every_event() {
    let mut table = String::new();
    for (state, rest) in starting_points() {
        for (name, event, now) in events() {
            let before = format!("{}{}", state_word(state), rest_word(rest));
            let after = did(&mut process(state, rest), &spec(), event, at(now));
            // Rows in which nothing happens are left out: the table below is the whole law all the same.
            if before != after {
                table += &format!("{before} | {name} -> {after}\n");
            }
        }
    }
    assert_eq!(table, include_str!("table.txt"), "\n{table}");
}

/// Steps a fresh process through events at given seconds, and says what each did.
fn story(spec: &Spec, events: &[(u64, Event)]) -> Vec<String> {
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
        story(&Spec { startretries: 2, ..spec() }, &events),
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
        let told = story(&Spec { startretries, ..spec() }, &[(0, Event::Start), (0, Event::SpawnFailed)]);
        assert_eq!(told, ["STARTING spawn", "FATAL 'spawnerr:' 'gave'"]);
    }
}

#[test]
fn success_forgets_failed_starts() {
    let spec = Spec { startretries: 1, startsecs: 1, ..spec() };
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
        let spec = Spec { startsecs, ..spec() };
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
        let spec = Spec { autorestart, ..spec() };
        let told = did(&mut process(State::Running, Rest::None), &spec, exited(exit, false), at(LATE));
        assert_eq!(told.ends_with("spawn"), again, "{autorestart:?} {exit:?}: {told}");
    }
    // Death by a signal is never expected, whatever the list holds.
    assert!(!KILLED.is_expected(&[0, 9, 137, 255]));
    assert!(!EXIT_0.is_expected(&[]));
}

#[test]
fn nothing_starts_once_it_is_held() {
    let starting = State::Starting { up_since: Some(at(0)) };
    for (state, expected) in [(starting, "FATAL 'exited:'"), (State::Running, "EXITED 'exited:'")] {
        let mut process = process(state, Rest::None);
        did(&mut process, &spec(), Event::Hold, at(EARLY));
        assert_eq!(did(&mut process, &spec(), exited(EXIT_1, false), at(EARLY)), expected);
    }
    let mut fresh = process(State::Stopped, Rest::None);
    did(&mut fresh, &spec(), Event::Hold, at(EARLY));
    assert_eq!(did(&mut fresh, &spec(), Event::Start, at(EARLY)), "STOPPED");
    // What a held process leaves behind is cleared, for all is to stop.
    let mut running = process(State::Running, Rest::None);
    did(&mut running, &spec(), Event::Hold, at(EARLY));
    let told = did(&mut running, &spec(), exited(EXIT_0, true), at(EARLY));
    assert_eq!(told, "EXITED+clearing@15 'exited:' SIGTERM* SIGCONT*");
}

#[test]
fn stopasgroup_sends_the_stopsignal_to_the_group() {
    let spec = Spec { stopasgroup: true, stopwaitsecs: -1, ..spec() };
    let mut process = process(State::Running, Rest::None);
    assert_eq!(did(&mut process, &spec, Event::Stop, at(EARLY)), "STOPPING@5 SIGQUIT* SIGCONT*");
    assert_eq!(did(&mut process, &spec, Event::Tick, at(EARLY)), "STOPPING! 'killing' SIGKILL SIGKILL*");
    assert_eq!(did(&mut process, &spec, Event::Tick, at(LATE)), "STOPPING!", "SIGKILL is sent once");
}

#[test]
fn a_deadline_is_met_by_the_tick_at_its_time() {
    for (state, rest) in starting_points() {
        let mut process = process(state, rest);
        let mut last = None;
        while let Some(deadline) = process.deadline(&spec()) {
            did(&mut process, &spec(), Event::Tick, deadline);
            let now = Some((process.state, process.rest));
            assert_ne!(now, last, "a tick that does nothing would spin");
            last = now;
        }
    }
}
