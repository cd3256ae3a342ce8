//! How long `--check` of a file of 1,000 programs takes, the start of the process included.
#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark stands outside the house: it starts processes, reads the clock and prints"
)]

use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

const RUNS: usize = 50;

fn main() {
    let binary = std::env::var_os("RSUP_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_rsup").into());
    let dir = tempfile::tempdir().expect("a directory to write to");
    let file = dir.path().join("supervisord.conf");
    let mut text = String::from("[supervisord]\nnodaemon=true\n");
    for number in 0..1000 {
        write!(
            text,
            "[program:app{number}]\ncommand=/usr/bin/app --port={number} --name=%(program_name)s\n\
             autorestart=true\nstdout_logfile=/dev/stdout\nstdout_logfile_maxbytes=0\nredirect_stderr=true\n"
        )
        .expect("memory");
    }
    std::fs::write(&file, text).expect("a file to write to");

    let mut times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            let checked = Command::new(&binary).arg("--check").arg("-c").arg(&file).output();
            assert!(checked.expect("rsup to start").status.success());
            start.elapsed()
        })
        .collect();
    times.sort();
    let [least, median, most] = [0, RUNS / 2, RUNS - 1].map(|place| times[place].as_micros());
    println!("loading 1,000 programs, {RUNS} times: median {median} µs, least {least} µs, most {most} µs");
}
