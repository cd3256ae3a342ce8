//! Processes: their numbers, signals to them, and what rsup sets of its own.

use super::{Credentials, Errno, cvt};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::ffi::CStr;
use std::fs;
use std::num::NonZeroI32;
use std::os::unix::fs::MetadataExt;

// Where numbers of users had 16 bits once, the calls that take 32 have another name.
#[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
use libc::{SYS_setgid, SYS_setgroups, SYS_setuid};
#[cfg(any(target_arch = "x86", target_arch = "arm"))]
use libc::{SYS_setgid32 as SYS_setgid, SYS_setgroups32 as SYS_setgroups, SYS_setuid32 as SYS_setuid};

/// A process or process group above 1: the numbers by which `kill` can hit a stranger (-1, 0, 1) cannot be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pid(NonZeroI32);

impl Pid {
    /// The process of this number, if it can be one of ours.
    #[must_use]
    pub fn new(number: i32) -> Option<Self> {
        NonZeroI32::new(number).filter(|number| number.get() > 1).map(Self)
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0.get()
    }
}

fn raw_kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: two numbers; whom they hit is the caller's care, who has a `Pid` or means everything.
    cvt(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// Sends a signal to a process.
///
/// # Errors
/// Of `kill(2)`.
pub fn kill(pid: Pid, signal: i32) -> Result<(), Errno> {
    raw_kill(pid.number(), signal)
}

/// Sends a signal to a process group.
///
/// # Errors
/// Of `kill(2)`.
pub fn killpg(group: Pid, signal: i32) -> Result<(), Errno> {
    raw_kill(-group.number(), signal)
}

/// Whether the process group has a member, be it a zombie or somebody we may not signal.
#[must_use]
pub fn group_exists(group: Pid) -> bool {
    raw_kill(-group.number(), 0) != Err(Errno::ESRCH)
}

/// Sends a signal to rsup itself.
pub fn kill_self(signal: i32) {
    // SAFETY: takes nothing, cannot fail.
    let own = unsafe { libc::getpid() };
    // It is our own to signal.
    let _ = raw_kill(own, signal);
}

/// Sends a signal to rsup's own process group: to rsup itself, and to the others of a pipeline or script.
pub fn kill_own_group(signal: i32) {
    // It has us as a member.
    let _ = raw_kill(0, signal);
}

/// Sends a signal to everything in the PID namespace but rsup. Only process 1 may mean that: to others it is the whole
/// machine.
///
/// # Errors
/// EPERM where rsup is not process 1, else of `kill(2)`.
pub fn kill_all(signal: i32) -> Result<(), Errno> {
    if is_pid1() { raw_kill(-1, signal) } else { Err(Errno::EPERM) }
}

/// The living and dead children of rsup; none where there is no /proc to list them.
#[must_use]
pub fn children() -> Option<Vec<Pid>> {
    let children = fs::read_to_string("/proc/thread-self/children").ok()?;
    Some(children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).filter_map(Pid::new).collect())
}

/// Whether rsup is process 1 of its PID namespace.
#[must_use]
pub fn is_pid1() -> bool {
    std::process::id() == 1
}

/// Becomes the parent of orphans below it, as process 1 is anyway (`PR_SET_CHILD_SUBREAPER`).
pub fn set_child_subreaper() {
    if !is_pid1() {
        // Kernels from 3.4 on have it; without it orphans go elsewhere, which is all that is lost.
        let _ = nix::sys::prctl::set_child_subreaper(true);
    }
}

/// Whether this is a file that rsup may read and nobody may execute: something that was meant to be read, not to be run.
#[must_use]
pub fn is_readable_file(path: &str) -> bool {
    let is_data = |found: fs::Metadata| found.is_file() && found.mode() & 0o111 == 0;
    fs::metadata(path).is_ok_and(is_data) && fs::File::open(path).is_ok()
}

/// The name of this host as `uname(2)` gives it; empty where it is not text.
#[must_use]
pub fn host_name() -> String {
    let mut names = std::mem::MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: `names` is a valid place for what is written.
    unsafe { libc::uname(names.as_mut_ptr()) };
    // SAFETY: characters, for which zeros are valid.
    let names = unsafe { names.assume_init() };
    // SAFETY: uname(2) ends the name with NUL, and `names` outlives the borrow.
    let node = unsafe { CStr::from_ptr(names.nodename.as_ptr()) };
    node.to_str().unwrap_or_default().to_owned()
}

/// Closes every descriptor above 2: listeners and locks that rsup was started with are not PID 1's to hold. To be called
/// before rsup opens any of its own.
pub fn close_inherited() {
    // SAFETY: numbers; by the caller's duty nobody in rsup owns what is closed.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    if cvt(closed).is_err() {
        // Linux before 5.9.
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
        for fd in 3..i32::try_from(soft.min(65_536)).unwrap_or(1024) {
            // SAFETY: as above; a number that is not open is refused.
            unsafe { libc::close(fd) };
        }
    }
}

/// Which limit could not be raised, and to what.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// `RLIMIT_NOFILE` or `RLIMIT_NPROC`.
    pub name: &'static str,
    /// What was asked for.
    pub wanted: u64,
    /// Whether it is so now.
    pub raised: bool,
}

/// Raises the soft limits on descriptors and processes to at least these, for rsup and all it starts; the hard ones
/// too where they are lower (supervisord's `minfds` and `minprocs`). Tells of each that was not enough.
pub fn raise_limits(minfds: u64, minprocs: u64, mut tell: impl FnMut(Limit)) {
    let wanted = [
        (Resource::RLIMIT_NOFILE, "RLIMIT_NOFILE", minfds),
        (Resource::RLIMIT_NPROC, "RLIMIT_NPROC", minprocs),
    ];
    for (resource, name, wanted) in wanted {
        // RLIM_INFINITY is the highest number.
        if let Ok((soft, hard)) = getrlimit(resource)
            && soft < wanted
        {
            let raised = setrlimit(resource, wanted, hard.max(wanted)).is_ok();
            if !raised {
                // As far as it goes.
                let _ = setrlimit(resource, hard, hard);
            }
            tell(Limit { name, wanted, raised });
        }
    }
}

/// Makes room for this many descriptors in rsup itself, as far as the hard limit allows. Returns the soft limit that
/// programs are to have all the same, where that is another one now.
pub fn raise_nofile_for(descriptors: u64) -> Option<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let wanted = descriptors.min(hard);
    (soft < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok()).then_some(soft)
}

/// Sets the soft limit on descriptors. Async-signal-safe.
pub(super) fn set_nofile_soft_limit(soft: u64) {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Lower than it is, which is always allowed.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, soft, hard);
    }
}

/// Becomes another user for good: groups, group, user, in this order, since each step takes away the right to the one
/// before. Then asks the kernel whether it is so: a filter of system calls may say yes and do nothing.
/// Async-signal-safe.
///
/// # Errors
/// Of the step that failed; EPERM of one that only seemed to work.
pub(super) fn set_credentials(credentials: &Credentials) -> Result<(), (CredentialStep, Errno)> {
    let (count, groups) = (credentials.groups.len(), credentials.groups.as_ptr());
    // SAFETY: `groups` points to `count` numbers.
    cvt(unsafe { libc::syscall(SYS_setgroups, count, groups) }).map_err(|e| (CredentialStep::Groups, e))?;
    // SAFETY: a number.
    cvt(unsafe { libc::syscall(SYS_setgid, credentials.gid) }).map_err(|e| (CredentialStep::Gid, e))?;
    // SAFETY: a number.
    cvt(unsafe { libc::syscall(SYS_setuid, credentials.uid) }).map_err(|e| (CredentialStep::Uid, e))?;
    let is_so = [
        (has_exactly_groups(&credentials.groups), CredentialStep::Groups),
        (has_gid(credentials.gid), CredentialStep::Gid),
        (has_uid(credentials.uid), CredentialStep::Uid),
    ];
    match is_so.into_iter().find(|(is_so, _)| !is_so) {
        Some((_, step)) => Err((step, Errno::EPERM)),
        None => Ok(()),
    }
}

/// Whether these are all groups beside the first; of very long lists it is taken on trust.
fn has_exactly_groups(wanted: &[u32]) -> bool {
    let mut groups = [0; 1024];
    let room = i32::try_from(groups.len()).unwrap_or(0);
    // SAFETY: there is room for as many numbers.
    let count = unsafe { libc::getgroups(room, groups.as_mut_ptr()) };
    let mut listed = groups.iter().take(usize::try_from(count).unwrap_or(0));
    wanted.len() > groups.len()
        || usize::try_from(count) == Ok(wanted.len()) && listed.all(|group| wanted.contains(group))
}

/// Whether it is the real, the effective and the saved group.
fn has_gid(wanted: u32) -> bool {
    let [mut real, mut effective, mut saved] = [!wanted; 3];
    // SAFETY: each is a place for one number.
    unsafe { libc::getresgid(&raw mut real, &raw mut effective, &raw mut saved) };
    [real, effective, saved] == [wanted; 3]
}

/// Whether it is the real, the effective and the saved user.
fn has_uid(wanted: u32) -> bool {
    let [mut real, mut effective, mut saved] = [!wanted; 3];
    // SAFETY: each is a place for one number.
    unsafe { libc::getresuid(&raw mut real, &raw mut effective, &raw mut saved) };
    [real, effective, saved] == [wanted; 3]
}

/// A step of [`set_credentials`].
#[derive(Clone, Copy, Debug)]
pub(super) enum CredentialStep {
    Groups,
    Gid,
    Uid,
}

/// rsup itself becomes this user for good (`[supervisord] user`). Its own user is nothing to do, as with supervisord.
///
/// # Errors
/// Of the system call that refused it.
pub fn drop_privileges(credentials: &Credentials) -> Result<(), Errno> {
    if is_own_user(credentials) {
        return Ok(());
    }
    set_credentials(credentials).map_err(|(_, errno)| errno)
}

/// Whether rsup is this user already, and no group was asked for beside it.
pub(super) fn is_own_user(credentials: &Credentials) -> bool {
    // SAFETY: takes nothing, cannot fail.
    !credentials.names_group && credentials.uid == unsafe { libc::getuid() }
}
