//! `[eventlistener:x]`: the keys that an event listener has in addition to those of `[program:x]` (`program.rs`), and
//! `redirect_stderr`, which must not be true for an event listener.
//!
//! | key | type | default |
//! |---|---|---|
//! | `events` | list of event types | required |
//! | `buffer_size` | integer, at least 1 | 10 |
//! | `result_handler` | text | none; has no effect |
//! | `redirect_stderr` | boolean | false; must not be true |
//!
//! Source: supervisord's documentation, "`[eventlistener:x]` Section Settings".

use super::section_reader::{Context, SectionReader};
use super::value::{boolean, comma_list, integer, unix_url};
use crate::config::grammar::document::{Section, Value};
use crate::config::grammar::expand::{ExpansionVars, expand};
use crate::config::grammar::shlex;
use crate::config::model::{Listener, Replacement, RsupStartStep};
use crate::policy::Level;

/// supervisord's event types (its documentation, "Event Types").
const EVENT_TYPES: [&str; 27] = [
    "EVENT",
    "PROCESS_STATE",
    "PROCESS_STATE_STOPPED",
    "PROCESS_STATE_EXITED",
    "PROCESS_STATE_STARTING",
    "PROCESS_STATE_STOPPING",
    "PROCESS_STATE_BACKOFF",
    "PROCESS_STATE_FATAL",
    "PROCESS_STATE_RUNNING",
    "PROCESS_STATE_UNKNOWN",
    "PROCESS_COMMUNICATION",
    "PROCESS_COMMUNICATION_STDOUT",
    "PROCESS_COMMUNICATION_STDERR",
    "PROCESS_LOG",
    "PROCESS_LOG_STDOUT",
    "PROCESS_LOG_STDERR",
    "REMOTE_COMMUNICATION",
    "SUPERVISOR_STATE_CHANGE",
    "SUPERVISOR_STATE_CHANGE_RUNNING",
    "SUPERVISOR_STATE_CHANGE_STOPPING",
    "TICK",
    "TICK_5",
    "TICK_60",
    "TICK_3600",
    "PROCESS_GROUP",
    "PROCESS_GROUP_ADDED",
    "PROCESS_GROUP_REMOVED",
];

/// The event listeners that rsup does not run. Each row has the name of a program or Python module, and the feature of
/// rsup that replaces the listener.
const REPLACED_LISTENERS: [(&str, Replacement); 4] = [
    // The Python module and the command of supervisord-dependent-startup.
    ("supervisord_dependent_startup", Replacement::OrderedStart),
    ("supervisord-dependent-startup", Replacement::OrderedStart),
    // The command of the package ordered-startup-supervisord.
    (ORDERED_STARTUP, Replacement::OrderedStart),
    ("supervisor_stdout", Replacement::SupervisorStdoutListener),
];
const ORDERED_STARTUP: &str = "ordered-startup-listener";

/// Reads the keys that an event listener has in addition to those of a program.
pub(crate) fn read_keys(reader: &mut SectionReader<'_, '_>, vars: &ExpansionVars<'_>) -> Listener {
    let section = reader.section.name;
    let size = reader.value_or("buffer_size", vars, 10, integer);
    if size < 1 {
        reader.error("buffer_size", format!("[{section}] section sets invalid buffer_size ({size})"));
    }
    let _without_effect = reader.text("result_handler", vars);
    let listed = reader.text("events", vars).unwrap_or_default().to_ascii_uppercase();
    let listed = comma_list(&listed);
    if listed.is_empty() {
        reader.error("events", format!("[{section}] section requires an \"events\" line"));
    }
    let mut events = Vec::new();
    // As in supervisord, a name that is listed twice counts once.
    for name in listed {
        match EVENT_TYPES.into_iter().find(|known| *known == name) {
            Some(known) if !events.contains(&known) => events.push(known),
            Some(_) => {}
            None => reader.error("events", format!("Unknown event type {name} in [{section}] events")),
        }
    }
    if reader.value_or("redirect_stderr", vars, false, boolean) {
        let why = "section sets redirect_stderr=true but this is not allowed because it will interfere with the \
                   eventlistener protocol";
        reader.error("redirect_stderr", format!("[{section}] {why}"));
    }
    let command = reader.raw("command").map(Value::text).unwrap_or_default();
    let words = shlex::split(&command).unwrap_or_default();
    let replaced_listener =
        REPLACED_LISTENERS.iter().find(|(name, _)| words.iter().any(|word| is_word_of(word, name)));
    if let Some((name, _)) = replaced_listener {
        warn_replaced(reader, name);
    } else if let Some(obstacle) = reader.context.try_step(RsupStartStep::ListenerCommand(&words)) {
        reader.report_obstacle("command", obstacle);
    }
    Listener {
        events,
        buffer_size: usize::try_from(size).unwrap_or(usize::MAX),
        replacement: replaced_listener.map(|(_, replacement)| *replacement),
        http_server_url: http_server_url(reader.context, vars),
    }
}

/// Returns the URL that supervisord uses for `serverurl=AUTO`: the URL of the first Unix socket server or, if the file
/// has none, the URL of the last TCP server. The errors of these sections are reported where the sections are checked.
fn http_server_url(context: &Context<'_>, vars: &ExpansionVars<'_>) -> Option<String> {
    let value = |section: &Section<'_>, key| expand(&section.get(key)?.text(), vars, &key).ok();
    if let Some((section, _)) = context.sections_with_prefix("unix_http_server").next()
        && let Some(file) = value(section, "file")
    {
        return Some(unix_url(file.trim()));
    }
    let (section, _) = context.sections_with_prefix("inet_http_server").last()?;
    let port = value(section, "port")?;
    let (host, port) = port.rsplit_once(':').unwrap_or(("", &port));
    let host = if matches!(host, "" | "*") { "localhost" } else { host };
    Some(format!("http://{host}:{port}"))
}

/// Says that rsup does not run a listener.
fn warn_replaced(reader: &mut SectionReader<'_, '_>, name: &str) {
    let section = reader.section.name;
    if name == ORDERED_STARTUP {
        let why = "this event listener is not run; instead of it, set startup=ordered in [supervisord], and remove \
                   autostart=false from the programs that it starts";
        reader.warn_at_start(format!("For [{section}], {why}"));
        reader.warn("", why.to_owned());
        return;
    }
    let why = "rsup itself does what this listener does, so this section is not needed";
    reader.context.log_at_start(Level::Info, format!("For [{section}], {why}"));
    reader.warn("", why.to_owned());
}

/// Whether a word of a command names this program or Python module, possibly with a path before it.
fn is_word_of(word: &str, program: &str) -> bool {
    let (_, last) = word.rsplit_once('/').unwrap_or(("", word));
    last.strip_suffix(".py").unwrap_or(last) == program
}
