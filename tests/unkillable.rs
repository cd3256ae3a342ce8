//! What SIGKILL does not end holds nobody up: who waits for a disk that does not answer, and who is not rsup's to
//! signal.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::support::freezer::Freezer;
use crate::support::{
    Rsup, SIGKILL, SIGTERM, Setup, Way, both_ways, command, eventually, installed, kill, needs, proc,
    program, root, rsup, script, skip,
};

/// Says who it is, and stays.
const VICTIM: &str = "echo $$ > victim; exec sleep 1000";

/// Who is frozen: the leader, a member of its group, or a daemon with a session of its own.
const VICTIMS: [&str; 3] =
    ["exec sh ./victim.sh", "sh ./victim.sh & exec sleep 1000", "setsid sh ./victim.sh & exec sleep 1000"];

fn with_victim(setup: Setup, way: Way) -> (Rsup, i32) {
    let rsup = setup.file("victim.sh", VICTIM, 0o755).run_as(way).start();
    let victim = eventually("the victim runs", || rsup.read("victim").trim().parse().ok());
    let victim = rsup.host_pid(victim);
    eventually("it sleeps", || proc::process(victim).filter(|process| process.name == "sleep"));
    (rsup, victim)
}

/// Asks rsup to leave, which it has to do with this code and in this time, although it leaves somebody behind. `let_go`
/// ends that one.
#[track_caller]
fn leaves(rsup: &mut Rsup, way: Way, code: i32, seconds: u64, let_go: impl FnOnce()) {
    let before = Instant::now();
    rsup.signal(SIGTERM);
    rsup.expect("processes left behind");
    if way == Way::Foreground {
        assert_eq!(eventually("rsup leaves", || rsup.ended()), Some(code));
    }
    let took = before.elapsed();
    assert!(
        took >= Duration::from_secs(seconds) && took < Duration::from_secs(seconds + 4),
        "{way:?} {took:?}"
    );
    // The kernel does not let process 1 go before the last of its namespace.
    let_go();
    assert_eq!(rsup.exit_code(), code, "{way:?}");
}

#[test]
fn a_program_that_cannot_die_does_not_hold_up_the_leaving() {
    needs!(Freezer::new().map(drop));
    for way in both_ways() {
        for body in VICTIMS {
            let freezer = Freezer::new().unwrap();
            let conf = script("web", body) + "stopwaitsecs=600\n" + &program("other", "sleep 1000");
            let (mut rsup, victim) = with_victim(rsup(&conf).args(&["--stop-timeout", "1"]), way);
            rsup.expect("success: other");
            freezer.freeze(victim);
            // The deadline, and the second that SIGKILL is given.
            leaves(&mut rsup, way, 0, 2, || {
                assert!(freezer.holds(victim), "{body}: it could have died");
                freezer.thaw();
            });
            assert_eq!(rsup.lines("stopped: other (terminated by SIGTERM)").len(), 1);
            eventually("SIGKILL was sent", || proc::process(victim).is_none().then_some(()));
        }
    }
}

#[test]
fn a_program_that_cannot_die_is_waited_for_as_stopwaitsecs_says() {
    needs!(Freezer::new().map(drop));
    for way in both_ways() {
        let freezer = Freezer::new().unwrap();
        let (mut rsup, victim) = with_victim(rsup(&(script("web", VICTIMS[0]) + "stopwaitsecs=1\n")), way);
        freezer.freeze(victim);
        // As the program, again as what else there is, and the second that SIGKILL is given.
        leaves(&mut rsup, way, 0, 3, || freezer.thaw());
        eventually("SIGKILL was sent", || proc::process(victim).is_none().then_some(()));
    }
}

#[test]
fn a_command_that_cannot_die_is_left_behind() {
    needs!(Freezer::new().map(drop));
    for way in both_ways() {
        for (body, code) in [(VICTIMS[0], 128 + SIGKILL), (VICTIMS[1], 128 + SIGTERM)] {
            let freezer = Freezer::new().unwrap();
            let (mut rsup, victim) =
                with_victim(command(&["sh", "-c", body]).args(&["--stop-timeout", "1"]), way);
            freezer.freeze(victim);
            leaves(&mut rsup, way, code, 2, || freezer.thaw());
            eventually("SIGKILL was sent", || proc::process(victim).is_none().then_some(()));
        }
    }
}

/// Both deaths are one signal to rsup, and it names the first.
#[test]
fn an_end_that_is_the_end_of_all_counts_before_anybody_is_started_again() {
    needs!(Freezer::new().map(drop));
    for way in both_ways() {
        let freezer = Freezer::new().unwrap();
        let conf = program("again", "sleep 1000") + "autorestart=true\n" + &program("once", "sleep 1000");
        let mut rsup = rsup(&(conf + "autorestart=false\nshutdown_on=exited\n")).run_as(way).start();
        rsup.expect_all(&["success: again", "success: once"]);
        let pids = ["again", "once"].map(|program| rsup.pid_of(program));
        freezer.freeze(rsup.pid());
        for pid in pids {
            kill(pid, SIGKILL);
            eventually("it is dead", || proc::process(pid)?.is_zombie().then_some(()));
        }
        freezer.thaw();
        assert_eq!(rsup.exit_code(), 128 + SIGKILL, "{way:?}");
        assert_eq!(rsup.lines("spawned: 'again'").len(), 1, "{way:?}");
    }
}

#[test]
fn a_process_that_may_not_be_signalled_does_not_hold_up_the_leaving() {
    needs!(root());
    // A child that belongs to root, while rsup is somebody else.
    let start =
        "setsid sleep 1000 >x 2>&1 & echo $! > foreign; exec setpriv --reuid=54398 --clear-groups \"$@\"";
    for way in both_ways() {
        let conf = program("web", "sleep 1000") + "stopwaitsecs=1\n";
        let mut rsup = rsup(&conf).through(&["sh", "-c", start, "sh"]).run_as(way).start();
        rsup.expect("success: web");
        let foreign = rsup.host_pid(rsup.read("foreign").trim().parse().unwrap());
        leaves(&mut rsup, way, 0, 2, || kill(foreign, SIGKILL));
        assert_eq!(rsup.lines("left behind").len(), 1, "{:?}", rsup.log());
    }
}

/// rsup as somebody who may not signal what `./become-root` starts.
fn unprivileged(setup: Setup) -> Setup {
    let copy = setup.path("become-root");
    fs::copy("/usr/bin/setpriv", &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755)).unwrap();
    setup.through(&["setpriv", "--reuid=54398", "--clear-groups"])
}

const BECOME_ROOT: &str = "./become-root --reuid=0 sleep 1000";

/// The process that has become root, if it may here.
fn foreign(rsup: &Rsup) -> Option<i32> {
    let sleep = eventually("sleep runs", || rsup.tree().into_iter().find(|process| process.name == "sleep"));
    let is_root = proc::status(sleep.pid, "Uid")?.split_whitespace().all(|uid| uid == "0");
    is_root.then_some(sleep.pid)
}

#[test]
fn a_program_that_has_changed_its_user_does_not_hold_up_the_leaving() {
    needs!(root(), installed("setpriv"));
    for way in both_ways() {
        let conf = program("web", BECOME_ROOT) + "stopwaitsecs=600\n";
        let setup = unprivileged(rsup(&conf).args(&["--stop-timeout", "1"]));
        let mut rsup = setup.run_as(way).start();
        rsup.expect("success: web");
        let Some(foreign) = foreign(&rsup) else { return skip(&"needs a /tmp with setuid programs") };
        leaves(&mut rsup, way, 0, 2, || kill(foreign, SIGKILL));
        assert!(!rsup.lines("CRIT unknown problem killing web").is_empty(), "{:?}", rsup.log());
    }
}

#[test]
fn a_command_that_has_changed_its_user_is_left_behind() {
    needs!(root(), installed("setpriv"));
    for way in both_ways() {
        let words: Vec<_> = BECOME_ROOT.split(' ').collect();
        let setup = unprivileged(command(&words).args(&["--stop-timeout", "1"]));
        let mut rsup = setup.run_as(way).start();
        let Some(foreign) = foreign(&rsup) else { return skip(&"needs a /tmp with setuid programs") };
        leaves(&mut rsup, way, 128 + SIGKILL, 2, || kill(foreign, SIGKILL));
    }
}
