//! `[supervisord]`.

use super::section_reader::{Context, SectionReader};
use super::value::{boolean, byte_size, integer, log_level, octal, seconds, shutdown_on};
use crate::config::grammar::expand::ExpansionVars;
use crate::config::grammar::ordered::EnvMap;
use crate::config::grammar::shlex;
use crate::config::model::Supervisord;
use crate::policy::{Level, ShutdownOn};

/// Reads the section and lays the command line over it. Its variables go into the environment that all later
/// sections expand with, but not those keys of its own.
pub(crate) fn read_section(context: &mut Context<'_>, environment: &mut EnvMap) -> Option<Supervisord> {
    let section = context.find("supervisord")?;
    let overrides = context.overrides;
    let vars = context.base_vars(environment);
    let hosted = ExpansionVars { host: Some(context.inputs.host), ..vars };
    let mut reader = context.reader(section);
    let nodaemon = reader.value("nodaemon", &vars, boolean);
    if nodaemon == Some(false) {
        warn_of_daemon(&mut reader);
    }
    let mut supervisord = Supervisord {
        minfds: reader.value_or("minfds", &vars, 1024, integer),
        minprocs: reader.value_or("minprocs", &vars, 200, integer),
        directory: reader.string("directory", &vars),
        user: reader.string("user", &vars),
        umask: reader.value_or("umask", &vars, 0o022, octal),
        loglevel: reader.value_or("loglevel", &vars, Level::Info, log_level),
        identifier: reader.string("identifier", &vars).unwrap_or_else(|| "supervisor".to_owned()),
        nodaemon: nodaemon.unwrap_or(false),
        silent: reader.value_or("silent", &vars, false, boolean),
        environment: reader.value_or("environment", &hosted, Vec::new(), shlex::pairs),
        shutdown_on: reader.value_or("shutdown_on", &vars, ShutdownOn::Never, shutdown_on),
        stop_timeout: reader.value("stop_timeout", &vars, seconds),
    };
    for key in ["logfile", "pidfile", "childlogdir"] {
        let _without_effect = reader.text(key, &vars);
    }
    let _without_effect = reader.value("logfile_maxbytes", &vars, byte_size);
    let _without_effect = reader.value("logfile_backups", &vars, integer);
    for key in ["nocleanup", "strip_ansi"] {
        let _without_effect = reader.value(key, &vars, boolean);
    }
    check_user(&mut reader, &supervisord);
    environment.set_all(&supervisord.environment);
    apply_overrides(&mut supervisord, overrides);
    Some(supervisord)
}

/// PID 1 cannot go into the background, so a file that asks for it is told.
fn warn_of_daemon(reader: &mut SectionReader<'_, '_>) {
    let why = "rsup stays in the foreground".to_owned();
    reader.warn_at_start(format!("[supervisord] nodaemon=false has no effect: {why}"));
    reader.warn("nodaemon", why);
}

fn check_user(reader: &mut SectionReader<'_, '_>, supervisord: &Supervisord) {
    let check = reader.context.inputs.check_user;
    if let Some(user) = &reader.context.overrides.user {
        if let Err(why) = check(user) {
            let report = &mut reader.context.report;
            report.add(crate::config::report::Severity::Error, None, ("", ""), why);
        }
    } else if let Some(Err(why)) = supervisord.user.as_deref().map(check) {
        reader.error("user", why);
    }
}

/// The command line beats the file.
fn apply_overrides(supervisord: &mut Supervisord, overrides: &crate::config::model::Overrides) {
    fn over<T: Clone>(value: &mut T, over: Option<&T>) {
        if let Some(over) = over {
            value.clone_from(over);
        }
    }
    over(&mut supervisord.loglevel, overrides.loglevel.as_ref());
    over(&mut supervisord.umask, overrides.umask.as_ref());
    over(&mut supervisord.minfds, overrides.minfds.as_ref());
    over(&mut supervisord.minprocs, overrides.minprocs.as_ref());
    over(&mut supervisord.shutdown_on, overrides.shutdown_on.as_ref());
    supervisord.silent |= overrides.silent;
    supervisord.user = overrides.user.clone().or(supervisord.user.take());
    supervisord.directory = overrides.directory.clone().or(supervisord.directory.take());
    supervisord.stop_timeout = overrides.stop_timeout.or(supervisord.stop_timeout);
}
