//! `[fcgi-program:x]`: the keys that a FastCGI program has in addition to those of `[program:x]` (`program.rs`).
//!
//! | key | type | default |
//! |---|---|---|
//! | `socket` | `tcp://host:port` or `unix:///path` | required |
//! | `socket_backlog` | integer from 1 to 65535 | none |
//! | `socket_owner` | `user` or `user:group`, for unix sockets only | the program's `user` |
//! | `socket_mode` | octal number, for unix sockets only | 0700 |
//!
//! Source: supervisord's documentation, "`[fcgi-program:x]` Section Settings".

use super::section_reader::SectionReader;
use super::value::{fcgi_socket_address, octal, socket_backlog};
use crate::config::grammar::expand::ExpansionVars;
use crate::config::model::Socket;

/// Reads `socket` and the `socket_*` keys. If there is no valid `socket`, reports the errors and returns `None`.
pub(crate) fn read_socket(
    reader: &mut SectionReader<'_, '_>,
    vars: &ExpansionVars<'_>,
    program_name: &str,
) -> Option<Socket> {
    let backlog = reader.value("socket_backlog", vars, socket_backlog);
    let owner = reader.owned_text("socket_owner", vars);
    if let Some(owner) = owner.as_deref().filter(|owner| reader.context.check_user(owner).is_err()) {
        reader.error("socket_owner", format!("Invalid socket_owner value {owner}"));
    }
    let mode = reader.value("socket_mode", vars, |text| {
        octal(text).map_err(|_| format!("Invalid socket_mode value {text}"))
    });
    let section = reader.section.name;
    // As in supervisord, `socket` may use `%(program_name)s`, but the `socket_*` keys may not.
    let vars = ExpansionVars { program: Some(program_name), ..*vars };
    let is_set = reader.raw("socket").is_some();
    let text = match reader.text("socket", &vars) {
        Some(text) if !text.is_empty() => text,
        // The expansion of `socket` has failed, and that error is in the report already.
        None if is_set => return None,
        Some(_) | None => {
            reader.error("socket", format!("[{section}] section requires a \"socket\" line"));
            return None;
        }
    };
    let has_unix_only_keys = owner.is_some() || mode.is_some();
    let address = fcgi_socket_address(&text, has_unix_only_keys)
        .map_err(|why| reader.error("socket", format!("{why} in [{section}] socket")))
        .ok()?;
    Some(Socket { address, owner, mode: mode.unwrap_or(0o700), backlog })
}
