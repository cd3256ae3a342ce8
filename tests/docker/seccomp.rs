//! A seccomp profile of the engine that refuses every system call that is not in its list (`--security-opt
//! seccomp=FILE`). rsup must run, restart and stop its programs although the profile leaves out the calls that rsup has
//! a substitute for. tests/faults.rs refuses each system call of rsup, without an engine.
//!
//! The test runs with Docker only: the profile also names the calls of Docker's runtime, and podman has another by
//! default.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Container, Engine, Image, docker, test_with};
use crate::resource_use::shipped_binary;
use crate::support::probe::{probe, static_programs};
use crate::support::two_programs::{TwoPrograms, two_programs};
use crate::support::{PATIENCE, SIGKILL, each, kill, needs, proc, root, within};

/// The system calls that rsup and its programs need. Some of them exist only on older machines; the engine skips names
/// that the machine does not know. close(2) is one of them because the engine's runtime needs it, not because of rsup.
const NEEDED: [&str; 29] = [
    "arch_prctl",
    "brk",
    "clone",
    "close",
    "dup2",
    "dup3",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "execve",
    "exit_group",
    "fcntl",
    "fstat",
    "futex",
    "kill",
    "mmap",
    "mprotect",
    "munmap",
    "newfstatat",
    "open",
    "openat",
    "pipe2",
    "ppoll",
    "read",
    "rt_sigprocmask",
    "set_tid_address",
    "signalfd4",
    "stat",
    "write",
];

/// The further system calls that the engine's runtime (runc) makes between the start of the filter and the exec of
/// rsup.
const RUNTIME: [&str; 10] = [
    "fstatfs",
    "getdents64",
    "getpid",
    "gettid",
    "madvise",
    "nanosleep",
    "rt_sigreturn",
    "sched_yield",
    "sigaltstack",
    "tgkill",
];

/// clone(2) with `CLONE_VM`, except for the threads of the engine's runtime.
const CLONE_VM: &str = "clone with CLONE_VM";

/// The system calls that rsup uses if it can, and otherwise replaces by others.
const SUBSTITUTED: [&str; 9] =
    [CLONE_VM, "access", "close_range", "poll", "pwritev2", "rt_sigtimedwait", "sendto", "setpgid", "wait4"];

/// The substitutes that nothing else needs.
const SUBSTITUTES: [&str; 1] = ["waitid"];

/// The system calls that rsup makes and does not need. No profile of this test allows them.
const DISPENSABLE: [&str; 19] = [
    "connect",
    "getcwd",
    "getgroups",
    "getpgid",
    "getpgrp",
    "getrandom",
    "getresgid",
    "getresuid",
    "getsid",
    "getuid",
    "ioctl",
    "lseek",
    "mremap",
    "prctl",
    "prlimit64",
    "readlink",
    "rt_sigaction",
    "socket",
    "uname",
];

/// A profile that allows the calls of the lists above, except those that are left out. The calls that are left out fail
/// with this errno, and those that are in no list fail with EPERM.
fn profile(left_out: &[&str], errno: i32) -> Value {
    let named = [&DISPENSABLE, left_out].concat().into_iter().filter(|call| *call != CLONE_VM);
    let refused: Vec<_> = named.collect();
    let all = [&NEEDED[..], &RUNTIME, &SUBSTITUTED, &SUBSTITUTES].concat();
    let is_allowed = |call: &&str| !["clone", CLONE_VM].contains(call) && !left_out.contains(call);
    let allowed: Vec<_> = all.into_iter().filter(is_allowed).collect();
    let mut rules = vec![
        json!({"names": allowed, "action": "SCMP_ACT_ALLOW"}),
        json!({"names": refused, "action": "SCMP_ACT_ERRNO", "errnoRet": errno}),
    ];
    // The engine compares the first argument, after a bitwise AND with `value`, with `valueTwo`.
    let clone = |mask: i32, flags: i32, action: &str| {
        let flags = json!({"index": 0, "value": mask, "valueTwo": flags, "op": "SCMP_CMP_MASKED_EQ"});
        let mut rule = json!({"names": ["clone"], "action": action, "args": [flags]});
        if action == "SCMP_ACT_ERRNO" {
            rule["errnoRet"] = errno.into();
        }
        rule
    };
    let thread = libc::CLONE_VM | libc::CLONE_THREAD;
    let child_with_own_memory = clone(libc::CLONE_VM, 0, "SCMP_ACT_ALLOW");
    let child_with_same_memory =
        if left_out.contains(&CLONE_VM) { "SCMP_ACT_ERRNO" } else { "SCMP_ACT_ALLOW" };
    rules.push(child_with_own_memory);
    rules.push(clone(thread, thread, "SCMP_ACT_ALLOW"));
    rules.push(clone(thread, libc::CLONE_VM, child_with_same_memory));
    json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules})
}

/// How the filter of a container is chosen.
#[derive(Debug)]
enum Filter<'a> {
    /// No filter.
    Unconfined,
    /// A profile that leaves out these calls, which fail with this errno.
    LeavesOut(&'a [&'a str], i32),
}

impl Filter<'_> {
    /// Whether neither pwritev2(2) nor poll(2) works. rsup then writes no log lines, because a write could block.
    fn leaves_out_every_safe_write(&self) -> bool {
        matches!(self, Self::LeavesOut(calls, _) if calls.contains(&"pwritev2") && calls.contains(&"poll"))
    }
}

/// What rsup runs in a container.
#[derive(Clone, Copy, Debug)]
enum Mode {
    Configuration,
    OneCommand,
}

/// Starts a container. The engine sets no_new_privs, because then its runtime starts the filter as the last step before
/// the exec of rsup, and the profile need not allow the earlier steps.
fn start<'a>(image: &'a Image, filter: &Filter<'_>, words: &[&str]) -> Container<'a> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("profile.json");
    let option = match filter {
        Filter::Unconfined => "seccomp=unconfined".to_owned(),
        Filter::LeavesOut(left_out, errno) => {
            fs::write(&file, profile(left_out, *errno).to_string()).unwrap();
            format!("seccomp={}", file.display())
        }
    };
    image.start(&["--security-opt", "no-new-privileges", "--security-opt", &option], words)
}

/// Waits until rsup runs a program once, with another PID than `old`. Returns the PID on the host.
fn runs(rsup: i32, mark: &str, old: Option<i32>) -> Result<i32, String> {
    let is_program = |pid: &i32| proc::words(*pid) == ["sleep", mark];
    let found = within(PATIENCE, || {
        let found: Vec<_> = proc::children_listed(rsup).into_iter().filter(is_program).collect();
        found.first().copied().filter(|pid| found.len() == 1 && old != Some(*pid))
    });
    found.ok_or_else(|| format!("`sleep {mark}` does not run"))
}

/// Checks that rsup runs its programs, restarts one of them in configuration mode, and stops in time with the
/// documented exit code.
fn check(image: &Image, mode: Mode, filter: &Filter<'_>) -> Result<(), String> {
    let words: &[&str] = match mode {
        Mode::Configuration => &[],
        Mode::OneCommand => &["--", "sleep", TwoPrograms::WEB],
    };
    let container = start(image, filter, words);
    let rsup = container.pid();
    let checked = || {
        runs(rsup, TwoPrograms::WEB, None)?;
        let is_filtered = proc::status(rsup, "Seccomp").is_some_and(|mode| mode == "2");
        if matches!(filter, Filter::LeavesOut(..)) && !is_filtered {
            return Err("no filter applies to rsup".to_owned());
        }
        let documented = match mode {
            Mode::Configuration => {
                let job = runs(rsup, TwoPrograms::JOB, None)?;
                kill(job, SIGKILL);
                runs(rsup, TwoPrograms::JOB, Some(job))?;
                0
            }
            // 128 + SIGTERM
            Mode::OneCommand => 143,
        };
        let took = container.stop();
        let code = container.exit_code();
        // The engine sends SIGKILL after 10 seconds.
        if took >= Duration::from_secs(5) || code != documented {
            return Err(format!("the stop took {took:?}, and the exit code is {code}"));
        }
        let must_log = matches!(mode, Mode::Configuration) && !filter.leaves_out_every_safe_write();
        let is_logged = container.logs().contains("rsup exits with status 0: received SIGTERM");
        (is_logged || !must_log).then_some(()).ok_or_else(|| "the log is incomplete".to_owned())
    };
    checked().map_err(|why| format!("{mode:?}, {filter:?}: {why}\n{}", container.logs()))
}

/// An image with rsup, two programs and the probe, and nothing else.
fn image(engine: Engine) -> Image {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    for directory in ["bin", "sbin", "etc"] {
        fs::create_dir(root.join(directory)).unwrap();
    }
    fs::copy(crate::support::binary(), root.join("sbin/rsup")).unwrap();
    fs::copy(probe(), root.join("bin/probe")).unwrap();
    symlink("probe", root.join("bin/sleep")).unwrap();
    fs::write(root.join("etc/supervisord.conf"), two_programs("")).unwrap();
    engine.import(root)
}

/// Whether the engine knows the key `errnoRet`. Docker before 20.10.10 does not, and makes every refused call fail with
/// EPERM.
fn applies_the_errno(image: &Image) -> Result<(), String> {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let container = start(image, &Filter::LeavesOut(&[], errno), &["--", "probe", "errno", "uname"]);
        match container.exit_code() {
            code if code == errno => {}
            libc::EPERM => return Err("needs an engine that knows the errnoRet of a profile".to_owned()),
            code => panic!("uname(2) fails with {code} instead of {errno}: {}", container.logs()),
        }
    }
    Ok(())
}

#[test]
fn rsup_works_under_a_profile_that_leaves_out_what_rsup_can_replace() {
    test_with(&docker(), check_every_filter);
}

fn check_every_filter(engine: Engine) {
    needs!(root(), shipped_binary(), static_programs());
    let image = image(engine);
    needs!(applies_the_errno(&image));
    let alone = SUBSTITUTED.chunks(1);
    let left_out = [&[][..], &SUBSTITUTED].into_iter().chain(alone);
    let profiles = left_out.flat_map(|calls| [libc::EPERM, libc::ENOSYS].map(|errno| (calls, errno)));
    let filters = profiles.map(|(calls, errno)| Filter::LeavesOut(calls, errno));
    let filters: Vec<_> = filters.chain([Filter::Unconfined]).collect();
    let both = [Mode::Configuration, Mode::OneCommand];
    let cases: Vec<_> = filters.iter().flat_map(|filter| both.map(|mode| (mode, filter))).collect();
    each(&cases, |(mode, filter)| check(&image, *mode, filter));
}
