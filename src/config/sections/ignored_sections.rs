//! The sections of the HTTP servers, of the plug-ins and of `supervisorctl`. rsup opens no HTTP server and loads no
//! plug-in. `eventlistener.rs` uses the address of an HTTP server for SUPERVISOR_SERVER_URL. `load.rs` reads
//! `[supervisorctl]` for rsup's client.
//!
//! | section | keys |
//! |---|---|
//! | `[inet_http_server]` | `port` (required), `username` and `password` (both or neither) |
//! | `[unix_http_server]` | `file` (required), `chmod`, `chown`, `username` and `password` (both or neither) |
//! | `[rpcinterface:x]` | `supervisor.rpcinterface_factory` (required), and any key of the plug-in |
//! | `[supervisorctl]`, `[ctlplugin:x]` | any key; supervisord does not read these sections |
//!
//! Source: supervisord's documentation, "Configuration File". The values are checked like in supervisord, except for
//! checks that depend on the machine: users, directories, and whether a plug-in can be imported.

use super::known_keys::RPCINTERFACE_FACTORY;
use super::section_reader::{Context, SectionReader};
use super::value::{check_inet_http_port, octal};
use crate::config::grammar::collections::{EnvMap, NameIndex};
use crate::config::grammar::document::Value;
use crate::config::grammar::expand::ExpansionVars;
use crate::policy::Level;

/// Checks the sections of the HTTP servers and of `[rpcinterface:x]`. Adds a line to the lines that rsup logs when it
/// starts: the names of these sections and of `[supervisorctl]` and `[ctlplugin:x]`.
pub(crate) fn check_all(context: &mut Context<'_>, variables: &EnvMap) {
    let vars = ExpansionVars {
        non_utf8_env_names: context.machine.non_utf8_env_names,
        ..ExpansionVars::with_env_only(variables)
    };
    let vars_with_here = context.base_vars(variables);
    let mut ignored = Vec::new();
    // Every plug-in inherits the same keys of `[DEFAULT]`. The `values` of its section contain only the inherited keys
    // that rsup knows. The other inherited keys are checked only for the first plug-in.
    let mut inherited: Vec<_> = context.document.defaults().collect();
    for section in context.sections {
        let name = section.name;
        let mut reader = context.reader(section);
        if name.starts_with("rpcinterface:") {
            check_rpcinterface(&mut reader, &vars, std::mem::take(&mut inherited));
        } else if name.starts_with("inet_http_server") {
            check_inet_http_server(&mut reader, &vars);
        } else if name.starts_with("unix_http_server") {
            check_unix_http_server(&mut reader, &vars, &vars_with_here);
        } else if name != "supervisorctl" && !name.starts_with("ctlplugin:") {
            continue;
        }
        ignored.push(format!("[{name}]"));
    }
    if !ignored.is_empty() {
        context.log_at_start(
            Level::Info,
            format!(
                "sections without effect in rsup, whose supervisorctl needs no server: {}",
                ignored.join(", ")
            ),
        );
    }
}

/// Checks `[rpcinterface:x]`. supervisord expands all keys of the section, because they are arguments of the plug-in.
fn check_rpcinterface<'a>(
    reader: &mut SectionReader<'_, 'a>,
    vars: &ExpansionVars<'_>,
    inherited: Vec<(&'a str, Value<'a>)>,
) {
    if reader.raw(RPCINTERFACE_FACTORY).is_none() {
        let section = reader.section.name;
        reader.error("", format!("section [{section}] does not specify a {RPCINTERFACE_FACTORY}"));
    }
    // If a key is set more than once, only one value counts: the last value that the section sets, or else the last
    // value that `[DEFAULT]` sets.
    let mut seen = NameIndex::default();
    let own = reader.section.values.iter().rev().copied();
    for (key, value) in own.chain(inherited.into_iter().rev()).filter(|(key, _)| seen.insert(key)) {
        let _without_effect = reader.expand_value(key, &value, vars);
    }
}

fn check_inet_http_server(reader: &mut SectionReader<'_, '_>, vars: &ExpansionVars<'_>) {
    check_login(reader, vars);
    if reader.raw("port").is_none() {
        reader.error("", format!("section [{}] has no port value", reader.section.name));
    }
    let _without_effect = reader.value("port", vars, check_inet_http_port);
}

/// Checks `[unix_http_server]`, whose key `file` is the only one that may use `%(here)s`.
fn check_unix_http_server(
    reader: &mut SectionReader<'_, '_>,
    vars: &ExpansionVars<'_>,
    vars_with_here: &ExpansionVars<'_>,
) {
    if reader.raw("file").is_none() {
        reader.error("", format!("section [{}] has no file value", reader.section.name));
    }
    let _without_effect = reader.text("file", vars_with_here);
    check_login(reader, vars);
    let _without_effect = reader.text("chown", vars);
    let mode = |text: &str| octal(text).map_err(|_| format!("Invalid chmod value {text}"));
    let _without_effect = reader.value("chmod", vars, mode);
}

/// Checks `username` and `password` of an HTTP server.
fn check_login(reader: &mut SectionReader<'_, '_>, vars: &ExpansionVars<'_>) {
    let are_set = ["username", "password"].map(|key| {
        let _without_effect = reader.text(key, vars);
        reader.raw(key).is_some()
    });
    if are_set == [true, false] || are_set == [false, true] {
        let why = "contains incomplete authentication: If a username or a password is specified, both the username \
                   and password must be specified";
        reader.error("", format!("Section [{}] {why}", reader.section.name));
    }
}
