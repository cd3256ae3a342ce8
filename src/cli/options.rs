//! The declaration of all options, [`Options`]. argh derives three things from this declaration: the function that reads
//! the values, the text of `--help`, and, with `ArgsInfo`, the list of the options, from which [`specs`] makes the table
//! for `args`.

use argh::{ArgsInfo, FlagInfo, FlagInfoKind, FromArgs};

use super::args::{OptionSpec, Scope};
use crate::config::value;
use crate::policy::{Level, ShutdownOn};

/// argh adds this option to the declaration.
pub(super) const HELP: &str = "help";
pub(super) const VERSION: &str = "version";
/// The options that can be used together with a command, apart from supervisord's options without effect.
const FOR_BOTH_MODES: [&str; 5] = [HELP, VERSION, "silent", "loglevel", "stop-timeout"];

// The doc comments are the text of `--help`. A field whose name begins with `_` is not read: `super::read_options` looks
// for `--version` by its name, and `args` keeps the words of the command, which need not be UTF-8.

/// rsup runs the programs of a supervisord configuration file, or one command, and is a good PID 1 for them.
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("-h", "--help"))]
#[argh(note = "Without -c the file is looked for where supervisord looks for it. Options end at\n\
           the command, or at --. supervisord's other options (-n -l -y -z -j -i -q -k -t\n\
           and their long names, --profile_options) are taken and have no effect.")]
#[argh(note = "rsup leaves with the code of the command, or of the program that ended it all;\n\
           128 and n where signal n ended that. Its own codes:")]
#[argh(error_code(0, "stopped by SIGTERM, SIGINT or SIGQUIT, or everything went well"))]
#[argh(error_code(2, "a mistake in the options or the file, or nothing to start"))]
#[argh(error_code(126, "COMMAND cannot be executed"))]
#[argh(error_code(127, "COMMAND is not found"))]
pub(super) struct Options {
    /// the supervisord.conf to run
    #[argh(option, short = 'c', arg_name = "file")]
    pub(super) configuration: Option<String>,

    /// report every error and warning of the file, start nothing
    #[argh(switch)]
    pub(super) check: bool,

    /// print what the file comes to as JSON, start nothing
    #[argh(switch)]
    pub(super) print_config: bool,

    /// print a sample file
    #[argh(switch)]
    pub(super) echo_config: bool,

    /// which end of a program ends all, where its section does not say: never, fatal (given up) or exited
    #[argh(option, arg_name = "when", from_str_fn(value::shutdown_on))]
    pub(super) shutdown_on: Option<ShutdownOn>,

    /// kill what is left so many seconds after the stop began
    #[argh(option, arg_name = "seconds", from_str_fn(value::seconds))]
    pub(super) stop_timeout: Option<u64>,

    /// log lines from this level on: critical, error, warn, info, debug, trace or blather
    #[argh(option, short = 'e', arg_name = "level", from_str_fn(value::log_level))]
    pub(super) loglevel: Option<Level>,

    /// write no log lines
    #[argh(switch, short = 's')]
    pub(super) silent: bool,

    /// run as this user
    #[argh(option, short = 'u', arg_name = "user")]
    pub(super) user: Option<String>,

    /// checked, without effect: rsup stays in the foreground
    #[argh(option, short = 'm', arg_name = "mask", from_str_fn(value::octal))]
    pub(super) umask: Option<u32>,

    /// without effect: rsup stays in the foreground
    #[argh(option, short = 'd', arg_name = "directory")]
    pub(super) directory: Option<String>,

    /// the least number of open files to allow
    #[argh(option, short = 'a', arg_name = "number", from_str_fn(value::integer))]
    pub(super) minfds: Option<i64>,

    /// the least number of processes to allow
    #[argh(option, arg_name = "number", from_str_fn(value::integer))]
    pub(super) minprocs: Option<i64>,

    /// print the version
    #[argh(switch, short = 'v')]
    _version: bool,

    // supervisord's options without effect. [`specs`] recognises them by `hidden_help`. argh requires their descriptions,
    // although no help shows them. A value that supervisord refuses is an error in rsup as well.
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

    /// the file for supervisord's PID
    #[argh(option, short = 'j', hidden_help)]
    _pidfile: Option<String>,

    /// the name of this supervisord for its clients
    #[argh(option, short = 'i', hidden_help)]
    _identifier: Option<String>,

    /// the directory of the log files whose name is AUTO
    #[argh(option, short = 'q', hidden_help)]
    _childlogdir: Option<String>,

    /// keep the log files of earlier runs whose name is AUTO
    #[argh(switch, short = 'k', hidden_help)]
    _nocleanup: bool,

    /// remove escape sequences from the programs' output
    #[argh(switch, short = 't', hidden_help)]
    _strip_ansi: bool,

    /// profile supervisord
    #[argh(option, hidden_help)]
    _profile_options: Option<String>,

    /// the command to run instead of a file's programs
    #[argh(positional, greedy, arg_name = "command")]
    _command: Vec<String>,
}

/// The table for `args`.
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
            Scope::Ignored
        } else if FOR_BOTH_MODES.contains(&long) {
            Scope::BothModes
        } else {
            Scope::ConfigurationMode
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
        for name in FOR_BOTH_MODES {
            assert!(specs().iter().any(|spec| spec.long == name && spec.scope == Scope::BothModes), "{name}");
        }
    }

    #[test]
    fn the_help_names_every_option_without_effect() {
        let help = Options::from_args(&["rsup"], &["--help"]).err().unwrap().output;
        for spec in specs().into_iter().filter(|spec| spec.scope == Scope::Ignored) {
            let long = spec.long.replace('-', "_");
            let name = spec.short.map_or(format!("--{long}"), |letter| format!("-{letter}"));
            assert!(help.contains(&name), "{name} is not in:\n{help}");
        }
    }
}
