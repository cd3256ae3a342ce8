//! On a terminal: who has it, what the keys do, and what a shell is told.

use crate::support::probe::{probe, static_programs};
use crate::support::pty::Terminal;
use crate::support::{
    CONF, SIGCONT, SIGSTOP, SIGTERM, Way, binary, both_ways, eventually, forever, handler, installed, kill,
    needs, never, pid_namespace, proc, root, script, within,
};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const CTRL_Z: &str = "\x1a";
const CTRL_BACKSLASH: &str = "\x1c";

/// A shell with job control on a terminal, and its directory, in which rsup is `./rsup` and the configuration is this.
struct Session {
    // Goes first: who is left there is killed.
    terminal: Terminal,
    dir: tempfile::TempDir,
}

impl Session {
    fn with(conf: &str) -> Self {
        Self::of(&["sh", "-i"], conf)
    }

    fn of(shell: &[&str], conf: &str) -> Self {
        let dir = prepare(conf);
        let mut terminal = Terminal::start(shell, dir.path());
        terminal.expect("$ ");
        Self { terminal, dir }
    }

    /// Types a line, behind which the shell says with what the command left.
    fn run(&self, line: &str) {
        self.terminal.enter(&format!("{line}; echo co''de=$?.\n"));
    }

    /// Continues the job that has stopped, in the foreground; the shell says with what it left then.
    fn bring_back(&self) {
        self.terminal.enter("fg; echo the''n co''de=$?.\n");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn expect_in_file(&self, name: &str, text: &str) {
        eventually(&format!("{name} has {text:?}"), || self.read(name).contains(text).then_some(()));
    }

    /// The shell has the terminal again, and can use it.
    fn expect_shell(&mut self) {
        let shell = self.terminal.pid();
        eventually("the shell has the terminal", || (self.terminal.foreground() == shell).then_some(()));
        self.terminal.enter("echo still''here\n");
        self.terminal.expect("stillhere");
    }
}

fn prepare(conf: &str) -> tempfile::TempDir {
    let dir = tempfile::Builder::new().prefix("rsup-").tempdir().unwrap();
    fs::write(dir.path().join(CONF), conf).unwrap();
    std::os::unix::fs::symlink(binary(), dir.path().join("rsup")).unwrap();
    dir
}

#[test]
fn a_key_reaches_the_command_in_the_foreground() {
    let mut session = Session::with("");
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
    eventually("it has the terminal", || (session.terminal.foreground() == sleep).then_some(()));
    session.terminal.enter(CTRL_C);
    session.terminal.expect("code=130.");
    session.expect_shell();
}

#[test]
fn a_command_that_is_stopped_at_the_terminal_stops_rsup_and_fg_resumes_both() {
    let mut session = Session::with("");
    session.run("./rsup -- cat");
    session.terminal.enter("one\n");
    session.terminal.expect("one");
    for word in ["two", "three"] {
        session.terminal.enter(CTRL_Z);
        session.terminal.expect("Stopped");
        let (rsup, cat) = (session.terminal.process("rsup", 'T'), session.terminal.process("cat", 'T'));
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
fn ctrl_z_stops_the_whole_job_as_without_rsup() {
    let mut session = Session::with("");
    let all = |session: &Session, state: char| {
        session.terminal.process("sleep", state);
        let shell = session.terminal.pid();
        eventually(&format!("the whole job is in state {state}"), || {
            let job = proc::descendants(shell);
            job.iter().all(|process| process.state == state).then_some(())
        });
    };
    // A script that waits for rsup, and the rest of a pipeline.
    for (line, code) in [
        ("sh -c './rsup -- sleep 1000; exit 5'", 5),
        ("sleep 1000 | ./rsup -- sleep 1000", 130),
        ("./rsup -- sleep 1000 | sh -c 'trap \"\" INT; exec cat'", 0),
    ] {
        session.run(line);
        all(&session, 'S');
        for _ in 0..2 {
            session.terminal.enter(CTRL_Z);
            session.terminal.expect("Stopped");
            all(&session, 'T');
            session.expect_shell();
            session.bring_back();
            all(&session, 'S');
        }
        session.terminal.enter(CTRL_C);
        session.terminal.expect(&format!("then code={code}."));
        session.expect_shell();
    }
}

#[test]
fn a_command_in_a_pipeline_gets_the_terminal_when_it_asks_for_it() {
    // As `x | rsup -- less`, whatever its descriptors are.
    for redirected in ["", ">out 2>err", "<&-"] {
        let mut session = Session::with("");
        let body = "read two </dev/tty; echo got $two >/dev/tty; read three </dev/tty; exit $three";
        session.run(&format!("echo one | ./rsup -- sh -c '{body}' {redirected}"));
        session.terminal.enter("2\n");
        session.terminal.expect("got 2");
        session.terminal.enter(CTRL_Z);
        session.terminal.expect("Stopped");
        session.expect_shell();
        session.bring_back();
        session.terminal.process("sh", 'S');
        session.terminal.enter("3\n");
        session.terminal.expect("then code=3.");
        session.expect_shell();
    }
}

#[test]
fn a_command_in_a_pipeline_leaves_the_terminal_to_the_pager() {
    let mut session = Session::with("");
    let pager = "read one; read two </dev/tty; echo got $one $two; exit 3";
    session.run(&format!("./rsup -- sh -c 'echo one; exec sleep 1000' | sh -c '{pager}'"));
    session.terminal.enter("two\n");
    session.terminal.expect("got one two");
    // The keys reach it all the same.
    session.terminal.process("sleep", 'S');
    session.terminal.enter(CTRL_C);
    session.terminal.expect("code=3.");
    session.expect_shell();
}

#[test]
fn a_terminal_that_stops_whoever_writes_from_the_background_does_not_hold_up_rsup() {
    let mut session = Session::with("");
    for line in ["./rsup -- nosuch </dev/null", "./rsup -- nosuch", "./rsup -- nosuch | cat"] {
        session.run(&format!("stty tostop; {line}"));
        session.terminal.expect("rsup: can't run nosuch: not found");
        session.terminal.expect("code=");
        session.expect_shell();
    }
}

#[test]
fn a_command_that_stops_itself_stops_rsup() {
    let mut session = Session::with("");
    session.run("./rsup -- sh -c 'kill -STOP $$; exit 8'");
    session.terminal.expect("Stopped");
    session.terminal.process("rsup", 'T');
    session.bring_back();
    session.terminal.expect("then code=8.");
    session.expect_shell();
}

#[test]
fn in_the_background_it_does_not_take_the_terminal() {
    let mut session = Session::with("");
    let shell = session.terminal.pid();
    session.terminal.enter("./rsup -- sleep 1000 &\n");
    session.terminal.process("sleep", 'S');
    never("the terminal was taken", Duration::from_millis(300), || session.terminal.foreground() != shell);
    session.expect_shell();
    // A signal by the job's number reaches the command, and its end takes nothing from the shell.
    session.terminal.enter("kill %1; wait %1; echo co''de=$?.\n");
    session.terminal.expect("code=143.");
    session.expect_shell();
}

#[test]
fn in_a_pid_namespace_of_its_own_it_does_not_take_the_terminal_unasked() {
    needs!(pid_namespace(), root());
    // Without a session of its own it cannot tell whether it is in the background.
    let mut session = Session::with("");
    let shell = session.terminal.pid();
    let rsup = pid_namespace().unwrap().join(" ") + " ./rsup";
    session.terminal.enter(&format!("{rsup} -- sleep 1000 &\n"));
    session.terminal.process("sleep", 'S');
    never("the terminal was taken", Duration::from_millis(300), || session.terminal.foreground() != shell);
    session.expect_shell();
    session.run(&format!("{rsup} -- sh -c 'read word; exit $word'"));
    session.terminal.enter("3\n");
    session.terminal.expect("code=3.");
    session.expect_shell();
}

#[test]
fn a_background_command_that_wants_the_terminal_stops_until_it_gets_it() {
    let mut session = Session::with("");
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
fn a_running_background_command_can_be_brought_to_the_foreground() {
    brought_to_the_foreground(Session::with(""));
}

#[test]
fn a_shell_need_not_continue_a_command_that_it_brings_to_the_foreground() {
    needs!(installed("bash"));
    // Unlike others it sends SIGCONT only to a job that has stopped.
    brought_to_the_foreground(Session::of(&["bash", "--norc", "--noediting", "-i"], ""));
}

fn brought_to_the_foreground(mut session: Session) {
    let body = "while [ ! -e go ]; do sleep 0.02; done; read word; echo got $word; exit 4";
    session.terminal.enter(&format!("./rsup -- sh -c '{body}' &\n"));
    session.terminal.process("sh", 'S');
    session.terminal.enter("fg; echo co''de=$?.\n");
    let rsup = session.terminal.process("rsup", 'S');
    eventually("the shell gives it the terminal", || {
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
fn bg_continues_a_stopped_command_without_the_terminal() {
    let mut session = Session::with("");
    session.run("./rsup -- sleep 1000");
    session.terminal.process("sleep", 'S');
    session.terminal.enter(CTRL_Z);
    session.terminal.expect("Stopped");
    session.expect_shell();
    let shell = session.terminal.pid();
    session.terminal.enter("bg\n");
    session.terminal.process("sleep", 'S');
    session.terminal.process("rsup", 'S');
    never("the terminal was taken", Duration::from_millis(200), || session.terminal.foreground() != shell);
    session.terminal.enter("kill %1; wait %1; echo co''de=$?.\n");
    session.terminal.expect("code=143.");
}

#[test]
fn a_signal_for_rsup_stops_and_continues_the_command() {
    let mut session = Session::with("");
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
fn a_shell_below_rsup_has_job_control() {
    let mut session = Session::with("");
    session.run("./rsup -- env PS1='inner> ' sh -i");
    job_control(&mut session.terminal, "inner> ");
    session.terminal.enter("exit 7\n");
    session.terminal.expect("code=7.");
    session.expect_shell();
}

/// What an interactive shell with this prompt needs its terminal for.
pub(crate) fn job_control(terminal: &mut Terminal, prompt: &str) {
    terminal.expect(prompt);
    let before = terminal.foreground();
    // What is expected is never what was typed, for this terminal may echo.
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
    // What is typed before the key has done its work is thrown away with it.
    terminal.expect(prompt);
    terminal.enter("echo co''de=$?.\n");
    terminal.expect("code=130.");
    let shown = terminal.shown();
    for complaint in ["can't access tty", "no job control", "cannot set terminal"] {
        assert!(!shown.contains(complaint), "{shown}");
    }
}

#[test]
fn under_process_1_a_shell_has_job_control() {
    needs!(pid_namespace(), root());
    let dir = prepare("");
    // As `docker run -it`: rsup leads the session of the terminal.
    let namespace = pid_namespace().unwrap();
    let words = ["setsid", "--ctty", "./rsup", "--", "env", "PS1=inner> ", "sh", "-i"];
    let mut terminal = Terminal::start(&[namespace, &words].concat(), dir.path());
    job_control(&mut terminal, "inner> ");
    terminal.enter("exit 7\n");
    assert_eq!(terminal.exit_code(), 7);
}

/// rsup with these words on a terminal of its own, as `docker run -it` or `ssh -t` starts it: the leader of the session.
fn leader(way: Way, words: &[&str], conf: &str) -> (Terminal, tempfile::TempDir) {
    let dir = prepare(conf);
    let through = match way {
        Way::Foreground => vec!["./rsup"],
        Way::Pid1 => [pid_namespace().unwrap(), &["setsid", "--ctty", "./rsup"]].concat(),
    };
    (Terminal::start(&[&through, words].concat(), dir.path()), dir)
}

#[test]
fn where_no_shell_waits_ctrl_z_does_not_leave_the_command_stopped_for_ever() {
    needs!(root());
    for way in both_ways() {
        let (mut terminal, _dir) = leader(way, &["--", "cat"], "");
        terminal.enter("one\n");
        terminal.expect("one");
        let cat = terminal.process("cat", 'S');
        terminal.enter(CTRL_Z);
        terminal.enter("two\n");
        terminal.expect("two");
        // Who stops it otherwise has a reason, and means to continue it.
        kill(cat, SIGSTOP);
        terminal.process("cat", 'T');
        never("it was continued", Duration::from_millis(200), || {
            proc::process(cat).is_none_or(|cat| cat.state != 'T')
        });
        kill(cat, SIGCONT);
        terminal.enter(CTRL_D);
        assert_eq!(terminal.exit_code(), 0, "{way:?}");
    }
}

#[test]
fn a_closed_terminal_hangs_the_command_up() {
    let mut session = Session::with("");
    let body = format!("trap \"echo hup >> events; exit\" HUP; {}", forever("job"));
    session.run(&format!("./rsup -- sh -c '{body}'"));
    session.expect_in_file("job.ready", "ready");
    let rsup = session.terminal.process("rsup", 'S');
    session.terminal.close();
    session.expect_in_file("events", "hup");
    eventually("rsup leaves", || proc::process(rsup).is_none().then_some(()));
}

#[test]
fn one_command_learns_of_the_terminals_new_size() {
    needs!(static_programs());
    let mut session = Session::with("");
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
fn without_a_terminal_on_stdin_there_is_none_to_hand_over() {
    let mut session = Session::with("");
    for stdin in ["</dev/null", "<&-", "</dev/zero"] {
        session.run(&format!("./rsup -- sh -c 'exit 3' {stdin}"));
        session.terminal.expect("code=3.");
    }
    session.run("echo piped | ./rsup -- cat");
    session.terminal.expect("piped");
    session.terminal.expect("code=0.");
    session.expect_shell();
}

/// The configuration mode of these tests: a program whose TERM trap writes a file.
fn polite(name: &str) -> String {
    handler(name, "TERM", &format!("echo {name} >> events; exit 0"))
}

#[test]
fn ctrl_c_stops_the_programs_cleanly() {
    let mut session = Session::with(&polite("web"));
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
fn a_second_ctrl_c_kills() {
    let mut session = Session::with(&(handler("deaf", "TERM", "") + "stopwaitsecs=600\n"));
    session.run("./rsup -c supervisord.conf");
    session.expect_in_file("deaf.ready", "ready");
    let first = Instant::now();
    session.terminal.enter(CTRL_C);
    session.terminal.expect("received SIGINT");
    // At least a second after the first, or it would be the same one.
    let again = || {
        session.terminal.enter(CTRL_C);
        session.terminal.shown().contains("terminated by SIGKILL").then_some(())
    };
    within(Duration::from_secs(30), again).expect("a second ^C kills");
    assert!(first.elapsed() >= Duration::from_millis(990), "{:?}", first.elapsed());
    session.terminal.expect("code=0.");
}

#[test]
fn ctrl_z_stops_the_programs_and_rsup_and_fg_resumes_both() {
    let conf = polite("web") + &crate::support::program("nap", "sleep 1000");
    let mut session = Session::with(&conf);
    session.run("./rsup -c supervisord.conf");
    session.expect_in_file("web.ready", "ready");
    session.terminal.expect("success: nap");
    session.terminal.enter(CTRL_Z);
    session.terminal.expect("Stopped");
    let rsup = session.terminal.process("rsup", 'T');
    let states = |state: char| {
        let below = proc::children(rsup);
        eventually("the programs follow", || {
            let same = |child: &proc::Process| proc::process(child.pid).is_some_and(|now| now.state == state);
            below.iter().all(same).then_some(())
        });
        assert_eq!(below.len(), 2);
    };
    states('T');
    session.expect_shell();
    session.terminal.enter("fg\n");
    states('S');
    assert_eq!(session.terminal.process("rsup", 'S'), rsup);
    session.terminal.enter(CTRL_C);
    session.terminal.expect("stopped: web (exit status 0)");
    session.expect_shell();
    assert!(!session.terminal.shown().contains("stopped by"), "{}", session.terminal.shown());
}

#[test]
fn closing_the_terminal_stops_the_programs_cleanly() {
    let mut session = Session::with(&(polite("web") + &polite("db")));
    session.run("./rsup -c supervisord.conf");
    session.expect_in_file("web.ready", "ready");
    session.expect_in_file("db.ready", "ready");
    let rsup = session.terminal.process("rsup", 'S');
    let programs = proc::children(rsup);
    session.terminal.close();
    eventually("rsup leaves", || proc::process(rsup).is_none().then_some(()));
    let mut told: Vec<_> = session.read("events").lines().map(str::to_owned).collect();
    told.sort();
    assert_eq!(told, ["db", "web"]);
    eventually("nothing is left", || {
        programs.iter().all(|one| proc::process(one.pid).is_none()).then_some(())
    });
}

#[test]
fn nohup_keeps_rsup_up_when_the_terminal_closes() {
    let mut session = Session::with(&polite("web"));
    session.terminal.enter("trap '' HUP; ./rsup -c supervisord.conf 2>log\n");
    session.expect_in_file("web.ready", "ready");
    let rsup = session.terminal.process("rsup", 'S');
    session.terminal.close();
    never("rsup left", Duration::from_millis(500), || proc::process(rsup).is_none());
    kill(rsup, libc::SIGHUP);
    never("rsup left", Duration::from_millis(200), || proc::process(rsup).is_none());
    assert_eq!(session.read("events"), "");
    kill(rsup, SIGTERM);
    eventually("rsup leaves", || proc::process(rsup).is_none_or(|rsup| rsup.is_zombie()).then_some(()));
    assert_eq!(session.read("events"), "web\n");
}

#[test]
fn a_resized_terminal_does_not_reach_the_programs_but_a_sent_winch_does() {
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
            eventually(&format!("events has {text:?}"), || events().contains(text).then_some(()));
        };
        expect("leader ready");
        expect("member ready");
        let winch = format!("leader {}\n", libc::SIGWINCH);
        terminal.resize(31, 101);
        // Signals are taken in by number: one behind it shows that it was there.
        kill(pid, libc::SIGUSR1);
        expect(&format!("leader {}\n", libc::SIGUSR1));
        kill(pid, 40);
        expect("member 40\n");
        assert!(!events().contains(&winch), "{way:?}");
        match way {
            Way::Foreground => kill(pid, libc::SIGWINCH),
            Way::Pid1 => {
                // The client of a container engine sends one too, from outside: that is the same resizing.
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
fn where_no_shell_waits_ctrl_z_stops_nothing() {
    needs!(root());
    for way in both_ways() {
        let (mut terminal, _dir) = leader(way, &["-e", "debug", "-c", CONF], &polite("web"));
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
fn a_background_rsup_that_is_told_to_continue_continues_its_programs() {
    let mut session = Session::with(&script("nap", "exec sleep 1000"));
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
