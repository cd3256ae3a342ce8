//! Splits argv as Python's getopt does: into options with their values, and words. argh does not split argv, because
//! it accepts only a few of getopt's spellings.

use std::cell::LazyCell;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

/// The properties of an option that decide how getopt reads it and when it may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OptionSpec {
    pub(crate) short: Option<char>,
    /// The long name without the leading dashes, and with `-` where supervisord writes `_`.
    pub(crate) long: &'static str,
    pub(crate) takes_value: bool,
    pub(crate) scope: OptionScope,
}

/// Whether an option may be given together with a command, as in `rsup -- COMMAND`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OptionScope {
    /// The option may be given in both modes: with a command and without one.
    WithOrWithoutCommand,
    /// The option may be given only without a command. With a command, the option is an error.
    OnlyWithoutCommand,
    /// The option may be given with and without a command, and has no effect. rsup accepts it because supervisord has
    /// it.
    Ignored,
}

/// The table of all options. It is made only when the first option is looked up, because `rsup -- COMMAND` needs no
/// table.
pub(crate) type OptionTable = LazyCell<Vec<OptionSpec>>;

/// An option on the command line.
pub(crate) struct ParsedOption {
    pub(crate) spec: OptionSpec,
    /// The option's name in getopt's messages, with its dashes. If a prefix of a long name was given, this is the whole
    /// name.
    pub(crate) name_for_messages: String,
    pub(crate) value: Option<OsString>,
}

/// A command line, split into options and words.
pub(crate) struct ParsedArgs {
    pub(crate) options: Vec<ParsedOption>,
    /// Whether `--` ended the options.
    pub(crate) has_separator: bool,
    pub(crate) words: Vec<OsString>,
}

/// Splits argv, which comes without the program's name. Options end at `--` or at the first word; a lone `-` is a word.
///
/// # Errors
/// Returns getopt's message about the first option that is unknown or ambiguous, that lacks its value, or that has a
/// value but takes none.
pub(crate) fn parse(argv: &[OsString], specs: &OptionTable) -> Result<ParsedArgs, String> {
    let mut options = Vec::new();
    let mut remaining = argv.iter();
    let mut has_separator = false;
    while let Some(arg) = remaining.as_slice().first() {
        match arg.as_bytes() {
            b"--" => {
                has_separator = true;
                let _separator = remaining.next();
                break;
            }
            [b'-', b'-', long @ ..] => {
                let _option = remaining.next();
                options.push(long_option(long, &mut remaining, specs)?);
            }
            [b'-', cluster @ ..] if !cluster.is_empty() => {
                let _cluster = remaining.next();
                short_options(cluster, &mut remaining, specs, &mut options)?;
            }
            _ => break,
        }
    }
    Ok(ParsedArgs { options, has_separator, words: remaining.cloned().collect() })
}

/// Reads `--name`, `--name VALUE` or `--name=VALUE`.
fn long_option<'a>(
    option_text: &[u8],
    remaining: &mut impl Iterator<Item = &'a OsString>,
    specs: &OptionTable,
) -> Result<ParsedOption, String> {
    let (name, attached) = match option_text.iter().position(|byte| *byte == b'=') {
        Some(at) => (option_text.get(..at).unwrap_or(option_text), option_text.get(at.saturating_add(1)..)),
        None => (option_text, None),
    };
    let typed = String::from_utf8_lossy(name);
    let spec = find_long(&typed, specs)?;
    let name_for_messages = long_name_for_messages(spec, &typed);
    let value = match (spec.takes_value, attached) {
        (true, Some(value)) => Some(OsString::from_vec(value.to_vec())),
        (true, None) => {
            let next =
                remaining.next().ok_or_else(|| format!("option {name_for_messages} requires argument"))?;
            Some(next.clone())
        }
        (false, Some(_)) => return Err(format!("option {name_for_messages} must not have an argument")),
        (false, None) => None,
    };
    Ok(ParsedOption { spec, name_for_messages, value })
}

/// Finds a long option by its whole name or by a prefix that no other option has. `_` and `-` are equal.
fn find_long(typed: &str, specs: &OptionTable) -> Result<OptionSpec, String> {
    let wanted = typed.replace('_', "-");
    let exact = specs.iter().find(|spec| spec.long == wanted);
    let mut candidates = specs.iter().filter(|spec| spec.long.starts_with(&wanted));
    match (exact, candidates.next(), candidates.next()) {
        (Some(spec), ..) | (None, Some(spec), None) => Ok(*spec),
        (None, None, _) => Err(format!("option --{typed} not recognized")),
        (None, Some(_), Some(_)) => Err(format!("option --{typed} not a unique prefix")),
    }
}

/// Returns the whole long name for messages. An option that has no effect in rsup is written with `_`, as in
/// supervisord's messages, unless the user wrote `-`.
fn long_name_for_messages(spec: OptionSpec, typed: &str) -> String {
    let is_shown_with_underscores = spec.scope == OptionScope::Ignored && !typed.contains('-');
    if is_shown_with_underscores {
        format!("--{}", spec.long.replace('-', "_"))
    } else {
        format!("--{}", spec.long)
    }
}

/// Reads a cluster of short options: `-n`, `-nc FILE` or `-cFILE`. The first option that takes a value gets the
/// remaining characters of the cluster, or the next argument if no characters remain.
fn short_options<'a>(
    cluster: &[u8],
    remaining: &mut impl Iterator<Item = &'a OsString>,
    specs: &OptionTable,
    options: &mut Vec<ParsedOption>,
) -> Result<(), String> {
    let mut letters = cluster;
    while let [letter, after @ ..] = letters {
        let letter = if *letter == b'?' { 'h' } else { char::from(*letter) };
        let name_for_messages = format!("-{letter}");
        let found = specs.iter().find(|spec| spec.short == Some(letter));
        let spec = *found.ok_or_else(|| format!("option {name_for_messages} not recognized"))?;
        if !spec.takes_value {
            options.push(ParsedOption { spec, name_for_messages, value: None });
            letters = after;
            continue;
        }
        let attached = (!after.is_empty()).then(|| OsString::from_vec(after.to_vec()));
        let value = attached
            .or_else(|| remaining.next().cloned())
            .ok_or_else(|| format!("option {name_for_messages} requires argument"))?;
        options.push(ParsedOption { spec, name_for_messages, value: Some(value) });
        break;
    }
    Ok(())
}
