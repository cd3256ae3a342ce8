//! Control by `docker exec`, and health checks.

use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::base::rsup_image;
use super::{Container, Engine, docker, shell_image, with_each_engine};
use crate::resource_use::shipped_binary;
use crate::support::probe::{build, static_programs};
use crate::support::{eventually, needs, root};

with_each_engine!(
    exec_controls_the_programs_as_root,
    exec_controls_the_programs_as_the_containers_user_without_any_privilege,
    exec_controls_the_programs_under_an_init,
    exec_as_another_user_is_refused,
    a_second_exec_is_served_while_the_first_waits,
);

/// Two programs, of which one is started by request only.
const WEB_AND_JOB: &str = "[program:web]\ncommand=sleep 1000\nstartsecs=0\n[program:job]\ncommand=sleep 1000\nautostart=false\nstartsecs=0\n";

/// The options of a container without any privilege.
const BARE: [&str; 7] =
    ["--user", "1000:1000", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"];

/// The command `docker exec OPTION... CONTAINER rsup --ctl WORD...`.
fn control(container: &Container<'_>, options: &[&str], words: &[&str]) -> Command {
    let client = [&[container.id.as_str(), "/sbin/rsup", "--ctl"], words].concat();
    let mut command = container.image.engine.command(&[&["exec"], options, &client].concat());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The exit status and the output of a command.
fn result(output: Output) -> (i32, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout) + &text(output.stderr))
}

/// Runs supervisorctl in a container. Returns its exit status and its output.
fn ctl(container: &Container<'_>, options: &[&str], words: &[&str]) -> (i32, String) {
    result(control(container, options, words).output().unwrap())
}

#[track_caller]
fn assert_controls_the_programs(container: &Container<'_>, options: &[&str]) {
    container.expect_running(&["web"]);
    for (words, status, printed) in [
        (&["health"][..], 0, ""),
        (&["start", "job"], 0, "job: started\n"),
        (&["start", "job"], 0, "job: ERROR (already started)\n"),
        (&["restart", "job"], 0, "job: stopped\njob: started\n"),
        (&["signal", "CONT", "job", "web"], 0, "job: signalled\nweb: signalled\n"),
        (&["stop", "job"], 0, "job: stopped\n"),
        (&["health"], 0, ""),
        (&["start", "nosuch"], 1, "nosuch: ERROR (no such process)\n"),
    ] {
        assert_eq!(ctl(container, options, words), (status, printed.into()), "{words:?}");
    }
    let (status, printed) = ctl(container, options, &["status"]);
    let states: Vec<_> = printed.lines().map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!((status, states), (3, vec!["STOPPED", "RUNNING"]), "{printed}");
    assert_eq!(ctl(container, options, &["shutdown"]), (0, "Shut down\n".into()));
    assert_eq!(container.exit_code(), 0);
}

fn exec_controls_the_programs_as_root(engine: Engine) {
    needs!(root(), shipped_binary());
    let image = shell_image(engine, WEB_AND_JOB);
    assert_controls_the_programs(&image.start(&[], &[]), &[]);
}

fn exec_controls_the_programs_as_the_containers_user_without_any_privilege(engine: Engine) {
    needs!(root(), shipped_binary());
    let image = shell_image(engine, WEB_AND_JOB);
    assert_controls_the_programs(&image.start(&BARE, &[]), &["-u", "1000:1000"]);
}

fn exec_controls_the_programs_under_an_init(engine: Engine) {
    needs!(root(), shipped_binary());
    let image = shell_image(engine, WEB_AND_JOB);
    assert_controls_the_programs(&image.start(&["--init"], &[]), &[]);
}

fn exec_as_another_user_is_refused(engine: Engine) {
    needs!(root(), shipped_binary());
    let image = shell_image(engine, WEB_AND_JOB);
    let container = image.start(&BARE, &[]);
    container.expect_running(&["web"]);
    // Root has no CAP_SYS_PTRACE in this container.
    for user in ["1001:1001", "1000:1001", "0:0"] {
        for words in [&["stop", "web"][..], &["status"], &["health"], &["shutdown"]] {
            let (status, printed) = ctl(&container, &["-u", user], words);
            assert_ne!(status, 0, "{user} {words:?}: {printed}");
            let is_clear = printed.contains("no permission to control rsup") && printed.lines().count() == 1;
            assert!(is_clear, "{user} {words:?}: {printed}");
        }
    }
    assert_eq!(ctl(&container, &["-u", "1000:1000"], &["stop", "web"]), (0, "web: stopped\n".into()));
}

fn a_second_exec_is_served_while_the_first_waits(engine: Engine) {
    needs!(root(), shipped_binary());
    let slow = "[program:slow]\ncommand=sleep 1000\nautostart=false\nstartsecs=1000\n";
    let image = shell_image(engine, &(WEB_AND_JOB.to_owned() + slow));
    let container = image.start(&[], &[]);
    container.expect_running(&["web"]);
    let first = control(&container, &[], &["start", "slow", "job"]).spawn().unwrap();
    let is_starting = || ctl(&container, &[], &["status", "slow"]).1.contains("STARTING").then_some(());
    eventually("the first exec waits for slow", is_starting);
    assert_eq!(ctl(&container, &[], &["restart", "web"]), (0, "web: stopped\nweb: started\n".into()));
    assert_eq!(ctl(&container, &[], &["stop", "slow"]), (0, "slow: stopped\n".into()));
    let printed = "slow: ERROR (abnormal termination)\njob: started\n";
    assert_eq!(result(first.wait_with_output().unwrap()), (7, printed.into()));
}

/// The image holds only rsup and one static program. Two processes of this program cannot listen on the same port.
#[test]
fn a_healthcheck_in_a_scratch_image_turns_unhealthy_within_one_interval_of_a_crash_loop_and_back() {
    needs!(docker(), root(), shipped_binary(), static_programs());
    const INTERVAL: Duration = Duration::from_secs(3);
    let base = rsup_image(docker().unwrap());
    let context = tempfile::tempdir().unwrap();
    build("talk", &context.path().join("talk"));
    let conf = "[program:web]\ncommand=/bin/talk serve 8080\nstartretries=1000\n\
                [program:other]\ncommand=/bin/talk serve 8080\nautostart=false\n\
                [program:once]\ncommand=/sbin/rsup --version\nautorestart=false\nstartsecs=0\n";
    fs::write(context.path().join("supervisord.conf"), conf).unwrap();
    let check = r#"HEALTHCHECK --interval=3s --retries=1 CMD ["/sbin/rsup", "--ctl", "health"]"#;
    let files = "COPY talk /bin/talk\nCOPY supervisord.conf /etc/supervisord.conf";
    let image = base.engine.build(&format!("FROM {}\n{files}\n{check}\n", base.name), context.path());
    let container = image.start(&BARE, &[]);
    let becomes = |health: &str| {
        eventually(health, || (container.inspect(".State.Health.Status") == health).then_some(()));
    };
    let control = |words: &[&str]| ctl(&container, &["-u", "1000:1000"], words);
    becomes("healthy");

    let taken = "web: stopped\nother: started\n";
    assert_eq!(control(&["stop", "web"]).1 + &control(&["start", "other"]).1, taken);
    assert_eq!(control(&["health"]), (0, String::new()), "web was stopped by request");
    assert_eq!(control(&["start", "web"]), (7, "web: ERROR (spawn error)\n".into()));
    let broken = Instant::now();
    becomes("unhealthy");
    // The engine itself needs some time to start the check.
    assert!(broken.elapsed() < INTERVAL + Duration::from_secs(2), "{:?}", broken.elapsed());
    let (status, said) = control(&["health"]);
    assert!(status == 1 && said.starts_with("web ") && said.lines().count() == 1, "{said}");

    assert_eq!(control(&["stop", "other"]), (0, "other: stopped\n".into()));
    becomes("healthy");
}
