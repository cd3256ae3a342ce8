//! A cgroup with a CPU share, as every container has one.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// A cgroup with the controller `cpu`, which contains this process and all of its descendants.
///
/// Outside such a cgroup, the kernel creates a scheduling group for each session (sched_autogroup, sched(7)). An init
/// that calls setsid, such as dumb-init, then has another scheduling group than its command, and the scheduler does not
/// move the command to another processor at its exec. In a container the scheduler does move it.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// Creates a cgroup and enters it. Reports on stderr if this machine does not allow that.
    pub(crate) fn enter() -> Option<Self> {
        let name = format!("rsup-bench-{}", std::process::id());
        let places = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup"].map(|place| Path::new(place).join(&name));
        let entered = places.into_iter().find(|place| {
            let has_cpu = || ["cpu.shares", "cpu.weight"].iter().any(|file| place.join(file).exists());
            let entered = fs::create_dir(place).is_ok() && has_cpu() && move_into(place).is_ok();
            if !entered {
                let _ = fs::remove_dir(place);
            }
            entered
        });
        if entered.is_none() {
            eprintln!(
                "MISSING a cgroup with the controller `cpu`: the conditions are not those of a container"
            );
        }
        entered.map(Self)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // If this process cannot leave the cgroup, the removal below fails and is reported.
        let _ = self.0.parent().map(move_into);
        // The last process that was started in the cgroup may not have exited yet.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        eprintln!("the cgroup {} could not be removed", self.0.display());
    }
}

/// Moves this process into a cgroup.
fn move_into(cgroup: &Path) -> std::io::Result<()> {
    fs::write(cgroup.join("cgroup.procs"), std::process::id().to_string())
}
