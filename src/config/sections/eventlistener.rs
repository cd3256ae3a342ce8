//! `[eventlistener:x]`: the keys that an event listener has in addition to those of `[program:x]` (`program.rs`).
//!
//! | key | type | default |
//! |---|---|---|
//! | `events` | list of event types | required |
//! | `buffer_size` | integer, at least 1 | 10 |
//! | `result_handler` | text | none; has no effect |
//! | `redirect_stderr` | boolean | false; must not be true |
//!
//! Source: supervisord's documentation, "`[eventlistener:x]` Section Settings". Event listeners are read and checked,
//! so that `--check` and `--print-config` cover the whole file, but rsup does not run them.

use super::section_reader::SectionReader;
use super::value::{boolean, comma_list, integer};
use crate::config::grammar::document::Value;
use crate::config::grammar::expand::ExpansionVars;
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

/// supervisord notifies the listeners for these event types when a program ends or enters FATAL.
const END_EVENT_TYPES: [&str; 4] =
    ["PROCESS_STATE", "PROCESS_STATE_FATAL", "PROCESS_STATE_EXITED", "PROCESS_STATE_STOPPED"];

/// Checks an event listener's own keys, and warns that the listener is not run.
pub(crate) fn check_keys(reader: &mut SectionReader<'_, '_>, vars: &ExpansionVars<'_>) {
    let section = reader.section.name;
    let size = reader.value_or("buffer_size", vars, 10, integer);
    if size < 1 {
        reader.error("buffer_size", format!("[{section}] section sets invalid buffer_size ({size})"));
    }
    let _without_effect = reader.text("result_handler", vars);
    let events = reader.text("events", vars).unwrap_or_default().to_ascii_uppercase();
    let events = comma_list(&events);
    if events.is_empty() {
        reader.error("events", format!("[{section}] section requires an \"events\" line"));
    }
    for event in events.iter().filter(|event| !EVENT_TYPES.contains(event)) {
        reader.error("events", format!("Unknown event type {event} in [{section}] events"));
    }
    if reader.value_or("redirect_stderr", vars, false, boolean) {
        let why = "section sets redirect_stderr=true but this is not allowed because it will interfere with the \
                   eventlistener protocol";
        reader.error("redirect_stderr", format!("[{section}] {why}"));
    }
    warn_not_run(reader, &events);
}

/// The programs that supervisord-dependent-startup installs: a Python module and a command.
const DEPENDENT_STARTUP: [&str; 2] = ["supervisord_dependent_startup", "supervisord-dependent-startup"];
/// The program of ordered-startup-supervisord.
const ORDERED_STARTUP: &str = "ordered-startup-listener";

/// Warns that the listener is not run. For a listener that only starts programs in an order, or only stops the container,
/// the warning names what rsup has instead: the usual purpose of a listener that waits for the end of a program is to stop
/// the container, as the key `shutdown_on` does.
fn warn_not_run(reader: &mut SectionReader<'_, '_>, events: &[&str]) {
    let command = reader.raw("command").map(Value::text).unwrap_or_default();
    if DEPENDENT_STARTUP.iter().any(|name| command.contains(name)) {
        let why = "rsup itself does what this listener does, so this section is not needed";
        let text = format!("For [{}], {why}", reader.section.name);
        reader.context.log_at_start(Level::Info, text);
        reader.warn("", why.to_owned());
        return;
    }
    let advice = if command.contains(ORDERED_STARTUP) {
        "; instead of this one, set startup=ordered in [supervisord], and remove autostart=false from the programs that it \
         starts"
    } else if events.iter().any(|event| END_EVENT_TYPES.contains(event)) {
        "; to exit when a program ends, set shutdown_on=fatal or shutdown_on=exited in the program's section"
    } else {
        ""
    };
    let why = format!("event listeners are not run{advice}");
    reader.warn_at_start(format!("For [{}], {why}", reader.section.name));
    reader.warn("", why);
}
