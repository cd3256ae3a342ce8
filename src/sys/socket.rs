//! Listening sockets that rsup creates before it starts a program, which inherits them.

use super::credentials::Credentials;
use super::errno::{Errno, cvt};
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, lchown};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

/// Listens on a TCP port of an IPv4 address, as supervisord does. `host` is an IPv4 address or `localhost`. Other host
/// names are not looked up, because a query to a name server has no time limit. Without `backlog`, the standard library
/// chooses the length of the queue.
///
/// # Errors
/// Returns EADDRNOTAVAIL if `host` is neither an IPv4 address nor `localhost`, and otherwise the errno of socket(2),
/// bind(2) or listen(2).
pub fn listen_tcp(host: &str, port: u16, backlog: Option<u16>) -> io::Result<OwnedFd> {
    let address = match host {
        "localhost" => Ipv4Addr::LOCALHOST,
        _ => host.parse().map_err(|_| Errno::EADDRNOTAVAIL)?,
    };
    let listener = TcpListener::bind((address, port))?;
    set_backlog(listener.into(), backlog)
}

/// Listens on a UNIX socket at `path`, which gets the permissions `mode` and the owner `owner`. If an earlier process
/// has left a socket at this path, the new socket replaces that socket.
///
/// # Errors
/// Returns the errno of the system call that failed. The errno is EADDRINUSE if the file at the path is not a socket.
/// If the owner, the permissions or the backlog cannot be set, the new socket is removed from the path.
pub fn listen_unix(
    path: &Path,
    mode: u32,
    owner: Option<&Credentials>,
    backlog: Option<u16>,
) -> io::Result<OwnedFd> {
    // Only a socket is removed, because a wrong path in the configuration must not delete another file.
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    let prepared = owner
        .map_or(Ok(()), |owner| lchown(path, Some(owner.uid), Some(owner.gid)))
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .and_then(|()| set_backlog(listener.into(), backlog));
    if prepared.is_err() {
        // The first error is returned, so an error of the removal is ignored.
        let _ = fs::remove_file(path);
    }
    prepared
}

/// Checks whether [`listen_unix`] can create this socket. Does not touch the file at `path`, because a socket there may
/// be in use. Creates a trial socket in the same directory and removes it. Changes the working directory to that
/// directory, because the whole path of the trial socket may be too long for bind(2).
///
/// # Errors
/// Returns the error that [`listen_unix`] would return, but ENAMETOOLONG if `path` is too long. Does not notice that an
/// old socket at `path` cannot be removed.
pub fn check_listen_unix(
    path: &Path,
    mode: u32,
    owner: Option<&Credentials>,
    backlog: Option<u16>,
) -> io::Result<()> {
    if path.as_os_str().len() > MAX_PATH_LENGTH {
        return Err(Errno::ENAMETOOLONG.into());
    }
    SocketAddr::from_pathname(path)?;
    if fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
        return Err(Errno::EADDRINUSE.into());
    }
    std::env::set_current_dir(path.parent().unwrap_or(Path::new("/")))?;
    let trial = format!("rsup-check-{}", std::process::id());
    listen_unix(Path::new(&trial), mode, owner, backlog)?;
    fs::remove_file(trial)
}

/// The longest path of a socket in bytes, as unix(7) describes: `sun_path` has 108 bytes, of which the last one is NUL.
const MAX_PATH_LENGTH: usize = 107;

/// Sets the length of a listening socket's queue, if `backlog` is given. listen(2) may be called again to change the
/// length.
fn set_backlog(socket: OwnedFd, backlog: Option<u16>) -> io::Result<OwnedFd> {
    if let Some(backlog) = backlog {
        // SAFETY: listen(2) takes two integers and touches no memory of rsup.
        cvt(unsafe { libc::listen(socket.as_raw_fd(), backlog.into()) }.into())?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn localhost_is_the_only_host_name() {
        let socket = listen_tcp("localhost", 0, Some(1)).unwrap();
        let address = TcpListener::from(socket).local_addr().unwrap();
        assert!(matches!(address, std::net::SocketAddr::V4(address) if address.ip().is_loopback()));
        let error = listen_tcp("localhost.localdomain", 0, None).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::EADDRNOTAVAIL as i32));
    }

    #[test]
    fn a_socket_that_is_left_at_the_path_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        drop(UnixListener::bind(&path).unwrap());
        let _socket = listen_unix(&path, 0o600, None, Some(1)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn another_file_at_the_path_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "data").unwrap();
        let error = listen_unix(&path, 0o600, None, None).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::EADDRINUSE as i32));
        assert_eq!(fs::read(&path).unwrap(), b"data");
    }
}
