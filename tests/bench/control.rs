//! The time of a command of supervisorctl: of rsup's client with rsup, and of the real one with supervisord. The clients
//! take turns.

use std::process::{Command, Stdio};

use crate::init::Init;
use crate::table::{self, median, short};
use crate::tools::{self, now};
use crate::world::World;

const ROUNDS: usize = 20;
const PROGRAMS: [usize; 3] = [1, 100, 1000];
/// Each command with the number of rounds. A restart takes at least `startsecs`, which is 1 s.
const COMMANDS: [(&str, usize); 2] = [("status", ROUNDS), ("restart p:p0", 3)];

pub(crate) fn measure() {
    let has_supervisorctl = tools::find("supervisorctl").is_some();
    let is_measured = |init: &Init| match init {
        Init::Rsup => true,
        Init::Supervisord => has_supervisorctl,
        _ => false,
    };
    let inits: Vec<Init> = Init::installed().into_iter().filter(is_measured).collect();
    for (command, rounds) in COMMANDS {
        let mut rows: Vec<Vec<String>> = inits.iter().map(|init| vec![init.to_string()]).collect();
        for programs in PROGRAMS {
            let worlds: Vec<_> = inits.iter().map(|init| (*init, World::new(*init, programs))).collect();
            let mut samples = vec![vec![]; inits.len()];
            for _ in 0..rounds {
                for ((init, world), times) in worlds.iter().zip(&mut samples) {
                    times.extend(world.as_ref().map(|world| run(*init, world, command)));
                }
            }
            for (row, times) in rows.iter_mut().zip(samples) {
                row.push(median(times).map_or_else(|| "–".to_owned(), short));
            }
        }
        let title = format!("supervisorctl {command}: wall time in ms, by the number of programs");
        table::print(&title, &PROGRAMS.map(|programs| programs.to_string()), &rows);
    }
}

/// Runs one command of the client. Returns its wall time in milliseconds.
fn run(init: Init, world: &World, words: &str) -> f64 {
    let mut client = match init {
        Init::Supervisord => {
            let mut client = Command::new(tools::find("supervisorctl").unwrap());
            client.arg("-c").arg(world.directory().join("supervisord.conf"));
            client
        }
        _ => {
            let mut client = Command::new(tools::rsup());
            client.arg("--ctl").env("RSUP_PID", world.pid.to_string());
            client
        }
    };
    let start = now();
    let status = client.args(words.split(' ')).stdout(Stdio::null()).status().unwrap();
    let time = now() - start;
    // Programs that have just been started are STARTING, which is no error.
    assert!(status.success(), "{init}: supervisorctl {words}: {status}");
    time as f64 / 1e6
}
