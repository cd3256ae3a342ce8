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
pub(crate) fn read(context: &mut Context<'_>, environment: &mut EnvMap) -> Option<Supervisord> {
    let section = context.find("supervisord")?;
    let overrides = context.overrides;
    let names = context.common(environment);
    let hosted = ExpansionVars { host: Some(context.inputs.host), ..names };
    let mut keys = context.reader(section);
    let nodaemon = keys.value("nodaemon", &names, boolean);
    if nodaemon == Some(false) {
        warn_of_daemon(&mut keys);
    }
    let mut supervisord = Supervisord {
        minfds: keys.value_or("minfds", &names, 1024, integer),
        minprocs: keys.value_or("minprocs", &names, 200, integer),
        directory: keys.owned("directory", &names),
        user: keys.owned("user", &names),
        umask: keys.value_or("umask", &names, 0o022, octal),
        loglevel: keys.value_or("loglevel", &names, Level::Info, log_level),
        identifier: keys.owned("identifier", &names).unwrap_or_else(|| "supervisor".to_owned()),
        nodaemon: nodaemon.unwrap_or(false),
        silent: keys.value_or("silent", &names, false, boolean),
        environment: keys.value_or("environment", &hosted, Vec::new(), shlex::pairs),
        shutdown_on: keys.value_or("shutdown_on", &names, ShutdownOn::Never, shutdown_on),
        stop_timeout: keys.value("stop_timeout", &names, seconds),
    };
    for key in ["logfile", "pidfile", "childlogdir"] {
        let _without_effect = keys.text(key, &names);
    }
    let _without_effect = keys.value("logfile_maxbytes", &names, byte_size);
    let _without_effect = keys.value("logfile_backups", &names, integer);
    for key in ["nocleanup", "strip_ansi"] {
        let _without_effect = keys.value(key, &names, boolean);
    }
    check_user(&mut keys, &supervisord);
    environment.set_all(&supervisord.environment);
    lay_over(&mut supervisord, overrides);
    Some(supervisord)
}

/// PID 1 cannot go into the background, so a file that asks for it is told.
fn warn_of_daemon(keys: &mut SectionReader<'_, '_>) {
    let why = "rsup stays in the foreground".to_owned();
    keys.notice(format!("[supervisord] nodaemon=false has no effect: {why}"));
    keys.warn("nodaemon", why);
}

fn check_user(keys: &mut SectionReader<'_, '_>, supervisord: &Supervisord) {
    let check = keys.context.inputs.check_user;
    if let Some(user) = &keys.context.overrides.user {
        if let Err(why) = check(user) {
            let report = &mut keys.context.report;
            report.add(crate::config::report::Severity::Error, None, ("", ""), why);
        }
    } else if let Some(Err(why)) = supervisord.user.as_deref().map(check) {
        keys.error("user", why);
    }
}

/// The command line beats the file.
fn lay_over(supervisord: &mut Supervisord, overrides: &crate::config::model::Overrides) {
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
