//! The cases of the plugin supervisord-dependent-startup, under supervisord with the plugin and under rsup without it.

use std::sync::Mutex;
use std::time::Duration;

use crate::support::plugin::{self, Case, PLUGIN, PLUGIN_MODULE, Starts};
use crate::support::{binary, each, needs, pid_namespace, python, rsup};

/// How long nothing more may start.
const REST: Duration = Duration::from_secs(1);

/// The order of a case, or how it differs from the expected one.
fn check(who: &str, case: &Case, starts: &Starts) -> Result<(), String> {
    let differs = || format!("{}: {who} starts {:?}:\n{}", case.name, starts.names, starts.log.join("\n"));
    (starts.names == case.starts).then_some(()).ok_or_else(differs)
}

/// The time to the last start without the time that the programs themselves need.
fn added_time(case: &Case, starts: &Starts) -> Duration {
    starts.time.saturating_sub(Duration::from_millis(case.own_ms))
}

#[test]
fn the_programs_start_in_the_order_of_the_plugin_and_without_its_delay() {
    needs!(pid_namespace(), python::with(PLUGIN, PLUGIN_MODULE));
    let python = python::with(PLUGIN, PLUGIN_MODULE).unwrap();
    let namespace = pid_namespace().unwrap();
    let cases = plugin::cases();
    let of_plugin = Mutex::new(Duration::ZERO);
    let of_rsup = Mutex::new(Duration::ZERO);
    each(&cases, |case| {
        let starts = case.under_supervisord(namespace, &python, REST);
        *of_plugin.lock().unwrap() += added_time(case, &starts);
        check("the plugin", case, &starts)
    });
    each(&cases, |case| {
        let starts = case.under_rsup(namespace, &binary(), &python, REST);
        *of_rsup.lock().unwrap() += added_time(case, &starts);
        check("rsup", case, &starts)
    });
    let of_plugin = of_plugin.into_inner().unwrap();
    let of_rsup = of_rsup.into_inner().unwrap();
    eprintln!("{} cases: the plugin adds {of_plugin:?}, rsup {of_rsup:?}", cases.len());
    // `make bench TABLES=ordered` measures the times one after the other.
    assert!(of_rsup * 10 < of_plugin, "rsup needs {of_rsup:?}, and the plugin {of_plugin:?}");
}

#[test]
fn rsup_refuses_a_cycle_of_which_the_plugin_starts_nothing() {
    needs!(pid_namespace(), python::with(PLUGIN, PLUGIN_MODULE));
    let python = python::with(PLUGIN, PLUGIN_MODULE).unwrap();
    let case = plugin::cycle();
    // The plugin ends some seconds after supervisord's start.
    let starts = case.under_supervisord(pid_namespace().unwrap(), &python, 5 * REST);
    check("the plugin", &case, &starts).unwrap();
    assert!(starts.log.iter().any(|line| line.contains("exited: dependentstartup (exit status 3")));
    let (code, rsup) = rsup(&case.conf(&python)).run();
    assert_eq!(code, 2);
    assert_eq!(
        rsup.lines("dependent_startup_wait_for: consul waits for consul3, which waits for consul2").len(),
        1
    );
}
