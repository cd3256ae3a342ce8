//! argv as getopt reads it: which options were given, as what, and where the words begin. Knows every option, so that
//! argh, which knows few of getopt's spellings, gets one it understands.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

/// How the normaliser treats an option.
pub(super) struct Flag {
    short: Option<char>,
    /// With `-` where supervisord writes `_`.
    pub(super) long: &'static str,
    takes_value: bool,
    pub(super) role: Role,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Help,
    Version,
    /// With a file and with a command.
    Any,
    /// With a file only.
    File,
    /// supervisord's; without effect.
    Ignored,
}

const fn flag(short: Option<char>, long: &'static str, takes_value: bool, role: Role) -> Flag {
    Flag { short, long, takes_value, role }
}

pub(super) const FLAGS: [Flag; 25] = [
    flag(Some('h'), "help", false, Role::Help),
    flag(Some('v'), "version", false, Role::Version),
    flag(Some('c'), "configuration", true, Role::File),
    flag(None, "check", false, Role::File),
    flag(None, "print-config", false, Role::File),
    flag(None, "echo-config", false, Role::File),
    flag(None, "shutdown-on", true, Role::File),
    flag(None, "stop-timeout", true, Role::Any),
    flag(Some('e'), "loglevel", true, Role::Any),
    flag(Some('s'), "silent", false, Role::Any),
    flag(Some('u'), "user", true, Role::File),
    flag(Some('m'), "umask", true, Role::File),
    flag(Some('d'), "directory", true, Role::File),
    flag(Some('a'), "minfds", true, Role::File),
    flag(None, "minprocs", true, Role::File),
    flag(Some('n'), "nodaemon", false, Role::Ignored),
    flag(Some('l'), "logfile", true, Role::Ignored),
    flag(Some('y'), "logfile-maxbytes", true, Role::Ignored),
    flag(Some('z'), "logfile-backups", true, Role::Ignored),
    flag(Some('j'), "pidfile", true, Role::Ignored),
    flag(Some('i'), "identifier", true, Role::Ignored),
    flag(Some('q'), "childlogdir", true, Role::Ignored),
    flag(Some('k'), "nocleanup", false, Role::Ignored),
    flag(Some('t'), "strip-ansi", false, Role::Ignored),
    flag(None, "profile-options", true, Role::Ignored),
];

/// An option as it was given.
pub(super) struct ParsedOption {
    pub(super) flag: &'static Flag,
    /// As getopt reports it: `-e` or the whole long name.
    pub(super) spelling: String,
    pub(super) value: Option<OsString>,
}

/// What stands where on the command line.
pub(super) struct ParsedArgs {
    pub(super) options: Vec<ParsedOption>,
    /// Whether `--` ended the options.
    pub(super) dashes: bool,
    pub(super) words: Vec<OsString>,
}

/// Options end at `--` or at the first word; `-` alone is a word.
pub(super) fn split(argv: &[OsString]) -> Result<ParsedArgs, String> {
    let mut options = Vec::new();
    let mut rest = argv.iter();
    let mut dashes = false;
    while let Some(word) = rest.as_slice().first() {
        let bytes = word.as_bytes();
        match bytes {
            b"--" => {
                dashes = true;
                let _dashes = rest.next();
                break;
            }
            [b'-', b'-', long @ ..] => {
                let _word = rest.next();
                options.push(long_option(long, &mut rest)?);
            }
            [b'-', cluster @ ..] if !cluster.is_empty() => {
                let _word = rest.next();
                short_options(cluster, &mut rest, &mut options)?;
            }
            _ => break,
        }
    }
    Ok(ParsedArgs { options, dashes, words: rest.cloned().collect() })
}

/// `--name`, `--name VALUE`, `--name=VALUE`, where any unique beginning of the name will do and `_` is `-`.
fn long_option<'a>(
    bytes: &[u8],
    rest: &mut impl Iterator<Item = &'a OsString>,
) -> Result<ParsedOption, String> {
    let (name, attached) = match bytes.iter().position(|byte| *byte == b'=') {
        Some(at) => (bytes.get(..at).unwrap_or(bytes), bytes.get(at.saturating_add(1)..)),
        None => (bytes, None),
    };
    let typed = String::from_utf8_lossy(name);
    let flag = long_flag(&typed)?;
    let full = spelling(flag, &typed);
    let value = match (flag.takes_value, attached) {
        (true, Some(value)) => Some(OsString::from_vec(value.to_vec())),
        (true, None) => Some(rest.next().ok_or_else(|| format!("option {full} requires argument"))?.clone()),
        (false, Some(_)) => return Err(format!("option {full} must not have an argument")),
        (false, None) => None,
    };
    Ok(ParsedOption { flag, spelling: full, value })
}

fn long_flag(typed: &str) -> Result<&'static Flag, String> {
    let wanted = typed.replace('_', "-");
    let mut candidates = FLAGS.iter().filter(|flag| flag.long.starts_with(&wanted));
    let exact = FLAGS.iter().find(|flag| flag.long == wanted);
    match (exact, candidates.next(), candidates.next()) {
        (Some(flag), ..) | (None, Some(flag), None) => Ok(flag),
        (None, None, _) => Err(format!("option --{typed} not recognized")),
        (None, Some(_), Some(_)) => Err(format!("option --{typed} not a unique prefix")),
    }
}

/// The whole name of a long option, in the spelling of its own world.
fn spelling(flag: &Flag, typed: &str) -> String {
    let is_supervisords = flag.role == Role::Ignored && !typed.contains('-');
    if is_supervisords { format!("--{}", flag.long.replace('-', "_")) } else { format!("--{}", flag.long) }
}

/// `-n`, `-nc FILE`, `-cFILE`: the first that takes a value takes the rest of the word, or the next one.
fn short_options<'a>(
    cluster: &[u8],
    rest: &mut impl Iterator<Item = &'a OsString>,
    options: &mut Vec<ParsedOption>,
) -> Result<(), String> {
    let mut letters = cluster;
    while let [letter, after @ ..] = letters {
        let letter = if *letter == b'?' { 'h' } else { char::from(*letter) };
        let spelling = format!("-{letter}");
        let found = FLAGS.iter().find(|flag| flag.short == Some(letter));
        let flag = found.ok_or_else(|| format!("option {spelling} not recognized"))?;
        if !flag.takes_value {
            options.push(ParsedOption { flag, spelling, value: None });
            letters = after;
            continue;
        }
        let value =
            if after.is_empty() { rest.next().cloned() } else { Some(OsString::from_vec(after.to_vec())) };
        let value = Some(value.ok_or_else(|| format!("option {spelling} requires argument"))?);
        options.push(ParsedOption { flag, spelling, value });
        break;
    }
    Ok(())
}
