//! Reaping: no exit is lost, no zombie stays, and the log names every exit status and every signal.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::{
    Line, SIGKILL, SIGSTOP, both_ways, command, eventually, kill, needs, never, pid_namespace, proc, program,
    rsup, script,
};

#[test]
fn five_hundred_orphans_that_exit_at_once_are_reaped_within_100_ms() {
    needs!(pid_namespace());
    const ORPHANS: usize = 500;
    let mother = format!("i=0; while [ $i -lt {ORPHANS} ]; do (sleep 1000 &); i=$((i+1)); done; exec cat");
    let mut rsup = rsup(&script("mother", &mother)).pid_1().start();
    rsup.expect("spawned: 'mother'");
    let orphans = eventually("500 orphans", || {
        let orphans: Vec<_> = rsup.tree().into_iter().filter(|process| process.name == "sleep").collect();
        let adopted = orphans.iter().filter(|process| process.parent == rsup.pid()).count();
        (adopted == ORPHANS).then_some(orphans)
    });
    for orphan in &orphans {
        kill(orphan.pid, SIGKILL);
    }
    eventually("all orphans have exited", || {
        rsup.tree().iter().all(|process| process.name != "sleep" || process.is_zombie()).then_some(())
    });
    std::thread::sleep(Duration::from_millis(100)); // The promise: none is left after that.
    let zombies = rsup.tree().iter().filter(|process| process.is_zombie()).count();
    assert_eq!(zombies, 0);
    assert!(rsup.lines("reaped").is_empty(), "orphans are logged at debug level only");
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn a_program_that_a_real_time_signal_killed_is_restarted() {
    for way in both_ways() {
        let mut rsup = rsup(&program("web", "sleep 1000")).run_as(way).start();
        rsup.expect("success: web");
        rsup.kill("web", 40);
        let exited = rsup.expect("exited: web");
        assert_eq!(exited.message(), "WARN exited: web (terminated by signal 40; not expected)");
        rsup.expect("spawned: 'web'");
        assert_eq!(rsup.stop(), 0, "{way:?}");
    }
}

/// Signals that kill a process by default, and their names as supervisord logs them. Signals 32 to 64 kill too.
const DEADLY: [(i32, &str); 25] = [
    (1, "SIGHUP"),
    (2, "SIGINT"),
    (3, "SIGQUIT"),
    (4, "SIGILL"),
    (5, "SIGTRAP"),
    (6, "SIGABRT"),
    (7, "SIGBUS"),
    (8, "SIGFPE"),
    (9, "SIGKILL"),
    (10, "SIGUSR1"),
    (11, "SIGSEGV"),
    (12, "SIGUSR2"),
    (13, "SIGPIPE"),
    (14, "SIGALRM"),
    (15, "SIGTERM"),
    (16, "SIGSTKFLT"),
    (24, "SIGXCPU"),
    (25, "SIGXFSZ"),
    (26, "SIGVTALRM"),
    (27, "SIGPROF"),
    (29, "SIGPOLL"),
    (30, "SIGPWR"),
    (31, "SIGSYS"),
    (34, "SIGRTMIN"),
    (64, "SIGRTMAX"),
];

#[test]
fn the_log_names_every_signal_that_kills() {
    let nameless = (32..64).filter(|number| *number != 34).map(|number| (number, format!("signal {number}")));
    let named = DEADLY.map(|(number, name)| (number, name.to_owned()));
    let deadly: Vec<_> = named.into_iter().chain(nameless).collect();
    let once = "startsecs=0\nautorestart=false\n";
    let section =
        |(number, _): &(i32, String)| script(&format!("x{number}"), &format!("kill -{number} $$")) + once;
    let (_, rsup) = rsup(&deadly.iter().map(section).collect::<String>()).run();
    for (number, name) in deadly {
        let plain = format!("WARN exited: x{number} (terminated by {name}; not expected)");
        let dumped = format!("WARN exited: x{number} (terminated by {name} (core dumped); not expected)");
        let seen = rsup.log().iter().filter(|line| [&plain, &dumped].contains(&&line.message())).count();
        assert_eq!(seen, 1, "{plain}");
    }
}

#[test]
fn the_log_names_every_exit_code() {
    let conf = program("exit", "sh -c 'exit %(process_num)d'")
        + "process_name=x%(process_num)d\nnumprocs=256\nstartsecs=0\nautorestart=false\n";
    // The log level is warn, because a pipe cannot hold the lines of all levels, and rsup drops what does not fit.
    let (code, rsup) = rsup(&conf).args(&["-e", "warn"]).run();
    let seen: BTreeSet<_> = rsup.log().iter().map(Line::message).collect();
    let expected = (1..=255).map(|code| format!("WARN exited: x{code} (exit status {code}; not expected)"));
    assert_eq!(seen, expected.collect(), "of 256 only 0 is expected");
    assert!((1..=255).contains(&code), "the code of the first unexpected exit");
}

#[test]
fn fifty_programs_that_exit_at_once_are_each_restarted_once() {
    const PROGRAMS: usize = 50;
    let conf =
        program("web", "sleep 1000") + &format!("process_name=w%(process_num)d\nnumprocs={PROGRAMS}\n");
    for way in both_ways() {
        let mut rsup = rsup(&conf).run_as(way).start();
        let names: Vec<_> = (0..PROGRAMS).map(|number| format!("w{number}")).collect();
        let success: Vec<_> = names.iter().map(|name| format!("success: {name} ")).collect();
        rsup.expect_all(&success);
        let pids: Vec<_> = rsup.tree().iter().map(|process| process.pid).collect();
        assert_eq!(pids.len(), PROGRAMS);
        pids.iter().for_each(|pid| kill(*pid, SIGKILL));
        rsup.expect_all(&success);
        assert_eq!(rsup.lines("spawned:").len(), 2 * PROGRAMS);
        let tree = rsup.tree();
        assert_eq!(tree.len(), PROGRAMS, "{tree:?}");
        assert!(!tree.iter().any(|process| process.is_zombie() || pids.contains(&process.pid)), "{tree:?}");
        assert_eq!(rsup.stop(), 0, "{way:?}");
    }
}

#[test]
fn a_stopped_program_is_reported_and_not_restarted() {
    let mut rsup = rsup(&program("web", "sleep 1000")).start();
    let pid = rsup.expect("spawned: 'web'").number_after("with pid ");
    rsup.kill("web", SIGSTOP);
    assert_eq!(rsup.expect("stopped by").message(), format!("WARN web ({pid}) stopped by SIGSTOP"));
    never("a stopped program was restarted", Duration::from_millis(200), || rsup.lines("spawned:").len() > 1);
    rsup.kill("web", libc::SIGCONT);
    rsup.kill("web", SIGKILL);
    rsup.expect("exited: web (terminated by SIGKILL; not expected)");
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn a_child_from_before_the_exec_of_rsup_is_reaped() {
    let fork = "import os, sys\nos.fork() or os._exit(0)\nos.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)\n\
        os.execvp(sys.argv[1], sys.argv[1:])";
    let python = ["python3", "-IS", "-c", fork];
    for way in both_ways() {
        let conf = program("p", "sleep 1000") + "startsecs=0\n";
        for mut rsup in [
            rsup(&conf).through(&python).run_as(way).start(),
            command(&["sh", "-c", "echo spawned >&2; exec sleep 1000"]).through(&python).run_as(way).start(),
        ] {
            rsup.expect("spawned");
            eventually("no zombie is left", || {
                proc::children(rsup.pid()).iter().all(|child| !child.is_zombie()).then_some(())
            });
            rsup.stop();
        }
    }
}
