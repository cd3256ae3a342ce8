//! A hostile machine: rsup goes on.

use std::fs::File;
use std::io::Read;
use std::process::Command;
use std::time::Duration;

use crate::support::{
    Rsup, SIGKILL, Setup, both_ways, eventually, kill, needs, pid_namespace, program, root, rsup, script,
    within,
};

/// The life of a program from its start through a crash to the end of rsup.
fn lives(setup: Setup) {
    let mut rsup = setup.start();
    rsup.expect("success: web");
    rsup.kill("web", SIGKILL);
    rsup.expect("exited: web (terminated by SIGKILL; not expected)");
    rsup.expect("success: web");
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn without_proc() {
    needs!(root(), pid_namespace());
    lives(rsup(&program("web", "sleep 1000")).after("umount -l /proc; umount -l /proc").pid_1());
}

#[test]
fn on_a_read_only_root_without_users() {
    needs!(root(), pid_namespace());
    let blind = "set -e; for f in /etc/passwd /etc/group /etc/nsswitch.conf; do mount --bind /dev/null $f; done\n\
                 mount -o remount,bind,ro /";
    lives(rsup(&(program("web", "sleep 1000") + "user=54321\n")).after(blind).pid_1());
}

#[test]
fn with_standard_descriptors_closed() {
    let conf =
        script("job", "echo ran > job; ls /proc/self/fd > fds; exit 6") + "startsecs=0\nautorestart=false\n";
    for way in both_ways() {
        for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
            let (code, rsup) = rsup(&conf).after(&format!("exec {closed}")).run_as(way).run();
            assert_eq!((code, rsup.read("job").as_str()), (6, "ran\n"), "{way:?} {closed}");
            assert_eq!(rsup.read("fds"), "0\n1\n2\n3\n", "{way:?} {closed}");
        }
    }
}

#[test]
fn with_a_stderr_that_nobody_reads() {
    for way in both_ways() {
        let conf = script("job", "echo start >> starts; exec sleep 1000");
        let setup =
            rsup(&conf).after("dd if=/dev/zero of=pipe oflag=nonblock bs=4096 2>/dev/null; exec 2>pipe");
        let pipe = setup.path("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let _reader_that_does_not_read = File::options().read(true).write(true).open(&pipe).unwrap();
        let mut rsup = setup.run_as(way).start();
        for starts in ["start\n", "start\nstart\n"] {
            rsup.expect_in_file("starts", starts);
            let running = || rsup.tree().into_iter().find(|process| process.name == "sleep");
            kill(eventually("the program runs", running).pid, SIGKILL);
        }
        assert_eq!(rsup.stop(), 0, "{way:?}");
    }
}

#[test]
fn with_a_stderr_whose_reader_is_gone() {
    let conf = script("job", "echo ran > job; exit 6") + "startsecs=0\nautorestart=false\n";
    let gone = "mkfifo pipe; exec 8<>pipe 2>pipe 8<&-";
    let (code, rsup) = rsup(&conf).after(gone).run();
    assert_eq!((code, rsup.read("job").as_str()), (6, "ran\n"));
}

#[test]
fn without_processes_to_spare() {
    needs!(root());
    // The limit counts the processes of a user, and this one has no others: rsup is the first, `a` the second.
    let user = ["setpriv", "--reuid=54399", "--regid=54399", "--clear-groups", "prlimit", "--nproc=2"];
    let conf = "[supervisord]\nminprocs=1\n".to_owned()
        + &program("a", "sleep 1000")
        + &program("b", "sleep 1000")
        + "startretries=0\n";
    let mut rsup = rsup(&conf).through(&user).start();
    rsup.expect("spawnerr: Too many processes in process table to spawn 'b'");
    rsup.expect_all(&["gave up: b", "success: a"]);
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn without_descriptors_to_spare() {
    let conf = "[supervisord]\nminfds=1\n".to_owned()
        + &program("web", "sleep 1000")
        + "process_name=w%(process_num)d\nnumprocs=40\nstartretries=0\n";
    let mut rsup = rsup(&conf).after("ulimit -n 24").start();
    rsup.expect_all(&["spawnerr: too many open files to spawn 'w39'", "gave up: w39", "success: w0 "]);
    rsup.kill("w0", SIGKILL);
    rsup.expect("success: w0 ");
    assert_eq!(rsup.stop(), 0);
}

/// Whether rsup sleeps for a while without being woken.
fn is_idle(rsup: &Rsup) -> bool {
    let switches = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", rsup.pid())).unwrap();
        status.lines().filter(|line| line.contains("ctxt_switches")).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = switches();
    within(Duration::from_millis(1500), || (switches() != before).then_some(())).is_none()
}

#[test]
fn with_a_chatty_log_whose_reader_is_gone() {
    // Every line that cannot be written makes a SIGPIPE, about which there must not be a line.
    let conf = program("web", "sleep 1000");
    let mut rsup = rsup(&conf).args(&["-e", "debug"]).after("mkfifo pipe; exec 8<>pipe 2>pipe 8<&-").start();
    let running = || rsup.tree().into_iter().find(|process| process.name == "sleep");
    kill(eventually("the program runs", running).pid, SIGKILL);
    eventually("it runs again", running);
    eventually("rsup is idle", || is_idle(&rsup).then_some(()));
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn with_a_stderr_that_is_read_late() {
    let setup = rsup(&(program("web", "sleep 1000") + "startsecs=0\n"))
        .after("dd if=/dev/zero of=pipe oflag=nonblock bs=4096 2>/dev/null; exec 2>pipe");
    let pipe = setup.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut reader = File::options().read(true).write(true).open(&pipe).unwrap();
    let mut rsup = setup.start();
    let running = || rsup.tree().into_iter().find(|process| process.name == "sleep");
    eventually("the program runs", running);
    eventually("rsup is idle", || is_idle(&rsup).then_some(()));
    // The count comes by itself, once there is room for it.
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains("log lines lost: ") {
        let length = reader.read(&mut buffer).unwrap();
        text.extend(buffer[..length].iter().filter(|byte| **byte != 0).map(|byte| char::from(*byte)));
    }
    assert_eq!(text.matches("spawned:").count(), 0, "{text}");
    assert_eq!(rsup.stop(), 0);
}
