//! The cost of an idle init: wake-ups, private memory, threads and processes.

use std::fs;
use std::fs::File;
use std::time::Duration;

use crate::init::Init;
use crate::proc;
use crate::table::{self, short};
use crate::tools;
use crate::world::World;

const SIZES: [usize; 4] = [1, 10, 100, 1000];
/// The time after which every init has finished its starts.
const SETTLE: Duration = Duration::from_secs(3);
const WATCH: Duration = Duration::from_secs(6);

struct Idle {
    processes: usize,
    threads: u64,
    wake_ups: f64,
    /// Private_Dirty, in KiB.
    memory: u64,
}

pub(crate) fn measure() {
    // Pages of the binary that are not on the disk yet would count as dirty.
    File::open(tools::rsup()).and_then(|binary| binary.sync_all()).unwrap();
    let inits: Vec<Init> = Init::installed().into_iter().filter(|init| *init != Init::Bare).collect();
    let sizes: Vec<Vec<Option<Idle>>> = SIZES.map(|programs| watch(&inits, programs)).into();
    let columns = SIZES.map(|programs| programs.to_string());
    let table = |title: &str, cell: &dyn Fn(&Idle) -> String| {
        let row = |(place, init): (usize, &Init)| {
            let cells = sizes.iter().map(|size| size[place].as_ref().map_or_else(|| "–".to_owned(), cell));
            std::iter::once(init.to_string()).chain(cells).collect()
        };
        let rows: Vec<Vec<String>> = inits.iter().enumerate().map(row).collect();
        table::print(&format!("{title}, by the number of programs"), &columns, &rows);
    };
    table("Idle: private memory in KiB (Private_Dirty)", &|idle| idle.memory.to_string());
    table("Idle: wake-ups a second", &|idle| short(idle.wake_ups));
    table("Idle: processes of the init / threads", &|idle| format!("{} / {}", idle.processes, idle.threads));
}

/// Watches all inits at the same time, because all of them are idle.
fn watch(inits: &[Init], programs: usize) -> Vec<Option<Idle>> {
    let mut worlds: Vec<_> = inits.iter().map(|init| World::new(*init, programs)).collect();
    std::thread::sleep(SETTLE);
    let members: Vec<Vec<i32>> =
        worlds.iter().map(|world| world.as_ref().map_or(vec![], World::init)).collect();
    let switches =
        |pids: &Vec<i32>| pids.iter().map(|pid| number(*pid, "status", "voluntary_ctxt_switches")).sum();
    let before: Vec<u64> = members.iter().map(switches).collect();
    std::thread::sleep(WATCH);
    let after: Vec<u64> = members.iter().map(switches).collect();
    let of = |place: usize, pids: &Vec<i32>| Idle {
        processes: pids.len(),
        threads: pids.iter().map(|pid| number(*pid, "status", "Threads")).sum(),
        wake_ups: (after[place] - before[place]) as f64 / WATCH.as_secs_f64(),
        memory: pids.iter().map(|pid| number(*pid, "smaps_rollup", "Private_Dirty")).sum(),
    };
    let idle = members.iter().enumerate().map(|(place, pids)| worlds[place].take().map(|_| of(place, pids)));
    idle.collect()
}

/// The number that follows a key in a file of `/proc/PID`.
pub(crate) fn number(pid: i32, file: &str, key: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let value = proc::field(&text, key).unwrap_or_default();
    value.trim_end_matches(" kB").parse().unwrap_or(0)
}
