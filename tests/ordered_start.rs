//! Ordered start: processes that wait until others have started or ended.

use std::process::Command;

use crate::support::{Rsup, binary, program, rsup, script};

/// The keys of a job that runs once.
const ONCE: &str = "startsecs=0\nautorestart=false\n";

/// The names in the `spawned:` lines so far, in order.
fn spawned(rsup: &Rsup) -> Vec<String> {
    let lines = rsup.lines("spawned: '");
    lines.iter().map(|line| line.0.split('\'').nth(1).unwrap().to_owned()).collect()
}

/// What `supervisorctl WORD...` prints.
fn ctl(rsup: &Rsup, words: &[&str]) -> String {
    let mut command = Command::new(binary());
    command.arg("--ctl").args(words).env("RSUP_PID", rsup.pid().to_string());
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

#[test]
fn each_priority_is_a_step() {
    let conf = "[supervisord]\nstartup=ordered\n".to_owned()
        + &program("server", "sleep 1000")
        + "priority=3\n"
        + &script("job", "exit 0")
        + ONCE
        + "priority=2\n"
        + &program("db", "sleep 1000")
        + "priority=1\nstartsecs=1\n";
    let mut rsup = rsup(&conf).start();
    rsup.expect("INFO job waits for the programs with lower priority numbers");
    rsup.expect_all(&["INFO server waits for the programs with lower priority numbers"]);
    rsup.expect("spawned: 'db'");
    rsup.expect("success: db entered RUNNING state");
    rsup.expect("spawned: 'job'");
    rsup.expect("exited: job (exit status 0; expected)");
    rsup.expect("spawned: 'server'");
    assert_eq!(spawned(&rsup), ["db", "job", "server"]);
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn the_option_takes_precedence_over_the_file() {
    let conf = "[supervisord]\nstartup=ordered\n".to_owned()
        + &script("job", "exit 3")
        + ONCE
        + "priority=1\n"
        + &program("server", "sleep 1000");
    let mut rsup = rsup(&conf).args(&["--startup", "parallel"]).start();
    rsup.expect("success: server");
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn after_a_failed_job_the_server_does_not_start_and_the_code_is_that_of_the_job() {
    let conf = script("job", "exit 3") + ONCE + "priority=1\n" + &program("server", "sleep 1000");
    let (code, rsup) = rsup(&conf).args(&["--startup=ordered"]).run();
    assert_eq!(code, 3);
    assert_eq!(spawned(&rsup), ["job"]);
    let error = "ERRO server will not start: it waits in vain for the programs with lower priority numbers";
    assert_eq!(rsup.lines(error).len(), 1, "{:?}", rsup.log());
}

#[test]
fn a_dependent_program_starts_when_the_others_have_reached_their_states() {
    let wait =
        |what: &str| format!("autostart=false\ndependent_startup=true\ndependent_startup_wait_for={what}\n");
    let conf = program("web", "sleep 1000")
        + &wait("db:running job:exited")
        + &script("job", "exit 1")
        + "startsecs=0\nautorestart=false\n"
        + &wait("db")
        + &program("db", "sleep 1000");
    let mut rsup = rsup(&conf).start();
    rsup.expect_all(&["INFO web waits for db (RUNNING), job (EXITED)", "INFO job waits for db (RUNNING)"]);
    rsup.expect("success: db entered RUNNING state");
    rsup.expect("exited: job (exit status 1; not expected)");
    rsup.expect("spawned: 'web'");
    assert_eq!(spawned(&rsup), ["db", "job", "web"]);
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn a_client_sees_the_wait_and_a_start_ends_it() {
    let conf = program("db", "sleep 1000")
        + "startsecs=1000\n"
        + &program("web", "sleep 1000")
        + "startsecs=0\ndepends_on=db\n";
    let mut rsup = rsup(&conf).start();
    rsup.expect("spawned: 'db'");
    let status = ctl(&rsup, &["status", "web"]);
    assert!(status.contains("STOPPED   waiting for db (RUNNING)"), "{status}");
    let health = ctl(&rsup, &["health", "web"]);
    assert!(health.contains("waiting for db (RUNNING)"), "{health}");
    assert_eq!(ctl(&rsup, &["start", "web"]), "web: started\n");
    rsup.expect("spawned: 'web'");
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn a_client_shows_the_beginning_of_a_long_list_of_waits() {
    let names: Vec<_> = (0..40).map(|number| format!("database-{number}")).collect();
    let mut conf = program("web", "sleep 1000") + "startsecs=0\ndepends_on=" + &names.join(",") + "\n";
    for name in &names {
        conf += &(program(name, "sleep 1000") + "startsecs=1000\n");
    }
    let mut rsup = rsup(&conf).start();
    rsup.expect("INFO web waits for database-0");
    rsup.expect("spawned: 'database-39'");
    let status = ctl(&rsup, &["status"]);
    assert!(
        status.contains("STOPPED   waiting for database-0 (RUNNING), database-1 (RUNNING), "),
        "{status}"
    );
    assert_eq!(status.lines().count(), 41, "{status}");
    assert_eq!(ctl(&rsup, &["start", "web"]), "web: started\n");
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn a_stop_while_a_process_waits_starts_nothing() {
    let conf =
        program("db", "sleep 1000") + "startsecs=1000\n" + &program("web", "sleep 1000") + "depends_on=db\n";
    let mut rsup = rsup(&conf).start();
    rsup.expect("spawned: 'db'");
    assert_eq!(rsup.stop(), 0);
    assert_eq!(spawned(&rsup), ["db"]);
}
