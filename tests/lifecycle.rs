//! Starts, crashes, retries and restarts of programs, and rsup's own exit code.

use std::time::{Duration, Instant};

use crate::support::{
    Line, Rsup, SIGCONT, SIGKILL, SIGSTOP, Way, both_ways, forever, kill, needs, never, pid_namespace,
    program, rsup, script,
};

/// The level and text of rsup's own lines, without the first line and without the line that says why rsup exits.
fn messages(rsup: &Rsup) -> Vec<String> {
    let about_a_program = ["spawned:", "success:", "exited:", "gave up:", "stopped:", "spawnerr:"];
    let lines = rsup.log().into_iter();
    lines
        .map(|line| line.message())
        .filter(|text| about_a_program.iter().any(|word| text.contains(word)))
        .collect()
}

#[track_caller]
fn a_killed_program_is_restarted(way: Way) {
    let conf = "[supervisord]\nnodaemon=true\n\n[program:web]\ncommand=sleep 1000\n";
    let mut rsup = rsup(conf).run_as(way).start();

    let first = rsup.expect("rsup started with pid ");
    let inner = if way == Way::Pid1 { 1 } else { rsup.pid() };
    assert_eq!(first.message(), format!("INFO rsup started with pid {inner}"));

    // The time in a `spawned` line is later than the start of the program, so the test measures from an earlier line.
    let up = |rsup: &mut Rsup, before: &Line| {
        let spawned = rsup.expect("spawned: ");
        let pid = spawned.number_after("with pid ");
        assert_eq!(spawned.message(), format!("INFO spawned: 'web' with pid {pid}"));
        let success = rsup.expect("success: ");
        let text =
            "success: web entered RUNNING state, process has stayed up for > than 1 seconds (startsecs)";
        assert_eq!(success.message(), format!("INFO {text}"));
        assert!(success.since(before) >= 1000, "RUNNING before startsecs: {before:?} {success:?}");
        pid
    };
    let old = up(&mut rsup, &first);
    rsup.kill("web", SIGKILL);
    let exited = rsup.expect("exited: ");
    assert_eq!(exited.message(), "WARN exited: web (terminated by SIGKILL; not expected)");
    let new = up(&mut rsup, &exited);
    assert_ne!(old, new);
    assert_eq!(rsup.tree().len(), 1, "one instance, no zombie");

    assert_eq!(rsup.stop(), 0);
    for line in rsup.log() {
        line.parts();
    }
}

#[test]
fn rsup_in_the_foreground_restarts_a_killed_program() {
    a_killed_program_is_restarted(Way::Foreground);
}

#[test]
fn rsup_as_pid_1_restarts_a_killed_program() {
    needs!(pid_namespace());
    a_killed_program_is_restarted(Way::Pid1);
}

#[test]
fn the_first_line_says_supervisord_when_started_under_that_name() {
    let conf = script("job", "exit 0") + "startsecs=0\nautorestart=false\n";
    let (code, rsup) = rsup(&conf).called("supervisord").run();
    assert_eq!(code, 0);
    assert!(rsup.log()[0].message().starts_with("INFO supervisord started with pid "), "{:?}", rsup.log());
}

#[test]
fn a_program_that_always_crashes_is_started_four_times_with_growing_delays() {
    let (code, rsup) = rsup(&script("crash", "echo start >> starts; date +%%s%%3N >> times; exit 3")).run();

    assert_eq!(rsup.read("starts"), "start\n".repeat(4), "startretries + 1 starts");
    let spawned = rsup.lines("spawned: 'crash'");
    let exited = rsup.lines("exited: crash (exit status 3; not expected)");
    assert_eq!((spawned.len(), exited.len()), (4, 4));
    for (wait, (exit, start)) in [1000, 2000, 3000].iter().zip(exited.iter().zip(&spawned[1..])) {
        let gap = start.since(exit);
        assert!(gap < wait + 900, "{gap} ms instead of {wait}");
    }
    // The program notes the times itself: each start follows the exit before it by one second more.
    let times: Vec<u64> = rsup.read("times").lines().map(|time| time.parse().unwrap()).collect();
    for (wait, pair) in [1000, 2000, 3000].iter().zip(times.windows(2)) {
        assert!(pair[1] - pair[0] >= *wait, "{pair:?}: sooner than after {wait} ms");
    }
    let last = messages(&rsup).pop();
    let gave_up = "INFO gave up: crash entered FATAL state, too many start retries too quickly";
    assert_eq!(last.as_deref(), Some(gave_up));
    assert!(rsup.lines("success:").is_empty());
    assert_eq!(code, 3, "with the code of the first that went FATAL");
}

#[test]
fn the_exit_code_is_that_of_the_first_program_that_became_fatal() {
    let cases = [
        (script("x", "exit 7"), 7),
        (script("x", "kill -9 $$"), 128 + 9),
        (script("x", "kill -40 $$"), 128 + 40),
        (script("x", "exit 0"), 1),
        (program("x", "/there/is/none"), 1),
    ];
    for (section, expected) in cases {
        let (code, rsup) = rsup(&(section.clone() + "startretries=0\n")).run();
        assert_eq!(code, expected, "{section}");
        assert_eq!(rsup.lines("gave up: x entered FATAL state").len(), 1, "{section}");
    }
}

#[test]
fn an_exit_within_startsecs_is_never_expected() {
    let (_, rsup) = rsup(&(script("job", "exit 0") + "startretries=0\n")).run();
    let texts = messages(&rsup);
    assert_eq!(texts[1], "WARN exited: job (exit status 0; not expected)", "{texts:?}");
}

#[test]
fn startsecs_0_counts_every_start_as_a_success() {
    let (code, rsup) = rsup(&(script("job", "exit 0") + "startsecs=0\nautorestart=false\n")).run();
    let texts = messages(&rsup);
    assert_eq!(
        texts[1..],
        [
            "INFO success: job entered RUNNING state, process has stayed up for > than 0 seconds (startsecs)",
            "INFO exited: job (exit status 0; expected)",
        ]
    );
    assert_eq!(code, 0);
}

#[test]
fn autorestart_decides_which_programs_stay_exited() {
    let cases = [
        ("exit 0", "autorestart=false", "INFO exited: x (exit status 0; expected)", 0),
        ("exit 1", "autorestart=false", "WARN exited: x (exit status 1; not expected)", 1),
        ("exit 0", "autorestart=unexpected", "INFO exited: x (exit status 0; expected)", 0),
        ("exit 5", "exitcodes=0,5", "INFO exited: x (exit status 5; expected)", 0),
        ("exit 5", "autorestart=false\nexitcodes=0,5", "INFO exited: x (exit status 5; expected)", 0),
        ("kill -15 $$", "autorestart=false", "WARN exited: x (terminated by SIGTERM; not expected)", 143),
    ];
    for (command, keys, exited, expected) in cases {
        let (code, rsup) = rsup(&format!("{}startsecs=0\n{keys}\n", script("x", command))).run();
        assert_eq!(messages(&rsup).last().map(String::as_str), Some(exited), "{keys}");
        assert_eq!(rsup.lines("spawned:").len(), 1, "{keys}");
        assert_eq!(code, expected, "{command} {keys}");
    }
}

#[test]
fn autorestart_restarts_a_program_at_most_once_per_second() {
    let cases = [
        ("exit 0", "autorestart=true"),
        ("exit 1", "autorestart=true"),
        ("exit 1", "autorestart=unexpected"),
        ("exit 1", "exitcodes="),
        ("kill -9 $$", "exitcodes=0"),
    ];
    let name = |index: usize| format!("x{index}");
    let section = |(index, (command, keys)): (usize, &(&str, &str))| {
        format!("{}startsecs=0\n{keys}\n", script(&name(index), command))
    };
    let conf: String = cases.iter().enumerate().map(section).collect();
    let mut rsup = rsup(&conf).start();
    let first = rsup.expect("rsup started");
    for _ in 0..3 {
        rsup.expect_all(
            &(0..cases.len()).map(|index| format!("spawned: '{}'", name(index))).collect::<Vec<_>>(),
        );
    }
    assert_eq!(rsup.stop(), 0);
    for (index, case) in cases.iter().enumerate() {
        let spawned = rsup.lines(&format!("spawned: '{}'", name(index)));
        // The time in a `spawned` line is later than the start of the program, so the test measures from rsup's first
        // line.
        let seconds = spawned.iter().zip(0..).all(|(start, second)| start.since(&first) >= second * 1000);
        assert!(seconds, "{case:?}: {first:?} {spawned:?}");
    }
    assert!(rsup.lines("gave up").is_empty());
}

#[test]
fn a_program_that_ran_for_longer_than_a_second_is_restarted_at_once() {
    let mut rsup = rsup(&program("web", "sleep 1000")).start();
    rsup.expect("success: web");
    rsup.kill("web", SIGKILL);
    let exited = rsup.expect("exited: web");
    let spawned = rsup.expect("spawned: 'web'");
    assert!(spawned.since(&exited) < 500, "supervisord needs a second: {exited:?} {spawned:?}");
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn numprocs_names_its_processes_and_priorities_order_the_start() {
    needs!(pid_namespace());
    let conf = format!(
        "{}numprocs=2\nprocess_name=%(program_name)s_%(process_num)02d\npriority=20\n{}priority=10\n{}priority=30\n",
        program("worker", "sleep 1000"),
        program("zuerst", "sleep 1000"),
        program("alast", "sleep 1000"),
    );
    let mut rsup = rsup(&conf).pid_1().start();
    let names = ["zuerst", "worker_00", "worker_01", "alast"];
    rsup.expect_all(&names.map(|name| format!("success: {name} ")));
    // The `spawned:` lines may come in any order. The PIDs of a new PID namespace show the order of the starts.
    let pid = |name: &&str| rsup.lines(&format!("spawned: '{name}'"))[0].number_after("with pid ");
    let pids = names.iter().map(pid).collect::<Vec<_>>();
    assert!(pids.is_sorted(), "{names:?} {pids:?}");
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn a_program_with_autostart_false_is_not_started() {
    let idle = script("idle", "echo ran > idle; exec sleep 1000") + "autostart=false\n";
    let job = script("job", "exit 0") + "startsecs=0\n";
    let (code, rsup) = rsup(&(idle + &job)).run();
    assert_eq!((code, rsup.lines("idle").len()), (0, 0));
    assert!(!rsup.path("idle").exists());
}

#[test]
fn nothing_to_start_is_an_error() {
    for conf in ["", "[supervisord]\n"] {
        let (code, rsup) = rsup(conf).run();
        assert_eq!(code, 2, "{conf}");
        assert!(
            rsup.log().iter().any(|line| line.message() == "ERRO no program to start"),
            "{:?}",
            rsup.log()
        );
    }
}

#[test]
fn the_exit_code_is_that_of_the_first_program_whose_last_exit_was_unexpected() {
    let once = "startsecs=0\nautorestart=false\n";
    let conf = [
        script("a", "exit 0") + once,
        script("b", "while [ ! -e c.done ]; do sleep 0.02; done; exit 4") + once,
        script("c", "touch c.done; exit 5") + once + "exitcodes=5\n",
    ];
    let (code, _) = rsup(&conf.concat()).run();
    assert_eq!(code, 4);
}

#[test]
fn shutdown_on_ends_everything_with_the_code_of_the_cause() {
    let bystander = program("bystander", "sleep 1000");
    let cases = [
        (script("x", "exit 9") + "startretries=0\nshutdown_on=fatal\n", 9),
        (script("x", "exit 0") + "startretries=0\nshutdown_on=fatal\n", 1),
        (script("x", "exit 6") + "startsecs=0\nautorestart=false\nshutdown_on=exited\n", 6),
        (script("x", "exit 0") + "startsecs=0\nshutdown_on=exited\n", 0),
        (script("x", "kill -9 $$") + "startsecs=0\nautorestart=false\nshutdown_on=exited\n", 137),
    ];
    for (section, expected) in cases {
        let (code, rsup) = rsup(&(bystander.clone() + &section)).run();
        assert_eq!(code, expected, "{section}");
        assert_eq!(rsup.lines("stopped: bystander (terminated by SIGTERM)").len(), 1, "{section}");
    }
}

#[test]
fn rsup_stays_while_a_launchers_daemon_lives() {
    for way in both_ways() {
        // The first daemon has a session of its own. The second daemon is still in the launcher's process group.
        for daemon in ["setsid sleep 1000", "sleep 1000"] {
            let launcher = script("launcher", &format!("{daemon} & echo $! > daemon.pid"));
            let mut rsup = rsup(&(launcher + "startsecs=0\nautorestart=false\n")).run_as(way).start();
            rsup.expect("exited: launcher (exit status 0; expected)");
            never("rsup left beside a living daemon", Duration::from_millis(300), || rsup.has_left());
            let daemon = rsup.host_pid(rsup.read("daemon.pid").trim().parse().unwrap());
            kill(daemon, SIGKILL);
            assert_eq!(rsup.exit_code(), 0, "{way:?}");
        }
    }
}

#[test]
fn remaining_members_of_a_crashed_program_exit_before_the_restart() {
    let member =
        "(trap \"sleep 0.3; echo term >> events; exit\" TERM; ".to_string() + &forever("member") + ") &";
    let conf = script("web", &format!("echo start >> events; {member} exec sleep 1000"));
    for way in both_ways() {
        let mut rsup = rsup(&conf).run_as(way).start();
        rsup.expect("success: web");
        rsup.expect_ready(&["member"]);
        rsup.kill("web", SIGKILL);
        rsup.expect("exited: web (terminated by SIGKILL; not expected)");
        rsup.expect("spawned: 'web'");
        rsup.expect_in_file("events", "start\nterm\nstart\n");
        assert_eq!(rsup.stop(), 0, "{way:?}");
    }
}

#[test]
fn remaining_members_that_ignore_sigterm_are_killed_after_stopwaitsecs() {
    let member = "(trap \"\" TERM; echo ready > member.ready; exec sleep 1000) &";
    let conf =
        script("web", &format!("{member} echo ready > web.ready; exec sleep 1000")) + "stopwaitsecs=1\n";
    let mut rsup = rsup(&conf).start();
    rsup.expect("success: web");
    rsup.expect_ready(&["web", "member"]);
    let old = rsup.pid_of("web");
    let before = Instant::now();
    kill(old, SIGKILL);
    rsup.expect("exited: web");
    rsup.expect("spawned: 'web'");
    assert!(before.elapsed() >= Duration::from_secs(1), "SIGKILL came before stopwaitsecs");
    assert!(rsup.tree().iter().all(|process| process.group != old), "the old group lives: {:?}", rsup.tree());
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn loglevel_filters_the_lines() {
    let conf = script("x", "exit 3") + "startsecs=0\nautorestart=false\n";
    let in_file = format!("[supervisord]\nloglevel=warn\n{conf}");
    let debug_in_file = format!("[supervisord]\nloglevel=debug\n{conf}");
    let exited = "exited: x (exit status 3; not expected)";
    for setup in [
        rsup(&conf).args(&["-e", "warn"]),
        rsup(&conf).args(&["--loglevel=warn"]),
        rsup(&in_file),
        rsup(&debug_in_file).args(&["-ewarn"]),
    ] {
        let (code, rsup) = setup.run();
        assert_eq!(code, 3);
        assert_eq!(rsup.lines(exited).len(), 1, "{:?}", rsup.log());
        assert!(rsup.log().iter().all(|line| line.parts().1 != "INFO"), "{:?}", rsup.log());
    }
    let (code, rsup) = rsup(&conf).args(&["-e", "error"]).run();
    assert_eq!((code, rsup.lines("exited:").len()), (3, 0));
}

#[test]
fn silent_writes_no_line() {
    let conf = script("x", "echo from the program >&2; exit 3") + "startsecs=0\nautorestart=false\n";
    for setup in [rsup(&conf).args(&["-s"]), rsup(&format!("[supervisord]\nsilent=true\n{conf}"))] {
        let (code, rsup) = setup.run();
        assert_eq!((code, rsup.log()), (3, vec![Line("from the program".into())]));
    }
}

#[test]
fn a_program_runs_even_if_its_log_file_cannot_be_opened() {
    let cases = [
        ("stdout", "/nowhere/web.log", "ENOENT"),
        ("stderr", "/nowhere/web.log", "ENOENT"),
        ("stdout", "/usr", "EISDIR"),
        ("stderr", "/dev/fd/7", "EBADF"),
    ];
    for (stream, path, errno) in cases {
        let conf = program("web", "sleep 1000") + &format!("{stream}_logfile={path}\n");
        let mut rsup = rsup(&conf).start();
        let line = format!(
            "WARN can't open {stream}_logfile of 'web': {errno}: {path}; it goes to rsup's own {stream}"
        );
        rsup.expect(&line);
        rsup.expect("spawned: 'web' with pid");
        rsup.expect("success: web entered RUNNING state");
        assert_eq!(rsup.stop(), 0);
    }
}

#[test]
fn a_program_that_has_exited_never_becomes_running() {
    // The test stops rsup until the program has exited and startsecs are over, so that rsup learns of both in one
    // iteration.
    let mut rsup = rsup(&(program("victim", "sleep 1000") + "startsecs=1\n")).start();
    rsup.expect("spawned: 'victim'");
    rsup.signal(SIGSTOP);
    rsup.kill("victim", SIGKILL);
    let lines = rsup.log().len();
    never("a held-up rsup writes nothing", Duration::from_millis(1500), || rsup.log().len() != lines);
    rsup.signal(SIGCONT);
    rsup.expect("exited: victim (terminated by SIGKILL; not expected)");
    assert_eq!(rsup.lines("success: victim").len(), 0);
    assert_eq!(rsup.stop(), 0);
}
