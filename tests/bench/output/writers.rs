//! The programs that write (`tests/programs/writer.rs`), and the processes of one measurement.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;

use crate::proc;
use crate::tools;
use crate::world::NAMESPACE;

/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// The time between two looks at something that this process cannot wait for.
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// The size at which a log file is rotated, and the number of old files that are kept.
pub(super) const MAX_BYTES: u64 = 10_000_000;
pub(super) const BACKUPS: u64 = 3;

/// A directory with the FIFOs of the writers.
pub(super) struct Place {
    directory: TempDir,
    go: File,
    records: File,
}

impl Place {
    /// Creates the directory on a tmpfs, if this machine has one at the usual place.
    pub(super) fn new() -> Self {
        let builder = tempfile::Builder::new();
        let directory = builder.tempdir_in("/dev/shm").or_else(|_| builder.tempdir()).unwrap();
        let fifo = |name: &str| {
            let path = directory.path().join(name);
            mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
            // With both ends open, an open of either end never waits, and the FIFO has no end of file.
            File::options().read(true).write(true).open(path).unwrap()
        };
        let go = fifo("go");
        let records = fifo("records");
        fs::create_dir(directory.path().join("logs")).unwrap();
        Self { directory, go, records }
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The directory of the log files.
    pub(super) fn logs(&self) -> PathBuf {
        self.path().join("logs")
    }

    /// The length of all log files.
    pub(super) fn length_of_logs(&self) -> u64 {
        let files = fs::read_dir(self.logs()).unwrap();
        files.filter_map(|file| file.unwrap().metadata().ok()).map(|file| file.len()).sum()
    }

    /// Lets this number of writers do their next step.
    pub(super) fn go(&mut self, writers: usize) {
        self.go.write_all(&vec![0; writers]).unwrap();
    }

    /// Waits for a writer's next record, and returns its time in nanoseconds.
    pub(super) fn record(&mut self) -> u64 {
        wait_for_input(&self.records);
        let mut record = [0; size_of::<u64>()];
        self.records.read_exact(&mut record).unwrap();
        u64::from_ne_bytes(record)
    }

    /// Writes the configuration file of rsup and supervisord. `keys` are those of the program's output.
    pub(super) fn write_conf(&self, words: &str, programs: usize, keys: &str) {
        let place = self.path().display();
        let writer = tools::writer();
        let mut text = String::new();
        write!(
            text,
            "[supervisord]\nnodaemon=true\nlogfile={place}/log\npidfile={place}/pid\n\
             [program:p]\ncommand={} {place} {words}\nprocess_name=p%(process_num)d\nnumprocs={programs}\n\
             startsecs=0\nautorestart=false\nredirect_stderr=true\n{keys}",
            writer.display()
        )
        .unwrap();
        fs::write(self.path().join("supervisord.conf"), text).unwrap();
    }

    /// The command that runs rsup or supervisord with this configuration file, as PID 1 of a PID namespace.
    pub(super) fn supervisor(&self, binary: &Path) -> Command {
        let mut command = Command::new(NAMESPACE[0]);
        command.args(&NAMESPACE[1..]).arg(binary).arg("-c").arg(self.path().join("supervisord.conf"));
        command
    }

    /// The keys of a program with a log file of its own, which is rotated.
    pub(super) fn rotation_keys(&self) -> String {
        format!(
            "stdout_logfile={}/%(process_num)d\nstdout_logfile_maxbytes={MAX_BYTES}\n\
             stdout_logfile_backups={BACKUPS}\n",
            self.logs().display()
        )
    }
}

/// Processes that end when this value is dropped.
pub(super) struct Processes(Vec<Child>);

impl Processes {
    pub(super) fn new() -> Self {
        Self(vec![])
    }

    /// Starts a process, and returns its PID.
    pub(super) fn start(&mut self, mut command: Command) -> i32 {
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.stderr(Stdio::null());
        tools::end_with_this_process(&mut command, Signal::SIGKILL);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let pid = child.id().cast_signed();
        self.0.push(child);
        pid
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        // All processes get the signal before this process waits for the first one: a logger ends when no process can
        // write to its pipe.
        for child in &mut self.0 {
            let _ = child.kill();
        }
        for child in &mut self.0 {
            let _ = child.wait();
        }
    }
}

/// Waits until a process or one of its descendants has this name. Returns the PID of the first one.
pub(super) fn find(root: i32, name: &str) -> i32 {
    let mut found = None;
    wait_until(&format!("there is a process {name}"), || {
        let mut processes = proc::process(root).into_iter().chain(proc::descendants(root));
        found = processes.find(|process| process.name == name);
        found.is_some()
    });
    found.unwrap().pid
}

/// Waits until a process sleeps.
pub(super) fn wait_until_asleep(pid: i32) {
    wait_until(&format!("process {pid} sleeps"), || {
        proc::process(pid).is_some_and(|process| process.state == 'S')
    });
}

pub(super) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(POLL_INTERVAL);
    }
}

/// Waits until a pipe can be read.
pub(super) fn wait_for_input(pipe: &impl AsFd) {
    let timeout = PollTimeout::try_from(PATIENCE).unwrap();
    let mut polled = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut polled, timeout), Ok(1), "no output within {PATIENCE:?}");
}
