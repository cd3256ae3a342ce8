//! The memory of the relay, and its wake-ups while no program writes.

use std::fs::File;
use std::io;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use super::writers::{self, Place, Processes};
use crate::idle::number;
use crate::proc;
use crate::table;
use crate::tools;

const SIZES: [usize; 3] = [1, 100, 1000];
/// What each program writes before the last measurement: 1 MiB in blocks of 64 KiB.
const BLOCKS: u64 = 16;
/// The relay is idle when nothing has woken it for this time.
const QUIET: Duration = Duration::from_millis(500);
/// How long the wake-ups are counted.
const WATCH: Duration = Duration::from_secs(2);

/// What the relay costs with a number of programs.
struct Relay {
    /// Private_Dirty in KiB, before the programs write and after.
    memory: [u64; 2],
    /// The wake-ups while no program writes, before and after.
    wake_ups: [u64; 2],
}

pub(super) fn measure() {
    // Pages of the binary that are not on the disk yet would count as dirty.
    File::open(tools::rsup()).and_then(|binary| binary.sync_all()).unwrap();
    let modes =
        [("into log files", None), ("--output prefix", Some("prefix")), ("--output json", Some("json"))];
    let rows = modes.into_iter().flat_map(|(name, mode)| {
        let relays = SIZES.map(|programs| watch(programs, mode));
        ["before the first write", "after 1 MiB from each"].into_iter().enumerate().map(move |(at, when)| {
            let memory = relays.each_ref().map(|relay| relay.memory[at]);
            let [one, .., many] = memory;
            let further = (many as f64 - one as f64) / (SIZES[SIZES.len() - 1] - SIZES[0]) as f64;
            let wake_ups = relays.each_ref().map(|relay| relay.wake_ups[at].to_string()).join(" / ");
            let cells = memory.map(|memory| memory.to_string());
            let name = format!("{name}, {when}");
            std::iter::once(name).chain(cells).chain([format!("{further:.2}"), wake_ups]).collect()
        })
    });
    let columns = SIZES.map(|programs| programs.to_string()).into_iter();
    let further = ["each further one".to_owned(), format!("wake-ups in {} s", WATCH.as_secs())];
    table::print(
        "Output: private memory of rsup-relay in KiB (Private_Dirty), by the number of streams",
        &columns.chain(further).collect::<Vec<_>>(),
        &rows.collect::<Vec<Vec<_>>>(),
    );
}

/// Runs rsup with programs that have one stream each: to rsup's stdout with this `--output`, or without one into a
/// rotated log file.
fn watch(programs: usize, mode: Option<&str>) -> Relay {
    let mut place = Place::new();
    let mut processes = Processes::new();
    let to_stdout = "stdout_logfile=/dev/stdout\nstdout_logfile_maxbytes=0\n";
    let keys = mode.map_or_else(|| place.rotation_keys(), |_| to_stdout.to_owned());
    place.write_conf(&format!("fill {BLOCKS} 1 blocks"), programs, &keys);
    let (mut output, writer) = io::pipe().unwrap();
    let mut command = place.supervisor(&tools::rsup());
    command.args(["--output", mode.unwrap_or("direct")]).stdin(Stdio::null()).stdout(writer);
    let namespace = processes.start(command);
    // The thread ends when the processes have ended.
    thread::spawn(move || io::copy(&mut output, &mut io::sink()));
    for _ in 0..programs {
        place.record();
    }
    let relay = writers::find(namespace, "rsup-relay");
    let measure = || {
        wait_until_idle(relay);
        let memory = number(relay, "smaps_rollup", "Private_Dirty");
        let before = proc::context_switches(relay);
        thread::sleep(WATCH);
        (memory, proc::context_switches(relay) - before)
    };
    let before = measure();
    place.go(programs);
    // Each program makes a record when it begins and when it has written everything.
    for _ in 0..2 * programs {
        place.record();
    }
    let after = measure();
    Relay { memory: [before.0, after.0], wake_ups: [before.1, after.1] }
}

/// Waits until the relay has carried everything.
fn wait_until_idle(relay: i32) {
    let mut before = proc::context_switches(relay);
    writers::wait_until("the relay is idle", || {
        thread::sleep(QUIET);
        let now = proc::context_switches(relay);
        std::mem::replace(&mut before, now) == now
    });
}
