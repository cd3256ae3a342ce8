//! argv to [`Cli`]: a pure normaliser for getopt's spellings (`-nc FILE`, `-cFILE`, `--conf=FILE`, options given twice),
//! then argh, which declares the options and writes the help. Nothing is printed here and nothing exits.

mod args;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use argh::FromArgs;

use self::args::{ParsedArgs, ParsedOption, Role};
use crate::config::{Overrides, value};
use crate::policy::{Level, ShutdownOn};

/// The version that `supervisord -v` prints for whom rsup stands in; scripts compare it.
const SUPERVISORD_VERSION: &str = "4.3.0";

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Cli {
    /// What to do.
    pub mode: Mode,
    /// `-c`; without it the search path counts.
    pub file: Option<PathBuf>,
    /// What beats the file.
    pub overrides: Overrides,
    /// Whether rsup was started under the name `supervisord`.
    pub as_supervisord: bool,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Mode {
    /// Supervise the programs of the file.
    Supervise,
    /// `--check`.
    Check,
    /// `--print-config`.
    PrintConfig,
    /// `--echo-config`.
    EchoConfig,
    /// Run one command: these words.
    Command(Vec<OsString>),
}

/// A text to leave with: for stdout when the code is 0, else for stderr.
#[derive(Debug, PartialEq, Eq)]
pub struct Exit {
    /// The text, with its last newline.
    pub text: String,
    /// The exit code.
    pub code: u8,
}

/// rsup runs the programs of a supervisord configuration file, or one command, and is a good PID 1 for them.
#[derive(FromArgs)]
#[argh(note = "Without -c the file is looked for where supervisord looks for it. Options end at\n\
           the command, or at --. supervisord's other options (-n -l -y -z -j -i -q -k -t\n\
           and their long names) are taken and have no effect.")]
#[argh(note = "rsup leaves with the code of the command, or of the program that ended it all;\n\
           128 and n where signal n ended that. Its own codes:")]
#[argh(error_code(0, "stopped by SIGTERM, SIGINT or SIGQUIT, or everything went well"))]
#[argh(error_code(2, "a mistake in the options or the file, or nothing to start"))]
#[argh(error_code(126, "COMMAND cannot be executed"))]
#[argh(error_code(127, "COMMAND is not found"))]
struct Options {
    /// the supervisord.conf to run
    #[argh(option, short = 'c', arg_name = "file")]
    configuration: Option<String>,

    /// report every error and warning of the file, start nothing
    #[argh(switch)]
    check: bool,

    /// print what the file comes to as JSON, start nothing
    #[argh(switch)]
    print_config: bool,

    /// print a sample file
    #[argh(switch)]
    echo_config: bool,

    /// which end of a program ends all, where its section does not say: never, fatal (given up) or exited
    #[argh(option, arg_name = "when", from_str_fn(value::shutdown_on))]
    shutdown_on: Option<ShutdownOn>,

    /// kill what is left so many seconds after the stop began
    #[argh(option, arg_name = "seconds", from_str_fn(value::seconds))]
    stop_timeout: Option<u64>,

    /// log lines from this level on: critical, error, warn, info, debug, trace or blather
    #[argh(option, short = 'e', arg_name = "level", from_str_fn(value::log_level))]
    loglevel: Option<Level>,

    /// write no log lines
    #[argh(switch, short = 's')]
    silent: bool,

    /// run as this user
    #[argh(option, short = 'u', arg_name = "user")]
    user: Option<String>,

    /// checked, without effect: rsup stays in the foreground
    #[argh(option, short = 'm', arg_name = "mask", from_str_fn(value::octal))]
    umask: Option<u32>,

    /// without effect: rsup stays in the foreground
    #[argh(option, short = 'd', arg_name = "directory")]
    directory: Option<String>,

    /// the least number of open files to allow
    #[argh(option, short = 'a', arg_name = "number", from_str_fn(value::integer))]
    minfds: Option<i64>,

    /// the least number of processes to allow
    #[argh(option, arg_name = "number", from_str_fn(value::integer))]
    minprocs: Option<i64>,

    /// print the version
    #[argh(switch, short = 'v')]
    #[expect(dead_code, reason = "taken by the normaliser, declared for the help")]
    version: bool,

    /// the command to run instead of a file's programs
    #[argh(positional, greedy)]
    #[expect(dead_code, reason = "kept as bytes by the normaliser, declared for the help")]
    command: Vec<String>,
}

/// Reads argv, its first word included.
///
/// # Errors
/// What to say and leave with: help and version (code 0), or why argv cannot be read (code 2).
pub fn parse(argv: &[OsString]) -> Result<Cli, Exit> {
    let name = argv.first().cloned().unwrap_or_else(|| "rsup".into());
    let as_supervisord = Path::new(&name).file_name() == Some(OsStr::new("supervisord"));
    let words = argv.get(1..).unwrap_or(&[]);
    read(words, as_supervisord).map_err(|refusal| match refusal {
        EarlyExit::Text(text) => Exit { text, code: 0 },
        EarlyExit::Error(why) => {
            let name = name.to_string_lossy();
            Exit { text: format!("Error: {why}\nFor help, use {name} -h\n"), code: 2 }
        }
    })
}

enum EarlyExit {
    /// Help or version.
    Text(String),
    Error(String),
}

impl From<String> for EarlyExit {
    fn from(why: String) -> Self {
        EarlyExit::Error(why)
    }
}

fn read(argv: &[OsString], as_supervisord: bool) -> Result<Cli, EarlyExit> {
    let line = args::split(argv)?;
    if as_supervisord && !line.words.is_empty() {
        let words: Vec<_> = line.words.iter().map(|word| value::literal(&word.to_string_lossy())).collect();
        return Err(format!("positional arguments are not supported: [{}]", words.join(", ")).into());
    }
    let options = options(&line, as_supervisord)?;
    if line.dashes && line.words.is_empty() && !as_supervisord {
        return Err("no command behind --".to_owned().into());
    }
    let has_command = !line.words.is_empty();
    if let Some(given) = line.options.iter().find(|given| has_command && given.flag.role == Role::File) {
        return Err(format!("option {} cannot be used with a command", given.spelling).into());
    }
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
            shutdown_on: options.shutdown_on,
            stop_timeout: options.stop_timeout,
        },
        as_supervisord,
    })
}

fn mode(options: &Options, words: Vec<OsString>) -> Mode {
    if !words.is_empty() {
        Mode::Command(words)
    } else if options.echo_config {
        Mode::EchoConfig
    } else if options.print_config {
        Mode::PrintConfig
    } else if options.check {
        Mode::Check
    } else {
        Mode::Supervise
    }
}

/// Hands each option's last appearance to argh. Values are checked one by one in the order given, so that the first
/// wrong one is named as it was spelled.
fn options(line: &ParsedArgs, as_supervisord: bool) -> Result<Options, EarlyExit> {
    let mut words: Vec<(&str, Vec<String>)> = Vec::new();
    for given in &line.options {
        match given.flag.role {
            Role::Help => return Err(EarlyExit::Text(help())),
            Role::Version => return Err(EarlyExit::Text(version(as_supervisord))),
            Role::Ignored => check_ignored(given)?,
            Role::Any | Role::File => {
                let option = canonical(given)?;
                declared(&option).map_err(|_| invalid(given))?;
                words.retain(|(long, _)| *long != given.flag.long);
                words.push((given.flag.long, option));
            }
        }
    }
    let all: Vec<_> = words.into_iter().flat_map(|(_, option)| option).collect();
    declared(&all).map_err(EarlyExit::Error)
}

/// `--long VALUE`, as argh reads it.
fn canonical(given: &ParsedOption) -> Result<Vec<String>, String> {
    let mut words = vec![format!("--{}", given.flag.long)];
    if let Some(value) = &given.value {
        let text = value.to_str().ok_or_else(|| {
            format!(
                "invalid value for {} {}: not UTF-8",
                given.spelling,
                value::literal(&value.to_string_lossy())
            )
        })?;
        words.push(text.to_owned());
    }
    Ok(words)
}

fn declared(words: &[String]) -> Result<Options, String> {
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    Options::from_args(&["rsup"], &words).map_err(|exit| exit.output)
}

/// supervisord's words for a wrong value.
fn invalid(given: &ParsedOption) -> String {
    let text = given.value.as_deref().unwrap_or_default().to_string_lossy();
    let why = match given.flag.long {
        "loglevel" => value::log_level(&text).err(),
        "umask" => value::octal(&text).err(),
        "minfds" | "minprocs" => value::integer(&text).err(),
        "shutdown-on" => value::shutdown_on(&text).err(),
        "stop-timeout" => value::seconds(&text).err(),
        _ => None,
    };
    format!("invalid value for {} {}: {}", given.spelling, value::literal(&text), why.unwrap_or_default())
}

/// Without effect, but supervisord would refuse a wrong value.
fn check_ignored(given: &ParsedOption) -> Result<(), String> {
    let text = given.value.as_deref().unwrap_or_default().to_string_lossy();
    let checked = match given.flag.long {
        "logfile-maxbytes" => value::byte_size(&text),
        "logfile-backups" => value::integer(&text),
        _ => return Ok(()),
    };
    checked
        .map(|_| ())
        .map_err(|why| format!("invalid value for {} {}: {why}", given.spelling, value::literal(&text)))
}

fn help() -> String {
    match Options::from_args(&["rsup"], &["--help"]) {
        // argh's own spellings: here the word is a command, and `-h` is an option.
        Err(exit) => exit.output.replace("--help, help", "-h, --help  "),
        Ok(_) => String::new(),
    }
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

    use super::args::FLAGS;
    use super::*;

    fn run(line: &str) -> Result<Cli, Exit> {
        let argv: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        parse(&argv)
    }

    fn error(line: &str) -> String {
        let exit = run(line).unwrap_err();
        assert_eq!(exit.code, 2, "{line}");
        let name = line.split(' ').next().unwrap();
        let text = exit.text.strip_suffix(&format!("\nFor help, use {name} -h\n")).unwrap();
        text.strip_prefix("Error: ").unwrap().to_owned()
    }

    #[test]
    fn every_spelling_of_getopt_works() {
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
    fn options_become_overrides() {
        let cli = run(
            "rsup -e Debug -s -u 1000:1000 -m 027 -d /x -a 5 --minprocs=6 --shutdown-on fatal --stop-t 9",
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
            shutdown_on: Some(ShutdownOn::Fatal),
            stop_timeout: Some(9),
        };
        assert_eq!(cli.overrides, want);
        assert_eq!(run("rsup -e warn -e info").unwrap().overrides.loglevel, Some(Level::Info));
        assert_eq!(run("rsup -c -n").unwrap().file, Some("-n".into()));
        assert_eq!(run("rsup --user=").unwrap().overrides.user, Some(String::new()));
    }

    #[test]
    fn modes() {
        let command = |words: &[&str]| Mode::Command(words.iter().map(OsString::from).collect());
        for (line, want) in [
            ("rsup", Mode::Supervise),
            ("rsup --check", Mode::Check),
            ("rsup --print-config -c f", Mode::PrintConfig),
            ("rsup --echo", Mode::EchoConfig),
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
    fn errors_are_supervisords() {
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
            ("rsup -c f ls", "option -c cannot be used with a command"),
            ("rsup --", "no command behind --"),
        ] {
            assert_eq!(error(line), want, "{line}");
        }
    }

    #[test]
    fn help_and_version_are_for_stdout() {
        assert_eq!(
            run("rsup -v"),
            Err(Exit { text: format!("rsup {}\n", env!("CARGO_PKG_VERSION")), code: 0 })
        );
        assert_eq!(run("/bin/supervisord --version"), Err(Exit { text: "4.3.0\n".into(), code: 0 }));
        for line in ["rsup -h", "rsup -?", "rsup --help", "rsup -sh x"] {
            let exit = run(line).unwrap_err();
            assert_eq!(exit.code, 0);
            for option in ["-c, --configuration", "  -h, --help  "] {
                assert!(exit.text.contains(option), "{}", exit.text);
            }
            assert!(!exit.text.contains(", help"), "{}", exit.text);
        }
    }

    #[test]
    fn commands_stay_bytes() {
        let word = OsString::from_vec(vec![b'a', 0xFF]);
        let cli = parse(&["rsup".into(), word.clone()]).unwrap();
        assert_eq!(cli.mode, Mode::Command(vec![word.clone()]));
        assert!(parse(&["rsup".into(), "-c".into(), word]).is_err());
    }

    #[test]
    fn every_declared_option_is_known_to_the_normaliser() {
        let help = help();
        for flag in FLAGS.iter().filter(|flag| flag.role != Role::Ignored) {
            assert!(help.contains(&format!("--{}", flag.long)), "{} in {help}", flag.long);
        }
    }
}
