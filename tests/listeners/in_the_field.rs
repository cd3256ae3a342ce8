//! Listeners of the kinds that people run, which were not written for rsup, and listeners that misbehave.

use std::fs;

use super::kinds::{self, Kind, Server, ready_once};
use crate::output::relay;
use crate::support::{
    Rsup, SIGKILL, Way, at_once, both_ways, each, eventually, kill, proc, program, rsup, script, skip,
};

impl Server for Rsup {
    fn expect(&mut self, text: &str) {
        Rsup::expect(self, text);
    }

    fn text_of_log(&self) -> String {
        let lines: Vec<String> = self.log().into_iter().map(|line| line.0).collect();
        lines.join("\n")
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap_or_default()
    }

    fn exit_code(&mut self) -> i32 {
        Rsup::exit_code(self)
    }

    fn stop(&mut self) -> i32 {
        Rsup::stop(self)
    }
}

/// Listeners that were not written for rsup find it by its parent, its pid file, its number or its name, and with the
/// packages that people use.
#[test]
fn each_kind_of_listener_works_unchanged() {
    let packages = kinds::packages();
    if let Err(why) = &packages {
        skip(&format!("the listeners with packages: {why}"));
    }
    let is_possible = |kind: &Kind| packages.is_ok() || !kind.needs_packages();
    for way in both_ways() {
        let kinds: Vec<Kind> = kinds::all()
            .into_iter()
            .filter(|kind| is_possible(kind) && (way == Way::Pid1 || !kind.needs_pid_1()))
            .collect();
        at_once(&kinds, |kind| {
            let mut setup = rsup("").run_as(way).called("supervisord");
            if let Ok(packages) = &packages {
                setup = setup.env("PYTHONPATH", packages.to_str().unwrap());
            }
            kind.write(&setup.path(""));
            kind.check(&mut setup.start());
        });
    }
}

#[test]
fn rsup_removes_its_pid_file_when_a_listener_ends_it() {
    for action in ["kill -QUIT $(cat rsup.pid)", "/bin/kill -INT $PPID"] {
        let conf = "[supervisord]\npidfile=%(here)s/rsup.pid\n".to_owned()
            + &ready_once(action, "PROCESS_STATE_FATAL")
            + &program("app", "sleep 1000")
            + &program("broken", "/nonexistent")
            + "startretries=0\n";
        let mut rsup = rsup(&conf).start();
        rsup.expect("indicating exit request");
        rsup.expect("rsup exits with status 0");
        assert!(!rsup.path("rsup.pid").exists(), "{action}");
    }
}

#[test]
fn the_options_of_the_pid_file_and_of_the_servers_name_override_the_file() {
    let conf = "[supervisord]\npidfile=%(here)s/no.pid\nidentifier=no\n".to_owned()
        + &ready_once("echo $line $(cat yes.pid) >>events", "SUPERVISOR_STATE_CHANGE_RUNNING")
        + &program("app", "sleep 1000");
    let mut rsup = rsup(&conf).args(&["-j", "yes.pid", "--identifier", "yes"]).start();
    let wanted = (" server:yes ", format!(" {}\n", rsup.pid()));
    eventually("the event and the PID", || {
        let events = Server::read(&rsup, "events");
        (events.contains(wanted.0) && events.ends_with(&wanted.1)).then_some(())
    });
    assert_eq!(rsup.stop(), 0);
    assert!(!rsup.path("yes.pid").exists() && !rsup.path("no.pid").exists());
}

/// A program has ended, and rsup stops because of that, for one of three reasons: another listener ends rsup, `shutdown_on`
/// says so, or no program is left.
#[test]
fn a_listener_finishes_its_work_when_the_end_of_a_program_ends_rsup() {
    let slow = ready_once("sleep 0.4; echo $line >mail", "PROCESS_STATE_EXITED");
    let killer =
        ready_once("kill $PPID", "PROCESS_STATE_EXITED").replace("[eventlistener:l]", "[eventlistener:k]");
    let job =
        script("job", "while ! [ -e go ]; do sleep 0.01; done; exit 3") + "startsecs=0\nautorestart=false\n";
    let app = program("app", "sleep 1000");
    let reasons = [killer + &job + &app, job.clone() + "shutdown_on=exited\n" + &app, job];
    at_once(&reasons, |programs| {
        let mut rsup = rsup(&(slow.clone() + programs)).start();
        rsup.expect("success: l entered RUNNING state");
        rsup.touch("go");
        rsup.expect("exited: job (exit status 3; not expected)");
        rsup.exit_code();
        assert!(rsup.path("mail").exists(), "{programs}");
    });
}

#[test]
fn a_stop_without_a_failure_does_not_wait_for_listeners() {
    let conf = ready_once("sleep 1000", "PROCESS_STATE_STOPPED") + &program("app", "sleep 1000");
    let mut rsup = rsup(&conf).start();
    rsup.expect_all(&["success: l entered RUNNING state", "success: app entered RUNNING state"]);
    rsup.signal(libc::SIGTERM);
    let stopped = rsup.expect("stopped: app");
    let milliseconds = rsup.expect("stopped: l").since(&stopped);
    assert!(milliseconds < 500, "{milliseconds}");
    rsup.exit_code();
}

#[test]
fn a_listener_that_starts_slowly_gets_the_last_event() {
    let conf = ready_once("echo $line >events", "PROCESS_STATE_EXITED")
        + "startsecs=2\n"
        + &script("job", "exit 3")
        + "startsecs=0\nautorestart=false\n";
    let (code, rsup) = rsup(&conf).run();
    assert_eq!(code, 3);
    assert!(Server::read(&rsup, "events").contains("eventname:PROCESS_STATE_EXITED"));
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
        expect_small(&rsup, command);
        let code = rsup.stop();
        (code == 0).then_some(()).ok_or_else(|| format!("{command}: {code}"))
    });
}

/// The listener writes one gigabyte after it has violated the protocol, or as an answer.
#[test]
fn a_listener_that_writes_a_gigabyte_does_not_wake_pid_1_and_needs_no_memory() {
    let unknown = "printf 'x'";
    let answer = "printf 'READY\\n'; read -r line; printf 'RESULT 1073741824\\n'";
    each(&[unknown, answer], |begin| {
        let wait = "while ! [ -e go ]; do sleep 0.01; done";
        let flood = "head -c 1073741824 /dev/zero; : >flooded; exec sleep 1000";
        let conf = format!("[eventlistener:l]\ncommand=sh -c \"{begin}; {wait}; {flood}\"\nevents=EVENT\n")
            + &program("app", "sleep 1000");
        let mut rsup = rsup(&conf).start();
        rsup.expect_all(&["success: l entered RUNNING state", "success: app entered RUNNING state"]);
        let figures = || (proc::context_switches(rsup.pid()), kilobytes(rsup.pid()));
        let before = figures();
        rsup.touch("go");
        eventually("everything is written", || rsup.path("flooded").exists().then_some(()));
        let after = figures();
        // PID 1 may not have gone to sleep after its last log line when the first figures were taken.
        assert!(after.0 <= before.0 + 2 && after.1 <= before.1 + 64, "{begin}: {before:?}, then {after:?}");
        expect_small(&rsup, begin);
        assert_eq!(rsup.stop(), 0);
        Ok(())
    });
}

/// Checks that the relay needs little memory.
fn expect_small(rsup: &Rsup, listener: &str) {
    let memory = kilobytes(relay(rsup));
    assert!(memory < 4096, "{listener}: the relay uses {memory} kB");
}

/// The resident memory of a process in kB.
fn kilobytes(pid: i32) -> u64 {
    let memory = proc::status(pid, "VmRSS").unwrap();
    memory.trim_end_matches(" kB").trim().parse().unwrap()
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
fn after_the_relay_has_died_events_still_name_the_pid_of_a_program() {
    // The listener reads the header of the event, and then the first line of its text.
    let conf = ready_once("echo $line >>events", "PROCESS_LOG")
        + &script("app", "while ! [ -e go ]; do sleep 0.01; done; echo hello; exec sleep 1000")
        + "stdout_events_enabled=true\n";
    let mut rsup = rsup(&conf).start();
    rsup.expect("success: l entered RUNNING state");
    kill(relay(&rsup), SIGKILL);
    rsup.expect("WARN relay with pid");
    rsup.expect("success: l entered RUNNING state");
    rsup.touch("go");
    let text = format!("processname:app groupname:app pid:{} channel:stdout", rsup.pid_of("app"));
    eventually(&text, || Server::read(&rsup, "events").contains(&text).then_some(()));
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
