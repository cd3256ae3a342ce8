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
const ROUNDS: usize = 3;
/// As many as a tracer can follow.
const TRACED_ORPHANS: usize = 2_000;

pub(crate) fn measure() {
    // The bare loop takes each orphan for one of its own.
    let inits: Vec<Init> = Init::installed().into_iter().filter(|init| *init != Init::Bare).collect();
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
    let columns = ["µs of PID 1 for each", "zombies left", "system calls for each"].map(str::to_owned);
    table::print(&format!("Reap: {ORPHANS} orphans of PID 1 that die at once"), &columns, &rows);
}

/// Microseconds of PID 1's processor time for each orphan, and how many are left as zombies.
fn storm(init: Init) -> Option<(f64, f64)> {
    let world = World::with_orphans(init, ORPHANS)?;
    let before = processor_time(world.pid);
    let left = strike(&world);
    Some(((processor_time(world.pid) - before) / ORPHANS as f64, left as f64))
}

/// Has the orphans killed, and waits until no more of them are reaped. Returns how many are left.
fn strike(world: &World) -> usize {
    let children = proc::children(world.pid);
    // They are in a group of their own; who left them is a child of PID 1 or of one of its helpers.
    let orphans = children.last().expect("orphans").group;
    let helpers = children.iter().filter(|child| child.group != orphans);
    let below = helpers.clone().flat_map(|helper| proc::children(helper.pid)).collect::<Vec<_>>();
    let mother = helpers.chain(&below).find(|process| process.name == "run").expect("who left them");
    kill(Pid::from_raw(mother.pid), Signal::SIGUSR1).unwrap();
    let mut before = usize::MAX;
    loop {
        thread::sleep(Duration::from_secs(1));
        let left = proc::children(world.pid).iter().filter(|process| process.group == orphans).count();
        if left == 0 || left == before {
            return left;
        }
        before = left;
    }
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
    strike(&world);
    kill(Pid::from_raw(tracer.id().cast_signed()), Signal::SIGINT).unwrap();
    tracer.wait().unwrap();
    let summary = fs::read_to_string(summary).ok()?;
    // `100.00    0.012345           6      2002         1 total`
    let total = summary.lines().find(|line| line.ends_with(" total"))?;
    let calls: f64 = total.split_whitespace().nth(3)?.parse().ok()?;
    Some(calls / TRACED_ORPHANS as f64)
}
