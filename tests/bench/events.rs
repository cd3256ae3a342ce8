//! The instructions that a restart costs rsup itself. The number is the same in every run and does not depend on the
//! load of the machine, so it shows whether a program among a thousand costs more than a single one.
//!
//! valgrind supports fork and vfork, but no child that shares its parent's memory while both run. The measured binary
//! is therefore a build for the machine's own C library, which starts programs by plain fork.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::init::Init;
use crate::table::{self, short};
use crate::tools;
use crate::world::World;

const SIZES: [usize; 3] = [1, 100, 1000];
const RESTARTS: usize = 10;
/// The time after which a program is RUNNING, also under valgrind.
const RUNNING: Duration = Duration::from_millis(1500);

pub(crate) fn measure() {
    let counts = SIZES.map(|programs| instructions(programs).map_or_else(|| "–".to_owned(), short));
    let columns = SIZES.map(|programs| programs.to_string());
    let row = [vec!["instructions".to_owned()], counts.to_vec()].concat();
    let title = "Restart of one: rsup's own instructions from the exit to RUNNING, by the number of programs";
    table::print(title, &columns, &[row]);
}

/// Builds rsup for the host.
fn build() -> Option<PathBuf> {
    let about = Command::new("rustc").arg("-vV").output().ok()?;
    let about = String::from_utf8(about.stdout).ok()?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: "))?;
    let target = env!("CARGO_TARGET_TMPDIR");
    let words = ["build", "-q", "--release", "--locked", "--target", host, "--target-dir", target];
    let status = Command::new(env!("CARGO")).args(words).status().ok()?;
    status.success().then(|| Path::new(target).join(host).join("release/rsup"))
}

fn instructions(programs: usize) -> Option<f64> {
    let valgrind = tools::find("valgrind")?;
    let control = tools::find("callgrind_control")?;
    let directory = tempfile::tempdir().unwrap();
    let counts = directory.path().join("counts");
    let out = format!("--callgrind-out-file={}", counts.display());
    let rsup = build()?;
    let through = [valgrind.to_str()?, "--tool=callgrind", "-q", &out, rsup.to_str()?];
    let mut world = World::through(&through, Init::Rsup, programs)?;
    let pid = world.pid.to_string();
    let send = |word: &str| Command::new(&control).args([word, &pid]).output().unwrap();
    thread::sleep(2 * RUNNING);
    send("--zero");
    let mut left = RESTARTS;
    while left > 0 {
        for program in world.programs().chunks(1).take(left) {
            world.restart(program)?;
            left -= 1;
        }
        thread::sleep(RUNNING);
    }
    send("--dump");
    let dump = fs::read_to_string(counts.with_extension("1")).ok()?;
    let totals = dump.lines().find_map(|line| line.strip_prefix("totals: "))?;
    Some(totals.parse::<f64>().ok()? / RESTARTS as f64)
}
