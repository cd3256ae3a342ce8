//! Every event in every state against `table.txt`, and the behaviour that supervisord's documentation describes.

use super::*;

const fn at(seconds: u64) -> Time {
    Time::from_nanos(seconds * 1_000_000_000)
}

fn spec() -> ProcessSpec {
    ProcessSpec { startsecs: 10, stopsignal: Signal::QUIT, ..ProcessSpec::example() }
}

const EXIT_0: ExitStatus = ExitStatus::Code(0);
const EXIT_1: ExitStatus = ExitStatus::Code(1);
const KILLED: ExitStatus = ExitStatus::Signal { signal: Signal::KILL, core: false };

fn process(state: ProcessState, leftovers: Leftovers) -> Process {
    Process { state, leftovers, started_at: Some(at(0)), ..Process::default() }
}

/// Passes `event` to `process`. Returns one line: the new state, the state of the remaining members after a `+`, what a
/// client requests after a `>`, and the actions. A signal to the process group is marked with `*`. A log message is
/// shortened to its first word, and a `ProcessMessage::Sending` is left out.
fn outcome(process: &mut Process, spec: &ProcessSpec, event: Event, now: Time) -> String {
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
                    message.display("x", 7, "why").to_string().split_whitespace().next().unwrap_or("")
                )
            }
        });
    });
    format!("{} {}", process_word(process), words.join(" ")).trim_end().to_owned()
}

fn process_word(process: &Process) -> String {
    let Process { state, leftovers, request_in_effect, .. } = process;
    format!("{}{}{}", state_word(*state), leftovers_word(*leftovers), request_word(*request_in_effect))
}

fn seconds(time: Time) -> u64 {
    time.duration_since(at(0)).as_secs()
}

/// The name of the state. A number after `@` is a time that the state contains, in seconds. `STOPPING!` means that the
/// leader was sent SIGKILL. The part from `/` on is about the other members of the process group. `/@` means that they
/// were asked to stop, and is followed by the time when SIGKILL is due for them. `/!` means that they were sent
/// SIGKILL.
fn state_word(state: ProcessState) -> String {
    match state {
        ProcessState::Stopped => "STOPPED".to_owned(),
        ProcessState::Starting { exec_succeeded_at: None } => "STARTING".to_owned(),
        ProcessState::Starting { exec_succeeded_at: Some(since) } => format!("STARTING@{}", seconds(since)),
        ProcessState::Running => "RUNNING".to_owned(),
        ProcessState::Backoff { until } => format!("BACKOFF@{}", seconds(until)),
        ProcessState::Stopping(StopStep::LeaderAsked { kill_at }) => format!("STOPPING@{}", seconds(kill_at)),
        ProcessState::Stopping(StopStep::GroupAsked { kill_at, kill_members_at }) => {
            format!("STOPPING@{}/@{}", seconds(kill_at), seconds(kill_members_at))
        }
        ProcessState::Stopping(StopStep::LeaderKilled { kill_members_at }) => {
            format!("STOPPING!/@{}", seconds(kill_members_at))
        }
        ProcessState::Stopping(StopStep::GroupKilled) => "STOPPING!/!".to_owned(),
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

fn request_word(request: RequestInEffect) -> String {
    match request {
        RequestInEffect::None => String::new(),
        RequestInEffect::Start { at } => format!(">start@{}", seconds(at)),
        RequestInEffect::Stop => ">stop".to_owned(),
    }
}

const STATES: [ProcessState; 12] = [
    ProcessState::Stopped,
    ProcessState::Starting { exec_succeeded_at: None },
    ProcessState::Starting { exec_succeeded_at: Some(at(0)) },
    ProcessState::Running,
    ProcessState::Backoff { until: at(10) },
    ProcessState::Stopping(StopStep::LeaderAsked { kill_at: at(10) }),
    ProcessState::Stopping(StopStep::GroupAsked { kill_at: at(10), kill_members_at: at(25) }),
    ProcessState::Stopping(StopStep::LeaderKilled { kill_members_at: at(15) }),
    ProcessState::Stopping(StopStep::GroupKilled),
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
        ("exec succeeded", Event::ExecSucceeded, EARLY),
        ("spawn failed", Event::SpawnFailed, EARLY),
        ("fifo unopened by rsup", Event::FifoUnopenedByRsup, EARLY),
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
        ("start requested", Event::StartRequested, EARLY),
        ("start requested soon", Event::StartRequested, 0),
        ("stop requested", Event::StopRequested, EARLY),
        ("ask members", Event::MembersAsked, EARLY),
        ("ask members late", Event::MembersAsked, LATE),
        ("kill", Event::KillNow, EARLY),
        ("group signal not permitted", Event::GroupSignalNotPermitted, EARLY),
        ("group signal not permitted late", Event::GroupSignalNotPermitted, LATE),
    ]
}

/// The requests that can be in effect for a process in this state.
fn requests_in(state: ProcessState) -> &'static [RequestInEffect] {
    const START: RequestInEffect = RequestInEffect::Start { at: at(10) };
    match state {
        ProcessState::Stopped | ProcessState::Stopping(_) => {
            &[RequestInEffect::None, START, RequestInEffect::Stop]
        }
        ProcessState::Exited { restart_at: None } | ProcessState::Fatal => &[RequestInEffect::None, START],
        ProcessState::Exited { restart_at: Some(_) } => &[RequestInEffect::None],
        ProcessState::Starting { .. } | ProcessState::Running | ProcessState::Backoff { .. } => {
            &[RequestInEffect::None]
        }
    }
}

/// Every state, combined with every state of the remaining members and with every request that can be in effect in
/// this state (`requests_in`). A process that has a leader has no remaining members.
fn starting_points() -> Vec<Process> {
    let mut points = vec![];
    for state in STATES {
        let count = if process(state, Leftovers::None).has_leader() { 1 } else { LEFTOVERS.len() };
        for leftovers in &LEFTOVERS[..count] {
            points.extend(
                requests_in(state)
                    .iter()
                    .map(|request| Process { request_in_effect: *request, ..process(state, *leftovers) }),
            );
        }
    }
    points
}

/// The test also covers the pairs that `can_receive` excludes: `handle` must not panic there.
#[test]
fn every_event_in_every_state_has_the_outcome_in_the_table() {
    let mut table = String::new();
    for point in starting_points() {
        for (name, event, now) in events() {
            let before = process_word(&point);
            let after = outcome(&mut point.clone(), &spec(), event, at(now));
            // table.txt omits the rows in which nothing changes.
            if before != after {
                table += &format!("{before} | {name} -> {after}\n");
            }
        }
    }
    assert_eq!(table, include_str!("table.txt"), "\n{table}");
}

#[test]
fn an_event_that_needs_a_leader_or_a_pending_exec_can_happen_in_these_states_only() {
    let possible = |event: Event| {
        let states = STATES.iter().filter(|state| process(**state, Leftovers::None).can_receive(event));
        states.map(|state| state_word(*state)).collect::<Vec<_>>().join(" ")
    };
    let every_state = STATES.map(state_word).join(" ");
    for (name, event, _) in events() {
        let expected = match event {
            Event::ExecSucceeded | Event::SpawnFailed | Event::FifoUnopenedByRsup | Event::SpawnCancelled => {
                "STARTING STOPPING@10 STOPPING@10/@25 STOPPING!/@15 STOPPING!/!"
            }
            Event::Exited { .. } => {
                "STARTING STARTING@0 RUNNING STOPPING@10 STOPPING@10/@25 STOPPING!/@15 STOPPING!/!"
            }
            Event::Start
            | Event::GroupEmpty
            | Event::Tick
            | Event::DisableStarts
            | Event::Stop
            | Event::StartRequested
            | Event::StopRequested
            | Event::MembersAsked
            | Event::KillNow
            | Event::GroupSignalNotPermitted => &every_state,
        };
        assert_eq!(possible(event), expected, "{name}");
    }
}

/// Passes events to a new process at the given seconds. Returns the outcome of each event.
fn outcomes(spec: &ProcessSpec, events: &[(u64, Event)]) -> Vec<String> {
    let mut process = Process::default();
    let pass = |(second, event): &(u64, Event)| {
        assert!(process.can_receive(*event), "{event:?} cannot happen in {:?}", process.state);
        outcome(&mut process, spec, *event, at(*second))
    };
    events.iter().map(pass).collect()
}

#[test]
fn a_crash_loop_waits_one_second_more_each_time_and_gives_up() {
    let early = exited(EXIT_1, false);
    let events = [
        (0, Event::Start),
        (0, Event::ExecSucceeded),
        (0, early),
        (1, Event::Tick),
        (1, Event::ExecSucceeded),
        (1, early),
        (3, Event::Tick),
        (3, Event::SpawnFailed),
    ];
    assert_eq!(
        outcomes(&ProcessSpec { startretries: 2, ..spec() }, &events),
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
fn startretries_below_one_allows_one_start() {
    for startretries in [0, -1, i64::MIN] {
        let lines =
            outcomes(&ProcessSpec { startretries, ..spec() }, &[(0, Event::Start), (0, Event::SpawnFailed)]);
        assert_eq!(lines, ["STARTING spawn", "FATAL 'spawnerr:' 'gave'"]);
    }
}

#[test]
fn entering_running_resets_the_count_of_failed_starts() {
    let spec = ProcessSpec { startretries: 1, startsecs: 1, ..spec() };
    let events = [
        (0, Event::Start),
        (0, Event::SpawnFailed),
        (1, Event::Tick),
        (1, Event::ExecSucceeded),
        (2, Event::Tick),
        (9, exited(KILLED, false)),
        (9, Event::SpawnFailed),
    ];
    let lines = outcomes(&spec, &events);
    assert_eq!(lines.last().map(String::as_str), Some("BACKOFF@10 'spawnerr:'"), "{lines:?}");
}

#[test]
fn with_startsecs_0_no_exit_comes_too_early_but_starts_are_a_second_apart() {
    for startsecs in [0, -3] {
        let spec = ProcessSpec { startsecs, ..spec() };
        let events = [
            (0, Event::Start),
            (0, Event::ExecSucceeded),
            (0, exited(EXIT_1, false)),
            (1, Event::Tick),
            (1, Event::ExecSucceeded),
            (7, exited(EXIT_1, false)),
        ];
        assert_eq!(
            outcomes(&spec, &events),
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
fn autorestart_and_exitcodes_decide_whether_an_exit_leads_to_a_restart() {
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
        let line = outcome(
            &mut process(ProcessState::Running, Leftovers::None),
            &spec,
            exited(exit, false),
            at(LATE),
        );
        assert_eq!(line.ends_with("spawn"), again, "{autorestart:?} {exit:?}: {line}");
    }
    // Termination by a signal is never expected, because `exitcodes` cannot list a signal.
    assert!(!KILLED.is_expected(&[0, 9, 137, 255]));
    assert!(!EXIT_0.is_expected(&[]));
}

#[test]
fn no_process_is_started_once_starts_are_disabled() {
    let starting = ProcessState::Starting { exec_succeeded_at: Some(at(0)) };
    for (state, expected) in [(starting, "FATAL 'exited:'"), (ProcessState::Running, "EXITED 'exited:'")] {
        let mut process = process(state, Leftovers::None);
        outcome(&mut process, &spec(), Event::DisableStarts, at(EARLY));
        assert_eq!(outcome(&mut process, &spec(), exited(EXIT_1, false), at(EARLY)), expected);
    }
    let mut stopped = process(ProcessState::Stopped, Leftovers::None);
    outcome(&mut stopped, &spec(), Event::DisableStarts, at(EARLY));
    assert_eq!(outcome(&mut stopped, &spec(), Event::Start, at(EARLY)), "STOPPED");
    let mut deferred = process(ProcessState::Starting { exec_succeeded_at: None }, Leftovers::None);
    outcome(&mut deferred, &spec(), Event::DisableStarts, at(EARLY));
    assert_eq!(outcome(&mut deferred, &spec(), Event::FifoUnopenedByRsup, at(EARLY)), "STOPPED 'stopped:'");
    // The remaining members are terminated, because rsup is stopping every process.
    let mut running = process(ProcessState::Running, Leftovers::None);
    outcome(&mut running, &spec(), Event::DisableStarts, at(EARLY));
    let line = outcome(&mut running, &spec(), exited(EXIT_0, true), at(EARLY));
    assert_eq!(line, "EXITED+terminating@15 'exited:' SIGTERM* SIGCONT*");
}

#[test]
fn stopasgroup_sends_the_stopsignal_to_the_process_group() {
    let spec = ProcessSpec { stopasgroup: true, stopwaitsecs: -1, ..spec() };
    let mut process = process(ProcessState::Running, Leftovers::None);
    assert_eq!(outcome(&mut process, &spec, Event::Stop, at(EARLY)), "STOPPING@5/@5 SIGQUIT* SIGCONT*");
    assert_eq!(
        outcome(&mut process, &spec, Event::Tick, at(EARLY)),
        "STOPPING!/! 'killing' SIGKILL SIGKILL*"
    );
    assert_eq!(outcome(&mut process, &spec, Event::Tick, at(LATE)), "STOPPING!/!", "SIGKILL is sent once");
}

#[test]
fn members_that_were_not_asked_get_sigterm_when_the_leader_gets_sigkill_and_five_seconds_at_most() {
    for (stopwaitsecs, seconds) in [(100, 5), (2, 2), (0, 0), (-1, 0)] {
        let spec = ProcessSpec { stopwaitsecs, ..spec() };
        let mut process = process(ProcessState::Running, Leftovers::None);
        let mut tick = |event, second| outcome(&mut process, &spec, event, at(second));
        let killed = u64::try_from(stopwaitsecs).unwrap_or(0);
        assert_eq!(tick(Event::Stop, 0), format!("STOPPING@{killed} SIGQUIT SIGCONT*"));
        assert_eq!(
            tick(Event::Tick, killed),
            format!("STOPPING!/@{} 'killing' SIGKILL SIGTERM* SIGCONT*", killed + seconds)
        );
        assert_eq!(tick(Event::Tick, killed + seconds), "STOPPING!/! SIGKILL*");
    }
}

#[test]
fn remaining_members_of_a_leader_that_ends_late_get_five_seconds_at_most() {
    for (stopwaitsecs, second, kill_at) in [(100, 99, 104), (100, 50, 100), (3, 2, 5), (3, 0, 3), (0, 0, 0)] {
        let spec = ProcessSpec { stopwaitsecs, ..spec() };
        let mut process = process(ProcessState::Running, Leftovers::None);
        outcome(&mut process, &spec, Event::Stop, at(0));
        let line = outcome(&mut process, &spec, exited(EXIT_0, true), at(second));
        assert_eq!(line, format!("STOPPED+terminating@{kill_at} 'stopped:' SIGTERM* SIGCONT*"));
    }
}

#[test]
fn killasgroup_sends_sigkill_to_the_process_group_at_stopwaitsecs() {
    let spec = ProcessSpec { killasgroup: true, ..spec() };
    let mut process = process(ProcessState::Running, Leftovers::None);
    assert_eq!(outcome(&mut process, &spec, Event::Stop, at(EARLY)), "STOPPING@15 SIGQUIT SIGCONT*");
    assert_eq!(outcome(&mut process, &spec, Event::MembersAsked, at(12)), "STOPPING@15/@17");
    assert_eq!(outcome(&mut process, &spec, Event::Tick, at(15)), "STOPPING!/! 'killing' SIGKILL SIGKILL*");
}

#[test]
fn a_tick_at_the_deadline_changes_the_state() {
    for mut process in starting_points() {
        let mut before = None;
        while let Some(deadline) = process.deadline(&spec()) {
            outcome(&mut process, &spec(), Event::Tick, deadline);
            let after = Some((process.state, process.leftovers));
            assert_ne!(after, before, "a tick that changes nothing would make the main loop spin");
            before = after;
        }
    }
}

#[test]
fn a_requested_stop_lasts_until_a_requested_start() {
    let spec = ProcessSpec { startsecs: 1, autorestart: AutoRestart::Always, ..spec() };
    let events = [
        (0, Event::Start),
        (0, Event::ExecSucceeded),
        (1, Event::Tick),
        (5, Event::StopRequested),
        (6, exited(EXIT_1, false)),
        (100, Event::Tick),
        (100, Event::StopRequested),
        (101, Event::StartRequested),
        (101, Event::ExecSucceeded),
        (102, Event::StartRequested),
    ];
    assert_eq!(
        outcomes(&spec, &events),
        [
            "STARTING spawn",
            "STARTING@0 'spawned:'",
            "RUNNING 'success:'",
            "STOPPING@15>stop 'waiting' SIGQUIT SIGCONT*",
            "STOPPED>stop 'stopped:'",
            "STOPPED>stop",
            "STOPPED>stop",
            "STARTING spawn",
            "STARTING@101 'spawned:'",
            "STARTING@101",
        ]
    );
}

#[test]
fn a_start_that_is_requested_while_the_process_stops_follows_its_end() {
    let spec = ProcessSpec { startsecs: 1, ..spec() };
    let stopping =
        [(0, Event::Start), (0, Event::ExecSucceeded), (1, Event::Tick), (5, Event::StopRequested)];
    let next = |more: &[(u64, Event)]| {
        let events: Vec<_> = stopping.iter().chain(more).copied().collect();
        outcomes(&spec, &events).split_off(stopping.len())
    };
    let start = (6, Event::StartRequested);
    assert_eq!(
        next(&[start, (7, exited(EXIT_0, false))]),
        ["STOPPING@15>start@6", "STARTING 'stopped:' spawn"]
    );
    assert_eq!(
        next(&[start, (7, exited(EXIT_0, true)), (8, Event::GroupEmpty)]),
        [
            "STOPPING@15>start@6",
            "STOPPED+terminating@15>start@6 'stopped:' SIGTERM* SIGCONT*",
            "STARTING spawn"
        ]
    );
    assert_eq!(
        next(&[start, (6, Event::StopRequested), (7, exited(EXIT_0, false))]),
        ["STOPPING@15>start@6", "STOPPING@15>stop", "STOPPED>stop 'stopped:'"]
    );
}

#[test]
fn a_requested_start_counts_failed_starts_from_zero() {
    let spec = ProcessSpec { startretries: 1, ..spec() };
    let events = [
        (0, Event::Start),
        (0, Event::SpawnFailed),
        (1, Event::Tick),
        (1, Event::SpawnFailed),
        (9, Event::StartRequested),
        (9, Event::SpawnFailed),
        (10, Event::StopRequested),
        (20, Event::StartRequested),
        (20, Event::SpawnFailed),
    ];
    assert_eq!(
        outcomes(&spec, &events).split_off(3),
        [
            "FATAL 'spawnerr:' 'gave'",
            "STARTING spawn",
            "BACKOFF@10 'spawnerr:'",
            "STOPPED>stop",
            "STARTING spawn",
            "BACKOFF@21 'spawnerr:'",
        ]
    );
}

#[test]
fn a_requested_start_terminates_what_an_earlier_leader_has_left_running() {
    let mut process = process(ProcessState::Exited { restart_at: None }, Leftovers::Tolerated);
    assert_eq!(
        outcome(&mut process, &spec(), Event::StartRequested, at(EARLY)),
        "EXITED+terminating@15>start@5 SIGTERM* SIGCONT*"
    );
    assert_eq!(outcome(&mut process, &spec(), Event::GroupEmpty, at(EARLY)), "STARTING spawn");
}

#[test]
fn a_process_that_exits_after_startsecs_has_passed_running() {
    for (second, successes) in [(9, 0), (10, 1)] {
        let mut process = process(ProcessState::Starting { exec_succeeded_at: Some(at(0)) }, Leftovers::None);
        outcome(&mut process, &spec(), exited(EXIT_0, false), at(second));
        assert_eq!(process.successful_and_failed_starts().0, successes, "{second}");
    }
}
