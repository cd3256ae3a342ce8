//! rsup under another init that is PID 1, as with `docker run --init`: the signals that the init forwards, and a
//! terminal whose keys no shell answers. A shell that is PID 1 is not an init.

use crate::support::probe::{probe, static_programs};
use crate::support::pty::Terminal;
use crate::support::{
    CONF, SIGCONT, SIGHUP, SIGSTOP, SIGTERM, command, eventually, installed, kill, needs, never,
    pid_namespace, proc, program, root, rsup,
};
use crate::terminal::{CTRL_C, CTRL_D, CTRL_Z, Session, prepare};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// A signal that has no meaning to rsup. Pending signals are delivered in ascending order, so a process that receives
/// this signal has received every signal with a smaller number that was sent before.
const MARKER: i32 = 40;

/// The words that start each init of this machine: three inits of the test's own, and those that are installed.
fn inits() -> Vec<Vec<&'static str>> {
    let own = ["same-group", "own-group", "own-session"].map(|kind| vec![probe(), "init", kind]);
    let others: [&[&str]; 6] = [
        &["tini", "--"],
        &["tini", "-g", "--"],
        &["docker-init", "--"],
        &["dumb-init", "--"],
        &["dumb-init", "--single-child", "--"],
        &["catatonit", "--"],
    ];
    let there = others.into_iter().filter(|words| installed(words[0]).is_ok()).map(<[_]>::to_vec);
    own.into_iter().chain(there).collect()
}

/// Whether an init forwards SIGTSTP. Instead, dumb-init stops its child with SIGSTOP, and catatonit ignores SIGTSTP.
fn forwards_sigtstp(init: &[&str]) -> bool {
    !["dumb-init", "catatonit"].contains(&init[0])
}

/// Starts an init as PID 1 and leader of the session of a new terminal. The words after the init start rsup.
fn start_on_terminal(init: &[&str], words: &[&str], conf: &str) -> (Terminal, tempfile::TempDir) {
    let dir = prepare(conf);
    let words = [pid_namespace().unwrap(), &["setsid", "--ctty"], init, words].concat();
    (Terminal::start(&words, dir.path()), dir)
}

/// The PID of the process that is PID 1 of the PID namespace on this terminal.
fn pid_1(terminal: &Terminal) -> i32 {
    let find = || {
        let below = proc::descendants(terminal.pid());
        below.iter().find(|process| proc::inner_pid(process.pid) == Some(1)).map(|process| process.pid)
    };
    eventually("the PID namespace has a PID 1", find)
}

fn expect_in(dir: &Path, text: &str) {
    let events = || fs::read_to_string(dir.join("events")).unwrap_or_default();
    eventually(&format!("events contains {text:?}"), || events().contains(text).then_some(()));
}

fn listener() -> String {
    program("web", &format!("{} listen events 15", probe()))
}

#[test]
fn under_an_init_signals_of_the_terminal_reach_no_program_and_other_signals_reach_every_program() {
    needs!(static_programs(), root(), pid_namespace());
    for init in inits() {
        let words = ["./rsup", "-e", "debug", "-c", CONF];
        let (mut terminal, dir) = start_on_terminal(&init, &words, &listener());
        let events = |text: &str| expect_in(dir.path(), text);
        events("leader ready");
        events("member ready");
        terminal.expect("success: web");
        let first = pid_1(&terminal);
        let rsup = terminal.process("rsup", 'S');

        // The kernel signals the foreground process group. docker's client signals the init.
        terminal.resize(31, 101);
        kill(first, libc::SIGWINCH);
        terminal.enter(CTRL_Z);
        terminal.expect("received SIGTSTP, which has no effect here");
        if forwards_sigtstp(&init) {
            [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU].iter().for_each(|signal| kill(first, *signal));
        }
        kill(first, MARKER);
        events(&format!("leader {MARKER}\n"));
        events(&format!("member {MARKER}\n"));

        for (signal, name) in [(SIGHUP, "SIGHUP"), (SIGCONT, "SIGCONT"), (libc::SIGUSR1, "SIGUSR1")] {
            kill(first, signal);
            events(&format!("leader {signal}\n"));
            events(&format!("member {signal}\n"));
            terminal.expect(&format!("INFO passing {name} on to the programs"));
        }
        assert_ne!(proc::process(rsup).unwrap().state, 'T', "{init:?}");
        let programs = proc::descendants(rsup);
        assert!(programs.iter().all(|process| process.state != 'T'), "{init:?}: {programs:?}");
        let received = fs::read_to_string(dir.path().join("events")).unwrap();
        for signal in [libc::SIGWINCH, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU] {
            assert!(!received.contains(&format!("leader {signal}\n")), "{init:?}: {received}");
        }
        kill(first, SIGTERM);
        terminal.expect("received SIGTERM indicating exit request");
        assert_eq!(terminal.exit_code(), 0, "{init:?}");
    }
}

#[test]
fn under_an_init_ctrl_c_stops_the_programs() {
    needs!(static_programs(), root(), pid_namespace());
    for init in inits() {
        let (mut terminal, dir) = start_on_terminal(&init, &["./rsup", "-c", CONF], &listener());
        expect_in(dir.path(), "member ready");
        terminal.expect("success: web");
        terminal.enter(CTRL_C);
        terminal.expect("received SIGINT indicating exit request");
        assert_eq!(terminal.exit_code(), 0, "{init:?}");
    }
}

#[test]
fn under_an_init_a_script_that_runs_rsup_is_not_taken_for_a_shell() {
    needs!(static_programs(), root(), pid_namespace());
    for init in inits() {
        // A command follows rsup, so the shell cannot replace itself by rsup. The script ignores SIGTSTP, because ^Z
        // would otherwise stop the script, and the test could not see its output.
        let script = "trap '' TSTP; ./rsup -e debug -c supervisord.conf; exit 5";
        let words = ["/bin/sh", "-c", script];
        let (mut terminal, dir) = start_on_terminal(&init, &words, &listener());
        expect_in(dir.path(), "member ready");
        terminal.enter(CTRL_Z);
        terminal.expect("received SIGTSTP, which has no effect here");
        terminal.enter(CTRL_C);
        terminal.expect("received SIGINT indicating exit request");
        terminal.expect("rsup exits with status 0");
    }
}

#[test]
fn under_an_init_the_command_gets_every_forwarded_signal() {
    needs!(static_programs(), root(), pid_namespace());
    for init in inits() {
        let words = ["./rsup", "--", probe(), "listen", "events", "15"];
        let (mut terminal, dir) = start_on_terminal(&init, &words, "");
        expect_in(dir.path(), "leader ready");
        expect_in(dir.path(), "member ready");
        let first = pid_1(&terminal);
        terminal.resize(31, 101);
        expect_in(dir.path(), &format!("member {}\n", libc::SIGWINCH));
        for signal in [SIGHUP, SIGCONT, MARKER, SIGTERM] {
            kill(first, signal);
            expect_in(dir.path(), &format!("leader {signal}\n"));
            expect_in(dir.path(), &format!("member {signal}\n"));
        }
        assert_eq!(terminal.exit_code(), 0, "{init:?}");
    }
}

#[test]
fn under_an_init_rsup_continues_a_command_that_ctrl_z_stopped() {
    needs!(static_programs(), root(), pid_namespace());
    for init in inits() {
        let (mut terminal, _dir) = start_on_terminal(&init, &["./rsup", "--", "cat"], "");
        terminal.enter("one\n");
        terminal.expect("one");
        terminal.enter(CTRL_Z);
        terminal.enter("two\n");
        terminal.expect("two");
        if forwards_sigtstp(&init) {
            kill(pid_1(&terminal), libc::SIGTSTP);
            terminal.enter("three\n");
            terminal.expect("three");
        }
        terminal.process("rsup", 'S');
        terminal.enter(CTRL_D);
        assert_eq!(terminal.exit_code(), 0, "{init:?}");
    }
}

#[test]
fn under_an_init_without_a_terminal_every_signal_is_meant_for_the_programs() {
    needs!(static_programs(), pid_namespace());
    for init in inits() {
        let through = [&["setsid"], &init[..]].concat();
        let mut rsup = rsup(&listener()).through(&through).pid_1().start();
        rsup.expect_in_file("events", "leader ready\n");
        rsup.expect_in_file("events", "member ready\n");
        for (signal, name) in [(SIGHUP, "SIGHUP"), (SIGCONT, "SIGCONT"), (libc::SIGWINCH, "SIGWINCH")] {
            rsup.signal(signal);
            rsup.expect_in_file("events", &format!("leader {signal}\n"));
            rsup.expect_in_file("events", &format!("member {signal}\n"));
            rsup.expect(&format!("INFO passing {name} on to the programs"));
        }
        if forwards_sigtstp(&init) {
            let state = |state: char| {
                eventually(&format!("every process is in state {state}"), || {
                    rsup.tree().iter().all(|process| process.state == state).then_some(())
                });
            };
            rsup.signal(libc::SIGTSTP);
            state('T');
            rsup.signal(SIGCONT);
            state('S');
        }
        assert_eq!(rsup.stop(), 0, "{init:?}");
    }
}

#[test]
fn under_an_init_without_a_terminal_rsup_does_not_follow_a_sigstop_of_its_command() {
    needs!(static_programs(), pid_namespace());
    for init in inits() {
        let through = [&["setsid"], &init[..]].concat();
        let mut rsup = command(&["sleep", "1000"]).through(&through).pid_1().start();
        let find = |name: &str, state: char| {
            let found =
                || rsup.tree().into_iter().find(|process| process.name == name && process.state == state);
            eventually(&format!("{name} is in state {state}"), found).pid
        };
        let sleep = find("sleep", 'S');
        let own = find("rsup", 'S');
        kill(sleep, SIGSTOP);
        find("sleep", 'T');
        never("rsup stopped", Duration::from_millis(200), || proc::process(own).unwrap().state == 'T');
        kill(sleep, SIGCONT);
        find("sleep", 'S');
        if forwards_sigtstp(&init) {
            // `docker kill -s TSTP` and `docker kill -s CONT`.
            rsup.signal(libc::SIGTSTP);
            find("sleep", 'T');
            find("rsup", 'T');
            rsup.signal(SIGCONT);
            find("sleep", 'S');
            find("rsup", 'S');
        }
        assert_eq!(rsup.stop(), 143, "{init:?}");
    }
}

/// The shells that can be PID 1 of a container, and a shell that an init runs.
fn shells() -> Vec<Vec<&'static str>> {
    let alone = ["setsid", "--ctty"];
    let bash = ["bash", "--norc", "--noediting", "-i"];
    let mut shells = vec![[&alone[..], &["sh", "-i"]].concat()];
    if installed("bash").is_ok() {
        shells.push([&alone[..], &bash].concat());
    }
    shells.push([&alone[..], &[probe(), "init", "own-group", "/bin/sh", "-i"]].concat());
    shells.push([&alone[..], &[probe(), "init", "own-session", "/bin/sh", "-i"]].concat());
    shells
}

#[test]
fn a_shell_that_is_pid_1_or_runs_under_an_init_can_stop_and_continue_rsup() {
    needs!(static_programs(), root(), pid_namespace());
    for shell in shells() {
        let mut session = Session::start_shell(&[pid_namespace().unwrap(), &shell].concat(), &listener());
        session.run("./rsup -c supervisord.conf");
        session.expect_in_file("events", "leader ready");
        session.expect_in_file("events", "member ready");
        session.terminal.expect("success: web");
        for _ in 0..2 {
            session.terminal.enter(CTRL_Z);
            session.terminal.expect("Stopped");
            session.terminal.process("rsup", 'T');
            session.terminal.process("probe", 'T');
            session.terminal.enter("echo still''here\n");
            session.terminal.expect("stillhere");
            session.continue_in_foreground();
            session.terminal.process("rsup", 'S');
            eventually("no process is stopped", || {
                let below = proc::descendants(session.terminal.pid());
                below.iter().all(|process| process.state != 'T').then_some(())
            });
        }
        session.terminal.resize(31, 101);
        kill(session.terminal.process("rsup", 'S'), MARKER);
        session.expect_in_file("events", &format!("leader {MARKER}\n"));
        assert!(!session.read("events").contains("leader 28\n"), "{shell:?}");
        session.terminal.enter(CTRL_C);
        session.terminal.expect("received SIGINT indicating exit request");
        session.terminal.expect("code=0.");

        session.run("./rsup -- cat");
        session.terminal.enter("one\n");
        session.terminal.expect("one");
        session.terminal.enter(CTRL_Z);
        session.terminal.expect("Stopped");
        session.terminal.process("rsup", 'T');
        session.terminal.process("cat", 'T');
        session.continue_in_foreground();
        session.terminal.process("cat", 'S');
        session.terminal.enter("two\n");
        session.terminal.expect("two");
        session.terminal.enter(CTRL_D);
        session.terminal.expect("code=0.");
    }
}
