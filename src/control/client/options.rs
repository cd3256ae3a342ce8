//! The options of supervisorctl's command line.
//!
//! `-s`, `-u`, `-p` and `-r` are accepted because scripts contain them. rsup has no server, so there is nothing to log
//! in to; the address of `-s` appears in the message that no rsup was found.

use crate::cli::EarlyExit;
use crate::cli::args::{self, OptionScope, OptionSpec};
use crate::config::repr;
use std::cell::LazyCell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A valid command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// The absolute path of the file that `-c` names.
    pub(super) configuration: Option<PathBuf>,
    pub(super) server_url: Option<String>,
    pub(super) interactive: bool,
    /// The words after the options, joined by blanks. `None` if there are no words. Bytes that are not UTF-8 are
    /// replaced, because no name contains them.
    pub(super) words: Option<String>,
}

const HELP: &str = "help";
const CONFIGURATION: &str = "configuration";
const SERVER_URL: &str = "serverurl";
const INTERACTIVE: &str = "interactive";
/// Each option: its letter, its long name, and whether it takes a value.
const OPTIONS: [(char, &str, bool); 7] = [
    ('h', HELP, false),
    ('c', CONFIGURATION, true),
    ('i', INTERACTIVE, false),
    ('s', SERVER_URL, true),
    ('u', "username", true),
    ('p', "password", true),
    ('r', "history-file", true),
];

/// The text of `--help`, with `%s` for the name of the program.
const USAGE: &str = "\
supervisorctl -- control the programs of a running rsup from the command line.

Usage: %s [options] [action [arguments]]

Options:
-c/--configuration FILENAME -- the file in which \"tail\" looks up the log files
     (default: the file that rsup was started with); also for [supervisorctl]
-h/--help -- print usage message and exit
-i/--interactive -- ask before \"shutdown\" and \"reload\"
-s/--serverurl URL -- only named in the message that no rsup was found
-u/--username USERNAME -- without effect
-p/--password PASSWORD -- without effect
-r/--history_file FILENAME -- without effect

action [arguments] -- see below

Actions are commands like \"tail\" or \"stop\".  If no action is specified on the
command line, a \"shell\" interpreting actions typed interactively is started.
Use the action \"help\" to find out about available actions.

The environment variable RSUP_PID names the process ID of the rsup to control.
It is needed if several are found, or if the rsup of another user is not PID 1.

";

/// Parses the command line, which comes without the program's name.
///
/// # Errors
/// Returns the first error, or the text of `--help`.
pub(super) fn parse(arguments: &[OsString]) -> Result<Options, EarlyExit> {
    let line = args::parse(arguments, &LazyCell::new(specs))?;
    let mut options = Options::default();
    let mut configuration_as_typed = String::new();
    let mut seen = Vec::new();
    for option in line.options {
        let long = option.spec.long;
        if long == HELP {
            return Err(EarlyExit::HelpOrVersion(USAGE.to_owned()));
        }
        let value = option.value.unwrap_or_default();
        let text = value.to_string_lossy();
        if long == SERVER_URL && !is_url(&text) {
            let why = format!("value {} is not a URL", repr(&text));
            return Err(
                format!("invalid value for {} {}: {why}", option.name_for_messages, repr(&text)).into()
            );
        }
        if seen.contains(&long) {
            return Err(format!("conflicting command line option {}", repr(&option.name_for_messages)).into());
        }
        seen.push(long);
        match long {
            // A client may change its directory later, so the path is made absolute now.
            CONFIGURATION => {
                let path = std::path::absolute(&value).unwrap_or_else(|_| Path::new(&value).into());
                options.configuration = Some(path);
                configuration_as_typed = text.into_owned();
            }
            SERVER_URL => options.server_url = Some(text.into_owned()),
            INTERACTIVE => options.interactive = true,
            _ => {}
        }
    }
    if options.configuration.as_ref().is_some_and(|path| !path.exists()) {
        return Err(format!("could not find config file {configuration_as_typed}").into());
    }
    for word in &line.words {
        let words = options.words.get_or_insert_default();
        words.push_str(if words.is_empty() { "" } else { " " });
        words.push_str(&word.to_string_lossy());
    }
    Ok(options)
}

fn specs() -> Vec<OptionSpec> {
    // `OptionScope::Ignored` makes error messages write `--history_file` with `_`, as supervisorctl does.
    let spec = |(short, long, takes_value)| OptionSpec {
        short: Some(short),
        long,
        takes_value,
        scope: OptionScope::Ignored,
    };
    OPTIONS.into_iter().map(spec).collect()
}

/// Whether a text has a scheme, and a host or a path.
fn is_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let is_scheme_character = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(is_scheme_character)
        && !rest.is_empty()
        && !rest.starts_with(['?', '#'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Result<Options, EarlyExit> {
        let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        parse(&arguments)
    }

    #[test]
    fn every_option_is_accepted_in_every_spelling() {
        let options = run("-ic /proc/stat -s unix:///s -u a -p b -r h status web").unwrap();
        assert_eq!(options.configuration.as_deref(), Some(Path::new("/proc/stat")));
        assert_eq!(options.server_url.as_deref(), Some("unix:///s"));
        assert!(options.interactive);
        assert_eq!(options.words.as_deref(), Some("status web"));
        let options =
            run("--conf=f --server http://h --inter --history_file=h --history-file x").unwrap_err();
        assert_eq!(options, EarlyExit::UsageError("conflicting command line option '--history-file'".into()));
        let options = run("--conf=. -- tail -f web").unwrap();
        assert!(options.configuration.as_ref().unwrap().is_absolute());
        assert_eq!(options.words.as_deref(), Some("tail -f web"));
        assert_eq!(run("-i").unwrap().words, None);
    }

    #[test]
    fn errors_have_the_texts_of_supervisorctl() {
        for (line, want) in [
            ("-x", "option -x not recognized"),
            ("-r", "option -r requires argument"),
            ("--hist", "option --history_file requires argument"),
            ("-v", "option -v not recognized"),
            (
                "-s 127.0.0.1:19001",
                "invalid value for -s '127.0.0.1:19001': value '127.0.0.1:19001' is not a URL",
            ),
            ("-s http://a -s http://b", "conflicting command line option '-s'"),
            ("-c none.conf status", "could not find config file none.conf"),
            ("-i --interactive", "conflicting command line option '--interactive'"),
        ] {
            assert_eq!(run(line), Err(EarlyExit::UsageError(want.into())), "{line}");
        }
        for line in ["-h", "-?", "--help", "-ih status"] {
            assert!(matches!(run(line), Err(EarlyExit::HelpOrVersion(_))), "{line}");
        }
    }

    #[test]
    fn a_url_has_a_scheme_and_a_host_or_a_path() {
        for url in ["http://localhost:9001", "unix:///run/s.sock", "ftp://x", "a:b", "unix:/x"] {
            assert!(is_url(url), "{url}");
        }
        for text in ["", "x", "/run/s.sock", "http://", "http:", "1http://x", "h p://x", "http://?q"] {
            assert!(!is_url(text), "{text}");
        }
    }
}
