//! `[program:x]`: the keys of a section, and the processes that the section defines. `[eventlistener:x]` and
//! `[fcgi-program:x]` have these keys too.
//!
//! | key | type | default |
//! |---|---|---|
//! | `command` | text | required |
//! | `process_name` | name | `%(program_name)s` |
//! | `numprocs`, `numprocs_start` | integer | 1, 0 |
//! | `priority` | integer | 999 |
//! | `autostart` | boolean | true |
//! | `autorestart` | boolean or `unexpected` | unexpected |
//! | `startsecs`, `startretries` | integer | 1, 3 |
//! | `exitcodes` | list of exit codes | 0 |
//! | `stopsignal` | signal | TERM |
//! | `stopwaitsecs` | integer | 10 |
//! | `stopasgroup` | boolean | false |
//! | `killasgroup` | boolean | the value of `stopasgroup` |
//! | `user` | `user` or `user:group` | none |
//! | `umask` | octal number | none |
//! | `directory` | text | none |
//! | `environment` | `KEY=VALUE` pairs | none |
//! | `serverurl` | text | AUTO |
//! | `redirect_stderr` | boolean | false |
//! | `stdout_logfile`, `stderr_logfile` | path, `AUTO`, `NONE` or `syslog` | AUTO |
//! | `stdout_logfile_maxbytes`, `stderr_logfile_maxbytes` | size | 50MB |
//! | `stdout_logfile_backups`, `stderr_logfile_backups` | integer | 10 |
//! | `stdout_syslog`, `stderr_syslog` | boolean | false |
//! | `shutdown_on` | `never`, `fatal` or `exited` | that of `[supervisord]`; never for an event listener |
//! | `startup_wait` | `running` or `exited` | exited if `autorestart=false` and `startsecs=0`, else running |
//! | `dependent_startup` and similar, `depends_on` | see `ordered_start.rs` | |
//!
//! The keys `*_events_enabled` (boolean, false) and `*_capture_maxbytes` (size, 0) have an effect if an event listener
//! wants the events. Source: supervisord's documentation, "`[program:x]` Section Settings"; `shutdown_on` and
//! `startup_wait` are rsup's own.
//!
//! Each process has its own number (`%(process_num)d`) and its own environment. So the keys that may use the number or
//! the environment are expanded anew for each process: `environment`, `directory`, the log files, `command` and
//! `process_name`.

use std::iter::repeat_n;
use std::rc::Rc;

use super::known_keys::{STDERR_KEYS, STDOUT_KEYS, StreamKeys};
use super::ordered_start;
use super::section_reader::{Context, SectionReader};
use super::value::{
    DEFAULT_PRIORITY, NUL_BYTE, auto_restart, boolean, byte_size, checked_name, exit_codes, integer,
    log_file, octal, parse_environment, server_url, shutdown_on, signal, startup_wait,
};
use crate::config::grammar::collections::{EnvMap, StableSort};
use crate::config::grammar::document::{Section, Value};
use crate::config::grammar::expand::{ExpansionVars, expand};
use crate::config::grammar::shlex;
use crate::config::model::{Listener, LogFile, ProcessConfig, ProcessKind, Rotation, Socket, StreamEvents};
use crate::config::warnings;
use crate::policy::{AutoRestart, ProcessSpec, ShutdownOn, Signal, StartupWait};

/// supervisord's default of `*_logfile_maxbytes`: 50MB.
const DEFAULT_MAX_BYTES: i64 = 50 * 1024 * 1024;
/// supervisord's default of `*_logfile_backups`.
const DEFAULT_BACKUPS: i64 = 10;

/// Values that all programs share.
pub(crate) struct ProgramDefaults<'a> {
    /// The variables for `%(ENV_X)s`: rsup's environment and the variables of `[supervisord] environment`. If both have
    /// a variable of the same name, the value in `[supervisord] environment` is used.
    pub(crate) variables: &'a EnvMap,
    /// The [`estimated_memory`] of `[supervisord] environment`, which every process inherits.
    pub(crate) environment_size: usize,
    /// The default of `exitcodes`, in one allocation for all processes.
    pub(crate) exitcodes: Rc<[u8]>,
    /// The default of `shutdown_on`.
    pub(crate) shutdown_on: ShutdownOn,
}

/// A section to read, and the group that its processes belong to.
pub(crate) struct ProgramSource<'a> {
    pub(crate) section: &'a Section<'a>,
    pub(crate) kind: ProcessKind,
    pub(crate) program_name: String,
    pub(crate) group_name: String,
    pub(crate) group_priority: i64,
    pub(crate) socket: Option<Socket>,
    pub(crate) listener: Option<Rc<Listener>>,
}

/// Adds the processes of a section to the end of `processes`. The added processes are sorted by name.
pub(crate) fn add_processes<'a>(
    context: &mut Context<'a>,
    defaults: &ProgramDefaults<'_>,
    source: &ProgramSource<'a>,
    processes: &mut Vec<ProcessConfig>,
) {
    let vars = ExpansionVars {
        host: Some(context.machine.host),
        program: Some(&source.program_name),
        group: Some(&source.group_name),
        ..context.base_vars(defaults.variables)
    };
    let mut reader = context.reader(source.section);
    let first = reader.value_or("numprocs_start", &vars, 0, integer);
    let count = reader.value_or("numprocs", &vars, 1, integer);
    let mut shared = shared_config(&mut reader, &vars, defaults, source);
    ordered_start::read_keys(&mut reader, &vars, count, &mut shared);
    if count > 0 {
        try_user_and_socket(&mut reader, &shared);
    }
    let process_name = unexpanded_process_name(&mut reader, count);
    if !reader.context.charge_processes(count) {
        reader.error("numprocs", format!("numprocs={count} makes more processes than a machine can run"));
        return;
    }
    let start = processes.len();
    // supervisord's integers are unlimited; here a number above i64::MAX becomes i64::MAX.
    let numbers = (0..count).map(|index| first.saturating_add(index));
    for (number, config) in numbers.zip(repeat_n(shared, usize::try_from(count).unwrap_or(0))) {
        let vars = ExpansionVars { process_num_and_numprocs: Some((number, count)), ..vars };
        let errors_before = reader.context.report.error_count();
        // A `ProcessConfig` is large: the remaining values are set in the vector, which saves a move.
        processes.push(config);
        if let Some(process) = processes.last_mut() {
            set_per_process_values(process, &mut reader, vars, defaults, &process_name);
        }
        // The other processes of the section have the same error, and one report of it is enough.
        if reader.context.report.error_count() > errors_before {
            break;
        }
    }
    if let Some(process) = processes.get(start) {
        let vars = ExpansionVars { program_environment: &process.environment, ..vars };
        warnings::warn_process(&mut reader, process, &vars);
    }
    if count > 1 {
        sort_by_name(processes, start);
    }
}

/// Estimates the bytes of memory that the command and the variables of a process take.
pub(crate) fn estimated_memory(command: &str, environment: &[(String, String)]) -> usize {
    let pair_size = size_of::<(String, String)>();
    let variables = environment
        .iter()
        .map(|(name, value)| name.len().saturating_add(value.len()).saturating_add(pair_size));
    // The command is kept twice: as text and split into words.
    let words = command.split_ascii_whitespace().count().saturating_mul(size_of::<String>());
    variables.sum::<usize>().saturating_add(command.len().saturating_mul(2)).saturating_add(words)
}

/// Sorts the processes with index `start` and above by name. supervisord sorts by priority first, but all of these
/// processes have the same priority.
fn sort_by_name(processes: &mut Vec<ProcessConfig>, start: usize) {
    let unsorted = processes.split_off(start);
    let mut order = StableSort::default();
    for process in &unsorted {
        order.push(0, process.name.clone());
    }
    processes.extend(order.apply(unsorted));
}

/// For `--check`: tries to change to the section's user, and to create its socket.
fn try_user_and_socket(reader: &mut SectionReader<'_, '_>, config: &ProcessConfig) {
    let user = config.user.as_deref();
    let users_obstacle = user
        .filter(|user| reader.context.check_user(user).is_ok())
        .and_then(|user| reader.context.try_program_user(user));
    if let Some(obstacle) = users_obstacle {
        reader.report_obstacle("user", obstacle);
    }
    let socket = config.socket.as_ref();
    if let Some(obstacle) = socket.and_then(|socket| reader.context.try_create_socket(socket, user)) {
        reader.report_obstacle("socket", obstacle);
    }
}

/// Reads the keys that have the same value for all processes of the section.
fn shared_config(
    reader: &mut SectionReader<'_, '_>,
    vars: &ExpansionVars<'_>,
    defaults: &ProgramDefaults<'_>,
    source: &ProgramSource<'_>,
) -> ProcessConfig {
    let mut spec = process_spec(reader, vars, defaults, source);
    let startup_wait = reader.value("startup_wait", vars, startup_wait);
    spec.startup_wait = startup_wait.unwrap_or(spec.startup_wait);
    if spec.stopasgroup && !spec.killasgroup {
        reader.error("killasgroup", "Cannot set stopasgroup=true and killasgroup=false".to_owned());
    }
    let serverurl = reader.text("serverurl", vars).and_then(|text| server_url(&text));
    // The environment of each process contains this value and the name of the group, and execve(2) cannot pass a NUL
    // byte.
    reject_nul(reader, "serverurl", serverurl.as_deref());
    if source.group_name.contains('\0') {
        reader.error("", format!("{NUL_BYTE} (the name of the group)"));
    }
    ProcessConfig {
        kind: source.kind,
        program: source.program_name.as_str().into(),
        group: source.group_name.clone(),
        name: String::new(),
        priority: spec.priority,
        startup_wait,
        spec,
        command: String::new(),
        argv: Ok(Vec::new()),
        directory: None,
        umask: reader.value("umask", vars, octal),
        user: user(reader, vars),
        environment: Vec::new(),
        serverurl,
        redirect_stderr: reader.value_or("redirect_stderr", vars, false, boolean),
        stdout_logfile: LogFile::Auto,
        stdout_rotation: rotation_of(reader, vars, &STDOUT_KEYS),
        stderr_logfile: LogFile::Auto,
        stderr_rotation: rotation_of(reader, vars, &STDERR_KEYS),
        stdout_events: read_stream_events(reader, vars, &STDOUT_KEYS),
        stderr_events: read_stream_events(reader, vars, &STDERR_KEYS),
        listener: source.listener.clone(),
        socket: source.socket.clone(),
    }
}

fn process_spec(
    reader: &mut SectionReader<'_, '_>,
    vars: &ExpansionVars<'_>,
    defaults: &ProgramDefaults<'_>,
    source: &ProgramSource<'_>,
) -> ProcessSpec {
    let stopasgroup = reader.value_or("stopasgroup", vars, false, boolean);
    let autorestart = reader.value_or("autorestart", vars, AutoRestart::Unexpected, auto_restart);
    let startsecs = reader.value_or("startsecs", vars, 1, integer);
    let priority = reader.value_or("priority", vars, DEFAULT_PRIORITY, integer);
    // With `startsecs=0`, a process is RUNNING at once. People set this key together with `autorestart=false` for
    // jobs that end, so such a process counts as up only when it has exited.
    let is_one_shot = autorestart == AutoRestart::Never && startsecs <= 0;
    let is_listener = source.kind == ProcessKind::EventListener;
    // `[supervisord] shutdown_on` is the default of the programs, but not of the event listeners.
    let default_shutdown_on = if is_listener { ShutdownOn::Never } else { defaults.shutdown_on };
    ProcessSpec {
        autostart: reader.value_or("autostart", vars, true, boolean),
        autorestart,
        startsecs,
        startretries: reader.value_or("startretries", vars, 3, integer),
        exitcodes: reader
            .value("exitcodes", vars, exit_codes)
            .unwrap_or_else(|| Rc::clone(&defaults.exitcodes)),
        stopsignal: reader.value_or("stopsignal", vars, Signal::TERM, signal),
        stopwaitsecs: reader.value_or("stopwaitsecs", vars, 10, integer),
        stopasgroup,
        killasgroup: reader.value_or("killasgroup", vars, stopasgroup, boolean),
        group_priority: source.group_priority,
        priority,
        startup_wait: if is_one_shot { StartupWait::Exited } else { StartupWait::Running },
        dependencies: Vec::new(),
        dependent_startup: false,
        start_rank: priority,
        shutdown_on: reader.value_or("shutdown_on", vars, default_shutdown_on, shutdown_on),
        is_listener,
    }
}

/// Reads `user` and checks that the user exists. Returns the text of the value and not a user ID, because the output of
/// `--print-config` must not depend on the user IDs of the machine.
fn user(reader: &mut SectionReader<'_, '_>, vars: &ExpansionVars<'_>) -> Option<String> {
    let user = reader.text("user", vars)?;
    if let Err(why) = reader.context.check_user(&user) {
        reader.error("user", why);
    }
    Some(user.into_owned())
}

/// Reads and checks `process_name` without expanding it. supervisord checks only this text, not the expanded name.
fn unexpanded_process_name(reader: &mut SectionReader<'_, '_>, numprocs: i64) -> String {
    let written = reader.raw("process_name").map_or("%(program_name)s".into(), Value::text);
    let name = checked_name(&written).unwrap_or_else(|why| {
        reader.error("process_name", why);
        String::new()
    });
    if numprocs > 1 && !written.contains("%(process_num)") {
        let why = "%(process_num) must be present within process_name when numprocs > 1";
        reader.error("process_name", why.to_owned());
    }
    name
}

/// Sets the values that may differ between the processes of one section. `vars` holds the number of the process.
fn set_per_process_values(
    process: &mut ProcessConfig,
    reader: &mut SectionReader<'_, '_>,
    vars: ExpansionVars<'_>,
    defaults: &ProgramDefaults<'_>,
    process_name: &str,
) {
    let environment = process_environment(reader, &vars);
    let vars = ExpansionVars { program_environment: &environment, ..vars };
    process.directory = reader.owned_text("directory", &vars);
    reject_nul(reader, "directory", process.directory.as_deref());
    process.stdout_logfile = log_destination_of(reader, &vars, &STDOUT_KEYS);
    process.stderr_logfile = log_destination_of(reader, &vars, &STDERR_KEYS);
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
    process.command = reader.owned_text("command", &vars).unwrap_or_default();
    reject_nul(reader, "command", Some(&process.command));
    process.argv = shlex::split(&process.command);
    process.name = expand(process_name, &vars, &"process_name").unwrap_or_else(|why| {
        reader.error("process_name", why);
        String::new()
    });
    reject_nul(reader, "process_name", Some(&process.name));
    let size = estimated_memory(&process.command, &environment).saturating_add(defaults.environment_size);
    if reader.context.charge_bytes(size) {
        process.environment = environment;
    }
}

fn process_environment(
    reader: &mut SectionReader<'_, '_>,
    vars: &ExpansionVars<'_>,
) -> Vec<(String, String)> {
    let Some(value) = reader.raw("environment") else { return Vec::new() };
    if !reader.context.charge_bytes(value.text().len()) {
        return Vec::new();
    }
    let text = value.text();
    let pairs =
        expand(&text, vars, &"environment").and_then(|expanded| parse_environment(&text, &expanded, vars));
    pairs.unwrap_or_else(|why| {
        reader.error("environment", why);
        Vec::new()
    })
}

/// Reports an error if a value contains a NUL byte. supervisord accepts the value, but can never start the program.
fn reject_nul(reader: &mut SectionReader<'_, '_>, key: &str, value: Option<&str>) {
    if value.is_some_and(|value| value.contains('\0')) {
        reader.error(key, NUL_BYTE.to_owned());
    }
}

/// Reads the keys about the rotation of a log file. As in supervisord, a negative value counts as 0.
fn rotation_of(reader: &mut SectionReader<'_, '_>, vars: &ExpansionVars<'_>, keys: &StreamKeys) -> Rotation {
    let max_bytes = reader.value_or(keys.logfile_maxbytes, vars, DEFAULT_MAX_BYTES, byte_size);
    let backups = reader.value_or(keys.logfile_backups, vars, DEFAULT_BACKUPS, integer);
    let at_least_zero = |number: i64| u64::try_from(number).unwrap_or(0);
    Rotation { max_bytes: at_least_zero(max_bytes), backups: at_least_zero(backups) }
}

/// Reads the keys about the events of a stream.
fn read_stream_events(
    reader: &mut SectionReader<'_, '_>,
    vars: &ExpansionVars<'_>,
    keys: &StreamKeys,
) -> StreamEvents {
    let capture_maxbytes = reader.value_or(keys.capture_maxbytes, vars, 0, byte_size);
    StreamEvents {
        enabled: reader.value_or(keys.events_enabled, vars, false, boolean),
        capture_maxbytes: u64::try_from(capture_maxbytes).unwrap_or(0),
    }
}

/// Reads where the log of stdout or stderr goes: the keys `*_logfile` and `*_syslog`. Like supervisord, rsup expands
/// `*_logfile` twice.
fn log_destination_of(
    reader: &mut SectionReader<'_, '_>,
    vars: &ExpansionVars<'_>,
    keys: &StreamKeys,
) -> LogFile {
    let expand_again_and_parse = |text: &str| expand(text, vars, &keys.logfile).map(|text| log_file(&text));
    let file = reader.value_or(keys.logfile, vars, LogFile::Auto, expand_again_and_parse);
    let syslog = reader.value_or(keys.syslog, vars, false, boolean);
    if let LogFile::Path(path) = &file {
        reject_nul(reader, keys.logfile, Some(path));
    }
    if syslog && file == LogFile::None { LogFile::Syslog } else { file }
}
