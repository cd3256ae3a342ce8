//! The keys that `[fcgi-program:x]` has beside a program's.

use super::section_reader::SectionReader;
use super::value::{address, backlog, octal};
use crate::config::grammar::expand::ExpansionVars;
use crate::config::model::{Address, Socket};

/// Reads where the program listens.
pub(crate) fn read_socket(
    reader: &mut SectionReader<'_, '_>,
    vars: &ExpansionVars<'_>,
    program: &str,
) -> Option<Socket> {
    let backlog = reader.value("socket_backlog", vars, backlog);
    let owner = reader.string("socket_owner", vars);
    if let Some(owner) = owner.as_deref().filter(|owner| reader.context.check_user(owner).is_err()) {
        reader.error("socket_owner", format!("Invalid socket_owner value {owner}"));
    }
    let mode = reader.value("socket_mode", vars, |text| {
        octal(text).map_err(|_| format!("Invalid socket_mode value {text}"))
    });
    let section = &reader.section.name;
    let vars = ExpansionVars { program: Some(program), ..*vars };
    let text = reader.text("socket", &vars);
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        // A socket that could not be expanded is there, and reported.
        if reader.raw("socket").is_none_or(|value| value.text().is_empty()) {
            reader.error("socket", format!("[{section}] section requires a \"socket\" line"));
        }
        return None;
    };
    let unix_only_keys = owner.is_some() || mode.is_some();
    let address: Address = address(&text, unix_only_keys)
        .map_err(|why| reader.error("socket", format!("{why} in [{section}] socket")))
        .ok()?;
    Some(Socket { address, owner, mode: mode.unwrap_or(0o700), backlog })
}
