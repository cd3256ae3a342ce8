//! Every system call of rsup fails: each that a real life makes, at its first use and at a later one; then for a while
//! every time, in rsup and in its children up to their exec. rsup lives, sleeps, and its programs run, are restarted and
//! stop.
//!
//! What is failed is what `strace` sees, so a call that is new in the code is failed too, and one whose failing nobody
//! has thought about is an error. `INJECT=all` fails every single use.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::resource_use::shipped_binary;
use crate::support::two_programs::{TwoPrograms, two_programs};
use crate::support::{
    PATIENCE, SIGKILL, SIGTERM, Setup, Way, both_ways, each, installed, kill, needs, root, rsup, script,
    within,
};

/// What a call can fail with: what a healthy kernel may say, and a filter of system calls.
fn errors(call: &str) -> &'static [&'static str] {
    match call {
        "brk" | "mmap" | "mremap" | "munmap" => &["ENOMEM"],
        "fork" | "clone" => &["EAGAIN", "ENOMEM", "EPERM"],
        "pipe2" | "socket" => &["EMFILE", "ENFILE"],
        "open" | "openat" => &["EMFILE", "EACCES", "EINTR"],
        "stat" | "fstat" | "newfstatat" | "access" | "faccessat" | "readlink" | "getcwd" => {
            &["ENOENT", "EIO"]
        }
        "connect" => &["EACCES", "EINTR"],
        "lseek" | "ioctl" => &["EINVAL"],
        "read" | "readv" => &["EINTR", "EIO", "EAGAIN"],
        "write" | "pwritev2" => &["EAGAIN", "EINTR", "EIO", "ENOSPC", "ENOSYS"],
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
        // The C library's first steps, without which there is no process; what cannot fail; and the end.
        "arch_prctl" | "set_tid_address" | "umask" | "exit" | "exit_group" => &[],
        "getpid" | "getuid" | "getpgrp" | "getresuid" | "getresgid" | "getgroups" => &[],
        _ => panic!("{call}: a system call whose failing nobody has thought about"),
    }
}

/// Two programs that use all that a start can use.
fn setup() -> Setup {
    let user = if root().is_ok() { "user=54321:54322\n" } else { "" };
    rsup(&two_programs(&format!("stdout_logfile=%(here)s/log\numask=022\ndirectory=/\n{user}")))
        .args(&["-e", "debug"])
        // More than rsup's first memory can hold: it has to ask the kernel.
        .env("LARGE", &"x".repeat(100_000))
}

/// How often each call is made in one good life: by rsup before its first fork, in all, and by a child before its exec.
fn calls() -> BTreeMap<String, [u32; 3]> {
    let trace = ["strace", "-D", "-f", "-b", "execve", "-qq", "-e", "signal=none", "-o", "trace"];
    let mut life = TwoPrograms::start(setup().through(&trace));
    life.serves_and_ends().unwrap();
    // strace has written all when it lets go of rsup's stderr.
    assert_eq!(life.rsup.exit_code(), 0);
    let own = life.pid.to_string();
    let mut calls: BTreeMap<String, [u32; 3]> = BTreeMap::new();
    let mut forked = false;
    for line in life.rsup.read("trace").lines() {
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

/// Without these there is no rsup: before the first program it leaves, with code 2 and a line.
const VITAL: [&str; 9] =
    ["brk", "mmap", "open", "read", "stat", "rt_sigprocmask", "signalfd4", "epoll_create1", "epoll_ctl"];

/// Whether it may take minutes.
fn everything() -> bool {
    std::env::var_os("INJECT").is_some_and(|which| which == "all")
}

#[test]
fn a_call_that_fails_once() {
    needs!(installed("strace"), shipped_binary());
    let mut random = fastrand::Rng::with_seed(5);
    let every = everything();
    let mut cases = vec![];
    for (call, [before, all, _]) in calls() {
        let uses: Vec<u32> = match all {
            0 => vec![],
            _ if every => (1..=all).collect(),
            1 => vec![1],
            _ => vec![1, random.u32(2..=all)],
        };
        // The first is strace's own.
        let uses = uses.into_iter().filter(|nth| call != "execve" || *nth > 1);
        for (nth, error) in uses.flat_map(|nth| errors(&call).iter().map(move |error| (nth, *error))) {
            cases.push((call.clone(), nth, error, nth <= before));
        }
    }
    each(&cases, |(call, nth, error, before)| {
        let inject = format!("inject={call}:error={error}:when={nth}");
        let quiet = ["strace", "-D", "-qq", "-o", "/dev/null", "-e", &inject];
        let mut life = TwoPrograms::start(setup().through(&quiet));
        let may_leave = *before && VITAL.contains(&call.as_str());
        let lived = life.runs(TwoPrograms::WEB, &[]);
        if may_leave && let Some(code) = life.rsup.ended() {
            // Its end may be seen before its last words.
            let last = within(PATIENCE, || life.rsup.log().pop());
            let last = last.map(|line| line.0).unwrap_or_default();
            let good = code == Some(2) && ["Error: ", "rsup: "].iter().any(|mark| last.starts_with(mark));
            return if good { Ok(()) } else { life.fails(&format!("{inject} left with {code:?}")) };
        }
        lived.and_then(|_| life.serves_and_ends()).map_err(|why| format!("{inject}: {why}"))
    });
}

#[test]
fn without_what_is_vital_rsup_leaves_before_it_starts_anything() {
    needs!(installed("strace"), shipped_binary());
    let cases = [
        ("rt_sigprocmask:error=EINVAL", "Error: can't block signals: EINVAL"),
        ("signalfd4:error=EPERM", "Error: can't watch signals: EPERM"),
        ("epoll_create1:error=EMFILE", "Error: can't watch signals: EMFILE"),
        ("epoll_ctl:error=ENOSPC", "Error: can't watch signals: ENOSPC"),
        ("open:error=EIO", "could not read config file supervisord.conf"),
        ("brk,mmap:error=ENOMEM", "rsup: out of memory"),
    ];
    each(&cases, |(inject, words)| {
        let inject = format!("inject={inject}");
        let (code, rsup) = setup().through(&["strace", "-D", "-qq", "-o", "/dev/null", "-e", &inject]).run();
        let last = rsup.log().pop().map(|line| line.0).unwrap_or_default();
        if code != 2 || !last.contains(words) || !rsup.lines("spawned").is_empty() {
            return Err(format!("{inject}: {code} {:?}", rsup.log()));
        }
        Ok(())
    });
}

/// strace at work on rsup.
struct Injection(Child);

impl Injection {
    fn into(life: &TwoPrograms, inject: &str) -> Self {
        let words = ["-f", "-b", "execve", "-o", "/dev/null", "-e", inject, "-p", &life.pid.to_string()];
        let mut strace = Command::new("strace").args(words).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(strace.stderr.as_mut().unwrap()).read_line(&mut said).unwrap();
        assert!(said.contains("attached"), "{said}");
        Self(strace)
    }

    fn ends(mut self) {
        kill(self.0.id().cast_signed(), SIGTERM);
        let _status = self.0.wait();
    }
}

/// What is said of the start of `job` that fails of this.
fn said(call: &str, error: &str) -> Option<String> {
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
fn a_call_that_fails_for_a_while() {
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
        let mut life = TwoPrograms::start(setup().run_as(**way));
        let live = |life: &mut TwoPrograms| {
            let web = life.runs(TwoPrograms::WEB, &[])?;
            let job = life.runs(TwoPrograms::JOB, &[])?;
            let injection = Injection::into(life, &inject);
            kill(job, SIGKILL);
            let slept = life.sleeps(Duration::from_millis(if everything() { 5000 } else { 1500 }));
            let same = life.running(TwoPrograms::WEB) == [web];
            injection.ends();
            slept?;
            if !same {
                return life.fails("the other program was disturbed");
            }
            let said = said(call, error).map(|why| format!("spawnerr: {why}"));
            if said.is_some_and(|line| life.rsup.lines(&line).is_empty()) {
                return life.fails("it does not say why");
            }
            life.runs(TwoPrograms::JOB, &[job]).map(drop)
        };
        live(&mut life)
            .and_then(|()| life.serves_and_ends())
            .map_err(|why| format!("{inject} {way:?}: {why}"))
    });
}

#[test]
fn a_user_that_only_seems_to_change_runs_nothing() {
    needs!(installed("strace"), root());
    for call in ["setgroups", "setgid", "setuid"] {
        let lie = format!("inject={call}:retval=0");
        let through = ["strace", "-D", "-f", "-b", "execve", "-qq", "-o", "/dev/null", "-e", &lie];
        let conf = script("job", "echo ran > ran") + "user=54321:54322\nstartretries=0\n";
        let (code, job) = rsup(&conf).through(&through).run();
        assert_eq!((code, job.read("ran").as_str()), (1, ""), "{call}");
        let refused = "spawnerr: couldn't setuid to 54321: Can't drop privilege as nonroot user";
        assert_eq!(job.lines(refused).len(), 1, "{call} {:?}", job.log());

        let conf = "[supervisord]\nuser=54321:54322\n".to_owned() + &script("job", "echo ran > ran");
        let (code, all) = rsup(&conf).through(&through).run();
        assert_eq!((code, all.read("ran").as_str()), (2, ""), "{call}");
        assert_eq!(all.lines("Error: Can't drop privilege as nonroot user").len(), 1, "{call}");
    }
}
