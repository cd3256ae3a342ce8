//! One section of a program to its processes: the keys, their defaults, and the names each may use.

use std::iter::repeat_n;

use super::expand::{Item, Names, expand};
use super::ini::{Section, Value};
use super::keys::{STDERR, STDOUT, Stream};
use super::order::{Order, Pairs};
use super::section::{Context, Reader};
use super::value::{
    auto_restart, boolean, byte_size, exit_codes, integer, log_file, name, octal, server_url, shutdown_on,
    signal,
};
use super::{Kind, LogFile, Process, Socket, hints, shlex};
use crate::policy::{AutoRestart, ShutdownOn, Signal, Spec};

/// What all programs start from.
pub(super) struct Base<'a> {
    /// For `%(ENV_X)s`: rsup's environment and the next.
    pub(super) variables: &'a Pairs,
    /// `[supervisord] environment`.
    pub(super) environment: &'a [(String, String)],
    /// About how many bytes that takes.
    pub(super) weight: usize,
    /// For programs that do not say it.
    pub(super) shutdown_on: ShutdownOn,
}

/// Whose processes are wanted: a section, read for a group.
pub(super) struct Origin<'a> {
    pub(super) section: &'a Section<'a>,
    pub(super) kind: Kind,
    pub(super) group: String,
    pub(super) group_priority: i64,
    pub(super) socket: Option<Socket>,
}

/// The processes of a section in their order: by name, since they share the priority.
pub(super) fn processes<'a>(context: &mut Context<'a>, base: &Base<'_>, origin: &Origin<'a>) -> Vec<Process> {
    let common = context.common(base.variables);
    let host = Item::Text(context.inputs.host);
    let mut keys = context.reader(origin.section);
    let Some(program) = keys.own_name() else { return Vec::new() };
    let names = common.with(&[
        ("host_node_name", host),
        ("program_name", Item::Text(&program)),
        ("group_name", Item::Text(&origin.group)),
    ]);
    let first = keys.value_or("numprocs_start", &names, 0, integer);
    let count = keys.value_or("numprocs", &names, 1, integer);
    let template = template(&mut keys, &names, base, origin);
    let process_name = process_name(&mut keys, count);
    if !keys.context.admit(count) {
        keys.error("numprocs", format!("numprocs={count} makes more processes than a machine can run"));
        return Vec::new();
    }
    let count_of_all = usize::try_from(count).unwrap_or(0);
    // Just as much as is needed: a vector that grows by itself begins with room for four, and most have one.
    let mut out = Vec::with_capacity(count_of_all);
    for (number, template) in (first..).zip(repeat_n(template, count_of_all)) {
        let names = names.clone().with(&[("process_num", Item::Int(number)), ("numprocs", Item::Int(count))]);
        let errors = keys.context.report.errors();
        let process = process(&mut keys, names, base, template, &process_name);
        out.push(process);
        // What is wrong with one is wrong with all.
        if keys.context.report.errors() > errors {
            break;
        }
    }
    if let Some(process) = out.first() {
        hints::process(&mut keys, process);
    }
    sorted(out)
}

/// About how many bytes the words and variables of a process take.
pub(super) fn weight(argv: &[String], environment: &[(String, String)]) -> usize {
    let words = argv.iter().map(String::len);
    let variables = environment.iter().map(|(name, value)| name.len().saturating_add(value.len()));
    let parts = argv.len().saturating_add(environment.len());
    words.chain(variables).sum::<usize>().saturating_add(parts.saturating_mul(size_of::<String>()))
}

fn sorted(processes: Vec<Process>) -> Vec<Process> {
    if processes.len() < 2 {
        return processes;
    }
    let mut order = Order::default();
    for process in &processes {
        order.push(0, process.name.clone());
    }
    order.apply(processes).collect()
}

/// What the processes of a section share.
fn template(keys: &mut Reader<'_, '_>, names: &Names<'_>, base: &Base<'_>, origin: &Origin<'_>) -> Process {
    let spec = spec(keys, names, base, origin.group_priority);
    let killasgroup = keys.value_or("killasgroup", names, spec.stopasgroup, boolean);
    if spec.stopasgroup && !killasgroup {
        keys.error("killasgroup", "Cannot set stopasgroup=true and killasgroup=false".to_owned());
    }
    for stream in [&STDOUT, &STDERR] {
        let _without_effect = keys.value(stream.capture, names, byte_size);
        let _without_effect = keys.value(stream.events, names, boolean);
    }
    Process {
        kind: origin.kind,
        group: origin.group.clone(),
        name: String::new(),
        spec,
        command: String::new(),
        argv: Ok(Vec::new()),
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

fn spec(keys: &mut Reader<'_, '_>, names: &Names<'_>, base: &Base<'_>, group_priority: i64) -> Spec {
    Spec {
        autostart: keys.value_or("autostart", names, true, boolean),
        autorestart: keys.value_or("autorestart", names, AutoRestart::Unexpected, auto_restart),
        startsecs: keys.value_or("startsecs", names, 1, integer),
        startretries: keys.value_or("startretries", names, 3, integer),
        exitcodes: keys.value("exitcodes", names, exit_codes).unwrap_or_else(|| vec![0]),
        stopsignal: keys.value_or("stopsignal", names, Signal::TERM, signal),
        stopwaitsecs: keys.value_or("stopwaitsecs", names, 10, integer),
        stopasgroup: keys.value_or("stopasgroup", names, false, boolean),
        group_priority,
        shutdown_on: keys.value_or("shutdown_on", names, base.shutdown_on, shutdown_on),
    }
}

/// `user`, as written, once it is known to exist.
fn user(keys: &mut Reader<'_, '_>, names: &Names<'_>) -> Option<String> {
    let user = keys.text("user", names)?;
    if let Err(why) = keys.context.check_user(&user) {
        keys.error("user", why);
    }
    Some(user.into_owned())
}

/// `process_name` before its expansion: only this text is checked.
fn process_name(keys: &mut Reader<'_, '_>, numprocs: i64) -> String {
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

/// One process. Its own variables can be used in all that follows them.
fn process(
    keys: &mut Reader<'_, '_>,
    names: Names<'_>,
    base: &Base<'_>,
    mut process: Process,
    process_name: &str,
) -> Process {
    let own = own_environment(keys, &names);
    let names = Names { own: &own, ..names };
    process.directory = keys.owned("directory", &names);
    process.stdout_logfile = stream(keys, &names, &STDOUT);
    process.stderr_logfile = stream(keys, &names, &STDERR);
    if process.redirect_stderr {
        if matches!(process.stderr_logfile, LogFile::Path(_)) {
            hints::ignored_stderr_logfile(keys);
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
    let argv = process.argv.as_deref().unwrap_or(&[]);
    if keys.context.has_room(weight(argv, &own).saturating_add(base.weight)) {
        process.environment = shlex::overlay(base.environment, own);
    }
    process
}

fn own_environment(keys: &mut Reader<'_, '_>, names: &Names<'_>) -> Vec<(String, String)> {
    let Some(value) = keys.raw("environment") else { return Vec::new() };
    if !keys.context.has_room(value.text().len()) {
        return Vec::new();
    }
    expand(&value.text(), names, "environment").and_then(|text| shlex::pairs(&text)).unwrap_or_else(|why| {
        keys.error("environment", why);
        Vec::new()
    })
}

/// Where `stdout` or `stderr` goes. supervisord expands the file's name twice.
fn stream(keys: &mut Reader<'_, '_>, names: &Names<'_>, stream: &Stream) -> LogFile {
    let again = |text: &str| expand(text, names, stream.logfile).map(|text| log_file(&text));
    let file = keys.value_or(stream.logfile, names, LogFile::Auto, again);
    let _without_effect = keys.value(stream.backups, names, integer);
    let _without_effect = keys.value(stream.maxbytes, names, byte_size);
    let syslog = keys.value_or(stream.syslog, names, false, boolean);
    if syslog && file == LogFile::None { LogFile::Syslog } else { file }
}
