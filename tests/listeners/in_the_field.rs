//! Listeners of the kinds that people run, which were not written for rsup, and listeners that misbehave.

use crate::output::relay;
use crate::support::{SIGKILL, Way, both_ways, each, eventually, kill, proc, program, rsup, script};

/// A listener that writes READY once, acts on each line that it reads, and never answers.
fn ready_once(action: &str, events: &str) -> String {
    let script = format!("printf 'READY\\n'; while read -r line; do {action}; done");
    format!("[eventlistener:l]\ncommand=sh -c \"{script}\"\nevents={events}\n")
}

const PID_FILE: &str = "[supervisord]\npidfile=%(here)s/rsup.pid\n";

#[test]
fn a_listener_ends_rsup_by_its_parent_or_by_the_pid_file() {
    for way in both_ways() {
        for action in ["kill -TERM $PPID", "kill -QUIT $(cat rsup.pid)", "/bin/kill -INT $PPID"] {
            let conf = PID_FILE.to_owned()
                + &ready_once(action, "PROCESS_STATE_FATAL,PROCESS_STATE_STOPPED")
                + &program("app", "sleep 1000")
                + &program("broken", "/nonexistent")
                + "startretries=0\n";
            let mut rsup = rsup(&conf).run_as(way).start();
            rsup.expect("success: l entered RUNNING state");
            rsup.expect("indicating exit request");
            rsup.expect("stopped: app (terminated by SIGTERM)");
            rsup.expect("rsup exits with status 0");
            assert!(!rsup.path("rsup.pid").exists(), "{action}: rsup removes its pid file");
        }
    }
}

#[test]
fn a_listener_ends_rsup_by_the_number_1() {
    let conf = ready_once("kill -TERM 1", "PROCESS_STATE_EXITED")
        + &program("app", "sleep 1000")
        + &script("job", "while ! [ -e go ]; do sleep 0.01; done")
        + "autorestart=false\nstartsecs=0\n";
    let mut rsup = rsup(&conf).run_as(Way::Pid1).start();
    rsup.expect("success: l entered RUNNING state");
    rsup.touch("go");
    rsup.expect("received SIGTERM indicating exit request");
    rsup.expect("rsup exits with status 0");
}

#[test]
fn the_signals_of_a_listener_during_the_stop_do_not_kill() {
    // The listener gets an event when `early` stops. That is later than the second in which a second request has no effect,
    // and before `late` has stopped.
    let traps = |name: &str, seconds: &str| {
        script(
            name,
            &format!("trap \"sleep {seconds}; echo >ended-{name}; exit\" TERM; while :; do sleep 0.1; done"),
        )
    };
    let conf = ready_once("kill -TERM $PPID", "PROCESS_STATE_STOPPED")
        + &traps("early", "1.5")
        + &traps("late", "3");
    let mut rsup = rsup(&conf).start();
    rsup.expect("success: l entered RUNNING state");
    rsup.signal(libc::SIGTERM);
    rsup.expect("received SIGTERM indicating exit request");
    rsup.expect("stopped: early (exit status 0)");
    rsup.expect("received SIGTERM indicating exit request");
    rsup.expect("stopped: late (exit status 0)");
    rsup.expect("rsup exits with status 0");
    assert!(rsup.path("ended-late").exists());
}

#[test]
fn listeners_that_misbehave_delay_nothing() {
    let never = "sleep 1000";
    let deaf = "sh -c \"exec 0<&-; printf 'READY\\n'; exec sleep 1000\"";
    let flood = "sh -c \"exec cat /dev/zero\"";
    let hang = "sh -c \"printf 'READY\\n'; read line; exec sleep 1000\"";
    each(&[never, deaf, flood, hang], |command| {
        let conf = format!("[eventlistener:bad]\ncommand={command}\nevents=EVENT,TICK_5\nbuffer_size=3\n")
            + &ready_once("echo $line >>events", "PROCESS_STATE_EXITED")
            + &script("job", "while ! [ -e go ]; do sleep 0.01; done; rm go")
            + "startsecs=0\nautorestart=true\n";
        let mut rsup = rsup(&conf).start();
        rsup.expect("success: l entered RUNNING state");
        for _ in 0..3 {
            rsup.touch("go");
            rsup.expect("exited: job (exit status 0; expected)");
        }
        eventually("the first event arrives", || rsup.path("events").exists().then_some(()));
        let memory = proc::status(relay(&rsup), "VmRSS").unwrap();
        let kilobytes: u64 = memory.trim_end_matches(" kB").trim().parse().unwrap();
        assert!(kilobytes < 4096, "{command}: the relay uses {memory}");
        let code = rsup.stop();
        (code == 0).then_some(()).ok_or_else(|| format!("{command}: {code}"))
    });
}

#[test]
fn listeners_are_started_again_when_the_relay_dies_and_no_program_notices() {
    let conf = ready_once("echo $line >>events", "PROCESS_STATE_EXITED")
        + &program("app", "sleep 1000")
        + &script("job", "while ! [ -e go ]; do sleep 0.01; done; rm go")
        + "startsecs=0\nautorestart=true\n";
    let mut rsup = rsup(&conf).start();
    rsup.expect("success: l entered RUNNING state");
    let app = rsup.pid_of("app");
    kill(relay(&rsup), SIGKILL);
    rsup.expect("WARN relay with pid");
    rsup.expect("spawned: 'l'");
    rsup.expect("success: l entered RUNNING state");
    rsup.touch("go");
    eventually("the new listener gets the event", || rsup.path("events").exists().then_some(()));
    assert_eq!(rsup.pid_of("app"), app);
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn supervisor_stdout_is_replaced_by_its_prefix() {
    let conf = "[eventlistener:stdout]\ncommand=supervisor_stdout\nevents=PROCESS_LOG\n\
        result_handler=supervisor_stdout:event_handler\n"
        .to_owned()
        + &script("w", "echo out; echo err >&2; exec sleep 1000")
        + "stdout_events_enabled=true\nstderr_events_enabled=true\nstdout_logfile=NONE\n"
        + &script("other", "echo plain; exec sleep 1000");
    let mut rsup = rsup(&conf).after("exec >&2").start();
    rsup.expect_all(&["w stdout | out", "w stderr | err", "plain"]);
    assert_eq!(rsup.stop(), 0);
}
