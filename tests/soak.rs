//! Random faults for a long time. rsup runs as PID 1 with programs that crash, hang, fork and leave orphans. Meanwhile
//! the test kills and stops these programs, stalls the reader of the log, sends many signals, and stops rsup itself. At
//! the end every program is in the state that the log says, no other process is left, and rsup uses as much memory as
//! before.
//!
//! `SOAK` is the duration in seconds, and `SEED` is the seed of the random faults. This test does not change the wall
//! clock: the wall clock cannot be changed for one process alone, and rsup uses it only for the time in log lines.
//! tests/policy_walks.rs tests jumps of the time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::probe::{probe, static_programs};
use crate::support::{
    PATIENCE, Rsup, SIGCONT, SIGKILL, SIGSTOP, SIGTERM, eventually, kill, make_fifo, needs, pid_namespace,
    proc, program, rsup, script, within,
};

/// A number from the environment.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// The state of each program according to the log.
#[derive(Default)]
struct LoggedStates {
    /// The PID of each program, by name. The value is `None` for a program that has ended.
    programs: BTreeMap<String, Option<i32>>,
    /// The programs without a log line since log lines were lost.
    unsure: Vec<String>,
    lost: u64,
    starts: u64,
    /// Log lines that contradict an earlier log line.
    wrong: Vec<String>,
}

impl LoggedStates {
    fn read(&mut self, line: &str) {
        if let Some((_, lost)) = line.split_once("log lines lost: ") {
            self.lost += lost.split(' ').next().unwrap().parse::<u64>().unwrap();
            self.unsure = self.programs.keys().cloned().collect();
        } else if let Some((_, text)) = line.split_once("spawned: '") {
            let (name, pid) = text.split_once("' with pid ").unwrap();
            self.starts += 1;
            self.record(line, name, Some(pid.parse().unwrap()));
        } else if let Some((_, text)) = line.split_once("exited: ").or_else(|| line.split_once("stopped: ")) {
            self.record(line, text.split(' ').next().unwrap(), None);
        }
    }

    fn record(&mut self, line: &str, name: &str, now: Option<i32>) {
        let before = self.programs.insert(name.to_owned(), now).flatten();
        let sure = !self.unsure.iter().any(|unsure| unsure == name);
        self.unsure.retain(|unsure| unsure != name);
        if sure && before.is_some() == now.is_some() {
            self.wrong.push(line.to_owned());
        }
    }
}

/// A thread that reads rsup's log from a FIFO. The thread does not read while `stalled` is set.
struct LogReader {
    states: Arc<Mutex<LoggedStates>>,
    stalled: Arc<AtomicBool>,
    finished: Arc<AtomicBool>,
}

impl LogReader {
    fn start(pipe: &Path) -> Self {
        make_fifo(pipe);
        let mut pipe =
            File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(pipe).unwrap();
        let reader = Self { states: Arc::default(), stalled: Arc::default(), finished: Arc::default() };
        let states = reader.states.clone();
        let stalled = reader.stalled.clone();
        let finished = reader.finished.clone();
        thread::spawn(move || {
            let mut unparsed = String::new();
            let mut buffer = vec![0; 65_536];
            while !finished.load(Ordering::Relaxed) {
                if stalled.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(5));
                    continue;
                }
                match pipe.read(&mut buffer) {
                    Ok(length) => {
                        unparsed += std::str::from_utf8(&buffer[..length]).unwrap();
                        let end = unparsed.rfind('\n').map_or(0, |end| end + 1);
                        let mut states = states.lock().unwrap();
                        unparsed[..end].lines().for_each(|line| states.read(line));
                        drop(states);
                        unparsed.drain(..end);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        thread::sleep(Duration::from_millis(5))
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        });
        reader
    }
}

impl Drop for LogReader {
    fn drop(&mut self) {
        self.finished.store(true, Ordering::Relaxed);
    }
}

/// The configuration file: programs that stay, crash, fork, ignore signals, leave orphans or cannot start.
fn conf() -> String {
    let many = |count: u32| {
        format!(
            "process_name=%(program_name)s%(process_num)d\nnumprocs={count}\nstartsecs=0\nautorestart=true\nstopwaitsecs=1\n"
        )
    };
    let many_orphans = "i=0; while [ $i -lt 150 ]; do sleep 0.3 & i=$((i+1)); done; sleep 1; exit 1";
    [
        program("web", "sleep 1000") + &many(30),
        program("crowd", "sleep 1000") + &many(CROWD),
        script("crash", "sleep 0.5; exit 3") + &many(5),
        script("family", "sleep 1000 & sleep 1000 & wait") + &many(5),
        script("stubborn", "trap : TERM INT HUP USR1; while :; do sleep 0.5; done") + &many(2),
        script("orphan-maker", "while :; do (sleep 0.2 &); sleep 0.05; done") + &many(3),
        script("orphan-storm", many_orphans) + &many(1),
        program("missing", "./none") + "startretries=1\n",
        program("once", "true") + "startsecs=0\nautorestart=false\n",
    ]
    .concat()
}

/// The number of processes of the program `crowd`. The test kills all of them once per second.
const CROWD: u32 = 110;

struct Soak {
    rsup: Rsup,
    pid: i32,
    reader: LogReader,
    random: fastrand::Rng,
    /// The number of signals sent to random processes.
    signals: u64,
    /// The number of times that a process of `crowd` was killed.
    killed: usize,
    /// The reader of the log does not read before this time.
    stalled_until: Instant,
}

impl Soak {
    fn start(seed: u64) -> Self {
        let setup = rsup(&conf()).after("exec 2>pipe").pid_1();
        let reader = LogReader::start(&setup.path("pipe"));
        let rsup = setup.start();
        let random = fastrand::Rng::with_seed(seed);
        Self { pid: rsup.pid(), rsup, reader, random, signals: 0, killed: 0, stalled_until: Instant::now() }
    }

    /// The name and the PID of each leader that rsup has started.
    fn leaders(&self) -> Vec<(String, i32)> {
        let leads = |pid: &i32| proc::process(*pid).is_some_and(|process| process.group == *pid);
        let name = |pid: i32| Some((proc::variable(pid, "SUPERVISOR_PROCESS_NAME")?, pid));
        proc::children_listed(self.pid).into_iter().filter(leads).filter_map(name).collect()
    }

    /// Causes random faults for this time.
    fn cause_faults(&mut self, time: Duration) {
        let end = Instant::now() + time;
        let mut next_kill_of_crowd = Instant::now();
        while Instant::now() < end {
            if Instant::now() >= next_kill_of_crowd {
                next_kill_of_crowd += Duration::from_secs(1);
                let crowd = self.leaders().into_iter().filter(|(name, _)| name.starts_with("crowd"));
                self.killed += crowd.map(|(_, pid)| kill(pid, SIGKILL)).count();
            }
            match self.random.u32(0..100) {
                0..50 => self.signal_a_process(),
                50..60 => self.signal_rsup(),
                60..63 => self.suspend_rsup(),
                63..66 => self.stall(500),
                66 => self.stall(2000),
                _ => {}
            }
            self.pause(30);
            self.reader.stalled.store(Instant::now() < self.stalled_until, Ordering::Relaxed);
        }
    }

    /// Makes the reader of the log stop reading for at least this time.
    fn stall(&mut self, milliseconds: u64) {
        self.stalled_until = self.stalled_until.max(Instant::now() + Duration::from_millis(milliseconds));
    }

    fn pause(&mut self, milliseconds: u64) {
        thread::sleep(Duration::from_millis(self.random.u64(1..=milliseconds)));
    }

    /// Sends a random signal to a random process below rsup: a leader, another member of a process group, or an orphan.
    fn signal_a_process(&mut self) {
        let signals =
            [SIGKILL, SIGKILL, SIGTERM, SIGSTOP, SIGCONT, libc::SIGSEGV, libc::SIGABRT, libc::SIGUSR1, 40];
        let below = proc::descendants_listed(self.pid);
        if let (Some(pid), Some(signal)) = (self.random.choice(below), self.random.choice(signals)) {
            self.signals += 1;
            kill(pid, signal);
        }
    }

    /// Sends 200 signals to rsup. rsup forwards some of them, and these do not end a program.
    fn signal_rsup(&mut self) {
        let signals = [libc::SIGURG, libc::SIGWINCH, SIGCONT, libc::SIGCHLD, libc::SIGTSTP];
        for _ in 0..200 {
            kill(self.pid, self.random.choice(signals).unwrap());
        }
        if self.random.u32(0..10) == 0 {
            // rsup forwards SIGHUP, which ends the programs that do not catch SIGHUP.
            kill(self.pid, libc::SIGHUP);
        }
    }

    /// Stops rsup with SIGSTOP for at most 300 ms.
    fn suspend_rsup(&mut self) {
        kill(self.pid, SIGSTOP);
        self.pause(300);
        kill(self.pid, SIGCONT);
    }

    /// Ends all faults and waits until every program is in the state that the log says.
    /// Returns rsup's memory in KiB.
    fn recover(&mut self) -> i64 {
        self.reader.stalled.store(false, Ordering::Relaxed);
        self.rsup.tree().iter().for_each(|process| kill(process.pid, SIGCONT));
        self.wait_for_logged_states();
        // Log lines may have been lost. After this SIGKILL, the log has new lines about every program that runs. rsup
        // is stopped meanwhile, so that all programs are dead at the same time before each measurement of the memory.
        kill(self.pid, SIGSTOP);
        self.leaders().iter().for_each(|(_, pid)| kill(*pid, SIGKILL));
        kill(self.pid, SIGCONT);
        eventually("the log has a new line about every running program", || {
            let states = self.reader.states.lock().unwrap();
            let has_ended = |name: &String| ["once", "missing"].contains(&name.as_str());
            states.unsure.iter().all(has_ended).then_some(())
        });
        self.wait_for_logged_states();
        anonymous_memory(self.pid)
    }

    fn wait_for_logged_states(&self) {
        let mut why = String::new();
        let matched = within(PATIENCE, || match self.check_logged_states() {
            Ok(()) => Some(()),
            Err(difference) => {
                why = difference;
                thread::sleep(Duration::from_millis(20));
                None
            }
        });
        assert!(matched.is_some(), "{why}");
    }

    /// Compares the processes with the log. Returns the first difference as an error.
    fn check_logged_states(&self) -> Result<(), String> {
        let states = self.reader.states.lock().unwrap();
        if let Some(line) = states.wrong.first() {
            panic!("this log line contradicts an earlier log line: {line}");
        }
        if let Some(zombie) = proc::children(self.pid).iter().find(|child| child.is_zombie()) {
            return Err(format!("a zombie: {zombie:?}"));
        }
        let mut leaders = BTreeMap::new();
        for (name, pid) in self.leaders() {
            if let Some(other) = leaders.insert(name.clone(), pid) {
                return Err(format!("two processes of {name}: {pid} and {other}"));
            }
        }
        for (name, logged) in states.programs.iter().filter(|(name, _)| !states.unsure.contains(name)) {
            let actual = leaders.get(name).and_then(|pid| proc::inner_pid(*pid));
            if actual != *logged {
                return Err(format!("{name} has the PID {actual:?}, but the log says {logged:?}"));
            }
        }
        let expected = proc::OWN_DESCRIPTORS;
        let open = proc::open_descriptors(self.pid);
        (open == expected).then_some(()).ok_or_else(|| format!("{open} descriptors instead of {expected}"))
    }
}

/// The anonymous memory of a process in KiB. The kernel counts the pages for smaps_rollup, whereas proc(5) says that
/// `RssAnon` in /proc/PID/status is inaccurate.
pub(crate) fn anonymous_memory(pid: i32) -> i64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    proc::field(&rollup, "Anonymous").unwrap().trim_end_matches(" kB").parse().unwrap()
}

/// How often the memory is measured in the same state.
const MEASUREMENTS: usize = 6;

/// Asserts that the memory does not keep growing. After a leak, the last two measurements are larger than the first
/// two.
///
/// The first measurement and the last are not compared, because the memory differs in the same state. The allocator of
/// the C library gets pages for groups of values of one size, and returns the pages when no value of the group is in
/// use. So the number of pages depends on the largest number of programs that were dead or about to execute at the same
/// time, and on the values among them that are still in use.
pub(crate) fn assert_no_growth(memory: &[i64], tolerance: i64) {
    let first = memory[..2].iter().max().unwrap();
    let last = memory[memory.len() - 2..].iter().min().unwrap();
    assert!(last - first <= tolerance, "the memory grows by more than {tolerance} KiB: {memory:?}");
}

#[test]
fn after_random_faults_every_program_is_in_the_state_that_the_log_says() {
    needs!(pid_namespace());
    let time = setting("SOAK", 40);
    let seed = setting("SEED", 5);
    let mut soak = Soak::start(seed);
    // rsup's memory grows to its final size before the test measures the memory. The log of 1,000 exits fills the pipe
    // and the log backlog in rsup.
    soak.stall(1000 * time.max(600));
    while soak.killed < 1000 {
        soak.cause_faults(Duration::from_secs(1));
    }
    soak.stalled_until = Instant::now();
    soak.cause_faults(Duration::from_secs(time / MEASUREMENTS as u64));
    let mut memory = vec![soak.recover()];
    while memory.len() < MEASUREMENTS {
        soak.cause_faults(Duration::from_secs(time / MEASUREMENTS as u64));
        memory.push(soak.recover());
    }
    {
        let states = soak.reader.states.lock().unwrap();
        println!(
            "seed {seed}, {time} s: {} starts, {} signals, {} lines lost, memory in KiB: {memory:?}",
            states.starts, soak.signals, states.lost
        );
        assert!(states.lost > 0, "the log backlog never overflowed");
    }
    assert_no_growth(&memory, 64);
    assert_eq!(soak.rsup.stop(), 0);
}

#[test]
fn reaping_and_restarting_leak_no_memory_and_no_descriptor() {
    needs!(pid_namespace(), static_programs());
    const PROGRAMS: usize = 200;
    const ORPHANS: u64 = 20_000;
    // With SOAK=600 there are 50 rounds: a million reaps and 10,000 restarts.
    let rounds = (setting("SOAK", 40) / 12).max(5);
    let many = format!("process_name=w%(process_num)d\nnumprocs={PROGRAMS}\nstartsecs=0\nautorestart=true\n");
    let make_orphans_on_demand = format!(
        "while :; do while [ ! -e go ]; do sleep 0.02; done; rm go; {} orphans {ORPHANS}; echo >> done; done",
        probe()
    );
    let conf = program("web", "sleep 1000") + &many + &script("orphans", &make_orphans_on_demand);
    let mut rsup = rsup(&conf).args(&["-e", "warn"]).pid_1().start();
    let pid = rsup.pid();
    let wait_for_new_processes = |old: &[i32]| {
        let is_new = |child: &i32| proc::words(*child) == ["sleep", "1000"] && !old.contains(child);
        eventually("all programs run", || {
            let running: Vec<_> = proc::children_listed(pid).into_iter().filter(is_new).collect();
            (running.len() == PROGRAMS).then_some(running)
        })
    };
    let mut running = wait_for_new_processes(&[]);
    let mut round = |nth: u64| {
        rsup.touch("go");
        running.iter().for_each(|pid| kill(*pid, SIGKILL));
        running = wait_for_new_processes(&running);
        eventually("all orphans of this round have been made and reaped", || {
            (rsup.read("done").len() as u64 == nth && proc::children_listed(pid).len() == PROGRAMS + 1)
                .then_some(())
        });
        (anonymous_memory(pid), proc::open_descriptors(pid))
    };
    // The first measurement is at the end of the first round, because rsup's memory may grow during that round.
    let measured: Vec<_> = (1..=rounds + 1).map(&mut round).collect();
    let memory: Vec<_> = measured.iter().map(|(memory, _)| *memory).collect();
    let descriptors: Vec<_> = measured.iter().map(|(_, descriptors)| *descriptors).collect();
    println!("{} reaps, {} restarts, memory in KiB: {memory:?}", rounds * ORPHANS, rounds * PROGRAMS as u64);
    assert_no_growth(&memory, 16);
    assert!(descriptors.iter().all(|open| *open == descriptors[0]), "{descriptors:?}");
    assert_eq!(rsup.stop(), 0);
}
