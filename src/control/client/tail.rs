//! `tail`: the end of a program's log file, and, with `-f`, what is appended later.
//!
//! The client reads the file itself. It takes the path of the log file from the configuration. It changes into rsup's
//! working directory, because relative paths start there, and stays in it.

use super::client_run::ClientRun;
use super::config_loaders::Launch;
use super::failure::Failure;
use super::help;
use super::names::Name;
use super::running_rsup::{BoardLines, Rsup};
use crate::config::{LogFile, ProcessConfig, descriptor_of_path, expand_home, repr, value};
use crate::sys;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::time::Duration;
use std::{env, path::Path};

/// The number of bytes that `tail` shows without `-N`.
const LENGTH: i64 = 1600;
/// The number of bytes that `tail -f` shows at first.
const LENGTH_BEFORE_FOLLOWING: u64 = 1024;
/// The time between two looks at a file that `tail -f` follows.
const PAUSE: Duration = Duration::from_millis(100);
const BUFFER_SIZE: usize = 1 << 16;

/// The arguments of `tail`.
#[derive(Debug, PartialEq, Eq)]
struct Arguments<'a> {
    name: &'a str,
    /// `stdout` or `stderr`.
    channel: &'static str,
    part: ShownPart,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShownPart {
    /// The last N bytes. 0 means the whole file. -N means everything after the first N bytes.
    Last(i64),
    Follow,
}

/// An error in the arguments.
#[derive(Debug, PartialEq, Eq)]
struct WrongArguments {
    why: String,
    shows_help: bool,
}

pub(super) fn tail(
    client_run: &mut ClientRun<'_>,
    rsup: &Rsup,
    board: &BoardLines,
    words: &[&str],
) -> Result<(), Failure> {
    let Arguments { name, channel, part } = match arguments(words) {
        Ok(arguments) => arguments,
        Err(WrongArguments { why, shows_help }) => {
            client_run.error(1, format_args!("Error: {why}"))?;
            let help = help::of("tail").filter(|_| shows_help).unwrap_or_default();
            return client_run.write(help.as_bytes());
        }
    };
    let wanted = Name::parse(name);
    let is_process = matches!(wanted, Name::Process { .. });
    let is_known = is_process && board.records()?.iter().any(|record| wanted.matches(record));
    let log = if is_known { open_log_file(client_run, rsup, wanted, channel)? } else { LogLookup::NoProcess };
    match (part, log) {
        (ShownPart::Last(count), LogLookup::Open(file, _)) => show(client_run, &file, count),
        (ShownPart::Follow, LogLookup::Open(file, path)) => {
            client_run.line(format_args!("==> Press Ctrl-C to exit <=="))?;
            follow(client_run, rsup, file, Path::new(&path))
        }
        (ShownPart::Last(_), LogLookup::NoProcess) => {
            client_run.error(1, format_args!("{name}: ERROR (no such process name)"))
        }
        (ShownPart::Last(_), LogLookup::NoFile) => {
            client_run.error(1, format_args!("{name}: ERROR (no log file)"))
        }
        (_, LogLookup::Unreadable) => {
            client_run.error(1, format_args!("{name}: ERROR (unknown error reading log)"))
        }
        (ShownPart::Follow, LogLookup::NoProcess | LogLookup::NoFile) => {
            client_run.line(format_args!("==> Press Ctrl-C to exit <=="))?;
            let url = client_run.settings().supervisorctl_server_url;
            let text = format!("{url}/logtail/{name}/{channel} Cannot read, status code 404\n");
            // An error of this write cannot be reported anywhere.
            let _ = sys::write_out(sys::STDERR, text.as_bytes());
            Ok(())
        }
    }
}

fn arguments<'a>(words: &[&'a str]) -> Result<Arguments<'a>, WrongArguments> {
    let error = |why: &str, shows_help| Err(WrongArguments { why: why.to_owned(), shows_help });
    let words_and_modifier = match words {
        [] => return error("too few arguments", true),
        [_, _, _, _, ..] => return error("too many arguments", true),
        [modifier, rest @ ..] if modifier.starts_with('-') => (rest, *modifier),
        words => (words, ""),
    };
    let (words, modifier) = words_and_modifier;
    let [name, rest @ ..] = words else { return error("tail requires process name", false) };
    let typed = rest.last().unwrap_or(&"stdout").to_ascii_lowercase();
    let Some(channel) = ["stdout", "stderr"].into_iter().find(|channel| *channel == typed) else {
        return error(&format!("bad channel {}", repr(&typed)), false);
    };
    let part = match modifier.strip_prefix('-') {
        None => ShownPart::Last(LENGTH),
        Some("f") => ShownPart::Follow,
        Some(number) => match value::integer(number) {
            Ok(count) => ShownPart::Last(count),
            Err(_) => return error(&format!("bad argument {modifier}"), false),
        },
    };
    Ok(Arguments { name, channel, part })
}

/// The log file of a process.
enum LogLookup {
    /// The open file and its path.
    Open(File, String),
    /// No process has the name.
    NoProcess,
    /// The output goes to no file, the file does not exist, or the configuration does not define the process.
    NoFile,
    /// The path names neither a regular file nor /dev/null, or the client cannot open rsup's file of this path.
    Unreadable,
}

/// Opens the log file of a process.
fn open_log_file(
    client_run: &ClientRun<'_>,
    rsup: &Rsup,
    name: Name<'_>,
    channel: &str,
) -> Result<LogLookup, Failure> {
    let launch = read_launch(rsup);
    let home = launch.environment.iter().find(|(name, _)| name == "HOME").map(|(_, value)| value.clone());
    // A path may be relative to rsup's working directory. If the client cannot enter this directory, only absolute
    // paths work.
    let is_inside = env::set_current_dir(format!("/proc/{}/cwd", rsup.pid)).is_ok();
    let config = (client_run.config_loaders.load)(client_run.options.configuration.as_deref(), launch);
    let config = config.map_err(Failure::other)?;
    let is_wanted = |process: &&ProcessConfig| match name {
        Name::Process { group, name } => process.group == group && process.name == name,
        Name::Group(_) => false,
    };
    let Some(process) = config.processes.iter().chain(&config.replaced_listeners).find(is_wanted) else {
        return Ok(LogLookup::NoFile);
    };
    let file = if channel == "stdout" { &process.stdout_logfile } else { &process.stderr_logfile };
    let LogFile::Path(path) = file else { return Ok(LogLookup::NoFile) };
    let path = expand_home(path, home.as_deref().and_then(OsStr::to_str));
    let can_resolve_path = is_inside || Path::new(&path).is_absolute();
    Ok(if can_resolve_path { open(path) } else { LogLookup::Unreadable })
}

/// Opens a log file. A path such as `/dev/stdout` leads to another file in each process, so the client cannot open
/// rsup's.
fn open(path: String) -> LogLookup {
    if descriptor_of_path(&path).is_some() || path.starts_with("/proc/") {
        return LogLookup::Unreadable;
    }
    match sys::open_regular(Path::new(&path)) {
        Ok(file) => LogLookup::Open(file, path),
        Err(_) if fs::metadata(&path).is_err() => LogLookup::NoFile,
        Err(_) => LogLookup::Unreadable,
    }
}

/// Reads from /proc how a running rsup was started. What cannot be read is empty.
fn read_launch(rsup: &Rsup) -> Launch {
    let directory = format!("/proc/{}", rsup.pid);
    let directory = Path::new(&directory);
    let read_strings = |file: &str| {
        let bytes = fs::read(directory.join(file)).unwrap_or_default();
        let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
        let strings = bytes.split(|byte| *byte == 0).map(|text| OsStr::from_bytes(text).to_owned());
        strings.collect::<Vec<_>>()
    };
    Launch {
        executable: fs::read_link(directory.join("exe")).unwrap_or_default(),
        arguments: read_strings("cmdline"),
        environment: read_strings("environ").iter().filter_map(|text| variable(text)).collect(),
    }
}

fn variable(text: &OsStr) -> Option<(OsString, OsString)> {
    let bytes = text.as_bytes();
    let at = bytes.iter().position(|byte| *byte == b'=')?;
    let part = |bytes: Option<&[u8]>| Some(OsStr::from_bytes(bytes?).to_owned());
    Some((part(bytes.get(..at))?, part(bytes.get(at.saturating_add(1)..))?))
}

/// Shows the end of a file, and then a newline.
fn show(client_run: &ClientRun<'_>, file: &File, count: i64) -> Result<(), Failure> {
    let size = file.metadata().map_or(0, |found| found.len());
    let begin = match count {
        0 => 0,
        1.. => size.saturating_sub(count.unsigned_abs()),
        _ => count.unsigned_abs(),
    };
    copy(client_run, file, begin)?;
    client_run.write(b"\n")
}

/// Writes the bytes from this offset until the end of the file or a read error. Returns the offset reached.
fn copy(client_run: &ClientRun<'_>, file: &File, mut offset: u64) -> Result<u64, Failure> {
    let mut buffer = vec![0; BUFFER_SIZE];
    loop {
        let length = file.read_at(&mut buffer, offset).unwrap_or(0);
        if length == 0 {
            return Ok(offset);
        }
        client_run.write(buffer.get(..length).unwrap_or_default())?;
        offset = offset.saturating_add(u64::try_from(length).unwrap_or(0));
    }
}

/// Shows the end of a file and everything that is appended to it, until rsup ends or executes itself again. If another
/// file takes its place, that file is followed from its beginning.
fn follow(client_run: &ClientRun<'_>, rsup: &Rsup, mut file: File, path: &Path) -> Result<(), Failure> {
    let request_sender = rsup.open_request_pipe()?;
    let identity = |found: fs::Metadata| (found.dev(), found.ino());
    let size = |file: &File| file.metadata().map_or(0, |found| found.len());
    let mut offset = size(&file).saturating_sub(LENGTH_BEFORE_FOLLOWING);
    let mut rsup_has_ended = false;
    loop {
        let open_file = file.metadata().ok().map(identity);
        let named_file = fs::metadata(path).ok().map(identity);
        let is_replaced = named_file.is_some() && named_file != open_file;
        if size(&file) < offset {
            client_run.line(format_args!("==> File truncated <=="))?;
            offset = 0;
        }
        // The rest of the old file is shown before the new file is followed.
        offset = copy(client_run, &file, offset)?;
        if is_replaced && let Ok(other) = sys::open_regular(path) {
            file = other;
            offset = 0;
        } else if rsup_has_ended {
            return Ok(());
        } else {
            rsup_has_ended = request_sender.wait_for_end(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_read_as_supervisorctl_reads_them() {
        let ok = |name, channel, part| Ok(Arguments { name, channel, part });
        let error = |why: &str, shows_help| Err(WrongArguments { why: why.to_owned(), shows_help });
        for (line, want) in [
            ("web", ok("web", "stdout", ShownPart::Last(1600))),
            ("web StdErr", ok("web", "stderr", ShownPart::Last(1600))),
            ("-100 web", ok("web", "stdout", ShownPart::Last(100))),
            ("-0 web stderr", ok("web", "stderr", ShownPart::Last(0))),
            ("--5 web", ok("web", "stdout", ShownPart::Last(-5))),
            ("-f web", ok("web", "stdout", ShownPart::Follow)),
            ("", error("too few arguments", true)),
            ("-f a stdout b", error("too many arguments", true)),
            ("-f", error("tail requires process name", false)),
            ("web foo", error("bad channel 'foo'", false)),
            ("-n web", error("bad argument -n", false)),
            ("-n 100 web", error("bad channel 'web'", false)),
        ] {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(arguments(&words), want, "{line}");
        }
    }

    #[test]
    fn only_a_regular_file_is_a_log_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        assert!(matches!(open(path), LogLookup::Open(..)));
        assert!(matches!(open("/dev/null".into()), LogLookup::Open(..)));
        assert!(matches!(open("/nowhere".into()), LogLookup::NoFile));
        assert!(matches!(open("".into()), LogLookup::NoFile));
        for path in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/2", "/dev", "/dev/zero"] {
            assert!(matches!(open(path.into()), LogLookup::Unreadable), "{path}");
        }
    }

    #[test]
    fn a_variable_is_split_at_the_first_equals_sign() {
        let split = |text: &str| variable(OsStr::new(text));
        assert_eq!(split("A=b=c"), Some(("A".into(), "b=c".into())));
        assert_eq!(split("A="), Some(("A".into(), "".into())));
        assert_eq!(split("A"), None);
    }
}
