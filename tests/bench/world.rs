//! An init as PID 1 of a PID namespace, and its programs.

use std::ffi::OsString;
use std::fs::File;
use std::io::{PipeReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::init::Init;
use crate::proc::{self, Process};
use crate::tools::{self, now};

/// The namespace ends with `unshare`, whatever happens to this process.
const NAMESPACE: [&str; 5] = ["unshare", "-pf", "--mount-proc", "--kill-child", "--"];
/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether something has happened. When it happened is in the records.
const NAP: Duration = Duration::from_micros(500);

/// An init and its programs. When it goes out of scope, all of it is killed.
pub(crate) struct World {
    child: Child,
    /// The init, by the number it has out here.
    pub(crate) pid: i32,
    records: File,
    /// When it was asked for, in nanoseconds.
    asked: u64,
    /// When the init was executed, and then each of the programs, in nanoseconds.
    births: Vec<u64>,
    /// What they all print: in a container that is a pipe.
    output: PipeReader,
    printed: Vec<u8>,
    /// Removed last.
    directory: tempfile::TempDir,
}

impl World {
    /// An init with this many programs, once all of them are there.
    pub(crate) fn new(init: Init, programs: usize) -> Option<Self> {
        Self::start(init, programs, &NAMESPACE, &[], "").wait_until_up(init, programs)
    }

    /// An init with one program, which has left this many orphans to it: see `tests/programs/bench.rs`.
    pub(crate) fn with_orphans(init: Init, orphans: usize) -> Option<Self> {
        Self::start(init, 1, &NAMESPACE, &[], &orphans.to_string()).wait_until_up(init, 2)
    }

    /// An init that is no PID 1, where these words stand for its binary.
    pub(crate) fn instead(binary: &[&str], init: Init, programs: usize) -> Option<Self> {
        Self::start(init, programs, &[], binary, "").wait_until_up(init, programs)
    }

    fn start(init: Init, programs: usize, outer: &[&str], binary: &[&str], orphans: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        let records = File::options().create(true).append(true).read(true).open(&path).unwrap();
        let (output, writer) = std::io::pipe().unwrap();
        // It is read now and then only, so that no line wakes anybody while something is measured.
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
        // Should this process be killed, nothing is left behind.
        let end = if outer.is_empty() { Signal::SIGTERM } else { Signal::SIGKILL };
        #[allow(unsafe_code, reason = "there is no safe way to do something between fork and exec")]
        // SAFETY: it is one system call.
        unsafe {
            command.pre_exec(move || Ok(nix::sys::prctl::set_pdeathsig(end)?))
        };
        let asked = now();
        let child = command.spawn().unwrap_or_else(|error| panic!("{words:?}: {error}"));

        let pid = child.id().cast_signed();
        let mut world =
            Self { child, pid, records, asked, births: vec![], output, printed: vec![], directory };
        world.wait_for(0);
        if !outer.is_empty() {
            let first = proc::children_listed(pid).first().copied();
            world.pid = first.unwrap_or_else(|| panic!("{init} did not start: {}", world.said()));
        }
        world
    }

    fn wait_until_up(mut self, init: Init, programs: usize) -> Option<Self> {
        if self.wait_for(programs) {
            return Some(self);
        }
        let up = self.births().len();
        eprintln!("{init}: after {PATIENCE:?} only {up} of {programs} programs were up: {}", self.said());
        None
    }

    /// When it was asked for.
    pub(crate) fn asked(&self) -> u64 {
        self.asked
    }

    /// When the init was executed.
    pub(crate) fn executed(&self) -> u64 {
        self.births[0]
    }

    /// When each program was executed, those included that are gone.
    pub(crate) fn births(&self) -> &[u64] {
        &self.births[1..]
    }

    /// Waits until this many programs have been executed, all in all. Returns whether they were.
    pub(crate) fn wait_for(&mut self, programs: usize) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let mut bytes = vec![];
        while self.births.len() < programs + 1 && Instant::now() < deadline {
            thread::sleep(NAP);
            self.records.read_to_end(&mut bytes).unwrap();
            let records = bytes.chunks_exact(size_of::<u64>());
            self.births.extend(records.map(|record| u64::from_ne_bytes(record.try_into().unwrap())));
            bytes.clear();
            self.read_output();
        }
        self.births.len() > programs
    }

    fn read_output(&mut self) {
        // Until it is empty, which is an error of its own.
        let _ = self.output.read_to_end(&mut self.printed);
    }

    /// What they have printed so far.
    fn said(&self) -> String {
        String::from_utf8_lossy(&self.printed).into_owned()
    }

    /// Lets this time pass.
    pub(crate) fn rest(worlds: &mut [(Init, Self)], time: Duration) {
        thread::sleep(time);
        worlds.iter_mut().for_each(|(_, world)| world.read_output());
    }

    /// Everything below the init.
    pub(crate) fn descendants(&self) -> Vec<Process> {
        proc::descendants(self.pid)
    }

    /// The programs, by the numbers they have out here.
    pub(crate) fn programs(&self) -> Vec<i32> {
        let programs = self.descendants().into_iter().filter(is_program);
        programs.map(|process| process.pid).collect()
    }

    /// The init itself, which may be several processes.
    pub(crate) fn init(&self) -> Vec<i32> {
        let helpers = self.descendants().into_iter().filter(|process| !is_program(process));
        std::iter::once(self.pid).chain(helpers.map(|process| process.pid)).collect()
    }

    /// Sends SIGKILL to these. Returns how many nanoseconds after that all of them were there again.
    pub(crate) fn restart(&mut self, programs: &[i32]) -> Option<u64> {
        let (before, start) = (self.births().len(), now());
        for pid in programs {
            kill(Pid::from_raw(*pid), Signal::SIGKILL).unwrap();
        }
        let back = self.wait_for(before + programs.len());
        back.then(|| self.births().iter().skip(before).max().unwrap() - start)
    }

    /// Ends it. Returns how many nanoseconds after that the namespace was gone.
    pub(crate) fn stop(mut self, init: Init) -> u64 {
        let start = now();
        kill(Pid::from_raw(self.pid), init.stop_signal()).unwrap();
        self.child.wait().unwrap();
        now() - start
    }

    /// Its directory, in which the init runs.
    pub(crate) fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }
}

fn is_program(process: &Process) -> bool {
    process.name == "run"
}

impl Drop for World {
    fn drop(&mut self) {
        // All below it die with PID 1; where it is none, it is asked first.
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
