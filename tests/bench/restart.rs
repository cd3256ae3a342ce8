//! How long a RUNNING program is gone: from its SIGKILL to the first instruction of the process that replaces it.
//!
//! The program is this binary itself, which writes the clock into a file as soon as it runs. Prints the median and
//! the extremes of 50 deaths. `RSUP_BIN` names the binary to measure.
#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark stands outside the house: it starts processes, reads the clock and prints"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const DEATHS: usize = 50;
/// A program is started at most once a second, so each death has a program of its own that is up for long enough.
const MARK: &str = "RSUP_BENCH_PROGRAM";

fn main() {
    match std::env::var_os(MARK) {
        Some(_) => program(),
        None => measure(),
    }
}

/// The monotonic clock, in nanoseconds.
fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of ours.
    #[allow(unsafe_code, reason = "the clock of another process is read, so std's opaque one will not do")]
    unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time)
    };
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap()
}

/// The program: says when it came to life, and stays.
fn program() {
    let now = now();
    let name = std::env::var("SUPERVISOR_PROCESS_NAME").unwrap();
    fs::write(format!("{name}.new"), format!("{} {now}", std::process::id())).unwrap();
    fs::rename(format!("{name}.new"), name).unwrap();
    loop {
        std::thread::park();
    }
}

/// The process of a program and when it came to life.
fn born(path: &std::path::Path) -> Option<(i32, u64)> {
    let text = fs::read_to_string(path).ok()?;
    let (pid, time) = text.split_once(' ')?;
    Some((pid.parse().ok()?, time.parse().ok()?))
}

fn measure() {
    let dir = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    let conf = format!(
        "[program:p]\ncommand={}\nprocess_name=p%(process_num)d\nnumprocs={DEATHS}\nautorestart=true\n",
        program.display()
    );
    fs::write(dir.path().join("supervisord.conf"), conf).unwrap();
    let binary = std::env::var_os("RSUP_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_rsup").into());
    let mut rsup = Command::new(binary)
        .args(["-c", "supervisord.conf"])
        .current_dir(&dir)
        .env(MARK, "1")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(rsup.stderr.take().unwrap()).lines();
    let running = log.by_ref().map_while(Result::ok).filter(|line| line.contains("success: "));
    assert_eq!(running.take(DEATHS).count(), DEATHS, "rsup left");
    // Nobody reads on, as in a container whose log is kept elsewhere; the pipe is large enough for the rest.

    let mut gone: Vec<u64> = (0..DEATHS)
        .map(|number| {
            let path = dir.path().join(format!("p{number}"));
            let (old, _) = born(&path).expect("it is running");
            let death = now();
            kill(Pid::from_raw(old), Signal::SIGKILL).unwrap();
            loop {
                match born(&path) {
                    Some((pid, birth)) if pid != old => return birth - death,
                    _ => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        })
        .collect();
    gone.sort_unstable();
    kill(Pid::from_raw(rsup.id().cast_signed()), Signal::SIGTERM).unwrap();
    rsup.wait().unwrap();

    let us = |nanoseconds: u64| nanoseconds / 1000;
    println!(
        "death to new process, {DEATHS} times: median {} µs, least {} µs, most {} µs",
        us(gone[DEATHS / 2]),
        us(gone[0]),
        us(gone[DEATHS - 1])
    );
}
