//! Warnings about a configuration file: about unknown sections and keys, which supervisord ignores without a message,
//! and about valid values that cause trouble in a container. `--check` reports all of them. The most important ones are
//! also logged when rsup starts.

use super::model::{LogFile, ProcessConfig};
use super::report::{SectionKey, Severity};
use crate::config::grammar::document::Value;
use crate::config::grammar::expand::{ExpansionVars, describe_expansion_cause};
use crate::config::grammar::python::repr;
use crate::config::grammar::shlex;
use crate::config::sections::known_keys::{self, STDERR_KEYS, STDOUT_KEYS};
use crate::config::sections::section_reader::{Context, SectionReader};
use crate::config::sections::value::boolean;
use crate::policy::{AutoRestart, Level};

/// Limit on the unknown names that get a suggestion, because each search compares the name with all known names. A file
/// with more unknown names is not a supervisord configuration.
const MAX_SUGGESTIONS: usize = 100;

/// `docker stop` sends SIGKILL after this many seconds by default.
const DOCKER_STOP_TIMEOUT_SECS: i64 = 10;

/// Warns about every unknown section and key. Also adds a line with their number to the lines that rsup logs when it
/// starts.
pub(crate) fn warn_unknown_names(context: &mut Context<'_>) {
    let mut unknown_name_count = 0_usize;
    for section in context.sections {
        let keys = known_keys::of_section(section.name);
        if keys.is_none() {
            unknown_name_count = unknown_name_count.saturating_add(1);
            let hint = suggestion(unknown_name_count, || known_keys::nearest_section(section.name));
            context.reader(section).warn("", format!("unknown section{hint}"));
        }
        for (key, place) in &section.unknown_keys {
            unknown_name_count = unknown_name_count.saturating_add(1);
            let hint = if key.starts_with('[') {
                ", a section header ends with ]".to_owned()
            } else {
                suggestion(unknown_name_count, || known_keys::nearest_key(key, keys.flatten()?))
            };
            let subject = SectionKey { section: section.name, key };
            context.report.add(Severity::Warning, Some(*place), subject, format!("unknown key{hint}"));
        }
    }
    if unknown_name_count > 0 {
        let plural = if unknown_name_count == 1 { "" } else { "s" };
        let text = format!(
            "ignored {unknown_name_count} unknown key{plural} or section{plural}; --check lists them"
        );
        context.log_at_start(Level::Warn, text);
    }
}

fn suggestion(unknown_name_count: usize, nearest: impl FnOnce() -> Option<&'static str>) -> String {
    let known = (unknown_name_count <= MAX_SUGGESTIONS).then(nearest).flatten();
    known.map_or_else(String::new, |known| format!(", did you mean {known}?"))
}

/// Returns whether an indented line with this name was probably meant as a section header or a key.
pub(crate) fn is_section_or_program_key(name: &str) -> bool {
    known_keys::of_section(name).is_some() || known_keys::is_program_key(name)
}

/// Warns if supervisord drops processes of a group without a message, because another group or process has the same
/// name. `listed` is the number of the group's processes, and `kept` is how many of them supervisord keeps.
pub(crate) fn warn_dropped_processes(
    reader: &mut SectionReader<'_, '_>,
    group: &str,
    listed: usize,
    kept: usize,
) {
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

/// Warns about a section of a program. `process` is the first process that the section defines. `vars` holds the names
/// that a `%(name)s` in the command may use, with their values. Only `process_num` and `numprocs`, which the command
/// may use too, are missing in `vars`.
pub(crate) fn warn_process(
    reader: &mut SectionReader<'_, '_>,
    process: &ProcessConfig,
    vars: &ExpansionVars<'_>,
) {
    for (keys, file) in [(&STDOUT_KEYS, &process.stdout_logfile), (&STDERR_KEYS, &process.stderr_logfile)] {
        let sets_syslog = reader.raw(keys.syslog).is_some_and(|value| boolean(&value.text()) == Ok(true));
        match file {
            _ if sets_syslog => warn_syslog(reader, keys.syslog),
            LogFile::Syslog => warn_syslog(reader, keys.logfile),
            LogFile::Path(_) | LogFile::Auto | LogFile::None => {}
        }
    }
    warn_command(reader, process, vars);
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

/// Warns about a command that cannot be started. supervisord reports such a command only when it starts the program.
fn warn_command(reader: &mut SectionReader<'_, '_>, process: &ProcessConfig, vars: &ExpansionVars<'_>) {
    match &process.argv {
        Err(why) => {
            let text = reader.raw("command").map(Value::text).unwrap_or_default();
            let cause = describe_expansion_cause(&text, vars, &|c| shlex::can_cause(why, c));
            reader.warn("command", format!("can't parse command {}: {why}{cause}", repr(&process.command)));
        }
        Ok(words) if words.is_empty() => {
            // A value that contains % gets no warning: perhaps its expansion failed, or a variable is empty only on
            // this machine.
            if reader.raw("command").is_some_and(|value| !value.text().contains('%')) {
                reader.warn("command", "command is empty".to_owned());
            }
        }
        Ok(_) => {}
    }
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

#[cfg(test)]
mod tests {
    use crate::config::tests::load_text;
    use crate::policy::Level;

    /// The warnings of a file, without the name of the file.
    fn warnings(text: &str) -> Vec<String> {
        let report = load_text(text).report;
        report.lines(true).map(|line| line.split_once(" warning: ").unwrap().1.to_owned()).collect()
    }

    fn warnings_of_program(keys: &str) -> Vec<String> {
        warnings(&format!("[program:x]\n{keys}\n"))
    }

    /// The lines that rsup logs when it starts with this file.
    fn notices(text: &str) -> Vec<(Level, String)> {
        load_text(text).notices.into_iter().map(|notice| (notice.level, notice.text)).collect()
    }

    #[test]
    fn unknown_names_are_listed_with_a_suggestion() {
        let text = "[Program:x]\n[mysqld]\nport=3306\n[program:y]\ncommand=c\ncomand=d\nfrobnicate=1\n";
        let want = [
            "[Program:x]: unknown section, did you mean program:?",
            "[mysqld]: unknown section",
            "[program:y] comand: unknown key, did you mean command?",
            "[program:y] frobnicate: unknown key",
        ];
        assert_eq!(warnings(text), want);
    }

    #[test]
    fn the_number_of_unknown_names_is_logged() {
        let logged = |text: &str| (Level::Warn, text.to_owned());
        assert_eq!(notices("[mysqld]\n"), [logged("ignored 1 unknown key or section; --check lists them")]);
        let two = "[mysqld]\n[program:y]\ncommand=c\nx=1\n";
        assert_eq!(notices(two), [logged("ignored 2 unknown keys or sections; --check lists them")]);
        assert_eq!(notices("[program:y]\ncommand=c\n"), []);
    }

    #[test]
    fn only_the_first_hundred_unknown_names_get_a_suggestion() {
        let lines: String =
            (0..150).map(|number| format!("comman{}=1\n", "d".repeat(number % 2 + 2))).collect();
        let found = warnings(&format!("[program:y]\ncommand=c\n{lines}"));
        assert_eq!(found.iter().filter(|line| line.contains("did you mean command?")).count(), 100);
    }

    #[test]
    fn a_program_that_causes_no_trouble_gets_no_warning() {
        for keys in [
            "",
            "autorestart=false\nstartsecs=0",
            "autorestart=false\nstartretries=0",
            "stopwaitsecs=9",
            "stdout_logfile=/dev/stdout\nstderr_logfile=/proc/self/fd/2",
            "stdout_logfile=NONE\nstderr_logfile=AUTO",
            "stdout_syslog=false",
        ] {
            assert_eq!(warnings_of_program(&format!("command=c\n{keys}")), [""; 0], "{keys}");
        }
    }

    #[test]
    fn keys_that_cause_trouble_in_a_container_get_a_warning() {
        let table = [
            (
                "command=c\nautorestart=false\nstartsecs=3",
                "autorestart: an exit within 3 s (startsecs) counts as a failed start, which is retried even with autorestart=false; a short job needs startsecs=0",
            ),
            (
                "command=c\nstopwaitsecs=10",
                "stopwaitsecs: docker stop sends SIGKILL after 10 s by default; allow more time with docker stop -t, stop_grace_period or terminationGracePeriodSeconds",
            ),
            (
                "command=c\nstdout_logfile=syslog",
                "stdout_logfile: rsup does not write to syslog, the program inherits rsup's own stream",
            ),
            (
                "command=c\nstderr_syslog=yes",
                "stderr_syslog: rsup does not write to syslog, the program inherits rsup's own stream",
            ),
            (
                "command=c\nredirect_stderr=true\nstderr_logfile=/x",
                "stderr_logfile: redirect_stderr=true but stderr_logfile has also been set to a filename, the filename has been ignored",
            ),
            ("command=", "command: command is empty"),
            ("command=c \\", "command: can't parse command 'c \\\\': No escaped character"),
        ];
        for (keys, want) in table {
            assert_eq!(warnings_of_program(keys), [format!("[program:x] {want}")]);
        }
    }

    #[test]
    fn an_empty_variable_as_the_command_gets_no_warning() {
        let text = "[program:x]\nenvironment=COMMAND=\"\"\ncommand=%(ENV_COMMAND)s\n";
        assert_eq!(warnings(text), [""; 0]);
    }

    #[test]
    fn the_processes_of_a_section_get_each_warning_once() {
        let keys =
            "command=c\nnumprocs=3\nprocess_name=%(process_num)s\nstdout_logfile=/x\nstderr_syslog=true";
        let text = format!("[program:x]\n{keys}\n");
        assert_eq!(warnings(&text).len(), 1);
        let want = [(
            Level::Warn,
            "For [program:x], stderr_syslog: rsup does not write to syslog, the program inherits rsup's own stream"
                .to_owned(),
        )];
        assert_eq!(notices(&text), want);
    }
}
