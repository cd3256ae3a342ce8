//! A limit on the number of processes.

use std::fs;
use std::path::PathBuf;

use super::eventually;

/// A cgroup that limits the number of its processes.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// Creates a cgroup for the test with a given name.
    pub(crate) fn new(name: &str) -> Result<Self, String> {
        let places = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"];
        let name = format!("rsup-test-{}-{name}", std::process::id());
        let made = places.iter().map(|place| PathBuf::from(place).join(&name)).find(|place| {
            fs::create_dir(place).is_ok()
                && (place.join("pids.max").exists() || fs::remove_dir(place).is_err())
        });
        made.map(Self).ok_or_else(|| "needs a cgroup with the controller `pids`".into())
    }

    /// The shell command that moves the shell into the cgroup.
    pub(crate) fn enter(&self) -> String {
        format!("echo $$ > {}/cgroup.procs", self.0.display())
    }

    /// Sets the limit.
    pub(crate) fn allow(&self, processes: &str) {
        fs::write(self.0.join("pids.max"), processes).unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        eventually("the cgroup is empty", || fs::remove_dir(&self.0).ok());
    }
}
