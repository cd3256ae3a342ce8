//! The order and the deadlines of the stop sequence, and the signals that rsup forwards.

use std::time::{Duration, Instant};

use crate::support::{
    Rsup, SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGSTOP, SIGTERM, SIGUSR1, Setup, Way, at_once,
    both_ways, eventually, forever, handler, installed, kill, needs, never, pid_namespace, proc, program,
    root, rsup, script,
};

/// The lines that the programs of a test have written into the file `events`.
fn events(rsup: &Rsup) -> Vec<String> {
    rsup.read("events").lines().map(str::to_owned).collect()
}

#[test]
fn sigterm_sigint_and_sigquit_stop_every_program_and_rsup() {
    let conf = program("b", "sleep 1000") + &program("a", "sleep 1000");
    for way in both_ways() {
        for (signal, name) in [(SIGTERM, "SIGTERM"), (SIGINT, "SIGINT"), (SIGQUIT, "SIGQUIT")] {
            let mut rsup = rsup(&conf).run_as(way).start();
            rsup.expect_all(&["spawned: 'a'", "spawned: 'b'"]);
            rsup.signal(signal);
            let received = rsup.expect("received ").message();
            assert_eq!(received, format!("WARN received {name} indicating exit request"));
            assert_eq!(rsup.expect("waiting for").message(), "INFO waiting for a, b to die");
            let mut stopped = rsup.expect_all(&["stopped: a", "stopped: b"]);
            assert_eq!(stopped.remove(0).message(), "WARN stopped: a (terminated by SIGTERM)");
            assert_eq!(rsup.exit_code(), 0, "{way:?} {name}");
        }
    }
}

#[test]
fn a_clean_exit_on_the_stop_signal_is_logged_as_information() {
    let mut rsup = rsup(&handler("a", "TERM", "exit 0")).start();
    rsup.expect_ready(&["a"]);
    assert_eq!(rsup.stop(), 0);
    assert_eq!(rsup.expect("stopped:").message(), "INFO stopped: a (exit status 0)");
}

#[test]
fn programs_stop_by_descending_priority_and_equal_priorities_stop_together() {
    let slow = |name: &str, priority: u32| {
        let on_term = format!("echo {name} asked >> events; sleep 0.4; echo {name} gone >> events; exit 0");
        handler(name, "TERM", &on_term) + &format!("priority={priority}\n")
    };
    let mut rsup =
        rsup(&(slow("low", 1) + &slow("mid", 20) + &slow("mid2", 20) + &slow("high", 300))).start();
    rsup.expect_ready(&["low", "mid", "mid2", "high"]);
    rsup.signal(SIGTERM);
    assert_eq!(rsup.expect("waiting for").message(), "INFO waiting for low, mid, mid2, high to die");
    assert_eq!(rsup.exit_code(), 0);

    let mut events = events(&rsup);
    events[2..4].sort();
    events[4..6].sort();
    let expected = [
        "high asked",
        "high gone",
        "mid asked",
        "mid2 asked",
        "mid gone",
        "mid2 gone",
        "low asked",
        "low gone",
    ];
    assert_eq!(events, expected);
}

#[test]
fn a_program_is_stopped_by_its_stopsignal() {
    let signals = ["TERM", "HUP", "INT", "QUIT", "KILL", "USR1", "USR2"];
    let section = |name: &&str| program(&name.to_lowercase(), "sleep 1000") + &format!("stopsignal={name}\n");
    let mut rsup = rsup(&signals.iter().map(section).collect::<String>()).start();
    rsup.expect_all(&signals.map(|name| format!("spawned: '{}'", name.to_lowercase())));
    assert_eq!(rsup.stop(), 0);
    for name in signals {
        let line = format!("stopped: {} (terminated by SIG{name}", name.to_lowercase());
        assert_eq!(rsup.lines(&line).len(), 1, "{line}");
    }
}

#[test]
fn a_program_that_ignores_the_stop_signal_is_killed_after_stopwaitsecs() {
    for way in both_ways() {
        let conf = handler("stubborn", "TERM", "") + "stopwaitsecs=1\n";
        let mut rsup = rsup(&conf).run_as(way).start();
        let pid = rsup.expect("spawned: 'stubborn'").number_after("with pid ");
        rsup.expect_ready(&["stubborn"]);
        let before = Instant::now();
        rsup.signal(SIGTERM);
        rsup.expect("waiting for stubborn to die");
        let killing = rsup.expect("killing ");
        assert!(before.elapsed() >= Duration::from_secs(1), "{killing:?} before stopwaitsecs");
        assert_eq!(killing.message(), format!("WARN killing 'stubborn' ({pid}) with SIGKILL"));
        assert_eq!(rsup.expect("stopped:").message(), "WARN stopped: stubborn (terminated by SIGKILL)");
        assert_eq!(rsup.exit_code(), 0, "{way:?}");
    }
}

#[test]
fn a_second_stop_request_kills_unless_it_comes_within_one_second() {
    let mut rsup = rsup(&(handler("stubborn", "TERM", "") + "stopwaitsecs=600\n")).start();
    rsup.expect_ready(&["stubborn"]);
    rsup.signal(SIGTERM);
    rsup.expect("received SIGTERM indicating exit request");
    rsup.signal(SIGTERM);
    rsup.expect("received SIGTERM indicating exit request");
    never("a stop request within one second killed the program", Duration::from_millis(1100), || {
        rsup.has_left()
    });
    rsup.signal(SIGINT);
    rsup.expect("received SIGINT indicating exit request");
    rsup.expect("stopped: stubborn (terminated by SIGKILL)");
    assert_eq!(rsup.exit_code(), 0);
}

#[test]
fn a_program_stopped_by_sigstop_is_continued_so_that_it_can_exit() {
    let mut rsup = rsup(&program("web", "sleep 1000")).start();
    rsup.expect("spawned: 'web'");
    rsup.kill("web", SIGSTOP);
    rsup.expect("stopped by SIGSTOP");
    assert_eq!(rsup.stop(), 0);
    rsup.expect("stopped: web (terminated by SIGTERM)");
    assert!(rsup.lines("killing").is_empty());
}

#[test]
fn stopasgroup_sends_the_stopsignal_to_the_whole_group() {
    let tell = |who: &str| format!("trap \"echo {who} >> events; exit\" USR1; ") + &forever(who);
    // The child ignores the SIGTERM that rsup sends to the remaining members once the leader has exited.
    let body = format!("(trap \"\" TERM; {}) & {}", tell("child"), tell("leader"));
    let mut rsup = rsup(&(script("web", &body) + "stopsignal=USR1\nstopasgroup=true\n")).start();
    rsup.expect_ready(&["child", "leader"]);
    assert_eq!(rsup.stop(), 0);
    let mut events = events(&rsup);
    events.sort();
    assert_eq!(events, ["child", "leader"]);
}

#[test]
fn remaining_members_of_a_stopped_program_get_sigterm_and_then_sigkill() {
    let polite = format!("(trap \"echo term >> events; exit\" TERM; {})", forever("polite"));
    let stubborn = format!("(trap \"\" TERM; {})", forever("stubborn"));
    for way in both_ways() {
        let conf = script("web", &format!("{polite} & {stubborn} & exec sleep 1000")) + "stopwaitsecs=1\n";
        let mut rsup = rsup(&conf).run_as(way).start();
        rsup.expect_ready(&["polite", "stubborn"]);
        assert_eq!(rsup.stop(), 0, "{way:?}");
        assert_eq!(events(&rsup), ["term"]);
    }
}

#[test]
fn the_final_sweep_terminates_daemons_that_left_their_process_group() {
    let daemon = format!("trap \"sleep 0.3; echo swept >> events; exit\" TERM; {}", forever("daemon"));
    for way in both_ways() {
        let launcher = script("launcher", "setsid sh ./daemon.sh & exec sleep 1000");
        let mut rsup = rsup(&launcher).file("daemon.sh", &daemon, 0o755).run_as(way).start();
        rsup.expect_ready(&["daemon"]);
        assert_eq!(rsup.stop(), 0, "{way:?}");
        assert_eq!(events(&rsup), ["swept"], "{way:?}");
    }
}

#[test]
fn no_program_starts_after_the_stop_has_begun() {
    let slow = handler("slow", "TERM", "sleep 0.5; exit 0") + "priority=900\n";
    let crash = script("crash", "while [ ! -e crash.now ]; do sleep 0.02; done; exit 1")
        + "priority=1\nautorestart=true\nstartsecs=0\n";
    let retry = script("retry", "exit 1") + "priority=1\nstartretries=1000\n";
    let floor = script("floor", "exit 1") + "priority=1\nautorestart=true\nstartsecs=0\n";
    for way in both_ways() {
        let mut rsup =
            rsup(&[slow.clone(), crash.clone(), retry.clone(), floor.clone()].concat()).run_as(way).start();
        rsup.expect_ready(&["slow"]);
        rsup.expect_all(&["exited: retry", "exited: floor"]);
        rsup.signal(SIGTERM);
        rsup.expect("received SIGTERM");
        rsup.touch("crash.now");
        rsup.expect("exited: crash (exit status 1; not expected)");
        assert_eq!(rsup.exit_code(), 0, "{way:?}");
        let log = rsup.log();
        let began = log.iter().position(|line| line.0.contains("received SIGTERM")).unwrap();
        let started =
            |line: &&crate::support::Line| line.0.contains("spawned:") || line.0.contains("gave up:");
        assert_eq!(log[began..].iter().find(started), None, "{way:?}");
    }
}

/// Starts a program whose leader and whose second group member each write these signals into a file when they receive
/// them.
fn listeners(signals: &[i32], way: Way) -> Rsup {
    let traps = |who: &str| {
        let trap = |signal: &i32| format!("trap \"echo {who} {signal} >> events\" {signal}; ");
        signals.iter().map(trap).collect::<String>() + &forever(who)
    };
    let conf = script("web", &format!("({}) & {}", traps("member"), traps("leader")));
    let rsup = rsup(&conf).run_as(way).start();
    rsup.expect_ready(&["member", "leader"]);
    rsup
}

#[test]
fn as_pid_1_rsup_forwards_every_other_signal_to_the_process_groups() {
    needs!(pid_namespace());
    // musl uses signal 34 for itself and leaves it out of a full signal set.
    let signals =
        [SIGHUP, SIGUSR1, libc::SIGUSR2, libc::SIGALRM, libc::SIGWINCH, libc::SIGPWR, 34, 34 + 3, 64];
    let mut rsup = listeners(&signals, Way::Pid1);
    for signal in signals {
        rsup.signal(signal);
        rsup.expect_in_file("events", &format!("leader {signal}\n"));
        rsup.expect_in_file("events", &format!("member {signal}\n"));
    }
    assert_eq!(events(&rsup).len(), 2 * signals.len(), "each arrives once");
    assert_eq!(rsup.lines("spawned:").len(), 1);
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn when_not_pid_1_rsup_forwards_other_signals_too() {
    let signals = [SIGUSR1, libc::SIGUSR2, libc::SIGALRM, libc::SIGPIPE, 34, 64];
    let mut rsup = listeners(&signals, Way::Foreground);
    for signal in signals {
        rsup.signal(signal);
        rsup.expect_in_file("events", &format!("leader {signal}\n"));
        rsup.expect_in_file("events", &format!("member {signal}\n"));
    }
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn killing_a_whole_process_group_does_not_harm_pid_1() {
    needs!(pid_namespace());
    let mut rsup = rsup(&script("web", "sleep 1000 & sleep 1000 & wait")).pid_1().start();
    rsup.expect("success: web");
    let group = rsup.pid_of("web");
    let members = eventually("the process group has three members", || {
        let members: Vec<_> = rsup.tree().into_iter().filter(|process| process.group == group).collect();
        (members.len() == 3).then_some(members)
    });
    members.iter().for_each(|member| kill(member.pid, SIGKILL));
    rsup.expect("exited: web");
    rsup.expect("success: web");
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn when_not_pid_1_the_sweep_reaches_orphans_that_rsup_adopts_during_the_sweep() {
    // Each process has a session of its own and is the child of the process before it. None ignores a signal.
    let conf = script("nest", "setsid sh ./outer.sh & exec sleep 1000") + "stopwaitsecs=5\n";
    let setup = rsup(&conf).file("outer.sh", "setsid sh ./inner.sh & sleep 1000", 0o755).file(
        "inner.sh",
        "setsid sleep 1000 & echo in > in; wait",
        0o755,
    );
    let mut rsup = setup.start();
    rsup.expect_in_file("in", "in\n");
    // `in` does not show that the other children exist, nor that the first shell has executed its `sleep`.
    let all = eventually("two shells and three sleeps run", || {
        let tree = rsup.tree();
        let count = |name: &str| tree.iter().filter(|process| process.name == name).count();
        (count("sh") == 2 && count("sleep") == 3).then_some(tree)
    });
    assert_eq!(rsup.stop(), 0);
    assert_eq!(rsup.lines("left behind").len(), 0);
    eventually("everything is gone", || all.iter().all(|one| proc::process(one.pid).is_none()).then_some(()));
}

#[test]
fn when_not_pid_1_the_sweep_reaches_an_orphan_that_rsup_adopts_through_a_full_batch_of_exits() {
    // rsup reaps 1024 children in one pass. After these exits no further child has exited, and rsup has adopted `last`.
    const DEAD: usize = 1024;
    let conf = script("web", "setsid sh ./mother.sh & exec sleep 1000") + "stopwaitsecs=1000\n";
    let orphans = format!("i=1; while [ $i -lt {DEAD} ]; do (sleep 1000 &); i=$((i+1)); done");
    let mother = format!(
        "setsid sh ./last.sh & (trap '' TERM; {orphans})
         trap 'echo swept > swept' TERM; echo ready > mother.ready; wait; wait"
    );
    let last = format!("trap 'echo asked > asked; exit' TERM; {}", forever("last"));
    let mut rsup = rsup(&conf).file("mother.sh", &mother, 0o755).file("last.sh", &last, 0o755).start();
    rsup.expect_ready(&["mother", "last"]);
    rsup.signal(SIGTERM);
    rsup.expect_in_file("swept", "swept");
    rsup.signal(SIGSTOP);
    let adopted = || proc::children(rsup.pid());
    assert_eq!(adopted().len(), DEAD);
    adopted().iter().for_each(|child| kill(child.pid, SIGKILL));
    eventually("all children but the last have exited", || {
        let living = adopted().iter().filter(|child| !child.is_zombie()).count();
        (adopted().len() == DEAD + 1 && living == 1).then_some(())
    });
    rsup.signal(SIGCONT);
    rsup.expect_in_file("asked", "asked");
    assert_eq!(rsup.exit_code(), 0);
}

#[test]
fn five_programs_of_one_priority_stop_at_the_same_time() {
    let names = ["a", "b", "c", "d", "e"];
    let slow = |name: &&str| handler(name, "TERM", "sleep 1; exit 0");
    for way in both_ways() {
        let mut rsup = rsup(&names.iter().map(slow).collect::<String>()).run_as(way).start();
        rsup.expect_ready(&names);
        let before = Instant::now();
        assert_eq!(rsup.stop(), 0);
        let took = before.elapsed();
        assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(2), "{way:?} {took:?}");
        assert_eq!(rsup.lines("stopped:").len(), 5);
    }
}

#[test]
fn a_program_that_ignores_sigterm_delays_no_other_program() {
    let conf = handler("stubborn", "TERM", "") + "stopwaitsecs=2\n" + &program("b", "sleep 1000");
    let conf = conf + &handler("c", "TERM", "exit 0") + &handler("d", "TERM", "sleep 0.2; exit 0");
    at_once(&both_ways(), |&way| {
        let mut rsup = rsup(&conf).run_as(way).start();
        rsup.expect_ready(&["stubborn", "c", "d"]);
        rsup.expect("success: b");
        let before = Instant::now();
        assert_eq!(rsup.stop(), 0);
        let took = before.elapsed();
        assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(4), "{way:?} {took:?}");
        let at = rsup.lines("received SIGTERM").remove(0);
        for name in ["b", "c", "d"] {
            let gone = rsup.lines(&format!("stopped: {name} ")).remove(0);
            assert!(gone.since(&at) < 1500, "{name}: {at:?} {gone:?}");
        }
        assert_eq!(rsup.lines("stopped: stubborn (terminated by SIGKILL)").len(), 1);
    });
}

#[test]
fn a_remaining_member_gets_sigterm_first_and_sigkill_at_stopwaitsecs() {
    let stubborn = format!("(trap \"echo asked >> events\" TERM; {})", forever("stubborn"));
    let leader = format!("trap \"exit 0\" TERM; {stubborn} & {}", forever("leader"));
    for way in both_ways() {
        let mut rsup = rsup(&(script("web", &leader) + "stopwaitsecs=1\n")).run_as(way).start();
        rsup.expect_ready(&["stubborn", "leader"]);
        let group: Vec<_> = rsup.tree().iter().map(|process| process.pid).collect();
        let before = Instant::now();
        // `stop` returns only when no process has rsup's stderr open any more.
        assert_eq!(rsup.stop(), 0, "{way:?}");
        let took = before.elapsed();
        assert!(took >= Duration::from_millis(980) && took < Duration::from_secs(4), "{way:?} {took:?}");
        assert_eq!(events(&rsup), ["asked"], "{way:?}");
        assert_eq!(rsup.lines("stopped: web (exit status 0)").len(), 1);
        let gone = || group.iter().all(|pid| proc::process(*pid).is_none());
        eventually("nothing is left", || gone().then_some(()));
    }
}

#[test]
fn strace_sees_one_sigterm_to_the_leader_and_later_sigkill_to_the_leader_and_sigterm_to_the_group() {
    needs!(installed("strace"));
    let conf = handler("stubborn", "TERM", "") + "stopwaitsecs=1\n";
    let trace = ["strace", "-o", "trace", "-e", "trace=kill", "-e", "signal=none"];
    let mut rsup = rsup(&conf).through(&trace).start();
    let pid = rsup.expect("spawned: 'stubborn'").number_after("with pid ");
    rsup.expect_ready(&["stubborn"]);
    let traced = eventually("rsup runs", || {
        proc::children(rsup.pid()).into_iter().find(|process| process.name == "rsup").map(|rsup| rsup.pid)
    });
    kill(traced, SIGTERM);
    assert_eq!(rsup.exit_code(), 0);
    let trace = rsup.read("trace");
    let calls: Vec<_> = trace.lines().filter_map(|line| line.split(" = ").next()).map(str::trim).collect();
    let at =
        |call: String| calls.iter().position(|made| *made == call).unwrap_or_else(|| panic!("{calls:?}"));
    let asked = at(format!("kill({pid}, SIGTERM)"));
    let killed = at(format!("kill({pid}, SIGKILL)"));
    let members_asked = at(format!("kill(-{pid}, SIGTERM)"));
    assert!(asked < killed && killed < members_asked, "{calls:?}");
    for (process, signal) in [(pid, "TERM"), (pid, "KILL"), (-pid, "TERM")] {
        let call = format!("kill({process}, SIG{signal})");
        assert_eq!(calls.iter().filter(|made| **made == call).count(), 1, "{call}: {calls:?}");
    }
    // rsup never signals every process, its own process group, or PID 1.
    for forbidden in ["kill(-1,", "kill(0,", "kill(1,"] {
        assert!(!calls.iter().any(|call| call.starts_with(forbidden)), "{calls:?}");
    }
}

/// A script that waits for a child in the foreground, as `bash -c 'trap "echo cleanup; exit" TERM; python3 …'` does.
/// The shell runs the trap only when the child has ended.
const WAITS_FOR_CHILD: &str = "trap \"echo cleanup >> events; exit 0\" TERM; sh ./child.sh; :";

/// A child that writes `told` when it receives SIGTERM, and ends.
fn child() -> String {
    format!("trap \"echo told >> events; exit\" TERM; {}", forever("child"))
}

#[test]
fn a_foreground_child_of_a_leader_that_is_killed_at_stopwaitsecs_is_asked_to_stop() {
    at_once(&both_ways(), |&way| {
        let conf = script("web", WAITS_FOR_CHILD) + "stopwaitsecs=2\n";
        let mut rsup = rsup(&conf).file("child.sh", &child(), 0o755).run_as(way).start();
        rsup.expect_ready(&["child"]);
        assert_eq!(rsup.stop(), 0, "{way:?}");
        assert_eq!(events(&rsup), ["told"], "{way:?}");
        assert_eq!(rsup.lines("stopped: web (terminated by SIGKILL)").len(), 1);
    });
}

#[test]
fn before_the_stop_deadline_the_child_of_a_leader_is_asked_and_then_the_leader_ends_by_itself() {
    at_once(&both_ways(), |&way| {
        let conf = script("web", WAITS_FOR_CHILD) + "stopwaitsecs=600\n";
        let setup = rsup(&conf).file("child.sh", &child(), 0o755).args(&["--stop-timeout", "3"]);
        let mut rsup = setup.run_as(way).start();
        rsup.expect_ready(&["child"]);
        let before = Instant::now();
        assert_eq!(rsup.stop(), 0, "{way:?}");
        let took = before.elapsed();
        assert!(took >= Duration::from_millis(1980) && took < Duration::from_secs(3), "{way:?} {took:?}");
        assert_eq!(events(&rsup), ["told", "cleanup"], "{way:?}");
        assert_eq!(rsup.lines("stopped: web (exit status 0)").len(), 1);
    });
}

#[test]
fn the_child_of_a_launcher_that_ignores_sigterm_gets_the_time_that_it_needs() {
    // The launcher is like mysqld_safe. The child needs 3 s after SIGTERM, and gets 3 s and a little more.
    let launcher = "trap : TERM; sh ./child.sh & while :; do wait; sleep 0.02; done";
    let child = format!(
        "trap \"echo told >> events; sleep 3; echo clean >> events; exit\" TERM; {}",
        forever("child")
    );
    at_once(&both_ways(), |&way| {
        let conf = script("db", launcher) + "stopwaitsecs=4\n" + &program("other", "sleep 1000");
        let mut rsup = rsup(&conf).file("child.sh", &child, 0o755).run_as(way).start();
        rsup.expect_ready(&["child"]);
        assert_eq!(rsup.stop(), 0, "{way:?}");
        assert_eq!(events(&rsup), ["told", "clean"], "{way:?}");
        let killed = rsup.lines("killing 'db' (").remove(0);
        let asked = rsup.lines("received SIGTERM").remove(0);
        assert!((3990..4900).contains(&killed.since(&asked)), "{killed:?}");
        assert_eq!(rsup.lines("killing").len(), 1, "the child is not killed: {:?}", rsup.log());
    });
}

#[test]
fn a_remaining_member_that_is_asked_late_gets_time_before_sigkill() {
    // The leader ends 1.5 s after its stop signal. Without further time, the child would have 0.5 s.
    let child = format!("trap \"sleep 1.2; echo clean >> events; exit\" TERM; {}", forever("child"));
    let leader = format!("sh ./child.sh & trap \"sleep 1.5; exit 0\" TERM; {}", forever("leader"));
    at_once(&both_ways(), |&way| {
        let conf = script("web", &leader) + "stopwaitsecs=2\n";
        let mut rsup = rsup(&conf).file("child.sh", &child, 0o755).run_as(way).start();
        rsup.expect_ready(&["child", "leader"]);
        assert_eq!(rsup.stop(), 0, "{way:?}");
        assert_eq!(events(&rsup), ["clean"], "{way:?}");
    });
}

#[test]
fn killasgroup_kills_the_process_group_at_stopwaitsecs_without_a_request() {
    for way in both_ways() {
        let conf = script("web", WAITS_FOR_CHILD) + "stopwaitsecs=1\nkillasgroup=true\n";
        let mut rsup = rsup(&conf).file("child.sh", &child(), 0o755).run_as(way).start();
        rsup.expect_ready(&["child"]);
        let before = Instant::now();
        assert_eq!(rsup.stop(), 0, "{way:?}");
        assert!(before.elapsed() < Duration::from_secs(2), "{way:?} {:?}", before.elapsed());
        assert_eq!(events(&rsup), [""; 0], "{way:?}");
    }
}

#[test]
fn before_the_stop_deadline_every_process_is_asked_once() {
    // `high` ignores its stop signal, so the turn of `low` never comes. Each process writes its name when it gets
    // SIGTERM.
    let asked = |name: &str| format!("trap \"echo {name} >> events\" TERM; {}", forever(name));
    let with_member = |name: &str, priority: u32| {
        let member = format!("{name}-member");
        let body = format!("({}) & {}", asked(&member), asked(name));
        script(name, &body) + &format!("priority={priority}\nstopwaitsecs=600\n")
    };
    let launcher = script("launcher", "setsid sh ./daemon.sh & exec sleep 1000") + "priority=1\n";
    let conf = with_member("high", 900) + &with_member("low", 1) + &launcher;
    at_once(&both_ways(), |&way| {
        let setup = rsup(&conf).file("daemon.sh", &asked("daemon"), 0o755).args(&["--stop-timeout", "3"]);
        let mut rsup = setup.run_as(way).start();
        let names = ["high", "high-member", "low", "low-member", "daemon"];
        rsup.expect_ready(&names);
        let before = Instant::now();
        rsup.signal(SIGTERM);
        rsup.expect_in_file("events", "high\n");
        never("another process was asked too early", Duration::from_millis(1500), || {
            events(&rsup) != ["high"]
        });
        assert_eq!(rsup.exit_code(), 0, "{way:?}");
        let took = before.elapsed();
        assert!(
            took >= Duration::from_millis(2980) && took < Duration::from_millis(3900),
            "{way:?} {took:?}"
        );
        let mut events = events(&rsup);
        events.sort();
        let mut expected = names.to_vec();
        // When rsup is not PID 1, the daemon is a child of the launcher, and rsup adopts the daemon when the launcher
        // has ended.
        expected.sort();
        assert_eq!(events, expected, "{way:?}: each once");
    });
}

#[test]
fn without_proc_every_process_is_asked_before_the_stop_deadline() {
    needs!(root(), installed("unshare"));
    let asked = |name: &str| format!("trap \"echo {name} >> events\" TERM; {}", forever(name));
    let body = format!("({}) & {}", asked("member"), asked("leader"));
    let conf = script("web", &body) + "stopwaitsecs=600\n";
    at_once(&both_ways(), |&way| {
        let setup = rsup(&conf).args(&["--stop-timeout", "2"]).through(&["unshare", "-m"]);
        let setup = setup.after("umount -l /proc; umount -l /proc; test ! -e /proc/1 || exit 99");
        let mut rsup = setup.run_as(way).start();
        rsup.expect_ready(&["member", "leader"]);
        rsup.signal(SIGTERM);
        rsup.expect_in_file("events", "member\n");
        rsup.expect("stopped: web (terminated by SIGKILL)");
    });
}

#[test]
fn the_members_that_a_crashed_program_leaves_get_sigterm_and_stopwaitsecs_before_sigkill() {
    let child = format!(
        "trap \"echo told >> events; sleep 1.5; echo clean >> events; exit\" TERM; {}",
        forever("child")
    );
    // The first leader crashes; the second one finds the file `events`.
    let body =
        "[ -e events ] && exec sleep 1000; sh ./child.sh & while [ ! -e crash ]; do sleep 0.02; done; exit 1";
    for way in both_ways() {
        let conf = script("web", body) + "stopwaitsecs=3\nstartsecs=0\n";
        let mut rsup = rsup(&conf).file("child.sh", &child, 0o755).run_as(way).start();
        rsup.expect_ready(&["child"]);
        rsup.touch("crash");
        rsup.expect("exited: web (exit status 1; not expected)");
        rsup.expect("spawned: 'web'");
        assert_eq!(events(&rsup), ["told", "clean"], "{way:?}");
        assert_eq!(rsup.stop(), 0);
        assert_eq!(rsup.lines("killing"), []);
    }
}

#[test]
fn when_not_pid_1_the_child_of_a_daemon_that_is_killed_is_asked_to_stop() {
    // The daemon is a launcher that ignores SIGTERM. rsup adopts the daemon's child when the daemon has been killed.
    let daemon = format!("trap : TERM; sh ./child.sh & {}", forever("daemon"));
    let child = format!(
        "trap \"echo told >> events; sleep 1.2; echo clean >> events; exit\" TERM; {}",
        forever("child")
    );
    at_once(&both_ways(), |&way| {
        let launcher = script("web", "setsid sh ./daemon.sh & exec sleep 1000") + "stopwaitsecs=2\n";
        let setup = rsup(&launcher).file("daemon.sh", &daemon, 0o755).file("child.sh", &child, 0o755);
        let mut rsup = setup.run_as(way).start();
        rsup.expect_ready(&["daemon", "child"]);
        assert_eq!(rsup.stop(), 0, "{way:?}");
        assert_eq!(events(&rsup), ["told", "clean"], "{way:?}");
    });
}

#[test]
fn stopped_members_of_a_process_group_are_continued_so_that_they_can_exit() {
    let conf = script("web", "sleep 1000 & echo ready > web.ready; wait") + "stopasgroup=true\n";
    for way in both_ways() {
        let mut rsup = rsup(&conf).run_as(way).start();
        rsup.expect_ready(&["web"]);
        eventually("the leader and its child run", || (rsup.tree().len() == 2).then_some(()));
        rsup.tree().iter().for_each(|process| kill(process.pid, SIGSTOP));
        rsup.expect("stopped by SIGSTOP");
        let before = Instant::now();
        assert_eq!(rsup.stop(), 0, "{way:?}");
        assert!(before.elapsed() < Duration::from_secs(5), "{way:?}");
        assert_eq!(rsup.lines("killing"), []);
    }
}

#[test]
fn sigterm_at_any_moment_of_the_start_stops_rsup() {
    let conf = program("web", "sleep 1000") + &script("crash", "exit 1") + &script("c", "sleep 1000 & wait");
    for way in both_ways() {
        for delay in (0..20_u64).chain([30, 50, 80]) {
            let mut rsup = rsup(&conf).run_as(way).start();
            let pid = rsup.pid();
            let asked = Instant::now();
            // The delays begin at rsup's first instruction. SIGTERM kills rsup, like any process, before rsup has
            // blocked the signals.
            while asked.elapsed() < Duration::from_millis(delay) {
                std::hint::spin_loop();
            }
            kill(pid, SIGTERM);
            let code = eventually("rsup ends", || {
                let ended = rsup.ended();
                // The kernel drops a signal to PID 1 that PID 1 neither blocks nor handles, so the test repeats the
                // signal.
                if ended.is_none() && way == Way::Pid1 && rsup.lines("received SIGTERM").is_empty() {
                    kill(pid, SIGTERM);
                }
                ended
            });
            assert!(
                code == Some(0) || rsup.log().is_empty(),
                "{way:?} {delay} ms: {code:?} {:?}",
                rsup.log()
            );
        }
    }
}

#[test]
fn sigterm_during_backoff_stops_at_once() {
    let conf = script("crash", "exit 1") + "startretries=1000\n";
    for way in both_ways() {
        let mut rsup = rsup(&conf).run_as(way).start();
        // After the second exit the program waits in BACKOFF for two seconds.
        rsup.expect("exited: crash");
        rsup.expect("exited: crash");
        let before = Instant::now();
        assert_eq!(rsup.stop(), 0, "{way:?}");
        assert!(before.elapsed() < Duration::from_millis(900), "{way:?} {:?}", before.elapsed());
        assert_eq!(rsup.lines("gave up"), []);
    }
}

#[test]
fn sigterm_while_two_hundred_programs_start_leaves_no_process() {
    const PROGRAMS: usize = 200;
    let conf =
        script("w", "sleep 1000 & wait") + &format!("process_name=w%(process_num)d\nnumprocs={PROGRAMS}\n");
    for way in both_ways() {
        for wait_for in ["spawned: 'w0'", "spawned: 'w100'", "spawned: 'w199'"] {
            let mut rsup = rsup(&conf).run_as(way).start();
            rsup.expect(wait_for);
            assert_eq!(rsup.stop(), 0, "{way:?}");
            let started = rsup.lines("spawned:").len();
            let stopped = rsup.lines("stopped:").len();
            assert!(stopped >= started, "{way:?}: {started} were started, {stopped} stopped");
        }
    }
}

#[test]
fn a_daemon_that_forked_twice_gets_sigterm_too() {
    let daemon = format!("trap \"echo asked >> events; exit\" TERM; {}", forever("daemon"));
    // The daemon's parent and grandparent have exited, and the daemon has a session of its own.
    let fork = "(setsid sh -c \"sh ./daemon.sh & exit 0\" &)";
    for way in both_ways() {
        let conf = script("web", &format!("{fork}; exec sleep 1000"));
        let mut rsup = rsup(&conf).file("daemon.sh", &daemon, 0o755).run_as(way).start();
        rsup.expect_ready(&["daemon"]);
        assert_eq!(rsup.stop(), 0, "{way:?}");
        assert_eq!(events(&rsup), ["asked"], "{way:?}");
    }
}

/// Stops rsup while the daemon of `daemon.sh` ignores SIGTERM. The stop must take one second, and the daemon must get
/// SIGTERM.
#[track_caller]
fn stops_in_a_second(setup: Setup, way: Way) {
    let daemon = format!("trap \"echo asked >> events\" TERM; {}", forever("daemon"));
    let mut rsup = setup.file("daemon.sh", &daemon, 0o755).run_as(way).start();
    rsup.expect_ready(&["daemon"]);
    let before = Instant::now();
    assert_eq!(rsup.stop(), 0, "{way:?}");
    let took = before.elapsed();
    assert!(took >= Duration::from_millis(980) && took < Duration::from_secs(4), "{way:?} {took:?}");
    assert_eq!(events(&rsup), ["asked"], "{way:?}");
}

#[test]
fn a_daemon_that_ignores_sigterm_is_killed_at_the_stop_deadline() {
    let launcher = script("web", "setsid sh ./daemon.sh & exec sleep 1000") + "stopwaitsecs=600\n";
    at_once(&both_ways(), |&way| {
        stops_in_a_second(rsup(&launcher).args(&["--stop-timeout", "1"]), way);
        stops_in_a_second(rsup(&format!("[supervisord]\nstop_timeout=1\n{launcher}")), way);
    });
}

#[test]
fn the_sweep_takes_at_most_the_longest_stopwaitsecs() {
    let launcher = script("web", "setsid sh ./daemon.sh & exec sleep 1000") + "stopwaitsecs=1\n";
    for way in both_ways() {
        stops_in_a_second(rsup(&launcher), way);
    }
}

#[test]
fn shutdown_on_of_the_program_overrides_the_option_and_the_option_overrides_the_file() {
    // The key in the program's section takes precedence over the option, and the option over [supervisord].
    let stays = program("stays", "sleep 1000") + "startsecs=0\n";
    let ends = script("x", "exit 6") + "startsecs=0\nautorestart=false\n";
    let fatal = script("x", "exit 7") + "startretries=0\n";
    let unstartable = program("x", "./none") + "startretries=0\n";
    let killed = script("x", "kill -KILL $$") + "startretries=0\n";
    let whole = |value: &str| format!("[supervisord]\nshutdown_on={value}\n");
    let key = |value: &str| format!("shutdown_on={value}\n");
    let cases = [
        (whole("exited") + &ends, None, 6),
        (whole("fatal") + &fatal, None, 7),
        (whole("exited") + &fatal, None, 7),
        (fatal.clone(), Some("fatal"), 7),
        (fatal.clone(), Some("exited"), 7),
        (ends.clone(), Some("exited"), 6),
        (whole("never") + &ends, Some("exited"), 6),
        (ends.clone() + &key("exited"), Some("never"), 6),
        (whole("never") + &fatal + &key("fatal"), None, 7),
        (unstartable.clone(), Some("fatal"), 1),
        (killed.clone(), Some("fatal"), 137),
        (killed + "startsecs=0\nautorestart=false\n", Some("exited"), 137),
    ];
    for (conf, option, code) in cases {
        let option: Vec<_> = option.into_iter().flat_map(|value| ["--shutdown-on", value]).collect();
        let (left_with, rsup) = rsup(&(conf.clone() + &stays)).args(&option).run();
        assert_eq!(left_with, code, "{conf}{option:?}: {:?}", rsup.log());
        assert_eq!(rsup.lines("stopped: stays (terminated by SIGTERM)").len(), 1, "{conf}");
    }
    // In these cases rsup keeps running.
    let cases = [
        (ends.clone(), None),
        (ends.clone(), Some("fatal")),
        (ends.clone() + &key("never"), Some("exited")),
        (ends + &key("fatal"), Some("exited")),
        (whole("exited") + &fatal + &key("never"), None),
    ];
    for (conf, option) in cases {
        let option: Vec<_> = option.into_iter().flat_map(|value| ["--shutdown-on", value]).collect();
        let mut rsup = rsup(&(conf.clone() + &stays)).args(&option).start();
        rsup.expect_all(&["exited: x", "success: stays"]);
        assert_eq!(rsup.stop(), 0, "{conf}{option:?}");
        assert_eq!(rsup.lines("received SIGTERM indicating").len(), 1);
    }
}

#[test]
fn a_signal_during_a_stop_by_shutdown_on_counts_as_the_first_request() {
    // The stop began without a signal, so this SIGTERM is the first stop request and must not kill.
    let slow = handler("slow", "TERM", "sleep 2; echo done >> events; exit 0");
    let conf = slow + &script("x", "while [ ! -e go ]; do sleep 0.02; done; exit 6");
    let conf = conf + "startsecs=0\nautorestart=false\nshutdown_on=exited\n";
    let mut rsup = rsup(&conf).start();
    rsup.expect_ready(&["slow"]);
    rsup.touch("go");
    rsup.expect("waiting for slow to die");
    never("it left", Duration::from_millis(1100), || rsup.has_left());
    assert_eq!(rsup.stop(), 6, "the first cause determines the exit code");
    assert_eq!(events(&rsup), ["done"]);
}

#[test]
fn before_the_stop_deadline_a_process_from_before_the_exec_of_rsup_is_asked() {
    let process = "sh -c 'trap \"echo asked to stop >&2; exit\" TERM; sleep 1000 & echo ready >&2; wait' &";
    let conf =
        script("stubborn", "trap \"\" TERM; echo ready >&2; while :; do sleep 1; done") + "stopwaitsecs=60\n";
    for way in both_ways() {
        // In a new PID namespace, rsup and this process are in a process group that is outside the namespace.
        let mut rsup = rsup(&conf).args(&["--stop-timeout", "3"]).after(process).run_as(way).start();
        eventually("both are ready", || (rsup.lines("ready").len() == 2).then_some(()));
        rsup.stop();
        assert_eq!(rsup.lines("asked to stop").len(), 1, "{way:?}");
    }
}
