//! Which group each process belongs to, and the order of all of them.

use super::ini::Section;
use super::order::{Index, Order};
use super::program::{Base, Origin, processes};
use super::section::Context;
use super::value::{integer, list};
use super::{Kind, Process, listener, socket};

/// A group on its way into the order.
pub(super) struct Group {
    pub(super) name: String,
    pub(super) priority: i64,
    pub(super) processes: Vec<Process>,
}

/// All processes in start order: groups by priority and name, their processes as each group has them. Of groups with
/// one name the first in this order stays and the others vanish, as in supervisord, where they cannot be told apart.
pub(super) fn all(context: &mut Context<'_>, base: &Base<'_>) -> Vec<Process> {
    let mut claimed = Index::default();
    let mut groups = heterogeneous(context, base, &mut claimed);
    groups.extend(of_kind(context, base, &claimed, Kind::Program));
    groups.extend(listener::pools(context, base));
    groups.extend(of_kind(context, base, &claimed, Kind::FcgiProgram));
    let mut order = Order::default();
    for group in &groups {
        order.push(group.priority, group.name.clone());
    }
    let count = groups.iter().map(|group| group.processes.len()).sum();
    let mut seen = Index::default();
    let visible = order.apply(groups).filter(|group| seen.admit(&group.name));
    let mut processes = Vec::with_capacity(count);
    visible.for_each(|group| processes.extend(unique(group.processes)));
    processes
}

/// Of processes with one name the last definition stays, at the place of the first.
fn unique(processes: Vec<Process>) -> Vec<Process> {
    if processes.len() < 2 {
        return processes;
    }
    let mut places = Index::default();
    let mut out: Vec<Process> = Vec::new();
    for process in processes {
        let place = places.place(&process.name, out.len());
        match out.get_mut(place) {
            Some(old) => *old = process,
            None => out.push(process),
        }
    }
    out
}

/// The groups of `[group:x]` sections, which claim the programs they list.
fn heterogeneous<'a>(context: &mut Context<'a>, base: &Base<'_>, claimed: &mut Index) -> Vec<Group> {
    let mut sections = context.starting_with("group:").peekable();
    let programs = sections.peek().map_or_else(Index::default, |_| names(context.all));
    let mut groups = Vec::new();
    for (section, _) in sections {
        let names = context.common(base.variables);
        let mut keys = context.reader(section);
        let Some(name) = keys.own_name() else { continue };
        let listed = keys.text("programs", &names).unwrap_or_default();
        let priority = keys.value_or("priority", &names, 999, integer);
        let mut processes = Vec::new();
        for member in members(context, &programs, section, &listed) {
            claimed.admit(member.name);
            let origin = Origin {
                section: member,
                kind: Kind::Program,
                group: name.clone(),
                group_priority: priority,
                socket: None,
            };
            processes.extend(self::processes(context, base, &origin));
        }
        groups.push(Group { name, priority, processes });
    }
    groups
}

/// The places of the sections.
fn names(sections: &[Section<'_>]) -> Index {
    let mut names = Index::default();
    for (at, section) in sections.iter().enumerate() {
        let _place = names.place(section.name, at);
    }
    names
}

/// The sections of the programs that a group lists. (In the message about an unknown one supervisord puts the section
/// of the one before into the brackets.)
fn members<'a>(
    context: &mut Context<'a>,
    programs: &Index,
    section: &'a Section<'a>,
    listed: &str,
) -> Vec<&'a Section<'a>> {
    let all = context.all;
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
fn of_kind<'a>(context: &mut Context<'a>, base: &Base<'_>, claimed: &Index, kind: Kind) -> Vec<Group> {
    let prefix = if kind == Kind::FcgiProgram { "fcgi-program:" } else { "program:" };
    let sections = context.starting_with(prefix).map(|(section, _)| section);
    let free = sections.filter(|section| claimed.get(section.name).is_none());
    free.filter_map(|section| homogeneous(context, base, section, kind)).collect()
}

fn homogeneous<'a>(
    context: &mut Context<'a>,
    base: &Base<'_>,
    section: &'a Section<'a>,
    kind: Kind,
) -> Option<Group> {
    let names = context.common(base.variables);
    let mut keys = context.reader(section);
    let name = keys.own_name()?;
    let priority = keys.value_or("priority", &names, 999, integer);
    let socket = (kind == Kind::FcgiProgram).then(|| socket::read(&mut keys, &names, &name)).flatten();
    let origin = Origin { section, kind, group: name.clone(), group_priority: priority, socket };
    let processes = processes(context, base, &origin);
    Some(Group { name, priority, processes })
}
