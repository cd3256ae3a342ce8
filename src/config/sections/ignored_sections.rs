//! The sections without effect here: http servers, plugins, `supervisorctl`. They are checked as far as that needs
//! nothing of the machine, and one line says that they have no effect.

use super::known_keys::RPCINTERFACE_FACTORY;
use super::section_reader::{Context, SectionReader};
use super::value::{check_inet_http_port, octal};
use crate::config::grammar::document::Value;
use crate::config::grammar::expand::ExpansionVars;
use crate::config::grammar::ordered::{EnvMap, NameIndex};
use crate::policy::Level;

/// Reads them all.
pub(crate) fn check_all(context: &mut Context<'_>, environment: &EnvMap) {
    let vars = ExpansionVars::variables(environment);
    let with_here = context.base_vars(environment);
    let mut idle = Vec::new();
    // What plugins inherit is the same for all of them.
    let mut inherited: Vec<_> = context.document.defaults().collect();
    for section in context.sections {
        let name = section.name;
        let mut reader = context.reader(section);
        if name.starts_with("rpcinterface:") {
            plugin(&mut reader, &vars, std::mem::take(&mut inherited));
        } else if name.starts_with("inet_http_server") {
            inet_server(&mut reader, &vars);
        } else if name.starts_with("unix_http_server") {
            unix_server(&mut reader, &vars, &with_here);
        } else if name != "supervisorctl" && !name.starts_with("ctlplugin:") {
            continue;
        }
        idle.push(format!("[{name}]"));
    }
    if !idle.is_empty() {
        context.notice(Level::Info, format!("without effect here: {}", idle.join(", ")));
    }
}

fn plugin<'a>(
    reader: &mut SectionReader<'_, 'a>,
    vars: &ExpansionVars<'_>,
    inherited: Vec<(&'a str, Value<'a>)>,
) {
    if reader.raw(RPCINTERFACE_FACTORY).is_none() {
        let section = reader.section.name;
        reader.error("", format!("section [{section}] does not specify a {RPCINTERFACE_FACTORY}"));
    }
    // Own values first, then the last that was inherited.
    let mut seen = NameIndex::default();
    let own = reader.section.values.iter().copied();
    for (key, value) in own.chain(inherited.into_iter().rev()).filter(|(key, _)| seen.insert(key)) {
        let _without_effect = reader.expand(key, &value, vars);
    }
}

fn inet_server(reader: &mut SectionReader<'_, '_>, vars: &ExpansionVars<'_>) {
    login(reader, vars);
    if reader.raw("port").is_none() {
        reader.error("", format!("section [{}] has no port value", reader.section.name));
    }
    let _without_effect = reader.value("port", vars, check_inet_http_port);
}

fn unix_server(reader: &mut SectionReader<'_, '_>, vars: &ExpansionVars<'_>, with_here: &ExpansionVars<'_>) {
    if reader.raw("file").is_none() {
        reader.error("", format!("section [{}] has no file value", reader.section.name));
    }
    let _without_effect = reader.text("file", with_here);
    login(reader, vars);
    let _without_effect = reader.text("chown", vars);
    let mode = |text: &str| octal(text).map_err(|_| format!("Invalid chmod value {text}"));
    let _without_effect = reader.value("chmod", vars, mode);
}

fn login(reader: &mut SectionReader<'_, '_>, vars: &ExpansionVars<'_>) {
    let given = ["username", "password"].map(|key| {
        let _without_effect = reader.text(key, vars);
        reader.raw(key).is_some()
    });
    if given == [true, false] || given == [false, true] {
        let why = "contains incomplete authentication: If a username or a password is specified, both the username \
                   and password must be specified";
        reader.error("", format!("Section [{}] {why}", reader.section.name));
    }
}
