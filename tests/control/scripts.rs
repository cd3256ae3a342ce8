//! Scripts that call `supervisorctl`, in the ways in which public images call it: health checks, entry scripts, jobs
//! that rotate logs, and programs that control each other.

use super::{command_beside, with_supervisorctl};
use crate::support::{
    Rsup, SIGTERM, Setup, eventually, forever, needs, pid_namespace, program, root, rsup, script,
};

/// The sections that images for supervisord have.
const SERVER: &str = "[supervisord]\nnodaemon=true\nlogfile=%(here)s/supervisord.log\npidfile=%(here)s/supervisord.pid\n\
    childlogdir=%(here)s\n\
    [unix_http_server]\nfile=%(here)s/supervisor.sock\n\
    [rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n\
    [supervisorctl]\nserverurl=unix://%(here)s/supervisor.sock\n";

/// Keys of a program that is RUNNING as soon as it is started, and that is not restarted.
const ONCE: &str = "startsecs=0\nautorestart=false\n";

/// Keys of a program that is RUNNING as soon as it is started, and that is started by request only.
const BY_REQUEST: &str = "startsecs=0\nautostart=false\n";

/// A program that keeps running.
fn server(name: &str) -> String {
    program(name, "sleep 1000") + ONCE
}

/// A set-up as PID 1 with these programs.
fn image(programs: &str) -> Setup {
    with_supervisorctl(rsup(&(SERVER.to_owned() + programs)).pid_1())
}

/// A running set-up with these programs, once all of them were started.
fn start(programs: &str) -> Rsup {
    let rsup = image(programs).start();
    let settled =
        "supervisorctl status >all; grep -q RUNNING all && ! grep 'STARTING\\|BACKOFF\\|Not started' all";
    until(&rsup, settled);
    rsup
}

/// Runs a shell script beside rsup. Returns the exit status and the output.
fn sh(rsup: &Rsup, script: &str) -> (i32, String) {
    let output = command_beside(rsup, &["sh", "-c", script]).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout) + &text(output.stderr))
}

/// Waits until a shell script succeeds.
#[track_caller]
fn until(rsup: &Rsup, script: &str) {
    eventually(script, || (sh(rsup, script).0 == 0).then_some(()));
}

/// Asserts that a health check says that everything is well, and no longer does so once `web` was killed.
#[track_caller]
fn assert_notices_that_web_has_ended(rsup: &Rsup, check: &str) {
    let (status, said) = sh(rsup, check);
    assert_eq!(status, 0, "{said}");
    assert_eq!(sh(rsup, "supervisorctl signal KILL web"), (0, "web: signalled\n".into()));
    until(rsup, "supervisorctl status web | grep EXITED");
    let (status, said) = sh(rsup, check);
    assert_ne!(status, 0, "{said}");
}

#[test]
fn a_health_check_allows_some_programs_to_have_exited() {
    needs!(root(), pid_namespace());
    let rsup = start(&(server("web") + &server("php") + &script("check", "exit 0") + ONCE));
    // The status of supervisorctl is 3 because `check` has exited.
    let check = r#"
        services="$(supervisorctl status)"
        status=$?
        if [ $status -ne 0 ] && [ $status -ne 3 ]; then exit 2; fi
        if echo "$services" | grep -v '^check *EXITED\|RUNNING'; then exit 1; fi
    "#;
    assert_notices_that_web_has_ended(&rsup, check);
}

#[test]
fn a_health_check_counts_the_states_in_the_second_column() {
    needs!(root(), pid_namespace());
    let rsup = start(&(server("web") + &server("agent")));
    let check = r"
        others=$(supervisorctl -c supervisord.conf status | awk '{print $2}' | grep -E -v 'RUNNING' | wc -l)
        [ $others -eq 0 ]
    ";
    assert_notices_that_web_has_ended(&rsup, check);
}

#[test]
fn a_health_check_greps_for_running_for_each_program() {
    needs!(root(), pid_namespace());
    let rsup = start(&(server("web") + &server("php") + &server("cron")));
    let check = r"
        supervisorctl status cron | grep RUNNING >/dev/null || exit 1
        supervisorctl status php | grep RUNNING >/dev/null || exit 1
        if ! supervisorctl status web | grep -q RUNNING; then exit 1; fi
    ";
    assert_notices_that_web_has_ended(&rsup, check);
}

#[test]
fn a_health_check_looks_for_exited_in_a_programs_line() {
    needs!(root(), pid_namespace());
    let rsup = start(&(server("web") + &server("metrics")));
    let check = r#"
        for name in web metrics; do
            state=$(supervisorctl status | grep "$name" | awk '{print $2}')
            if [ "$state" = EXITED ]; then exit 1; fi
        done
    "#;
    assert_notices_that_web_has_ended(&rsup, check);
}

#[test]
fn a_health_check_counts_the_running_programs() {
    needs!(root(), pid_namespace());
    let rsup = start(&(server("web") + &server("php")));
    let check = r"[ $(supervisorctl -c supervisord.conf status php web | grep -c RUNNING) -eq 2 ] || exit 1";
    assert_notices_that_web_has_ended(&rsup, check);
}

#[test]
fn a_health_check_is_the_exit_status_of_status() {
    needs!(root(), pid_namespace());
    let rsup = start(&(server("web") + &server("php")));
    assert_notices_that_web_has_ended(&rsup, "supervisorctl status || exit 1");
}

#[test]
fn a_health_check_asks_for_the_status_of_one_program_after_the_other() {
    needs!(root(), pid_namespace());
    let rsup = start(&(server("web") + &server("php")));
    assert_notices_that_web_has_ended(&rsup, "supervisorctl status php && supervisorctl status web && true");
}

#[test]
fn a_health_check_looks_for_a_line_without_running() {
    needs!(root(), pid_namespace());
    let rsup = start(&(server("web") + &server("php")));
    let check = "if supervisorctl status | grep -vq RUNNING; then exit 31; fi";
    assert_notices_that_web_has_ended(&rsup, check);
    assert_eq!(sh(&rsup, check).0, 31);
}

#[test]
fn a_job_starts_and_restarts_the_workers_of_a_group() {
    needs!(root(), pid_namespace());
    let workers = program("workers", "sleep 1000") + BY_REQUEST;
    let workers = workers + "numprocs=3\nprocess_name=%(program_name)s_%(process_num)02d\n";
    let rsup = image(&(server("php") + &workers)).start();
    until(&rsup, "supervisorctl status php | grep RUNNING");
    let job = r"
        set -e
        supervisorctl start workers:*
        supervisorctl restart php
        supervisorctl -u user -p password restart workers:*
    ";
    let (status, said) = sh(&rsup, job);
    let mut lines: Vec<_> = said.lines().collect();
    // The three workers may report in any order.
    for reports in [0..3, 5..8, 8..11] {
        lines[reports].sort_unstable();
    }
    let of_workers = |report: &str| {
        (0..3).map(|number| format!("workers:workers_{number:02}: {report}")).collect::<Vec<_>>()
    };
    let php = ["php: stopped".to_owned(), "php: started".into()];
    let expected =
        [&of_workers("started")[..], &php, &of_workers("stopped"), &of_workers("started")].concat();
    assert_eq!((status, lines), (0, expected.iter().map(String::as_str).collect()));
}

#[test]
fn an_entry_script_starts_programs_one_by_one() {
    needs!(root(), pid_namespace());
    let entry = r"
        set -e
        supervisorctl start database
        echo after the database >>order
        supervisorctl start queue
        supervisorctl start web
        supervisorctl restart nosuch || true
        echo done >>order
    ";
    // The database is up after one second, and the script waits for it.
    let database = script("database", "echo database >>order; exec sleep 1000");
    let programs = database
        + "autostart=false\nstartsecs=1\n"
        + &program("queue", "sleep 1000")
        + BY_REQUEST
        + &program("web", "sleep 1000")
        + BY_REQUEST
        + &program("entry", "sh entry.sh")
        + ONCE;
    let rsup = image(&programs).file("entry.sh", entry, 0o644).start();
    rsup.expect_in_file("order", "done");
    assert_eq!(rsup.read("order"), "database\nafter the database\ndone\n");
    let spawned =
        rsup.lines("spawned: '").into_iter().map(|line| line.0.split('\'').nth(1).unwrap().to_owned());
    assert_eq!(spawned.collect::<Vec<_>>(), ["entry", "database", "queue", "web"]);
    assert_eq!(sh(&rsup, "supervisorctl status | grep -c RUNNING").1, "3\n");
}

#[test]
fn a_script_beside_pid_1_starts_the_only_programs() {
    needs!(root(), pid_namespace());
    let first = program("first", "sleep 1000") + BY_REQUEST;
    let second = program("second", "sleep 1000") + BY_REQUEST;
    let entry = "(until supervisorctl start first second | grep 'second: started'; do sleep 0.1; done; \
                 echo done >result) >/dev/null 2>&1 &";
    let rsup = image(&(first + &second)).after(entry).start();
    rsup.expect_in_file("result", "done");
    let (status, said) = sh(&rsup, "supervisorctl status");
    assert_eq!((status, said.matches("RUNNING").count()), (0, 2), "{said}");
}

#[test]
fn a_stand_in_for_the_command_service_works() {
    needs!(root(), pid_namespace());
    let service = r#"
        name="$1"
        case "$2" in
            start|stop|restart|status) exec supervisorctl "$2" "$name:${name}d" ;;
            pid)
                pid=$(supervisorctl pid "$name:${name}d") || exit 1
                kill -0 "$pid" && echo "it runs" ;;
        esac
    "#;
    let programs = program("cron", "sleep 1000") + ONCE + "process_name=crond\n";
    let rsup = image(&programs).file("service", service, 0o755).start();
    until(&rsup, "sh service cron status | grep RUNNING");
    for (action, status, printed) in [
        ("pid", 0, "it runs\n"),
        ("stop", 0, "cron:crond: stopped\n"),
        ("pid", 1, ""),
        ("start", 0, "cron:crond: started\n"),
        ("start", 0, "cron:crond: ERROR (already started)\n"),
        ("restart", 0, "cron:crond: stopped\ncron:crond: started\n"),
        ("pid", 0, "it runs\n"),
    ] {
        assert_eq!(sh(&rsup, &format!("sh service cron {action}")), (status, printed.into()), "{action}");
    }
}

#[test]
fn a_program_starts_another_one_and_waits_until_it_is_up() {
    needs!(root(), pid_namespace());
    let server = script("server", "sleep 0.2; echo ready >>server.ready; exec sleep 1000");
    let server = server + "autostart=false\nstartsecs=1\n";
    let client =
        script("client", "supervisorctl start server && cat server.ready >client.read; exec sleep 1000");
    let rsup = image(&(server + &client)).start();
    rsup.expect_in_file("client.read", "ready");
}

#[test]
fn a_script_stops_a_program_and_waits_until_another_one_has_ended() {
    needs!(root(), pid_namespace());
    let rsup = start(&(server("server") + &server("announce")));
    let job = r#"
        supervisorctl stop announce
        supervisorctl stop server >/dev/null &
        while supervisorctl status server | grep RUNNING >/dev/null; do sleep 0.05; done
        supervisorctl start announce
        wait
        supervisorctl status server | awk '{print $2}'
    "#;
    assert_eq!(sh(&rsup, job), (0, "announce: stopped\nannounce: started\nSTOPPED\n".into()));
}

#[test]
fn a_job_that_rotates_logs_restarts_a_program_and_ignores_the_result() {
    needs!(root(), pid_namespace());
    let rsup = start(&server("syslog"));
    let old = sh(&rsup, "supervisorctl pid syslog").1;
    let rotate = "supervisorctl restart syslog >/dev/null 2>&1 || true; supervisorctl restart nosuch >/dev/null 2>&1 || true";
    assert_eq!(sh(&rsup, rotate), (0, String::new()));
    let new = sh(&rsup, "supervisorctl pid syslog").1;
    assert!(old != new && new.trim().parse::<u32>().is_ok(), "{old} {new}");
}

#[test]
fn a_job_sends_sighup_in_several_spellings() {
    needs!(root(), pid_namespace());
    let vector = script("vector", &format!("trap \"echo HUP >>hups\" HUP; {}", forever("vector"))) + ONCE;
    let rsup = image(&vector).start();
    rsup.expect_ready(&["vector"]);
    let hook = "if supervisorctl -c supervisord.conf signal HUP vector; then echo renewed; fi";
    assert_eq!(sh(&rsup, hook), (0, "vector: signalled\nrenewed\n".into()));
    rsup.expect_in_file("hups", "HUP\n");
    assert_eq!(sh(&rsup, "supervisorctl signal hup vector >/dev/null"), (0, String::new()));
    rsup.expect_in_file("hups", "HUP\nHUP\n");
    // Ansible passes the first two words as one.
    assert_eq!(sh(&rsup, "supervisorctl 'signal HUP' vector"), (0, "vector: signalled\n".into()));
    rsup.expect_in_file("hups", "HUP\nHUP\nHUP\n");
    assert_eq!(
        sh(&rsup, "supervisorctl signal HUP nosuch || echo failed").1,
        "nosuch: ERROR (no such process)\nfailed\n"
    );
}

#[test]
fn a_script_looks_at_the_exit_status_of_each_command() {
    needs!(root(), pid_namespace());
    let crash = script("crash", "exit 1") + "autostart=false\nstartretries=0\n";
    let missing = program("missing", "/no/such/thing") + "autostart=false\n";
    let rsup = image(&(server("web") + &crash + &missing)).start();
    until(&rsup, "supervisorctl status web | grep RUNNING");
    let statuses = |commands: &[&str]| -> Vec<i32> {
        commands.iter().map(|command| sh(&rsup, &format!("supervisorctl {command}")).0).collect()
    };
    assert_eq!(statuses(&["status web", "start web", "stop web", "stop web", "status web"]), [0, 0, 0, 0, 3]);
    assert_eq!(statuses(&["start web", "restart web", "start crash", "start missing"]), [0, 0, 7, 1]);
    assert_eq!(statuses(&["status nosuch", "start nosuch", "stop nosuch", "start nosuch:*"]), [4, 1, 1, 2]);
}

#[test]
fn an_entry_script_that_is_pid_1_shuts_down_in_a_trap() {
    needs!(root(), pid_namespace());
    let entry = r"
        trap 'supervisorctl shutdown; wait $server; echo $? >exit; exit 5' TERM
        supervisord -c supervisord.conf &
        server=$!
        until supervisorctl status web | grep -q RUNNING; do sleep 0.1; done
        # These two commands change nothing here, whether they are available or not.
        supervisorctl reread >/dev/null 2>&1
        supervisorctl update >/dev/null 2>&1
        supervisorctl start job
        echo ready >entry.ready
        while :; do sleep 0.1; done
    ";
    let web =
        script("web", &format!("trap \"echo TERM >web.stopped; exit 0\" TERM; {}", forever("web"))) + ONCE;
    let job = program("job", "sleep 1000") + BY_REQUEST;
    let setup = image(&(web + &job)).file("entry.sh", entry, 0o644).running(&["sh", "entry.sh"]);
    let mut init = setup.start();
    init.expect_ready(&["web", "entry"]);
    init.signal(SIGTERM);
    assert_eq!(init.exit_code(), 5);
    assert_eq!((init.read("exit").as_str(), init.read("web.stopped").as_str()), ("0\n", "TERM\n"));
    for printed in ["job: started\n", "Shut down\n"] {
        assert!(init.read("stdout").contains(printed), "{}", init.read("stdout"));
    }
}

#[test]
fn a_script_stops_rsup_by_the_pid_that_supervisorctl_prints() {
    needs!(root(), pid_namespace());
    let mut rsup = start(&server("web"));
    let stop = r#"
        if [ "$(supervisorctl pid)" != "unix:///var/run/supervisor.sock no such file" ]; then
            kill -s TERM $(supervisorctl pid)
        fi
    "#;
    // The script has no exit status: rsup ends it with everything else.
    command_beside(&rsup, &["sh", "-c", stop]).status().unwrap();
    assert_eq!(rsup.exit_code(), 0);
}

#[test]
fn a_script_starts_the_supervisor_if_none_is_there() {
    needs!(root(), pid_namespace());
    let entry = r"
        if ! supervisorctl -c supervisord.conf pid >/dev/null 2>&1; then
            supervisord -c supervisord.conf &
        fi
        until supervisorctl status web | grep RUNNING; do sleep 0.1; done
        if ! supervisorctl -c supervisord.conf pid >/dev/null 2>&1; then
            echo again >>starts
        fi
        supervisorctl shutdown
        wait
        supervisorctl pid >answer 2>&1
        echo $? >>answer
    ";
    let web = script("web", "echo start >>starts; exec sleep 1000") + ONCE;
    let setup = image(&web).file("entry.sh", entry, 0o644).running(&["sh", "entry.sh"]);
    let (code, init) = setup.run();
    assert_eq!((code, init.read("starts").as_str()), (0, "start\n"));
    // The exit status of `pid` is 7 when there is no server.
    let answer = init.read("answer").replace(init.path("").to_str().unwrap(), "/");
    assert_eq!(answer, "unix:///supervisor.sock no such file\n7\n");
}

#[test]
fn a_script_signals_the_pid_in_the_status() {
    needs!(root(), pid_namespace());
    let web = script("web", &format!("trap \"echo USR1 >web.got\" USR1; {}", forever("web"))) + ONCE;
    let rsup = image(&web).start();
    rsup.expect_ready(&["web"]);
    let job = r"
        pid=$(supervisorctl status web | sed -nE 's/.*RUNNING +pid ([0-9]+).*/\1/p')
        kill -USR1 $pid
    ";
    assert_eq!(sh(&rsup, job), (0, String::new()));
    rsup.expect_in_file("web.got", "USR1");
}

#[test]
fn a_script_lists_the_names_of_all_programs() {
    needs!(root(), pid_namespace());
    let workers = server("worker") + "numprocs=2\nprocess_name=%(process_num)d\n";
    let rsup = start(&(server("web") + &workers + &program("idle", "true") + "autostart=true\n" + ONCE));
    let (status, said) = sh(&rsup, "supervisorctl avail | awk '{print $1}'");
    assert_eq!((status, said.as_str()), (0, "worker:0\nworker:1\nidle\nweb\n"));
}

#[test]
fn a_script_waits_until_two_programs_run() {
    needs!(root(), pid_namespace());
    let programs = program("postfix", "sleep 1000") + "startsecs=1\n" + &program("dovecot", "sleep 1000");
    let rsup = image(&programs).start();
    let wait = r"
        for try in $(seq 60); do
            if supervisorctl status postfix | grep -q RUNNING && supervisorctl status dovecot | grep -q RUNNING; then
                exit 0
            fi
            sleep 0.5
        done
        exit 1
    ";
    assert_eq!(sh(&rsup, wait), (0, String::new()));
}

/// A stop that is already under way ends the workers. supervisord refuses the command, and says so.
#[test]
fn a_trap_that_stops_a_group_during_the_stop_is_refused() {
    needs!(root(), pid_namespace());
    let queue = server("queue") + "numprocs=2\nprocess_name=%(process_num)d\n";
    let trap = r#"
        trap 'supervisorctl -c supervisord.conf stop "queue:*" >said 2>&1; echo $? >status; exit 0' TERM
        echo ready >entry.ready
        while :; do sleep 0.02; done
    "#;
    let programs = queue + &program("entry", "sh entry.sh") + ONCE;
    let mut rsup = image(&programs).file("entry.sh", trap, 0o644).start();
    rsup.expect_ready(&["entry"]);
    assert_eq!(rsup.stop(), 0);
    assert_eq!(rsup.read("status"), "1\n");
    let said = rsup.read("said");
    assert!(said.starts_with("error: ") && said.lines().count() == 1, "{said}");
}

#[test]
fn a_program_restarts_itself() {
    needs!(root(), pid_namespace());
    let web = r#"
        echo start >>starts
        if [ "$(wc -l <starts)" -eq 1 ]; then supervisorctl restart web >said 2>&1; fi
        exec sleep 1000
    "#;
    let rsup = image(&(program("web", "sh web.sh") + ONCE)).file("web.sh", web, 0o644).start();
    rsup.expect_in_file("starts", "start\nstart\n");
    until(&rsup, "supervisorctl status web | grep RUNNING");
    assert_eq!(rsup.read("starts"), "start\nstart\n");
}
