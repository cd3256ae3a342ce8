//! A process that SIGKILL does not end must not delay rsup. There are two such cases: the kernel cannot end the process
//! at once (for example during I/O on a dead disk), or rsup has no permission to signal the process. These tests
//! simulate the dead disk with a freezer cgroup of version 1.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::support::freezer::Freezer;
use crate::support::{
    Rsup, SIGKILL, SIGTERM, Setup, Way, at_once, both_ways, command, copy_executable, eventually, installed,
    kill, needs, proc, program, root, rsup, script, skip,
};

/// A script that writes its PID into the file `frozen` and then executes sleep. The tests freeze this process.
const FROZEN: &str = "echo $$ > frozen; exec sleep 1000";

/// Programs in which the frozen process is the leader, another member of the process group, or a daemon with a session
/// of its own.
const PROGRAMS: [&str; 3] =
    ["exec sh ./frozen.sh", "sh ./frozen.sh & exec sleep 1000", "setsid sh ./frozen.sh & exec sleep 1000"];

/// Starts rsup. Returns rsup and the PID of the process that the test will freeze.
fn start(setup: Setup, way: Way) -> (Rsup, i32) {
    let rsup = setup.file("frozen.sh", FROZEN, 0o755).run_as(way).start();
    let pid = eventually("frozen.sh runs", || rsup.read("frozen").trim().parse().ok());
    let pid = rsup.host_pid(pid);
    eventually("frozen.sh has executed sleep", || {
        proc::process(pid).filter(|process| process.name == "sleep")
    });
    (rsup, pid)
}

/// Sends SIGTERM to rsup. rsup must exit with this code after this number of seconds, although a process is left.
/// `release` then lets the remaining process end.
#[track_caller]
fn exits_after(rsup: &mut Rsup, way: Way, code: i32, seconds: u64, release: impl FnOnce()) {
    let before = Instant::now();
    rsup.signal(SIGTERM);
    rsup.expect("processes left behind");
    if way == Way::Foreground {
        assert_eq!(eventually("rsup exits", || rsup.ended()), Some(code));
    }
    let took = before.elapsed();
    assert!(
        took >= Duration::from_secs(seconds) && took < Duration::from_secs(seconds + 4),
        "{way:?} {took:?}"
    );
    // The exit of PID 1 completes only when no other process of the PID namespace is left.
    release();
    assert_eq!(rsup.exit_code(), code, "{way:?}");
}

/// The same for a process that refuses SIGKILL: rsup exits after this number of seconds and waits no further second.
#[track_caller]
fn exits_within_a_second_of(seconds: u64, rsup: &mut Rsup, way: Way, code: i32, release: impl FnOnce()) {
    let before = Instant::now();
    exits_after(rsup, way, code, seconds, || {
        let took = before.elapsed();
        assert!(took < Duration::from_millis(seconds * 1000 + 900), "{way:?} {took:?}");
        release();
    });
}

#[test]
fn rsup_exits_one_second_after_the_stop_deadline_although_a_program_is_frozen() {
    needs!(Freezer::new().map(drop));
    at_once(&both_ways(), |&way| {
        at_once(&PROGRAMS, |&body| {
            let freezer = Freezer::new().unwrap();
            let conf = script("web", body) + "stopwaitsecs=600\n" + &program("other", "sleep 1000");
            let (mut rsup, frozen) = start(rsup(&conf).args(&["--stop-timeout", "1"]), way);
            rsup.expect("success: other");
            freezer.freeze(frozen);
            // One second until the stop deadline, and one second after SIGKILL.
            exits_after(&mut rsup, way, 0, 2, || {
                assert!(freezer.holds(frozen), "{body}: the process was not frozen");
                freezer.thaw();
            });
            assert_eq!(rsup.lines("stopped: other (terminated by SIGTERM)").len(), 1);
            eventually("the thawed process ends by SIGKILL", || {
                proc::process(frozen).is_none().then_some(())
            });
        });
    });
}

#[test]
fn rsup_exits_after_twice_stopwaitsecs_and_one_second_although_a_leader_is_frozen() {
    needs!(Freezer::new().map(drop));
    at_once(&both_ways(), |&way| {
        let freezer = Freezer::new().unwrap();
        let (mut rsup, frozen) = start(rsup(&(script("web", PROGRAMS[0]) + "stopwaitsecs=1\n")), way);
        freezer.freeze(frozen);
        // stopwaitsecs for the program, the same time for the sweep, and one second after SIGKILL.
        exits_after(&mut rsup, way, 0, 3, || freezer.thaw());
        eventually("the thawed process ends by SIGKILL", || proc::process(frozen).is_none().then_some(()));
    });
}

#[test]
fn rsup_exits_one_second_after_the_stop_deadline_although_the_command_is_frozen() {
    needs!(Freezer::new().map(drop));
    at_once(&both_ways(), |&way| {
        at_once(&[(PROGRAMS[0], 128 + SIGKILL), (PROGRAMS[1], 128 + SIGTERM)], |&(body, code)| {
            let freezer = Freezer::new().unwrap();
            let (mut rsup, frozen) = start(command(&["sh", "-c", body]).args(&["--stop-timeout", "1"]), way);
            freezer.freeze(frozen);
            exits_after(&mut rsup, way, code, 2, || freezer.thaw());
            eventually("the thawed process ends by SIGKILL", || {
                proc::process(frozen).is_none().then_some(())
            });
        });
    });
}

/// The kernel merges the SIGCHLDs of the two exits into one SIGCHLD, which contains the PID of the first exit.
#[test]
fn an_exit_that_triggers_shutdown_on_counts_before_another_program_is_restarted() {
    needs!(Freezer::new().map(drop));
    at_once(&both_ways(), |&way| {
        let freezer = Freezer::new().unwrap();
        let conf = program("again", "sleep 1000") + "autorestart=true\n" + &program("once", "sleep 1000");
        let mut rsup = rsup(&(conf + "autorestart=false\nshutdown_on=exited\n")).run_as(way).start();
        rsup.expect_all(&["success: again", "success: once"]);
        let pids = ["again", "once"].map(|program| rsup.pid_of(program));
        freezer.freeze(rsup.pid());
        for pid in pids {
            kill(pid, SIGKILL);
            eventually("the program is a zombie", || proc::process(pid)?.is_zombie().then_some(()));
        }
        freezer.thaw();
        assert_eq!(rsup.exit_code(), 128 + SIGKILL, "{way:?}");
        assert_eq!(rsup.lines("spawned: 'again'").len(), 1, "{way:?}");
    });
}

#[test]
fn rsup_exits_although_it_has_no_permission_to_signal_an_inherited_child() {
    needs!(root());
    // The shell starts a child as root and then executes rsup as another user.
    let start =
        "setsid sleep 1000 >x 2>&1 & echo $! > foreign; exec setpriv --reuid=54398 --clear-groups \"$@\"";
    at_once(&both_ways(), |&way| {
        let conf = program("web", "sleep 1000") + "stopwaitsecs=1\n";
        let mut rsup = rsup(&conf).through(&["sh", "-c", start, "sh"]).run_as(way).start();
        rsup.expect("success: web");
        let foreign = rsup.host_pid(rsup.read("foreign").trim().parse().unwrap());
        // stopwaitsecs for the sweep. rsup does not wait after the SIGKILL that the kernel has refused.
        exits_within_a_second_of(1, &mut rsup, way, 0, || kill(foreign, SIGKILL));
        assert_eq!(rsup.lines("left behind").len(), 1, "{:?}", rsup.log());
    });
}

/// Makes rsup run as a user without permission to signal the processes that `./become-root`, a setuid copy of setpriv,
/// starts.
fn unprivileged(setup: Setup) -> Setup {
    let copy = setup.path("become-root");
    copy_executable("/usr/bin/setpriv".as_ref(), &copy);
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755)).unwrap();
    setup.through(&["setpriv", "--reuid=54398", "--clear-groups"])
}

const BECOME_ROOT: &str = "./become-root --reuid=0 sleep 1000";

/// The PID of the process that has become root. There is none if the file system ignores the setuid bit.
fn root_process(rsup: &Rsup) -> Option<i32> {
    let is_it = |process: &proc::Process| proc::words(process.pid) == ["sleep", "1000"];
    let sleep = eventually("sleep runs", || rsup.tree().into_iter().find(is_it));
    let is_root = proc::status(sleep.pid, "Uid")?.split_whitespace().all(|uid| uid == "0");
    is_root.then_some(sleep.pid)
}

#[test]
fn rsup_exits_although_it_has_no_permission_to_signal_a_program() {
    needs!(root(), installed("setpriv"));
    at_once(&both_ways(), |&way| {
        let conf = program("web", BECOME_ROOT) + "stopwaitsecs=600\n";
        let setup = unprivileged(rsup(&conf).args(&["--stop-timeout", "1"]));
        let mut rsup = setup.run_as(way).start();
        rsup.expect("success: web");
        let Some(foreign) = root_process(&rsup) else {
            return skip(&"needs a /tmp that is not mounted with nosuid");
        };
        // The stop deadline. rsup does not wait after the SIGKILL that the kernel has refused.
        exits_within_a_second_of(1, &mut rsup, way, 0, || kill(foreign, SIGKILL));
        assert!(!rsup.lines("CRIT unknown problem killing web").is_empty(), "{:?}", rsup.log());
    });
}

#[test]
fn rsup_exits_although_it_has_no_permission_to_signal_the_command() {
    needs!(root(), installed("setpriv"));
    at_once(&both_ways(), |&way| {
        let words: Vec<_> = BECOME_ROOT.split(' ').collect();
        let setup = unprivileged(command(&words).args(&["--stop-timeout", "1"]));
        let mut rsup = setup.run_as(way).start();
        let Some(foreign) = root_process(&rsup) else {
            return skip(&"needs a /tmp that is not mounted with nosuid");
        };
        exits_within_a_second_of(1, &mut rsup, way, 128 + SIGKILL, || kill(foreign, SIGKILL));
        assert_eq!(rsup.lines("no permission to send SIGTERM to the command").len(), 1, "{:?}", rsup.log());
        assert_eq!(rsup.lines("left behind: no permission to send SIGKILL").len(), 1, "{:?}", rsup.log());
    });
}

#[test]
fn a_program_that_refuses_sigkill_delays_the_exit_by_its_own_stopwaitsecs_only() {
    needs!(root(), installed("setpriv"));
    at_once(&both_ways(), |&way| {
        // The other program has ended long before, and its stopwaitsecs of 10 must not matter.
        let conf = program("web", BECOME_ROOT) + "stopwaitsecs=2\n" + &program("other", "sleep 1001");
        let mut rsup = unprivileged(rsup(&conf)).run_as(way).start();
        rsup.expect_all(&["success: web", "success: other"]);
        let Some(foreign) = root_process(&rsup) else {
            return skip(&"needs a /tmp that is not mounted with nosuid");
        };
        exits_within_a_second_of(2, &mut rsup, way, 0, || kill(foreign, SIGKILL));
        assert_eq!(rsup.lines("left behind").len(), 1, "{:?}", rsup.log());
    });
}

#[test]
fn a_remaining_member_that_refuses_sigkill_delays_the_exit_by_stopwaitsecs_only() {
    needs!(root(), installed("setpriv"));
    at_once(&both_ways(), |&way| {
        let body = format!("{BECOME_ROOT} & exec sleep 1001");
        let conf = script("web", &body) + "stopwaitsecs=2\n" + &program("other", "sleep 1001");
        let mut rsup = unprivileged(rsup(&conf)).run_as(way).start();
        rsup.expect_all(&["success: web", "success: other"]);
        let Some(foreign) = root_process(&rsup) else {
            return skip(&"needs a /tmp that is not mounted with nosuid");
        };
        exits_within_a_second_of(2, &mut rsup, way, 0, || kill(foreign, SIGKILL));
        assert_eq!(rsup.lines("left behind: web").len(), 1, "{:?}", rsup.log());
    });
}

#[test]
fn a_remaining_member_of_the_command_that_refuses_sigkill_is_reported_and_delays_nothing() {
    needs!(root(), installed("setpriv"));
    at_once(&both_ways(), |&way| {
        let body = format!("{BECOME_ROOT} & while [ ! -e go ]; do sleep 0.02; done; exit 3");
        let mut rsup = unprivileged(command(&["sh", "-c", &body])).run_as(way).start();
        let Some(foreign) = root_process(&rsup) else {
            return skip(&"needs a /tmp that is not mounted with nosuid");
        };
        let before = Instant::now();
        rsup.touch("go");
        rsup.expect("processes left behind: no permission to send SIGKILL");
        let took = before.elapsed();
        assert!(took >= Duration::from_secs(1) && took < Duration::from_millis(1900), "{way:?} {took:?}");
        kill(foreign, SIGKILL);
        assert_eq!(rsup.exit_code(), 3, "{way:?}");
    });
}

#[test]
fn a_crashed_program_is_started_again_at_once_when_its_remaining_member_has_refused_sigkill() {
    needs!(root(), installed("setpriv"));
    at_once(&both_ways(), |&way| {
        let body = format!("{BECOME_ROOT} & while [ ! -e go ]; do sleep 0.02; done; rm go; exit 1");
        let mut rsup = unprivileged(rsup(&(script("web", &body) + "stopwaitsecs=1\n"))).run_as(way).start();
        rsup.expect("success: web");
        let Some(foreign) = root_process(&rsup) else {
            return skip(&"needs a /tmp that is not mounted with nosuid");
        };
        rsup.touch("go");
        let exited = rsup.expect("exited: web");
        let spawned = rsup.expect("spawned: 'web'");
        // stopwaitsecs after the exit, and no further second.
        assert!((990..1900).contains(&spawned.since(&exited)), "{way:?}: {exited:?} {spawned:?}");
        kill(foreign, SIGKILL);
    });
}
