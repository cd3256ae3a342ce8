//! Warnings: what supervisord ignores without a word, and what it accepts but bites in a container.

use super::model::{LogFile, ProcessConfig};
use super::report::Severity;
use crate::config::grammar::python::repr;
use crate::config::sections::known_keys::{self, STDERR_KEYS, STDOUT_KEYS};
use crate::config::sections::section_reader::{Context, SectionReader};
use crate::config::sections::value::boolean;
use crate::policy::{AutoRestart, Level};

/// So many unknown keys are worth a suggestion; a file with more is no configuration.
const MAX_SUGGESTIONS: usize = 100;
/// `docker stop` kills after so many seconds.
const DOCKER_STOP_TIMEOUT_SECS: i64 = 10;

/// Sections and keys that nothing reads: a warning for each, and a line at start that counts them.
pub(crate) fn warn_unknown_names(context: &mut Context<'_>) {
    let mut count = 0_usize;
    for section in context.sections {
        let known = known_keys::of_section(section.name);
        if known.is_none() {
            count = count.saturating_add(1);
            let hint = suggestion(count, || known_keys::nearest_section(section.name));
            context.reader(section).warn("", format!("unknown section{hint}"));
        }
        for (key, place) in &section.unknown {
            count = count.saturating_add(1);
            let hint = if key.starts_with('[') {
                ", a section's header ends with ]".to_owned()
            } else {
                suggestion(count, || known_keys::nearest_key(key, known.flatten()?))
            };
            let at = (section.name, *key);
            context.report.add(Severity::Warning, Some(*place), at, format!("unknown key{hint}"));
        }
    }
    if count > 0 {
        let plural = if count == 1 { "" } else { "s" };
        let text = format!("ignored {count} unknown key{plural} or section{plural}; --check names them");
        context.log_at_start(Level::Warn, text);
    }
}

/// Whether the name of a section or a key, which stands where it has no effect, was meant to have some.
pub(crate) fn is_known_section_or_key(name: &str) -> bool {
    known_keys::of_section(name).is_some() || known_keys::is_program_key(name)
}

/// Processes that supervisord drops without a word, since it could not tell them from others.
pub(crate) fn warn_duplicate(reader: &mut SectionReader<'_, '_>, group: &str, listed: usize, kept: usize) {
    if listed > 0 && kept == 0 {
        let why = format!("none of it is run, another section makes a group of the name {group}");
        reader.warn("", why);
    } else if kept < listed {
        let why = "of processes with one name in a group only the last is run".to_owned();
        reader.warn("process_name", why);
    }
}

fn suggestion(count: usize, nearest: impl FnOnce() -> Option<&'static str>) -> String {
    let known = (count <= MAX_SUGGESTIONS).then(nearest).flatten();
    known.map_or_else(String::new, |known| format!(", did you mean {known}?"))
}

/// What of a program deserves a word, going by the first of its processes.
pub(crate) fn warn_process(reader: &mut SectionReader<'_, '_>, process: &ProcessConfig) {
    for (stream, file) in [(&STDOUT_KEYS, &process.stdout_logfile), (&STDERR_KEYS, &process.stderr_logfile)] {
        let by_key = reader.raw(stream.syslog).is_some_and(|value| boolean(&value.text()) == Ok(true));
        match file {
            _ if by_key => warn_syslog(reader, stream.syslog),
            LogFile::Syslog => warn_syslog(reader, stream.logfile),
            LogFile::Path(path) if is_regular_file_path(path) => {
                warn_unrotated_file(reader, stream.logfile, path)
            }
            LogFile::Path(_) | LogFile::Auto | LogFile::None => {}
        }
    }
    match &process.argv {
        Err(why) => reader.warn("command", format!("can't parse command {}: {why}", repr(&process.command))),
        // What was to be expanded may have failed, and with other variables it is something.
        Ok(words) if words.iter().next().is_none() => {
            if reader.raw("command").is_some_and(|value| !value.text().contains('%')) {
                reader.warn("command", "command is empty".to_owned());
            }
        }
        Ok(_) => {}
    }
    let spec = &process.spec;
    if spec.autorestart == AutoRestart::Never && spec.startsecs > 0 && spec.startretries > 0 {
        let why = format!(
            "an exit within startsecs={} is a failed start and tried again, also with autorestart=false; \
             a job that ends sooner needs startsecs=0",
            spec.startsecs
        );
        reader.warn("autorestart", why);
    }
    if reader.raw("stopwaitsecs").is_some() && spec.stopwaitsecs >= DOCKER_STOP_TIMEOUT_SECS {
        let why = format!(
            "docker stop kills everything after {DOCKER_STOP_TIMEOUT_SECS} s unless told otherwise (docker stop -t, \
             stop_grace_period, terminationGracePeriodSeconds)"
        );
        reader.warn("stopwaitsecs", why);
    }
}

/// Whether a file takes room as it is written; devices and what stands for descriptors do not.
fn is_regular_file_path(path: &str) -> bool {
    !path.is_empty() && !path.starts_with("/dev/") && !path.starts_with("/proc/")
}

fn warn_unrotated_file(reader: &mut SectionReader<'_, '_>, key: &str, path: &str) {
    let why = format!("{path} is appended to and never rotated");
    let text = format!("For [{}], {key}: {why}", reader.section.name);
    reader.context.log_at_start(Level::Info, text);
    reader.warn(key, why);
}

fn warn_syslog(reader: &mut SectionReader<'_, '_>, key: &str) {
    let why = "syslog is not written to, the program inherits rsup's own stream";
    reader.warn_at_start(format!("For [{}], {key}: {why}", reader.section.name));
    reader.warn(key, why.to_owned());
}

/// supervisord's warning about a `stderr_logfile` beside `redirect_stderr`.
pub(crate) fn warn_ignored_stderr_logfile(reader: &mut SectionReader<'_, '_>) {
    let why = "redirect_stderr=true but stderr_logfile has also been set to a filename, the filename has been ignored";
    reader.warn_at_start(format!("For [{}], {why}", reader.section.name));
    reader.warn("stderr_logfile", why.to_owned());
}
