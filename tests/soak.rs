//! Chaos: rsup as PID 1 among programs that crash, hang, fork and leave orphans, while somebody kills and stops them,
//! stalls the reader of the log, sends storms of signals and stops rsup itself. In the end every program is in the state
//! that its log says, nothing is left of the others, and rsup is as large as before.
//!
//! `SOAK` says for how many seconds, `SEED` which chaos. The wall's clock stays as it is: it cannot be stepped for one
//! process, and rsup only writes it into its lines; time that jumps is in tests/laws.rs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::probe::{probe, static_programs};
use crate::support::{
    PATIENCE, Rsup, SIGCONT, SIGKILL, SIGSTOP, SIGTERM, eventually, kill, needs, pid_namespace, proc,
    program, rsup, script, within,
};

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// What the log says of the programs.
#[derive(Default)]
struct Ledger {
    /// By name: the process id of one that is up; none where it is down.
    programs: BTreeMap<String, Option<i32>>,
    /// Those of which nothing was said since lines were lost.
    unsure: Vec<String>,
    lost: u64,
    starts: u64,
    /// Lines that contradict the ones before.
    wrong: Vec<String>,
}

impl Ledger {
    fn read(&mut self, line: &str) {
        if let Some((_, lost)) = line.split_once("log lines lost: ") {
            self.lost += lost.split(' ').next().unwrap().parse::<u64>().unwrap();
            self.unsure = self.programs.keys().cloned().collect();
        } else if let Some((_, said)) = line.split_once("spawned: '") {
            let (name, pid) = said.split_once("' with pid ").unwrap();
            self.starts += 1;
            self.turn(line, name, Some(pid.parse().unwrap()));
        } else if let Some((_, said)) = line.split_once("exited: ").or_else(|| line.split_once("stopped: ")) {
            self.turn(line, said.split(' ').next().unwrap(), None);
        }
    }

    fn turn(&mut self, line: &str, name: &str, now: Option<i32>) {
        let before = self.programs.insert(name.to_owned(), now).flatten();
        let sure = !self.unsure.iter().any(|unsure| unsure == name);
        self.unsure.retain(|unsure| unsure != name);
        if sure && before.is_some() == now.is_some() {
            self.wrong.push(line.to_owned());
        }
    }
}

/// Whoever reads the log, and stops to now and then.
struct Reader {
    ledger: Arc<Mutex<Ledger>>,
    stalled: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
}

impl Reader {
    fn of(pipe: &Path) -> Self {
        assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
        let mut pipe =
            File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(pipe).unwrap();
        let reader = Self { ledger: Arc::default(), stalled: Arc::default(), over: Arc::default() };
        let (ledger, stalled, over) = (reader.ledger.clone(), reader.stalled.clone(), reader.over.clone());
        thread::spawn(move || {
            let (mut rest, mut buffer) = (String::new(), vec![0; 65_536]);
            while !over.load(Ordering::Relaxed) {
                if stalled.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(5));
                    continue;
                }
                match pipe.read(&mut buffer) {
                    Ok(length) => {
                        rest += std::str::from_utf8(&buffer[..length]).unwrap();
                        let end = rest.rfind('\n').map_or(0, |end| end + 1);
                        let mut ledger = ledger.lock().unwrap();
                        rest[..end].lines().for_each(|line| ledger.read(line));
                        drop(ledger);
                        rest.drain(..end);
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

impl Drop for Reader {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Programs of every temper.
fn conf() -> String {
    let many = |count: u32| {
        format!(
            "process_name=%(program_name)s%(process_num)d\nnumprocs={count}\nstartsecs=0\nautorestart=true\nstopwaitsecs=1\n"
        )
    };
    let bomb = "i=0; while [ $i -lt 150 ]; do sleep 0.3 & i=$((i+1)); done; sleep 1; exit 1";
    [
        program("web", "sleep 1000") + &many(30),
        program("crowd", "sleep 1000") + &many(CROWD),
        script("crash", "sleep 0.5; exit 3") + &many(5),
        script("family", "sleep 1000 & sleep 1000 & wait") + &many(5),
        script("deaf", "trap : TERM INT HUP USR1; while :; do sleep 0.5; done") + &many(2),
        script("mother", "while :; do (sleep 0.2 &); sleep 0.05; done") + &many(3),
        script("bomb", bomb) + &many(1),
        program("lost", "./none") + "startretries=1\n",
        program("once", "true") + "startsecs=0\nautorestart=false\n",
    ]
    .concat()
}

const CROWD: u32 = 110;

struct Chaos {
    rsup: Rsup,
    pid: i32,
    reader: Reader,
    random: fastrand::Rng,
    strikes: u64,
    /// Of the crowd, so many were killed.
    killed: usize,
    /// When the reader of the log goes on.
    stalled_until: Instant,
}

impl Chaos {
    fn start(seed: u64) -> Self {
        let setup = rsup(&conf()).after("exec 2>pipe").pid_1();
        let reader = Reader::of(&setup.path("pipe"));
        let rsup = setup.start();
        let random = fastrand::Rng::with_seed(seed);
        Self { pid: rsup.pid(), rsup, reader, random, strikes: 0, killed: 0, stalled_until: Instant::now() }
    }

    /// The processes that rsup has started, by the name of their program.
    fn leaders(&self) -> Vec<(String, i32)> {
        let leads = |pid: &i32| proc::process(*pid).is_some_and(|process| process.group == *pid);
        let name = |pid: i32| Some((proc::variable(pid, "SUPERVISOR_PROCESS_NAME")?, pid));
        proc::children_listed(self.pid).into_iter().filter(leads).filter_map(name).collect()
    }

    /// Lets it rage for so long.
    fn rage(&mut self, time: Duration) {
        let end = Instant::now() + time;
        let mut next_massacre = Instant::now();
        while Instant::now() < end {
            if Instant::now() >= next_massacre {
                next_massacre += Duration::from_secs(1);
                let crowd = self.leaders().into_iter().filter(|(name, _)| name.starts_with("crowd"));
                self.killed += crowd.map(|(_, pid)| kill(pid, SIGKILL)).count();
            }
            match self.random.u32(0..100) {
                0..50 => self.strike(),
                50..60 => self.storm(),
                60..63 => self.suspend(),
                63..66 => self.stall(500),
                66 => self.stall(2000),
                _ => {}
            }
            self.pause(30);
            self.reader.stalled.store(Instant::now() < self.stalled_until, Ordering::Relaxed);
        }
    }

    /// Nobody reads the log for so many milliseconds.
    fn stall(&mut self, milliseconds: u64) {
        self.stalled_until = Instant::now() + Duration::from_millis(milliseconds);
    }

    fn pause(&mut self, milliseconds: u64) {
        thread::sleep(Duration::from_millis(self.random.u64(1..=milliseconds)));
    }

    /// Somebody dies, stops or goes on: a program, one of its own, or an orphan.
    fn strike(&mut self) {
        let signals =
            [SIGKILL, SIGKILL, SIGTERM, SIGSTOP, SIGCONT, libc::SIGSEGV, libc::SIGABRT, libc::SIGUSR1, 40];
        let below = proc::descendants_listed(self.pid);
        if let (Some(one), Some(signal)) = (self.random.choice(below), self.random.choice(signals)) {
            self.strikes += 1;
            kill(one, signal);
        }
    }

    /// Many signals for rsup, of which the programs get what does not end them.
    fn storm(&mut self) {
        let signals = [libc::SIGURG, libc::SIGWINCH, SIGCONT, libc::SIGCHLD, libc::SIGTSTP];
        for _ in 0..200 {
            kill(self.pid, self.random.choice(signals).unwrap());
        }
        if self.random.u32(0..10) == 0 {
            // Except for now and then.
            kill(self.pid, libc::SIGHUP);
        }
    }

    /// rsup misses a while.
    fn suspend(&mut self) {
        kill(self.pid, SIGSTOP);
        self.pause(300);
        kill(self.pid, SIGCONT);
    }

    /// It is over: everything is as the log says. Returns rsup's own memory in KiB.
    fn calm(&mut self) -> i64 {
        self.reader.stalled.store(false, Ordering::Relaxed);
        self.rsup.tree().iter().for_each(|process| kill(process.pid, SIGCONT));
        self.settle();
        // Of whom nothing was said since lines were lost, something will be.
        self.leaders().iter().for_each(|(_, pid)| kill(*pid, SIGKILL));
        eventually("something is said of everybody", || {
            let ledger = self.reader.ledger.lock().unwrap();
            let down = |name: &String| ["once", "lost"].contains(&name.as_str());
            ledger.unsure.iter().all(down).then_some(())
        });
        self.settle();
        memory(self.pid)
    }

    fn settle(&self) {
        let mut why = String::new();
        let settled = within(PATIENCE, || match self.is_as_it_says() {
            Ok(()) => Some(()),
            Err(not) => {
                why = not;
                thread::sleep(Duration::from_millis(20));
                None
            }
        });
        assert!(settled.is_some(), "{why}");
    }

    fn is_as_it_says(&self) -> Result<(), String> {
        let ledger = self.reader.ledger.lock().unwrap();
        if let Some(line) = ledger.wrong.first() {
            panic!("this contradicts what was said before: {line}");
        }
        if let Some(zombie) = proc::children(self.pid).iter().find(|child| child.is_zombie()) {
            return Err(format!("a zombie: {zombie:?}"));
        }
        let mut leaders = BTreeMap::new();
        for (name, pid) in self.leaders() {
            if let Some(other) = leaders.insert(name.clone(), pid) {
                return Err(format!("two of {name}: {pid} and {other}"));
            }
        }
        for (name, said) in ledger.programs.iter().filter(|(name, _)| !ledger.unsure.contains(name)) {
            let is = leaders.get(name).and_then(|pid| proc::inner_pid(*pid));
            if is != *said {
                return Err(format!("{name} is {is:?}, but said to be {said:?}"));
            }
        }
        // Those everybody has, and two to wait by.
        let (open, expected) = (proc::open_descriptors(self.pid), 5);
        (open == expected).then_some(()).ok_or_else(|| format!("{open} descriptors instead of {expected}"))
    }
}

/// A process's own memory in KiB.
fn memory(pid: i32) -> i64 {
    proc::status(pid, "RssAnon").unwrap().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn chaos() {
    needs!(pid_namespace());
    let (time, seed) = (setting("SOAK", 60), setting("SEED", 5));
    let mut chaos = Chaos::start(seed);
    // Until all that grows has grown once: the log of so many deaths is more than a pipe and rsup hold.
    chaos.stall(1000 * time.max(600));
    while chaos.killed < 1000 {
        chaos.rage(Duration::from_secs(1));
    }
    chaos.stall(0);
    chaos.rage(Duration::from_secs(time / 6));
    let before = chaos.calm();
    chaos.rage(Duration::from_secs(time - time / 6));
    let after = chaos.calm();
    {
        let ledger = chaos.reader.ledger.lock().unwrap();
        println!(
            "seed {seed}, {time} s: {} starts, {} strikes, {} lines lost, {before} KiB before, {after} KiB after",
            ledger.starts, chaos.strikes, ledger.lost
        );
        assert!(ledger.lost > 0, "the reader was never too late");
    }
    assert!((before - after).abs() <= 16, "{before} KiB became {after}");
    assert_eq!(chaos.rsup.stop(), 0);
}

#[test]
fn reaps_and_restarts_leave_nothing_behind() {
    needs!(pid_namespace(), static_programs());
    const PROGRAMS: usize = 200;
    const ORPHANS: u64 = 20_000;
    // In ten minutes fifty times: a million reaps, ten thousand restarts.
    let rounds = setting("SOAK", 60) / 12;
    let many = format!("process_name=w%(process_num)d\nnumprocs={PROGRAMS}\nstartsecs=0\nautorestart=true\n");
    let on_demand = format!(
        "while :; do while [ ! -e go ]; do sleep 0.02; done; rm go; {} orphans {ORPHANS}; echo >> done; done",
        probe()
    );
    let conf = program("web", "sleep 1000") + &many + &script("orphans", &on_demand);
    let mut rsup = rsup(&conf).args(&["-e", "warn"]).pid_1().start();
    let pid = rsup.pid();
    let all_run = |but: &[i32]| {
        let run = |child: &i32| proc::words(*child) == ["sleep", "1000"] && !but.contains(child);
        eventually("all run", || {
            let running: Vec<_> = proc::children_listed(pid).into_iter().filter(run).collect();
            (running.len() == PROGRAMS).then_some(running)
        })
    };
    let mut running = all_run(&[]);
    let mut round = |nth: u64| {
        rsup.touch("go");
        running.iter().for_each(|pid| kill(*pid, SIGKILL));
        running = all_run(&running);
        eventually("all orphans are made", || {
            (rsup.read("done").len() as u64 == nth && proc::children_listed(pid).len() == PROGRAMS + 1)
                .then_some(())
        });
        (memory(pid), proc::open_descriptors(pid))
    };
    // The first, in which all grows that does, does not count.
    let before = round(1);
    let after = (2..=rounds + 1).map(&mut round).last().unwrap();
    println!("{} reaps, {} restarts: {before:?} {after:?}", rounds * ORPHANS, rounds * PROGRAMS as u64);
    assert!((before.0 - after.0).abs() <= 16 && before.1 == after.1, "{before:?} {after:?}");
    assert_eq!(rsup.stop(), 0);
}
