//! rsup: supervisord for containers as one small static binary.
//!
//! The house: `cli` reads argv, `config` reads the file, `policy` holds the laws, `sys` is the kernel, `log` writes
//! the lines, and `supervise` is the hallway where facts become events and actions become calls. Data flows one way:
//! argv and file → [`config::Config`] → `supervise` ⇄ {`policy`, `sys`} → exit code.
#![warn(clippy::disallowed_methods, clippy::disallowed_macros)]

pub mod cli;
pub mod config;
pub mod log;
pub mod policy;
pub mod supervise;
pub mod sys;

use cli::{Cli, Mode};
use config::{Config, Inputs, Loaded};
use std::env;
use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

/// Usage and configuration errors, and a kernel that refuses what nothing can go without.
const FAILURE: u8 = 2;

/// The whole program. Returns its exit code.
#[must_use]
pub fn run(arguments: &[OsString]) -> u8 {
    // One line that says where, and no backtrace: the code for that is not in the binary (see .cargo).
    std::panic::set_hook(Box::new(|panic| log::write_final(format!("rsup: {panic}\n"))));
    // Before anything else, so that no signal is lost and no descriptor of ours lands on 0 to 2.
    let taken_over = sys::block_all_signals();
    sys::open_standard_fds();
    taken_over.map_err(|errno| format!("Error: can't block signals: {errno}\n")).map_or_else(
        fail,
        |inherited| match cli::parse(arguments) {
            Ok(cli) => dispatch(&cli, arguments, inherited).unwrap_or_else(fail),
            Err(exit) if exit.code == 0 => print(&exit.text),
            Err(exit) => fail(exit.text),
        },
    )
}

/// Does what was asked for. An error is text for stderr.
fn dispatch(cli: &Cli, arguments: &[OsString], inherited: sys::SavedMask) -> Result<u8, String> {
    if matches!(cli.mode, Mode::EchoConfig | Mode::PrintConfig | Mode::Check) {
        // Nothing is started, so ^C may end it; should that fail, it cannot.
        let _ = inherited.restore();
    }
    match &cli.mode {
        Mode::EchoConfig => Ok(print(config::SAMPLE)),
        Mode::PrintConfig => {
            config_or_errors(load(cli, arguments, &|_| Ok(()))?).map(|(config, _)| print(&config.to_json()))
        }
        Mode::Check => {
            let loaded = load(cli, arguments, &check_user)?;
            let report = &loaded.report;
            let mut text = if wants_colour() { report.in_colour() } else { report.to_string() };
            let starts = loaded.config.as_ref().is_some_and(Config::starts);
            if loaded.config.is_some() && !starts {
                text.push_str("Error: no program to start\n");
            }
            sys::write_out(STDERR, text.as_bytes());
            Ok(if starts { 0 } else { FAILURE })
        }
        Mode::Supervise => {
            let (config, notices) = config_or_errors(load(cli, arguments, &check_user)?)?;
            let name = if cli.as_supervisord { "supervisord" } else { "rsup" };
            supervise::run(name, config, notices)
        }
        Mode::Command(words) => supervise::run_command(words, cli.overrides.stop_timeout, inherited),
    }
}

/// Whether stderr is a terminal whose user has nothing against colours.
fn wants_colour() -> bool {
    std::io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn load(
    cli: &Cli,
    arguments: &[OsString],
    check_user: &dyn Fn(&str) -> Result<(), String>,
) -> Result<Loaded, String> {
    let file = cli.file.clone().map_or_else(|| find(arguments), Ok)?;
    // What is no text is passed on to the programs, but cannot be part of the file's.
    let environment: Vec<(String, String)> = env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let inputs = Inputs { environment: &environment, host: &sys::host_name(), check_user };
    Ok(config::load(&file, &cli.overrides, &inputs))
}

fn find(arguments: &[OsString]) -> Result<PathBuf, String> {
    // The executable's own path, where the kernel tells: what argv[0] says may be a bare name.
    let program =
        env::current_exe().unwrap_or_else(|_| arguments.first().map(Into::into).unwrap_or_default());
    config::find(&program).map_err(|text| usage(&text, arguments))
}

/// The configuration, unless the file has errors: then all of them.
fn config_or_errors(loaded: Loaded) -> Result<(Config, Vec<config::Notice>), String> {
    let Loaded { config, report, notices } = loaded;
    config
        .map(|config| (config, notices))
        .ok_or_else(|| report.lines(false).map(|line| line + "\n").collect::<String>())
}

/// supervisord's texts for a user that is none.
fn check_user(user: &str) -> Result<(), String> {
    sys::resolve_user(user).map(drop).map_err(|error| match error {
        sys::UserError::UnknownUser => format!("Invalid user name {user}"),
        sys::UserError::UnknownGroup => format!("Invalid group name {user}"),
    })
}

/// supervisord's two lines about a command line that cannot be followed.
fn usage(text: &str, arguments: &[OsString]) -> String {
    let name = arguments.first().map_or_else(Default::default, |name| Path::new(name).display().to_string());
    format!("Error: {text}\nFor help, use {name} -h\n")
}

const STDOUT: i32 = 1;
const STDERR: i32 = 2;

fn print(text: &str) -> u8 {
    sys::write_out(STDOUT, text.as_bytes());
    0
}

fn fail(text: String) -> u8 {
    log::write_final(text);
    FAILURE
}
