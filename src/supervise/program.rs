//! From a process of the file to what the kernel needs to start it.

use crate::config::{Address, Config, LogFile, Process, Socket, repr};
use crate::log::Log;
use crate::policy::Level;
use crate::sys::{self, Input, Output, Program};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::rc::Rc;
use std::{env, io};

/// Where a command is looked for when no PATH says it (supervisord's list).
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin:/usr/local/bin";

/// Prepares the program; `descriptors` is its soft limit on them where rsup's own is another.
///
/// # Errors
/// supervisord's text behind `spawnerr:`.
pub(super) fn prepare(
    process: &Process,
    sockets: &Sockets,
    descriptors: Option<u64>,
) -> Result<Program, String> {
    let argv = process
        .argv
        .as_ref()
        .map_err(|why| format!("can't parse command {}: {why}", repr(&process.command)))?;
    let word = argv.first().ok_or("command is empty")?;
    let environment = environment(process);
    let path = environment.get(&b"PATH"[..]).filter(|path| !path.is_empty());
    let ids = match &process.user {
        Some(user) => {
            Some(sys::look_up(user).map_err(|_| format!("couldn't setuid to {user}: Can't find user"))?)
        }
        None => None,
    };
    let unsayable = |_| format!("couldn't exec {word}: EINVAL");
    let argv = argv.iter().map(|argument| CString::new(argument.as_str()));
    let variable = |(key, value): (&Vec<u8>, &Vec<u8>)| CString::new([key, &b"="[..], value].concat());
    Ok(Program {
        word: word.clone(),
        candidates: sys::candidates(word.as_bytes(), path.map_or(DEFAULT_PATH, Vec::as_slice)),
        argv: argv.collect::<Result<Vec<_>, _>>().map_err(unsayable)?.into(),
        envp: environment.iter().map(variable).collect::<Result<Vec<_>, _>>().map_err(unsayable)?.into(),
        directory: process.directory.as_deref().map(CString::new).transpose().map_err(unsayable)?,
        umask: process.umask,
        descriptors,
        ids,
        stdin: sockets.get(&process.group).map_or(Input::Silence, |socket| Input::Socket(Rc::clone(socket))),
        stdout: output(&process.stdout_logfile, 1),
        stderr: if process.redirect_stderr { Output::WithStdout } else { output(&process.stderr_logfile, 2) },
    })
}

/// The sockets of `[fcgi-program:x]` by group: each is made once, whatever becomes of the processes.
pub(super) type Sockets = BTreeMap<String, Rc<OwnedFd>>;

/// Makes the sockets.
///
/// # Errors
/// supervisord's text about the first that cannot be made.
pub(super) fn sockets(config: &Config, log: &mut Log) -> Result<Sockets, String> {
    let mut sockets = Sockets::new();
    for process in &config.processes {
        if let (Some(socket), false) = (&process.socket, sockets.contains_key(&process.group)) {
            let url = socket_url(&socket.address);
            log.line(Level::Info, format_args!("Creating socket {url}"));
            let made = listen(socket, process.user.as_deref())
                .map_err(|why| format!("Error: Could not create FastCGI socket {url}: {why}\n"))?;
            sockets.insert(process.group.clone(), Rc::new(made));
        }
    }
    Ok(sockets)
}

fn socket_url(address: &Address) -> String {
    match address {
        Address::Tcp(host, port) => format!("tcp://{host}:{port}"),
        Address::Unix(path) => format!("unix://{path}"),
    }
}

/// A unix socket belongs to its `socket_owner`, else to the program's user.
fn listen(socket: &Socket, user: Option<&str>) -> io::Result<OwnedFd> {
    match &socket.address {
        Address::Tcp(host, port) => sys::listen_tcp(host, *port, socket.backlog),
        Address::Unix(path) => {
            let owner = socket.owner.as_deref().or(user).and_then(|user| sys::look_up(user).ok());
            sys::listen_unix(Path::new(path), socket.mode, owner.as_ref(), socket.backlog)
        }
    }
}

/// rsup's own environment, the `SUPERVISOR_` variables, and what the file says: later ones beat earlier ones, so the
/// file beats everything (as in supervisord, whatever its manual says).
fn environment(process: &Process) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let own = env::vars_os().map(|(key, value)| (key.into_vec(), value.into_vec()));
    let about = [
        ("SUPERVISOR_ENABLED", Some("1")),
        ("SUPERVISOR_PROCESS_NAME", Some(process.name.as_str())),
        ("SUPERVISOR_GROUP_NAME", Some(process.group.as_str())),
        ("SUPERVISOR_SERVER_URL", process.serverurl.as_deref()),
    ];
    let about = about.into_iter().filter_map(|(key, value)| Some((key, value?)));
    let said = process.environment.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    own.chain(about.chain(said).map(|(key, value)| (key.into(), value.into()))).collect()
}

/// Where a stream goes. rsup's own streams are inherited under each of their names: opening them would fail on
/// sockets and terminals, and for another user.
fn output(file: &LogFile, own: i32) -> Output {
    match file {
        LogFile::Auto | LogFile::Syslog => Output::inherit(own),
        LogFile::None => Output::Discard,
        LogFile::Path(path) => match (path.as_str(), descriptor(path)) {
            ("" | "/dev/null", _) => Output::Discard,
            (_, Some("1")) => Output::inherit(1),
            (_, Some("2")) => Output::inherit(2),
            (_, Some(_)) => Output::NotOpen,
            (path, None) => {
                CString::new(expand_home(path)).map_or_else(|_| Output::inherit(own), Output::File)
            }
        },
    }
}

/// The number of the descriptor that a path stands for.
fn descriptor(path: &str) -> Option<&str> {
    match path {
        "/dev/stdout" => Some("1"),
        "/dev/stderr" => Some("2"),
        _ => {
            ["/dev/fd/", "/proc/self/fd/", "/proc/1/fd/"].iter().find_map(|folder| path.strip_prefix(folder))
        }
    }
}

/// `~/x` is below rsup's own HOME.
fn expand_home(path: &str) -> String {
    match (path.strip_prefix("~/"), env::var("HOME")) {
        (Some(below), Ok(home)) => format!("{}/{below}", home.trim_end_matches('/')),
        (Some(_), Err(_)) | (None, _) => path.to_owned(),
    }
}
