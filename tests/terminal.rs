//! rsup on a terminal: which process group is in the foreground, what ^C, ^Z and ^\ do, and what the shell notices.

use crate::support::probe::{probe, static_programs};
use crate::support::pty::Terminal;
use crate::support::{
    CONF, SIGCONT, SIGSTOP, SIGTERM, Way, binary, both_ways, eventually, forever, handler, installed, kill,
    needs, never, pid_namespace, proc, root, script,
};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) const CTRL_C: &str = "\x03";
pub(crate) const CTRL_D: &str = "\x04";
pub(crate) const CTRL_Z: &str = "\x1a";
const CTRL_BACKSLASH: &str = "\x1c";

/// A shell with job control on a terminal. Its working directory contains rsup as `./rsup`, and `supervisord.conf`.
pub(crate) struct Session {
    // This field is dropped before `dir`: dropping the terminal kills every process that is left on it.
    pub(crate) terminal: Terminal,
    dir: tempfile::TempDir,
}

impl Session {
    fn start(conf: &str) -> Self {
        Self::start_shell(&["sh", "-i"], conf)
    }

    pub(crate) fn start_shell(shell: &[&str], conf: &str) -> Self {
        let dir = prepare(conf);
        let mut terminal = Terminal::start(shell, dir.path());
        terminal.expect("$ ");
        Self { terminal, dir }
    }

    /// Types a command line. When the command has ended or stopped, the shell prints `code=` and the exit status.
    pub(crate) fn run(&self, line: &str) {
        self.terminal.enter(&format!("{line}; echo co''de=$?.\n"));
    }

    /// Continues the stopped job in the foreground. When the job has ended or stopped, the shell prints `then code=`
    /// and the exit status.
    pub(crate) fn continue_in_foreground(&self) {
        self.terminal.enter("fg; echo the''n co''de=$?.\n");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub(crate) fn expect_in_file(&self, name: &str, text: &str) {
        eventually(&format!("{name} contains {text:?}"), || self.read(name).contains(text).then_some(()));
    }

    /// Waits until the shell is in the foreground, and checks that the shell reads from the terminal and writes to it.
    fn expect_shell(&mut self) {
        let shell = self.terminal.pid();
        eventually("the shell is in the foreground", || (self.terminal.foreground() == shell).then_some(()));
        self.terminal.enter("echo still''here\n");
        self.terminal.expect("stillhere");
    }
}

/// A new directory with this `supervisord.conf` and with rsup as `./rsup`.
pub(crate) fn prepare(conf: &str) -> tempfile::TempDir {
    let dir = tempfile::Builder::new().prefix("rsup-").tempdir().unwrap();
    fs::write(dir.path().join(CONF), conf).unwrap();
    std::os::unix::fs::symlink(binary(), dir.path().join("rsup")).unwrap();
    dir
}

#[test]
fn ctrl_c_and_ctrl_backslash_signal_the_command_in_the_foreground() {
    let mut session = Session::start("");
    for (key, signal, code) in [(CTRL_C, "INT", 5), (CTRL_BACKSLASH, "QUIT", 6)] {
        let body = format!("trap \"exit {code}\" {signal}; echo rea\"\"dy; while :; do sleep 0.02; done");
        session.run(&format!("./rsup -- sh -c '{body}'"));
        session.terminal.expect("ready");
        session.terminal.enter(key);
        session.terminal.expect(&format!("code={code}."));
        session.expect_shell();
    }
    session.run("./rsup -- sleep 1000");
    let sleep = session.terminal.process("sleep", 'S');
    eventually("sleep is in the foreground", || (session.terminal.foreground() == sleep).then_some(()));
    session.terminal.enter(CTRL_C);
    session.terminal.expect("code=130.");
    session.expect_shell();
}

#[test]
fn ctrl_z_stops_the_command_and_rsup_and_fg_continues_both() {
    let mut session = Session::start("");
    session.run("./rsup -- cat");
    session.terminal.enter("one\n");
    session.terminal.expect("one");
    for word in ["two", "three"] {
        session.terminal.enter(CTRL_Z);
        session.terminal.expect("Stopped");
        let rsup = session.terminal.process("rsup", 'T');
        let cat = session.terminal.process("cat", 'T');
        session.expect_shell();
        session.terminal.enter("fg\n");
        session.terminal.process("cat", 'S');
        assert_eq!(session.terminal.process("rsup", 'S'), rsup);
        session.terminal.enter(&format!("{word}\n"));
        session.terminal.expect(word);
        assert_eq!(session.terminal.foreground(), cat);
    }
    session.terminal.enter(CTRL_D);
    session.terminal.enter("echo al''l co\"\"de=$?.\n");
    session.terminal.expect("all code=0.");
    session.expect_shell();
}

#[test]
fn ctrl_z_stops_the_other_processes_of_the_shells_job_too() {
    let mut session = Session::start("");
    let expect_state = |session: &Session, state: char| {
        session.terminal.process("sleep", state);
        let shell = session.terminal.pid();
        eventually(&format!("every process of the job is in state {state}"), || {
            let job = proc::descendants(shell);
            job.iter().all(|process| process.state == state).then_some(())
        });
    };
    // The other processes are a script that waits for rsup, or the other commands of a pipeline.
    for (line, code) in [
        ("sh -c './rsup -- sleep 1000; exit 5'", 5),
        ("sleep 1000 | ./rsup -- sleep 1000", 130),
        ("./rsup -- sleep 1000 | sh -c 'trap \"\" INT; exec cat'", 0),
    ] {
        session.run(line);
        expect_state(&session, 'S');
        for _ in 0..2 {
            session.terminal.enter(CTRL_Z);
            session.terminal.expect("Stopped");
            expect_state(&session, 'T');
            session.expect_shell();
            session.continue_in_foreground();
            expect_state(&session, 'S');
        }
        session.terminal.enter(CTRL_C);
        session.terminal.expect(&format!("then code={code}."));
        session.expect_shell();
    }
}

#[test]
fn a_command_in_a_pipeline_is_put_into_the_foreground_when_it_reads_from_the_terminal() {
    // A pager in `x | rsup -- less` reads from the terminal in the same way. Redirected descriptors of rsup must make
    // no difference.
    for redirected in ["", ">out 2>err", "<&-"] {
        let mut session = Session::start("");
        let body = "read two </dev/tty; echo got $two >/dev/tty; read three </dev/tty; exit $three";
        session.run(&format!("echo one | ./rsup -- sh -c '{body}' {redirected}"));
        session.terminal.enter("2\n");
        session.terminal.expect("got 2");
        session.terminal.enter(CTRL_Z);
        session.terminal.expect("Stopped");
        session.expect_shell();
        session.continue_in_foreground();
        session.terminal.process("sh", 'S');
        session.terminal.enter("3\n");
        session.terminal.expect("then code=3.");
        session.expect_shell();
    }
}

#[test]
fn a_command_whose_output_goes_to_a_pager_leaves_the_foreground_to_the_pager() {
    let mut session = Session::start("");
    // ^C must not end the pager before `exit`.
    let pager = "trap \"\" INT; read one; read two </dev/tty; echo got $one $two; exit 3";
    session.run(&format!("./rsup -- sh -c 'echo one; exec sleep 1000' | sh -c '{pager}'"));
    session.terminal.enter("two\n");
    session.terminal.expect("got one two");
    // rsup and the pager are in the foreground process group, so ^C reaches rsup, which forwards SIGINT to the command.
    session.terminal.process("sleep", 'S');
    session.terminal.enter(CTRL_C);
    session.terminal.expect("code=3.");
    session.expect_shell();
}

#[test]
fn rsup_reports_an_error_on_a_terminal_that_stops_background_writers() {
    let mut session = Session::start("");
    for line in ["./rsup -- nosuch </dev/null", "./rsup -- nosuch", "./rsup -- nosuch | cat"] {
        session.run(&format!("stty tostop; {line}"));
        session.terminal.expect("rsup: can't run nosuch: not found");
        session.terminal.expect("code=");
        session.expect_shell();
    }
}

#[test]
fn rsup_stops_itself_when_the_command_stops_itself() {
    let mut session = Session::start("");
    session.run("./rsup -- sh -c 'kill -STOP $$; exit 8'");
    session.terminal.expect("Stopped");
    session.terminal.process("rsup", 'T');
    session.continue_in_foreground();
    session.terminal.expect("then code=8.");
    session.expect_shell();
}

#[test]
fn rsup_in_the_background_does_not_take_the_foreground() {
    let mut session = Session::start("");
    let shell = session.terminal.pid();
    session.terminal.enter("./rsup -- sleep 1000 &\n");
    session.terminal.process("sleep", 'S');
    never("the shell lost the foreground", Duration::from_millis(300), || {
        session.terminal.foreground() != shell
    });
    session.expect_shell();
    // `kill %1` signals rsup, which forwards the signal. The end of the command must not move the foreground.
    session.terminal.enter("kill %1; wait %1; echo co''de=$?.\n");
    session.terminal.expect("code=143.");
    session.expect_shell();
}

#[test]
fn pid_1_in_the_session_of_a_shell_outside_its_namespace_takes_the_foreground_only_on_demand() {
    needs!(pid_namespace(), root());
    // tcgetpgrp returns 0 for a process group outside the PID namespace, so rsup cannot know whether rsup is in the
    // background.
    let mut session = Session::start("");
    let shell = session.terminal.pid();
    let rsup = pid_namespace().unwrap().join(" ") + " ./rsup";
    session.terminal.enter(&format!("{rsup} -- sleep 1000 &\n"));
    session.terminal.process("sleep", 'S');
    never("the shell lost the foreground", Duration::from_millis(300), || {
        session.terminal.foreground() != shell
    });
    session.expect_shell();
    session.run(&format!("{rsup} -- sh -c 'read word; exit $word'"));
    session.terminal.enter("3\n");
    session.terminal.expect("code=3.");
    session.expect_shell();
}

#[test]
fn a_background_command_that_reads_from_the_terminal_stops_until_fg() {
    let mut session = Session::start("");
    session.terminal.enter("./rsup -- cat &\n");
    session.terminal.process("cat", 'T');
    session.terminal.process("rsup", 'T');
    session.expect_shell();
    session.terminal.enter("fg; echo co''de=$?.\n");
    session.terminal.process("cat", 'S');
    session.terminal.enter("hello\n");
    session.terminal.expect("hello");
    session.terminal.enter(CTRL_D);
    session.terminal.expect("code=0.");
    session.expect_shell();
}

#[test]
fn fg_brings_a_running_background_command_to_the_foreground() {
    fg_of_a_running_command(Session::start(""));
}

#[test]
fn fg_of_a_shell_that_sends_no_sigcont_brings_a_running_command_to_the_foreground() {
    needs!(installed("bash"));
    // bash sends SIGCONT only to a stopped job; other shells send SIGCONT to every job.
    fg_of_a_running_command(Session::start_shell(&["bash", "--norc", "--noediting", "-i"], ""));
}

fn fg_of_a_running_command(mut session: Session) {
    let body = "while [ ! -e go ]; do sleep 0.02; done; read word; echo got $word; exit 4";
    session.terminal.enter(&format!("./rsup -- sh -c '{body}' &\n"));
    session.terminal.process("sh", 'S');
    session.terminal.enter("fg; echo co''de=$?.\n");
    let rsup = session.terminal.process("rsup", 'S');
    eventually("rsup or the command is in the foreground", || {
        let leader = proc::children(rsup).first()?.pid;
        [rsup, leader].contains(&session.terminal.foreground()).then_some(())
    });
    fs::write(session.path("go"), "").unwrap();
    session.terminal.enter("some\n");
    session.terminal.expect("got some");
    session.terminal.expect("code=4.");
    session.expect_shell();
}

#[test]
fn bg_continues_a_stopped_command_in_the_background() {
    let mut session = Session::start("");
    session.run("./rsup -- sleep 1000");
    session.terminal.process("sleep", 'S');
    session.terminal.enter(CTRL_Z);
    session.terminal.expect("Stopped");
    session.expect_shell();
    let shell = session.terminal.pid();
    session.terminal.enter("bg\n");
    session.terminal.process("sleep", 'S');
    session.terminal.process("rsup", 'S');
    never("the shell lost the foreground", Duration::from_millis(200), || {
        session.terminal.foreground() != shell
    });
    session.terminal.enter("kill %1; wait %1; echo co''de=$?.\n");
    session.terminal.expect("code=143.");
}

#[test]
fn sigtstp_for_rsup_stops_the_command_and_fg_continues_both() {
    let mut session = Session::start("");
    session.run("./rsup -- cat");
    session.terminal.process("cat", 'S');
    let rsup = session.terminal.process("rsup", 'S');
    kill(rsup, libc::SIGTSTP);
    session.terminal.expect("Stopped");
    session.terminal.process("cat", 'T');
    session.expect_shell();
    session.terminal.enter("fg\n");
    session.terminal.process("cat", 'S');
    session.terminal.enter("hello\n");
    session.terminal.expect("hello");
    session.terminal.enter(CTRL_D);
    session.expect_shell();
}

#[test]
fn a_shell_that_runs_under_rsup_has_job_control() {
    let mut session = Session::start("");
    session.run("./rsup -- env PS1='inner> ' sh -i");
    job_control(&mut session.terminal, "inner> ");
    session.terminal.enter("exit 7\n");
    session.terminal.expect("code=7.");
    session.expect_shell();
}

/// Checks job control of the interactive shell with this prompt: ^Z, `fg` and ^C.
pub(crate) fn job_control(terminal: &mut Terminal, prompt: &str) {
    terminal.expect(prompt);
    let before = terminal.foreground();
    // The typed text never contains the expected text, because the terminal may echo what is typed.
    terminal.enter("sh -c 'echo in\"\"side; read word; echo got-$word; exec sleep 1000'\n");
    terminal.expect("inside");
    terminal.enter(CTRL_Z);
    terminal.expect("Stopped");
    terminal.expect(prompt);
    assert_eq!(terminal.foreground(), before);
    terminal.enter("fg\n");
    terminal.enter("again\n");
    terminal.expect("got-again");
    terminal.enter(CTRL_C);
    // The terminal discards input that is typed before ^C has been processed.
    terminal.expect(prompt);
    terminal.enter("echo co''de=$?.\n");
    terminal.expect("code=130.");
    let shown = terminal.shown();
    for complaint in ["can't access tty", "no job control", "cannot set terminal"] {
        assert!(!shown.contains(complaint), "{shown}");
    }
}

#[test]
fn a_shell_that_runs_under_rsup_as_pid_1_has_job_control() {
    needs!(pid_namespace(), root());
    let dir = prepare("");
    // rsup leads the session of the terminal, as with `docker run -it`.
    let namespace = pid_namespace().unwrap();
    let words = ["setsid", "--ctty", "./rsup", "--", "env", "PS1=inner> ", "sh", "-i"];
    let mut terminal = Terminal::start(&[namespace, &words].concat(), dir.path());
    job_control(&mut terminal, "inner> ");
    terminal.enter("exit 7\n");
    assert_eq!(terminal.exit_code(), 7);
}

/// Starts rsup with these arguments on a new terminal, as session leader, like `docker run -it` and `ssh -t`.
fn start_as_session_leader(way: Way, words: &[&str], conf: &str) -> (Terminal, tempfile::TempDir) {
    let dir = prepare(conf);
    let through = match way {
        Way::Foreground => vec!["./rsup"],
        Way::Pid1 => [pid_namespace().unwrap(), &["setsid", "--ctty", "./rsup"]].concat(),
    };
    (Terminal::start(&[&through, words].concat(), dir.path()), dir)
}

#[test]
fn without_a_shell_rsup_continues_a_command_that_ctrl_z_stopped() {
    needs!(root());
    for way in both_ways() {
        let (mut terminal, _dir) = start_as_session_leader(way, &["--", "cat"], "");
        terminal.enter("one\n");
        terminal.expect("one");
        let cat = terminal.process("cat", 'S');
        terminal.enter(CTRL_Z);
        terminal.enter("two\n");
        terminal.expect("two");
        // rsup does not continue a command that SIGSTOP has stopped: the sender of SIGSTOP is expected to send SIGCONT.
        kill(cat, SIGSTOP);
        terminal.process("cat", 'T');
        never("rsup continued the command", Duration::from_millis(200), || {
            proc::process(cat).is_none_or(|cat| cat.state != 'T')
        });
        kill(cat, SIGCONT);
        terminal.enter(CTRL_D);
        assert_eq!(terminal.exit_code(), 0, "{way:?}");
    }
}

#[test]
fn the_command_gets_sighup_when_the_terminal_is_closed() {
    let mut session = Session::start("");
    let body = format!("trap \"echo hup >> events; exit\" HUP; {}", forever("job"));
    session.run(&format!("./rsup -- sh -c '{body}'"));
    session.expect_in_file("job.ready", "ready");
    let rsup = session.terminal.process("rsup", 'S');
    session.terminal.close();
    session.expect_in_file("events", "hup");
    eventually("rsup exits", || proc::process(rsup).is_none().then_some(()));
}

#[test]
fn the_command_gets_sigwinch_when_the_terminal_is_resized() {
    needs!(static_programs());
    let mut session = Session::start("");
    session.run(&format!("./rsup -- {} listen events 15", probe()));
    session.expect_in_file("events", "leader ready");
    session.expect_in_file("events", "member ready");
    session.terminal.resize(30, 100);
    for who in ["leader", "member"] {
        session.expect_in_file("events", &format!("{who} {}\n", libc::SIGWINCH));
    }
    kill(session.terminal.process("rsup", 'S'), SIGTERM);
    session.terminal.expect("code=0.");
    session.expect_shell();
}

#[test]
fn a_command_runs_when_stdin_is_not_a_terminal() {
    let mut session = Session::start("");
    for stdin in ["</dev/null", "<&-", "</dev/zero"] {
        session.run(&format!("./rsup -- sh -c 'exit 3' {stdin}"));
        session.terminal.expect("code=3.");
    }
    session.run("echo piped | ./rsup -- cat");
    session.terminal.expect("piped");
    session.terminal.expect("code=0.");
    session.expect_shell();
}

/// A program section whose SIGTERM trap writes the program's name into the file `events`.
fn polite(name: &str) -> String {
    handler(name, "TERM", &format!("echo {name} >> events; exit 0"))
}

#[test]
fn ctrl_c_stops_the_programs_with_sigterm() {
    let mut session = Session::start(&polite("web"));
    session.run("./rsup -c supervisord.conf");
    session.expect_in_file("web.ready", "ready");
    session.terminal.enter(CTRL_C);
    session.terminal.expect("received SIGINT indicating exit request");
    session.terminal.expect("stopped: web (exit status 0)");
    session.terminal.expect("code=0.");
    assert_eq!(session.read("events"), "web\n");
    session.expect_shell();
}

#[test]
fn a_second_ctrl_c_kills_programs_that_ignore_sigterm() {
    let mut session = Session::start(&(handler("stubborn", "TERM", "") + "stopwaitsecs=600\n"));
    session.run("./rsup -c supervisord.conf");
    session.expect_in_file("stubborn.ready", "ready");
    let first = Instant::now();
    session.terminal.enter(CTRL_C);
    session.terminal.expect("received SIGINT");
    // A second ^C kills the program only if at least one second has passed since the first ^C. The key is pressed once:
    // a ^C after rsup's exit would reach the shell, which would then not print the exit status.
    std::thread::sleep(Duration::from_millis(1010));
    session.terminal.enter(CTRL_C);
    session.terminal.expect("terminated by SIGKILL");
    assert!(first.elapsed() >= Duration::from_millis(990), "{:?}", first.elapsed());
    session.terminal.expect("code=0.");
}

#[test]
fn ctrl_z_stops_the_programs_and_rsup_and_fg_continues_both() {
    let conf = polite("web") + &crate::support::program("nap", "sleep 1000");
    let mut session = Session::start(&conf);
    session.run("./rsup -c supervisord.conf");
    session.expect_in_file("web.ready", "ready");
    session.terminal.expect("success: nap");
    session.terminal.enter(CTRL_Z);
    session.terminal.expect("Stopped");
    let rsup = session.terminal.process("rsup", 'T');
    let expect_state = |state: char| {
        let programs = proc::children(rsup);
        eventually(&format!("the programs are in state {state}"), || {
            let is_in_state =
                |child: &proc::Process| proc::process(child.pid).is_some_and(|now| now.state == state);
            programs.iter().all(is_in_state).then_some(())
        });
        assert_eq!(programs.len(), 2);
    };
    expect_state('T');
    session.expect_shell();
    session.terminal.enter("fg\n");
    expect_state('S');
    assert_eq!(session.terminal.process("rsup", 'S'), rsup);
    session.terminal.enter(CTRL_C);
    session.terminal.expect("stopped: web (exit status 0)");
    session.expect_shell();
    assert!(!session.terminal.shown().contains("stopped by"), "{}", session.terminal.shown());
}

#[test]
fn closing_the_terminal_stops_the_programs_with_sigterm() {
    let mut session = Session::start(&(polite("web") + &polite("db")));
    session.run("./rsup -c supervisord.conf");
    session.expect_in_file("web.ready", "ready");
    session.expect_in_file("db.ready", "ready");
    let rsup = session.terminal.process("rsup", 'S');
    let programs = proc::children(rsup);
    session.terminal.close();
    eventually("rsup exits", || proc::process(rsup).is_none().then_some(()));
    let mut got_sigterm: Vec<_> = session.read("events").lines().map(str::to_owned).collect();
    got_sigterm.sort();
    assert_eq!(got_sigterm, ["db", "web"]);
    eventually("no process is left", || {
        programs.iter().all(|program| proc::process(program.pid).is_none()).then_some(())
    });
}

#[test]
fn rsup_with_sighup_ignored_survives_the_end_of_the_terminal() {
    let mut session = Session::start(&polite("web"));
    session.terminal.enter("trap '' HUP; ./rsup -c supervisord.conf 2>log\n");
    session.expect_in_file("web.ready", "ready");
    let rsup = session.terminal.process("rsup", 'S');
    session.terminal.close();
    never("rsup exited", Duration::from_millis(500), || proc::process(rsup).is_none());
    kill(rsup, libc::SIGHUP);
    never("rsup exited", Duration::from_millis(200), || proc::process(rsup).is_none());
    assert_eq!(session.read("events"), "");
    kill(rsup, SIGTERM);
    eventually("rsup exits", || proc::process(rsup).is_none_or(|rsup| rsup.is_zombie()).then_some(()));
    assert_eq!(session.read("events"), "web\n");
}

#[test]
fn rsup_forwards_sigwinch_from_a_process_but_not_from_a_resized_terminal() {
    needs!(static_programs());
    let conf = crate::support::program("web", &format!("{} listen events 15", probe()));
    needs!(root());
    for way in both_ways() {
        let dir = prepare(&conf);
        let rsup = ["./rsup", "-c", CONF];
        let words = match way {
            Way::Foreground => rsup.to_vec(),
            Way::Pid1 => [pid_namespace().unwrap(), &["setsid", "--ctty"], &rsup].concat(),
        };
        let mut terminal = Terminal::start(&words, dir.path());
        let pid = match way {
            Way::Foreground => terminal.pid(),
            Way::Pid1 => terminal.process("rsup", 'S'),
        };
        let events = || fs::read_to_string(dir.path().join("events")).unwrap_or_default();
        let expect = |text: &str| {
            eventually(&format!("events contains {text:?}"), || events().contains(text).then_some(()));
        };
        expect("leader ready");
        expect("member ready");
        let winch = format!("leader {}\n", libc::SIGWINCH);
        terminal.resize(31, 101);
        // The test waits for later signals. Signal 40 has a higher number than SIGWINCH (28), and the kernel delivers
        // pending signals in ascending order, so rsup has read SIGWINCH when signal 40 arrives.
        kill(pid, libc::SIGUSR1);
        expect(&format!("leader {}\n", libc::SIGUSR1));
        kill(pid, 40);
        expect("member 40\n");
        assert!(!events().contains(&winch), "{way:?}");
        match way {
            Way::Foreground => kill(pid, libc::SIGWINCH),
            Way::Pid1 => {
                // The client of a container engine also sends SIGWINCH from outside the namespace when its terminal is
                // resized, so rsup drops this SIGWINCH too.
                kill(pid, libc::SIGWINCH);
                kill(pid, 41);
                expect("member 41\n");
                assert!(!events().contains(&winch));
                let pid = pid.to_string();
                let inside = ["-t", &pid, "-p", "-m", "sh", "-c", "kill -WINCH 1"];
                assert!(Command::new("nsenter").args(inside).status().unwrap().success());
            }
        }
        expect(&winch);
        kill(pid, SIGTERM);
        assert_eq!(terminal.exit_code(), 0, "{way:?}");
    }
}

#[test]
fn a_session_leader_forwards_sighup_and_takes_only_the_kernels_sighup_for_a_closed_terminal() {
    needs!(static_programs());
    // `docker run -t --pid=host` runs rsup like this. There, `docker kill -s HUP` is a SIGHUP from a process.
    let conf = crate::support::program("web", &format!("{} listen events 15", probe()));
    let (mut terminal, dir) = start_as_session_leader(Way::Foreground, &["-c", CONF], &conf);
    let expect = |text: &str| {
        let events = || fs::read_to_string(dir.path().join("events")).unwrap_or_default();
        eventually(&format!("events contains {text:?}"), || events().contains(text).then_some(()));
    };
    expect("leader ready");
    expect("member ready");
    kill(terminal.pid(), libc::SIGHUP);
    expect("leader 1\n");
    expect("member 1\n");
    terminal.expect("INFO passing SIGHUP on to the programs");
    assert!(!proc::process(terminal.pid()).unwrap().is_zombie());
    terminal.close();
    expect("leader 15\n");
    assert_eq!(terminal.exit_code(), 0);
}

#[test]
fn a_job_of_a_shell_takes_every_sighup_for_a_closed_terminal_and_drops_the_kernels_sigwinch() {
    needs!(static_programs());
    let conf = crate::support::program("web", &format!("{} listen events 15", probe()));
    let mut session = Session::start(&conf);
    session.run("./rsup -c supervisord.conf");
    session.expect_in_file("events", "leader ready");
    session.expect_in_file("events", "member ready");
    let rsup = session.terminal.process("rsup", 'S');
    session.terminal.resize(31, 101);
    kill(rsup, 40);
    session.expect_in_file("events", "leader 40\n");
    assert!(!session.read("events").contains("leader 28\n"));
    for signal in [libc::SIGWINCH, SIGCONT] {
        kill(rsup, signal);
        session.expect_in_file("events", &format!("member {signal}\n"));
    }
    kill(rsup, libc::SIGHUP);
    session.terminal.expect("received SIGHUP indicating exit request");
    session.terminal.expect("code=0.");
    session.expect_in_file("events", "leader 15\n");
    assert!(!session.read("events").contains("leader 1\n"));
    session.expect_shell();
}

#[test]
fn without_a_shell_ctrl_z_stops_no_program() {
    needs!(root());
    for way in both_ways() {
        let (mut terminal, _dir) = start_as_session_leader(way, &["-e", "debug", "-c", CONF], &polite("web"));
        terminal.expect("success: web");
        terminal.enter(CTRL_Z);
        terminal.expect("received SIGTSTP, which has no effect here");
        let rsup = match way {
            Way::Foreground => terminal.pid(),
            Way::Pid1 => terminal.process("rsup", 'S'),
        };
        assert!(!proc::children(rsup).iter().any(|child| child.state == 'T'));
        terminal.enter(CTRL_C);
        terminal.expect("stopped: web (exit status 0)");
        assert_eq!(terminal.exit_code(), 0, "{way:?}");
    }
}

#[test]
fn sigcont_for_a_stopped_background_rsup_continues_its_programs() {
    let mut session = Session::start(&script("nap", "exec sleep 1000"));
    session.terminal.enter("./rsup -c supervisord.conf 2>log &\n");
    session.expect_in_file("log", "success: nap");
    let rsup = session.terminal.process("rsup", 'S');
    kill(rsup, libc::SIGTSTP);
    session.terminal.process("sleep", 'T');
    session.terminal.process("rsup", 'T');
    kill(rsup, SIGCONT);
    session.terminal.process("sleep", 'S');
    session.terminal.enter("kill -INT %1; wait %1; echo co''de=$?.\n");
    session.terminal.expect("code=0.");
}
