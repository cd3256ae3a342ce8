//! What supervisord's own end-to-end tests of event listeners check, with the numbers of its issues. Each check runs
//! under supervisord too if it is installed, so that the check itself is known to be right.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use super::Side;
use crate::support::{
    Rsup, SIGCONT, SIGKILL, SIGSTOP, SIGTERM, Setup, Way, binary, both_ways, eventually, proc,
    python as packages, rsup, skip,
};

const LISTENER: &str = include_str!("listener.py");

/// The command of a listener that answers each event.
const ANSWERS: &str = "python3 -IS %(here)s/listener.py auto";

/// Runs a check under supervisord and under rsup.
fn under_both(check: impl Fn(Side)) {
    match packages::supervisor() {
        Ok(python) => check(Side::Supervisord(&python)),
        Err(why) => skip(&format!("the part with supervisord: {why}")),
    }
    check(Side::Rsup);
}

/// A set-up with a configuration file, and with listener.py.
fn setup(level: &str, sections: &str) -> Setup {
    let server = "nodaemon=true\nlogfile=%(here)s/main.log\npidfile=%(here)s/supervisord.pid\n";
    rsup(&format!("[supervisord]\nloglevel={level}\n{server}{sections}")).file("listener.py", LISTENER, 0o644)
}

/// Issue 663: a Python listener takes part in the protocol. It answers one event after the other.
#[test]
fn a_listener_answers_two_ticks() {
    let sections = format!(
        "[eventlistener:listener]\ncommand={ANSWERS}\nevents=TICK_5\nstartretries=0\nautorestart=false\n"
    );
    under_both(|side| {
        let mut server = side.start(setup("debug", &sections));
        for _ in 0..2 {
            server.expect("OKREADY");
            server.expect("BUSY -> ACKNOWLEDGED");
        }
        assert_eq!(server.stop(), 0);
    });
}

/// Issue 733: a listener of one line ends its supervisor when a program is FATAL.
#[test]
fn a_listener_of_one_line_ends_the_server_when_a_program_is_fatal() {
    let sections = "[program:nonexistent]\ncommand=%(here)s/nonexistent\nstartsecs=0\nstartretries=0\n\
        autorestart=false\n\
        [eventlistener:fatalexit]\nevents=PROCESS_STATE_FATAL\nstartsecs=0\nstartretries=0\n\
        command=sh -c 'while true; do printf \"READY\\n\"; read line; kill -15 $PPID; printf \"RESULT 2\\n\"; \
        printf \"OK\"; done'\n";
    let check = |side: Side, way: Way| {
        let mut server = side.start(setup("debug", sections).run_as(way));
        server.expect("gave up: nonexistent entered FATAL state");
        server.expect("received SIGTERM indicating exit request");
        // rsup's exit code says that a program is FATAL.
        let code = server.exit_code();
        assert!(side.is_rsup() || code == 0, "{code}");
    };
    under_both(|side| match side {
        Side::Supervisord(_) => check(side, Way::Foreground),
        Side::Rsup => both_ways().into_iter().for_each(|way| check(side, way)),
    });
}

/// Issue 1170: `environment=` of a listener's section overrides that of `[supervisord]`, also in `%(ENV_x)s`.
#[test]
fn a_listeners_own_variable_overrides_that_of_the_server() {
    let sections = "environment=FOO=\"set from [supervisord] section\"\n\
        [eventlistener:echo]\ncommand=bash -c \"echo '%(ENV_FOO)s' >&2\"\n\
        environment=FOO=\"set from [eventlistener] section\"\nevents=PROCESS_STATE_FATAL\nstartsecs=0\n\
        startretries=0\nautorestart=false\n";
    under_both(|side| {
        let mut server = side.start(setup("debug", sections));
        server.expect("set from [eventlistener] section");
        assert_eq!(server.stop(), 0);
    });
}

/// The command of supervisorctl that follows the log file of `hello`.
fn tail(side: Side, server: &Rsup) -> Command {
    let mut command = match side {
        Side::Supervisord(python) => {
            let mut command = Command::new(python);
            command.args(["-m", "supervisor.supervisorctl"]);
            command
        }
        Side::Rsup => {
            let mut command = Command::new(binary());
            command.arg("--ctl").env("RSUP_PID", server.pid().to_string());
            command
        }
    };
    command
        .args(["-c", "supervisord.conf", "tail", "-f", "hello"])
        .current_dir(server.path(""))
        .stdin(Stdio::null());
    command
}

/// Issue 565: output that is not ASCII reaches a listener and `supervisorctl tail -f`. supervisord makes a log file of its
/// own choice for a program; rsup follows only files that the configuration names.
#[test]
fn output_that_is_not_ascii_reaches_a_listener_and_tail() {
    let line = |number: usize| format!("The Øresund bridge ends in Malmö - {number}");
    let sections = format!(
        "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n\
         [unix_http_server]\nfile=%(here)s/s.sock\n[supervisorctl]\nserverurl=unix://%(here)s/s.sock\n\
         [program:hello]\ncommand=sh %(here)s/hello.sh\nstdout_events_enabled=true\nstartretries=0\n\
         autorestart=false\nstdout_logfile=%(here)s/hello.log\n\
         [eventlistener:listener]\ncommand={ANSWERS}\nevents=PROCESS_LOG\nstartretries=0\nautorestart=false\n"
    );
    let script =
        "n=1; while :; do echo \"The Øresund bridge ends in Malmö - $n\"; n=$((n + 1)); sleep 0.2; done\n";
    under_both(|side| {
        let mut server = side.start(setup("info", &sections).file("hello.sh", script, 0o644));
        server.expect("success: hello entered RUNNING state");
        let printed = server.path("printed");
        let mut client = tail(side, &server).stdout(File::create(&printed).unwrap()).spawn().unwrap();
        let has = |path: &Path, number| fs::read_to_string(path).unwrap_or_default().contains(&line(number));
        for number in 1..4 {
            eventually(&format!("the client prints line {number}"), || has(&printed, number).then_some(()));
            let record = server.path("listener.1.got");
            eventually(&format!("the listener receives line {number}"), || {
                has(&record, number).then_some(())
            });
        }
        client.kill().unwrap();
        client.wait().unwrap();
        assert!(proc::children(server.pid()).len() >= 2, "the program and the listener run");
        assert_eq!(server.stop(), 0);
    });
}

/// supervisord has no such state: it forks in the same call that makes a process STARTING.
#[test]
fn a_start_that_the_stop_cancels_has_no_pid() {
    let sections = format!(
        "[program:p]\ncommand=sh -c 'sleep 1.2; echo an immediate restart is possible >&2; exec sleep 1000'\nstartsecs=0\n\
         [eventlistener:listener]\ncommand={ANSWERS}\nevents=PROCESS_STATE\nstartsecs=0\n"
    );
    let mut server = Side::Rsup.start(setup("info", &sections));
    server.expect("an immediate restart is possible");
    server.signal(SIGSTOP);
    eventually("rsup is stopped", || {
        (proc::process(server.pid()).is_some_and(|rsup| rsup.state == 'T')).then_some(())
    });
    server.kill("p", SIGKILL);
    let is_dead = || proc::children(server.pid()).iter().any(proc::Process::is_zombie);
    eventually("the program is dead", || is_dead().then_some(()));
    server.signal(SIGTERM);
    server.signal(SIGCONT);
    assert_eq!(server.exit_code(), 0);
    let events = fs::read_to_string(server.path("listener.1.got")).unwrap();
    let stopped = events
        .lines()
        .rfind(|line| line.contains("from_state:STARTING pid:") && line.contains("processname:p "));
    assert!(stopped.is_some_and(|line| line.contains("pid:0")), "{events}");
}
