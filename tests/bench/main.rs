//! The benchmarks: rsup, every other init that is installed, and a bare loop of vfork, exec and waitpid, each as PID 1
//! of a fresh PID namespace. The inits take turns, because only ratios within one run are comparable. Prints Markdown
//! tables of medians.
//!
//! `RSUP_BIN` names the binary to measure, and `RSUP_OTHER` a second one to compare it with; words on the command line
//! name the tables to print, all of them without any.
#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    dead_code,
    reason = "a benchmark starts processes, reads the clock and prints, and it uses only a part of tests/support"
)]

mod cgroup;
mod command;
mod control;
mod events;
mod idle;
mod init;
mod life;
mod load;
mod ordered;
mod output;
#[path = "../support/plugin.rs"]
mod plugin;
#[path = "../support/probe.rs"]
mod probe;
#[path = "../support/proc.rs"]
mod proc;
#[path = "../support/python.rs"]
mod python;
mod reap;
mod size;
mod table;
mod tools;
mod world;

/// Each table by its name, in the order in which they are printed.
const TABLES: [(&str, fn()); 10] = [
    ("life", life::measure),
    ("reap", reap::measure),
    ("idle", idle::measure),
    ("command", command::measure),
    ("control", control::measure),
    ("events", events::measure),
    ("load", load::measure),
    ("ordered", ordered::measure),
    ("output", output::measure),
    ("size", size::measure),
];

fn main() {
    if load::is_requested() {
        return load::load_once();
    }
    // cargo adds the argument `--bench`.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let known = |word: &String| TABLES.iter().any(|(name, _)| name == word);
    assert!(wanted.iter().all(known), "no such table: {wanted:?} of {:?}", TABLES.map(|(name, _)| name));
    tools::report_missing();
    let _cgroup = cgroup::Cgroup::enter();
    for (name, measure) in TABLES {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            measure();
        }
    }
    println!("\n{}", tools::machine());
}
