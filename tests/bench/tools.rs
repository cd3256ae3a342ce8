//! The binary under test, the programs that it runs, and the other inits of this machine.

use std::env;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::thread;

use nix::sys::signal::Signal;

use crate::command::INITS;
use crate::init::{Init, OTHER_RSUP};
use crate::probe;

/// The binary under test.
pub(crate) fn rsup() -> PathBuf {
    env::var_os("RSUP_BIN").map_or_else(|| env!("CARGO_BIN_EXE_rsup").into(), PathBuf::from)
}

/// Another build of rsup, if `RSUP_OTHER` names one.
pub(crate) fn other_rsup() -> Option<PathBuf> {
    env::var_os("RSUP_OTHER").map(PathBuf::from)
}

/// The path of the program `tests/programs/bench.rs`, which is built once.
pub(crate) fn program() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build("bench")).clone()
}

/// The path of the program `tests/programs/writer.rs`, which is built once.
pub(crate) fn writer() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build("writer")).clone()
}

fn build(name: &str) -> PathBuf {
    let path = env::current_exe().expect("a path").with_file_name(format!("{name}-program"));
    probe::build(name, &path);
    path
}

/// Lets the kernel send the child a signal if this process is killed.
pub(crate) fn end_with_this_process(command: &mut Command, signal: Signal) {
    #[allow(unsafe_code, reason = "there is no safe way to do something between fork and exec")]
    // SAFETY: prctl(2) is async-signal-safe, and the closure makes no other call.
    unsafe {
        command.pre_exec(move || Ok(nix::sys::prctl::set_pdeathsig(signal)?))
    };
}

/// The path of a command, if the command is installed.
pub(crate) fn find(command: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(command)).find(|file| file.is_file())
}

/// The path of an init for one command, if the init is installed.
pub(crate) fn init(name: &str) -> Option<PathBuf> {
    match name {
        "rsup" => Some(rsup()),
        OTHER_RSUP => other_rsup(),
        _ => find(name),
    }
}

/// What some tables need besides the inits.
const OTHER_TOOLS: &[&str] = &["strace", "valgrind", "callgrind_control", "s6-log", "svlogd"];

/// Reports on stderr which inits and tools are not installed, and therefore not measured.
pub(crate) fn report_missing() {
    let supervisors = Init::ALL.iter().flat_map(|init| init.commands());
    let inits = INITS.iter().map(|(name, _)| name).filter(|name| **name != OTHER_RSUP);
    for command in supervisors.chain(inits).chain(OTHER_TOOLS) {
        if init(command).is_none() {
            eprintln!("MISSING {command}: measurements that need it are left out");
        }
    }
}

/// CLOCK_MONOTONIC in nanoseconds, the clock of the programs' records.
pub(crate) fn now() -> u64 {
    rsup::sys::monotonic_nanos()
}

/// The kernel, the architecture and the number of processors.
pub(crate) fn machine() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let number = kernel.split('-').next().unwrap_or_default().trim().to_owned();
    let cores = thread::available_parallelism().map_or(0, usize::from);
    format!("Linux {number}, {}, {cores} cores.", env::consts::ARCH)
}
