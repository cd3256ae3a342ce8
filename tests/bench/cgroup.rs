//! A share of the processors, as every container has one.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// A cgroup with the controller `cpu`, which this process and all that it starts are in.
///
/// Without one the kernel makes such a group for each session (sched_autogroup, sched(7)). That a command is in another one
/// than its init spares some inits (dumb-init, by its `setsid`) that the scheduler moves the command to another processor
/// as it is executed; in a container nothing does.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// Enters a new one. None, aloud, where none is to be had.
    pub(crate) fn enter() -> Option<Self> {
        let name = format!("rsup-bench-{}", std::process::id());
        let places = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup"].map(|place| Path::new(place).join(&name));
        let entered = places.into_iter().find(|place| {
            let has_cpu = || ["cpu.shares", "cpu.weight"].iter().any(|file| place.join(file).exists());
            let entered = fs::create_dir(place).is_ok() && has_cpu() && put_in(place).is_ok();
            if !entered {
                let _ = fs::remove_dir(place);
            }
            entered
        });
        if entered.is_none() {
            eprintln!("MISSING a cgroup with the controller `cpu`: not measured as in a container");
        }
        entered.map(Self)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Should this fail, the cgroup cannot be removed either.
        let _ = self.0.parent().map(put_in);
        // The last that was started in it may still be on its way out.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        eprintln!("{} is left behind", self.0.display());
    }
}

/// Puts this process in a cgroup.
fn put_in(cgroup: &Path) -> std::io::Result<()> {
    fs::write(cgroup.join("cgroup.procs"), std::process::id().to_string())
}
