//! From a process of the file to what the kernel needs to start it.

use crate::config::{Address, Config, LogFile, ProcessConfig, Socket, repr};
use crate::error::Error;
use crate::log::Log;
use crate::policy::Level;
use crate::sys::{self, Credentials, Output, SpawnDefaults, SpawnSpec, Stdin};
use std::collections::BTreeMap;
use std::ffi::{CString, NulError};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::rc::Rc;
use std::{env, io};

/// Descriptors that rsup needs whatever it runs, and for each process: the writing end of its stdin, and for a moment
/// the pipe that tells of its exec.
const DESCRIPTORS: u64 = 16;
const DESCRIPTORS_EACH: u64 = 2;

/// What all programs start from: rsup's own environment under that of `[supervisord]`, and the limit on descriptors that
/// rsup was started with, which it raises for itself.
///
/// # Errors
/// Text for stderr about an environment that the kernel cannot be handed.
pub(super) fn defaults(config: &Config) -> Result<SpawnDefaults, Error> {
    let own = env::vars_os().map(|(key, value)| (key.into_vec(), value.into_vec()));
    let said = config.supervisord.environment.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let said = std::iter::once(("SUPERVISOR_ENABLED", "1")).chain(said);
    let mut variables = BTreeMap::new();
    for (key, value) in own.chain(said.map(|(key, value)| (key.into(), value.into()))) {
        variables.insert(key, value);
    }
    let environment =
        variables.iter().map(|(key, value)| CString::new([key.as_slice(), b"=", value.as_slice()].concat()));
    let environment = environment.collect::<Result<Vec<_>, _>>().map_err(|_| Error::NulInEnvironment)?;
    let descriptors = sys::raise_nofile_for(DESCRIPTORS + DESCRIPTORS_EACH * config.processes.len() as u64);
    Ok(SpawnDefaults::new(environment, descriptors))
}

/// Makes of processes what the kernel needs to start them. What many of them share is looked up once.
pub(super) struct Preparer {
    sockets: Sockets,
    /// The names that `[supervisord] environment` sets, which beat what rsup says of itself.
    said: Vec<String>,
    /// rsup's own streams.
    stdout: Output,
    stderr: Output,
    users: Vec<(String, Option<Rc<Credentials>>)>,
}

impl Preparer {
    pub(super) fn new(config: &Config, sockets: Sockets) -> Self {
        let said = config.supervisord.environment.iter().map(|(key, _)| key.clone()).collect();
        let (stdout, stderr) = (Output::inherit(1), Output::inherit(2));
        Self { sockets, said, stdout, stderr, users: Vec::new() }
    }

    /// Prepares one.
    ///
    /// # Errors
    /// supervisord's text behind `spawnerr:`.
    pub(super) fn prepare(&mut self, process: &ProcessConfig) -> Result<SpawnSpec, String> {
        let argv = process
            .argv
            .as_ref()
            .map_err(|why| format!("can't parse command {}: {why}", repr(&process.command)))?;
        let word = argv.iter().next().ok_or("command is empty")?;
        let ids = process.user.as_deref().map(|user| self.look_up(user)).transpose()?;
        let interior_nul = |_: NulError| format!("couldn't exec {word}: EINVAL");
        let directory = process.directory.as_deref().map(CString::new).transpose();
        let stdin = self.sockets.get(&process.group);
        let argv: Result<Vec<_>, _> = argv.iter().map(|word| CString::new(word.as_bytes())).collect();
        let environment: Result<Vec<_>, _> = self.variables(process).map(CString::new).collect();
        Ok(SpawnSpec {
            argv: argv.map_err(interior_nul)?,
            environment: environment.map_err(interior_nul)?,
            directory: directory.map_err(interior_nul)?,
            umask: process.umask,
            credentials: ids,
            stdin: stdin.map_or(Stdin::IdlePipe, |socket| Stdin::Socket(Rc::clone(socket))),
            stdout: self.output(&process.stdout_logfile, &self.stdout),
            stderr: if process.redirect_stderr {
                Output::SameAsStdout
            } else {
                self.output(&process.stderr_logfile, &self.stderr)
            },
        })
    }

    fn look_up(&mut self, user: &str) -> Result<Rc<Credentials>, String> {
        let known = self.users.iter().find(|(known, _)| known == user).map(|(_, ids)| ids.clone());
        let ids = known.unwrap_or_else(|| {
            let ids = sys::resolve_user(user).ok().map(Rc::new);
            self.users.push((user.to_owned(), ids.clone()));
            ids
        });
        ids.ok_or_else(|| format!("couldn't setuid to {user}: Can't find user"))
    }

    /// The process's own variables: what rsup says of it, and over that what the file says, so that the file beats
    /// everything (as in supervisord, whatever its manual says).
    fn variables<'a>(&'a self, process: &'a ProcessConfig) -> impl Iterator<Item = String> {
        let about = [
            ("SUPERVISOR_PROCESS_NAME", Some(process.name.as_str())),
            ("SUPERVISOR_GROUP_NAME", Some(process.group.as_str())),
            ("SUPERVISOR_SERVER_URL", process.serverurl.as_deref()),
        ];
        let about = about.into_iter().filter_map(|(key, value)| Some((key, value?)));
        let is_said = move |key: &str| {
            self.said.iter().any(|said| said == key)
                || process.environment.iter().any(|(said, _)| said == key)
        };
        let said = process.environment.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        about.filter(move |(key, _)| !is_said(key)).chain(said).map(|(key, value)| format!("{key}={value}"))
    }

    /// Where a stream goes. rsup's own streams are inherited under each of their names: opening them would fail on
    /// sockets and terminals, and for another user.
    fn output(&self, file: &LogFile, own: &Output) -> Output {
        match file {
            LogFile::Auto | LogFile::Syslog => own.clone(),
            LogFile::None => Output::Discard,
            LogFile::Path(path) => match (path.as_str(), descriptor(path)) {
                ("" | "/dev/null", _) => Output::Discard,
                (_, Some("1")) => self.stdout.clone(),
                (_, Some("2")) => self.stderr.clone(),
                (_, Some(_)) => Output::ClosedFd,
                (path, None) => CString::new(expand_home(path)).map_or_else(|_| own.clone(), Output::File),
            },
        }
    }
}

/// The sockets of `[fcgi-program:x]` by group: each is made once, whatever becomes of the processes.
pub(super) type Sockets = BTreeMap<String, Rc<OwnedFd>>;

/// Makes the sockets.
///
/// # Errors
/// supervisord's text about the first that cannot be made.
pub(super) fn sockets(config: &Config, log: &mut Log) -> Result<Sockets, Error> {
    let mut sockets = Sockets::new();
    for process in &config.processes {
        if let (Some(socket), false) = (&process.socket, sockets.contains_key(&process.group)) {
            let url = socket_url(&socket.address);
            log.line(Level::Info, format_args!("Creating socket {url}"));
            let made = listen(socket, process.user.as_deref())
                .map_err(|error| Error::FastCgiSocket { url, error })?;
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
            let owner = socket.owner.as_deref().or(user).and_then(|user| sys::resolve_user(user).ok());
            sys::listen_unix(Path::new(path), socket.mode, owner.as_ref(), socket.backlog)
        }
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
