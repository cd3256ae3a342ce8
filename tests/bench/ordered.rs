//! Ordered start: the time that rsup and supervisord with the plugin supervisord-dependent-startup add to the start of the
//! plugin's own cases, and the time of the policy for many processes in steps.

use std::path::Path;
use std::time::{Duration, Instant};

use rsup::policy::{
    Action, AutoRestart, Event, ProcessAction, ProcessSet, ProcessSpec, Settings, ShutdownOn, Signal,
    StartupWait, Time,
};

use crate::plugin::{self, Case, PLUGIN, PLUGIN_MODULE, Starts};
use crate::python;
use crate::table::{self, median, short};
use crate::tools;
use crate::world::NAMESPACE;

/// The number of steps of the policy's processes.
const STEPS: usize = 50;
const SIZES: [usize; 3] = [100, 1000, 10_000];
const ROUNDS: usize = 21;
const RSUP_RUNS: usize = 3;

pub(crate) fn measure() {
    match python::with(PLUGIN, PLUGIN_MODULE) {
        Ok(python) => measure_cases(&python),
        Err(why) => eprintln!("MISSING supervisord-dependent-startup: {why}"),
    }
    measure_policy();
}

/// The plugin and rsup take turns. rsup's time is the median of several runs, because other processes of the machine delay
/// it more than a few milliseconds.
fn measure_cases(python: &Path) {
    let mut rows = vec![];
    let mut of_plugin = vec![];
    let mut of_rsup = vec![];
    for case in plugin::cases() {
        let plugin = added_ms(&case, &case.under_supervisord(&NAMESPACE, python, Duration::ZERO));
        let run = |_| added_ms(&case, &case.under_rsup(&NAMESPACE, &tools::rsup(), python, Duration::ZERO));
        let rsup = median((0..RSUP_RUNS).map(run).collect()).unwrap();
        rows.push(vec![case.name.to_owned(), short(plugin), short(rsup)]);
        of_plugin.push(plugin);
        of_rsup.push(rsup);
    }
    let most = |samples: &[f64]| samples.iter().copied().fold(0.0, f64::max);
    rows.push(vec!["the longest of these".to_owned(), short(most(&of_plugin)), short(most(&of_rsup))]);
    let middle = |samples| median(samples).map_or_else(|| "–".to_owned(), short);
    rows.push(vec!["the median of these".to_owned(), middle(of_plugin), middle(of_rsup)]);
    let title = "From before there is a PID namespace to the last first start, without the time that the programs \
                 themselves need, in ms";
    table::print(title, &["supervisord with the plugin", "rsup"].map(str::to_owned), &rows);
}

fn added_ms(case: &Case, starts: &Starts) -> f64 {
    assert_eq!(starts.names, case.starts, "{}: {}", case.name, starts.log.join("\n"));
    starts.time.as_secs_f64() * 1e3 - case.own_ms as f64
}

fn measure_policy() {
    let row = |name: &str, is_ordered| {
        let cell = |count: &usize| {
            let samples = (0..ROUNDS).map(|_| policy_ms(*count, is_ordered)).collect();
            median(samples).map_or_else(|| "–".to_owned(), short)
        };
        std::iter::once(name.to_owned()).chain(SIZES.iter().map(cell)).collect()
    };
    let rows: [Vec<String>; 2] = [row("startup=parallel", false), row("startup=ordered", true)];
    let title = format!(
        "The policy's own time until every process is RUNNING, in ms, by the number of processes in {STEPS} steps"
    );
    table::print(&title, &SIZES.map(|count| count.to_string()), &rows);
}

/// The milliseconds from the creation of the policy until every process is RUNNING. Every exec works at once.
fn policy_ms(count: usize, is_ordered: bool) -> f64 {
    let specs = (0..count).map(|number| spec((number * STEPS / count).cast_signed() as i64)).collect();
    let now = Time::from_nanos(0);
    let begin = Instant::now();
    let mut processes =
        ProcessSet::new(specs, Settings { ordered_startup: is_ordered, ..Settings::default() });
    processes.begin_first_starts(now);
    let mut started = 0;
    while let Some(action) = processes.next_action() {
        if let Action::Process(id, ProcessAction::Spawn) = action {
            started += 1;
            processes.apply(id, Event::ExecSucceeded, now);
        }
    }
    let time = begin.elapsed();
    assert_eq!(started, count);
    time.as_secs_f64() * 1e3
}

/// A process that is RUNNING as soon as it has started.
fn spec(step: i64) -> ProcessSpec {
    ProcessSpec {
        autostart: true,
        autorestart: AutoRestart::Unexpected,
        startsecs: 0,
        startretries: 3,
        exitcodes: vec![0].into(),
        stopsignal: Signal::TERM,
        stopwaitsecs: 10,
        stopasgroup: false,
        killasgroup: false,
        group_priority: step,
        priority: step,
        shutdown_on: ShutdownOn::Never,
        startup_wait: StartupWait::Running,
        dependencies: Vec::new(),
        dependent_startup: false,
        start_rank: step,
        is_listener: false,
    }
}
