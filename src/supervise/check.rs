//! The steps of rsup's start that `--check` tries, to see whether they succeed on this machine. The steps with users
//! and sockets run in a child process. rsup itself looks for Python.

use super::{messages, prepare};
use crate::config::{Obstacle, RsupStartStep, Socket, SocketAddress};
use crate::sys::{self, CredentialStep, Credentials, Errno};
use std::path::Path;

/// Tries a step of the start. This function does not report a missing user, so the caller must have checked that every
/// user that `step` names exists.
///
/// # Errors
/// Says why the step would fail, and what to do.
pub fn try_step(step: RsupStartStep<'_>) -> Result<(), Obstacle> {
    match step {
        RsupStartStep::SupervisordUser(user) => try_user(None, user).map_err(|(why, errno)| {
            let advice = match errno {
                Errno::EPERM if sys::real_user_is_root() => NEEDS_CAPABILITIES,
                Errno::EPERM => ": start rsup as root or as this user, or remove this key",
                _ => "",
            };
            Obstacle::Error(why + advice)
        }),
        RsupStartStep::ProgramUser { own_user, user } => try_user(own_user, user).map_err(|(why, errno)| {
            let advice = match errno {
                Errno::EPERM if own_user.is_some() => {
                    ": rsup itself changes to the user of [supervisord] before"
                }
                Errno::EPERM if sys::real_user_is_root() => NEEDS_CAPABILITIES,
                Errno::EPERM => ": start rsup as root, or remove this key",
                _ => "",
            };
            Obstacle::Warning(format!("this program cannot start: {why}{advice}"))
        }),
        RsupStartStep::Socket { own_user, socket, user } => try_create_socket(own_user, socket, user),
        RsupStartStep::ListenerCommand(words) => find_python(words).map_err(Obstacle::Warning),
    }
}

/// If the command is Python or a Python script, checks that Python can be found.
fn find_python(words: &[String]) -> Result<(), String> {
    let Some(command) = words.first() else { return Ok(()) };
    let name = command.rsplit('/').next().unwrap_or(command);
    let is_found = if name.starts_with("python") {
        sys::is_on_path(command)
    } else {
        !sys::is_python_script(command) || sys::is_on_path("python3") || sys::is_on_path("python")
    };
    if is_found { Ok(()) } else { Err("this event listener needs Python, which is not installed".to_owned()) }
}

const NEEDS_CAPABILITIES: &str = ": rsup needs the capabilities SETUID and SETGID";

fn resolve(user: &str) -> Option<Credentials> {
    sys::resolve_user(user).ok()
}

/// Tries to change to `own`, the user of `[supervisord]`, if it is given, and then to `user`. Returns the text about
/// the step that failed, and the errno.
fn try_user(own_user: Option<&str>, user: &str) -> Result<(), (String, Errno)> {
    let own_user = own_user.and_then(resolve);
    let Some(user) = resolve(user) else { return Ok(()) };
    let was_root = own_user.as_ref().map_or_else(sys::real_user_is_root, |own| own.uid == 0);
    sys::try_user(own_user.as_ref(), &user).map_err(|(step, errno): (CredentialStep, Errno)| {
        (messages::failed_credentials(step, errno, was_root), errno)
    })
}

fn try_create_socket(own: Option<&str>, socket: &Socket, user: Option<&str>) -> Result<(), Obstacle> {
    let own_user = own.and_then(resolve);
    let created = sys::try_create_socket(own_user.as_ref(), || match &socket.address {
        SocketAddress::Tcp(..) => prepare::listen(socket, user).map(drop),
        SocketAddress::Unix(path) => {
            let owner = prepare::owner(socket, user);
            sys::check_listen_unix(Path::new(path), socket.mode, owner.as_ref(), socket.backlog)
        }
    });
    created.map_err(|errno| {
        let url = &socket.address;
        let is_tcp = matches!(url, SocketAddress::Tcp(..));
        let advice = match errno {
            Errno::ENOENT => ": create its directory before rsup starts",
            Errno::EADDRINUSE if is_tcp => ": rsup can start when the process that listens there has ended",
            Errno::EADDRINUSE => ": remove the file at this path, which is no socket",
            Errno::EADDRNOTAVAIL => ": the host must be localhost or an IPv4 address of this machine",
            Errno::EPERM => ": rsup's user may not set the owner of the socket (socket_owner or user)",
            Errno::ENAMETOOLONG => ": the path of a socket has at most 107 bytes",
            Errno::EACCES => ": rsup's user may not create it",
            _ => "",
        };
        let why = format!("Could not create FastCGI socket {url}: {}{advice}", errno.desc());
        match errno {
            // The process that listens on this port may be a running rsup with the same configuration file. So this is
            // no error in the file.
            Errno::EADDRINUSE if is_tcp => Obstacle::Warning(why),
            _ => Obstacle::Error(why),
        }
    })
}
