//! Faults of the machine: rsup keeps its programs running without /proc, descriptors, memory, processes or devices.

use std::fs::{self, File};
use std::process::Command;
use std::time::Duration;

use crate::resource_use::shipped_binary;
use crate::support::cgroup::Cgroup;
use crate::support::probe::{probe, static_programs};
use crate::support::two_programs::{TwoPrograms, two_programs, two_programs_with_an_include};
use crate::support::{
    CONF, PATIENCE, Rsup, SIGCONT, SIGKILL, SIGQUIT, SIGSTOP, Setup, both_ways, command, each, eventually,
    installed, kill, needs, pid_namespace, proc, program, root, rsup, script, skip, within,
};

/// Checks that a program starts, is restarted after a crash, and is stopped with rsup.
fn supervises(setup: Setup) {
    let mut rsup = setup.start();
    rsup.expect("success: web");
    rsup.kill("web", SIGKILL);
    rsup.expect("exited: web (terminated by SIGKILL; not expected)");
    rsup.expect("success: web");
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn rsup_works_as_pid_1_without_proc() {
    needs!(root(), pid_namespace());
    supervises(rsup(&program("web", "sleep 1000")).after("umount -l /proc; umount -l /proc").pid_1());
}

#[test]
fn without_proc_and_not_pid_1_rsup_warns_about_processes_left_behind() {
    needs!(root());
    let blind = |conf: &str| {
        rsup(conf)
            .through(&["unshare", "-m"])
            .after("umount -l /proc; umount -l /proc; test ! -e /proc/1 || exit 99")
    };
    supervises(blind(&program("web", "sleep 1000")));
    let launcher = script("web", "setsid sleep 1000 >x 2>&1 & echo $! > daemon; exec sleep 1000");
    let mut rsup = blind(&launcher).start();
    rsup.expect("success: web");
    let daemon = eventually("the daemon's PID is written", || rsup.read("daemon").trim().parse().ok());
    assert_eq!(rsup.stop(), 0);
    assert_eq!(rsup.lines("WARN processes left behind").len(), 1);
    kill(daemon, SIGKILL);
}

#[test]
fn rsup_works_on_a_read_only_root_without_a_passwd_file() {
    needs!(root(), pid_namespace());
    let blind = "set -e; for f in /etc/passwd /etc/group /etc/nsswitch.conf; do mount --bind /dev/null $f; done\n\
                 mount -o remount,bind,ro /";
    supervises(rsup(&(program("web", "sleep 1000") + "user=54321\n")).after(blind).pid_1());
}

#[test]
fn rsup_works_with_standard_descriptors_closed() {
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
fn a_program_starts_once_rlimit_nproc_allows_a_process() {
    needs!(root());
    // The limit counts the processes of a user, and this user has no others: rsup is the first, `a` the second.
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
fn rsup_works_with_few_descriptors() {
    needs!(root(), pid_namespace());
    // Without /proc rsup keeps one descriptor for each program.
    let blind = "umount -l /proc; umount -l /proc; ulimit -n 24";
    const PROGRAMS: usize = 40;
    let conf = "[supervisord]\nminfds=1\n".to_owned()
        + &program("web", "sleep 1000")
        + &format!("process_name=w%(process_num)d\nnumprocs={PROGRAMS}\nstartretries=0\n");
    let mut rsup = rsup(&conf).after(blind).pid_1().start();
    rsup.expect("success: w0 ");
    // Each program needs one more descriptor until its exec is done. So the number of programs that fail depends on how
    // soon the execs of the other programs are done.
    let count = |text: &str| rsup.lines(text).len();
    eventually("each runs or is given up", || {
        (count("success: ") + count("gave up: ") == PROGRAMS).then_some(())
    });
    assert!(count("gave up: ") >= PROGRAMS - 24);
    for number in 0..PROGRAMS {
        let refused = count(&format!("spawnerr: too many open files to spawn 'w{number}'"));
        assert_eq!(refused, count(&format!("gave up: w{number} ")), "w{number}");
    }
    rsup.kill("w0", SIGKILL);
    rsup.expect("success: w0 ");
    assert_eq!(rsup.stop(), 0);
}

/// Opens a hundred descriptors, in the shell that executes rsup.
const MANY: &str = "for fd in {10..109}; do eval \"exec $fd</dev/null\"; done; exec \"$@\"";

/// How rsup is started: by a shell that first runs a script, or by a command.
#[derive(Debug)]
enum Start {
    After(&'static str),
    Through(&'static [&'static str]),
}

#[test]
fn rsup_works_whatever_state_it_was_started_in() {
    use Start::{After, Through};
    let mut starts = vec![
        Through(&["env", "--ignore-signal", "--block-signal"]),
        Through(&["env", "-i"]),
        Through(&["bash", "-c", MANY, "bash"]),
        After("mkdir gone; cd gone; rmdir ../gone"),
        After("ulimit -n 16"),
        After("ulimit -s 64"),
        After("ulimit -c 0; ulimit -f 0; exec 2>log"),
        After("umask 777"),
        After("exec 2>/dev/full"),
    ];
    if root().is_ok() {
        starts.push(Through(&["setpriv", "--reuid=54399", "--regid=54399", "--clear-groups"]));
        starts.push(Through(&["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]));
    }
    let cases: Vec<_> =
        both_ways().into_iter().flat_map(|way| starts.iter().map(move |start| (start, way))).collect();
    each(&cases, |(start, way)| {
        let setup = rsup(&two_programs(""));
        let file = setup.path(CONF);
        let setup = setup.only_args(&["-c", file.to_str().unwrap()]).run_as(*way);
        let mut life = TwoPrograms::start(match start {
            After(line) => setup.after(line),
            Through(words) => setup.through(words),
        });
        let served = life.serves().and_then(|()| {
            let web = life.running(TwoPrograms::WEB)[0];
            // rsup may have its own description of /dev/full too.
            const FULL_DEVICE: usize = proc::OWN_DESCRIPTORS + 1;
            match (proc::open_descriptors(life.pid), proc::open_descriptors(web)) {
                (proc::OWN_DESCRIPTORS | FULL_DEVICE, 3) => life.ends(),
                open => life.fails(&format!("open descriptors: {open:?}")),
            }
        });
        served.map_err(|why| format!("{start:?} {way:?}: {why}"))
    });
}

#[test]
fn rsup_works_without_devices_and_without_an_environment() {
    needs!(root(), pid_namespace());
    for place in ["/dev", "/etc"] {
        let empty = format!("mount -t tmpfs none {place}");
        let mut life = TwoPrograms::start(rsup(&two_programs("")).after(&empty).pid_1());
        life.serves_and_ends().unwrap();
    }
}

/// What rsup does in one of its two modes where a seccomp filter refuses a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    /// rsup works without the call.
    Works,
    /// rsup exits with 2 before it starts a program, and its last line starts with this text.
    Ends(&'static str),
}
use Refused::{Ends, Works};

const NO_MEMORY: Refused = Ends("rsup: out of memory");
const NO_MASK: Refused = Ends("Error: can't block signals: ");
const NO_EVENTS: Refused = Ends("Error: can't watch signals: ");
const NO_FILE: Refused = Ends("Error: could not ");

/// Every system call that rsup or a child makes before its exec, and what rsup does without the call: in configuration
/// mode and in one-command mode. The number is followed by the flags of the call's first argument that the filter looks
/// for.
///
/// Four calls are not in the table: clone(2) without CLONE_VM, execve(2), kill(2) and exit_group(2), which have no
/// substitute. arch_prctl(2) is called by the C library before `main`. getdents64(2) has a test of its own.
const CALLS: &[(i64, i32, Refused, Refused)] = &[
    (libc::SYS_clone, libc::CLONE_VM, Works, Works),
    (libc::SYS_clone, libc::CLONE_VFORK, Works, Works),
    (libc::SYS_clone, libc::CLONE_VM | libc::CLONE_VFORK, Works, Works),
    (libc::SYS_clone3, 0, Works, Works),
    (libc::SYS_mmap, 0, NO_MEMORY, NO_MEMORY),
    (libc::SYS_munmap, 0, Works, Works),
    (libc::SYS_mremap, 0, Works, Works),
    (libc::SYS_brk, 0, Works, Works),
    (libc::SYS_rt_sigprocmask, 0, NO_MASK, NO_MASK),
    (libc::SYS_rt_sigaction, 0, Works, Works),
    (libc::SYS_rt_sigpending, 0, Works, Works),
    (libc::SYS_rt_sigtimedwait, 0, Works, Works),
    (libc::SYS_signalfd4, 0, NO_EVENTS, Works),
    (libc::SYS_epoll_create1, 0, NO_EVENTS, Works),
    (libc::SYS_epoll_ctl, 0, NO_EVENTS, Works),
    (libc::SYS_epoll_pwait, 0, Works, Works),
    (libc::SYS_ppoll, 0, Works, Works),
    (libc::SYS_wait4, 0, Works, Works),
    (libc::SYS_waitid, 0, Works, Works),
    (libc::SYS_setpgid, 0, Works, Works),
    (libc::SYS_getpgid, 0, Works, Works),
    (libc::SYS_getsid, 0, Works, Works),
    (libc::SYS_setgroups, 0, Works, Works),
    (libc::SYS_setgid, 0, Works, Works),
    (libc::SYS_setuid, 0, Works, Works),
    (libc::SYS_getgroups, 0, Works, Works),
    (libc::SYS_getresuid, 0, Works, Works),
    (libc::SYS_getresgid, 0, Works, Works),
    (libc::SYS_getuid, 0, Works, Works),
    (libc::SYS_chdir, 0, Works, Works),
    (libc::SYS_umask, 0, Works, Works),
    (libc::SYS_prctl, 0, Works, Works),
    (libc::SYS_prlimit64, 0, Works, Works),
    (libc::SYS_getrlimit, 0, Works, Works),
    (libc::SYS_setrlimit, 0, Works, Works),
    (libc::SYS_close, 0, Works, Works),
    (libc::SYS_close_range, 0, Works, Works),
    (libc::SYS_write, 0, Works, Works),
    (libc::SYS_pwritev2, 0, Works, Works),
    (libc::SYS_sendto, 0, Works, Works),
    (libc::SYS_read, 0, NO_FILE, Works),
    (libc::SYS_lseek, 0, Works, Works),
    (libc::SYS_fcntl, 0, Works, Works),
    (libc::SYS_fstat, 0, Works, Works),
    (libc::SYS_ioctl, 0, Works, Works),
    (libc::SYS_socket, 0, Works, Works),
    (libc::SYS_connect, 0, Works, Works),
    (libc::SYS_getcwd, 0, Works, Works),
    (libc::SYS_uname, 0, Works, Works),
    (libc::SYS_getrandom, 0, Works, Works),
    (libc::SYS_nanosleep, 0, Works, Works),
    (libc::SYS_clock_nanosleep, 0, Works, Works),
    (libc::SYS_sched_yield, 0, Works, Works),
    (libc::SYS_set_tid_address, 0, Works, Works),
];

/// The calls that only older machines have.
#[cfg(target_arch = "x86_64")]
const OLD_CALLS: &[(i64, i32, Refused, Refused)] = &[
    (libc::SYS_fork, 0, Works, Works),
    (libc::SYS_vfork, 0, Works, Works),
    (libc::SYS_open, 0, NO_FILE, Works),
    (libc::SYS_stat, 0, NO_FILE, Works),
    (libc::SYS_access, 0, Works, Works),
    (libc::SYS_poll, 0, Works, Works),
    (libc::SYS_epoll_wait, 0, Works, Works),
    (libc::SYS_getpgrp, 0, Works, Works),
    (libc::SYS_readlink, 0, Works, Works),
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_CALLS: &[(i64, i32, Refused, Refused)] = &[];

/// A set-up under a filter. Its `sleep` is a static program that makes few system calls, because the filter applies to
/// the programs too.
fn filtered(setup: Setup, errno: i32, calls: &str) -> Setup {
    let link = setup.path("sleep");
    std::os::unix::fs::symlink(probe(), link).unwrap();
    let path = format!("{}:/usr/bin:/bin", setup.path("").display());
    setup.env("PATH", &path).through(&[probe(), "without", &errno.to_string(), calls])
}

/// Checks that rsup exits with 2 before it starts a program, with a reason in its last line.
fn ends(setup: Setup, text: &str) -> Result<(), String> {
    let (code, rsup) = setup.run();
    let log = rsup.log();
    let last = log.last().map_or("", |line| &line.0);
    let is_good = code == 2 && last.starts_with(text) && rsup.lines("spawned").is_empty();
    is_good.then_some(()).ok_or_else(|| format!("not 2 and {text:?}: {code} {log:?}"))
}

/// Checks that rsup runs a command, passes the command's exit code on, forwards SIGTERM, and is idle meanwhile.
fn runs_a_command(setup: impl Fn(&[&str]) -> Setup) -> Result<(), String> {
    let (code, rsup) = setup(&[probe(), "exit", "7"]).run();
    if code != 7 {
        return Err(format!("exit code {code} instead of 7: {:?}", rsup.log()));
    }
    let mut sleeper = TwoPrograms::start(setup(&["sleep", TwoPrograms::WEB]));
    sleeper.runs(TwoPrograms::WEB, &[])?;
    sleeper.sleeps(Duration::from_millis(200))?;
    kill(sleeper.pid, libc::SIGTERM);
    match within(PATIENCE, || sleeper.rsup.ended()) {
        Some(Some(143)) => Ok(()),
        code => sleeper.fails(&format!("SIGTERM: {code:?}")),
    }
}

#[test]
fn rsup_works_or_says_why_not_when_a_filter_refuses_one_system_call() {
    needs!(static_programs(), shipped_binary());
    let ways = both_ways();
    let calls = CALLS.iter().chain(OLD_CALLS);
    let cases = calls.flat_map(|call| [libc::EPERM, libc::ENOSYS].map(|errno| (call, errno)));
    let cases: Vec<_> = cases.zip(ways.iter().cycle()).collect();
    each(&cases, |((call, errno), way)| {
        let (number, flags, configuration, command_mode) = call;
        let calls = format!("{number}:{flags}");
        let under = |setup: Setup| filtered(setup, *errno, &calls).run_as(**way);
        let supervised = || under(two_programs_with_an_include());
        let supervises = match configuration {
            Works => TwoPrograms::start(supervised()).serves_and_ends(),
            Ends(text) => ends(supervised(), text),
        };
        let with_command = |words: &[&str]| under(command(words));
        let runs = match command_mode {
            Works => runs_a_command(with_command),
            Ends(text) => ends(with_command(&["sleep", "1"]), text),
        };
        let failed = |mode: &str, why| format!("call {calls}, errno {errno}, {way:?}, {mode}: {why}");
        supervises
            .map_err(|why| failed("configuration mode", why))
            .and_then(|()| runs.map_err(|why| failed("one-command mode", why)))
    });
}

#[test]
fn a_pattern_of_include_matches_nothing_where_a_filter_refuses_getdents64() {
    needs!(static_programs(), shipped_binary());
    for errno in [libc::EPERM, libc::ENOSYS] {
        let setup = filtered(two_programs_with_an_include(), errno, &libc::SYS_getdents64.to_string());
        let mut life = TwoPrograms::start(setup);
        life.runs(TwoPrograms::WEB, &[]).unwrap();
        life.rsup.expect("WARN No file matches via include");
        assert!(life.running(TwoPrograms::JOB).is_empty());
        life.ends().unwrap();
    }
}

/// System calls that a seccomp filter may refuse together, and that rsup can work without.
const DISPENSABLE: [i64; 15] = [
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_getrlimit,
    libc::SYS_setrlimit,
    libc::SYS_close_range,
    libc::SYS_pwritev2,
    libc::SYS_getrandom,
    libc::SYS_uname,
    libc::SYS_getcwd,
    libc::SYS_setpgid,
    libc::SYS_sched_yield,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_wait4,
    libc::SYS_sendto,
    // What the C library's poll(3) calls.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(not(target_arch = "x86_64"))]
    libc::SYS_ppoll,
];

#[test]
fn rsup_works_under_a_seccomp_filter() {
    needs!(static_programs());
    let numbers = DISPENSABLE.map(|number| number.to_string()).join(",");
    let numbers = format!("{numbers},{}:{}", libc::SYS_clone, libc::CLONE_VM);
    let errors = [libc::EPERM, libc::ENOSYS];
    let cases: Vec<_> =
        both_ways().into_iter().flat_map(|way| errors.iter().map(move |errno| (*errno, way))).collect();
    each(&cases, |(errno, way)| {
        let under = |setup: Setup| filtered(setup, *errno, &numbers).run_as(*way);
        TwoPrograms::start(under(two_programs_with_an_include()))
            .serves_and_ends()
            .and_then(|()| runs_a_command(|words| under(command(words))))
            .map_err(|why| format!("errno {errno} {way:?}: {why}"))
    });
}

#[test]
fn a_program_starts_once_the_cgroups_pids_limit_allows_a_process() {
    needs!(root());
    let cgroup = match Cgroup::new("faults") {
        Ok(cgroup) => cgroup,
        Err(why) => return skip(&why),
    };
    // The limit allows the shell that becomes rsup, and one program.
    cgroup.allow("2");
    let conf = program("a", "sleep 1000") + &program("b", "sleep 1000");
    let mut rsup = rsup(&conf).after(&cgroup.enter()).start();
    rsup.expect_all(&["success: a", "spawnerr: Too many processes in process table to spawn 'b'"]);
    // rsup restarts the program that runs, and starts the other program as soon as the limit allows two programs.
    rsup.kill("a", SIGKILL);
    rsup.expect("success: a");
    cgroup.allow("max");
    rsup.expect("success: b");
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn an_executable_that_is_open_for_writing_starts_once_it_is_closed() {
    let conf = program("web", "./web 1000");
    let setup = rsup(&conf).file("web", "", 0o755);
    let mut writer = File::options().write(true).open(setup.path("web")).unwrap();
    std::io::copy(&mut File::open("/bin/sleep").unwrap(), &mut writer).unwrap();
    let mut rsup = setup.start();
    rsup.expect("spawnerr: couldn't exec ./web: ETXTBSY");
    drop(writer);
    rsup.expect("success: web");
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn an_environment_that_execve_rejects_fails_only_that_program() {
    let big = format!("environment=BIG=\"{}\"\nstartretries=0\n", "x".repeat(200_000));
    let mut rsup = rsup(&(program("web", "sleep 1000") + &program("big", "sleep 1000") + &big)).start();
    rsup.expect("spawnerr: couldn't exec sleep: E2BIG");
    rsup.expect_all(&["gave up: big", "success: web"]);
    assert_eq!(rsup.stop(), 0);
}

/// Kills the strace that traces rsup and its children. A child that strace has held then continues.
fn kill_tracer(rsup: &Rsup) {
    let strace = proc::status(rsup.pid(), "TracerPid").unwrap();
    kill(strace.parse().unwrap(), SIGKILL);
}

#[test]
fn an_exec_that_hangs_delays_no_other_program() {
    needs!(installed("strace"));
    let conf =
        program("web", "sleep 1000") + "startsecs=0\n" + &program("hung", "./hung 1000") + "stopwaitsecs=1\n";
    let setup = rsup(&conf).file("hung", "", 0o755);
    fs::copy("/bin/sleep", setup.path("hung")).unwrap();
    // strace delays the exec, as a network file system that does not answer would.
    let hang = [
        "strace",
        "-D",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-P",
        "./hung",
        "-e",
        "inject=execve:delay_enter=60s",
    ];
    let mut rsup = setup.through(&hang).start();
    for _ in 0..2 {
        rsup.expect("success: web");
        rsup.kill("web", SIGKILL);
    }
    rsup.expect("success: web");
    assert!(rsup.lines("spawned: 'hung'").is_empty());
    kill_tracer(&rsup);
    rsup.expect("spawned: 'hung'");
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn a_signal_before_the_exec_dumps_no_core_of_rsups_memory() {
    needs!(installed("strace"), shipped_binary());
    let setup = rsup(&(program("web", "./hung 1000") + "startretries=0\n")).file("hung", "", 0o755);
    fs::copy("/bin/sleep", setup.path("hung")).unwrap();
    // strace makes the exec fail and holds the child until strace is killed, so that the signal arrives before an exec.
    let inject = "inject=execve:error=EAGAIN:delay_exit=60s";
    let back = ["strace", "-D", "-f", "-qq", "-o", "trace", "-P", "./hung", "-e", inject];
    let mut rsup = setup.through(&back).start();
    let child = eventually("the child is in its exec", || {
        let open = |pid| proc::status(pid, "SigBlk").is_some_and(|blocked| blocked == "0".repeat(16));
        let is_there = |child: &proc::Process| child.name == "rsup" && open(child.pid);
        proc::children(rsup.pid()).into_iter().find(is_there).map(|child| child.pid)
    });
    kill(child, SIGQUIT);
    kill_tracer(&rsup);
    rsup.expect("exited: web (exit status 131; not expected)");
    assert_eq!(rsup.exit_code(), 131);
}

#[test]
fn an_errno_of_a_child_does_not_change_rsups_errno() {
    needs!(installed("strace"), shipped_binary());
    let trace = ["strace", "-D", "-f", "-qq", "-o", "trace", "-e", "signal=none"];
    let mut rsup = rsup(&program("web", "sleep 1000")).through(&trace).start();
    rsup.expect("success: web");
    let child = format!("{} ", rsup.pid_of("web"));
    // The child shares rsup's memory, so its first call sets a thread pointer of its own, which gives it its own errno.
    if cfg!(target_arch = "x86_64") {
        let trace = rsup.read("trace");
        let first = trace.lines().find_map(|line| line.trim_start().strip_prefix(&child)).unwrap();
        assert!(first.trim_start().starts_with("arch_prctl(ARCH_SET_FS, "), "{first}");
    }
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn rsup_works_without_free_memory() {
    needs!(installed("prlimit"));
    const PROGRAMS: usize = 400;
    let conf = program("web", "sleep 1000")
        + &format!("process_name=w%(process_num)d\nnumprocs={PROGRAMS}\nstartsecs=0\n");
    let mut rsup = rsup(&conf).start();
    let pid = rsup.pid();
    let all_run = |rsup: &crate::support::Rsup| {
        let run = |child: &&i32| proc::words(**child) == ["sleep", "1000"];
        proc::children_listed(rsup.pid()).iter().filter(run).count() == PROGRAMS
    };
    eventually("all run", || all_run(&rsup).then_some(()));
    let limit = |size: &str| {
        let soft = format!("--as={size}:");
        assert!(Command::new("prlimit").args(["--pid", &pid.to_string(), &soft]).status().unwrap().success());
    };
    // The exits of all programs at once need more memory than rsup has left. rsup is stopped until all programs have
    // exited, because it could otherwise restart one after the other with the memory that it has.
    limit("1");
    kill(pid, SIGSTOP);
    proc::children_listed(pid).iter().for_each(|child| kill(*child, SIGKILL));
    eventually("all are dead", || proc::children(pid).iter().all(proc::Process::is_zombie).then_some(()));
    kill(pid, SIGCONT);
    rsup.expect("rsup: out of memory");
    let is_alive = || proc::process(pid).is_some_and(|rsup| !rsup.is_zombie());
    std::thread::sleep(Duration::from_millis(500)); // It waits, and does not end.
    assert!(is_alive());
    limit("unlimited");
    eventually("all run again", || all_run(&rsup).then_some(()));
    assert_eq!(rsup.stop(), 0);
}
