//! Turns argv into a [`Cli`]. `args` splits argv as Python's getopt does, because Dockerfiles contain command lines
//! that were written for supervisord (`-nc FILE`, `-cFILE`, `--conf=FILE`). argh then reads the values of the options
//! that `options` declares. This module prints nothing and never exits.

pub(crate) mod args;
mod options;

use std::cell::LazyCell;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use argh::FromArgs;

use self::args::{OptionScope, ParsedArgs, ParsedOption};
use self::options::{CTL, HELP, Options, VERSION};
use crate::config::{Overrides, repr};

/// What `supervisord -v` prints. rsup prints the same if it was started under the name `supervisord`, because scripts
/// may compare the version.
pub(crate) const SUPERVISORD_VERSION: &str = "4.3.0";

/// The name of the command in the usage line of the help.
const NAME_IN_USAGE: [&str; 1] = ["rsup"];

/// A valid command line that does not ask for the help or the version. The options of a command line of supervisorctl
/// are not read or checked here.
#[derive(Debug, PartialEq, Eq)]
pub struct Cli {
    /// [`Mode::Supervise`], unless a command, an option or the program's name asks for something else.
    pub mode: Mode,
    /// The value of `-c`. If `-c` was not given, rsup looks for the file in supervisord's search path.
    pub file: Option<PathBuf>,
    /// The options that take precedence over the file.
    pub overrides: Overrides,
    /// Whether rsup was started under the name `supervisord`. Always false with [`Mode::Control`].
    pub as_supervisord: bool,
}

/// The task that the command line gives to rsup.
#[derive(Debug, PartialEq, Eq)]
pub enum Mode {
    /// Supervise the programs of the file.
    Supervise,
    /// Print every error and warning about the file, and start nothing (`--check`).
    Check,
    /// Print the resulting configuration as JSON, and start nothing (`--print-config`).
    PrintConfig,
    /// Print a sample configuration file (`--echo-config`).
    PrintSampleConfig,
    /// Run one command, given as its words.
    Command(Vec<OsString>),
    /// Do what supervisorctl does with this command line, which comes without the program's name (`--ctl`, or the name
    /// `supervisorctl`).
    Control(Vec<OsString>),
}

/// The result of a command line that asks for the help or the version, or that has an error.
#[derive(Debug, PartialEq, Eq)]
pub enum EarlyExit {
    /// The text for stdout, with a newline at its end.
    HelpOrVersion(String),
    /// The message about the error, without a newline at its end.
    UsageError(String),
}

impl From<String> for EarlyExit {
    fn from(reason: String) -> Self {
        EarlyExit::UsageError(reason)
    }
}

/// Parses argv, which includes the program's name.
///
/// # Errors
/// Returns the first error that the parser finds. If the parser finds a request for the help or the version before any
/// error, returns the help or the version.
pub fn parse(argv: &[OsString]) -> Result<Cli, EarlyExit> {
    let name = argv.first().and_then(|name| Path::new(name).file_name());
    let as_supervisord = name == Some(OsStr::new("supervisord"));
    let arguments = argv.get(1..).unwrap_or(&[]);
    if name == Some(OsStr::new("supervisorctl")) {
        return Ok(control(arguments));
    }
    if let Some((_, arguments)) = arguments.split_first().filter(|(first, _)| *first == "--ctl") {
        return Ok(control(arguments));
    }
    let line = args::parse(arguments, &LazyCell::new(options::specs))?;
    if as_supervisord && !line.words.is_empty() {
        let words: Vec<_> = line.words.iter().map(|word| repr(&word.to_string_lossy())).collect();
        return Err(format!("positional arguments are not supported: [{}]", words.join(", ")).into());
    }
    let options = read_options(&line.options, as_supervisord)?;
    check_command(&line, as_supervisord)?;
    Ok(Cli {
        mode: mode(&options, line.words),
        file: options.configuration.map(PathBuf::from),
        overrides: Overrides {
            loglevel: options.loglevel,
            silent: options.silent,
            user: options.user,
            umask: options.umask,
            directory: options.directory,
            minfds: options.minfds,
            minprocs: options.minprocs,
            pidfile: options.pidfile,
            identifier: options.identifier,
            shutdown_on: options.shutdown_on,
            stop_timeout: options.stop_timeout,
            output: options.output,
            startup: options.startup,
        },
        as_supervisord,
    })
}

/// The result for a command line of supervisorctl.
fn control(arguments: &[OsString]) -> Cli {
    let overrides = Overrides::default();
    Cli { mode: Mode::Control(arguments.to_vec()), file: None, overrides, as_supervisord: false }
}

/// Reads the options in the order in which they were given, and stops at the first wrong value or at the first request
/// for help or version. If an option is given twice, the last value counts.
fn read_options(given: &[ParsedOption], as_supervisord: bool) -> Result<Options, EarlyExit> {
    let mut last_given: Vec<(&str, Vec<String>)> = Vec::new();
    for option in given {
        let long = option.spec.long;
        match long {
            HELP => return Err(EarlyExit::HelpOrVersion(help())),
            VERSION => return Err(EarlyExit::HelpOrVersion(version(as_supervisord))),
            CTL => {
                let why = "option --ctl must be the first argument, written in full".to_owned();
                return Err(EarlyExit::UsageError(why));
            }
            _ => {}
        }
        let argument = argh_argument(option)?;
        read(&argument).map_err(|error| invalid_value(option, strip_argh_prefix(&argument, &error)))?;
        last_given.retain(|(other, _)| *other != long);
        last_given.push((long, argument));
    }
    let arguments: Vec<_> = last_given.into_iter().flat_map(|(_, argument)| argument).collect();
    read(&arguments).map_err(EarlyExit::UsageError)
}

/// The option as argh reads it: `--long`, or `--long` and its value.
fn argh_argument(option: &ParsedOption) -> Result<Vec<String>, String> {
    let mut argument = vec![format!("--{}", option.spec.long)];
    if let Some(value) = &option.value {
        if value.to_str().is_none() && option.spec.scope != OptionScope::Ignored {
            return Err(invalid_value(option, "not UTF-8"));
        }
        argument.push(value.to_string_lossy().into_owned());
    }
    Ok(argument)
}

/// The options that these arguments set.
///
/// # Errors
/// Returns the message that argh makes for the first argument that it refuses.
fn read(arguments: &[String]) -> Result<Options, String> {
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    Options::from_args(&NAME_IN_USAGE, &arguments).map_err(|exit| exit.output)
}

/// Returns argh's error message without its prefix, which names the option and its value.
fn strip_argh_prefix<'a>(argument: &[String], error: &'a str) -> &'a str {
    let [name, value] = argument else { return error };
    let prefix = format!("Error parsing option '{name}' with value '{value}': ");
    error.strip_prefix(&prefix).unwrap_or(error).trim_end()
}

/// supervisord's message about a wrong value.
fn invalid_value(option: &ParsedOption, reason: &str) -> String {
    let value = option.value.as_deref().unwrap_or_default().to_string_lossy();
    format!("invalid value for {} {}: {reason}", option.name_for_messages, repr(&value))
}

/// Refuses a `--` without a command, except under the name `supervisord`. Also refuses a command together with an
/// option that may be given only without a command.
fn check_command(line: &ParsedArgs, as_supervisord: bool) -> Result<(), String> {
    if line.words.is_empty() {
        let lacks_command = line.has_separator && !as_supervisord;
        return if lacks_command { Err("no command after --".to_owned()) } else { Ok(()) };
    }
    match line.options.iter().find(|option| option.spec.scope == OptionScope::OnlyWithoutCommand) {
        Some(option) => Err(format!("option {} cannot be used with a command", option.name_for_messages)),
        None => Ok(()),
    }
}

fn mode(options: &Options, words: Vec<OsString>) -> Mode {
    if !words.is_empty() {
        Mode::Command(words)
    } else if options.echo_config {
        Mode::PrintSampleConfig
    } else if options.print_config {
        Mode::PrintConfig
    } else if options.check {
        Mode::Check
    } else {
        Mode::Supervise
    }
}

fn help() -> String {
    // argh returns the help as an error.
    Options::from_args(&NAME_IN_USAGE, &["--help"]).err().map_or_else(String::new, |exit| exit.output)
}

fn version(as_supervisord: bool) -> String {
    if as_supervisord {
        format!("{SUPERVISORD_VERSION}\n")
    } else {
        format!("rsup {}\n", env!("CARGO_PKG_VERSION"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;
    use crate::config::{OutputMode, Startup};
    use crate::policy::{Level, ShutdownOn};

    fn run(line: &str) -> Result<Cli, EarlyExit> {
        let argv: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        parse(&argv)
    }

    fn error(line: &str) -> String {
        match run(line) {
            Err(EarlyExit::UsageError(reason)) => reason,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn every_spelling_that_getopt_accepts_works() {
        for line in [
            "-c f",
            "-cf",
            "-nc f",
            "-ncf",
            "--configuration f",
            "--configuration=f",
            "--conf f",
            "--conf=f",
            "-n -c f",
            "-c x -c f",
            "-c x --configuration=f",
            "-nskt -l /x -c f",
            "--logfile_maxbytes=1MB -c f",
            "--logfile-maxbytes 5 -c f",
            "--strip_ansi --nod -c f",
            "-c f --",
        ] {
            let cli = run(&format!("/usr/bin/supervisord {line}")).unwrap();
            assert_eq!(cli.file.as_deref(), Some(Path::new("f")), "{line}");
            assert_eq!(cli.mode, Mode::Supervise, "{line}");
            assert!(cli.as_supervisord);
        }
    }

    #[test]
    fn the_last_appearance_of_each_option_becomes_its_override() {
        let cli = run(
            "rsup -e Debug -s -u 1000:1000 -m 027 -d /x -a 5 --minprocs=6 -j /pid -i me --shutdown-on fatal \
             --stop-t 9 --output json --startup Ordered",
        )
        .unwrap();
        let want = Overrides {
            loglevel: Some(Level::Debug),
            silent: true,
            user: Some("1000:1000".into()),
            umask: Some(0o27),
            directory: Some("/x".into()),
            minfds: Some(5),
            minprocs: Some(6),
            pidfile: Some("/pid".into()),
            identifier: Some("me".into()),
            shutdown_on: Some(ShutdownOn::Fatal),
            stop_timeout: Some(9),
            output: Some(OutputMode::Json),
            startup: Some(Startup::Ordered),
        };
        assert_eq!(cli.overrides, want);
        assert_eq!(run("rsup -e warn -e info").unwrap().overrides.loglevel, Some(Level::Info));
        assert_eq!(run("rsup -c -n").unwrap().file, Some("-n".into()));
        assert_eq!(run("rsup --user=").unwrap().overrides.user, Some(String::new()));
    }

    #[test]
    fn a_command_or_an_option_selects_the_mode() {
        let command = |words: &[&str]| Mode::Command(words.iter().map(OsString::from).collect());
        for (line, want) in [
            ("rsup", Mode::Supervise),
            ("rsup --check", Mode::Check),
            ("rsup --print-config -c f", Mode::PrintConfig),
            ("rsup --echo", Mode::PrintSampleConfig),
            ("rsup ls -l", command(&["ls", "-l"])),
            ("rsup -s -- -x --check", command(&["-x", "--check"])),
            ("rsup help", command(&["help"])),
            ("rsup - x", command(&["-", "x"])),
            ("rsup -n --stop-timeout 5 a", command(&["a"])),
        ] {
            assert_eq!(run(line).unwrap().mode, want, "{line}");
        }
    }

    #[test]
    fn a_command_line_of_supervisorctl_is_not_split() {
        let words = |words: &[&str]| Mode::Control(words.iter().map(OsString::from).collect());
        for (line, want) in [
            ("supervisorctl", words(&[])),
            ("/usr/bin/supervisorctl -c f status web", words(&["-c", "f", "status", "web"])),
            ("supervisorctl --ctl", words(&["--ctl"])),
            ("rsup --ctl", words(&[])),
            ("/sbin/rsup --ctl -x status", words(&["-x", "status"])),
        ] {
            assert_eq!(run(line).unwrap().mode, want, "{line}");
        }
        assert_eq!(run("rsup ls --ctl").unwrap().mode, Mode::Command(vec!["ls".into(), "--ctl".into()]));
    }

    #[test]
    fn usage_errors_have_the_texts_of_supervisord_and_getopt() {
        for (line, want) in [
            ("rsup -x", "option -x not recognized"),
            ("rsup --bogus", "option --bogus not recognized"),
            ("rsup -e", "option -e requires argument"),
            ("rsup --logl", "option --loglevel requires argument"),
            ("rsup --log x", "option --log not a unique prefix"),
            ("rsup --nodaemon=1", "option --nodaemon must not have an argument"),
            ("supervisord extra args", "positional arguments are not supported: ['extra', 'args']"),
            ("rsup -e foo", "invalid value for -e 'foo': bad logging level name 'foo'"),
            ("rsup -m 9", "invalid value for -m '9': 9 can not be converted to an octal type"),
            (
                "rsup --minprocs x",
                "invalid value for --minprocs 'x': invalid literal for int() with base 10: 'x'",
            ),
            (
                "rsup --logfile_backups x",
                "invalid value for --logfile_backups 'x': invalid literal for int() with base 10: 'x'",
            ),
            (
                "rsup --startup x",
                "invalid value for --startup 'x': invalid 'startup' value 'x': parallel or ordered",
            ),
            ("rsup -c f ls", "option -c cannot be used with a command"),
            ("rsup --startup ordered ls", "option --startup cannot be used with a command"),
            ("rsup --", "no command after --"),
            ("rsup -c f --ctl status", "option --ctl must be the first argument, written in full"),
            ("rsup --ct status", "option --ctl must be the first argument, written in full"),
        ] {
            assert_eq!(error(line), want, "{line}");
        }
    }

    #[test]
    fn help_and_version_are_texts_to_print() {
        let text = |line: &str| match run(line) {
            Err(EarlyExit::HelpOrVersion(text)) => text,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(text("rsup -v"), format!("rsup {}\n", env!("CARGO_PKG_VERSION")));
        assert_eq!(text("/bin/supervisord --version"), "4.3.0\n");
        for line in ["rsup -h", "rsup -?", "rsup --help", "rsup -sh x"] {
            let help = text(line);
            for option in ["-c, --configuration", "  -h, --help  "] {
                assert!(help.contains(option), "{help}");
            }
            assert!(!help.contains(", help"), "{help}");
        }
    }

    #[test]
    fn a_command_need_not_be_utf_8_but_an_option_must() {
        let word = OsString::from_vec(vec![b'a', 0xFF]);
        let cli = parse(&["rsup".into(), word.clone()]).unwrap();
        assert_eq!(cli.mode, Mode::Command(vec![word.clone()]));
        assert!(parse(&["rsup".into(), "-c".into(), word]).is_err());
    }

    /// [`strip_argh_prefix`] relies on argh's format.
    #[test]
    fn argh_puts_the_option_and_its_value_before_the_reason() {
        let argument = ["--loglevel".to_owned(), "it's".to_owned()];
        let argh_error = read(&argument).err().unwrap();
        let reason = "bad logging level name \"it's\"";
        assert_eq!(argh_error, format!("Error parsing option '--loglevel' with value 'it's': {reason}\n"));
        assert_eq!(strip_argh_prefix(&argument, &argh_error), reason);
    }
}
