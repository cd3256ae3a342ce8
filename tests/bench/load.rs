//! The time to load a file of 1,000 programs, in a process that has done nothing else. Prints the median and the
//! extremes of 50 such processes. Each process is this binary itself.
use std::env;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use rsup::config::{self, Machine, Overrides};

const RUNS: usize = 50;
/// The environment variable that names the file to a process that loads it.
const FILE: &str = "RSUP_BENCH_FILE";

/// Whether this process is one that loads the file.
pub(crate) fn is_requested() -> bool {
    env::var_os(FILE).is_some()
}

pub(crate) fn load_once() {
    let file = env::var_os(FILE).expect("is_requested has returned true");
    let file = Path::new(&file);
    let inputs = Machine {
        environment: &[],
        non_utf8_env_names: &[],
        host: "host",
        list_directory: &rsup::sys::list_directory,
        check_user: &|_| Ok(()),
        try_step: None,
    };
    let start = Instant::now();
    let loaded = config::load(file, &Overrides::default(), &inputs);
    println!("{}", start.elapsed().as_micros());
    assert_eq!(loaded.config.expect("a file without mistakes").processes.len(), 1000);
}

pub(crate) fn measure() {
    let dir = tempfile::tempdir().expect("a directory to write to");
    let file = dir.path().join("supervisord.conf");
    let mut text = String::from("[supervisord]\nnodaemon=true\n");
    for number in 0..1000 {
        write!(
            text,
            "[program:app{number}]\ncommand=/usr/bin/app --port={number} --name=%(program_name)s\n\
             autorestart=true\nstdout_logfile=/dev/stdout\nstdout_logfile_maxbytes=0\nredirect_stderr=true\n"
        )
        .expect("a String never fails");
    }
    std::fs::write(&file, text).expect("a file to write to");

    let once = || {
        let own = env::current_exe().expect("a path");
        let output = Command::new(own).env(FILE, &file).output().expect("a process");
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number of microseconds")
    };
    let mut times: Vec<u64> = (0..RUNS).map(|_| once()).collect();
    times.sort_unstable();
    let [least, median, most] = [0, RUNS / 2, RUNS - 1].map(|place| times[place]);
    println!("loading 1,000 programs, {RUNS} times: median {median} µs, least {least} µs, most {most} µs");
}
