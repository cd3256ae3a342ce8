//! Users and groups of /etc/passwd and /etc/group, looked up before any fork.

use super::Errno;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use std::ffi::CString;

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
