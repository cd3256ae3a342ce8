//! rsup: supervisord for containers as one small static binary.
//!
//! `cli` reads the command line, `config` reads the configuration file, `policy` holds the pure state machines, `sys`
//! is the interface to the kernel, and `log` writes rsup's own log lines. `relay` is a second process of rsup, which
//! carries the output of the programs. `control` defines the status board and the requests, and contains the client
//! that does what supervisorctl does. `supervise` turns a [`config::Config`] into an exit code: its loop passes events
//! from `sys` to `policy`, and carries out the actions that `policy` returns. src/README.md is the design document.
#![warn(clippy::disallowed_methods, clippy::disallowed_macros)]

pub mod cli;
pub mod config;
pub mod control;
pub mod error;
mod json_string;
pub mod log;
pub mod policy;
pub mod relay;
pub mod supervise;
pub mod sys;

use cli::{Cli, EarlyExit, Mode};
use config::{ClientSettings, Config, Loaded, Machine, Overrides, TryStep};
use control::client::{ConfigLoaders, Launch};
use error::Error;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

/// The exit code of every [`Error`].
const FAILURE: u8 = 2;

/// Runs rsup with the arguments of `main`, the program's name first. Returns the exit code.
#[must_use]
pub fn run(arguments: &[OsString]) -> u8 {
    // This hook replaces the default one, which waits without a limit if the reader of stderr does not read, and which
    // prints a backtrace if RUST_BACKTRACE is set.
    std::panic::set_hook(Box::new(|panic| log::write_final(format!("rsup: {panic}\n"))));
    start(arguments).unwrap_or_else(|error| {
        log::write_final(error_text(&error));
        FAILURE
    })
}

fn start(arguments: &[OsString]) -> Result<u8, Error> {
    // Signals are blocked first, so that no signal is lost. The standard descriptors are opened second, so that no
    // other descriptor of rsup gets a number from 0 to 2.
    let blocked = sys::block_all_signals();
    let opened = sys::open_standard_fds();
    let inherited_mask = blocked.map_err(Error::BlockSignals)?;
    opened.map_err(Error::StandardDescriptors)?;
    match cli::parse(arguments) {
        Ok(cli) => run_mode(&cli, arguments, inherited_mask),
        Err(EarlyExit::HelpOrVersion(text)) => print(&text),
        Err(EarlyExit::UsageError(reason)) => Err(usage_error(reason, arguments)),
    }
}

/// Returns the text that rsup writes to stderr about an error.
fn error_text(error: &Error) -> String {
    match error {
        // The report already marks each error with `error:` or `Error:`.
        Error::Configuration(report) => report.clone(),
        error => format!("Error: {error}\n"),
    }
}

/// Carries out the task that the command line gives to rsup.
fn run_mode(cli: &Cli, arguments: &[OsString], inherited_mask: sys::SavedMask) -> Result<u8, Error> {
    if matches!(cli.mode, Mode::PrintSampleConfig | Mode::PrintConfig | Mode::Check | Mode::Control(_)) {
        // These modes start no program, so a signal may end them at once. A failure to restore the signal mask is
        // harmless.
        let _ = inherited_mask.restore();
    }
    match &cli.mode {
        Mode::PrintSampleConfig => print(config::SAMPLE),
        Mode::PrintConfig => {
            let loaded = load(cli, arguments, &|_| Ok(()), None)?;
            let (config, _) = config_or_errors(loaded)?;
            print(&config.to_json())
        }
        Mode::Check => Ok(check(&load(cli, arguments, &check_user, Some(&supervise::try_step))?)),
        Mode::Supervise => {
            let (config, notices) = config_or_errors(load(cli, arguments, &check_user, None)?)?;
            let name = if cli.as_supervisord { "supervisord" } else { "rsup" };
            supervise::run(name, config, notices, arguments)
        }
        Mode::Command(words) => supervise::run_command(words, cli.overrides.stop_timeout, inherited_mask),
        Mode::Control(words) => Ok(control(words, arguments)),
    }
}

/// Does what supervisorctl does with a command line. Returns the exit status.
fn control(words: &[OsString], arguments: &[OsString]) -> u8 {
    let settings = |named: Option<&Path>| {
        let file = named.map(PathBuf::from).or_else(|| find_config_file(arguments).ok());
        let environment = Environment::of(&mut env::vars_os());
        file.map_or_else(ClientSettings::default, |file| {
            config::client_settings(&file, &environment.machine("", &|_| Ok(()), None))
        })
    };
    let load = |named: Option<&Path>, launch: Launch| {
        let file = named.map(PathBuf::from).map_or_else(|| config_file_of(&launch), Ok)?;
        let environment = Environment::of(&mut launch.environment.into_iter());
        let host = sys::host_name();
        let machine = environment.machine(&host, &|_| Ok(()), None);
        let Loaded { config, report, .. } = config::load(&file, &Overrides::default(), &machine);
        config.ok_or_else(|| report.lines(false).next().unwrap_or_default())
    };
    let mut program = argv0(arguments).to_string_lossy().into_owned();
    if arguments.get(1).is_some_and(|first| first == "--ctl") {
        program.push_str(" --ctl");
    }
    control::client::run(&program, words, &ConfigLoaders { settings: &settings, load: &load })
}

/// Finds the configuration file of a running rsup.
fn config_file_of(launch: &Launch) -> Result<PathBuf, String> {
    let cli = cli::parse(&launch.arguments).map_err(|_| "can't read the command line of rsup".to_owned())?;
    cli.file.map_or_else(|| config::find_config_file(&launch.executable), Ok)
}

/// Prints every error and warning of a file. Returns the exit code of `--check`.
fn check(loaded: &Loaded) -> u8 {
    let report = &loaded.report;
    let mut text = if wants_colour() { report.in_colour() } else { report.to_string() };
    let has_processes = loaded.config.as_ref().is_some_and(Config::has_processes);
    if loaded.config.is_some() && !has_processes {
        text.push_str(&error_text(&Error::NothingToStart));
    }
    // An error of a write to stderr cannot be reported anywhere. The exit code says whether the file is correct.
    let _ = sys::write_out(sys::STDERR, text.as_bytes());
    if has_processes { 0 } else { FAILURE }
}

/// Whether stderr is a terminal on which colours are allowed.
fn wants_colour() -> bool {
    std::io::stderr().is_terminal() && sys::allows_colour()
}

fn load(
    cli: &Cli,
    arguments: &[OsString],
    check_user: &dyn Fn(&str) -> Result<(), String>,
    try_step: Option<&TryStep<'_>>,
) -> Result<Loaded, Error> {
    let file = cli.file.clone().map_or_else(|| find_config_file(arguments), Ok)?;
    let environment = Environment::of(&mut env::vars_os());
    let host = sys::host_name();
    let machine = environment.machine(&host, check_user, try_step);
    Ok(config::load(&file, &cli.overrides, &machine))
}

/// The environment variables that the configuration file can use.
#[derive(Default)]
struct Environment {
    variables: Vec<(String, String)>,
    /// The names of the variables whose values are not UTF-8.
    non_utf8_env_names: Vec<String>,
}

impl Environment {
    fn of(variables: &mut dyn Iterator<Item = (OsString, OsString)>) -> Self {
        let mut environment = Self::default();
        for (name, value) in variables {
            // The file is UTF-8, so it cannot use a variable whose name is not UTF-8. The programs still inherit such a
            // variable.
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => environment.variables.push((name, value)),
                Err(_) => environment.non_utf8_env_names.push(name),
            }
        }
        environment
    }

    fn machine<'a>(
        &'a self,
        host: &'a str,
        check_user: &'a dyn Fn(&str) -> Result<(), String>,
        try_step: Option<&'a TryStep<'a>>,
    ) -> Machine<'a> {
        Machine {
            environment: &self.variables,
            non_utf8_env_names: &self.non_utf8_env_names,
            host,
            list_directory: &sys::list_directory,
            check_user,
            try_step,
        }
    }
}

/// Finds the configuration file in supervisord's search path.
fn find_config_file(arguments: &[OsString]) -> Result<PathBuf, Error> {
    // The search path begins in the parent of the executable's directory. argv[0] may be a name without a path, so
    // /proc/self/exe is preferred.
    let executable = env::current_exe().unwrap_or_else(|_| argv0(arguments).into());
    config::find_config_file(&executable).map_err(|reason| usage_error(reason, arguments))
}

fn usage_error(reason: String, arguments: &[OsString]) -> Error {
    Error::Usage { reason, program: argv0(arguments).to_string_lossy().into_owned() }
}

fn argv0(arguments: &[OsString]) -> &OsStr {
    arguments.first().map_or(OsStr::new("rsup"), OsString::as_os_str)
}

/// Returns the configuration and the lines to log at start, or every error of the file.
fn config_or_errors(loaded: Loaded) -> Result<(Config, Vec<config::Notice>), Error> {
    let Loaded { config, report, notices } = loaded;
    match config {
        Some(config) => Ok((config, notices)),
        None => Err(Error::Configuration(report.lines(false).map(|line| line + "\n").collect())),
    }
}

/// Checks that a user exists, and the group of `USER:GROUP` too. The error is supervisord's message.
fn check_user(user: &str) -> Result<(), String> {
    sys::resolve_user(user).map(drop).map_err(|error| match error {
        sys::UserError::UnknownUser => format!("Invalid user name {user}"),
        sys::UserError::UnknownGroup => format!("Invalid group name {user}"),
    })
}

/// Prints text on stdout. Returns the exit code.
fn print(text: &str) -> Result<u8, Error> {
    match sys::write_out(sys::STDOUT, text.as_bytes()) {
        // EPIPE means that the reader has closed the other end, because it needs no more text.
        Ok(()) | Err(sys::Errno::EPIPE) => Ok(0),
        Err(errno) => Err(Error::Output(errno)),
    }
}
