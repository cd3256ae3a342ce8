//! `[group:x]`, and the start order of all processes.
//!
//! | key | type | default |
//! |---|---|---|
//! | `programs` | list of program names | empty |
//! | `priority` | integer | 999 |
//!
//! Source: supervisord's documentation, "`[group:x]` Section Settings". supervisord calls the group of such a section
//! *heterogeneous*. Every `[program:x]` and `[fcgi-program:x]` that no `[group:x]` lists, and every
//! `[eventlistener:x]`, forms its own *homogeneous* group.

use std::ops::Range;
use std::rc::Rc;

use super::eventlistener;
use super::fcgi_socket;
use super::program::{ProgramDefaults, ProgramSource, add_processes};
use super::section_reader::Context;
use super::value::{DEFAULT_PRIORITY, comma_list, integer};
use crate::config::grammar::collections::{NameIndex, StableSort, pick};
use crate::config::grammar::document::Section;
use crate::config::model::{ProcessConfig, ProcessKind};
use crate::config::warnings;

/// The default priority of a group of event listeners. With this priority, supervisord starts the group before the
/// groups of priority [`DEFAULT_PRIORITY`], and stops the group after them.
const EVENTLISTENER_PRIORITY: i64 = -1;

/// A group, before the groups are sorted into start order.
struct Group<'a> {
    section: &'a Section<'a>,
    name: String,
    priority: i64,
    /// The indices of the group's processes in the vector of all processes.
    processes: Range<usize>,
}

/// Returns all processes in start order. The groups are sorted by priority and name, and each group keeps the order of
/// its processes. If several groups have the same name, only the first of them keeps its processes, because supervisord
/// stores its groups by name and ignores a group whose name is taken.
pub(crate) fn processes_in_start_order<'a>(
    context: &mut Context<'a>,
    defaults: &ProgramDefaults<'_>,
) -> Vec<ProcessConfig> {
    let mut grouped_sections = NameIndex::default();
    let mut processes = Vec::new();
    // supervisord reads the kinds of groups in this order, and groups of equal priority and name keep this order.
    let mut groups = heterogeneous_groups(context, defaults, &mut grouped_sections, &mut processes);
    for kind in [ProcessKind::Program, ProcessKind::EventListener, ProcessKind::FcgiProgram] {
        for (section, name) in context.sections_with_prefix(prefix(kind)) {
            if grouped_sections.get(section.name).is_none() {
                groups.extend(homogeneous_group(context, defaults, (section, name), kind, &mut processes));
            }
        }
    }
    let mut sorted = StableSort::default();
    for group in &groups {
        sorted.push(group.priority, group.name.clone());
    }
    let mut seen = NameIndex::default();
    let mut start_order = Vec::with_capacity(processes.len());
    for group in sorted.into_sorted().filter_map(|(_, index)| groups.get(index)) {
        let processes_before = start_order.len();
        if seen.insert(&group.name) {
            push_uniquely_named(&processes, group.processes.clone(), &mut start_order);
        }
        let kept = start_order.len().saturating_sub(processes_before);
        let mut reader = context.reader(group.section);
        warnings::warn_dropped_processes(&mut reader, &group.name, group.processes.len(), kept);
    }
    pick(processes, start_order.into_iter()).collect()
}

/// Appends the indices of the processes of one group to `start_order`. supervisord stores the processes of a group by
/// name. So if several processes have the same name, only the last of them is kept, at the position of the first.
fn push_uniquely_named(processes: &[ProcessConfig], group: Range<usize>, start_order: &mut Vec<usize>) {
    // Most groups have one process, which cannot have a duplicate name. So no index of names is built.
    if group.len() == 1 {
        start_order.push(group.start);
        return;
    }
    let mut places_by_process_name = NameIndex::default();
    for (index, process) in group.clone().zip(processes.get(group).unwrap_or(&[])) {
        let place = places_by_process_name.get_or_insert(&process.name, start_order.len());
        match start_order.get_mut(place) {
            Some(earlier) => *earlier = index,
            None => start_order.push(index),
        }
    }
}

/// Reads the groups of all `[group:x]` sections. Adds the names of the sections of their programs to
/// `grouped_sections`.
fn heterogeneous_groups<'a>(
    context: &mut Context<'a>,
    defaults: &ProgramDefaults<'_>,
    grouped_sections: &mut NameIndex,
    processes: &mut Vec<ProcessConfig>,
) -> Vec<Group<'a>> {
    let mut sections = context.sections_with_prefix("group:").peekable();
    // Few files have a `[group:x]` section: the index of all sections is built only if there is such a section.
    let index = sections.peek().map_or_else(NameIndex::default, |_| index_by_name(context.sections));
    let mut groups = Vec::new();
    for (section, _) in sections {
        let vars = context.base_vars(defaults.variables);
        let mut reader = context.reader(section);
        let Some(name) = reader.name_after_colon() else { continue };
        let programs = reader.text("programs", &vars).unwrap_or_default();
        let priority = reader.value_or("priority", &vars, DEFAULT_PRIORITY, integer);
        let start = processes.len();
        for member in listed_sections(context, &index, section, &programs) {
            grouped_sections.insert(member.name);
            let Some(program_name) = context.reader(member).name_after_colon() else { continue };
            let source = ProgramSource {
                section: member,
                kind: ProcessKind::Program,
                program_name,
                group_name: name.clone(),
                group_priority: priority,
                socket: None,
                listener: None,
            };
            add_processes(context, defaults, &source, processes);
        }
        groups.push(Group { section, name, priority, processes: start..processes.len() });
    }
    groups
}

fn index_by_name(sections: &[Section<'_>]) -> NameIndex {
    let mut index = NameIndex::default();
    for (place, section) in sections.iter().enumerate() {
        let _place = index.get_or_insert(section.name, place);
    }
    index
}

/// Finds the sections of the programs that a group lists. Reports the names that have no section or two sections.
fn listed_sections<'a>(
    context: &mut Context<'a>,
    index: &NameIndex,
    group: &'a Section<'a>,
    programs: &str,
) -> Vec<&'a Section<'a>> {
    let sections = context.sections;
    let find = |name: String| index.get(&name).and_then(|place| sections.get(place));
    let mut found: Vec<&Section<'_>> = Vec::new();
    for name in comma_list(programs) {
        let program = find(format!("program:{name}"));
        let fcgi_program = find(format!("fcgi-program:{name}"));
        // supervisord's message begins with the name of the section that supervisord has found last. If supervisord
        // has found no section yet, the message begins with the name of the group's section.
        let last = found.last().map_or(group.name, |section| section.name);
        match (program, fcgi_program) {
            (Some(section), None) | (None, Some(section)) => found.push(section),
            (None, None) => {
                let why = format!("[{last}] names unknown program or fcgi-program {name}");
                context.reader(group).error("programs", why);
            }
            (Some(_), Some(_)) => {
                let why = format!("[{last}] name {name} is ambiguous (exists as program and fcgi-program)");
                context.reader(group).error("programs", why);
            }
        }
    }
    found
}

/// What the name of a section of this kind begins with.
fn prefix(kind: ProcessKind) -> &'static str {
    match kind {
        ProcessKind::Program => "program:",
        ProcessKind::EventListener => "eventlistener:",
        ProcessKind::FcgiProgram => "fcgi-program:",
    }
}

/// Reads the group of a section, whose name after the prefix is `name`. Adds the group's processes to the end of
/// `processes`.
fn homogeneous_group<'a>(
    context: &mut Context<'a>,
    defaults: &ProgramDefaults<'_>,
    (section, name): (&'a Section<'a>, &str),
    kind: ProcessKind,
    processes: &mut Vec<ProcessConfig>,
) -> Option<Group<'a>> {
    let vars = context.base_vars(defaults.variables);
    let mut reader = context.reader(section);
    let is_listener = kind == ProcessKind::EventListener;
    let default_priority = if is_listener { EVENTLISTENER_PRIORITY } else { DEFAULT_PRIORITY };
    let group_priority = reader.value_or("priority", &vars, default_priority, integer);
    let listener = is_listener.then(|| Rc::new(eventlistener::read_keys(&mut reader, &vars)));
    let program_name = reader.name_after_colon()?;
    let socket = (kind == ProcessKind::FcgiProgram)
        .then(|| fcgi_socket::read_socket(&mut reader, &vars, &program_name))
        .flatten();
    // supervisord strips blanks around the name of an event listener, but not around the name of its group.
    let group_name = if is_listener { name.to_owned() } else { program_name.clone() };
    let source = ProgramSource { section, kind, program_name, group_name, group_priority, socket, listener };
    let start = processes.len();
    add_processes(context, defaults, &source, processes);
    Some(Group {
        section,
        name: source.group_name,
        priority: group_priority,
        processes: start..processes.len(),
    })
}
