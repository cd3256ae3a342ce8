//! One section of a program to its processes: the keys, their defaults, and the names each may use.

use std::iter::repeat_n;
use std::rc::Rc;

use super::known_keys::{STDERR_KEYS, STDOUT_KEYS, StreamKeys};
use super::section_reader::{Context, SectionReader};
use super::value::{
    auto_restart, boolean, byte_size, exit_codes, integer, log_file, name, octal, server_url, shutdown_on,
    signal,
};
use crate::config::grammar::document::{Section, Value};
use crate::config::grammar::expand::{ExpansionVars, expand};
use crate::config::grammar::ordered::{EnvMap, StableSort};
use crate::config::grammar::shlex;
use crate::config::model::{LogFile, ProcessConfig, SectionKind, Socket, Words};
use crate::config::warnings;
use crate::policy::{AutoRestart, ProcessSpec, ShutdownOn, Signal};

/// What all programs start from.
pub(crate) struct ProgramDefaults<'a> {
    /// For `%(ENV_X)s`: rsup's environment and the next.
    pub(crate) variables: &'a EnvMap,
    /// About how many bytes `[supervisord] environment` takes, which every process gets.
    pub(crate) estimated_size: usize,
    /// For programs that do not say it.
    pub(crate) exitcodes: Rc<[u8]>,
    /// For programs that do not say it.
    pub(crate) shutdown_on: ShutdownOn,
}

/// Whose processes are wanted: a section, read for a group.
pub(crate) struct ProgramSource<'a> {
    pub(crate) section: &'a Section<'a>,
    pub(crate) kind: SectionKind,
    pub(crate) program_name: String,
    pub(crate) group_name: String,
    pub(crate) group_priority: i64,
    pub(crate) socket: Option<Socket>,
}

/// Adds the processes of a section in their order: by name, since they share the priority.
pub(crate) fn add_processes<'a>(
    context: &mut Context<'a>,
    defaults: &ProgramDefaults<'_>,
    source: &ProgramSource<'a>,
    out: &mut Vec<ProcessConfig>,
) {
    let common = context.base_vars(defaults.variables);
    let vars = ExpansionVars {
        host: Some(context.inputs.host),
        program: Some(&source.program_name),
        group: Some(&source.group_name),
        ..common
    };
    let mut reader = context.reader(source.section);
    let first = reader.value_or("numprocs_start", &vars, 0, integer);
    let count = reader.value_or("numprocs", &vars, 1, integer);
    let template = template(&mut reader, &vars, defaults, source);
    let process_name = process_name(&mut reader, count);
    if !reader.context.charge_processes(count) {
        reader.error("numprocs", format!("numprocs={count} makes more processes than a machine can run"));
        return;
    }
    let start = out.len();
    // supervisord's numbers have no end; these stay at the largest.
    let numbers = (0..count).map(|index| first.saturating_add(index));
    for (number, template) in numbers.zip(repeat_n(template, usize::try_from(count).unwrap_or(0))) {
        let vars = ExpansionVars { numbers: Some((number, count)), ..vars };
        let errors = reader.context.report.errors();
        // It is large: from here on it is not moved.
        out.push(template);
        if let Some(process) = out.last_mut() {
            complete(process, &mut reader, vars, defaults, &process_name);
        }
        // What is wrong with one is wrong with all.
        if reader.context.report.errors() > errors {
            break;
        }
    }
    if let Some(process) = out.get(start) {
        warnings::warn_process(&mut reader, process);
    }
    if count > 1 {
        sort(out, start);
    }
}

/// About how many bytes the words and variables of a process take.
pub(crate) fn estimated_size(command: &str, environment: &[(String, String)]) -> usize {
    let each = size_of::<(String, String)>();
    let variables =
        environment.iter().map(|(name, value)| name.len().saturating_add(value.len()).saturating_add(each));
    // The command is there twice, as text and as words.
    variables.sum::<usize>().saturating_add(command.len().saturating_mul(2))
}

/// Sorts what stands behind `start`.
fn sort(processes: &mut Vec<ProcessConfig>, start: usize) {
    let unsorted = processes.split_off(start);
    let mut order = StableSort::default();
    for process in &unsorted {
        order.push(0, process.name.clone());
    }
    processes.extend(order.apply(unsorted));
}

/// What the processes of a section share.
fn template(
    reader: &mut SectionReader<'_, '_>,
    vars: &ExpansionVars<'_>,
    defaults: &ProgramDefaults<'_>,
    source: &ProgramSource<'_>,
) -> ProcessConfig {
    let spec = spec(reader, vars, defaults, source.group_priority);
    let killasgroup = reader.value_or("killasgroup", vars, spec.stopasgroup, boolean);
    if spec.stopasgroup && !killasgroup {
        reader.error("killasgroup", "Cannot set stopasgroup=true and killasgroup=false".to_owned());
    }
    for stream in [&STDOUT_KEYS, &STDERR_KEYS] {
        let _without_effect = reader.value(stream.capture_maxbytes, vars, byte_size);
        let _without_effect = reader.value(stream.events_enabled, vars, boolean);
    }
    ProcessConfig {
        kind: source.kind,
        group: source.group_name.clone(),
        name: String::new(),
        spec,
        command: String::new(),
        argv: Ok(Words::default()),
        directory: None,
        umask: reader.value("umask", vars, octal),
        priority: reader.value_or("priority", vars, 999, integer),
        killasgroup,
        user: user(reader, vars),
        environment: Vec::new(),
        serverurl: reader.text("serverurl", vars).and_then(|text| server_url(&text)),
        redirect_stderr: reader.value_or("redirect_stderr", vars, false, boolean),
        stdout_logfile: LogFile::Auto,
        stderr_logfile: LogFile::Auto,
        socket: source.socket.clone(),
    }
}

fn spec(
    reader: &mut SectionReader<'_, '_>,
    vars: &ExpansionVars<'_>,
    defaults: &ProgramDefaults<'_>,
    group_priority: i64,
) -> ProcessSpec {
    ProcessSpec {
        autostart: reader.value_or("autostart", vars, true, boolean),
        autorestart: reader.value_or("autorestart", vars, AutoRestart::Unexpected, auto_restart),
        startsecs: reader.value_or("startsecs", vars, 1, integer),
        startretries: reader.value_or("startretries", vars, 3, integer),
        exitcodes: reader
            .value("exitcodes", vars, exit_codes)
            .unwrap_or_else(|| Rc::clone(&defaults.exitcodes)),
        stopsignal: reader.value_or("stopsignal", vars, Signal::TERM, signal),
        stopwaitsecs: reader.value_or("stopwaitsecs", vars, 10, integer),
        stopasgroup: reader.value_or("stopasgroup", vars, false, boolean),
        group_priority,
        shutdown_on: reader.value_or("shutdown_on", vars, defaults.shutdown_on, shutdown_on),
    }
}

/// `user`, as written, once it is known to exist.
fn user(reader: &mut SectionReader<'_, '_>, vars: &ExpansionVars<'_>) -> Option<String> {
    let user = reader.text("user", vars)?;
    if let Err(why) = reader.context.check_user(&user) {
        reader.error("user", why);
    }
    Some(user.into_owned())
}

/// `process_name` before its expansion: only this text is checked.
fn process_name(reader: &mut SectionReader<'_, '_>, numprocs: i64) -> String {
    let written = reader.raw("process_name").map_or("%(program_name)s".into(), Value::text);
    let name = name(&written).unwrap_or_else(|why| {
        reader.error("process_name", why);
        String::new()
    });
    if numprocs > 1 && !written.contains("%(process_num)") {
        let why = "%(process_num) must be present within process_name when numprocs > 1";
        reader.error("process_name", why.to_owned());
    }
    name
}

/// What may be another for each process. Its own variables can be used in all that follows them.
fn complete(
    process: &mut ProcessConfig,
    reader: &mut SectionReader<'_, '_>,
    vars: ExpansionVars<'_>,
    defaults: &ProgramDefaults<'_>,
    process_name: &str,
) {
    let own = own_environment(reader, &vars);
    let vars = ExpansionVars { own: &own, ..vars };
    process.directory = reader.string("directory", &vars);
    process.stdout_logfile = stream(reader, &vars, &STDOUT_KEYS);
    process.stderr_logfile = stream(reader, &vars, &STDERR_KEYS);
    if process.redirect_stderr {
        if matches!(process.stderr_logfile, LogFile::Path(_)) {
            warnings::warn_ignored_stderr_logfile(reader);
        }
        process.stderr_logfile = LogFile::None;
    }
    if reader.raw("command").is_none() {
        let section = &reader.section.name;
        reader.error("", format!("program section {section} does not specify a command"));
    }
    process.command = reader.string("command", &vars).unwrap_or_default();
    process.argv = shlex::split(&process.command);
    process.name = expand(process_name, &vars, "process_name").unwrap_or_else(|why| {
        reader.error("process_name", why);
        String::new()
    });
    if reader.context.charge(estimated_size(&process.command, &own).saturating_add(defaults.estimated_size)) {
        process.environment = own;
    }
}

fn own_environment(reader: &mut SectionReader<'_, '_>, vars: &ExpansionVars<'_>) -> Vec<(String, String)> {
    let Some(value) = reader.raw("environment") else { return Vec::new() };
    if !reader.context.charge(value.text().len()) {
        return Vec::new();
    }
    expand(&value.text(), vars, "environment").and_then(|text| shlex::pairs(&text)).unwrap_or_else(|why| {
        reader.error("environment", why);
        Vec::new()
    })
}

/// Where `stdout` or `stderr` goes. supervisord expands the file's name twice.
fn stream(reader: &mut SectionReader<'_, '_>, vars: &ExpansionVars<'_>, stream: &StreamKeys) -> LogFile {
    let again = |text: &str| expand(text, vars, stream.logfile).map(|text| log_file(&text));
    let file = reader.value_or(stream.logfile, vars, LogFile::Auto, again);
    let _without_effect = reader.value(stream.logfile_backups, vars, integer);
    let _without_effect = reader.value(stream.logfile_maxbytes, vars, byte_size);
    let syslog = reader.value_or(stream.syslog, vars, false, boolean);
    if syslog && file == LogFile::None { LogFile::Syslog } else { file }
}
