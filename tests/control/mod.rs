//! Control by supervisorctl: the real client of rsup and the real rsup, as PID 1 of a PID namespace.

mod faults;
mod scripts;
mod steps;
mod transcript;

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Rsup, Setup, binary};

/// The directory, in the directory of the test, with the link `supervisorctl` to the binary under test.
const BIN: &str = "bin";

/// The search path of a test with `supervisorctl`.
fn search_path(bin: &Path) -> String {
    format!("{}:{}", bin.display(), env::var("PATH").unwrap())
}

/// Creates the links `supervisorctl` and `supervisord`. All programs find both.
fn with_supervisorctl(setup: Setup) -> Setup {
    let bin = setup.path(BIN);
    fs::create_dir(&bin).unwrap();
    for name in ["supervisorctl", "supervisord"] {
        symlink(fs::canonicalize(binary()).unwrap(), bin.join(name)).unwrap();
    }
    setup.env("PATH", &search_path(&bin)).env("TZ", "UTC")
}

/// A command in the PID namespace and the directory of a set-up with `supervisorctl` that runs as PID 1.
fn command_beside(rsup: &Rsup, words: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command
        .args(["-t", &rsup.pid().to_string(), "-p", "-m"])
        .arg(format!("--wdns={}", rsup.path("").display()))
        .args(words)
        .env_clear()
        .env("PATH", search_path(&rsup.path(BIN)))
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}
