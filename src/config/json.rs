//! The configuration as JSON, for `--print-config`.

use super::model::{Config, LogFile, OutputMode, ProcessConfig, ProcessKind, Startup, Supervisord};
use crate::config::grammar::collections::{EnvMap, StableSort};
use crate::json_string;
use crate::policy::{AutoRestart, Dependency, ShutdownOn, StartupWait, StateName};

impl Config {
    /// Returns the configuration as JSON with the key names of the file. Some keys are left out, for example `pidfile`
    /// and `events`. Users, commands and directories are not looked up, so that the result does not depend on which of
    /// them exist on this machine.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut programs =
            self.in_start_order().into_iter().map(|process| program(process, &self.supervisord));
        let mut json = JsonObject::default();
        json.raw("programs", &array(&mut programs));
        json.raw("supervisord", &supervisord(&self.supervisord));
        json.finish() + "\n"
    }

    /// Returns the programs and the event listeners in the order in which supervisord starts them.
    fn in_start_order(&self) -> Vec<&ProcessConfig> {
        let all: Vec<_> = self.processes.iter().chain(&self.replaced_listeners).collect();
        let mut sorted = StableSort::default();
        for process in &all {
            sorted.push(process.spec.group_priority, process.group.clone());
        }
        sorted.apply(all).collect()
    }
}

fn program(process: &ProcessConfig, supervisord: &Supervisord) -> String {
    let spec = &process.spec;
    let mut json = JsonObject::default();
    json.text("group", &process.group);
    json.text("name", &process.name);
    json.text("kind", kind(process.kind));
    json.text("command", &process.command);
    match &process.argv {
        Ok(argv) => json.raw("argv", &array(&mut argv.iter().map(|word| string(word)))),
        Err(why) => {
            json.raw("argv", "null");
            json.text("argv_error", why);
        }
    }
    json.text_or_null("directory", process.directory.as_deref());
    json.number("umask", process.umask);
    json.number("priority", Some(process.priority));
    json.number("group_priority", Some(spec.group_priority));
    json.flag("autostart", spec.autostart);
    json.text("autorestart", auto_restart(spec.autorestart));
    json.number("startsecs", Some(spec.startsecs));
    json.number("startretries", Some(spec.startretries));
    json.raw("exitcodes", &array(&mut spec.exitcodes.iter().map(u8::to_string)));
    json.number("stopsignal", Some(spec.stopsignal.number()));
    json.number("stopwaitsecs", Some(spec.stopwaitsecs));
    json.flag("stopasgroup", spec.stopasgroup);
    json.flag("killasgroup", spec.killasgroup);
    json.text_or_null("user", process.user.as_deref());
    let mut variables = EnvMap::default();
    variables.set_all(&supervisord.environment);
    variables.set_all(&process.environment);
    json.raw("environment", &environment(variables.as_slice()));
    json.text_or_null("serverurl", process.serverurl.as_deref());
    json.flag("redirect_stderr", process.redirect_stderr);
    json.text_or_null("stdout_logfile", log_file(&process.stdout_logfile));
    json.number("stdout_logfile_maxbytes", Some(process.stdout_rotation.max_bytes));
    json.number("stdout_logfile_backups", Some(process.stdout_rotation.backups));
    json.text_or_null("stderr_logfile", log_file(&process.stderr_logfile));
    json.number("stderr_logfile_maxbytes", Some(process.stderr_rotation.max_bytes));
    json.number("stderr_logfile_backups", Some(process.stderr_rotation.backups));
    json.text("shutdown_on", shutdown_on(spec.shutdown_on));
    if spec.dependent_startup {
        json.flag("dependent_startup", true);
    }
    if !spec.dependencies.is_empty() {
        json.raw("waits_for", &array(&mut spec.dependencies.iter().map(dependency)));
    }
    if let Some(wait) = process.startup_wait {
        json.text("startup_wait", startup_wait(wait));
    }
    if let Some(socket) = &process.socket {
        json.text("socket", &socket.address.to_string());
    }
    json.finish()
}

fn dependency(dependency: &Dependency) -> String {
    let is_listed = |state: &StateName| dependency.states.contains(state);
    let mut states = StateName::ALL.into_iter().filter(is_listed).map(|state| string(state.name()));
    let mut json = JsonObject::default();
    json.text("program", &dependency.name);
    json.raw("states", &array(&mut states));
    json.finish()
}

fn supervisord(supervisord: &Supervisord) -> String {
    let mut json = JsonObject::default();
    json.flag("nodaemon", supervisord.nodaemon);
    json.flag("silent", supervisord.silent);
    json.text_or_null("user", supervisord.user.as_deref());
    json.number("umask", Some(supervisord.umask));
    json.text_or_null("directory", supervisord.directory.as_deref());
    json.text("loglevel", supervisord.loglevel.name());
    json.number("minfds", Some(supervisord.minfds));
    json.number("minprocs", Some(supervisord.minprocs));
    json.text("identifier", &supervisord.identifier);
    json.raw("environment", &environment(&supervisord.environment));
    json.text("shutdown_on", shutdown_on(supervisord.shutdown_on));
    json.number("stop_timeout", supervisord.stop_timeout);
    json.text("output", output_mode(supervisord.output));
    json.text("startup", startup(supervisord.startup));
    json.finish()
}

fn environment(pairs: &[(String, String)]) -> String {
    let mut json = JsonObject::default();
    for (name, value) in pairs {
        json.text(name, value);
    }
    json.finish()
}

fn kind(kind: ProcessKind) -> &'static str {
    match kind {
        ProcessKind::Program => "program",
        ProcessKind::EventListener => "eventlistener",
        ProcessKind::FcgiProgram => "fcgi",
    }
}

fn auto_restart(restart: AutoRestart) -> &'static str {
    match restart {
        AutoRestart::Never => "false",
        AutoRestart::Unexpected => "unexpected",
        AutoRestart::Always => "true",
    }
}

fn output_mode(mode: OutputMode) -> &'static str {
    match mode {
        OutputMode::Direct => "direct",
        OutputMode::Lines => "lines",
        OutputMode::Prefix => "prefix",
        OutputMode::Json => "json",
    }
}

fn startup(startup: Startup) -> &'static str {
    match startup {
        Startup::Parallel => "parallel",
        Startup::Ordered => "ordered",
    }
}

fn startup_wait(wait: StartupWait) -> &'static str {
    match wait {
        StartupWait::Running => "running",
        StartupWait::Exited => "exited",
    }
}

fn shutdown_on(on: ShutdownOn) -> &'static str {
    match on {
        ShutdownOn::Never => "never",
        ShutdownOn::Fatal => "fatal",
        ShutdownOn::Exited => "exited",
    }
}

fn log_file(file: &LogFile) -> Option<&str> {
    match file {
        LogFile::Auto => Some("AUTO"),
        LogFile::None | LogFile::Syslog => None,
        LogFile::Path(path) => Some(path),
    }
}

/// A JSON object that is being written. The text has no closing brace yet, and is empty until the first member is
/// added.
#[derive(Default)]
struct JsonObject(String);

impl JsonObject {
    /// Adds a member whose value is JSON already.
    fn raw(&mut self, key: &str, json: &str) {
        self.0.push_str(if self.0.is_empty() { "{" } else { ", " });
        self.0.push_str(&string(key));
        self.0.push_str(": ");
        self.0.push_str(json);
    }

    fn text(&mut self, key: &str, text: &str) {
        self.raw(key, &string(text));
    }

    fn text_or_null(&mut self, key: &str, text: Option<&str>) {
        self.raw(key, &text.map_or_else(|| "null".to_owned(), string));
    }

    fn number<T: ToString>(&mut self, key: &str, number: Option<T>) {
        self.raw(key, &number.map_or_else(|| "null".to_owned(), |number| number.to_string()));
    }

    fn flag(&mut self, key: &str, flag: bool) {
        self.raw(key, if flag { "true" } else { "false" });
    }

    fn finish(self) -> String {
        if self.0.is_empty() { "{}".to_owned() } else { self.0 + "}" }
    }
}

fn array(items: &mut dyn Iterator<Item = String>) -> String {
    let items: Vec<_> = items.collect();
    format!("[{}]", items.join(", "))
}

/// Quotes a JSON string.
fn string(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len().saturating_add(2));
    json_string::append(&mut out, text.as_bytes());
    // `json_string::append` writes only UTF-8, because `text` is UTF-8. So the conversion cannot fail.
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_items_are_separated_by_commas() {
        assert_eq!(JsonObject::default().finish(), "{}");
        let mut json = JsonObject::default();
        json.text("a\"b", "x\ty");
        json.text_or_null("none", None);
        json.number("mask", Some(0o22));
        json.number("none", None::<i64>);
        json.flag("flag", true);
        assert_eq!(
            json.finish(),
            r#"{"a\"b": "x\u0009y", "none": null, "mask": 18, "none": null, "flag": true}"#
        );
        assert_eq!(array(&mut std::iter::empty()), "[]");
        assert_eq!(array(&mut ["1", "2"].map(str::to_owned).into_iter()), "[1, 2]");
    }
}
