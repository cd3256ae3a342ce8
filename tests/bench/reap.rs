//! A storm of orphans: processes that their parent has left to PID 1 die at once.

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
/// So long they may be left. (supervisord takes minutes, and leaves a third.)
const PATIENCE: Duration = Duration::from_secs(10);
/// As many as a tracer can follow.
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
    forget_proc();
    let before = processor_time(world.pid);
    let left = strike(&world, init == Init::Bare);
    Some(((processor_time(world.pid) - before) / (ORPHANS - left) as f64, left as f64))
}

/// Has the orphans killed, and waits until all of them are reaped. Returns how many are left in the end. The init may be
/// stopped until they are dead: what it needs then is about what the kernel needs.
fn strike(world: &World, stopped: bool) -> usize {
    // Of the orphans only the first and the last are looked at in /proc: see `forget_proc`.
    let group = |child: &i32| proc::process(*child).map(|process| process.group);
    let children = proc::children_listed(world.pid);
    // They are in a group of their own, behind what PID 1 has had before; who left them is a child of it or of a helper.
    let orphans = children.last().and_then(group);
    let helpers: Vec<i32> = children.into_iter().take_while(|child| group(child) != orphans).collect();
    let below: Vec<i32> = helpers.iter().flat_map(|helper| proc::children_listed(*helper)).collect();
    let is_mother = |process: &proc::Process| process.name == "run";
    let mother = helpers.iter().chain(&below).filter_map(|pid| proc::process(*pid)).find(is_mother);
    let init = Pid::from_raw(world.pid);
    if stopped {
        kill(init, Signal::SIGSTOP).unwrap();
    }
    kill(Pid::from_raw(mother.expect("who left them").pid), Signal::SIGUSR1).unwrap();
    if stopped {
        for _ in 0..PATIENCE.as_secs() {
            thread::sleep(Duration::from_secs(1));
            if !wants_processor() {
                break;
            }
        }
        kill(init, Signal::SIGCONT).unwrap();
    }
    let left = || {
        let children = proc::children_listed(world.pid);
        assert!(!children.is_empty(), "the init is gone");
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

/// What the kernel keeps of a process that somebody has looked at in /proc makes its death twice as dear for PID 1; and
/// whoever watches over the machine looks at more of them the longer they are there. So the kernel is told to forget, of
/// the whole machine. Where that is refused, this shows as noise.
fn forget_proc() {
    let _ = fs::write("/proc/sys/vm/drop_caches", "2");
    // It frees more behind that.
    thread::sleep(Duration::from_secs(1));
}

/// Whether anybody but this process wants a processor.
fn wants_processor() -> bool {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    !stat.lines().any(|line| line == "procs_running 1")
}

/// Microseconds on a processor, as the scheduler counts them.
fn processor_time(pid: i32) -> f64 {
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
    let left = strike(&world, false);
    kill(Pid::from_raw(tracer.id().cast_signed()), Signal::SIGINT).unwrap();
    tracer.wait().unwrap();
    let summary = fs::read_to_string(summary).ok()?;
    // `100.00    0.012345           6      2002         1 total`
    let total = summary.lines().find(|line| line.ends_with(" total"))?;
    let calls: f64 = total.split_whitespace().nth(3)?.parse().ok()?;
    Some(calls / (TRACED_ORPHANS - left) as f64)
}
