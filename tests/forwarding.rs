//! Which signals rsup forwards to the programs of a configuration file, and which it does not.

use crate::support::probe::{probe, static_programs};
use crate::support::{
    Rsup, SIGHUP, SIGTERM, SIGUSR1, Way, both_ways, eventually, needs, never, program, rsup, script,
};
use std::time::Duration;

fn events(rsup: &Rsup) -> Vec<String> {
    rsup.read("events").lines().map(str::to_owned).collect()
}

/// A program whose leader and whose second group member each write the signals that they receive into a file.
fn listener() -> String {
    program("web", &format!("{} listen events 15", probe()))
}

fn expect_both(rsup: &Rsup, what: &str) {
    for who in ["leader", "member"] {
        rsup.expect_in_file("events", &format!("{who} {what}\n"));
    }
}

/// Runs rsup in a session without a controlling terminal, because the test runner may have one.
fn start(conf: &str, way: Way) -> Rsup {
    rsup(conf).through(&["setsid"]).run_as(way).start()
}

#[test]
fn every_forwarded_signal_reaches_each_member_of_the_group_once() {
    needs!(static_programs());
    for way in both_ways() {
        let mut rsup = start(&listener(), way);
        expect_both(&rsup, "ready");
        // INT, QUIT and TERM begin the stop. KILL and STOP cannot be caught. CHLD is about rsup's own children. TSTP,
        // TTIN and TTOU suspend rsup.
        let forwarded: Vec<_> = (1..=64).filter(|n| ![2, 3, 9, 15, 17, 19, 20, 21, 22].contains(n)).collect();
        for signal in &forwarded {
            rsup.signal(*signal);
            expect_both(&rsup, &signal.to_string());
        }
        assert_eq!(events(&rsup).len(), 2 + 2 * forwarded.len(), "{way:?}: {:?}", events(&rsup));
        assert_eq!(rsup.stop(), 0, "{way:?}");
        assert_eq!(rsup.lines("spawned:").len(), 1);
    }
}

#[test]
fn pid_1_drops_the_signals_that_would_suspend_it() {
    needs!(static_programs(), crate::support::pid_namespace());
    let mut rsup = start(&listener(), Way::Pid1);
    expect_both(&rsup, "ready");
    for signal in [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU] {
        rsup.signal(signal);
    }
    rsup.signal(SIGUSR1);
    expect_both(&rsup, &SIGUSR1.to_string());
    assert_eq!(events(&rsup).len(), 4, "{:?}", events(&rsup));
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn no_signal_of_a_burst_is_lost() {
    needs!(static_programs());
    let mut rsup = start(&listener(), Way::Foreground);
    expect_both(&rsup, "ready");
    // The kernel queues real-time signals, so that neither rsup nor the program may miss one.
    const BURST: usize = 200;
    (0..BURST).for_each(|_| rsup.signal(50));
    let count = || events(&rsup).iter().filter(|line| *line == "leader 50").count();
    eventually("all arrive", || (count() == BURST).then_some(()));
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn a_sigpipe_that_rsup_caused_itself_is_not_forwarded() {
    needs!(static_programs());
    let crash = script("crash", "sleep 0.05; exit 1") + "startretries=2\n";
    for way in both_ways() {
        let conf = listener() + &crash + "stdout_logfile=NONE\n";
        let gone = "mkfifo pipe; exec 8<>pipe 2>pipe 8<&-";
        let mut rsup = rsup(&conf).args(&["-e", "debug"]).after(gone).run_as(way).start();
        expect_both(&rsup, "ready");
        // Each of these signals causes log lines that no process reads.
        for signal in 34..=64 {
            rsup.signal(signal);
            expect_both(&rsup, &signal.to_string());
        }
        let before = events(&rsup);
        assert!(!before.iter().any(|line| line.ends_with(" 13")), "{way:?} {before:?}");
        // A SIGPIPE from another process is forwarded.
        rsup.signal(libc::SIGPIPE);
        expect_both(&rsup, "13");
        assert_eq!(rsup.stop(), 0, "{way:?}");
    }
}

#[test]
fn no_program_is_killed_by_sigpipe_from_rsups_log() {
    for way in both_ways() {
        let conf = script("web", "echo start >> starts; exec sleep 1000");
        let gone = "mkfifo pipe; exec 8<>pipe 2>pipe 8<&-";
        let mut rsup = rsup(&conf).args(&["-e", "debug"]).after(gone).run_as(way).start();
        rsup.expect_in_file("starts", "start\n");
        for _ in 0..3 {
            rsup.signal(libc::SIGWINCH);
            rsup.signal(libc::SIGCONT);
        }
        never("the program was restarted", Duration::from_millis(1300), || rsup.read("starts") != "start\n");
        assert_eq!(rsup.tree().len(), 1);
        assert_eq!(rsup.stop(), 0, "{way:?}");
    }
}

#[test]
fn no_signal_is_sent_for_a_program_that_has_ended() {
    needs!(static_programs());
    // The PID of the ended program may belong to another process by now. The other program still gets the signals.
    let once = script("once", "exit 0") + "startsecs=0\nautorestart=false\n";
    for way in both_ways() {
        let mut rsup = start(&(once.clone() + &listener()), way);
        expect_both(&rsup, "ready");
        rsup.expect("exited: once");
        rsup.signal(SIGHUP);
        expect_both(&rsup, "1");
        assert_eq!(rsup.lines("CRIT"), []);
        assert_eq!(rsup.stop(), 0, "{way:?}");
    }
}

#[test]
fn sighup_that_was_ignored_at_start_is_dropped_unless_rsup_is_pid_1() {
    needs!(static_programs());
    let mut rsup = rsup(&listener()).after("trap '' HUP").start();
    expect_both(&rsup, "ready");
    rsup.signal(SIGHUP);
    rsup.signal(SIGUSR1);
    expect_both(&rsup, &SIGUSR1.to_string());
    rsup.signal(SIGTERM);
    assert_eq!(rsup.exit_code(), 0);
    assert!(!events(&rsup).contains(&"leader 1".to_owned()));
}

#[test]
fn one_info_line_says_which_signal_was_passed_on() {
    needs!(static_programs());
    // The STOPSIGNAL of httpd, of many Node.js images and of systemd's images.
    let signals = [(28, "SIGWINCH"), (10, "SIGUSR1"), (37, "signal 37")];
    for way in both_ways() {
        let mut rsup = start(&listener(), way);
        expect_both(&rsup, "ready");
        for round in 1..=3 {
            for (signal, _) in signals {
                rsup.signal(signal);
                let count =
                    || events(&rsup).iter().filter(|line| **line == format!("leader {signal}")).count();
                eventually("the signal arrives", || (count() == round).then_some(()));
            }
        }
        assert_eq!(rsup.stop(), 0, "{way:?}");
        let lines: Vec<_> = rsup.lines("passing ").iter().map(crate::support::Line::message).collect();
        let expected = signals.map(|(_, name)| format!("INFO passing {name} on to the programs"));
        assert_eq!(lines, expected, "{way:?}");
    }
}

#[test]
fn a_sigterm_that_rsup_sent_to_itself_before_its_exec_stops_rsup() {
    needs!(static_programs());
    // `kill -TERM $$; exec rsup` with SIGTERM blocked, so that SIGTERM is pending when rsup starts.
    let with_sigterm_blocked =
        [probe(), "with", "4000", "0", "/bin/sh", "-c", "kill -TERM $$; exec \"$@\"", "sh"];
    for way in both_ways() {
        let mut rsup = rsup(&listener()).through(&with_sigterm_blocked).run_as(way).start();
        rsup.expect("WARN received SIGTERM indicating exit request");
        rsup.expect("INFO rsup exits with status 0: received SIGTERM");
        assert_eq!(rsup.exit_code(), 0, "{way:?}");

        let words = [probe(), "listen", "events", "15"];
        let mut rsup = crate::support::command(&words).through(&with_sigterm_blocked).run_as(way).start();
        assert_eq!(rsup.exit_code(), 0, "{way:?}");
        assert!(events(&rsup).contains(&"leader 15".to_owned()), "{way:?}");
    }
}
