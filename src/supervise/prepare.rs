//! Turns the processes of the configuration into what sys needs to start them.

use super::messages;
use super::relay::{self, Relay, RelayBuilder};
use crate::config::{
    Config, LogFile, ProcessConfig, Socket, SocketAddress, descriptor_of_path, expand_home, repr,
};
use crate::error::Error;
use crate::log::Log;
use crate::policy::Level;
use crate::relay::Channel;
use crate::sys::{self, Credentials, Output, SpawnDefaults, SpawnSpec, Stdin};
use std::ffi::{CString, NulError};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::rc::Rc;
use std::{env, io};

/// The number of descriptors that rsup needs for itself. It does not depend on the number of processes.
const OWN_DESCRIPTORS: u64 = 16;
/// The descriptors that rsup needs for each process: the writing end of the process's stdin, and, from the
/// fork to the exec, the exec status pipe.
const DESCRIPTORS_PER_PROCESS: u64 = 2;

/// Returns the number of descriptors that rsup needs to run these processes, those for the relay included.
pub(super) fn needed_descriptors(config: &Config) -> u64 {
    OWN_DESCRIPTORS
        + DESCRIPTORS_PER_PROCESS * config.processes.len() as u64
        + relay::needed_descriptors(config)
}

/// Returns what all programs have in common: an environment, and the soft limit on descriptors that rsup had before
/// this call. The environment is rsup's own, with SUPERVISOR_ENABLED and the variables of `[supervisord] environment`
/// added or replaced. Raises rsup's own soft limit to the number of descriptors that the processes need.
///
/// # Errors
/// Returns [`Error::NulInEnvironment`] if a variable contains a NUL byte, which execve(2) cannot pass on.
pub(super) fn defaults(config: &Config) -> Result<SpawnDefaults, Error> {
    let mut variables = Vec::new();
    let mut add = |name: Vec<u8>, value: Vec<u8>| variables.push((name, variables.len(), value));
    for (name, value) in env::vars_os() {
        add(name.into_vec(), value.into_vec());
    }
    add("SUPERVISOR_ENABLED".into(), "1".into());
    for (name, value) in &config.supervisord.environment {
        add(name.as_str().into(), value.as_str().into());
    }
    // The variables of one name are sorted by their positions, because the last of them is the one that counts.
    variables.sort_unstable();
    let mut environment = Vec::with_capacity(variables.len());
    for (name, _, value) in variables.chunk_by(|one, other| one.0 == other.0).filter_map(<[_]>::last) {
        let variable = CString::new([&name[..], b"=", value].concat());
        environment.push(variable.map_err(|_| Error::NulInEnvironment)?);
    }
    let log_files =
        config.processes.iter().flat_map(|process| [&process.stdout_logfile, &process.stderr_logfile]);
    // Each log file may be a FIFO, which rsup keeps open.
    let possible_fifo_count = log_files.filter(|file| matches!(file, LogFile::Path(_))).count() as u64;
    let former_nofile_limit = sys::raise_nofile_for(needed_descriptors(config) + possible_fifo_count);
    Ok(SpawnDefaults::new(environment, former_nofile_limit))
}

/// Makes a [`SpawnSpec`] for each process. Looks up each user only once.
pub(super) struct Preparer {
    sockets: Sockets,
    /// The names of the variables that `[supervisord] environment` sets.
    supervisord_variable_names: Vec<String>,
    /// rsup's own stdout and stderr.
    own_stdout: Output,
    own_stderr: Output,
    relay: RelayBuilder,
    /// Each user that was looked up, with its credentials. `None` if the user or its group is unknown.
    looked_up_users: Vec<(String, Option<Rc<Credentials>>)>,
}

impl Preparer {
    pub(super) fn new(config: &Config, sockets: Sockets, log: &mut Log) -> Self {
        let supervisord_variable_names =
            config.supervisord.environment.iter().map(|(name, _)| name.clone()).collect();
        let own_stdout = Output::inherit(1);
        let own_stderr = Output::inherit(2);
        let is_wanted = relay::needed_descriptors(config) > 0;
        let needed = needed_descriptors(config);
        let limit = sys::soft_nofile_limit();
        if is_wanted && needed > limit {
            log.line(Level::Warn, messages::too_few_descriptors_for_relay(needed, limit));
        }
        let relay = RelayBuilder::new(config, is_wanted && needed <= limit);
        Self {
            sockets,
            supervisord_variable_names,
            own_stdout,
            own_stderr,
            relay,
            looked_up_users: Vec::new(),
        }
    }

    /// Prepares one process.
    ///
    /// # Errors
    /// Returns the text after `spawnerr:`.
    pub(super) fn prepare(&mut self, process: (usize, &ProcessConfig)) -> Result<SpawnSpec, String> {
        let (_, config) = process;
        let spec = self.spec(config)?;
        let stdout = match spec.stdin {
            Stdin::Listener => self.relay.listener_output(process, &spec.stdout)?,
            Stdin::IdlePipe | Stdin::Socket(_) => self.relay.output(process, Channel::Stdout, spec.stdout),
        };
        let stderr = self.relay.output(process, Channel::Stderr, spec.stderr);
        Ok(SpawnSpec { stdout, stderr, ..spec })
    }

    /// Returns the relay for the processes that were prepared. Returns `None` if they need no relay, or if the relay
    /// could not be prepared.
    pub(super) fn into_relay(self, config: &Config, log: &mut Log) -> Option<Relay> {
        if let Some(errno) = self.relay.failure {
            log.line(Level::Warn, messages::incomplete_relay(errno));
        }
        let threshold = config.supervisord.loglevel;
        self.relay.build(config, (!config.supervisord.silent).then_some(threshold))
    }

    /// Returns the specification of a process, with the outputs that the process has without the relay.
    fn spec(&mut self, process: &ProcessConfig) -> Result<SpawnSpec, String> {
        let argv = process
            .argv
            .as_ref()
            .map_err(|why| format!("can't parse command {}: {why}", repr(&process.command)))?;
        let argv0 = argv.first().ok_or("command is empty")?;
        let credentials = process.user.as_deref().map(|user| self.look_up(user)).transpose()?;
        let nul_error_text = |_: NulError| format!("couldn't exec {argv0}: EINVAL");
        let argv: Result<Vec<CString>, NulError> =
            argv.iter().map(|word| CString::new(word.as_bytes())).collect();
        let environment: Result<Vec<CString>, NulError> =
            self.variables(process).map(|(name, value)| CString::new(format!("{name}={value}"))).collect();
        let directory = process.directory.as_deref().map(CString::new).transpose();
        let socket = socket_of(&self.sockets, &process.group);
        Ok(SpawnSpec {
            argv: argv.map_err(nul_error_text)?,
            environment: environment.map_err(nul_error_text)?,
            directory: directory.map_err(nul_error_text)?,
            umask: process.umask,
            credentials,
            stdin: match socket {
                _ if process.listener.is_some() => Stdin::Listener,
                Some(socket) => Stdin::Socket(Rc::clone(socket)),
                None => Stdin::IdlePipe,
            },
            stdout: self.output(&process.stdout_logfile, &self.own_stdout),
            stderr: if process.redirect_stderr {
                Output::SameAsStdout
            } else {
                self.output(&process.stderr_logfile, &self.own_stderr)
            },
        })
    }

    fn look_up(&mut self, user: &str) -> Result<Rc<Credentials>, String> {
        let known = self.looked_up_users.iter().find(|(known, _)| known == user);
        let credentials = match known {
            Some((_, credentials)) => credentials.clone(),
            None => {
                let credentials = sys::resolve_user(user).ok().map(Rc::new);
                self.looked_up_users.push((user.to_owned(), credentials.clone()));
                credentials
            }
        };
        credentials.ok_or_else(|| format!("couldn't setuid to {user}: Can't find user"))
    }

    /// The process's own environment variables. First come the variables that describe the process, such as
    /// SUPERVISOR_PROCESS_NAME, and then the variables that its section sets. A variable of the first kind is left out
    /// if the configuration file sets a variable of the same name for the process or in `[supervisord]`. supervisord
    /// does the same. supervisord's manual says that a variable of the first kind replaces a variable of
    /// `[supervisord]`.
    ///
    /// An event listener gets SUPERVISOR_SERVER_URL with the URL of the server that supervisord would open, although
    /// rsup opens none. Listeners such as those of superlance do not run without SUPERVISOR_SERVER_URL, and many of
    /// them never use its value.
    fn variables<'a>(&'a self, process: &'a ProcessConfig) -> impl Iterator<Item = (&'a str, &'a str)> {
        let server_of_listener = || process.listener.as_ref()?.http_server_url.as_deref();
        let supervisor_variables = [
            ("SUPERVISOR_PROCESS_NAME", Some(process.name.as_str())),
            ("SUPERVISOR_GROUP_NAME", Some(process.group.as_str())),
            ("SUPERVISOR_SERVER_URL", process.serverurl.as_deref().or_else(server_of_listener)),
        ];
        let is_configured = |name: &str| {
            self.supervisord_variable_names.iter().any(|configured| configured == name)
                || process.environment.iter().any(|(configured, _)| configured == name)
        };
        let defined_supervisor_variables =
            supervisor_variables.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let configured = process.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        defined_supervisor_variables.filter(move |(name, _)| !is_configured(name)).chain(configured)
    }

    /// Returns where a stream of a program goes. A log file such as `/dev/stdout` means rsup's own stdout or stderr.
    /// The program then inherits that stream, because opening the path fails if the stream is a socket or belongs to
    /// another user.
    fn output(&self, file: &LogFile, own: &Output) -> Output {
        match file {
            LogFile::Auto | LogFile::Syslog => own.clone(),
            LogFile::None => Output::Discard,
            LogFile::Path(path) => match (path.as_str(), descriptor_of_path(path)) {
                ("" | "/dev/null", _) => Output::Discard,
                (_, Some("1")) => self.own_stdout.clone(),
                (_, Some("2")) => self.own_stderr.clone(),
                (path, Some(_)) => CString::new(path).map_or_else(|_| own.clone(), Output::RefusedFd),
                (path, None) => CString::new(expand_home(path, env::var("HOME").ok().as_deref()))
                    .map_or_else(|_| own.clone(), |path| Output::File(sys::LogFile::direct(path))),
            },
        }
    }
}

/// The sockets of the `[fcgi-program:x]` sections by group. Each socket is created once and stays open while
/// the processes restart.
pub(super) type Sockets = Vec<(String, Rc<OwnedFd>)>;

fn socket_of<'a>(sockets: &'a Sockets, group: &str) -> Option<&'a Rc<OwnedFd>> {
    sockets.iter().find(|(known, _)| known == group).map(|(_, socket)| socket)
}

/// Creates the sockets of all `[fcgi-program:x]` sections.
///
/// # Errors
/// Returns [`Error::FastCgiSocket`] for the first socket that cannot be created.
pub(super) fn sockets(config: &Config, log: &mut Log) -> Result<Sockets, Error> {
    let mut sockets = Sockets::new();
    for process in &config.processes {
        if let (Some(socket), false) = (&process.socket, socket_of(&sockets, &process.group).is_some()) {
            let url = &socket.address;
            log.line(Level::Info, format_args!("Creating socket {url}"));
            let listener = listen(socket, process.user.as_deref())
                .map_err(|error| Error::FastCgiSocket { url: url.to_string(), error })?;
            sockets.push((process.group.clone(), Rc::new(listener)));
        }
    }
    Ok(sockets)
}

/// Creates the listening socket of an `[fcgi-program:x]` section. `user` is the program's user.
///
/// # Errors
/// Returns the error of the system call that failed.
pub(super) fn listen(socket: &Socket, user: Option<&str>) -> io::Result<OwnedFd> {
    match &socket.address {
        SocketAddress::Tcp(host, port) => sys::listen_tcp(host, *port, socket.backlog),
        SocketAddress::Unix(path) => {
            let owner = owner(socket, user);
            sys::listen_unix(Path::new(path), socket.mode, owner.as_ref(), socket.backlog)
        }
    }
}

/// The owner of a unix socket: `socket_owner` if that is set, otherwise the program's user.
pub(super) fn owner(socket: &Socket, user: Option<&str>) -> Option<Credentials> {
    socket.owner.as_deref().or(user).and_then(|user| sys::resolve_user(user).ok())
}
