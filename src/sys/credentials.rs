//! Users and groups: looking them up before any fork, and permanently changing to them in rsup or in a child.

use super::errno::{Errno, cvt};
use nix::unistd::{Gid, Group, Uid, User, getgrouplist, getresgid, getresuid};
use std::ffi::CString;

// Linux had 16-bit user and group IDs once. On the architectures of that time, the calls for 32-bit IDs have different
// names.
#[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
use libc::{SYS_setgid, SYS_setgroups, SYS_setuid};
#[cfg(any(target_arch = "x86", target_arch = "arm"))]
use libc::{SYS_setgid32 as SYS_setgid, SYS_setgroups32 as SYS_setgroups, SYS_setuid32 as SYS_setuid};

/// The user and the groups that a process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub uid: u32,
    pub gid: u32,
    /// The argument of setgroups(2): first `gid`, then the other groups of which /etc/group lists the user as a
    /// member.
    pub groups: Vec<u32>,
    /// Whether the configuration names the group. If not, `gid` is the user's primary group.
    pub names_group: bool,
}

/// Why [`resolve_user`] has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserError {
    UnknownUser,
    UnknownGroup,
}

/// Looks up `USER` or `USER:GROUP`. Both are names or numbers.
///
/// Numbers, and the user `root`, need no entry in /etc/passwd or /etc/group, because images built from `scratch` have
/// neither file. A user without an entry has the primary group of the same number and no other group.
///
/// # Errors
/// Says which of the two is unknown. A lookup that fails for another reason counts as unknown, too.
pub fn resolve_user(text: &str) -> Result<Credentials, UserError> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let entry = match user.parse() {
        // chown(2) and setresuid(2) take this number as "do not change".
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
    /// The user's name. `None` if /etc/passwd has no entry for the user.
    name: Option<CString>,
    uid: u32,
    gid: u32,
}

impl PasswdEntry {
    /// Returns `gid`, and after it every group of which /etc/group lists the user as a member.
    fn groups(&self, gid: u32) -> Vec<u32> {
        let listed = self.name.as_ref().and_then(|name| getgrouplist(name, Gid::from_raw(gid)).ok());
        let listed = listed.unwrap_or_default().into_iter().map(Gid::as_raw);
        std::iter::once(gid).chain(listed.filter(|other| *other != gid)).collect()
    }
}

/// Treats an error as a missing entry: without /etc/passwd, musl returns ENOENT and not "no entry".
fn passwd(found: Result<Option<User>, Errno>) -> Option<PasswdEntry> {
    let user = found.ok().flatten()?;
    let name = CString::new(user.name).ok();
    Some(PasswdEntry { name, uid: user.uid.as_raw(), gid: user.gid.as_raw() })
}

fn group_id(group: &str) -> Option<u32> {
    group.parse().ok().or_else(|| Some(Group::from_name(group).ok().flatten()?.gid.as_raw()))
}

/// A step of a change of the user and the groups, for the report of the step that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialStep {
    /// setgroups(2).
    Groups,
    /// setgid(2).
    Gid,
    /// setuid(2).
    Uid,
}

/// Permanently changes the supplementary groups, the group and the user of the calling process. The user comes last,
/// because after setuid(2) the process may not change its groups any more. Async-signal-safe.
///
/// Afterwards this function reads the IDs back: a seccomp filter may let a call return 0 without any effect.
///
/// # Errors
/// Returns the step that failed and its errno: EPERM for a step that succeeded without effect.
pub(super) fn set_credentials(credentials: &Credentials) -> Result<(), (CredentialStep, Errno)> {
    let groups = &credentials.groups;
    // These are raw system calls, because libc's functions make the change in every thread and may take locks for this.
    // SAFETY: setgroups(2) reads `groups.len()` IDs of 32 bits from `groups`, which stays valid during the call.
    let changed = cvt(unsafe { libc::syscall(SYS_setgroups, groups.len(), groups.as_ptr()) });
    changed.map_err(|errno| (CredentialStep::Groups, errno))?;
    // SAFETY: setgid(2) takes one integer and touches no memory of the process.
    let changed = cvt(unsafe { libc::syscall(SYS_setgid, credentials.gid) });
    changed.map_err(|errno| (CredentialStep::Gid, errno))?;
    // SAFETY: setuid(2) takes one integer and touches no memory of the process.
    let changed = cvt(unsafe { libc::syscall(SYS_setuid, credentials.uid) });
    changed.map_err(|errno| (CredentialStep::Uid, errno))?;
    let checks = [
        (CredentialStep::Groups, has_exactly_groups(&credentials.groups)),
        (CredentialStep::Gid, has_only_gid(credentials.gid)),
        (CredentialStep::Uid, has_only_uid(credentials.uid)),
    ];
    match checks.into_iter().find(|(_, has_worked)| !has_worked) {
        Some((step, _)) => Err((step, Errno::EPERM)),
        None => Ok(()),
    }
}

/// The longest list of groups that [`has_exactly_groups`] compares.
const MAX_CHECKED_GROUPS: usize = 1024;

/// Returns whether the supplementary groups are `wanted`. A list of more than [`MAX_CHECKED_GROUPS`] groups is not
/// checked, and the answer is true.
fn has_exactly_groups(wanted: &[u32]) -> bool {
    let mut groups = [0; MAX_CHECKED_GROUPS];
    let capacity = i32::try_from(groups.len()).unwrap_or(0);
    // SAFETY: getgroups(2) writes at most `capacity` IDs, and `groups` has space for `capacity` IDs.
    let count = unsafe { libc::getgroups(capacity, groups.as_mut_ptr()) };
    let mut listed = groups.iter().take(usize::try_from(count).unwrap_or(0));
    wanted.len() > groups.len()
        || usize::try_from(count) == Ok(wanted.len()) && listed.all(|group| wanted.contains(group))
}

/// Returns whether the real, the effective and the saved group ID are all `wanted`.
fn has_only_gid(wanted: u32) -> bool {
    getresgid().is_ok_and(|ids| [ids.real, ids.effective, ids.saved] == [Gid::from_raw(wanted); 3])
}

/// Returns whether the real, the effective and the saved user ID are all `wanted`.
fn has_only_uid(wanted: u32) -> bool {
    getresuid().is_ok_and(|ids| [ids.real, ids.effective, ids.saved] == [Uid::from_raw(wanted); 3])
}

/// Returns whether rsup's real user ID is 0. If a change of the user fails, rsup's message depends on this, as
/// supervisord's does.
#[must_use]
pub fn real_user_is_root() -> bool {
    nix::unistd::getuid().is_root()
}

/// Permanently changes the user and the groups of the calling process. rsup calls this function for the key `user` of
/// the section `[supervisord]`. With `--check`, a child of rsup calls it for every key `user`. If the configuration
/// names a group, which supervisord does not allow, the change is always made. Otherwise, as in supervisord, the change
/// is made only if the user of `credentials` is not the user that the process already runs as.
///
/// # Errors
/// Returns the step that failed and its errno: EPERM for a step that succeeded without effect.
pub fn drop_privileges(credentials: &Credentials) -> Result<(), (CredentialStep, Errno)> {
    if needs_no_change(credentials) { Ok(()) } else { set_credentials(credentials) }
}

/// Returns whether rsup runs as this user already and the configuration names no group.
pub(super) fn needs_no_change(credentials: &Credentials) -> bool {
    !credentials.names_group && credentials.uid == nix::unistd::getuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No distribution gives this number to a user or a group.
    const UNUSED: u32 = 4_000_000_001;

    #[test]
    fn a_number_without_an_entry_is_the_user_and_the_group() {
        let expected = Credentials { uid: UNUSED, gid: UNUSED, groups: vec![UNUSED], names_group: false };
        assert_eq!(resolve_user("4000000001"), Ok(expected));
    }

    #[test]
    fn a_group_can_be_named_by_number() {
        let expected = Credentials { uid: UNUSED, gid: 77, groups: vec![77], names_group: true };
        assert_eq!(resolve_user("4000000001:77"), Ok(expected));
    }

    #[test]
    fn root_is_known_without_an_entry() {
        let root = resolve_user("root").unwrap();
        assert_eq!((root.uid, root.gid, root.groups.first()), (0, 0, Some(&0)));
    }

    #[test]
    fn the_number_that_means_no_change_is_an_unknown_user() {
        assert_eq!(resolve_user("4294967295"), Err(UserError::UnknownUser));
    }

    #[test]
    fn unknown_names_are_errors() {
        assert_eq!(resolve_user(""), Err(UserError::UnknownUser));
        assert_eq!(resolve_user("no-such-user"), Err(UserError::UnknownUser));
        assert_eq!(resolve_user("0:no-such-group"), Err(UserError::UnknownGroup));
    }

    #[test]
    fn the_own_user_needs_no_change_unless_a_group_is_named() {
        let uid = nix::unistd::getuid().as_raw();
        let mut own = Credentials { uid, gid: UNUSED, groups: vec![UNUSED], names_group: false };
        assert!(needs_no_change(&own));
        assert_eq!(drop_privileges(&own), Ok(()));
        own.names_group = true;
        assert!(!needs_no_change(&own));
    }

    #[test]
    fn the_ids_that_the_process_has_are_read_back() {
        let groups = nix::unistd::getgroups().unwrap();
        let mut groups: Vec<u32> = groups.into_iter().map(Gid::as_raw).collect();
        assert!(has_exactly_groups(&groups));
        groups.push(UNUSED);
        assert!(!has_exactly_groups(&groups));
        assert!(!has_only_gid(UNUSED));
        assert!(!has_only_uid(UNUSED));
    }
}
