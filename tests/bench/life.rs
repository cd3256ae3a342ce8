//! The life of the programs: start, restart of one, restart of all at once, stop; for one program and for many, so that
//! what grows shows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::init::Init;
use crate::table::{self, median, short};
use crate::world::World;

/// How many programs, and how often all inits take their turns with them.
const SIZES: [(usize, usize); 5] = [(1, 15), (10, 2), (100, 2), (200, 2), (1000, 1)];
/// Whoever takes this long for a step (in milliseconds) is measured in the first rounds only: there, noise is small.
const SLOW: f64 = 500.0;
const SLOW_ROUNDS: usize = 2;
/// How many different programs are killed one after the other in a round, and how many of an init that is not slow.
const SINGLE_DEATHS: usize = 5;
const QUICK_DEATHS: usize = 50;
/// Between two starts of one program: several inits, rsup too, keep a second apart.
const FLOOR: Duration = Duration::from_millis(1200);

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

/// Milliseconds by step, number of programs and init.
type Samples = BTreeMap<(Step, usize, Init), Vec<f64>>;

pub(crate) fn measure() {
    let inits = Init::installed();
    let mut samples = Samples::new();
    for (programs, rounds) in SIZES {
        let mut slow = BTreeSet::new();
        for round in 0..rounds {
            let turn = (0..inits.len()).map(|place| inits[(place + round) % inits.len()]);
            let turn = turn.filter(|init| round < SLOW_ROUNDS || !slow.contains(init)).collect();
            let mut take = |step, init, nanoseconds: u64| {
                let time = nanoseconds as f64 / 1e6;
                samples.entry((step, programs, init)).or_default().push(time);
                if time > SLOW {
                    slow.insert(init);
                }
            };
            play(turn, programs, &mut take);
        }
    }
    print(&inits, &samples);
}

/// One round: each step is taken by all, one after the other, while the others are idle.
fn play(inits: Vec<Init>, programs: usize, take: &mut impl FnMut(Step, Init, u64)) {
    let mut worlds: Vec<(Init, World)> = vec![];
    for init in inits {
        let Some(world) = World::new(init, programs) else { continue };
        let births = world.births();
        take(Step::First, init, births.iter().min().unwrap() - world.executed());
        let last = births.iter().max().unwrap();
        take(Step::Last, init, last - world.executed());
        take(Step::WithNamespace, init, last - world.asked());
        worlds.push((init, world));
    }
    World::rest(&mut worlds, FLOOR);
    worlds.retain_mut(|(init, world)| {
        let mut deaths = SINGLE_DEATHS;
        for (nth, program) in world.programs().chunks(1).enumerate() {
            if nth == deaths {
                break;
            }
            let Some(time) = world.restart(program) else { return false };
            if (time as f64) < SLOW * 1e6 {
                deaths = QUICK_DEATHS;
            }
            take(Step::RestartOne, *init, time);
        }
        true
    });
    World::rest(&mut worlds, FLOOR);
    worlds.retain_mut(|(init, world)| {
        let all = world.programs();
        world.restart(&all).map(|time| take(Step::RestartAll, *init, time)).is_some()
    });
    World::rest(&mut worlds, FLOOR);
    for (init, world) in worlds {
        take(Step::Stop, init, world.stop(init));
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
