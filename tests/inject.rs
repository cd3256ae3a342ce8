//! System calls that fail. strace makes every system call of rsup fail: first at its first use and at one later use,
//! then for a while at every use, in rsup and in its children before their exec. rsup must survive, must not spin, and
//! must run, restart and stop its programs.
//!
//! The tests take the list of system calls from a trace by strace, so a system call that is new in rsup is tested too.
//! The tests fail if a system call is not in the table of errors below. `INJECT=all` makes every single use fail.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::resource_use::shipped_binary;
use crate::support::injection::Injection;
use crate::support::two_programs::{TwoPrograms, two_programs};
use crate::support::{
    Line, PATIENCE, SIGKILL, Setup, Way, both_ways, each, installed, kill, needs, root, rsup, script, within,
};

/// The errors that a system call can return from a healthy kernel or from a seccomp filter.
fn errors(call: &str) -> &'static [&'static str] {
    match call {
        "brk" | "mmap" | "mremap" | "munmap" => &["ENOMEM"],
        "fork" | "clone" => &["EAGAIN", "ENOMEM", "EPERM"],
        "pipe2" | "socket" => &["EMFILE", "ENFILE"],
        "fchmod" => &["EPERM", "ENOSYS"],
        "memfd_create" => &["EMFILE", "ENOSYS", "EPERM"],
        "open" | "openat" => &["EMFILE", "EACCES", "EINTR"],
        "stat" | "fstat" | "newfstatat" | "access" | "faccessat" | "readlink" | "getcwd" => {
            &["ENOENT", "EIO"]
        }
        "connect" => &["EACCES", "EINTR"],
        "lseek" | "ioctl" => &["EINVAL"],
        "read" | "readv" => &["EINTR", "EIO", "EAGAIN"],
        "write" | "pwritev2" => &["EAGAIN", "EINTR", "EIO", "ENOSPC", "ENOSYS"],
        "pwrite64" => &["ENOSPC", "EINTR", "EIO"],
        "close" => &["EINTR"],
        "fcntl" | "dup2" | "dup3" => &["EMFILE", "EINTR"],
        "epoll_create1" | "signalfd4" => &["EMFILE", "ENOSYS"],
        "epoll_ctl" => &["ENOMEM", "ENOSPC"],
        "epoll_wait" | "epoll_pwait" | "poll" | "ppoll" => &["EINTR", "EINVAL"],
        "wait4" => &["EINTR", "EINVAL"],
        "kill" => &["EPERM", "EAGAIN"],
        "execve" => &["ETXTBSY", "ENOEXEC", "E2BIG", "EMFILE", "ENFILE", "ENOMEM", "EIO", "EAGAIN", "EACCES"],
        "setpgid" | "chdir" => &["EACCES"],
        "setgroups" | "setgid" | "setuid" => &["EPERM", "EAGAIN"],
        "prctl" | "prlimit64" | "getrandom" | "uname" | "close_range" => &["EPERM", "ENOSYS"],
        "rt_sigaction" | "rt_sigprocmask" => &["EINVAL"],
        // No process can run without arch_prctl and set_tid_address. The other system calls cannot fail.
        "arch_prctl" | "set_tid_address" | "umask" | "exit" | "exit_group" => &[],
        "getpid" | "getuid" | "getpgrp" | "getresuid" | "getresgid" | "getgroups" => &[],
        _ => panic!("{call}: this system call is not in the table of errors"),
    }
}

/// Two programs, of which `job` has every key that adds system calls to a start.
fn setup() -> Setup {
    let user = if root().is_ok() { "user=54321:54322\n" } else { "" };
    rsup(&two_programs(&format!("stdout_logfile=%(here)s/log\numask=022\ndirectory=/\n{user}")))
        .args(&["-e", "debug"])
        // rsup must request memory from the kernel for this environment.
        .env("LARGE", &"x".repeat(100_000))
}

/// The number of uses of each system call in a run without failures: by rsup before its first fork, by rsup in total,
/// and by its children before their exec.
fn calls() -> BTreeMap<String, [u32; 3]> {
    let trace = ["strace", "-D", "-f", "-b", "execve", "-qq", "-e", "signal=none", "-o", "trace"];
    let mut programs = TwoPrograms::start(setup().through(&trace));
    programs.serves_and_ends().unwrap();
    // strace inherits the stderr of rsup, and `exit_code` waits until no process has this stderr open. The trace is
    // complete then.
    assert_eq!(programs.rsup.exit_code(), 0);
    let own = programs.pid.to_string();
    let mut calls: BTreeMap<String, [u32; 3]> = BTreeMap::new();
    let mut forked = false;
    for line in programs.rsup.read("trace").lines() {
        let (pid, call) = line.trim_start().split_once(' ').unwrap();
        let Some((name, _)) = call.trim_start().split_once('(') else { continue };
        if name.starts_with('<') {
            continue;
        }
        let [before, all, child] = calls.entry(name.to_owned()).or_default();
        *before += u32::from(pid == own && !forked);
        *all += u32::from(pid == own);
        *child += u32::from(pid != own);
        forked |= ["fork", "clone"].contains(&name);
    }
    calls
}

/// If one of these system calls fails before the first program is started, rsup may exit with code 2 and one line.
const VITAL: [&str; 9] =
    ["brk", "mmap", "open", "read", "stat", "rt_sigprocmask", "signalfd4", "epoll_create1", "epoll_ctl"];

/// Whether every single use of each system call fails in turn, which takes minutes.
fn every_use() -> bool {
    std::env::var_os("INJECT").is_some_and(|which| which == "all")
}

#[test]
fn rsup_survives_a_system_call_that_fails_once() {
    needs!(installed("strace"), shipped_binary());
    let mut random = fastrand::Rng::with_seed(5);
    let every = every_use();
    let mut cases = vec![];
    for (call, [before, all, _]) in calls() {
        let uses: Vec<u32> = match all {
            0 => vec![],
            _ if every => (1..=all).collect(),
            1 => vec![1],
            _ => vec![1, random.u32(2..=all)],
        };
        // The first execve is the execve by which strace starts rsup.
        let uses = uses.into_iter().filter(|nth| call != "execve" || *nth > 1);
        for (nth, error) in uses.flat_map(|nth| errors(&call).iter().map(move |error| (nth, *error))) {
            cases.push((call.clone(), nth, error, nth <= before));
        }
    }
    each(&cases, |(call, nth, error, before)| {
        let inject = format!("inject={call}:error={error}:when={nth}");
        let quiet = ["strace", "-D", "-qq", "-o", "/dev/null", "-e", &inject];
        let mut programs = TwoPrograms::start(setup().through(&quiet));
        let may_exit = *before && VITAL.contains(&call.as_str());
        let started = programs.runs(TwoPrograms::WEB, &[]);
        if may_exit && let Some(code) = programs.rsup.ended() {
            // The test may notice the exit before it has read the last line.
            let is_why = |line: &Line| ["Error: ", "rsup: "].iter().any(|prefix| line.0.starts_with(prefix));
            let last = within(PATIENCE, || programs.rsup.log().pop().filter(is_why));
            return if code == Some(2) && last.is_some() {
                Ok(())
            } else {
                programs.fails(&format!("{inject}: rsup exited with {code:?}"))
            };
        }
        started.and_then(|_| programs.serves_and_ends()).map_err(|why| format!("{inject}: {why}"))
    });
}

#[test]
fn rsup_exits_before_it_starts_a_program_when_a_necessary_system_call_fails() {
    needs!(installed("strace"), shipped_binary());
    let cases = [
        ("rt_sigprocmask:error=EINVAL", "Error: can't block signals: EINVAL"),
        ("signalfd4:error=EPERM", "Error: can't watch signals: EPERM"),
        ("epoll_create1:error=EMFILE", "Error: can't watch signals: EMFILE"),
        ("epoll_ctl:error=ENOSPC", "Error: can't watch signals: ENOSPC"),
        ("open:error=EIO", "could not read config file supervisord.conf"),
        ("brk,mmap:error=ENOMEM", "rsup: out of memory"),
    ];
    each(&cases, |(inject, message)| {
        let inject = format!("inject={inject}");
        let (code, rsup) = setup().through(&["strace", "-D", "-qq", "-o", "/dev/null", "-e", &inject]).run();
        let last = rsup.log().pop().map(|line| line.0).unwrap_or_default();
        if code != 2 || !last.contains(message) || !rsup.lines("spawned").is_empty() {
            return Err(format!("{inject}: {code} {:?}", rsup.log()));
        }
        Ok(())
    });
}

/// The reason that rsup logs when this error makes a start of `job` fail; none if the error makes no start fail.
fn expected_reason(call: &str, error: &str) -> Option<String> {
    Some(match (call, error) {
        ("fork" | "clone", "EAGAIN") => "Too many processes in process table to spawn 'job'".into(),
        ("fork" | "clone", _) => format!("unknown error during fork for 'job': {error}"),
        ("pipe2", "EMFILE") => "too many open files to spawn 'job'".into(),
        ("pipe2", _) => format!("unknown error making dispatchers for 'job': {error}"),
        ("dup2", _) | ("epoll_ctl", _) => format!("couldn't set up descriptors for sleep: {error}"),
        ("chdir", _) => format!("couldn't chdir to /: {error}"),
        ("execve", _) => format!("couldn't exec sleep: {error}"),
        ("setgroups" | "setgid" | "setuid", _) => "couldn't setuid to 54321: ".into(),
        _ => return None,
    })
}

#[test]
fn rsup_survives_a_system_call_that_fails_for_a_while() {
    needs!(installed("strace"), shipped_binary());
    let ways = both_ways();
    let mut cases = vec![];
    for (call, [before, all, child]) in calls() {
        if all > before || child > 0 {
            cases.extend(errors(&call).iter().map(|error| (call.clone(), *error)));
        }
    }
    let cases: Vec<_> = cases.into_iter().zip(ways.iter().cycle()).collect();
    each(&cases, |((call, error), way): &((String, &str), &Way)| {
        let inject = format!("inject={call}:error={error}");
        let mut programs = TwoPrograms::start(setup().run_as(**way));
        let restart = |programs: &mut TwoPrograms| {
            let web = programs.runs(TwoPrograms::WEB, &[])?;
            let job = programs.runs(TwoPrograms::JOB, &[])?;
            // A program may run before rsup has made its last system call for the start.
            programs.until("the log says that both programs run", |life| {
                let is_logged = |name: &str| !life.rsup.lines(&format!("success: {name} ")).is_empty();
                (is_logged("web") && is_logged("job")).then_some(())
            })?;
            let injection = Injection::start(programs.pid, true, &inject);
            kill(job, SIGKILL);
            let slept = programs.sleeps(Duration::from_millis(if every_use() { 5000 } else { 1500 }));
            let same = programs.running(TwoPrograms::WEB) == [web];
            // A busy machine may need longer for the first failed start.
            let logged = expected_reason(call, error).map_or(Ok(()), |reason| {
                let line = format!("spawnerr: {reason}");
                let is_logged = |life: &TwoPrograms| (!life.rsup.lines(&line).is_empty()).then_some(());
                programs.until(&format!("the log contains {line:?}"), is_logged)
            });
            injection.stop();
            slept?;
            logged?;
            if !same {
                return programs.fails("the program `web` did not keep running");
            }
            programs.runs(TwoPrograms::JOB, &[job]).map(drop)
        };
        restart(&mut programs)
            .and_then(|()| programs.serves_and_ends())
            .map_err(|why| format!("{inject} {way:?}: {why}"))
    });
}

#[test]
fn no_program_runs_when_a_change_of_user_returns_success_without_effect() {
    needs!(installed("strace"), root());
    let cases = [
        ("setgroups", "Could not set groups of effective user"),
        ("setgid", "Could not set group id of effective user"),
        ("setuid", "Could not set user id of effective user: EPERM"),
    ];
    for (call, why) in cases {
        // strace skips the system call and returns 0, as a seccomp filter can.
        let inject = format!("inject={call}:retval=0");
        let through = ["strace", "-D", "-f", "-b", "execve", "-qq", "-o", "/dev/null", "-e", &inject];
        let conf = script("job", "echo ran > ran") + "user=54321:54322\nstartretries=0\n";
        let (code, job) = rsup(&conf).through(&through).run();
        assert_eq!((code, job.read("ran").as_str()), (1, ""), "{call}");
        let refused = format!("spawnerr: couldn't setuid to 54321: {why}");
        assert_eq!(job.lines(&refused).len(), 1, "{call} {:?}", job.log());

        let conf = "[supervisord]\nuser=54321:54322\n".to_owned() + &script("job", "echo ran > ran");
        let (code, all) = rsup(&conf).through(&through).run();
        assert_eq!((code, all.read("ran").as_str()), (2, ""), "{call}");
        assert_eq!(all.lines(&format!("Error: {why}")).len(), 1, "{call}");
    }
}
