//! Processes that cannot exit until they are thawed, like processes that wait for a disk without an answer: SIGKILL
//! takes effect only after the thaw.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{SIGKILL, eventually, kill, proc, root};

/// A cgroup whose processes are frozen one by one. Dropping the value thaws and kills them.
pub(crate) struct Freezer {
    mount: tempfile::TempDir,
    group: PathBuf,
}

impl Freezer {
    /// Creates a cgroup. Only the freezer of cgroup version 1 stops a process that was sent SIGKILL from exiting.
    pub(crate) fn new() -> Result<Self, &'static str> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        root()?;
        let mount = tempfile::Builder::new().prefix("rsup-").tempdir().unwrap();
        // The kernel has one hierarchy for the freezer. It may also be mounted elsewhere.
        let mut command = Command::new("mount");
        let mounted = command.args(["-t", "cgroup", "-o", "freezer", "none"]).arg(mount.path()).output();
        if !mounted.is_ok_and(|mounted| mounted.status.success()) {
            return Err("needs the freezer of control groups, version 1");
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let group = mount.path().join(format!("rsup-{}-{count}", std::process::id()));
        let freezer = Self { mount, group };
        fs::create_dir(&freezer.group).unwrap();
        Ok(freezer)
    }

    /// Freezes a process. From then on the process is uninterruptible.
    pub(crate) fn freeze(&self, pid: i32) {
        fs::write(self.group.join("cgroup.procs"), pid.to_string()).unwrap();
        self.set("FROZEN");
        eventually("it is frozen", || self.holds(pid).then_some(()));
    }

    /// Whether a process exists and is in the state that ps calls uninterruptible.
    pub(crate) fn holds(&self, pid: i32) -> bool {
        proc::process(pid).is_some_and(|process| process.state == 'D')
    }

    /// Thaws the processes. Those that were sent SIGKILL exit.
    pub(crate) fn thaw(&self) {
        self.set("THAWED");
    }

    fn set(&self, state: &str) {
        fs::write(self.group.join("freezer.state"), state).unwrap();
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let inside = fs::read_to_string(self.group.join("cgroup.procs")).unwrap_or_default();
        inside.lines().filter_map(|pid| pid.parse().ok()).for_each(|pid| kill(pid, SIGKILL));
        self.thaw();
        eventually("the dead have left", || fs::remove_dir(&self.group).ok());
        unmount(self.mount.path());
    }
}

fn unmount(place: &Path) {
    let _status = Command::new("umount").arg("-l").arg(place).status();
}
