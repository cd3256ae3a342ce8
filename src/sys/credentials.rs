//! Users and groups of /etc/passwd and /etc/group, looked up before any fork.

use super::errno::{Errno, cvt};
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use std::ffi::CString;

// Where numbers of users had 16 bits once, the calls that take 32 have another name.
#[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
use libc::{SYS_setgid, SYS_setgroups, SYS_setuid};
#[cfg(any(target_arch = "x86", target_arch = "arm"))]
use libc::{SYS_setgid32 as SYS_setgid, SYS_setgroups32 as SYS_setgroups, SYS_setuid32 as SYS_setuid};

/// Whom a program runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// All groups, the first included.
    pub groups: Vec<u32>,
    /// Whether the group was named, and is not just the user's own.
    pub names_group: bool,
}

/// Why a `user` is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserError {
    /// No such user.
    UnknownUser,
    /// No such group, in `user:group`.
    UnknownGroup,
}

/// Looks up `name`, `number`, or either with `:group` behind it. Numbers need no entry, for scratch images have none;
/// nor does `root`.
///
/// # Errors
/// Says which half is unknown.
pub fn resolve_user(text: &str) -> Result<Credentials, UserError> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let entry = match user.parse() {
        // To the kernel this is "no change".
        Ok(u32::MAX) => return Err(UserError::UnknownUser),
        Ok(uid) => {
            passwd(User::from_uid(Uid::from_raw(uid))).unwrap_or(PasswdEntry { name: None, uid, gid: uid })
        }
        Err(_) => match passwd(User::from_name(user)) {
            Some(entry) => entry,
            None if user == "root" => PasswdEntry { name: None, uid: 0, gid: 0 },
            None => return Err(UserError::UnknownUser),
        },
    };
    let gid = match group {
        Some(group) => group_id(group).ok_or(UserError::UnknownGroup)?,
        None => entry.gid,
    };
    Ok(Credentials { uid: entry.uid, gid, groups: entry.groups(gid), names_group: group.is_some() })
}

struct PasswdEntry {
    name: Option<CString>,
    uid: u32,
    gid: u32,
}

impl PasswdEntry {
    /// Every group that names the user, behind `gid`.
    fn groups(&self, gid: u32) -> Vec<u32> {
        let listed = self.name.as_ref().and_then(|name| getgrouplist(name, Gid::from_raw(gid)).ok());
        let listed = listed.unwrap_or_default().into_iter().map(Gid::as_raw);
        std::iter::once(gid).chain(listed.filter(|other| *other != gid)).collect()
    }
}

/// No such user and no such file are the same here: musl makes an error of the second.
fn passwd(found: Result<Option<User>, Errno>) -> Option<PasswdEntry> {
    let user = found.ok().flatten()?;
    let name = CString::new(user.name).ok();
    Some(PasswdEntry { name, uid: user.uid.as_raw(), gid: user.gid.as_raw() })
}

fn group_id(group: &str) -> Option<u32> {
    group.parse().ok().or_else(|| Some(Group::from_name(group).ok().flatten()?.gid.as_raw()))
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
