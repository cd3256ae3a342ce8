//! One-command mode: rsup runs one command, as tini and dumb-init do.

use std::ffi::OsStr;
use std::fmt::Debug;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::probe::{probe, static_programs};
use crate::support::{
    Rsup, SIGCONT, SIGKILL, SIGSTOP, SIGTERM, Setup, Way, binary, both_ways, command, copy_executable,
    eventually, forever, installed, kill, needs, never, pid_namespace, proc, root, within,
};

/// rsup with these arguments, in the foreground or as PID 1.
fn rsup_with(way: Way, words: &[&str]) -> Command {
    let mut through: Vec<_> = match way {
        Way::Foreground => vec![],
        Way::Pid1 => pid_namespace().unwrap().to_vec(),
    };
    let binary = binary();
    through.push(binary.to_str().unwrap());
    through.extend(words);
    let mut command = Command::new(through[0]);
    command.args(&through[1..]).stdin(Stdio::null());
    command
}

fn output(way: Way, words: &[&str]) -> Output {
    rsup_with(way, words).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The output of a command that is started without blocked and without ignored signals.
fn clean(way: Way, words: &[&str]) -> Output {
    let words = [&["--", probe(), "with", "0", "0"], words].concat();
    output(way, &words)
}

/// The signals that kill a process by default.
fn deadly() -> impl Iterator<Item = i32> {
    let harmless = [
        libc::SIGCHLD,
        libc::SIGCONT,
        libc::SIGSTOP,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
        libc::SIGURG,
        libc::SIGWINCH,
    ];
    (1..=64).filter(move |signal| !harmless.contains(signal))
}

#[test]
fn rsup_exits_with_the_commands_exit_code() {
    for way in both_ways() {
        for code in 0..=255 {
            let output = output(way, &["--", "sh", "-c", &format!("exit {code}")]);
            assert_eq!(output.status.code(), Some(code), "{way:?}");
            assert_eq!((text(&output.stdout), text(&output.stderr)), Default::default(), "{way:?} {code}");
        }
    }
}

#[test]
fn rsup_exits_with_128_plus_n_if_signal_n_killed_the_command() {
    needs!(static_programs());
    for way in both_ways() {
        for signal in deadly() {
            let output = clean(way, &["/bin/sh", "-c", &format!("ulimit -c 0; kill -{signal} $$")]);
            assert_eq!(output.status.code(), Some(128 + signal), "{way:?}");
            assert_eq!(text(&output.stderr), "", "{way:?} {signal}");
        }
    }
}

#[test]
fn a_command_that_cannot_be_executed_causes_exit_code_127_or_126_and_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    file("some.conf", "[program:x]\n", 0o644);
    // The beginning of an executable file for another machine.
    file("foreign", "\x7fELF\x02\x01\x01\0\0\0\0", 0o755);
    file("orphan", "#!/there/is/none\n", 0o755);
    file("windows", "#!/bin/sh\r\nexit\r\n", 0o755);
    file("second", "#!./orphan\n", 0o755);
    file("data", "#!./some.conf\n", 0o755);
    let hint = "not executable; did you mean -c FILE?";
    let cases = [
        ("no-such-command", 127, "not found"),
        ("./none", 127, "not found"),
        ("/there/is/none", 127, "not found"),
        ("./some.conf/x", 127, "not found"),
        ("", 127, "not found"),
        ("./some.conf", 126, hint),
        ("some.conf", 126, hint),
        ("/", 126, "Permission denied"),
        ("./foreign", 126, "Exec format error"),
        ("foreign", 127, "not found"),
        ("./orphan", 126, "No such file or directory (its interpreter '/there/is/none' does not exist)"),
        (
            "./windows",
            126,
            "No such file or directory (its interpreter '/bin/sh\\r' does not exist: the #! line ends with CR LF)",
        ),
        ("./second", 126, "No such file or directory (its interpreter '/there/is/none' does not exist)"),
        ("./data", 126, "Permission denied (its interpreter './some.conf' cannot be executed)"),
    ];
    for way in both_ways() {
        for (word, code, why) in cases {
            let output = rsup_with(way, &["--", word, "x"]).current_dir(&dir).output().unwrap();
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{way:?} {word:?}: {said}");
            assert_eq!(said, format!("rsup: can't run {word}: {why}\n"), "{way:?}");
            assert_eq!(text(&output.stdout), "");
        }
    }
}

#[test]
fn messages_about_the_command_line_escape_control_characters() {
    let cases: [(&[&str], &str); 4] = [
        (&["/no/such\nx\u{1b}[2J"], "rsup: can't run /no/such\\nx\\u{1b}[2J: not found\n"),
        (&["--", "\u{85}\u{7f}\r"], "rsup: can't run \\u{85}\\u{7f}\\r: not found\n"),
        (&["--x\u{1b}[2J"], "option --x\\u{1b}[2J not recognized\n"),
        (&["-c", "/no/such\u{1b}[2J"], "could not find config file /no/such\\x1b[2J\n"),
    ];
    for (words, message) in cases {
        let said = text(&output(Way::Foreground, words).stderr);
        assert!(said.contains(message), "{words:?}: {said:?}");
        assert!(!said.replace('\n', "").contains(char::is_control), "{words:?}: {said:?}");
    }
}

/// The text of a script that prints its own path and its arguments.
const SCRIPT: &str = "printf '%s\\n' \"$0 $*\"\nexit 3\n";

#[test]
fn a_script_without_a_first_line_is_run_by_sh_as_execvp_does() {
    let files = [("bin/job", SCRIPT), ("-e", SCRIPT), ("+x", SCRIPT), ("empty", "")];
    let set_up = |words: &[&str], way: Way| {
        let setup = command(words).run_as(way).env("PATH", "none:bin::/bin:/usr/bin");
        files.iter().fold(setup, |setup, (name, text)| setup.file(name, text, 0o755))
    };
    let cases: [(&[&str], i32, &str); 7] = [
        (&["./bin/job"], 3, "./bin/job \n"),
        (&["job"], 3, "bin/job \n"),
        (&["bin/job", "-x", "a  b", ""], 3, "bin/job -x a  b \n"),
        (&["./-e", "x"], 3, "./-e x\n"),
        (&["-e", "x"], 3, "-e x\n"),
        (&["+x"], 3, "+x \n"),
        (&["./empty", "x"], 0, ""),
    ];
    for way in both_ways() {
        for (words, code, printed) in cases {
            let (ended, rsup) = set_up(words, way).run();
            assert_eq!(
                (ended, &*rsup.read("stdout")),
                (code, printed),
                "{way:?} {words:?}: {:?}",
                rsup.log()
            );
        }
    }
}

#[test]
fn a_script_whose_first_line_begins_with_a_byte_order_mark_is_run_by_sh() {
    let text = format!("\u{feff}#!/bin/cat\n{SCRIPT}");
    let (code, rsup) = command(&["./job", "x"]).file("job", &text, 0o755).run();
    assert_eq!((code, &*rsup.read("stdout")), (3, "./job x\n"), "{:?}", rsup.log());
}

#[test]
fn a_script_without_a_first_line_cannot_run_if_there_is_no_shell() {
    needs!(root(), pid_namespace());
    let setup = command(&["./job"]).file("job", SCRIPT, 0o755).pid_1();
    // The shell that hides /bin has been started before.
    let (code, rsup) = setup.after("mount -t tmpfs none \"$(readlink -f /bin)\"").run();
    let log: Vec<_> = rsup.log().into_iter().map(|line| line.0).collect();
    assert_eq!((code, log), (126, vec!["rsup: can't run ./job: Exec format error".to_owned()]));
}

#[test]
fn a_file_in_path_without_an_x_bit_is_skipped() {
    // Like execvp, rsup executes the first file that can be executed. If EACCES is the last error, the exit code is
    // 126.
    let dir = tempfile::tempdir().unwrap();
    for place in ["a", "b"] {
        std::fs::create_dir(dir.path().join(place)).unwrap();
        std::fs::write(dir.path().join(place).join("job"), "#!/bin/sh\nexit 7\n").unwrap();
    }
    let run = || {
        let mut command = rsup_with(Way::Foreground, &["job"]);
        command.current_dir(&dir).env("PATH", "a:b:none").output().unwrap().status.code()
    };
    assert_eq!(run(), Some(126));
    std::os::unix::fs::chown(dir.path().join("b/job"), None, None).unwrap();
    let executable: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path().join("b/job"), executable).unwrap();
    assert_eq!(run(), Some(7));
}

#[test]
fn arguments_need_not_be_utf_8() {
    needs!(static_programs());
    let all: Vec<u8> = (1..=255).collect();
    for word in [&all[..], b"", b" a  b ", b"\xff\xfe", b"$HOME `x` 'y' \"z\"", b"--check"] {
        let mut command = rsup_with(Way::Foreground, &["--", probe(), "words"]);
        let output = command.arg(OsStr::from_bytes(word)).output().unwrap();
        assert_eq!(text(&output.stdout), format!("{word:02x?}\n"));
    }
    // The name of the command need not be UTF-8 either.
    let dir = tempfile::tempdir().unwrap();
    let name = OsStr::from_bytes(b"not \xff text");
    std::os::unix::fs::symlink(probe(), dir.path().join(name)).unwrap();
    let mut command = rsup_with(Way::Foreground, &["-s"]);
    let status = command.arg(name).args(["exit", "5"]).env("PATH", dir.path()).status().unwrap();
    assert_eq!(status.code(), Some(5));
    let mut command = rsup_with(Way::Foreground, &["--"]);
    let output = command.arg(OsStr::from_bytes(b"no-\xff")).output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    assert_eq!(text(&output.stderr), "rsup: can't run no-\u{fffd}: not found\n");
}

/// The lines that the probes have written into the file `events`.
fn events(rsup: &Rsup) -> Vec<String> {
    rsup.read("events").lines().map(str::to_owned).collect()
}

fn listener(setup: Setup) -> Rsup {
    let rsup = setup.start();
    for who in ["leader", "member"] {
        rsup.expect_in_file("events", &format!("{who} ready\n"));
    }
    rsup
}

#[test]
fn every_signal_that_can_be_caught_reaches_each_member_of_the_group_once() {
    needs!(static_programs());
    let forwarded: Vec<_> = (1..=64).filter(|signal| ![9, 17, 19].contains(signal)).collect();
    // rsup also forwards the signals that it was started with as ignored, because the command may handle them.
    let started = |ignored| [probe(), "with", "0", ignored];
    for (way, ignored) in both_ways().into_iter().flat_map(|way| [(way, "0"), (way, "ffffffffffffffff")]) {
        let listen = command(&[probe(), "listen", "events"]).run_as(way);
        let mut rsup = listener(listen.through(&started(ignored)));
        for signal in &forwarded {
            rsup.signal(*signal);
            for who in ["leader", "member"] {
                rsup.expect_in_file("events", &format!("{who} {signal}\n"));
            }
        }
        // The command gets SIGCHLD about its own child only.
        rsup.signal(libc::SIGCHLD);
        rsup.signal(libc::SIGUSR1);
        eventually("the last one arrives", || (events(&rsup).len() >= 2 * forwarded.len() + 4).then_some(()));
        assert_eq!(events(&rsup).len(), 2 * forwarded.len() + 4, "{way:?}: each once");
        let leader = proc::children(rsup.pid()).remove(0).pid;
        kill(leader, SIGKILL);
        // The remaining member ignores the forwarded SIGTERM, is not sent another one, and gets SIGKILL.
        assert_eq!(rsup.exit_code(), 128 + SIGKILL, "{way:?}");
        assert_eq!(events(&rsup).iter().filter(|line| *line == "member 15").count(), 1, "{way:?}: once");
    }
}

/// The signal mask and the ignored signals of the command, if rsup is started with these.
fn sets(way: Way, blocked: u64, ignored: u64) -> String {
    let blocked = format!("{blocked:x}");
    let ignored = format!("{ignored:x}");
    let setup = command(&[probe(), "sets"]).run_as(way);
    let (code, rsup) = setup.through(&[probe(), "with", &blocked, &ignored]).run();
    assert_eq!(code, 0);
    rsup.read("stdout")
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

#[test]
fn the_command_inherits_the_mask_and_the_ignored_signals() {
    needs!(static_programs());
    let unblockable = bit(SIGKILL) | bit(libc::SIGSTOP);
    let child = bit(libc::SIGCHLD);
    let some = bit(libc::SIGHUP) | bit(libc::SIGPIPE) | bit(libc::SIGUSR2) | bit(33) | bit(64);
    let cases = [
        (0, 0),
        (bit(SIGTERM), bit(libc::SIGINT)),
        (some, 0),
        (0, some),
        (bit(libc::SIGTTOU), bit(libc::SIGTTIN)),
        (0, child),
        (child, child),
        (u64::MAX, 0),
        (0, u64::MAX),
        (u64::MAX, u64::MAX),
    ];
    for way in both_ways() {
        for (blocked, ignored) in cases {
            let expected = format!(
                "blocked {:016x} ignored {:016x}\n",
                blocked & !unblockable,
                ignored & !unblockable & !child
            );
            assert_eq!(sets(way, blocked, ignored), expected, "{way:?} {blocked:x} {ignored:x}");
        }
    }
    for signal in 1..=64 {
        let ignored = bit(signal) & !unblockable & !child;
        let expected = format!("blocked {:016x} ignored {ignored:016x}\n", bit(signal) & !unblockable);
        assert_eq!(sets(Way::Foreground, bit(signal), bit(signal)), expected, "{signal}");
    }
}

#[test]
fn the_command_inherits_every_descriptor_but_rsups_own() {
    needs!(static_programs());
    for way in both_ways() {
        let open = |script: &str| {
            let (code, rsup) = command(&[probe(), "descriptors"]).after(script).run_as(way).run();
            assert_eq!(code, 0);
            rsup.read("stdout")
        };
        // A shell cannot name a descriptor above 9, but the test runner's parents may have left some open.
        let shut = "for n in 3 4 5 6 7 8 9; do eval \"exec $n>&-\"; done";
        let before = open(shut);
        assert!(before.starts_with("[0, 1, 2"), "{before}");
        let with = open(&format!("{shut}; exec 3</dev/null 5</dev/null 7>x"));
        assert_eq!(with, before.replace("[0, 1, 2", "[0, 1, 2, 3, 5, 7"), "{way:?}");
    }
}

#[test]
fn listen_pid_becomes_the_commands_pid() {
    for way in both_ways() {
        let listen = |pid: &str| {
            let script = format!("export LISTEN_PID={pid} LISTEN_FDS=1 LISTEN_FDNAMES=web LISTEN_PIDFDID=7");
            let ask = "echo $LISTEN_PID $LISTEN_FDS $LISTEN_FDNAMES ${LISTEN_PIDFDID-none}; echo $$";
            let (code, rsup) = command(&["sh", "-c", ask]).after(&script).run_as(way).run();
            assert_eq!(code, 0);
            rsup.read("stdout").lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let ours = listen("$$");
        assert_eq!(ours[0], format!("{} 1 web none", ours[1]), "{way:?}");
        assert_eq!(listen("4711")[0], "4711 1 web 7", "somebody else's stays");
    }
}

#[test]
fn the_command_inherits_the_environment() {
    let mut command = rsup_with(Way::Foreground, &["env"]);
    let output = command.env_clear().env("PATH", "/usr/bin:/bin").env("A", "b c=d").env("EMPTY", "").output();
    assert_eq!(text(&output.unwrap().stdout), "A=b c=d\nEMPTY=\nPATH=/usr/bin:/bin\n");
}

#[test]
fn without_a_path_commands_are_found_where_execvp_finds_them() {
    let mut command = rsup_with(Way::Foreground, &["sh", "-c", "exit 5"]);
    assert_eq!(command.env_clear().status().unwrap().code(), Some(5));
}

#[test]
fn the_command_inherits_stdin() {
    let mut child =
        rsup_with(Way::Foreground, &["cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"through rsup").unwrap();
    assert_eq!(text(&child.wait_with_output().unwrap().stdout), "through rsup");
}

#[test]
fn the_command_leads_its_own_process_group() {
    for way in both_ways() {
        let mut rsup = command(&["sleep", "1000"]).run_as(way).start();
        let pid = eventually("sleep runs", || {
            proc::children(rsup.pid()).into_iter().find(|child| child.name == "sleep")
        });
        assert_eq!(pid.group, pid.pid, "{way:?}");
        assert_eq!(rsup.stop(), 128 + SIGTERM, "{way:?}");
    }
}

#[test]
fn without_a_terminal_rsup_stops_when_the_command_stops_and_sigcont_continues_both() {
    // dumb-init's test_shell_background_support_setsid.
    let mut rsup = command(&["sleep", "1000"]).through(&["setsid"]).start();
    let sleep = eventually("sleep runs", || {
        rsup.tree().into_iter().find(|process| process.name == "sleep").map(|process| process.pid)
    });
    let both = |state: char| {
        eventually(&format!("rsup and the command are in state {state}"), || {
            let states = [rsup.pid(), sleep].map(|pid| proc::process(pid).unwrap().state);
            (states == [state; 2]).then_some(())
        });
    };
    for signal in [libc::SIGTSTP, libc::SIGTTOU, libc::SIGTTIN] {
        rsup.signal(signal);
        both('T');
        rsup.signal(SIGCONT);
        both('S');
    }
    kill(sleep, SIGSTOP);
    both('T');
    rsup.signal(SIGCONT);
    both('S');
    assert_eq!(rsup.stop(), 143);
}

#[test]
fn remaining_members_get_sigterm_when_the_command_has_exited() {
    for way in both_ways() {
        let trap = format!("trap \"echo term >> events; exit\" TERM; {}", forever("member"));
        let leader = format!("({trap}) & while [ ! -e member.ready ]; do sleep 0.02; done; exit 9");
        let before = Instant::now();
        let (code, rsup) = command(&["sh", "-c", &leader]).run_as(way).run();
        assert_eq!((code, rsup.read("events").as_str()), (9, "term\n"), "{way:?}");
        assert!(before.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn a_stopped_remaining_member_is_continued_and_terminated() {
    for way in both_ways() {
        let leader = "sleep 1000 & echo $! > member; kill -STOP $!; exit 9";
        let (code, rsup) = command(&["sh", "-c", leader]).run_as(way).run();
        assert_eq!(code, 9, "{way:?}");
        assert!(!rsup.read("member").is_empty());
    }
}

#[test]
fn pid_1_terminates_every_process_before_it_exits() {
    needs!(pid_namespace());
    let daemon = "trap \"sleep 0.2; echo term >> events; exit\" TERM; ".to_owned() + &forever("daemon");
    let leader = "setsid sh ./daemon.sh & while [ ! -e daemon.ready ]; do sleep 0.02; done; exit 9";
    let setup = command(&["sh", "-c", leader]).file("daemon.sh", &daemon, 0o755);
    let (code, rsup) = setup.pid_1().run();
    assert_eq!((code, rsup.read("events").as_str()), (9, "term\n"));
}

#[test]
fn pid_1_waits_one_second_for_a_process_that_ignores_sigterm() {
    needs!(pid_namespace());
    let stubborn = "trap \"\" TERM; ".to_owned() + &forever("stubborn");
    let leader = "setsid sh ./stubborn.sh & while [ ! -e stubborn.ready ]; do sleep 0.02; done; exit 9";
    let mut rsup = command(&["sh", "-c", leader]).file("stubborn.sh", &stubborn, 0o755).pid_1().start();
    rsup.expect_ready(&["stubborn"]);
    let before = Instant::now();
    assert_eq!(rsup.exit_code(), 9);
    assert!(before.elapsed() >= Duration::from_millis(900), "{:?}", before.elapsed());
}

#[test]
fn when_not_pid_1_a_daemon_of_another_session_keeps_running() {
    // The daemon is not in the command's process group. A shell would not signal it either.
    let daemon = "echo $$ > daemon; exec sleep 1000";
    let leader = "setsid sh ./daemon.sh >x 2>&1 & while [ ! -s daemon ]; do sleep 0.02; done; exit 9";
    let (code, rsup) = command(&["sh", "-c", leader]).file("daemon.sh", daemon, 0o755).run();
    assert_eq!(code, 9);
    let daemon = rsup.read("daemon").trim().parse().unwrap();
    assert!(proc::process(daemon).is_some_and(|daemon| !daemon.is_zombie()));
    kill(daemon, SIGKILL);
}

#[test]
fn sigterm_at_any_moment_of_the_start_ends_the_command() {
    for way in both_ways() {
        for delay in (0..2000).step_by(100).map(Duration::from_micros) {
            let mut rsup = command(&["sleep", "1000"]).run_as(way).start();
            let pid = rsup.pid();
            let asked = Instant::now();
            while asked.elapsed() < delay {
                std::hint::spin_loop();
            }
            kill(pid, SIGTERM);
            let code = eventually("rsup ends", || {
                let ended = rsup.ended();
                if ended.is_none() && way == Way::Pid1 {
                    // The kernel drops a signal to PID 1 that PID 1 neither blocks nor handles.
                    kill(pid, SIGTERM);
                }
                ended
            });
            // SIGTERM kills rsup, like any process, before rsup has blocked the signals.
            let expected = if way == Way::Foreground && code.is_none() { None } else { Some(128 + SIGTERM) };
            assert_eq!(code, expected, "{way:?} {delay:?}");
        }
    }
}

#[test]
fn orphans_are_reaped_while_the_command_runs() {
    for way in both_ways() {
        reaps(command(&BRINGS_ORPHANS).run_as(way), &way);
    }
}

/// A command that creates orphans.
pub(crate) const BRINGS_ORPHANS: [&str; 3] =
    ["sh", "-c", "for i in 1 2 3 4 5; do (sleep 0.01 & sleep 0.01 &) ; done; exec sleep 1000"];

/// Runs that command, and checks that rsup reaps every orphan.
pub(crate) fn reaps(setup: Setup, what: &dyn Debug) {
    let mut running = setup.start();
    eventually("only the command is left", || {
        let tree = running.tree();
        (tree.len() == 1 && tree[0].name == "sleep").then_some(())
    });
    assert_eq!(running.stop(), 128 + SIGTERM, "{what:?}");
}

#[test]
fn stop_timeout_begins_at_the_first_sigterm() {
    for way in both_ways() {
        let script = format!("trap \"echo term >> events\" TERM; {}", forever("stubborn"));
        let setup = command(&["sh", "-c", &script]).args(&["--stop-timeout", "1"]).run_as(way);
        let mut rsup = setup.start();
        rsup.expect_ready(&["stubborn"]);
        let before = Instant::now();
        rsup.signal(SIGTERM);
        rsup.expect_in_file("events", "term\n");
        // A second SIGTERM does not postpone the deadline.
        let again = within(Duration::from_millis(500), || rsup.has_left().then_some(()));
        assert!(again.is_none(), "killed too early");
        rsup.signal(SIGTERM);
        assert_eq!(rsup.exit_code(), 128 + SIGKILL, "{way:?}");
        let took = before.elapsed();
        assert!(took >= Duration::from_millis(990) && took < Duration::from_secs(10), "{took:?}");
    }
}

#[test]
fn an_interrupted_wait_does_not_postpone_stop_timeout() {
    // SIGSTOP and SIGCONT interrupt the wait, as `docker pause` and a debugger do.
    needs!(installed("strace"));
    let script = format!("trap \"\" TERM; {}", forever("stubborn"));
    let mut rsup = command(&["sh", "-c", &script]).args(&["--stop-timeout", "1"]).start();
    rsup.expect_ready(&["stubborn"]);
    rsup.signal(SIGTERM);
    eventually("it is killed", || {
        let words = ["0.2", "strace", "-qo", "/dev/null", "-p", &rsup.pid().to_string()];
        let _output = Command::new("timeout").args(words).output().unwrap();
        rsup.has_left().then_some(())
    });
    assert_eq!(rsup.exit_code(), 128 + SIGKILL);
}

#[test]
fn stop_timeout_also_limits_the_wait_for_remaining_members() {
    // The command exits late, and a remaining member ignores SIGTERM.
    let stubborn = "trap \"\" TERM; ".to_owned() + &forever("stubborn");
    let leader = format!("trap \"sleep 0.6; exit 3\" TERM; ({stubborn}) & {}", forever("leader"));
    for way in both_ways() {
        let setup = command(&["sh", "-c", &leader]).args(&["--stop-timeout", "1"]).run_as(way);
        let mut rsup = setup.start();
        rsup.expect_ready(&["stubborn", "leader"]);
        let before = Instant::now();
        assert_eq!(rsup.stop(), 3, "{way:?}");
        let took = before.elapsed();
        assert!(took >= Duration::from_millis(990) && took < Duration::from_millis(1550), "{way:?} {took:?}");
    }
}

/// `node.sh`, a program that writes each SIGTERM into a file and ends `seconds` after the first one.
fn node(seconds: &str) -> String {
    format!(
        "trap 'echo term >> events; if [ -z \"$again\" ]; then again=1; sleep {seconds}; echo clean >> events; exit; fi' TERM
        {}",
        forever("node")
    )
}

/// The command of the report: `bash -c 'trap : TERM; node & wait $!'`.
const LAUNCHER: [&str; 3] = ["sh", "-c", "trap : TERM; sh ./node.sh & wait $!"];

#[test]
fn a_remaining_member_gets_one_sigterm_and_the_time_that_stop_timeout_leaves() {
    for way in both_ways() {
        let setup = command(&LAUNCHER).args(&["--stop-timeout", "8"]).file("node.sh", &node("3"), 0o755);
        let mut rsup = setup.run_as(way).start();
        rsup.expect_ready(&["node"]);
        let before = Instant::now();
        // The shell's wait ends by SIGTERM, and the shell exits at once.
        assert_eq!(rsup.stop(), 128 + SIGTERM, "{way:?}");
        let took = before.elapsed();
        assert!(took >= Duration::from_secs(3) && took < Duration::from_secs(5), "{way:?} {took:?}");
        assert_eq!(events(&rsup), ["term", "clean"], "{way:?}");
    }
}

#[test]
fn without_stop_timeout_a_remaining_member_gets_one_sigterm_and_one_second() {
    for way in both_ways() {
        let setup = command(&LAUNCHER).file("node.sh", &node("0.5"), 0o755);
        let mut rsup = setup.run_as(way).start();
        rsup.expect_ready(&["node"]);
        assert_eq!(rsup.stop(), 128 + SIGTERM, "{way:?}");
        assert_eq!(events(&rsup), ["term", "clean"], "{way:?}");
    }
}

#[test]
fn a_member_that_was_forked_after_the_forwarded_sigterm_is_asked_when_the_command_ends() {
    for way in both_ways() {
        let leader = "trap 'sh ./node.sh & while [ ! -e node.ready ]; do sleep 0.02; done; exit 4' TERM; echo > up; sleep 1000 & wait";
        let setup = command(&["sh", "-c", leader]).file("node.sh", &node("0.2"), 0o755);
        let mut rsup = setup.run_as(way).start();
        eventually("the command runs", || rsup.path("up").exists().then_some(()));
        assert_eq!(rsup.stop(), 4, "{way:?}");
        assert_eq!(events(&rsup), ["term", "clean"], "{way:?}");
    }
}

#[test]
fn a_stopped_member_that_was_sent_the_forwarded_sigterm_is_continued() {
    for way in both_ways() {
        let setup = command(&LAUNCHER).args(&["--stop-timeout", "20"]).file("node.sh", &node("0.2"), 0o755);
        let mut rsup = setup.run_as(way).start();
        rsup.expect_ready(&["node"]);
        let node = rsup
            .tree()
            .into_iter()
            .find(|process| proc::words(process.pid).contains(&"./node.sh".to_owned()));
        kill(node.unwrap().pid, SIGSTOP);
        let before = Instant::now();
        assert_eq!(rsup.stop(), 128 + SIGTERM, "{way:?}");
        assert!(before.elapsed() < Duration::from_secs(10), "{way:?}");
        assert_eq!(events(&rsup), ["term", "clean"], "{way:?}");
    }
}

#[test]
fn pid_1_asks_processes_outside_the_group_of_the_command_before_the_stop_deadline() {
    needs!(pid_namespace());
    let daemon = format!("trap 'echo daemon >> events' TERM; {}", forever("daemon"));
    let leader = format!("setsid sh ./daemon.sh & trap 'echo leader >> events' TERM; {}", forever("leader"));
    let setup = command(&["sh", "-c", &leader]).args(&["--stop-timeout", "3"]);
    let mut rsup = setup.file("daemon.sh", &daemon, 0o755).pid_1().start();
    rsup.expect_ready(&["daemon", "leader"]);
    let before = Instant::now();
    rsup.signal(SIGTERM);
    rsup.expect_in_file("events", "leader\n");
    never("the daemon was asked too early", Duration::from_millis(1500), || {
        rsup.read("events").contains("daemon")
    });
    assert_eq!(rsup.exit_code(), 128 + SIGKILL);
    let took = before.elapsed();
    assert!(took >= Duration::from_millis(2980) && took < Duration::from_millis(3900), "{took:?}");
    assert_eq!(events(&rsup), ["leader", "daemon"], "each once");
}

#[test]
fn pid_1_asks_processes_outside_the_group_of_the_command_when_the_command_ends() {
    needs!(pid_namespace());
    let daemon = format!(
        "trap 'echo daemon >> events; sleep 0.5; echo clean >> events; exit' TERM; {}",
        forever("daemon")
    );
    let leader =
        format!("setsid sh ./daemon.sh & trap 'echo leader >> events; exit 3' TERM; {}", forever("leader"));
    let setup = command(&["sh", "-c", &leader]).file("daemon.sh", &daemon, 0o755);
    let mut rsup = setup.pid_1().start();
    rsup.expect_ready(&["daemon", "leader"]);
    assert_eq!(rsup.stop(), 3);
    assert_eq!(events(&rsup), ["leader", "daemon", "clean"]);
}

#[test]
fn without_stop_timeout_rsup_never_kills_the_command() {
    let script = format!("trap \"echo term >> events; sleep 1.5; exit 4\" TERM; {}", forever("slow"));
    let mut rsup = command(&["sh", "-c", &script]).start();
    rsup.expect_ready(&["slow"]);
    assert_eq!(rsup.stop(), 4);
}

#[test]
fn rsup_runs_a_command_in_a_root_directory_that_holds_nothing_else() {
    needs!(root(), static_programs(), crate::resource_use::shipped_binary());
    let image = tempfile::tempdir().unwrap();
    copy_executable(&binary(), &image.path().join("rsup"));
    copy_executable(probe().as_ref(), &image.path().join("probe"));
    for way in both_ways() {
        let run = |words: &[&str]| {
            let mut through: Vec<_> = match way {
                Way::Foreground => vec!["chroot"],
                Way::Pid1 => vec!["unshare", "-pf", "--kill-child", "chroot"],
            };
            through.push(image.path().to_str().unwrap());
            through.extend(words);
            Command::new(through[0]).args(&through[1..]).stdin(Stdio::null()).output().unwrap()
        };
        assert_eq!(run(&["/rsup", "--", "/probe", "exit", "7"]).status.code(), Some(7), "{way:?}");
        let lost = run(&["/rsup", "/lost"]);
        assert_eq!(
            (lost.status.code(), text(&lost.stderr).as_str()),
            (Some(127), "rsup: can't run /lost: not found\n")
        );
        let none = run(&["/rsup", "lost"]);
        assert_eq!(none.status.code(), Some(127));
    }
    // rsup also runs a command if the three standard descriptors are closed.
    let script = "exec <&- >&- 2>&-; exec chroot \"$1\" /rsup -- /probe exit 6";
    let closed = Command::new("sh").args(["-c", script, "sh"]).arg(image.path()).status().unwrap();
    assert_eq!((closed.code(), closed.signal()), (Some(6), None));
}
