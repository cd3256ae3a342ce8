//! Start, restart of one program, restart of all at once, and stop; for one program and for many, so that costs which
//! grow with the number of programs become visible.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::init::Init;
use crate::table::{self, median, short};
use crate::world::World;

/// The numbers of programs, and the number of rounds for each.
const SIZES: [(usize, usize); 5] = [(1, 15), (10, 2), (100, 2), (200, 2), (1000, 1)];
/// An init that needs more milliseconds than this for a step is measured in the first rounds only, because noise is
/// small compared with such a time.
const SLOW: f64 = 500.0;
const SLOW_ROUNDS: usize = 2;
/// The number of programs that are killed one after the other in a round. More are killed where the restart is fast.
const SINGLE_KILLS: usize = 5;
const FAST_KILLS: usize = 50;
/// The time between two starts of one program. Several inits, rsup among them, wait at least one second.
const MIN_START_INTERVAL: Duration = Duration::from_millis(1200);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    First,
    Last,
    WithNamespace,
    RestartOne,
    RestartAll,
    Stop,
}

impl Step {
    const ALL: [(Self, &str); 6] = [
        (Self::First, "Start: from the exec of PID 1 to that of the first program"),
        (Self::Last, "Start: from the exec of PID 1 to that of the last program"),
        (Self::WithNamespace, "Start: from before there is a PID namespace to the exec of the last program"),
        (Self::RestartOne, "Restart of one: from SIGKILL to the exec of the next"),
        (Self::RestartAll, "Restart of all: from SIGKILL to each to the exec of the last"),
        (Self::Stop, "Stop: from the signal to the end of the PID namespace"),
    ];
}

/// Durations in milliseconds by step, number of programs and init.
type Samples = BTreeMap<(Step, usize, Init), Vec<f64>>;

pub(crate) fn measure() {
    let inits = Init::installed();
    let mut samples = Samples::new();
    for (programs, rounds) in SIZES {
        let mut slow = BTreeSet::new();
        for round in 0..rounds {
            let turn = (0..inits.len()).map(|place| inits[(place + round) % inits.len()]);
            let turn = turn.filter(|init| round < SLOW_ROUNDS || !slow.contains(init)).collect();
            let mut record = |step, init, nanoseconds: u64| {
                let time = nanoseconds as f64 / 1e6;
                samples.entry((step, programs, init)).or_default().push(time);
                if time > SLOW {
                    slow.insert(init);
                }
            };
            run_round(turn, programs, &mut record);
        }
    }
    print(&inits, &samples);
}

/// One round: the inits do each step one after the other, while the other inits are idle.
fn run_round(inits: Vec<Init>, programs: usize, record: &mut impl FnMut(Step, Init, u64)) {
    let mut worlds: Vec<(Init, World)> = vec![];
    for init in inits {
        let Some(world) = World::new(init, programs) else { continue };
        let start_times = world.start_times();
        record(Step::First, init, start_times.iter().min().unwrap() - world.executed_at());
        let last = start_times.iter().max().unwrap();
        record(Step::Last, init, last - world.executed_at());
        record(Step::WithNamespace, init, last - world.requested_at());
        worlds.push((init, world));
    }
    World::wait(&mut worlds, MIN_START_INTERVAL);
    worlds.retain_mut(|(init, world)| {
        let mut kills = SINGLE_KILLS;
        for (nth, program) in world.programs().chunks(1).enumerate() {
            if nth == kills {
                break;
            }
            let Some(time) = world.restart(program) else { return false };
            if (time as f64) < SLOW * 1e6 {
                kills = FAST_KILLS;
            }
            record(Step::RestartOne, *init, time);
        }
        true
    });
    World::wait(&mut worlds, MIN_START_INTERVAL);
    worlds.retain_mut(|(init, world)| {
        let all = world.programs();
        world.restart(&all).map(|time| record(Step::RestartAll, *init, time)).is_some()
    });
    World::wait(&mut worlds, MIN_START_INTERVAL);
    for (init, world) in worlds {
        record(Step::Stop, init, world.stop(init));
    }
}

fn print(inits: &[Init], samples: &Samples) {
    let columns = SIZES.map(|(programs, _)| format!("{programs}"));
    for (step, title) in Step::ALL {
        let middle = |programs, init| median(samples.get(&(step, programs, init))?.clone());
        let cell = |programs, init| match (middle(programs, init), middle(programs, Init::Bare)) {
            (Some(time), Some(bare)) => format!("{} ({}×)", short(time), short(time / bare)),
            _ => "–".to_owned(),
        };
        let row = |init: &Init| {
            let cells = SIZES.iter().map(|(programs, _)| cell(*programs, *init));
            std::iter::once(init.to_string()).chain(cells).collect()
        };
        let title = format!("{title}, in ms, by the number of programs (and as a multiple of the loop's)");
        table::print(&title, &columns, &inits.iter().map(row).collect::<Vec<_>>());
    }
}
