//! Which group each process belongs to, and the order of all of them.

use std::ops::Range;

use super::eventlistener;
use super::fcgi_socket;
use super::program::{ProgramDefaults, ProgramSource, processes};
use super::section_reader::Context;
use super::value::{integer, list};
use crate::config::grammar::document::Section;
use crate::config::grammar::ordered::{NameIndex, StableSort, pick};
use crate::config::model::{ProcessConfig, SectionKind};
use crate::config::warnings;

/// A group on its way into the order, and the places of its processes.
pub(crate) struct Group<'a> {
    pub(crate) section: &'a Section<'a>,
    pub(crate) name: String,
    pub(crate) priority: i64,
    pub(crate) processes: Range<usize>,
}

/// All processes in start order: groups by priority and name, their processes as each group has them. Of groups with
/// one name the first in this order stays and the others vanish, as in supervisord, where they cannot be told apart.
pub(crate) fn processes_in_start_order<'a>(
    context: &mut Context<'a>,
    defaults: &ProgramDefaults<'_>,
) -> Vec<ProcessConfig> {
    let mut claimed = NameIndex::default();
    let mut processes = Vec::new();
    let mut groups = heterogeneous(context, defaults, &mut claimed, &mut processes);
    groups.extend(of_kind(context, defaults, &claimed, SectionKind::Program, &mut processes));
    groups.extend(eventlistener::pools(context, defaults, &mut processes));
    groups.extend(of_kind(context, defaults, &claimed, SectionKind::FcgiProgram, &mut processes));
    let mut order = StableSort::default();
    for group in &groups {
        order.push(group.priority, group.name.clone());
    }
    let mut seen = NameIndex::default();
    let mut places = Vec::with_capacity(processes.len());
    for group in order.into_iter().filter_map(|(_, place)| groups.get(place)) {
        let members = group.processes.clone();
        let start = places.len();
        if seen.insert(&group.name) {
            unique(&processes, members.clone(), &mut places);
        }
        warnings::warn_duplicate(
            &mut context.reader(group.section),
            &group.name,
            members.len(),
            places.len().saturating_sub(start),
        );
    }
    pick(processes, places.into_iter()).collect()
}

/// Adds the places of a group's processes. Of those with one name the last stays, where the first was.
fn unique(processes: &[ProcessConfig], members: Range<usize>, out: &mut Vec<usize>) {
    if members.len() == 1 {
        out.push(members.start);
        return;
    }
    let mut known = NameIndex::default();
    for (member, process) in members.clone().zip(processes.get(members).unwrap_or(&[])) {
        let place = known.place(&process.name, out.len());
        match out.get_mut(place) {
            Some(former) => *former = member,
            None => out.push(member),
        }
    }
}

/// The groups of `[group:x]` sections, which claim the programs they list.
fn heterogeneous<'a>(
    context: &mut Context<'a>,
    defaults: &ProgramDefaults<'_>,
    claimed: &mut NameIndex,
    out: &mut Vec<ProcessConfig>,
) -> Vec<Group<'a>> {
    let mut sections = context.sections_with_prefix("group:").peekable();
    let programs = sections.peek().map_or_else(NameIndex::default, |_| names(context.sections));
    let mut groups = Vec::new();
    for (section, _) in sections {
        let vars = context.base_vars(defaults.variables);
        let mut reader = context.reader(section);
        let Some(name) = reader.name_after_colon() else { continue };
        let listed = reader.text("programs", &vars).unwrap_or_default();
        let priority = reader.value_or("priority", &vars, 999, integer);
        let start = out.len();
        for member in members(context, &programs, section, &listed) {
            claimed.insert(member.name);
            let Some(program) = context.reader(member).name_after_colon() else { continue };
            let source = ProgramSource {
                section: member,
                kind: SectionKind::Program,
                program,
                group: name.clone(),
                group_priority: priority,
                socket: None,
            };
            processes(context, defaults, &source, out);
        }
        groups.push(Group { section, name, priority, processes: start..out.len() });
    }
    groups
}

/// The places of the sections.
fn names(sections: &[Section<'_>]) -> NameIndex {
    let mut names = NameIndex::default();
    for (at, section) in sections.iter().enumerate() {
        let _place = names.place(section.name, at);
    }
    names
}

/// The sections of the programs that a group lists. (In the message about an unknown one supervisord puts the section
/// of the one before into the brackets.)
fn members<'a>(
    context: &mut Context<'a>,
    programs: &NameIndex,
    section: &'a Section<'a>,
    listed: &str,
) -> Vec<&'a Section<'a>> {
    let all = context.sections;
    let find = |name: String| programs.get(&name).and_then(|at| all.get(at));
    let mut members: Vec<&Section<'_>> = Vec::new();
    for program in list(listed) {
        let plain = find(format!("program:{program}"));
        let fcgi = find(format!("fcgi-program:{program}"));
        let before = members.last().map_or(section.name, |member| member.name);
        match (plain, fcgi) {
            (Some(member), None) | (None, Some(member)) => members.push(member),
            (None, None) => {
                let why = format!("[{before}] names unknown program or fcgi-program {program}");
                context.reader(section).error("programs", why);
            }
            (Some(_), Some(_)) => {
                let why =
                    format!("[{before}] name {program} is ambiguous (exists as program and fcgi-program)");
                context.reader(section).error("programs", why);
            }
        }
    }
    members
}

/// A group for each section of a kind that no `[group:x]` has claimed.
fn of_kind<'a>(
    context: &mut Context<'a>,
    defaults: &ProgramDefaults<'_>,
    claimed: &NameIndex,
    kind: SectionKind,
    out: &mut Vec<ProcessConfig>,
) -> Vec<Group<'a>> {
    let prefix = if kind == SectionKind::FcgiProgram { "fcgi-program:" } else { "program:" };
    let sections = context.sections_with_prefix(prefix).map(|(section, _)| section);
    let free = sections.filter(|section| claimed.get(section.name).is_none());
    free.filter_map(|section| homogeneous(context, defaults, section, kind, out)).collect()
}

fn homogeneous<'a>(
    context: &mut Context<'a>,
    defaults: &ProgramDefaults<'_>,
    section: &'a Section<'a>,
    kind: SectionKind,
    out: &mut Vec<ProcessConfig>,
) -> Option<Group<'a>> {
    let vars = context.base_vars(defaults.variables);
    let mut reader = context.reader(section);
    let name = reader.name_after_colon()?;
    let priority = reader.value_or("priority", &vars, 999, integer);
    let socket = (kind == SectionKind::FcgiProgram)
        .then(|| fcgi_socket::read_socket(&mut reader, &vars, &name))
        .flatten();
    let (program, group) = (name.clone(), name.clone());
    let source = ProgramSource { section, kind, program, group, group_priority: priority, socket };
    let start = out.len();
    processes(context, defaults, &source, out);
    Some(Group { section, name, priority, processes: start..out.len() })
}
