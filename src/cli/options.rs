//! The declaration of all options, [`Options`]. argh derives three things from this declaration: the function that
//! reads the values, the text of `--help`, and, with `ArgsInfo`, the list of the options, from which [`specs`] makes
//! the table for `args`.

use argh::{ArgsInfo, FlagInfo, FlagInfoKind, FromArgs};

use super::args::{OptionScope, OptionSpec};
use crate::config::{OutputMode, Startup, value};
use crate::policy::{Level, ShutdownOn};

/// The option that argh adds to those of [`Options`].
pub(super) const HELP: &str = "help";
pub(super) const VERSION: &str = "version";
/// The option that `super::parse` finds before it splits the command line. It is declared here for the help.
pub(super) const CTL: &str = "ctl";
/// The options that may be given together with a command. Of these, `silent` and `loglevel` have no effect with a
/// command. The options with `hidden_help` are accepted with a command too, and have no effect either.
const WITH_OR_WITHOUT_COMMAND: [&str; 5] = [HELP, VERSION, "silent", "loglevel", "stop-timeout"];

// argh makes the text of `--help` from the doc comments. No code reads the fields whose names begin with `_`.
// `_version` is not needed, because `super::read_options` finds `--version` by its name. `_command` is not needed,
// because `args` returns the words of the command, which need not be UTF-8. `_ctl` is not needed, because
// `super::parse` handles `--ctl`. The other fields with `_` belong to options without effect.

/// Runs the programs of a supervisord configuration file, or one command, for example as PID 1 of a container.
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("-h", "--help"))]
#[argh(note = "Without -c, rsup reads the first existing file of supervisord's search path.\n\
           Options end at COMMAND or at --. supervisord's other options (-n -l -y -z -q -k\n\
           -t, their long names, --profile_options) are accepted without effect.")]
#[argh(note = "With COMMAND, the exit code is that of COMMAND. Otherwise it is that of the\n\
           program whose exit caused the shutdown or, if all programs have ended, of the\n\
           first program that failed. 128 + n means that signal n killed the process.\n\
           rsup's own exit codes:")]
#[argh(error_code(0, "SIGTERM, SIGINT or SIGQUIT stopped rsup, or no program failed"))]
#[argh(error_code(2, "an error in the options or in the file, or no program to start"))]
#[argh(error_code(126, "COMMAND cannot be executed"))]
#[argh(error_code(127, "COMMAND is not found"))]
pub(super) struct Options {
    /// the configuration file
    #[argh(option, short = 'c', arg_name = "FILE")]
    pub(super) configuration: Option<String>,

    /// print every error and warning about the file, start nothing
    #[argh(switch)]
    pub(super) check: bool,

    /// print the resulting configuration as JSON, start nothing
    #[argh(switch)]
    pub(super) print_config: bool,

    /// print a sample configuration file
    #[argh(switch)]
    pub(super) echo_config: bool,

    /// do what supervisorctl does with the arguments behind this one, which must be the first
    #[argh(switch)]
    _ctl: bool,

    /// when to shut everything down: never, fatal (if a program becomes FATAL) or exited (if a program becomes FATAL,
    /// or EXITED without a restart); shutdown_on in the program's section takes precedence
    #[argh(option, arg_name = "WHEN", from_str_fn(value::shutdown_on))]
    pub(super) shutdown_on: Option<ShutdownOn>,

    /// SECONDS after the shutdown began, send SIGKILL to everything that still runs
    #[argh(option, arg_name = "SECONDS", from_str_fn(value::seconds))]
    pub(super) stop_timeout: Option<u64>,

    /// how the programs' output reaches rsup's own stdout and stderr: direct (the programs write there themselves),
    /// lines (rsup writes whole lines), prefix (whole lines with the program's name) or json
    #[argh(option, arg_name = "MODE", from_str_fn(value::output_mode))]
    pub(super) output: Option<OutputMode>,

    /// how the programs are started: parallel (all at once) or ordered (those of the next priority when those of the
    /// current one are up)
    #[argh(option, arg_name = "HOW", from_str_fn(value::startup))]
    pub(super) startup: Option<Startup>,

    /// the least severe level to log: critical, error, warn, info, debug, trace or blather
    #[argh(option, short = 'e', arg_name = "LEVEL", from_str_fn(value::log_level))]
    pub(super) loglevel: Option<Level>,

    /// log nothing
    #[argh(switch, short = 's')]
    pub(super) silent: bool,

    /// switch to USER before any program starts
    #[argh(option, short = 'u', arg_name = "USER")]
    pub(super) user: Option<String>,

    /// without effect: supervisord uses MASK only when it daemonizes, and rsup never does
    #[argh(option, short = 'm', arg_name = "MASK", from_str_fn(value::octal))]
    pub(super) umask: Option<u32>,

    /// without effect: supervisord uses DIRECTORY only when it daemonizes, and rsup never does
    #[argh(option, short = 'd', arg_name = "DIRECTORY")]
    pub(super) directory: Option<String>,

    /// raise the limit of open files to NUMBER if the limit is lower
    #[argh(option, short = 'a', arg_name = "NUMBER", from_str_fn(value::integer))]
    pub(super) minfds: Option<i64>,

    /// raise the limit of processes to NUMBER if the limit is lower
    #[argh(option, arg_name = "NUMBER", from_str_fn(value::integer))]
    pub(super) minprocs: Option<i64>,

    /// write rsup's process ID to FILE
    #[argh(option, short = 'j', arg_name = "FILE")]
    pub(super) pidfile: Option<String>,

    /// the name of the server in the events that event listeners receive
    #[argh(option, short = 'i', arg_name = "NAME")]
    pub(super) identifier: Option<String>,

    /// print the version
    #[argh(switch, short = 'v')]
    _version: bool,

    // supervisord has these options too, and rsup accepts them without effect. `hidden_help` keeps them out of the
    // list of options in `--help`; a note in `--help` names them instead. [`specs`] recognises them by `hidden_help`.
    // argh requires a description of every option. A value that supervisord refuses is an error in rsup as well,
    // except that rsup does not check whether a directory exists.
    /// stay in the foreground
    #[argh(switch, short = 'n', hidden_help)]
    _nodaemon: bool,

    /// the file for supervisord's own log
    #[argh(option, short = 'l', hidden_help)]
    _logfile: Option<String>,

    /// the size at which supervisord rotates its log file
    #[argh(option, short = 'y', hidden_help, from_str_fn(value::byte_size))]
    _logfile_maxbytes: Option<i64>,

    /// the number of rotated log files to keep
    #[argh(option, short = 'z', hidden_help, from_str_fn(value::integer))]
    _logfile_backups: Option<i64>,

    /// the directory of the log files that are set to AUTO
    #[argh(option, short = 'q', hidden_help)]
    _childlogdir: Option<String>,

    /// keep the AUTO log files of earlier runs
    #[argh(switch, short = 'k', hidden_help)]
    _nocleanup: bool,

    /// remove escape sequences from the programs' output
    #[argh(switch, short = 't', hidden_help)]
    _strip_ansi: bool,

    /// profile supervisord
    #[argh(option, hidden_help)]
    _profile_options: Option<String>,

    /// the command to run instead of the programs of a file
    #[argh(positional, greedy, arg_name = "COMMAND")]
    _command: Vec<String>,
}

/// Returns the table of the options, which `args` needs to split the command line.
pub(super) fn specs() -> Vec<OptionSpec> {
    Options::get_args_info().flags.iter().map(spec).collect()
}

fn spec(flag: &FlagInfo<'static>) -> OptionSpec {
    let long = flag.long.trim_start_matches('-');
    OptionSpec {
        // argh reports --help without the -h of `help_triggers`.
        short: if long == HELP { Some('h') } else { flag.short },
        long,
        takes_value: matches!(flag.kind, FlagInfoKind::Option { .. }),
        scope: if flag.hidden {
            OptionScope::Ignored
        } else if WITH_OR_WITHOUT_COMMAND.contains(&long) {
            OptionScope::WithOrWithoutCommand
        } else {
            OptionScope::OnlyWithoutCommand
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_options_have_the_same_name() {
        let specs = specs();
        for (at, spec) in specs.iter().enumerate() {
            for other in &specs[at + 1..] {
                assert_ne!(spec.long, other.long);
                assert!(spec.short.is_none() || spec.short != other.short, "{spec:?} {other:?}");
            }
        }
    }

    #[test]
    fn every_option_for_both_modes_is_declared() {
        for name in WITH_OR_WITHOUT_COMMAND {
            assert!(
                specs()
                    .iter()
                    .any(|spec| spec.long == name && spec.scope == OptionScope::WithOrWithoutCommand),
                "{name}"
            );
        }
    }

    #[test]
    fn the_help_names_every_option_without_effect() {
        let help = Options::from_args(&["rsup"], &["--help"]).err().unwrap().output;
        for spec in specs().into_iter().filter(|spec| spec.scope == OptionScope::Ignored) {
            let long = spec.long.replace('-', "_");
            let name = spec.short.map_or(format!("--{long}"), |letter| format!("-{letter}"));
            assert!(help.contains(&name), "{name} is not in:\n{help}");
        }
    }
}
