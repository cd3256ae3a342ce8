//! `--print-config`.

use super::model::{Config, LogFile, ProcessConfig, SectionKind, Supervisord};
use crate::config::grammar::ordered::{EnvMap, StableSort};
use crate::policy::{AutoRestart, ShutdownOn};

impl Config {
    /// The whole configuration as JSON, with supervisord's key names; nothing of the machine is looked up.
    #[must_use]
    pub fn to_json(&self) -> String {
        let programs =
            array(self.in_start_order().into_iter().map(|process| program(process, &self.supervisord)));
        let mut out = Object::default();
        out.raw("programs", &programs);
        out.raw("supervisord", &supervisord(&self.supervisord));
        out.finish() + "\n"
    }

    /// The listeners among the other processes, where supervisord would start them.
    fn in_start_order(&self) -> Vec<&ProcessConfig> {
        let all: Vec<_> = self.processes.iter().chain(&self.listeners).collect();
        let mut order = StableSort::default();
        for process in &all {
            order.push(process.spec.group_priority, process.group.clone());
        }
        order.apply(all).collect()
    }
}

fn program(process: &ProcessConfig, all: &Supervisord) -> String {
    let spec = &process.spec;
    let mut out = Object::default();
    out.text("group", &process.group);
    out.text("name", &process.name);
    out.text("kind", kind(process.kind));
    out.text("command", &process.command);
    match &process.argv {
        Ok(argv) => out.raw("argv", &array(argv.iter().map(string))),
        Err(why) => {
            out.raw("argv", "null");
            out.text("argv_error", why);
        }
    }
    out.optional("directory", process.directory.as_deref());
    out.number("umask", process.umask);
    out.number("priority", Some(process.priority));
    out.number("group_priority", Some(spec.group_priority));
    out.flag("autostart", spec.autostart);
    out.text("autorestart", auto_restart(spec.autorestart));
    out.number("startsecs", Some(spec.startsecs));
    out.number("startretries", Some(spec.startretries));
    out.raw("exitcodes", &array(spec.exitcodes.iter().map(u8::to_string)));
    out.number("stopsignal", Some(spec.stopsignal.number()));
    out.number("stopwaitsecs", Some(spec.stopwaitsecs));
    out.flag("stopasgroup", spec.stopasgroup);
    out.flag("killasgroup", process.killasgroup);
    out.optional("user", process.user.as_deref());
    let mut variables = EnvMap::default();
    variables.set_all(&all.environment);
    variables.set_all(&process.environment);
    out.raw("environment", &environment(variables.as_slice()));
    out.optional("serverurl", process.serverurl.as_deref());
    out.flag("redirect_stderr", process.redirect_stderr);
    out.optional("stdout_logfile", log_file(&process.stdout_logfile));
    out.optional("stderr_logfile", log_file(&process.stderr_logfile));
    out.text("shutdown_on", shutdown_on(spec.shutdown_on));
    if let Some(socket) = &process.socket {
        out.text("socket", &socket.address.to_string());
    }
    out.finish()
}

fn supervisord(supervisord: &Supervisord) -> String {
    let mut out = Object::default();
    out.flag("nodaemon", supervisord.nodaemon);
    out.flag("silent", supervisord.silent);
    out.optional("user", supervisord.user.as_deref());
    out.number("umask", Some(supervisord.umask));
    out.optional("directory", supervisord.directory.as_deref());
    out.text("loglevel", supervisord.loglevel.name());
    out.number("minfds", Some(supervisord.minfds));
    out.number("minprocs", Some(supervisord.minprocs));
    out.text("identifier", &supervisord.identifier);
    out.raw("environment", &environment(&supervisord.environment));
    out.text("shutdown_on", shutdown_on(supervisord.shutdown_on));
    out.number("stop_timeout", supervisord.stop_timeout);
    out.finish()
}

fn environment(pairs: &[(String, String)]) -> String {
    let mut out = Object::default();
    for (name, value) in pairs {
        out.text(name, value);
    }
    out.finish()
}

fn kind(kind: SectionKind) -> &'static str {
    match kind {
        SectionKind::Program => "program",
        SectionKind::EventListener => "eventlistener",
        SectionKind::FcgiProgram => "fcgi",
    }
}

fn auto_restart(restart: AutoRestart) -> &'static str {
    match restart {
        AutoRestart::Never => "false",
        AutoRestart::Unexpected => "unexpected",
        AutoRestart::Always => "true",
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

/// A JSON object under construction.
#[derive(Default)]
struct Object(String);

impl Object {
    fn raw(&mut self, key: &str, json: &str) {
        self.0.push_str(if self.0.is_empty() { "{" } else { ", " });
        self.0.push_str(&string(key));
        self.0.push_str(": ");
        self.0.push_str(json);
    }

    fn text(&mut self, key: &str, text: &str) {
        self.raw(key, &string(text));
    }

    fn optional(&mut self, key: &str, text: Option<&str>) {
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

fn array(items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.collect();
    format!("[{}]", items.join(", "))
}

/// A JSON string.
fn string(text: &str) -> String {
    let mut out = String::with_capacity(text.len().saturating_add(2));
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\0'..='\x1f' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}
