//! `[supervisord]`.
//!
//! | key | type | default |
//! |---|---|---|
//! | `loglevel` | log level | info |
//! | `silent` | boolean | false |
//! | `user` | `user` or `user:group` | none |
//! | `minfds`, `minprocs` | integer | 1024, 200 |
//! | `environment` | `KEY=VALUE` pairs | none |
//! | `shutdown_on` | `never`, `fatal` or `exited` | never |
//! | `stop_timeout` | seconds | none |
//! | `output` | `direct`, `lines`, `prefix` or `json` | direct |
//! | `startup` | `parallel` or `ordered` | parallel |
//! | `nodaemon` | boolean | false; rsup always stays in the foreground |
//! | `umask` | octal number | 022; has no effect, as in supervisord with `nodaemon=true` |
//! | `directory` | text | none; has no effect, as in supervisord with `nodaemon=true` |
//! | `identifier` | text | supervisor |
//! | `pidfile` | text | none |
//!
//! The keys `logfile`, `logfile_maxbytes`, `logfile_backups`, `childlogdir`, `nocleanup` and `strip_ansi` are checked,
//! but have no effect. Source: supervisord's documentation, "`[supervisord]` Section Settings"; `shutdown_on`,
//! `stop_timeout`, `output` and `startup` are rsup's own.

use super::section_reader::{Context, SectionReader};
use super::value::{
    boolean, byte_size, integer, log_level, octal, output_mode, parse_environment, seconds, shutdown_on,
    startup,
};
use crate::config::grammar::collections::EnvMap;
use crate::config::grammar::document::Value;
use crate::config::grammar::expand::ExpansionVars;
use crate::config::model::{Obstacle, OutputMode, Overrides, Startup, Supervisord};
use crate::config::report::{SectionKey, Severity};
use crate::policy::{Level, ShutdownOn};

/// Reads the section and applies the options of the command line to it. Adds its `environment` to `variables`, which
/// the values of all later sections can use. As in supervisord, the keys of `[supervisord]` itself cannot use its
/// `environment`.
pub(crate) fn read_section(context: &mut Context<'_>, variables: &mut EnvMap) -> Option<Supervisord> {
    let section = context.find_section("supervisord")?;
    let overrides = context.overrides;
    let vars = context.base_vars(variables);
    // rsup knows `%(host_node_name)s` in `environment`, but in no other key of this section. supervisord expands
    // `environment` twice, and only the second expansion knows this name.
    let vars_for_environment = ExpansionVars { host: Some(context.machine.host), ..vars };
    let mut reader = context.reader(section);
    let nodaemon = reader.value("nodaemon", &vars, boolean);
    if nodaemon == Some(false) {
        warn_foreground(&mut reader);
    }
    let mut supervisord = Supervisord {
        minfds: reader.value_or("minfds", &vars, 1024, integer),
        minprocs: reader.value_or("minprocs", &vars, 200, integer),
        directory: reader.owned_text("directory", &vars),
        user: reader.owned_text("user", &vars),
        umask: reader.value_or("umask", &vars, 0o022, octal),
        loglevel: reader.value_or("loglevel", &vars, Level::Info, log_level),
        identifier: reader.owned_text("identifier", &vars).unwrap_or_else(|| "supervisor".to_owned()),
        pidfile: reader.owned_text("pidfile", &vars),
        nodaemon: nodaemon.unwrap_or(false),
        silent: reader.value_or("silent", &vars, false, boolean),
        environment: read_environment(&mut reader, &vars_for_environment),
        shutdown_on: reader.value_or("shutdown_on", &vars, ShutdownOn::Never, shutdown_on),
        stop_timeout: reader.value("stop_timeout", &vars, seconds),
        output: reader.value_or("output", &vars, OutputMode::Direct, output_mode),
        startup: reader.value_or("startup", &vars, Startup::Parallel, startup),
    };
    for key in ["logfile", "childlogdir"] {
        let _without_effect = reader.text(key, &vars);
    }
    let _without_effect = reader.value("logfile_maxbytes", &vars, byte_size);
    let _without_effect = reader.value("logfile_backups", &vars, integer);
    for key in ["nocleanup", "strip_ansi"] {
        let _without_effect = reader.value(key, &vars, boolean);
    }
    check_user(&mut reader, &supervisord);
    variables.set_all(&supervisord.environment);
    apply_overrides(&mut supervisord, overrides);
    Some(supervisord)
}

fn read_environment(reader: &mut SectionReader<'_, '_>, vars: &ExpansionVars<'_>) -> Vec<(String, String)> {
    let text = reader.raw("environment").map(Value::text).unwrap_or_default();
    reader.value_or("environment", vars, Vec::new(), |expanded| parse_environment(&text, expanded, vars))
}

/// Warns that `nodaemon=false` has no effect: if PID 1 went into the background, the container would end.
fn warn_foreground(reader: &mut SectionReader<'_, '_>) {
    let why = "rsup stays in the foreground";
    reader.warn_at_start(format!("[supervisord] nodaemon=false has no effect: {why}"));
    reader.warn("nodaemon", why.to_owned());
}

/// Checks the user that rsup changes to when it starts: the user must exist, and rsup must be able to change to it. A
/// user on the command line overrides the user in the file.
fn check_user(reader: &mut SectionReader<'_, '_>, supervisord: &Supervisord) {
    let from_options = reader.context.overrides.user.as_deref();
    let Some(user) = from_options.or(supervisord.user.as_deref()) else { return };
    let checked = (reader.context.machine.check_user)(user).map_err(Obstacle::Error);
    let obstacle = checked.err().or_else(|| reader.context.try_own_user(user));
    match obstacle {
        Some(Obstacle::Error(why) | Obstacle::Warning(why)) if from_options.is_some() => {
            reader.context.report.add(Severity::Error, None, SectionKey::NONE, why);
        }
        Some(obstacle) => reader.report_obstacle("user", obstacle),
        None => {}
    }
}

/// Replaces values of the file by those that the command line sets.
fn apply_overrides(supervisord: &mut Supervisord, overrides: &Overrides) {
    fn replace<T: Clone>(value: &mut T, with: Option<&T>) {
        if let Some(with) = with {
            value.clone_from(with);
        }
    }
    replace(&mut supervisord.loglevel, overrides.loglevel.as_ref());
    replace(&mut supervisord.umask, overrides.umask.as_ref());
    replace(&mut supervisord.minfds, overrides.minfds.as_ref());
    replace(&mut supervisord.minprocs, overrides.minprocs.as_ref());
    replace(&mut supervisord.shutdown_on, overrides.shutdown_on.as_ref());
    replace(&mut supervisord.output, overrides.output.as_ref());
    replace(&mut supervisord.startup, overrides.startup.as_ref());
    replace(&mut supervisord.identifier, overrides.identifier.as_ref());
    supervisord.silent |= overrides.silent;
    supervisord.user = overrides.user.clone().or(supervisord.user.take());
    supervisord.directory = overrides.directory.clone().or(supervisord.directory.take());
    supervisord.pidfile = overrides.pidfile.clone().or(supervisord.pidfile.take());
    supervisord.stop_timeout = overrides.stop_timeout.or(supervisord.stop_timeout);
}
