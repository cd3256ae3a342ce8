//! The sections without effect here: http servers, plugins, `supervisorctl`. They are checked as far as that needs
//! nothing of the machine, and one line says that they have no effect.

use super::known_keys::FACTORY;
use super::section_reader::{Context, SectionReader};
use super::value::{inet_address, octal};
use crate::config::grammar::document::Value;
use crate::config::grammar::expand::ExpansionVars;
use crate::config::grammar::ordered::{EnvMap, NameIndex};
use crate::policy::Level;

/// Reads them all.
pub(crate) fn read(context: &mut Context<'_>, environment: &EnvMap) {
    let names = ExpansionVars::variables(environment);
    let with_here = context.common(environment);
    let mut idle = Vec::new();
    // What plugins inherit is the same for all of them.
    let mut inherited: Vec<_> = context.sections.defaults().collect();
    for section in context.all {
        let name = section.name;
        let mut keys = context.reader(section);
        if name.starts_with("rpcinterface:") {
            plugin(&mut keys, &names, std::mem::take(&mut inherited));
        } else if name.starts_with("inet_http_server") {
            inet_server(&mut keys, &names);
        } else if name.starts_with("unix_http_server") {
            unix_server(&mut keys, &names, &with_here);
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
    keys: &mut SectionReader<'_, 'a>,
    names: &ExpansionVars<'_>,
    inherited: Vec<(&'a str, Value<'a>)>,
) {
    if keys.raw(FACTORY).is_none() {
        let section = keys.section.name;
        keys.error("", format!("section [{section}] does not specify a {FACTORY}"));
    }
    // Own values first, then the last that was inherited.
    let mut seen = NameIndex::default();
    let own = keys.section.values.iter().copied();
    for (key, value) in own.chain(inherited.into_iter().rev()).filter(|(key, _)| seen.insert(key)) {
        let _without_effect = keys.expand(key, &value, names);
    }
}

fn inet_server(keys: &mut SectionReader<'_, '_>, names: &ExpansionVars<'_>) {
    login(keys, names);
    if keys.raw("port").is_none() {
        keys.error("", format!("section [{}] has no port value", keys.section.name));
    }
    let _without_effect = keys.value("port", names, inet_address);
}

fn unix_server(keys: &mut SectionReader<'_, '_>, names: &ExpansionVars<'_>, with_here: &ExpansionVars<'_>) {
    if keys.raw("file").is_none() {
        keys.error("", format!("section [{}] has no file value", keys.section.name));
    }
    let _without_effect = keys.text("file", with_here);
    login(keys, names);
    let _without_effect = keys.text("chown", names);
    let mode = |text: &str| octal(text).map_err(|_| format!("Invalid chmod value {text}"));
    let _without_effect = keys.value("chmod", names, mode);
}

fn login(keys: &mut SectionReader<'_, '_>, names: &ExpansionVars<'_>) {
    let given = ["username", "password"].map(|key| {
        let _without_effect = keys.text(key, names);
        keys.raw(key).is_some()
    });
    if given == [true, false] || given == [false, true] {
        let why = "contains incomplete authentication: If a username or a password is specified, both the username \
                   and password must be specified";
        keys.error("", format!("Section [{}] {why}", keys.section.name));
    }
}
