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
    defaults: &ProgramDefaults<'_>,
    out: &mut Vec<ProcessConfig>,
) -> Vec<Group<'a>> {
    let mut pools = Vec::new();
    for (section, name) in context.sections_with_prefix("eventlistener:") {
        let vars = context.base_vars(defaults.variables);
        let mut reader = context.reader(section);
        let priority = reader.value_or("priority", &vars, -1, integer);
        own_keys(&mut reader, &vars);
        let Some(program) = reader.name_after_colon() else { continue };
        let source = ProgramSource {
            section,
            kind: SectionKind::EventListener,
            program,
            group: name.to_owned(),
            group_priority: priority,
            socket: None,
        };
        let start = out.len();
        processes(context, defaults, &source, out);
        pools.push(Group { section, name: name.to_owned(), priority, processes: start..out.len() });
    }
    pools
}

fn own_keys(reader: &mut SectionReader<'_, '_>, vars: &ExpansionVars<'_>) {
    let section = &reader.section.name;
    let size = reader.value_or("buffer_size", vars, 10, integer);
    if size < 1 {
        reader.error("buffer_size", format!("[{section}] section sets invalid buffer_size ({size})"));
    }
    let _without_effect = reader.text("result_handler", vars);
    let events = reader.text("events", vars).unwrap_or_default().to_ascii_uppercase();
    let events = list(&events);
    if events.is_empty() {
        reader.error("events", format!("[{section}] section requires an \"events\" line"));
    }
    for event in events.iter().filter(|event| !EVENTS.contains(event)) {
        reader.error("events", format!("Unknown event type {event} in [{section}] events"));
    }
    if reader.value_or("redirect_stderr", vars, false, boolean) {
        let why = "section sets redirect_stderr=true but this is not allowed because it will interfere with the \
                   eventlistener protocol";
        reader.error("redirect_stderr", format!("[{section}] {why}"));
    }
    not_run(reader, &events);
}

/// Says that the listener is not run; the usual one only ends the container, and for that there is a key.
fn not_run(reader: &mut SectionReader<'_, '_>, events: &[&str]) {
    let ends = ["PROCESS_STATE", "PROCESS_STATE_FATAL", "PROCESS_STATE_EXITED", "PROCESS_STATE_STOPPED"];
    let advice = if events.iter().any(|event| ends.contains(event)) {
        "; to leave when a program ends, set shutdown_on=fatal or shutdown_on=exited in its section"
    } else {
        ""
    };
    let why = format!("event listeners are not run{advice}");
    reader.notice(format!("For [{}], {why}", reader.section.name));
    reader.warn("", why);
}
