//! An init as PID 1 of a PID namespace, and its programs.

use std::ffi::OsString;
use std::fs::File;
use std::io::{PipeReader, Read};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::init::Init;
use crate::proc::{self, Process};
use crate::tools::{self, now};

/// The PID namespace ends when `unshare` is killed.
pub(crate) const NAMESPACE: [&str; 5] = ["unshare", "-pf", "--mount-proc", "--kill-child", "--"];
/// How long an init may take for any step.
const PATIENCE: Duration = Duration::from_secs(60);
/// The time between two looks at the records. The records themselves contain the exact times.
const POLL_INTERVAL: Duration = Duration::from_micros(500);

/// An init and its programs. Dropping the value kills all of them.
pub(crate) struct World {
    child: Child,
    /// The init's PID in the PID namespace of the benchmark.
    pub(crate) pid: i32,
    records: File,
    /// When the benchmark started the init, in nanoseconds.
    requested_at: u64,
    /// When the init and then each program was executed, in nanoseconds.
    start_times: Vec<u64>,
    /// The output of the init and the programs. The output is a pipe, as in a container.
    output: PipeReader,
    printed: Vec<u8>,
    /// The last field, so that it is dropped last.
    directory: tempfile::TempDir,
}

impl World {
    /// Starts an init with a number of programs, and waits until all of them run.
    pub(crate) fn new(init: Init, programs: usize) -> Option<Self> {
        Self::start(init, programs, &NAMESPACE, &[], "").wait_until_up(init, programs)
    }

    /// Starts an init with one program that creates orphans: see `tests/programs/bench.rs`.
    pub(crate) fn with_orphans(init: Init, orphans: usize) -> Option<Self> {
        Self::start(init, 1, &NAMESPACE, &[], &orphans.to_string()).wait_until_up(init, 2)
    }

    /// Starts an init that is not PID 1, through a command that replaces the init's binary.
    pub(crate) fn through(binary: &[&str], init: Init, programs: usize) -> Option<Self> {
        Self::start(init, programs, &[], binary, "").wait_until_up(init, programs)
    }

    fn start(init: Init, programs: usize, outer: &[&str], binary: &[&str], orphans: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        let records = File::options().create(true).append(true).read(true).open(&path).unwrap();
        let (output, writer) = std::io::pipe().unwrap();
        // The pipe is large, and is read between measurements only, so that no line wakes a process during a
        // measurement.
        fcntl(&output, FcntlArg::F_SETPIPE_SZ(1 << 20)).unwrap();
        fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();

        let mut words: Vec<OsString> = outer.iter().map(Into::into).collect();
        words.extend([tools::program().into(), "stamp".into()]);
        let set_up = init.set_up(directory.path(), programs);
        words.extend(binary.iter().map(Into::into));
        words.extend(set_up.into_iter().skip(usize::from(!binary.is_empty())));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(&directory).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("BENCH_RECORDS", path).env("NITRO_SOCK", directory.path().join("nitro.sock"));
        if !orphans.is_empty() {
            command.env("BENCH_ORPHANS", orphans);
        }
        command.stdin(Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(writer);
        tools::end_with_this_process(
            &mut command,
            if outer.is_empty() { Signal::SIGTERM } else { Signal::SIGKILL },
        );
        let requested_at = now();
        let child = command.spawn().unwrap_or_else(|error| panic!("{words:?}: {error}"));

        let pid = child.id().cast_signed();
        let mut world = Self {
            child,
            pid,
            records,
            requested_at,
            start_times: vec![],
            output,
            printed: vec![],
            directory,
        };
        world.wait_for(0);
        if !outer.is_empty() {
            let first = proc::children_listed(pid).first().copied();
            world.pid = first.unwrap_or_else(|| panic!("{init} did not start: {}", world.output_text()));
        }
        world
    }

    fn wait_until_up(mut self, init: Init, programs: usize) -> Option<Self> {
        if self.wait_for(programs) {
            return Some(self);
        }
        let up = self.start_times().len();
        eprintln!(
            "{init}: after {PATIENCE:?} only {up} of {programs} programs were up: {}",
            self.output_text()
        );
        None
    }

    /// When the benchmark started the init, in nanoseconds.
    pub(crate) fn requested_at(&self) -> u64 {
        self.requested_at
    }

    /// When the init was executed, in nanoseconds.
    pub(crate) fn executed_at(&self) -> u64 {
        self.start_times[0]
    }

    /// When each program was executed, in nanoseconds, including the programs that have exited.
    pub(crate) fn start_times(&self) -> &[u64] {
        &self.start_times[1..]
    }

    /// Waits until a total of `programs` programs has been executed. Returns false after [`PATIENCE`].
    pub(crate) fn wait_for(&mut self, programs: usize) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let mut bytes = vec![];
        while self.start_times.len() < programs + 1 && Instant::now() < deadline {
            thread::sleep(POLL_INTERVAL);
            self.records.read_to_end(&mut bytes).unwrap();
            let records = bytes.chunks_exact(size_of::<u64>());
            self.start_times.extend(records.map(|record| u64::from_ne_bytes(record.try_into().unwrap())));
            bytes.clear();
            self.read_output();
        }
        self.start_times.len() > programs
    }

    fn read_output(&mut self) {
        // The read ends with EAGAIN when the pipe is empty.
        let _ = self.output.read_to_end(&mut self.printed);
    }

    /// The output so far.
    fn output_text(&self) -> String {
        String::from_utf8_lossy(&self.printed).into_owned()
    }

    /// Waits, and then reads the output of every init.
    pub(crate) fn wait(worlds: &mut [(Init, Self)], time: Duration) {
        thread::sleep(time);
        worlds.iter_mut().for_each(|(_, world)| world.read_output());
    }

    /// All descendants of the init.
    pub(crate) fn descendants(&self) -> Vec<Process> {
        proc::descendants(self.pid)
    }

    /// The PIDs of the programs in the PID namespace of the benchmark.
    pub(crate) fn programs(&self) -> Vec<i32> {
        let programs = self.descendants().into_iter().filter(is_program);
        programs.map(|process| process.pid).collect()
    }

    /// The PIDs of the init itself, which may consist of several processes.
    pub(crate) fn init(&self) -> Vec<i32> {
        let helpers = self.descendants().into_iter().filter(|process| !is_program(process));
        std::iter::once(self.pid).chain(helpers.map(|process| process.pid)).collect()
    }

    /// Kills programs. Returns the nanoseconds until all of them have been executed again.
    pub(crate) fn restart(&mut self, programs: &[i32]) -> Option<u64> {
        let before = self.start_times().len();
        let start = now();
        for pid in programs {
            kill(Pid::from_raw(*pid), Signal::SIGKILL).unwrap();
        }
        let back = self.wait_for(before + programs.len());
        back.then(|| self.start_times().iter().skip(before).max().unwrap() - start)
    }

    /// Stops the init. Returns the nanoseconds until the PID namespace has ended.
    pub(crate) fn stop(mut self, init: Init) -> u64 {
        let start = now();
        kill(Pid::from_raw(self.pid), init.stop_signal()).unwrap();
        self.child.wait().unwrap();
        now() - start
    }

    /// The working directory of the init.
    pub(crate) fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }
}

fn is_program(process: &Process) -> bool {
    process.name == "run"
}

impl Drop for World {
    fn drop(&mut self) {
        // The kernel kills every process of a PID namespace when its PID 1 exits. An init that is not PID 1 gets
        // SIGTERM.
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if self.pid == self.child.id().cast_signed() {
                let _ = kill(Pid::from_raw(self.pid), Signal::SIGTERM);
            } else {
                let _ = self.child.kill();
            }
            let _ = self.child.wait();
        }
    }
}
