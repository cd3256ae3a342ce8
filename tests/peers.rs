//! The same commands under rsup and under the inits that Debian packages. Where tini and dumb-init agree, rsup must do
//! the same. Where they differ, each test lists what each init does.

use std::path::PathBuf;
use std::time::Duration;

use crate::command::{BRINGS_ORPHANS, reaps};
use crate::support::probe::{probe, static_programs};
use crate::support::pty::Terminal;
use crate::support::{
    SIGKILL, SIGTERM, Setup, Way, binary, both_ways, command, eventually, find, forever, installed, kill,
    needs, never, proc, skip,
};

/// An init that runs one command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Peer {
    Rsup,
    Tini,
    DumbInit,
    Catatonit,
}

use Peer::{Catatonit, DumbInit, Rsup, Tini};

impl Peer {
    /// rsup and all other inits that are installed.
    fn all() -> Vec<Self> {
        let is_installed = |peer: &Self| match peer {
            Rsup => true,
            other => installed(other.words()[0]).map_err(|why| skip(&why)).is_ok(),
        };
        [Rsup, Tini, DumbInit, Catatonit].into_iter().filter(is_installed).collect()
    }

    /// The command line of the init. The options select what the other inits do by default: `-g` forwards signals to
    /// the process group, and `-s` makes tini a child subreaper.
    fn words(self) -> &'static [&'static str] {
        match self {
            Rsup => &["rsup"],
            Tini => &["tini", "-s", "-g"],
            DumbInit => &["dumb-init"],
            Catatonit => &["catatonit", "-g"],
        }
    }

    fn binary(self) -> PathBuf {
        match self {
            Rsup => binary(),
            other => find(other.words()[0]).unwrap(),
        }
    }

    /// The set-up of a test that runs this command under the init.
    fn with(self, words: &[&str]) -> Setup {
        command(words).args(&self.words()[1..]).instead(self.binary())
    }

    /// Runs a command under the init and returns the exit code of the init.
    fn run(self, way: Way, words: &[&str]) -> i32 {
        self.with(words).run_as(way).run().0
    }
}

#[test]
fn every_init_exits_with_the_code_of_the_command_or_128_plus_the_signal() {
    needs!(static_programs());
    for peer in Peer::all() {
        for way in both_ways() {
            for code in [0, 1, 7, 127, 255] {
                assert_eq!(peer.run(way, &["sh", "-c", &format!("exit {code}")]), code, "{peer:?} {way:?}");
            }
            for signal in [1, 2, 6, 9, 11, 13, 15, 40, 64] {
                // `with 0 0` starts the init with no signal blocked and no signal ignored, because the test runner may
                // ignore some.
                let script = format!("ulimit -c 0; kill -{signal} $$");
                let clean = peer.with(&["sh", "-c", &script]).through(&[probe(), "with", "0", "0"]);
                assert_eq!(clean.run_as(way).run().0, 128 + signal, "{peer:?} {way:?}");
            }
        }
    }
}

#[test]
fn a_command_that_cannot_run_gives_the_exit_codes_of_a_shell_under_rsup_and_tini() {
    for peer in Peer::all() {
        // dumb-init and catatonit have one exit code for every error.
        let (not_found, not_executable) = match peer {
            Rsup | Tini => (127, 126),
            DumbInit => (2, 2),
            Catatonit => (1, 1),
        };
        for way in both_ways() {
            assert_eq!(peer.run(way, &["no-such-command"]), not_found, "{peer:?} {way:?}");
            assert_eq!(peer.run(way, &["/there/is/none"]), not_found, "{peer:?} {way:?}");
            assert_eq!(peer.run(way, &["/"]), not_executable, "{peer:?} {way:?}");
            assert_eq!(peer.run(way, &["./supervisord.conf"]), not_executable, "{peer:?} {way:?}");
        }
    }
}

#[test]
fn every_signal_reaches_each_process_of_the_commands_process_group_once() {
    needs!(static_programs());
    // KILL and STOP cannot be caught. CHLD is about the children of the init. TSTP, TTIN and TTOU are about terminals,
    // and other tests send them. TERM is sent last.
    let all: Vec<_> = (1..=64).filter(|signal| ![9, 15, 17, 19, 20, 21, 22].contains(signal)).collect();
    for peer in Peer::all() {
        // The init does not forward these signals. Most of them end an init that is not PID 1, so the test sends them
        // only to PID 1.
        let kept: &[i32] = match peer {
            Rsup => &[],
            // The signals that a fault in the program itself causes, and the signals that glibc reserves.
            Tini | Catatonit => &[4, 5, 6, 7, 8, 11, 31, 32, 33],
            DumbInit => &[32, 33],
        };
        for way in both_ways() {
            let mut running = peer.with(&[probe(), "listen", "events"]).run_as(way).start();
            let expect = |what: &str| {
                for who in ["leader", "member"] {
                    running.expect_in_file("events", &format!("{who} {what}\n"));
                }
            };
            expect("ready");
            // SIGTERM comes last. An earlier signal that has not arrived when SIGTERM arrives was not forwarded.
            for signal in all.iter().chain([&SIGTERM]) {
                if !kept.contains(signal) {
                    running.signal(*signal);
                    expect(&signal.to_string());
                } else if way == Way::Pid1 {
                    running.signal(*signal);
                }
            }
            let events = running.read("events");
            let count = 2 * (1 + all.len() - kept.len() + 1);
            assert_eq!(events.lines().count(), count, "{peer:?} {way:?}: each signal once: {events}");
            running.tree().iter().rev().for_each(|process| kill(process.pid, SIGKILL));
            assert_eq!(running.exit_code(), 128 + SIGKILL, "{peer:?} {way:?}");
        }
    }
}

/// The shell command line that starts a command under the init.
fn line(peer: Peer, command: &str) -> String {
    let options = peer.words()[1..].join(" ");
    format!("{} {options} -- {command}", peer.binary().display())
}

#[test]
fn the_command_is_in_the_foreground_of_the_terminal() {
    for peer in Peer::all() {
        let dir = tempfile::tempdir().unwrap();
        let line = format!("exec {}", line(peer, "cat"));
        let mut terminal = Terminal::start(&["sh", "-c", &line], dir.path());
        terminal.enter("one\n");
        terminal.expect("one");
        let cat = terminal.process("cat", 'S');
        assert_eq!(terminal.foreground(), cat, "{peer:?}");
        assert_eq!(proc::process(cat).unwrap().group, cat, "{peer:?}");
        terminal.enter("\x03");
        assert_eq!(terminal.exit_code(), 130, "{peer:?}");
    }
}

#[test]
fn ctrl_z_stops_rsup_and_dumb_init_together_with_the_command() {
    for peer in Peer::all() {
        let dir = tempfile::tempdir().unwrap();
        let mut terminal = Terminal::start(&["sh", "-i"], dir.path());
        terminal.expect("$ ");
        terminal.enter(&format!("{}; echo co''de=$?.\n", line(peer, "cat")));
        terminal.enter("one\n");
        terminal.expect("one");
        terminal.enter("\x1a");
        match peer {
            Rsup | DumbInit => {
                terminal.expect("Stopped");
                terminal.process("cat", 'T');
                terminal.enter("fg; echo the''n co''de=$?.\n");
            }
            // The command stops, but tini does not, so the shell waits for ever.
            Tini => {
                terminal.process("cat", 'T');
                never("the shell reported a stopped job", Duration::from_millis(200), || {
                    terminal.shown().contains("Stopped")
                });
                continue;
            }
            // ^Z has no effect, because catatonit starts the command with SIGTSTP blocked.
            Catatonit => {}
        }
        terminal.enter("two\n");
        terminal.expect("two");
        terminal.enter("\x04");
        terminal.expect("code=0.");
    }
}

#[test]
fn every_init_reaps_orphans() {
    for peer in Peer::all() {
        for way in both_ways() {
            // When dumb-init is not PID 1, it does not adopt orphans, and another process reaps them.
            reaps(peer.with(&BRINGS_ORPHANS).run_as(way), &(peer, way));
        }
    }
}

#[test]
fn the_command_inherits_blocked_and_ignored_signals_from_rsup_and_tini() {
    needs!(static_programs());
    let bit = |signal: i32| 1_u64 << (signal - 1);
    let ignored = bit(libc::SIGHUP) | bit(libc::SIGUSR1);
    let blocked = bit(libc::SIGUSR2) | bit(40);
    let stops = bit(libc::SIGTSTP) | bit(libc::SIGTTIN) | bit(libc::SIGTTOU);
    for peer in Peer::all() {
        let expected = match peer {
            // With `nohup rsup -- command`, the command must ignore SIGHUP.
            Rsup | Tini => (blocked, ignored),
            DumbInit => (0, 0),
            Catatonit => (blocked | stops, ignored),
        };
        for way in both_ways() {
            let sets = [format!("{blocked:x}"), format!("{ignored:x}")];
            let through = [probe(), "with", &sets[0], &sets[1]];
            let (code, ended) = peer.with(&[probe(), "sets"]).through(&through).run_as(way).run();
            assert_eq!(code, 0, "{peer:?} {way:?}");
            let expected = format!("blocked {:016x} ignored {:016x}\n", expected.0, expected.1);
            assert_eq!(ended.read("stdout"), expected, "{peer:?} {way:?}");
        }
    }
}

#[test]
fn rsup_waits_for_the_remaining_members_of_the_commands_process_group() {
    for peer in Peer::all() {
        let trap = format!(
            "sh -c 'echo $PPID' > member; trap \"echo term >> events; exit\" TERM; {}",
            forever("member")
        );
        let leader = format!("({trap}) & while [ ! -e member.ready ]; do sleep 0.02; done; exit 9");
        let mut running = peer.with(&["sh", "-c", &leader]).start();
        eventually("the init exits", || running.has_left().then_some(()));
        match peer {
            Rsup => assert_eq!(running.read("events"), "term\n", "rsup waits for the remaining member"),
            // dumb-init sends SIGTERM and does not wait.
            DumbInit => running.expect_in_file("events", "term\n"),
            // tini and catatonit send no signal, and the remaining member keeps running.
            Tini | Catatonit => {
                let member = running.read("member").trim().parse().unwrap();
                never("the remaining member got SIGTERM", Duration::from_millis(200), || {
                    !running.read("events").is_empty()
                });
                kill(member, SIGKILL);
            }
        }
        assert_eq!(running.exit_code(), 9, "{peer:?}");
    }
}
