//! Warnings: names in a file that supervisord ignores without a message, and values that are valid but cause trouble in
//! a container. `--check` reports all of them; the most important ones are also logged when rsup starts.

use super::model::{LogFile, ProcessConfig};
use super::report::Severity;
use crate::config::grammar::python::repr;
use crate::config::sections::known_keys::{self, STDERR_KEYS, STDOUT_KEYS};
use crate::config::sections::section_reader::{Context, SectionReader};
use crate::config::sections::value::boolean;
use crate::policy::{AutoRestart, Level};

/// Limit on the unknown names that get a suggestion, because each search compares the name with all known names. A file
/// with more unknown names is not a supervisord configuration.
const MAX_SUGGESTIONS: usize = 100;

/// `docker stop` sends SIGKILL after this many seconds by default.
const DOCKER_STOP_TIMEOUT_SECS: i64 = 10;

/// Warns about every section and key that nothing reads, and logs their number when rsup starts.
pub(crate) fn warn_unknown_names(context: &mut Context<'_>) {
    let mut count = 0_usize;
    for section in context.sections {
        let keys = known_keys::of_section(section.name);
        if keys.is_none() {
            count = count.saturating_add(1);
            let hint = suggestion(count, || known_keys::nearest_section(section.name));
            context.reader(section).warn("", format!("unknown section{hint}"));
        }
        for (key, place) in &section.unknown {
            count = count.saturating_add(1);
            let hint = if key.starts_with('[') {
                ", a section header ends with ]".to_owned()
            } else {
                suggestion(count, || known_keys::nearest_key(key, keys.flatten()?))
            };
            let at = (section.name, *key);
            context.report.add(Severity::Warning, Some(*place), at, format!("unknown key{hint}"));
        }
    }
    if count > 0 {
        let plural = if count == 1 { "" } else { "s" };
        let text = format!("ignored {count} unknown key{plural} or section{plural}; --check lists them");
        context.log_at_start(Level::Warn, text);
    }
}

fn suggestion(count: usize, nearest: impl FnOnce() -> Option<&'static str>) -> String {
    let known = (count <= MAX_SUGGESTIONS).then(nearest).flatten();
    known.map_or_else(String::new, |known| format!(", did you mean {known}?"))
}

/// Returns whether an indented line with this name was probably meant as a section header or a key.
pub(crate) fn is_known_section_or_key(name: &str) -> bool {
    known_keys::of_section(name).is_some() || known_keys::is_program_key(name)
}

/// Warns about processes of a group that supervisord drops without a message, because another group or process has the
/// same name. The group defines `listed` processes, and `kept` of them remain.
pub(crate) fn warn_duplicate(reader: &mut SectionReader<'_, '_>, group: &str, listed: usize, kept: usize) {
    if listed > 0 && kept == 0 {
        let why = format!(
            "no process of this section runs, because another section also makes a group named {group}"
        );
        reader.warn("", why);
    } else if kept < listed {
        let why = "of the processes in this group that have the same name, only the last runs".to_owned();
        reader.warn("process_name", why);
    }
}

/// Warns about a section of a program. `process` is the first process that the section defines.
pub(crate) fn warn_process(reader: &mut SectionReader<'_, '_>, process: &ProcessConfig) {
    for (keys, file) in [(&STDOUT_KEYS, &process.stdout_logfile), (&STDERR_KEYS, &process.stderr_logfile)] {
        let sets_syslog = reader.raw(keys.syslog).is_some_and(|value| boolean(&value.text()) == Ok(true));
        match file {
            _ if sets_syslog => warn_syslog(reader, keys.syslog),
            LogFile::Syslog => warn_syslog(reader, keys.logfile),
            LogFile::Path(path) if uses_disk_space(path) => warn_unrotated_file(reader, keys.logfile, path),
            LogFile::Path(_) | LogFile::Auto | LogFile::None => {}
        }
    }
    warn_command(reader, process);
    let spec = &process.spec;
    if spec.autorestart == AutoRestart::Never && spec.startsecs > 0 && spec.startretries > 0 {
        let why = format!(
            "an exit within {} s (startsecs) counts as a failed start, which is retried even with autorestart=false; \
             a short job needs startsecs=0",
            spec.startsecs
        );
        reader.warn("autorestart", why);
    }
    if reader.raw("stopwaitsecs").is_some() && spec.stopwaitsecs >= DOCKER_STOP_TIMEOUT_SECS {
        let why = format!(
            "docker stop sends SIGKILL after {DOCKER_STOP_TIMEOUT_SECS} s by default; allow more time with docker stop \
             -t, stop_grace_period or terminationGracePeriodSeconds"
        );
        reader.warn("stopwaitsecs", why);
    }
}

/// Warns about a command that cannot be started. supervisord finds such a command only when it starts the program.
fn warn_command(reader: &mut SectionReader<'_, '_>, process: &ProcessConfig) {
    match &process.argv {
        Err(why) => reader.warn("command", format!("can't parse command {}: {why}", repr(&process.command))),
        Ok(words) if words.iter().next().is_none() => {
            // A value with % may only be empty because its expansion failed, or because a variable is empty here.
            if reader.raw("command").is_some_and(|value| !value.text().contains('%')) {
                reader.warn("command", "command is empty".to_owned());
            }
        }
        Ok(_) => {}
    }
}

/// Returns whether a log file at this path uses disk space. Paths below /dev and /proc are devices and descriptors.
fn uses_disk_space(path: &str) -> bool {
    !path.is_empty() && !path.starts_with("/dev/") && !path.starts_with("/proc/")
}

fn warn_unrotated_file(reader: &mut SectionReader<'_, '_>, key: &str, path: &str) {
    let why = format!("rsup appends to {path} and never rotates it");
    let text = format!("For [{}], {key}: {why}", reader.section.name);
    reader.context.log_at_start(Level::Info, text);
    reader.warn(key, why);
}

fn warn_syslog(reader: &mut SectionReader<'_, '_>, key: &str) {
    let why = "rsup does not write to syslog, the program inherits rsup's own stream";
    reader.warn_at_start(format!("For [{}], {key}: {why}", reader.section.name));
    reader.warn(key, why.to_owned());
}

/// Warns, with supervisord's message, that `redirect_stderr=true` overrides `stderr_logfile`.
pub(crate) fn warn_ignored_stderr_logfile(reader: &mut SectionReader<'_, '_>) {
    let why = "redirect_stderr=true but stderr_logfile has also been set to a filename, the filename has been ignored";
    reader.warn_at_start(format!("For [{}], {why}", reader.section.name));
    reader.warn("stderr_logfile", why.to_owned());
}
