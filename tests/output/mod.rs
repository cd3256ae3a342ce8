//! The output of programs: log files that are rotated, and output that the relay carries line by line.

mod cases;
mod count;
mod faults;
mod files;
mod inject;
mod lines;
mod load;
mod reader;
mod rotation;

use std::path::Path;

use crate::support::{Rsup, eventually, proc};

/// The name of the relay in /proc/PID/stat.
const RELAY: &str = "rsup-relay";

/// The PIDs of the relays of an rsup: one, or none.
fn relays(rsup: &Rsup) -> Vec<i32> {
    let children = proc::children(rsup.pid());
    children.iter().filter(|child| child.name == RELAY && !child.is_zombie()).map(|child| child.pid).collect()
}

/// Waits until rsup has a relay whose PID is not `other`. Returns the relay's PID.
fn relay_but(rsup: &Rsup, other: i32) -> i32 {
    eventually("a relay runs", || relays(rsup).into_iter().find(|pid| *pid != other))
}

/// Waits until rsup has a relay. Returns the relay's PID.
pub(crate) fn relay(rsup: &Rsup) -> i32 {
    relay_but(rsup, 0)
}

/// Whether a python3 is installed where every user may execute it. The programs of these tests are written in Python.
fn python() -> Result<(), &'static str> {
    let is_there =
        ["/usr/local/bin", "/usr/bin", "/bin"].iter().any(|dir| Path::new(dir).join("python3").exists());
    is_there.then_some(()).ok_or("python3 is not installed")
}

/// The path of a file of this directory, for rsup as any user.
fn shown(path: &Path) -> &str {
    path.to_str().expect("the paths of the tests are UTF-8")
}
