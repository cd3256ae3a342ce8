//! One section of a program to its processes: the keys, their defaults, and the names each may use.

use std::iter::repeat_n;
use std::rc::Rc;

use super::known_keys::{STDERR, STDOUT, Stream};
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
    pub(crate) weight: usize,
    /// For programs that do not say it.
    pub(crate) exitcodes: Rc<[u8]>,
    /// For programs that do not say it.
    pub(crate) shutdown_on: ShutdownOn,
}

/// Whose processes are wanted: a section, read for a group.
pub(crate) struct ProgramSource<'a> {
    pub(crate) section: &'a Section<'a>,
    pub(crate) kind: SectionKind,
    pub(crate) program: String,
    pub(crate) group: String,
    pub(crate) group_priority: i64,
    pub(crate) socket: Option<Socket>,
}

/// Adds the processes of a section in their order: by name, since they share the priority.
pub(crate) fn processes<'a>(
    context: &mut Context<'a>,
    base: &ProgramDefaults<'_>,
    origin: &ProgramSource<'a>,
    out: &mut Vec<ProcessConfig>,
) {
    let common = context.common(base.variables);
    let names = ExpansionVars {
        host: Some(context.inputs.host),
        program: Some(&origin.program),
        group: Some(&origin.group),
        ..common
    };
    let mut keys = context.reader(origin.section);
    let first = keys.value_or("numprocs_start", &names, 0, integer);
    let count = keys.value_or("numprocs", &names, 1, integer);
    let template = template(&mut keys, &names, base, origin);
    let process_name = process_name(&mut keys, count);
    if !keys.context.charge_processes(count) {
        keys.error("numprocs", format!("numprocs={count} makes more processes than a machine can run"));
        return;
    }
    let start = out.len();
    // supervisord's numbers have no end; these stay at the largest.
    let numbers = (0..count).map(|index| first.saturating_add(index));
    for (number, template) in numbers.zip(repeat_n(template, usize::try_from(count).unwrap_or(0))) {
        let names = ExpansionVars { numbers: Some((number, count)), ..names };
        let errors = keys.context.report.errors();
        // It is large: from here on it is not moved.
        out.push(template);
        if let Some(process) = out.last_mut() {
            complete(process, &mut keys, names, base, &process_name);
        }
        // What is wrong with one is wrong with all.
        if keys.context.report.errors() > errors {
            break;
        }
    }
    if let Some(process) = out.get(start) {
        warnings::process(&mut keys, process);
    }
    if count > 1 {
        sort(out, start);
    }
}

/// About how many bytes the words and variables of a process take.
pub(crate) fn weight(command: &str, environment: &[(String, String)]) -> usize {
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
    keys: &mut SectionReader<'_, '_>,
    names: &ExpansionVars<'_>,
    base: &ProgramDefaults<'_>,
    origin: &ProgramSource<'_>,
) -> ProcessConfig {
    let spec = spec(keys, names, base, origin.group_priority);
    let killasgroup = keys.value_or("killasgroup", names, spec.stopasgroup, boolean);
    if spec.stopasgroup && !killasgroup {
        keys.error("killasgroup", "Cannot set stopasgroup=true and killasgroup=false".to_owned());
    }
    for stream in [&STDOUT, &STDERR] {
        let _without_effect = keys.value(stream.capture, names, byte_size);
        let _without_effect = keys.value(stream.events, names, boolean);
    }
    ProcessConfig {
        kind: origin.kind,
        group: origin.group.clone(),
        name: String::new(),
        spec,
        command: String::new(),
        argv: Ok(Words::default()),
        directory: None,
        umask: keys.value("umask", names, octal),
        priority: keys.value_or("priority", names, 999, integer),
        killasgroup,
        user: user(keys, names),
        environment: Vec::new(),
        serverurl: keys.text("serverurl", names).and_then(|text| server_url(&text)),
        redirect_stderr: keys.value_or("redirect_stderr", names, false, boolean),
        stdout_logfile: LogFile::Auto,
        stderr_logfile: LogFile::Auto,
        socket: origin.socket.clone(),
    }
}

fn spec(
    keys: &mut SectionReader<'_, '_>,
    names: &ExpansionVars<'_>,
    base: &ProgramDefaults<'_>,
    group_priority: i64,
) -> ProcessSpec {
    ProcessSpec {
        autostart: keys.value_or("autostart", names, true, boolean),
        autorestart: keys.value_or("autorestart", names, AutoRestart::Unexpected, auto_restart),
        startsecs: keys.value_or("startsecs", names, 1, integer),
        startretries: keys.value_or("startretries", names, 3, integer),
        exitcodes: keys.value("exitcodes", names, exit_codes).unwrap_or_else(|| Rc::clone(&base.exitcodes)),
        stopsignal: keys.value_or("stopsignal", names, Signal::TERM, signal),
        stopwaitsecs: keys.value_or("stopwaitsecs", names, 10, integer),
        stopasgroup: keys.value_or("stopasgroup", names, false, boolean),
        group_priority,
        shutdown_on: keys.value_or("shutdown_on", names, base.shutdown_on, shutdown_on),
    }
}

/// `user`, as written, once it is known to exist.
fn user(keys: &mut SectionReader<'_, '_>, names: &ExpansionVars<'_>) -> Option<String> {
    let user = keys.text("user", names)?;
    if let Err(why) = keys.context.check_user(&user) {
        keys.error("user", why);
    }
    Some(user.into_owned())
}

/// `process_name` before its expansion: only this text is checked.
fn process_name(keys: &mut SectionReader<'_, '_>, numprocs: i64) -> String {
    let written = keys.raw("process_name").map_or("%(program_name)s".into(), Value::text);
    let name = name(&written).unwrap_or_else(|why| {
        keys.error("process_name", why);
        String::new()
    });
    if numprocs > 1 && !written.contains("%(process_num)") {
        let why = "%(process_num) must be present within process_name when numprocs > 1";
        keys.error("process_name", why.to_owned());
    }
    name
}

/// What may be another for each process. Its own variables can be used in all that follows them.
fn complete(
    process: &mut ProcessConfig,
    keys: &mut SectionReader<'_, '_>,
    names: ExpansionVars<'_>,
    base: &ProgramDefaults<'_>,
    process_name: &str,
) {
    let own = own_environment(keys, &names);
    let names = ExpansionVars { own: &own, ..names };
    process.directory = keys.owned("directory", &names);
    process.stdout_logfile = stream(keys, &names, &STDOUT);
    process.stderr_logfile = stream(keys, &names, &STDERR);
    if process.redirect_stderr {
        if matches!(process.stderr_logfile, LogFile::Path(_)) {
            warnings::ignored_stderr_logfile(keys);
        }
        process.stderr_logfile = LogFile::None;
    }
    if keys.raw("command").is_none() {
        let section = &keys.section.name;
        keys.error("", format!("program section {section} does not specify a command"));
    }
    process.command = keys.owned("command", &names).unwrap_or_default();
    process.argv = shlex::split(&process.command);
    process.name = expand(process_name, &names, "process_name").unwrap_or_else(|why| {
        keys.error("process_name", why);
        String::new()
    });
    if keys.context.charge(weight(&process.command, &own).saturating_add(base.weight)) {
        process.environment = own;
    }
}

fn own_environment(keys: &mut SectionReader<'_, '_>, names: &ExpansionVars<'_>) -> Vec<(String, String)> {
    let Some(value) = keys.raw("environment") else { return Vec::new() };
    if !keys.context.charge(value.text().len()) {
        return Vec::new();
    }
    expand(&value.text(), names, "environment").and_then(|text| shlex::pairs(&text)).unwrap_or_else(|why| {
        keys.error("environment", why);
        Vec::new()
    })
}

/// Where `stdout` or `stderr` goes. supervisord expands the file's name twice.
fn stream(keys: &mut SectionReader<'_, '_>, names: &ExpansionVars<'_>, stream: &Stream) -> LogFile {
    let again = |text: &str| expand(text, names, stream.logfile).map(|text| log_file(&text));
    let file = keys.value_or(stream.logfile, names, LogFile::Auto, again);
    let _without_effect = keys.value(stream.backups, names, integer);
    let _without_effect = keys.value(stream.maxbytes, names, byte_size);
    let syslog = keys.value_or(stream.syslog, names, false, boolean);
    if syslog && file == LogFile::None { LogFile::Syslog } else { file }
}
