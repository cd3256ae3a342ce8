//! System calls that strace lets fail.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::{SIGTERM, kill};

/// A strace process that is attached to a process and makes its system calls fail.
pub(crate) struct Injection(Child);

impl Injection {
    /// `inject` is the value of strace's option `-e`. With `follow`, strace also traces the children of the process until
    /// their exec. Returns when strace is attached.
    pub(crate) fn start(pid: i32, follow: bool, inject: &str) -> Self {
        let follow: &[&str] = if follow { &["-f", "-b", "execve"] } else { &[] };
        let args = ["-o", "/dev/null", "-e", "signal=none", "-e", inject, "-p", &pid.to_string()];
        let mut command = Command::new("strace");
        let mut strace = command.args(follow).args(args).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(strace.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("attached"), "{line}");
        Self(strace)
    }

    /// Detaches strace.
    pub(crate) fn stop(mut self) {
        kill(self.0.id().cast_signed(), SIGTERM);
        let _status = self.0.wait();
    }
}
