//! The keys that `[fcgi-program:x]` has beside a program's.

use super::section_reader::SectionReader;
use super::value::{address, backlog, octal};
use crate::config::grammar::expand::ExpansionVars;
use crate::config::model::{Address, Socket};

/// Reads where the program listens.
pub(crate) fn read(
    keys: &mut SectionReader<'_, '_>,
    names: &ExpansionVars<'_>,
    program: &str,
) -> Option<Socket> {
    let backlog = keys.value("socket_backlog", names, backlog);
    let owner = keys.owned("socket_owner", names);
    if let Some(owner) = owner.as_deref().filter(|owner| keys.context.check_user(owner).is_err()) {
        keys.error("socket_owner", format!("Invalid socket_owner value {owner}"));
    }
    let mode = keys.value("socket_mode", names, |text| {
        octal(text).map_err(|_| format!("Invalid socket_mode value {text}"))
    });
    let section = &keys.section.name;
    let names = ExpansionVars { program: Some(program), ..*names };
    let text = keys.text("socket", &names);
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        // A socket that could not be expanded is there, and reported.
        if keys.raw("socket").is_none_or(|value| value.text().is_empty()) {
            keys.error("socket", format!("[{section}] section requires a \"socket\" line"));
        }
        return None;
    };
    let unix_only_keys = owner.is_some() || mode.is_some();
    let address: Address = address(&text, unix_only_keys)
        .map_err(|why| keys.error("socket", format!("{why} in [{section}] socket")))
        .ok()?;
    Some(Socket { address, owner, mode: mode.unwrap_or(0o700), backlog })
}
