//! PID 1's part of control: the status board and the requests. The client has tests of its own.

use std::io::Write;
use std::process::Command;
use std::time::Duration;

use rsup::control::board::{Phase, State};
use rsup::control::request::{Request, SIZE};

use crate::support::board::Board;
use crate::support::{
    SIGCONT, SIGSTOP, SIGTERM, Way, both_ways, eventually, handler, needs, never, proc, program, root, rsup,
    script,
};

/// A program that a request starts.
fn lazy(name: &str, command: &str) -> String {
    program(name, command) + "autostart=false\nstartsecs=0\n"
}

#[test]
fn requests_start_stop_and_signal_single_programs() {
    for way in both_ways() {
        let conf = lazy("a", "sleep 1000") + &handler("b", "USR1", "echo >>got").replace("startsecs=1", "");
        let mut rsup = rsup(&conf).run_as(way).start();
        rsup.expect_ready(&["b"]);
        rsup.expect("success: b");
        let board = Board::of(rsup.pid());
        assert_eq!((board.state(0), board.state(1)), (State::Stopped, State::Running));
        assert_eq!(board.record(1, |record| record.pid), rsup.lines("spawned: 'b'")[0].number_after("pid "));
        board.send(Request::Signal(1, 10));
        rsup.expect_in_file("got", "\n");
        board.send(Request::Start(0));
        rsup.expect("success: a");
        board.expect(0, State::Running);
        board.send(Request::Stop(0));
        rsup.expect("waiting for a to stop");
        rsup.expect("stopped: a (terminated by SIGTERM)");
        board.expect(0, State::Stopped);
        assert_eq!(
            board.record(0, |record| (record.served.start_requests, record.served.stop_requests)),
            (1, 1)
        );
        assert_eq!(board.record(1, |record| record.served.signal_requests), 1);
        assert_eq!(rsup.stop(), 0);
    }
}

#[test]
fn a_signal_by_request_reaches_only_the_program_itself() {
    let shell = "while :; do sleep 0.02; done";
    let child = format!("(trap \"echo child >>got\" USR1; touch ready; {shell}) &");
    let conf = script("a", &format!("trap \"echo parent >>got\" USR1; {child} {shell}"));
    let rsup = rsup(&conf).start();
    eventually("both shells run", || rsup.path("ready").exists().then_some(()));
    let board = Board::of(rsup.pid());
    board.send(Request::Signal(0, 10));
    rsup.expect_in_file("got", "parent");
    board.send(Request::Signal(0, 10));
    eventually("the second signal has arrived", || (rsup.read("got").lines().count() == 2).then_some(()));
    assert_eq!(rsup.read("got"), "parent\nparent\n");
}

#[test]
fn a_program_that_was_stopped_by_request_keeps_rsup_running() {
    let conf = program("a", "sleep 1000") + "autorestart=true\nshutdown_on=exited\n";
    let mut rsup = rsup(&conf).start();
    rsup.expect("success: a");
    let board = Board::of(rsup.pid());
    board.send(Request::Stop(0));
    rsup.expect("stopped: a");
    never("rsup restarted or ended", Duration::from_millis(1500), || {
        rsup.has_left() || board.state(0) != State::Stopped
    });
    board.send(Request::Start(0));
    rsup.expect("success: a");
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn without_autostart_rsup_stays_until_a_program_is_started_and_has_ended() {
    let mut rsup = rsup(&(lazy("a", "false") + "autorestart=false\n")).start();
    rsup.expect("no program has autostart=true");
    let board = Board::of(rsup.pid());
    never("rsup ended", Duration::from_millis(300), || rsup.has_left());
    board.send(Request::Start(0));
    assert_eq!(rsup.exit_code(), 1);
}

#[test]
fn a_start_request_for_a_program_that_stops_waits_for_its_end() {
    let conf = handler("a", "TERM", "touch asked; while [ ! -e end ]; do sleep 0.02; done; exit 0");
    let mut rsup = rsup(&conf).start();
    rsup.expect("success: a");
    rsup.expect_ready(&["a"]);
    let board = Board::of(rsup.pid());
    board.send(Request::Stop(0));
    eventually("the program was asked to stop", || rsup.path("asked").exists().then_some(()));
    board.send(Request::Start(0));
    eventually("rsup has read the request", || {
        board.record(0, |record| record.served.start_requests == 1).then_some(())
    });
    assert_eq!(board.state(0), State::Stopping);
    rsup.touch("end");
    rsup.expect("stopped: a");
    rsup.expect("success: a");
    board.expect(0, State::Running);
}

#[test]
fn a_shutdown_request_stops_everything_and_exits_with_0() {
    let mut rsup = rsup(&program("a", "sleep 1000")).start();
    rsup.expect("success: a");
    Board::of(rsup.pid()).send(Request::Shutdown);
    assert_eq!(rsup.exit_code(), 0);
    rsup.expect("rsup exits with status 0: shutdown requested");
}

#[test]
fn a_reload_reads_the_file_again_in_the_same_process() {
    for way in both_ways() {
        let setup = rsup(&program("a", "sleep 1000")).run_as(way);
        let conf = setup.path(crate::support::CONF);
        let mut rsup = setup.start();
        rsup.expect("success: a");
        std::fs::write(conf, program("b", "sleep 1000")).unwrap();
        let descriptors = proc::open_descriptors(rsup.pid());
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", rsup.pid())).unwrap();
        Board::of(rsup.pid()).send(Request::Reload);
        rsup.expect("stopped: a");
        rsup.expect("rsup executes itself again");
        rsup.expect(&format!("started with pid {}", if way == Way::Pid1 { 1 } else { rsup.pid() }));
        rsup.expect("success: b");
        assert_eq!(proc::open_descriptors(rsup.pid()), descriptors);
        assert_eq!(std::fs::read_to_string(format!("/proc/{}/limits", rsup.pid())).unwrap(), limits);
        let name = crate::support::binary();
        let name = name.file_name().unwrap().to_str().unwrap();
        assert_eq!(proc::status(rsup.pid(), "Name").as_deref(), Some(name));
        assert_eq!(rsup.stop(), 0);
    }
}

#[test]
fn sigterm_during_a_reload_stops_rsup() {
    let conf = handler("a", "TERM", "touch asked; while [ ! -e end ]; do sleep 0.02; done; exit 0");
    let mut rsup = rsup(&conf).start();
    rsup.expect_ready(&["a"]);
    Board::of(rsup.pid()).send(Request::Reload);
    eventually("the program was asked to stop", || rsup.path("asked").exists().then_some(()));
    rsup.signal(SIGTERM);
    rsup.expect("received SIGTERM");
    rsup.touch("end");
    assert_eq!(rsup.exit_code(), 0);
    rsup.expect("rsup exits with status 0: received SIGTERM");
}

/// Whether SIGTERM arrives before, during or after the exec of the reload, rsup stops.
#[test]
fn no_sigterm_is_lost_at_a_reload() {
    for delay in 0..20 {
        let mut rsup = rsup(&(program("a", "sleep 1000") + "startsecs=0\n")).start();
        rsup.expect("success: a");
        Board::of(rsup.pid()).send(Request::Reload);
        // The delays only vary the moment; every moment must work.
        std::thread::sleep(Duration::from_micros(delay * 200));
        rsup.signal(SIGTERM);
        assert_eq!(rsup.exit_code(), 0, "{:?}", rsup.log());
    }
}

#[test]
fn other_bytes_in_the_request_pipe_have_no_effect() {
    let mut rsup =
        rsup(&(program("a", "sleep 1000") + &lazy("b", "sleep 1000"))).args(&["-e", "debug"]).start();
    rsup.expect("success: a");
    let board = Board::of(rsup.pid());
    let mut random = fastrand::Rng::with_seed(15);
    let mut pipe = board.pipe();
    let run = board.header().run;
    for round in 0..200 {
        let garbage: Vec<u8> = (0..random.usize(0..9000)).map(|_| random.u8(..)).collect();
        pipe.write_all(&garbage).unwrap();
        pipe.write_all(Request::Shutdown.render(run + 1).as_bytes()).unwrap();
        pipe.write_all(Request::Start(2 + round).render(run).as_bytes()).unwrap();
        pipe.write_all(Request::Stop(usize::MAX).render(run).as_bytes().get(..SIZE).unwrap()).unwrap();
    }
    board.send(Request::Start(1));
    rsup.expect("ignored a request");
    rsup.expect("success: b");
    assert_eq!(board.header().phase, Phase::Running);
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn requests_that_fill_the_pipe_are_all_served() {
    let mut rsup = rsup(&(program("a", "sleep 1000") + &lazy("b", "sleep 1000"))).start();
    rsup.expect("success: a");
    let board = Board::of(rsup.pid());
    let pid = rsup.pid();
    rsup.signal(SIGSTOP);
    eventually("rsup is stopped", || (proc::process(pid)?.state == 'T').then_some(()));
    // The status can be read while PID 1 is stopped.
    assert_eq!(board.state(0), State::Running);
    const REQUESTS: u32 = 5000;
    let requests = std::thread::spawn({
        let mut pipe = board.pipe();
        let text = Request::Signal(0, 0).render(board.header().run);
        move || (0..REQUESTS).for_each(|_| pipe.write_all(text.as_bytes()).unwrap())
    });
    let is_full = || !requests.is_finished();
    assert!(is_full(), "65,536 bytes do not hold {REQUESTS} requests");
    rsup.signal(SIGCONT);
    requests.join().unwrap();
    board.send(Request::Start(1));
    rsup.expect("success: b");
    assert_eq!(board.record(0, |record| record.served.signal_requests), REQUESTS);
}

#[test]
fn memory_and_descriptors_stay_flat_over_100_000_requests() {
    let conf = (program("a", "sleep 1000") + "startsecs=0\n") + &lazy("b", "sleep 1000");
    let mut rsup = rsup(&conf).start();
    rsup.expect("success: a");
    let board = Board::of(rsup.pid());
    let run = board.header().run;
    let mut pipe = board.pipe();
    let mut send = |count: u32| {
        for number in 0..count / 4 {
            for request in [Request::Start(1), Request::Stop(1), Request::Signal(0, 0), Request::Start(0)] {
                pipe.write_all(request.render(run).as_bytes()).unwrap();
            }
            if number % 64 == 0 {
                pipe.write_all(b"garbage\n").unwrap();
            }
        }
    };
    let served = || board.record(0, |record| record.served.start_requests);
    send(10_000);
    eventually("rsup has served the requests", || (served() == 2_500).then_some(()));
    let kilobytes = || {
        let memory = proc::status(rsup.pid(), "VmData").unwrap();
        memory.split(' ').next().unwrap().parse::<u32>().unwrap()
    };
    let before = (kilobytes(), proc::open_descriptors(rsup.pid()));
    send(100_000);
    eventually("rsup has served the requests", || (served() == 27_500).then_some(()));
    board.expect(1, State::Stopped);
    // One lost byte for each request would be 98 kB.
    assert!(kilobytes() <= before.0 + 16, "{} kB, before {} kB", kilobytes(), before.0);
    assert_eq!(proc::open_descriptors(rsup.pid()), before.1);
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn a_stop_that_begins_while_requests_arrive_ends() {
    let conf = handler("a", "TERM", "touch asked; while [ ! -e end ]; do sleep 0.02; done; exit 0")
        + &lazy("b", "sleep 1000");
    let mut rsup = rsup(&conf).start();
    rsup.expect_ready(&["a"]);
    let board = Board::of(rsup.pid());
    rsup.signal(SIGTERM);
    eventually("the program was asked to stop", || rsup.path("asked").exists().then_some(()));
    assert_eq!(board.header().phase, Phase::ShuttingDown);
    for request in
        [Request::Start(1), Request::Start(0), Request::Stop(0), Request::Reload, Request::Signal(0, 9)]
    {
        board.send(request);
    }
    rsup.touch("end");
    assert_eq!(rsup.exit_code(), 0);
    assert!(rsup.lines("spawned: 'b'").is_empty());
    rsup.expect("stopped: a (exit status 0)");
}

#[test]
fn control_works_after_rsup_has_changed_its_user() {
    needs!(root());
    let conf =
        format!("[supervisord]\nuser=54321:54322\n{}", lazy("a", "sleep 1000") + &program("b", "sleep 1000"));
    let mut rsup = rsup(&conf).start();
    rsup.expect("success: b");
    let pid = rsup.pid();
    Board::of(pid).send(Request::Start(0));
    rsup.expect("success: a");
    let board = Board::find(pid).unwrap();
    let has_access = |user: &str, group: &str| {
        let ids = ["--reuid", user, "--regid", group, "--clear-groups"];
        let read = Command::new("setpriv").args(ids).args(["head", "-c", "1"]).arg(&board).output();
        read.unwrap().status.success()
    };
    assert!(has_access("54321", "54322"), "rsup's own user has access");
    assert!(!has_access("54321", "54323"), "the same user with another group has none");
    assert!(!has_access("54320", "54322"), "another user has none");
}

/// The start, the stop and the shutdown are served in one iteration of the loop, before the start is carried out.
#[test]
fn a_shutdown_does_not_wait_for_a_start_that_was_withdrawn() {
    let conf = program("a", "sleep 1000") + &lazy("b", "sleep 1000") + "stopwaitsecs=3600\n";
    let mut rsup = rsup(&conf).start();
    rsup.expect("success: a");
    let board = Board::of(rsup.pid());
    let run = board.header().run;
    let requests = [Request::Start(1), Request::Stop(1), Request::Shutdown];
    board.pipe().write_all(requests.map(|request| request.render(run)).concat().as_bytes()).unwrap();
    assert_eq!(rsup.exit_code(), 0);
}

#[test]
fn a_shutdown_request_replaces_a_reload() {
    let conf = handler("a", "TERM", "touch asked; while [ ! -e end ]; do sleep 0.02; done; exit 0");
    let mut rsup = rsup(&conf).start();
    rsup.expect_ready(&["a"]);
    let board = Board::of(rsup.pid());
    board.send(Request::Reload);
    eventually("the program was asked to stop", || rsup.path("asked").exists().then_some(()));
    board.send(Request::Shutdown);
    // rsup serves requests in their order, also during the stop.
    board.send(Request::Start(0));
    eventually("rsup has served the requests", || {
        board.record(0, |record| record.served.start_requests == 1).then_some(())
    });
    rsup.touch("end");
    assert_eq!(rsup.exit_code(), 0);
    rsup.expect("rsup exits with status 0: shutdown requested");
}

#[test]
fn a_signal_request_comes_after_the_requests_before_it() {
    let conf = program("a", "sleep 1000") + &lazy("b", "sleep 1000");
    let mut rsup = rsup(&conf).start();
    rsup.expect("success: a");
    let board = Board::of(rsup.pid());
    let run = board.header().run;
    let requests = [Request::Start(1), Request::Signal(1, 9)];
    board.pipe().write_all(requests.map(|request| request.render(run)).concat().as_bytes()).unwrap();
    // The program is killed before or after its exec.
    rsup.expect("exited: b (terminated by SIGKILL");
}

#[test]
fn a_board_that_cannot_be_written_is_reported_once() {
    let conf = program("a", "sleep 1000") + "startsecs=0\n" + &lazy("b", "sleep 1000");
    let mut rsup = rsup(&conf).after("ulimit -f 0").start();
    rsup.expect("success: a");
    assert_eq!(rsup.lines("supervisorctl may show old states: EFBIG").len(), 1);
    assert_eq!(rsup.stop(), 0);
    assert_eq!(rsup.lines("EFBIG").len(), 1);
}

#[test]
fn a_start_request_repairs_the_exit_code_of_a_fatal_program() {
    let once = "autorestart=false\n";
    let repaired = script("a", "[ -e good ] && sleep 1.2") + once + "startretries=0\n";
    let other = script("b", "while [ ! -e end ]; do sleep 0.02; done") + once + "startsecs=0\n";
    let mut rsup = rsup(&(repaired + &other)).start();
    rsup.expect("gave up: a");
    rsup.touch("good");
    let board = Board::of(rsup.pid());
    board.send(Request::Start(0));
    rsup.expect("exited: a (exit status 0; expected)");
    rsup.touch("end");
    assert_eq!(rsup.exit_code(), 0);
}

/// A process of `docker exec` has no parent in the PID namespace, so it is no child of rsup.
#[test]
fn a_reload_leaves_processes_alone_that_others_have_started() {
    needs!(root(), crate::support::pid_namespace());
    let mut rsup = rsup(&program("a", "sleep 1000")).pid_1().start();
    rsup.expect("success: a");
    let pid = rsup.pid().to_string();
    let mut other = Command::new("nsenter").args(["-t", &pid, "-p", "-m", "sleep", "1000"]).spawn().unwrap();
    eventually("the other process runs", || {
        proc::children(other.id().cast_signed()).first().map(|child| child.name == "sleep")?.then_some(())
    });
    Board::of(rsup.pid()).send(Request::Reload);
    rsup.expect("rsup executes itself again");
    rsup.expect("success: a");
    assert!(other.try_wait().unwrap().is_none());
    assert_eq!(rsup.stop(), 0);
    other.wait().unwrap();
}

#[test]
fn another_process_of_rsups_user_cannot_write_to_the_board() {
    needs!(root());
    let conf = format!("[supervisord]\nuser=54321:54322\n{}", program("a", "sleep 1000"));
    let mut rsup = rsup(&conf).start();
    rsup.expect("success: a");
    let board = Board::of(rsup.pid());
    let path = Board::find(rsup.pid()).unwrap();
    let write = format!("echo >{}", path.display());
    let ids = ["--reuid", "54321", "--regid", "54322", "--clear-groups", "sh", "-c", &write];
    assert!(!Command::new("setpriv").args(ids).status().unwrap().success());
    assert_eq!(board.state(0), State::Running);
    assert_eq!(rsup.stop(), 0);
}
