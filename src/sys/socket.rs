//! Listening sockets that are made before a program is started and handed to it.

use super::credentials::Credentials;
use super::errno::{Errno, cvt};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::{ffi::CString, fs};

/// Listens on a port of an IPv4 address, as supervisord does; of names only `localhost` is known, since asking for
/// others could take for ever.
///
/// # Errors
/// Of socket(2), bind(2) or listen(2).
pub fn listen_tcp(host: &str, port: u16, backlog: Option<u16>) -> io::Result<OwnedFd> {
    let address = match host {
        "localhost" => Ipv4Addr::LOCALHOST,
        _ => host.parse().map_err(|_| Errno::EADDRNOTAVAIL)?,
    };
    let listener = TcpListener::bind((address, port))?;
    set_backlog(listener.into(), backlog)
}

/// Listens on a path, in place of a socket that is left there, with these permissions and this owner.
///
/// # Errors
/// Of the system call that failed; the path is free then.
pub fn listen_unix(
    path: &Path,
    mode: u32,
    owner: Option<&Credentials>,
    backlog: Option<u16>,
) -> io::Result<OwnedFd> {
    // Only what an earlier life has left, for the file says "listen here" and not "delete this".
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    let dressed = give(path, owner)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .and_then(|()| set_backlog(listener.into(), backlog));
    if dressed.is_err() {
        let _ = fs::remove_file(path);
    }
    dressed
}

fn give(path: &Path, owner: Option<&Credentials>) -> io::Result<()> {
    let Some(owner) = owner else { return Ok(()) };
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path ends in NUL.
    cvt(unsafe { libc::lchown(path.as_ptr(), owner.uid, owner.gid) }.into())?;
    Ok(())
}

fn set_backlog(socket: OwnedFd, backlog: Option<u16>) -> io::Result<OwnedFd> {
    if let Some(backlog) = backlog {
        // SAFETY: numbers.
        cvt(unsafe { libc::listen(socket.as_raw_fd(), backlog.into()) }.into())?;
    }
    Ok(socket)
}
