//! `[eventlistener:x]`: read and checked like a program, and not run.

use super::group::Group;
use super::program::{ProgramDefaults, ProgramSource, processes};
use super::section_reader::{Context, SectionReader};
use super::value::{boolean, integer, list};
use crate::config::grammar::expand::ExpansionVars;
use crate::config::model::{ProcessConfig, SectionKind};

/// The events of supervisord.
const EVENTS: [&str; 27] = [
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

/// The pools, which start first and stop last unless they say otherwise.
pub(crate) fn pools<'a>(
    context: &mut Context<'a>,
    base: &ProgramDefaults<'_>,
    out: &mut Vec<ProcessConfig>,
) -> Vec<Group<'a>> {
    let mut pools = Vec::new();
    for (section, name) in context.starting_with("eventlistener:") {
        let names = context.common(base.variables);
        let mut keys = context.reader(section);
        let priority = keys.value_or("priority", &names, -1, integer);
        own_keys(&mut keys, &names);
        let Some(program) = keys.own_name() else { continue };
        let origin = ProgramSource {
            section,
            kind: SectionKind::EventListener,
            program,
            group: name.to_owned(),
            group_priority: priority,
            socket: None,
        };
        let start = out.len();
        processes(context, base, &origin, out);
        pools.push(Group { section, name: name.to_owned(), priority, processes: start..out.len() });
    }
    pools
}

fn own_keys(keys: &mut SectionReader<'_, '_>, names: &ExpansionVars<'_>) {
    let section = &keys.section.name;
    let size = keys.value_or("buffer_size", names, 10, integer);
    if size < 1 {
        keys.error("buffer_size", format!("[{section}] section sets invalid buffer_size ({size})"));
    }
    let _without_effect = keys.text("result_handler", names);
    let events = keys.text("events", names).unwrap_or_default().to_ascii_uppercase();
    let events = list(&events);
    if events.is_empty() {
        keys.error("events", format!("[{section}] section requires an \"events\" line"));
    }
    for event in events.iter().filter(|event| !EVENTS.contains(event)) {
        keys.error("events", format!("Unknown event type {event} in [{section}] events"));
    }
    if keys.value_or("redirect_stderr", names, false, boolean) {
        let why = "section sets redirect_stderr=true but this is not allowed because it will interfere with the \
                   eventlistener protocol";
        keys.error("redirect_stderr", format!("[{section}] {why}"));
    }
    not_run(keys, &events);
}

/// Says that the listener is not run; the usual one only ends the container, and for that there is a key.
fn not_run(keys: &mut SectionReader<'_, '_>, events: &[&str]) {
    let ends = ["PROCESS_STATE", "PROCESS_STATE_FATAL", "PROCESS_STATE_EXITED", "PROCESS_STATE_STOPPED"];
    let advice = if events.iter().any(|event| ends.contains(event)) {
        "; to leave when a program ends, set shutdown_on=fatal or shutdown_on=exited in its section"
    } else {
        ""
    };
    let why = format!("event listeners are not run{advice}");
    keys.notice(format!("For [{}], {why}", keys.section.name));
    keys.warn("", why);
}
