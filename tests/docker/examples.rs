//! The examples of docker/, each built from its own Dockerfile.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::base::{build, example, ready, rsup_image};
use super::{GET, docker};
use crate::support::{SIGKILL, eventually, kill, needs, proc};

#[test]
fn the_smallest_example_runs_and_stops() {
    needs!(ready());
    let image = example(docker().unwrap(), "example");
    let container = image.start(&[], &[]);
    container.expect_running(&["clock", "mortal"]);
    container.expect_log("mortal lives, as process ", 1);
    container.expect_log("mortal dies", 1);
    container.expect_log("exited: mortal (exit status 1; not expected)", 1);
    container.expect_log("success: mortal entered RUNNING state", 2);
    container.stop_well();
}

#[test]
fn nginx_and_php_answer_and_finish_requests_during_the_stop() {
    needs!(ready());
    let image = example(docker().unwrap(), "nginx-php");
    let container = image.publish(&[]);
    let hello = || container.expect_answer(80, GET, "Hello from PHP 8");
    hello();
    container.expect_running(&["php", "nginx"]);
    container.expect_log("ready to handle connections", 1);
    container.expect_log("\"GET / HTTP/1.0\" 200", 1);
    for program in ["nginx", "php"] {
        container.kill_and_expect_another(program);
        hello();
    }
    container.stop_well();
    let logs = container.logs();
    for program in ["nginx", "php"] {
        assert!(logs.contains(&format!("stopped: {program} (exit status 0)")), "{logs}");
    }
}

#[test]
fn redis_and_three_workers_restart_together() {
    needs!(ready());
    let image = example(docker().unwrap(), "redis-workers");
    let container = image.start(&[], &[]);
    container.expect_running(&["redis", "worker_0", "worker_1", "worker_2"]);
    let all_jobs_are_done = |jobs: &[&str]| {
        container.sh(&format!("redis-cli RPUSH jobs {}", jobs.join(" ")));
        eventually("all jobs are done", || {
            let done = container.sh("redis-cli LRANGE done 0 -1");
            jobs.iter().all(|job| done.contains(&format!("{job} by "))).then_some(())
        });
    };
    (0..3).for_each(|number| container.expect_log(&format!("worker {number} waits for jobs"), 1));
    all_jobs_are_done(&["a1", "a2", "a3", "a4"]);
    container.expect_log("does a4", 1);
    let user = |program: &str| proc::status(container.program(program), "Uid").unwrap();
    assert!(user("worker_0").starts_with("65534\t"), "workers are nobody");
    assert!(!user("redis").starts_with("0\t"), "redis is its own user");

    (0..3).for_each(|number| container.kill_and_expect_another(&format!("worker_{number}")));
    all_jobs_are_done(&["b1", "b2", "b3"]);

    // The workers exit when redis exits, and rsup restarts them.
    container.kill_and_expect_another("redis");
    (0..3).for_each(|number| {
        container.expect_log(&format!("success: worker_{number} entered RUNNING state"), 3)
    });
    all_jobs_are_done(&["c1", "c2", "c3"]);

    container.stop_well();
    let logs = container.logs();
    let at = |text: &str| logs.find(text).unwrap_or_else(|| panic!("no {text}"));
    (0..3).for_each(|number| {
        assert!(at(&format!("stopped: worker_{number} ")) < at("stopped: redis (exit status 0)"), "{logs}");
    });
}

#[test]
fn the_server_waits_for_the_migration_and_the_migration_for_the_database() {
    needs!(ready());
    let image = example(docker().unwrap(), "migrate");
    let container = image.publish(&[]);
    // The page is the number of migrations that the database has counted.
    container.expect_answer(80, GET, "\r\n\r\n1\n");
    container.expect_running(&["web"]);
    let logs = container.logs();
    let at = |text: &str| logs.find(text).unwrap_or_else(|| panic!("no {text}: {logs}"));
    assert!(at("success: db entered RUNNING state") < at("spawned: 'migrate'"), "{logs}");
    assert!(at("exited: migrate (exit status 0; expected)") < at("spawned: 'web'"), "{logs}");

    // Only the start is ordered.
    for program in ["db", "web"] {
        container.kill_and_expect_another(program);
    }
    container.expect_answer(80, GET, "\r\n\r\n1\n");

    container.sh("echo 'no such directive;' >/etc/nginx/nginx.conf");
    kill(container.program("web"), SIGKILL);
    assert_eq!(container.exit_code(), 1, "nginx's own");
    let logs = container.logs();
    assert!(logs.contains("gave up: web entered FATAL state"), "{logs}");
    assert_eq!(logs.matches("spawned: 'migrate'").count(), 1, "{logs}");
}

#[test]
fn the_server_starts_when_a_failed_migration_was_repaired() {
    needs!(ready());
    let image = example(docker().unwrap(), "migrate");
    let is_repaired = "sed -i 's/\"redis-cli/\"test -e \\/repaired \\&\\& redis-cli/' /etc/supervisord.conf";
    let dockerfile = format!("FROM {}\nRUN {is_repaired}\n", image.name);
    let image = image.engine.build(&dockerfile, tempfile::tempdir().unwrap().path());
    let container = image.publish(&[]);
    container.expect_log("exited: migrate (exit status 1; not expected)", 1);
    container.expect_log(
        "ERRO web will not start: it waits in vain for the programs with lower priority numbers",
        1,
    );
    let control = |words: &[&str]| {
        let output = container.exec(&[&["/sbin/rsup", "--ctl"], words].concat());
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, printed) = control(&["health"]);
    let waits = printed.contains("STOPPED   waiting for the programs with lower priority numbers");
    assert!(code == 1 && waits, "{code}: {printed}");

    container.sh("touch /repaired");
    assert_eq!(control(&["start", "migrate"]), (0, "migrate: started\n".into()));
    container.expect_answer(80, GET, "\r\n\r\n1\n");
    container.expect_running(&["web"]);
    assert_eq!(control(&["health"]), (0, String::new()));
    container.stop_well();
    assert_eq!(container.logs().matches("spawned: 'web'").count(), 1);
}

#[test]
fn a_listener_that_was_written_for_supervisord_ends_the_container() {
    needs!(ready());
    let image = example(docker().unwrap(), "listener");
    let container = image.start(&[], &[]);
    container.expect_running(&["app", "worker", "stop-container"]);
    // The listener receives no event before it is RUNNING.
    container.expect_log("success: stop-container entered RUNNING state", 1);
    kill(container.program("worker"), SIGKILL);
    assert_eq!(container.exit_code(), 0);
    let logs = container.logs();
    assert!(logs.contains("event: ver:3.0 server:supervisor serial:"), "{logs}");
    assert!(logs.contains("eventname:PROCESS_STATE_EXITED"), "{logs}");
    assert!(logs.contains("received SIGQUIT indicating exit request"), "{logs}");
    assert!(logs.contains("stopped: app (terminated by SIGTERM)"), "{logs}");
}

#[test]
fn two_static_programs_run_in_a_scratch_image_without_root() {
    needs!(ready());
    let image = example(docker().unwrap(), "scratch");
    let less = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"];
    let container = image.publish(&less);
    let answers = || {
        container.expect_answer(8080, GET, "Nothing else is in this image.");
        container.expect_answer(7000, "", " UTC ");
    };
    answers();
    container.expect_running(&["web", "clock"]);
    for pid in proc::children(container.pid()).iter().map(|child| child.pid).chain([container.pid()]) {
        let status = |key: &str| proc::status(pid, key).unwrap();
        assert_eq!(status("Uid"), "65534\t65534\t65534\t65534");
        assert_eq!((status("CapBnd").as_str(), status("NoNewPrivs").as_str()), ("0000000000000000", "1"));
    }
    for program in ["web", "clock"] {
        container.kill_and_expect_another(program);
        answers();
    }
    container.stop_well();
}

#[test]
fn the_example_of_one_command_runs() {
    needs!(ready());
    let image = example(docker().unwrap(), "command");
    let container = image.publish(&[]);
    container.expect_answer(80, GET, "Welcome to nginx!");
    let took = container.stop();
    assert!(took < Duration::from_secs(5), "the stop took {took:?}");
    assert_eq!(container.exit_code(), 0, "nginx stops well on the Dockerfile's STOPSIGNAL");

    let container = image.publish(&[]);
    container.expect_answer(80, GET, "Welcome to nginx!");
    let nginx = proc::children(container.pid()).into_iter().find(|child| child.name == "nginx");
    kill(nginx.unwrap().pid, SIGKILL);
    assert_eq!(container.exit_code(), 137);
}

#[test]
fn the_example_in_the_readme_runs() {
    needs!(ready());
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let block = |kind: &str| {
        let (_, rest) = readme.split_once(&format!("```{kind}\n")).unwrap();
        rest.split_once("```").unwrap().0
    };
    let context = tempfile::tempdir().unwrap();
    fs::write(context.path().join("supervisord.conf"), block("ini")).unwrap();
    let image = build(&rsup_image(docker().unwrap()), "readme", block("dockerfile"), context.path());
    let container = image.publish(&["--expose", "8080"]);
    container.expect_answer(8080, GET, "hello");
    container.expect_running(&["web", "clock"]);
    container.stop_well();
}
