//! The keys that make programs wait for one another when rsup starts.
//!
//! | key of `[program:x]` | type | default |
//! |---|---|---|
//! | `dependent_startup` | boolean | false; true requires `autostart=false` |
//! | `dependent_startup_wait_for` | `NAME` or `NAME:STATE,STATE`, separated by blanks | none; the STATE is RUNNING |
//! | `dependent_startup_inherit_priority` | boolean | false |
//! | `depends_on` | list of program names | none |
//!
//! The keys `dependent_startup*` have the meaning that they have for supervisord-dependent-startup 1.4.0, an event
//! listener in Python. A NAME is the name of a program. The wait for this program ends when there is a listed STATE
//! that all of its processes have reached. `depends_on` waits for the state RUNNING. A section may set `depends_on`
//! without `dependent_startup`, but `depends_on` has no effect if rsup does not start the section's program.
//! `depends_on` is rsup's own key, like `startup` and `startup_wait`.
//!
//! The keys are read with the other keys of the section. The names are looked up when all processes are known.

use std::rc::Rc;

use super::section_reader::{Context, SectionReader};
use super::value::{DEFAULT_PRIORITY, awaited_state, boolean, comma_list};
use super::wait_graph::{self, ProgramWaits, Sorted, Wait};
use crate::config::grammar::collections::NameIndex;
use crate::config::grammar::expand::ExpansionVars;
use crate::config::grammar::python::repr;
use crate::config::model::{ProcessConfig, ProcessKind, Startup};
use crate::policy::{AutoRestart, Dependency, ProcessIndex, StartupWait, StateName};

const DEPENDENT_STARTUP: &str = "dependent_startup";
const WAIT_FOR: &str = "dependent_startup_wait_for";
const INHERIT_PRIORITY: &str = "dependent_startup_inherit_priority";
const DEPENDS_ON: &str = "depends_on";

/// Reads the keys of a section that defines `numprocs` processes. `process` is copied for each of these processes
/// later. It already contains the values of the other keys that all of these processes share.
pub(crate) fn read_keys(
    reader: &mut SectionReader<'_, '_>,
    vars: &ExpansionVars<'_>,
    numprocs: i64,
    process: &mut ProcessConfig,
) {
    let is_wanted = reader.value_or(DEPENDENT_STARTUP, vars, false, boolean);
    let inherits_priority = reader.value_or(INHERIT_PRIORITY, vars, false, boolean);
    let mut waits = Vec::new();
    read_wait_for(reader, vars, numprocs, &mut waits);
    let depends_on = reader.text(DEPENDS_ON, vars).unwrap_or_default();
    if process.kind == ProcessKind::EventListener {
        return;
    }
    let spec = &mut process.spec;
    spec.dependent_startup = is_wanted && !spec.autostart;
    if is_wanted && spec.autostart {
        let why =
            "requires autostart=false in the same section, so the dependent_startup keys have no effect";
        warn_and_log(reader, DEPENDENT_STARTUP, why.to_owned());
    }
    if !spec.dependent_startup {
        waits.clear();
        for key in [WAIT_FOR, INHERIT_PRIORITY] {
            if !is_wanted && reader.raw(key).is_some() {
                reader.warn(key, "has no effect without dependent_startup=true".to_owned());
            }
        }
    }
    let names = comma_list(&depends_on);
    if !spec.autostart && !spec.dependent_startup && !names.is_empty() {
        reader.warn(DEPENDS_ON, "has no effect, because autostart=false".to_owned());
    } else if charge_waits(reader, names.len(), numprocs) {
        let states: Rc<[_]> = Rc::new([StateName::Running]);
        let wait =
            |name: &&str| Wait { key: DEPENDS_ON, name: (*name).to_owned(), states: Rc::clone(&states) };
        waits.extend(names.iter().map(wait));
    }
    if spec.dependent_startup || !waits.is_empty() || spec.startup_wait == StartupWait::Exited {
        let name = Rc::clone(&process.program);
        let section = reader.section;
        reader.context.program_waits.push(ProgramWaits { section, name, inherits_priority, waits });
    }
}

/// Subtracts from the memory limit the size of the waits of `numprocs` processes, each of which waits for `name_count`
/// programs. Returns false if the limit is exceeded.
fn charge_waits(reader: &mut SectionReader<'_, '_>, name_count: usize, numprocs: i64) -> bool {
    let for_processes = usize::try_from(numprocs).unwrap_or(0).saturating_mul(size_of::<Dependency>());
    reader.context.charge_bytes(name_count.saturating_mul(for_processes.saturating_add(size_of::<Wait>())))
}

/// Reads `dependent_startup_wait_for`. If a name is repeated, the states of its last item count.
fn read_wait_for(
    reader: &mut SectionReader<'_, '_>,
    vars: &ExpansionVars<'_>,
    numprocs: i64,
    waits: &mut Vec<Wait>,
) {
    let text = reader.text(WAIT_FOR, vars).unwrap_or_default();
    if !charge_waits(reader, text.split_ascii_whitespace().count(), numprocs) {
        return;
    }
    let mut index = NameIndex::default();
    for item in text.split_ascii_whitespace() {
        let (name, states) = item.split_once(':').unwrap_or((item, "RUNNING"));
        let mut valid_states = Vec::new();
        for state in states.split(',') {
            match awaited_state(state) {
                Some(state) => valid_states.push(state),
                None => warn_and_log(reader, WAIT_FOR, format!("ignored invalid state {}", repr(state))),
            }
        }
        if valid_states.is_empty() {
            let expected = "STARTING, RUNNING, BACKOFF, STOPPING, EXITED or FATAL";
            reader.error(WAIT_FOR, format!("no valid state in {}: {expected}", repr(item)));
        }
        let wait = Wait { key: WAIT_FOR, name: name.to_owned(), states: valid_states.into() };
        let place = index.get_or_insert(name, waits.len());
        match waits.get_mut(place) {
            Some(earlier) => *earlier = wait,
            None => waits.push(wait),
        }
    }
}

fn warn_and_log(reader: &mut SectionReader<'_, '_>, key: &str, why: String) {
    reader.warn_at_start(format!("For [{}], {key}: {why}", reader.section.name));
    reader.warn(key, why);
}

/// A program with at least one process.
struct Program<'a> {
    processes: Rc<[ProcessIndex]>,
    /// The waits that the program's section sets. `None` if the program waits for nothing and has neither
    /// `dependent_startup` nor `startup_wait=exited` (set or by default).
    wait_settings: Option<ProgramWaits<'a>>,
    /// The indices of the programs that the program waits for, in the order of the waits in `wait_settings`.
    targets: Vec<usize>,
    /// The least of the program's own `priority` and the priorities that it inherits.
    priority: i64,
    /// 0 if it waits for no program, otherwise 1 more than the greatest depth of those that it waits for.
    wait_depth: usize,
    has_dependent_startup: bool,
    /// The first and the last step of `startup=ordered` that its processes with `autostart` belong to. `None` if it has
    /// no such process.
    steps: Option<(Step, Step)>,
    /// The last step that contains a process of this program, or of a program that it waits for directly or
    /// indirectly. Only processes with `autostart` belong to steps.
    last_step_including_targets: Option<Step>,
}

/// The group priority and the priority of a process. With `startup=ordered`, each pair is one step.
type Step = (i64, i64);

/// Looks up the names of the programs that are waited for, and sets the dependencies of all processes. `processes` must
/// be in start order.
pub(crate) fn resolve(context: &mut Context<'_>, startup: Startup, processes: &mut [ProcessConfig]) {
    let waiting = std::mem::take(&mut context.program_waits);
    if waiting.is_empty() {
        return;
    }
    let mut index = NameIndex::default();
    let mut programs = programs_of(processes, &mut index);
    for wait_settings in waiting {
        let program = index.get(&wait_settings.name).and_then(|place| programs.get_mut(place));
        // If two groups list the same program, its section was read twice.
        if let Some(program) = program.filter(|program| program.wait_settings.is_none()) {
            program.wait_settings = Some(wait_settings);
            find_targets(context, &index, program);
        }
    }
    let targets: Vec<_> = programs.iter().map(|program| program.targets.as_slice()).collect();
    let Sorted { order, cycles } = wait_graph::sort(&targets);
    for cycle in &cycles {
        report_cycle(context, &programs, cycle);
    }
    for place in order {
        update_from_targets(&mut programs, place);
    }
    rank_dependent_startup(&programs, processes);
    if startup == Startup::Ordered {
        warn_endless_startup_steps(context, &programs, processes);
    }
    for program in &programs {
        set_dependencies(context, program, &programs, processes);
    }
}

/// Returns the programs in the order of their first processes. Adds their names to `index`.
fn programs_of<'a>(processes: &[ProcessConfig], index: &mut NameIndex) -> Vec<Program<'a>> {
    let mut members: Vec<Vec<ProcessIndex>> = Vec::new();
    let is_program = |(_, process): &(usize, &ProcessConfig)| process.listener.is_none();
    for (id, process) in processes.iter().enumerate().filter(is_program) {
        let place = index.get_or_insert(&process.program, members.len());
        match members.get_mut(place) {
            Some(members) => members.push(ProcessIndex(id)),
            None => members.push(vec![ProcessIndex(id)]),
        }
    }
    let program = |members: Vec<ProcessIndex>| {
        let specs = || members.iter().filter_map(|id| Some(&processes.get(id.0)?.spec));
        let steps = || specs().filter(|spec| spec.autostart).map(|spec| (spec.group_priority, spec.priority));
        Program {
            wait_settings: None,
            targets: Vec::new(),
            priority: specs().next().map_or(0, |spec| spec.priority),
            wait_depth: 0,
            has_dependent_startup: specs().any(|spec| spec.dependent_startup),
            steps: steps().min().zip(steps().max()),
            last_step_including_targets: steps().max(),
            processes: members.into(),
        }
    };
    members.into_iter().map(program).collect()
}

/// Looks up the names that a program waits for. Removes the unknown ones from its waits, with a warning.
fn find_targets<'a>(context: &mut Context<'a>, index: &NameIndex, program: &mut Program<'a>) {
    let Program { wait_settings: Some(wait_settings), targets, .. } = program else { return };
    let section = wait_settings.section;
    wait_settings.waits.retain(|wait| {
        let target = index.get(&wait.name);
        if target.is_none() {
            let why = format!("ignored unknown program {}", repr(&wait.name));
            warn_and_log(&mut context.reader(section), wait.key, why);
        }
        targets.extend(target);
        target.is_some()
    });
}

/// Reports that each of these programs waits for the next, and the last for the first.
fn report_cycle<'a>(context: &mut Context<'a>, programs: &[Program<'a>], cycle: &[usize]) {
    let wait_settings_at =
        |place: &usize| programs.get(*place).and_then(|program| program.wait_settings.as_ref());
    let Some(first) = cycle.first().and_then(wait_settings_at) else { return };
    let mut awaited_names: Vec<_> =
        cycle.iter().skip(1).filter_map(wait_settings_at).map(|waiting| &*waiting.name).collect();
    awaited_names.push(&first.name);
    let wait = first.waits.iter().find(|wait| awaited_names.first() == Some(&wait.name.as_str()));
    let key = wait.map_or("", |wait| wait.key);
    let why = format!("{} waits for {}", first.name, awaited_names.join(", which waits for "));
    context.reader(first.section).error(key, why);
}

/// Updates a program from the programs that it waits for: its `wait_depth`, its `last_step_including_targets` and, with
/// `dependent_startup_inherit_priority`, its `priority`. The programs that it waits for must be updated before.
fn update_from_targets(programs: &mut [Program<'_>], place: usize) {
    let Some(program) = programs.get(place) else { return };
    let inherits_priority = program.wait_settings.as_ref().is_some_and(|waiting| waiting.inherits_priority);
    let mut priority = program.priority;
    let mut wait_depth = 0;
    let mut last_step_including_targets = program.last_step_including_targets;
    for target in program.targets.iter().filter_map(|target| programs.get(*target)) {
        priority = priority.min(if inherits_priority { target.priority } else { priority });
        wait_depth = wait_depth.max(target.wait_depth.saturating_add(1));
        last_step_including_targets = last_step_including_targets.max(target.last_step_including_targets);
    }
    if let Some(program) = programs.get_mut(place) {
        program.priority = priority;
        program.wait_depth = wait_depth;
        program.last_step_including_targets = last_step_including_targets;
    }
}

/// Sets the order of the programs with `dependent_startup` that may start at the same moment. The listener
/// supervisord-dependent-startup has the same order: by priority, with the default priority 999 last; then by
/// `wait_depth`; then by name. These programs come after those with `autostart`, which supervisord starts before the
/// listener runs.
fn rank_dependent_startup(programs: &[Program<'_>], processes: &mut [ProcessConfig]) {
    let mut dependent_startup_programs: Vec<_> =
        programs.iter().filter(|program| program.has_dependent_startup).collect();
    dependent_startup_programs.sort_unstable_by_key(|program| {
        let name = program.wait_settings.as_ref().map(|waiting| &*waiting.name);
        (program.priority == DEFAULT_PRIORITY, program.priority, program.wait_depth, name)
    });
    for (rank, program) in (0..i64::MAX).rev().zip(dependent_startup_programs.iter().rev()) {
        for id in &*program.processes {
            if let Some(process) = processes.get_mut(id.0) {
                process.spec.start_rank = rank;
            }
        }
    }
}

/// Warns about each program that keeps a step of `startup=ordered` from ending, so that the next step never begins.
/// Also warns if a program with `startup_wait=exited` must run for `startsecs`, because a shorter run is a failed
/// start.
fn warn_endless_startup_steps<'a>(
    context: &mut Context<'a>,
    programs: &[Program<'a>],
    processes: &[ProcessConfig],
) {
    let last_step = programs.iter().filter_map(|program| program.steps).map(|(_, last)| last).max();
    for program in programs {
        let (Some(source), Some((step, _))) = (&program.wait_settings, program.steps) else { continue };
        let mut reader = context.reader(source.section);
        for (wait, target) in source.waits.iter().zip(&program.targets) {
            if programs.get(*target).is_some_and(|target| target.last_step_including_targets > Some(step)) {
                let name = &wait.name;
                let why = format!(
                    "this program waits for {name}, and startup=ordered starts {name} only when this program is up"
                );
                reader.warn(wait.key, why);
            }
        }
        let first = program.processes.first().and_then(|id| processes.get(id.0));
        let Some(spec) =
            first.map(|process| &process.spec).filter(|spec| spec.startup_wait == StartupWait::Exited)
        else {
            continue;
        };
        // With `autorestart=false`, `warnings.rs` warns about `startsecs`, unless `startretries` is 0.
        if spec.startsecs > 0 && spec.autorestart == AutoRestart::Unexpected {
            let seconds = spec.startsecs;
            let why = format!(
                "startsecs={seconds}, so an end within {seconds} s is a failed start, with exit code 0 too"
            );
            reader.warn("startup_wait", why);
        }
        let reason = if spec.autorestart == AutoRestart::Always {
            "autorestart=true"
        } else if spec.exitcodes.is_empty() {
            "no exit code is expected (exitcodes)"
        } else {
            continue;
        };
        if last_step > Some(step) {
            let why =
                format!("{reason}, so the program is never up, and startup=ordered starts nothing after it");
            reader.warn("startup_wait", why);
        }
    }
}

/// Sets the dependencies of the processes of a program. Warns if rsup does not start a program that they wait for,
/// because only a client can then end the wait. Also warns if `depends_on` names a program with `startup_wait=exited`,
/// because `depends_on` does not wait for the exit.
fn set_dependencies<'a>(
    context: &mut Context<'a>,
    program: &Program<'a>,
    programs: &[Program<'a>],
    processes: &mut [ProcessConfig],
) {
    let Some(source) = &program.wait_settings else { return };
    let mut dependencies = Vec::new();
    for (wait, target) in source.waits.iter().zip(&program.targets) {
        let Some(target) = programs.get(*target) else { continue };
        let first = target.processes.first().and_then(|id| processes.get(id.0));
        if first.is_some_and(|first| !first.spec.autostart && !first.spec.dependent_startup) {
            let name = &wait.name;
            let why =
                format!("{name} has autostart=false, so this program waits until a client starts {name}");
            context.reader(source.section).warn(wait.key, why);
        }
        if wait.key == DEPENDS_ON && first.is_some_and(|first| first.spec.startup_wait == StartupWait::Exited)
        {
            let name = &wait.name;
            let why = format!("waits until {name} is RUNNING, not until {name} has exited");
            context.reader(source.section).warn(wait.key, why);
        }
        let name = first.map_or_else(|| wait.name.as_str().into(), |first| Rc::clone(&first.program));
        let target = Rc::clone(&target.processes);
        dependencies.push(Dependency { name, processes: target, states: Rc::clone(&wait.states) });
    }
    for id in &*program.processes {
        if let Some(process) = processes.get_mut(id.0) {
            process.spec.dependencies.clone_from(&dependencies);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Config;
    use crate::config::tests::load_text;

    /// The text of a program's section.
    fn program(name: &str, keys: &str) -> String {
        format!("[program:{name}]\ncommand=c\n{keys}\n")
    }

    /// The text of a section of a program that the keys `dependent_startup*` start.
    fn dependent(name: &str, keys: &str) -> String {
        program(name, &format!("autostart=false\ndependent_startup=true\n{keys}"))
    }

    fn config(text: &str) -> Config {
        let loaded = load_text(text);
        let report = loaded.report.to_string();
        loaded.config.unwrap_or_else(|| panic!("{text}\n{report}"))
    }

    /// The errors and warnings, without the name of the file.
    fn report(text: &str) -> Vec<String> {
        let report = load_text(text).report;
        report.lines(true).map(|line| line.split_once("supervisord.conf:").unwrap().1.to_owned()).collect()
    }

    /// The lines that rsup logs when it starts with this file.
    fn notices(text: &str) -> Vec<String> {
        load_text(text).notices.into_iter().map(|notice| notice.text).collect()
    }

    /// What each process of a valid file waits for, as `NAME=DEPENDENCY:STATES:IDS`.
    fn waits(text: &str) -> Vec<String> {
        let of_process = |process: &ProcessConfig| {
            let of_dependency = |dependency: &Dependency| {
                let ids: Vec<_> = dependency.processes.iter().map(|id| id.0).collect();
                format!("{}={}:{:?}:{ids:?}", process.name, dependency.name, dependency.states)
            };
            process.spec.dependencies.iter().map(of_dependency).collect::<Vec<_>>()
        };
        config(text).processes.iter().flat_map(of_process).collect()
    }

    /// The processes of a valid file in the order in which they start if they may start at the same moment.
    fn ranked(text: &str) -> Vec<String> {
        let mut processes = config(text).processes;
        processes.sort_by_key(|process| process.spec.start_rank);
        processes.into_iter().map(|process| process.name).collect()
    }

    #[test]
    fn a_program_without_these_keys_waits_for_nothing() {
        let config = config(&program("a", "priority=5"));
        let spec = &config.processes[0].spec;
        assert_eq!((spec.priority, spec.start_rank, spec.startup_wait), (5, 5, StartupWait::Running));
        assert!(spec.dependencies.is_empty() && !spec.dependent_startup && spec.autostart);
        assert_eq!(config.processes[0].startup_wait, None);
    }

    #[test]
    fn a_short_job_is_up_when_it_has_exited_unless_its_section_says_otherwise() {
        let table = [
            ("autorestart=false\nstartsecs=0", StartupWait::Exited),
            ("autorestart=false\nstartsecs=-1", StartupWait::Exited),
            ("autorestart=false\nstartsecs=1", StartupWait::Running),
            ("startsecs=0", StartupWait::Running),
            ("autorestart=false\nstartsecs=0\nstartup_wait=running", StartupWait::Running),
            ("startup_wait=Exited", StartupWait::Exited),
        ];
        for (keys, want) in table {
            assert_eq!(config(&program("a", keys)).processes[0].spec.startup_wait, want, "{keys}");
        }
    }

    #[test]
    fn names_and_states_become_dependencies() {
        let text = [
            program("b", ""),
            dependent("c", "dependent_startup_wait_for=b a:exited,Fatal b:exited"),
            program("a", "depends_on = b"),
            dependent("d", "dependent_startup_wait_for=c:starting\ndepends_on=a"),
        ];
        let want = [
            "a=b:[Running]:[1]",
            "c=b:[Exited]:[1]",
            "c=a:[Exited, Fatal]:[0]",
            "d=c:[Starting]:[2]",
            "d=a:[Running]:[0]",
        ];
        assert_eq!(waits(&text.concat()), want);
        let config = config(&text.concat());
        let dependent = config.processes.iter().map(|process| process.spec.dependent_startup);
        assert_eq!(dependent.collect::<Vec<_>>(), [false, false, true, true]);
    }

    #[test]
    fn a_name_means_all_processes_of_the_program_in_every_group() {
        let text = "[group:z]\nprograms=p\n[group:y]\nprograms=p, q\n\
                    [program:p]\ncommand=c\nnumprocs=2\nprocess_name=p%(process_num)d\n\
                    [program:q]\ncommand=c\ndepends_on=p, s\n\
                    [fcgi-program:s]\ncommand=c\nsocket=tcp://localhost:9000\n";
        assert_eq!(waits(text), ["q=p:[Running]:[1, 2, 4, 5]", "q=s:[Running]:[0]"]);
    }

    #[test]
    fn every_process_of_a_program_waits() {
        let keys = "numprocs=2\nprocess_name=w%(process_num)d\ndepends_on=a";
        let text = program("a", "") + &program("w", keys);
        assert_eq!(waits(&text), ["w0=a:[Running]:[0]", "w1=a:[Running]:[0]"]);
    }

    #[test]
    fn dependent_startup_requires_autostart_to_be_false() {
        let keys = "dependent_startup=true\ndependent_startup_wait_for=b\ndepends_on=b";
        let text = program("a", keys) + &program("b", "");
        let why = "dependent_startup: requires autostart=false in the same section, so the dependent_startup keys have no effect";
        assert_eq!(report(&text), [format!("3: warning: [program:a] {why}")]);
        assert_eq!(notices(&text), [format!("For [program:a], {why}")]);
        // Only the wait of `depends_on` is left.
        assert_eq!(waits(&text), ["a=b:[Running]:[1]"]);
        assert!(!config(&text).processes[0].spec.dependent_startup);
    }

    #[test]
    fn keys_that_have_no_effect_get_a_warning() {
        let text = program("a", "dependent_startup_wait_for=b\ndependent_startup_inherit_priority=true")
            + &program("b", "autostart=false\ndepends_on=a");
        let want = [
            "3: warning: [program:a] dependent_startup_wait_for: has no effect without dependent_startup=true",
            "4: warning: [program:a] dependent_startup_inherit_priority: has no effect without dependent_startup=true",
            "8: warning: [program:b] depends_on: has no effect, because autostart=false",
        ];
        assert_eq!(report(&text), want);
        assert_eq!((notices(&text), waits(&text)), (vec![], vec![]));
    }

    #[test]
    fn an_unknown_name_is_ignored_with_a_warning() {
        let text = dependent("a", "dependent_startup_wait_for=zz  b")
            + &program("b", "depends_on=y y,c,")
            + &program("c", "")
            + "[eventlistener:l]\ncommand=c\nevents=EVENT\n";
        let want = [
            "5: warning: [program:a] dependent_startup_wait_for: ignored unknown program 'zz'",
            "8: warning: [program:b] depends_on: ignored unknown program ''",
            "8: warning: [program:b] depends_on: ignored unknown program 'y y'",
        ];
        assert_eq!(report(&text)[..3], want);
        assert!(
            notices(&text).contains(&"For [program:b], depends_on: ignored unknown program 'y y'".to_owned())
        );
        assert_eq!(waits(&text), ["a=b:[Running]:[2]", "b=c:[Running]:[3]"]);
    }

    #[test]
    fn an_event_listener_neither_waits_nor_is_waited_for() {
        let text = "[eventlistener:l]\ncommand=c\nevents=EVENT\ndepends_on=a\n".to_owned()
            + &program("a", "depends_on=l");
        let config = config(&text);
        assert!(config.processes.iter().all(|process| process.spec.dependencies.is_empty()));
    }

    #[test]
    fn an_invalid_state_is_ignored_but_an_item_needs_a_valid_one() {
        let text = dependent("a", "dependent_startup_wait_for=b:STOPPED,exited") + &program("b", "");
        let why = "dependent_startup_wait_for: ignored invalid state 'STOPPED'";
        assert_eq!(report(&text), [format!("5: warning: [program:a] {why}")]);
        assert_eq!(notices(&text), [format!("For [program:a], {why}")]);
        assert_eq!(waits(&text), ["a=b:[Exited]:[1]"]);
        for item in ["b:up", "b:", "b:running:exited"] {
            let text = dependent("a", &format!("dependent_startup_wait_for={item}")) + &program("b", "");
            let error = format!(
                "5: error: [program:a] dependent_startup_wait_for: no valid state in '{item}': STARTING, RUNNING, BACKOFF, STOPPING, EXITED or FATAL"
            );
            assert!(report(&text).contains(&error), "{:?}", report(&text));
        }
    }

    #[test]
    fn a_wrong_value_is_an_error() {
        let table = [
            ("dependent_startup=x", "dependent_startup: not a valid boolean value: 'x'"),
            (
                "dependent_startup_inherit_priority=",
                "dependent_startup_inherit_priority: not a valid boolean value: ''",
            ),
            ("startup_wait=x", "startup_wait: invalid 'startup_wait' value 'x': running or exited"),
        ];
        for (keys, want) in table {
            assert!(report(&program("a", keys)).contains(&format!("3: error: [program:a] {want}")), "{keys}");
        }
        let text = "[supervisord]\nstartup=x\n".to_owned() + &program("a", "");
        assert_eq!(
            report(&text),
            ["2: error: [supervisord] startup: invalid 'startup' value 'x': parallel or ordered"]
        );
    }

    #[test]
    fn a_cycle_is_one_error_that_names_all_its_programs() {
        let two = dependent("a", "dependent_startup_wait_for=b") + &program("b", "depends_on=a");
        assert_eq!(
            report(&two),
            ["5: error: [program:a] dependent_startup_wait_for: a waits for b, which waits for a"]
        );
        let three = program("x", "depends_on=c")
            + &program("c", "depends_on=a")
            + &program("a", "depends_on=b")
            + &program("b", "depends_on=c");
        assert_eq!(
            report(&three),
            ["9: error: [program:a] depends_on: a waits for b, which waits for c, which waits for a"]
        );
        assert_eq!(
            report(&program("a", "depends_on=a")),
            ["3: error: [program:a] depends_on: a waits for a"]
        );
        // The keys of `b` have no effect, so there is no cycle.
        let none = program("a", "depends_on=b") + &program("b", "dependent_startup_wait_for=a");
        assert_eq!(waits(&none), ["a=b:[Running]:[1]"]);
    }

    #[test]
    fn programs_that_may_start_at_the_same_moment_have_the_order_of_the_plugin() {
        let inherits = "dependent_startup_inherit_priority=true\ndependent_startup_wait_for=";
        let text = [
            dependent("no_2", &format!("{inherits}no_1")),
            dependent("no_1", "dependent_startup_wait_for=auto"),
            dependent("no_0", ""),
            program("auto", "priority=5"),
            dependent("five_z", &format!("priority=20\n{inherits}auto")),
            dependent("five_a", &format!("{inherits}five_z")),
            dependent("one", &format!("priority=1\n{inherits}auto no_1")),
            dependent("late", "priority=1000"),
            "[group:a]\npriority=1\nprograms=no_1\n".to_owned(),
        ];
        let want = ["auto", "one", "five_z", "five_a", "late", "no_0", "no_1", "no_2"];
        assert_eq!(ranked(&text.concat()), want);
    }

    #[test]
    fn a_program_that_waits_for_one_that_nothing_starts_gets_a_warning() {
        let text = program("a", "depends_on=b,c") + &program("b", "autostart=false") + &dependent("c", "");
        let want = "3: warning: [program:a] depends_on: b has autostart=false, so this program waits until a client starts b";
        assert_eq!(report(&text), [want]);
        assert_eq!(notices(&text), [""; 0]);
    }

    #[test]
    fn a_program_that_depends_on_a_job_gets_a_warning() {
        let job = "autorestart=false\nstartsecs=0";
        let want = "3: warning: [program:a] depends_on: waits until job is RUNNING, not until job has exited"
            .to_owned();
        let text = program("a", "depends_on=job") + &program("job", job);
        assert_eq!(report(&text), [want]);
        let text = program("a", "depends_on=job") + &program("job", &format!("{job}\nstartup_wait=running"));
        assert_eq!(report(&text), [""; 0]);
        let text = dependent("a", "dependent_startup_wait_for=job") + &program("job", job);
        assert_eq!(report(&text), [""; 0]);
    }

    #[test]
    fn a_job_with_startsecs_gets_one_warning() {
        let text = program("a", "startup_wait=exited");
        let want = "5: warning: [program:a] startup_wait: startsecs=1, so an end within 1 s is a failed start, with exit code 0 too";
        assert_eq!(report(&format!("[supervisord]\nstartup=ordered\n{text}")), [want]);
        assert_eq!(report(&text), [""; 0]);
        let text = program("a", "startup_wait=exited\nautorestart=false");
        assert_eq!(report(&format!("[supervisord]\nstartup=ordered\n{text}")).len(), 1);
    }

    #[test]
    fn a_step_that_never_ends_gets_a_warning() {
        let ordered = |text: String| report(&format!("[supervisord]\nstartup=ordered\n{text}"));
        let endless = [
            ("autorestart=true", "autorestart=true"),
            ("exitcodes=", "no exit code is expected (exitcodes)"),
        ];
        for (keys, reason) in endless {
            let text = program("a", &format!("priority=1\nstartup_wait=exited\nstartsecs=0\n{keys}"))
                + &program("b", "");
            let want = format!(
                "6: warning: [program:a] startup_wait: {reason}, so the program is never up, and startup=ordered starts nothing after it"
            );
            assert_eq!(ordered(text.clone()), [want]);
            assert_eq!(report(&text), [""; 0]);
        }
        for keys in [
            "priority=1\nautorestart=false\nstartsecs=0",
            "priority=1\nautorestart=false\nstartsecs=0\nstartup_wait=running",
            "priority=1\nstartup_wait=exited\nstartsecs=0",
            "priority=1\nautorestart=true\nstartup_wait=exited\nstartsecs=0\nautostart=false",
            // No step comes after this one.
            "priority=999\nautorestart=true\nstartup_wait=exited\nstartsecs=0",
        ] {
            assert_eq!(ordered(program("a", keys) + &program("b", "")), [""; 0], "{keys}");
        }
    }

    #[test]
    fn a_program_that_waits_for_a_later_step_gets_a_warning() {
        let text = program("a", "priority=1\ndepends_on=m")
            + &dependent("m", "priority=3\ndependent_startup_wait_for=b")
            + &program("b", "priority=2\ndepends_on=c")
            + &program("c", "priority=2");
        let want = "6: warning: [program:a] depends_on: this program waits for m, and startup=ordered starts m only when this program is up";
        assert_eq!(report(&format!("[supervisord]\nstartup=ordered\n{text}")), [want]);
        assert_eq!(report(&text), [""; 0]);
    }

    #[test]
    fn too_many_waits_are_an_error_and_do_not_fill_the_memory() {
        let names = "x ".repeat(1000);
        let keys =
            format!("numprocs=100000\nprocess_name=%(process_num)d\ndependent_startup_wait_for={names}");
        let text = dependent("a", &keys) + &program("x", "");
        let error = "Error: the sections with all inherited values have more text than a machine can hold";
        assert!(load_text(&text).report.lines(false).any(|line| line == error));
    }
}
