//! The same under the inits that Debian has: where tini and dumb-init agree, rsup does the same, and where they do not,
//! it says whom it follows.

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
    /// Those that are installed, rsup first.
    fn all() -> Vec<Self> {
        let there = |peer: &Self| match peer {
            Rsup => true,
            other => installed(other.words()[0]).map_err(|why| skip(&why)).is_ok(),
        };
        [Rsup, Tini, DumbInit, Catatonit].into_iter().filter(there).collect()
    }

    /// How it is called, to do for groups and orphans what others do anyway.
    fn words(self) -> &'static [&'static str] {
        match self {
            Rsup => &["rsup"],
            Tini => &["tini", "-s", "-g"],
            DumbInit => &["dumb-init"],
            Catatonit => &["catatonit", "-g"],
        }
    }

    /// Where it is.
    fn binary(self) -> PathBuf {
        match self {
            Rsup => binary(),
            other => find(other.words()[0]).unwrap(),
        }
    }

    /// It with a command.
    fn with(self, words: &[&str]) -> Setup {
        command(words).args(&self.words()[1..]).instead(self.binary())
    }

    /// Runs a command under it; its exit code.
    fn run(self, way: Way, words: &[&str]) -> i32 {
        self.with(words).run_as(way).run().0
    }
}

#[test]
fn exit_codes() {
    needs!(static_programs());
    for peer in Peer::all() {
        for way in both_ways() {
            for code in [0, 1, 7, 127, 255] {
                assert_eq!(peer.run(way, &["sh", "-c", &format!("exit {code}")]), code, "{peer:?} {way:?}");
            }
            for signal in [1, 2, 6, 9, 11, 13, 15, 40, 64] {
                // Wherever the tests run, none is ignored.
                let script = format!("ulimit -c 0; kill -{signal} $$");
                let clean = peer.with(&["sh", "-c", &script]).through(&[probe(), "with", "0", "0"]);
                assert_eq!(clean.run_as(way).run().0, 128 + signal, "{peer:?} {way:?}");
            }
        }
    }
}

#[test]
fn commands_that_cannot_run() {
    for peer in Peer::all() {
        // Those of a shell, which tini has too; the others have one for everything that is wrong.
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
fn signals_go_to_the_whole_group() {
    needs!(static_programs());
    // KILL and STOP cannot be had, CHLD is the init's own; TSTP, TTIN and TTOU are about terminals: see below. TERM
    // comes last.
    let all: Vec<_> = (1..=64).filter(|signal| ![9, 15, 17, 19, 20, 21, 22].contains(signal)).collect();
    for peer in Peer::all() {
        // What stays with it; as an ordinary process it would die of most.
        let kept: &[i32] = match peer {
            Rsup => &[],
            // Those of a fault, and those that its C library does not let it have.
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
            // One more behind the last shows that those before have not come.
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
            assert_eq!(events.lines().count(), count, "{peer:?} {way:?}: each once: {events}");
            running.tree().iter().rev().for_each(|process| kill(process.pid, SIGKILL));
            assert_eq!(running.exit_code(), 128 + SIGKILL, "{peer:?} {way:?}");
        }
    }
}

/// The line that starts a command under it.
fn line(peer: Peer, command: &str) -> String {
    let options = peer.words()[1..].join(" ");
    format!("{} {options} -- {command}", peer.binary().display())
}

#[test]
fn the_terminal_is_the_commands() {
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
fn ctrl_z_under_a_shell() {
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
            // The command stops, and nobody tells the shell, which waits for ever.
            Tini => {
                terminal.process("cat", 'T');
                never("the shell was told", Duration::from_millis(200), || {
                    terminal.shown().contains("Stopped")
                });
                continue;
            }
            // The key is dead: the command has its signal blocked.
            Catatonit => {}
        }
        terminal.enter("two\n");
        terminal.expect("two");
        terminal.enter("\x04");
        terminal.expect("code=0.");
    }
}

#[test]
fn orphans_are_reaped() {
    for peer in Peer::all() {
        for way in both_ways() {
            // Elsewhere dumb-init does not adopt them: then they are somebody else's to reap.
            reaps(peer.with(&BRINGS_ORPHANS).run_as(way), &(peer, way));
        }
    }
}

#[test]
fn blocked_and_ignored_signals() {
    needs!(static_programs());
    let bit = |signal: i32| 1_u64 << (signal - 1);
    let ignored = bit(libc::SIGHUP) | bit(libc::SIGUSR1);
    let blocked = bit(libc::SIGUSR2) | bit(40);
    let stops = bit(libc::SIGTSTP) | bit(libc::SIGTTIN) | bit(libc::SIGTTOU);
    for peer in Peer::all() {
        let expected = match peer {
            // What `nohup` says is meant for the command.
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
fn what_a_command_leaves_in_its_group() {
    for peer in Peer::all() {
        let trap = format!(
            "sh -c 'echo $PPID' > member; trap \"echo term >> events; exit\" TERM; {}",
            forever("member")
        );
        let leader = format!("({trap}) & while [ ! -e member.ready ]; do sleep 0.02; done; exit 9");
        let mut running = peer.with(&["sh", "-c", &leader]).start();
        eventually("it leaves", || running.has_left().then_some(()));
        match peer {
            Rsup => assert_eq!(running.read("events"), "term\n", "it is waited for"),
            DumbInit => running.expect_in_file("events", "term\n"),
            // They stay.
            Tini | Catatonit => {
                let member = running.read("member").trim().parse().unwrap();
                never("it was told", Duration::from_millis(200), || !running.read("events").is_empty());
                kill(member, SIGKILL);
            }
        }
        assert_eq!(running.exit_code(), 9, "{peer:?}");
    }
}
