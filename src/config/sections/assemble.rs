//! Reads all sections. As in supervisord, `[supervisord]` comes first, because its `environment` sets variables that
//! the values of the other sections can use.

use std::rc::Rc;

use super::program::{ProgramDefaults, estimated_memory};
use super::section_reader::{Context, MAX_PROCESSES, MAX_TOTAL_TEXT_BYTES};
use super::{group, ignored_sections, ordered_start, supervisord};
use crate::config::grammar::collections::{EnvMap, NameIndex};
use crate::config::grammar::document::Document;
use crate::config::model::{Config, Loaded, Machine, Overrides, ProcessConfig};
use crate::config::report::{Notice, Report};
use crate::config::warnings;

/// Turns the document into a configuration. `here` is the directory of the main file. Reading the files may already
/// have added errors and warnings to `report`, and log lines to `notices`.
pub(crate) fn assemble(
    document: &Document<'_>,
    overrides: &Overrides,
    machine: &Machine<'_>,
    here: &str,
    report: Report,
    notices: Vec<Notice>,
) -> Loaded {
    let mut context = Context {
        document,
        sections: &document.sections(),
        machine,
        overrides,
        here,
        report,
        notices,
        processes_left: MAX_PROCESSES,
        text_bytes_left: Some(MAX_TOTAL_TEXT_BYTES),
        valid_users: NameIndex::default(),
        own_user: None,
        can_change_to_own_user: true,
        tried_program_users: Vec::new(),
        program_waits: Vec::new(),
    };
    let config = read_sections(&mut context);
    warnings::warn_unknown_names(&mut context);
    let Context { report, mut notices, .. } = context;
    // If two groups list the same program, its section is read twice and adds each of its notices twice.
    let mut seen = NameIndex::default();
    notices.retain(|notice| seen.insert(&notice.text));
    Loaded { config: config.filter(|_| !report.has_errors()), report, notices }
}

fn read_sections(context: &mut Context<'_>) -> Option<Config> {
    let mut variables = EnvMap::from(context.machine.environment);
    let supervisord = supervisord::read_section(context, &mut variables);
    let config = supervisord.map(|supervisord| {
        let defaults = ProgramDefaults {
            variables: &variables,
            environment_size: estimated_memory("", &supervisord.environment),
            exitcodes: Rc::new([0]),
            shutdown_on: supervisord.shutdown_on,
        };
        let mut processes = group::processes_in_start_order(context, &defaults);
        let is_replaced = |process: &mut ProcessConfig| {
            process.listener.as_ref().is_some_and(|listener| listener.replacement.is_some())
        };
        let replaced_listeners = processes.extract_if(.., is_replaced).collect();
        ordered_start::resolve(context, supervisord.startup, &mut processes);
        Config { supervisord, processes, replaced_listeners }
    });
    ignored_sections::check_all(context, &variables);
    config
}
