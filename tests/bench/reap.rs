//! An exit storm: many orphans of PID 1 exit at once.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::init::Init;
use crate::proc;
use crate::table::{self, median, short};
use crate::tools;
use crate::world::World;

const ORPHANS: usize = 20_000;
const ROUNDS: usize = 5;
/// How long the init may take to reap all orphans. (supervisord takes minutes, and a third of the zombies is left.)
const PATIENCE: Duration = Duration::from_secs(10);
/// The number of orphans for the count of system calls, because strace is slow.
const TRACED_ORPHANS: usize = 2_000;

pub(crate) fn measure() {
    let inits = Init::installed();
    let mut samples = vec![(vec![], vec![]); inits.len()];
    for round in 0..ROUNDS {
        for turn in 0..inits.len() {
            let place = (turn + round) % inits.len();
            if let Some((cpu, zombies)) = storm(inits[place]) {
                samples[place].0.push(cpu);
                samples[place].1.push(zombies);
            }
        }
    }
    let number = |samples: Vec<f64>| median(samples).map_or_else(|| "–".to_owned(), short);
    let row = |(init, (cpu, zombies)): (&Init, (Vec<f64>, Vec<f64>))| {
        let calls = system_calls(*init).map_or_else(|| "–".to_owned(), short);
        vec![init.to_string(), number(cpu), number(zombies), calls]
    };
    let rows: Vec<_> = inits.iter().zip(samples).map(row).collect();
    let columns = ["µs of PID 1 for each", "left after 10 s", "system calls for each"].map(str::to_owned);
    table::print(&format!("Reap: {ORPHANS} orphans of PID 1 that die at once"), &columns, &rows);
}

/// Microseconds of PID 1's processor time for each orphan, and how many are left as zombies.
fn storm(init: Init) -> Option<(f64, f64)> {
    let world = World::with_orphans(init, ORPHANS)?;
    drop_proc_caches();
    let before = processor_time(world.pid);
    let left = kill_orphans(&world, init == Init::Bare);
    Some(((processor_time(world.pid) - before) / (ORPHANS - left) as f64, left as f64))
}

/// Kills the orphans, and waits until all of them are reaped. Returns the number of zombies that are left. With
/// `stopped`, the init is stopped until all orphans have exited, so that its processor time is close to what the kernel
/// needs.
fn kill_orphans(world: &World, stopped: bool) -> usize {
    // Only the first and the last orphan are read in /proc, for the reason that `drop_proc_caches` gives.
    let group = |child: &i32| proc::process(*child).map(|process| process.group);
    let children = proc::children_listed(world.pid);
    // The orphans have a process group of their own and come after the earlier children of PID 1. The process that
    // created them is a child of PID 1 or of one of the init's helpers.
    let orphans = children.last().and_then(group);
    let helpers: Vec<i32> = children.into_iter().take_while(|child| group(child) != orphans).collect();
    let below: Vec<i32> = helpers.iter().flat_map(|helper| proc::children_listed(*helper)).collect();
    let is_creator = |process: &proc::Process| process.name == "run";
    let creator = helpers.iter().chain(&below).filter_map(|pid| proc::process(*pid)).find(is_creator);
    let init = Pid::from_raw(world.pid);
    if stopped {
        kill(init, Signal::SIGSTOP).unwrap();
    }
    kill(Pid::from_raw(creator.expect("the process that created the orphans").pid), Signal::SIGUSR1).unwrap();
    if stopped {
        for _ in 0..PATIENCE.as_secs() {
            thread::sleep(Duration::from_secs(1));
            if !is_machine_busy() {
                break;
            }
        }
        kill(init, Signal::SIGCONT).unwrap();
    }
    let left = || {
        let children = proc::children_listed(world.pid);
        assert!(!children.is_empty(), "the init has exited");
        children.len().saturating_sub(helpers.len())
    };
    for _ in 0..PATIENCE.as_secs() {
        thread::sleep(Duration::from_secs(1));
        if left() == 0 {
            return 0;
        }
    }
    left()
}

/// Drops the kernel's caches of /proc for the whole machine. The exit of a process whose /proc directory has been read
/// costs PID 1 twice the processor time, and monitoring tools read more directories the longer the orphans exist. If
/// the kernel refuses, the results are noisier.
fn drop_proc_caches() {
    let _ = fs::write("/proc/sys/vm/drop_caches", "2");
    // The kernel continues to free memory after the call.
    thread::sleep(Duration::from_secs(1));
}

/// Whether a process other than this one is running or ready to run.
fn is_machine_busy() -> bool {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    !stat.lines().any(|line| line == "procs_running 1")
}

/// Microseconds on a processor, as the scheduler counts them.
pub(crate) fn processor_time(pid: i32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).expect("a kernel that counts");
    let nanoseconds: f64 = text.split(' ').next().unwrap().parse().unwrap();
    nanoseconds / 1e3
}

/// System calls of PID 1 for each orphan.
fn system_calls(init: Init) -> Option<f64> {
    let strace = tools::find("strace")?;
    let world = World::with_orphans(init, TRACED_ORPHANS)?;
    let summary = world.directory().join("summary");
    let mut tracer = Command::new(strace)
        .args(["-c", "-o"])
        .arg(&summary)
        .args(["-p", &world.pid.to_string()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while proc::status(world.pid, "TracerPid").is_some_and(|tracer| tracer == "0") {
        thread::sleep(Duration::from_millis(10));
    }
    let left = kill_orphans(&world, false);
    kill(Pid::from_raw(tracer.id().cast_signed()), Signal::SIGINT).unwrap();
    tracer.wait().unwrap();
    let summary = fs::read_to_string(summary).ok()?;
    // `100.00    0.012345           6      2002         1 total`
    let total = summary.lines().find(|line| line.ends_with(" total"))?;
    let calls: f64 = total.split_whitespace().nth(3)?.parse().ok()?;
    Some(calls / (TRACED_ORPHANS - left) as f64)
}
