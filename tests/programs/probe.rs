//! A program for tests that a shell cannot do: tests with all 64 signals, and in images that hold nothing else. The
//! program is linked statically (see tests/support/probe.rs). Its `main` is a C `main`, because Rust's own changes
//! SIGPIPE.
#![no_main]

use std::ffi::{CStr, CString, c_char, c_int, c_long};
use std::fs::OpenOptions;
use std::io::Write;
use std::ptr::null;

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn fork() -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn _exit(code: c_int) -> !;
    fn prctl(option: c_int, ...) -> c_int;
    fn fcntl(fd: c_int, command: c_int, ...) -> c_int;
    fn execv(path: *const c_char, argv: *const *const c_char) -> c_int;
    fn kill(pid: c_int, signal: c_int) -> c_int;
    fn setpgid(pid: c_int, group: c_int) -> c_int;
    fn setsid() -> c_int;
    fn tcsetpgrp(fd: c_int, group: c_int) -> c_int;
    fn ioctl(fd: c_int, request: c_int, ...) -> c_int;
}

/// The numbers of system calls. The C library's functions leave out some signals.
const SIGACTION: c_long = if cfg!(target_arch = "x86_64") { 13 } else { 134 };
const SIGPROCMASK: c_long = if cfg!(target_arch = "x86_64") { 14 } else { 135 };
const SIGTIMEDWAIT: c_long = if cfg!(target_arch = "x86_64") { 128 } else { 137 };
const SIG_SETMASK: c_int = 2;
const SET_SIZE: usize = 8;

#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    let words: Vec<&CStr> = (1..argc as usize).map(|at| unsafe { CStr::from_ptr(*argv.add(at)) }).collect();
    let text = |at: usize| words[at].to_str().unwrap();
    if unsafe { CStr::from_ptr(*argv) } == c"sleep" {
        loop {
            std::thread::park();
        }
    }
    match text(0) {
        "listen" => listen(text(1), words.get(2).map_or(0, |last| last.to_str().unwrap().parse().unwrap())),
        "init" => return init(text(1), &words[2..]),
        "with" => with(text(1), text(2), &words[3..]),
        "fill" => fill(),
        "orphans" => orphans(text(1).parse().unwrap()),
        "without" => without(text(1), text(2), &words[3..]),
        "sets" => sets(),
        "descriptors" => descriptors(),
        "environment" => std::env::vars().for_each(|(key, value)| println!("{key}={value}")),
        "words" => words[1..].iter().for_each(|word| println!("{:02x?}", word.to_bytes())),
        "errno" => return errno(text(1)),
        "exit" => return text(1).parse().unwrap(),
        word => panic!("{word}: unknown command"),
    }
    0
}

fn set_mask(mask: u64) -> u64 {
    let mut old = 0_u64;
    unsafe { syscall(SIGPROCMASK, SIG_SETMASK, &raw const mask, &raw mut old, SET_SIZE) };
    old
}

/// `listen FILE [LAST]`: a leader and a child in the leader's process group write each signal that they receive into
/// the file, until they receive signal `LAST`.
fn listen(file: &str, last: c_long) {
    set_mask(u64::MAX);
    let who = if unsafe { fork() } == 0 { "member" } else { "leader" };
    let mut file = OpenOptions::new().create(true).append(true).open(file).unwrap();
    // Each line is one write, so that the lines of the two processes do not mix.
    let mut write = |word: &str| file.write_all(format!("{who} {word}\n").as_bytes()).unwrap();
    write("ready");
    let all = u64::MAX;
    loop {
        let signal = unsafe { syscall(SIGTIMEDWAIT, &raw const all, null::<u8>(), null::<u8>(), SET_SIZE) };
        if signal > 0 {
            write(&signal.to_string());
        }
        if signal == last {
            return;
        }
    }
}

/// `init KIND PATH WORDS…`: runs a program and forwards every signal to it, as an init does. KIND says where the
/// program runs: in the init's own process group (`same-group`), in a process group of its own in the foreground
/// (`own-group`, as under tini), or in a session of its own (`own-session`, as under dumb-init). Returns the program's
/// exit code.
fn init(kind: &str, words: &[&CStr]) -> c_int {
    const TIOCSCTTY: c_int = 0x540E;
    const TIOCNOTTY: c_int = 0x5422;
    const WNOHANG: c_int = 1;
    const SIGCHLD: c_long = 17;
    set_mask(u64::MAX);
    if kind == "own-session" {
        unsafe { ioctl(0, TIOCNOTTY) };
        // The kernel sends SIGHUP and SIGCONT to the process that gives up its terminal.
        let at_once = [0 as c_long; 2];
        let both = 1_u64 | 1 << 17;
        for _ in 0..2 {
            unsafe { syscall(SIGTIMEDWAIT, &raw const both, null::<u8>(), at_once.as_ptr(), SET_SIZE) };
        }
    }
    let child = unsafe { fork() };
    if child == 0 {
        match kind {
            "same-group" => {}
            "own-group" => {
                unsafe { setpgid(0, 0) };
                // SIGTTOU is blocked, so the call works in the background.
                unsafe { tcsetpgrp(0, std::process::id() as c_int) };
            }
            "own-session" => {
                unsafe { setsid() };
                unsafe { ioctl(0, TIOCSCTTY, 0 as c_long) };
            }
            _ => panic!("{kind}: unknown kind of init"),
        }
        set_mask(0);
        execute(words);
    }
    let all = u64::MAX;
    loop {
        let signal = unsafe { syscall(SIGTIMEDWAIT, &raw const all, null::<u8>(), null::<u8>(), SET_SIZE) };
        let mut status = 0;
        while let reaped @ 1.. = unsafe { waitpid(-1, &raw mut status, WNOHANG) } {
            if reaped == child {
                return if status & 0x7f == 0 { status >> 8 } else { 128 + (status & 0x7f) };
            }
        }
        if signal > 0 && signal != SIGCHLD {
            unsafe { kill(child, signal as c_int) };
        }
    }
}

/// `with MASK IGNORED PATH WORDS…`: executes a program with these sets (hexadecimal) of blocked and ignored signals.
fn with(mask: &str, ignored: &str, words: &[&CStr]) {
    let set = |text: &str| u64::from_str_radix(text, 16).unwrap();
    for signal in 1..=64 {
        // The first word is SIG_IGN (1) or SIG_DFL (0).
        let action = [(set(ignored) >> (signal - 1) & 1) as usize, 0, 0, 0, 0, 0, 0, 0];
        unsafe { syscall(SIGACTION, signal as c_int, action.as_ptr(), null::<u8>(), SET_SIZE) };
    }
    set_mask(set(mask));
    execute(words);
}

fn execute(words: &[&CStr]) {
    let path = CString::from(words[0]);
    let argv: Vec<_> = words.iter().map(|word| word.as_ptr()).chain([null()]).collect();
    unsafe { execv(path.as_ptr(), argv.as_ptr()) };
    panic!("{path:?}: {}", std::io::Error::last_os_error());
}

/// `fill`: forks until no more processes are allowed, and keeps running.
fn fill() {
    let nap = || std::thread::sleep(std::time::Duration::from_millis(1));
    let mut reported = false;
    loop {
        match unsafe { fork() } {
            0 => loop {
                std::thread::park();
            },
            -1 if reported => nap(),
            -1 => println!("no more processes"),
            _ => continue,
        }
        reported = true;
    }
}

/// `orphans COUNT`: creates children whose parents exit before them, so that PID 1 has to reap the children.
fn orphans(count: u32) {
    const AT_A_TIME: u32 = 500;
    for _ in 0..count.div_ceil(AT_A_TIME) {
        let parent = unsafe { fork() };
        if parent == 0 {
            for _ in 0..AT_A_TIME {
                if unsafe { fork() } == 0 {
                    unsafe { _exit(0) };
                }
            }
            unsafe { _exit(0) };
        }
        unsafe { waitpid(parent, null::<c_int>().cast_mut(), 0) };
    }
}

/// `without ERRNO CALLS PATH WORDS…`: executes a program under a seccomp filter that makes system calls fail with an
/// error, as a container's filter may. `CALLS` are numbers, separated by commas. With `NUMBER:FLAGS`, the call fails
/// only if its first argument has all of these flags.
fn without(errno: &str, calls: &str, words: &[&CStr]) {
    #[repr(C)]
    struct Step(u16, u8, u8, u32);
    #[repr(C)]
    struct Program(u16, *const Step);
    // BPF_LD | BPF_W | BPF_ABS of an offset in struct seccomp_data, BPF_JMP | BPF_JEQ | BPF_K, BPF_ALU | BPF_AND |
    // BPF_K, and BPF_RET | BPF_K. The two numbers after a jump are the steps to skip: if equal, and if not.
    let number = || Step(0x20, 0, 0, 0);
    let first_argument = || Step(0x20, 0, 0, 16);
    let jump = |equal, other, value| Step(0x15, equal, other, value);
    let and = |value| Step(0x54, 0, 0, value);
    let answer = |value| Step(0x06, 0, 0, value);
    let allow = 0x7fff_0000;
    let refuse = 0x0005_0000 | errno.parse::<u32>().unwrap();
    let mut steps = vec![];
    for call in calls.split(',') {
        let (call, flags) = call.split_once(':').unwrap_or((call, "0"));
        let flags = flags.parse().unwrap();
        steps.extend([number(), jump(0, 4, call.parse().unwrap())]);
        steps.extend([first_argument(), and(flags), jump(0, 1, flags), answer(refuse)]);
    }
    steps.push(answer(allow));
    let program = Program(steps.len() as u16, steps.as_ptr());
    // PR_SET_NO_NEW_PRIVS, then PR_SET_SECCOMP to SECCOMP_MODE_FILTER.
    assert_eq!(unsafe { prctl(38, 1 as c_long, 0 as c_long, 0 as c_long, 0 as c_long) }, 0);
    assert_eq!(unsafe { prctl(22, 2 as c_long, &raw const program) }, 0);
    execute(words);
}

/// `errno uname`: calls uname(2) with a null pointer. Returns the errno: EFAULT, or that of a filter.
fn errno(call: &str) -> c_int {
    const UNAME: c_long = if cfg!(target_arch = "x86_64") { 63 } else { 160 };
    assert_eq!(call, "uname", "unknown system call");
    unsafe { syscall(UNAME, null::<u8>()) };
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

/// `sets`: prints the blocked and the ignored signals that the program was started with.
fn sets() {
    let mut ignored = 0_u64;
    for signal in 1..=64_u32 {
        let mut old = [0_usize; 8];
        unsafe { syscall(SIGACTION, signal as c_int, null::<u8>(), old.as_mut_ptr(), SET_SIZE) };
        ignored |= u64::from(old[0] == 1) << (signal - 1);
    }
    println!("blocked {:016x} ignored {ignored:016x}", set_mask(0));
}

/// `descriptors`: prints the descriptors that the program was started with.
fn descriptors() {
    const F_GETFD: c_int = 1;
    let open: Vec<_> = (0..1024).filter(|fd| unsafe { fcntl(*fd, F_GETFD) } != -1).collect();
    println!("{open:?}");
}
