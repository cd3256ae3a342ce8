//! The engine's commands `run`, `kill`, `stop` and `exec` on a container with rsup.

use std::fs;
use std::time::Duration;

use super::base::rsup_image;
use super::{Engine, Out, on, shell_image, with_each_engine};
use crate::resource_use::shipped_binary;
use crate::support::probe::{build, static_programs};
use crate::support::pty::Terminal;
use crate::support::{eventually, needs, proc, root};
use crate::terminal::job_control;

with_each_engine!(
    rsup_runs_in_an_image_that_holds_nothing_else,
    each_program_writes_to_the_containers_own_streams,
    processes_of_root_may_write_to_rsups_streams,
    the_containers_exit_code_is_that_of_the_command,
    docker_kill_reaches_the_programs_and_docker_stop_every_process,
    a_shell_in_docker_run_it_has_job_control,
    a_resized_terminal_sends_the_programs_no_sigwinch,
    processes_of_docker_exec_are_reaped_and_terminated,
    rsup_works_under_docker_init,
    under_docker_init_signals_of_the_terminal_reach_no_program_and_docker_kill_does,
    with_the_hosts_pids_docker_kill_s_hup_reaches_the_programs,
    a_shell_in_docker_run_it_can_stop_and_continue_rsup,
    the_restart_policy_sees_the_exit_code_of_a_fatal_program,
    the_restart_policy_sees_the_exit_code_of_a_failed_migration,
);

fn rsup_runs_in_an_image_that_holds_nothing_else(engine: Engine) {
    needs!(root(), shipped_binary(), static_programs());
    // Without a configuration file rsup reports which paths it has searched.
    let base = rsup_image(engine);
    let alone = base.run(&[], &[]);
    assert_eq!(alone.status.code(), Some(2));
    let said = String::from_utf8_lossy(&alone.stderr);
    assert!(said.contains("No config file found at default paths"), "{said}");

    // A user adds a program and a configuration file to the image.
    let context = tempfile::tempdir().unwrap();
    build("talk", &context.path().join("talk"));
    let dockerfile =
        format!("FROM {}\nCOPY talk /bin/talk\nCOPY supervisord.conf /etc/supervisord.conf\n", base.name);
    let conf = "[program:talk]\ncommand=/bin/talk serve 8080\nuser=1000\nautorestart=true\n";
    fs::write(context.path().join("supervisord.conf"), conf).unwrap();
    let image = engine.build(&dockerfile, context.path());

    let container = image.start(&[], &[]);
    let served = || {
        eventually("talk answers", || {
            let asked = container.exec(&["/bin/talk", "ask", "8080", ""]);
            asked.status.success().then(|| String::from_utf8_lossy(&asked.stdout).into_owned())
        })
    };
    let first = served();
    assert!(first.contains("served by "), "{first}");
    container.expect_running(&["talk"]);
    container.expect_log("rsup started with pid 1", 1);
    container.expect_log("talk listens", 1);
    container.kill_and_expect_another("talk");
    assert_ne!(first, served(), "another process answers");
    container.stop_well();
}

fn each_program_writes_to_the_containers_own_streams(engine: Engine) {
    needs!(root(), shipped_binary());
    let conf = "[program:web]\ncommand=sh -c 'echo to stdout; echo to stderr >&2; exec sleep 1000'\n\
                [program:one]\ncommand=sh -c 'echo both >&2; exec sleep 1000'\nredirect_stderr=true\n";
    let image = shell_image(engine, conf);
    let container = image.start(&[], &[]);
    container.expect_running(&["web", "one"]);
    ["both", "to stdout", "to stderr"].iter().for_each(|text| container.expect_log(text, 1));
    let (stdout, stderr) = container.streams();
    let mut lines: Vec<_> = stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["both", "to stdout"], "rsup writes nothing there");
    assert!(stderr.contains("to stderr\n") && stderr.contains("rsup started with pid 1"), "{stderr}");
}

/// Processes of root, such as cron jobs, write to /proc/1/fd/1. The kernel allows that even after rsup has started
/// programs of other users.
fn processes_of_root_may_write_to_rsups_streams(engine: Engine) {
    needs!(root(), shipped_binary());
    let conf = "[program:web]\ncommand=sh -c 'echo from web >/proc/1/fd/1; exec sleep 1000'\nautorestart=true\n\
                [program:other]\ncommand=sleep 1000\nuser=65534:65534\npriority=1\nautorestart=true\n";
    let image = shell_image(engine, conf);
    let container = image.start(&[], &[]);
    container.expect_running(&["web", "other"]);
    container.kill_and_expect_another("other");
    container.kill_and_expect_another("web");
    container.expect_log("from web", 2);
    container.sh("echo from a job >/proc/1/fd/1");
    container.expect_log("from a job", 1);
    container.stop_well();
}

fn the_containers_exit_code_is_that_of_the_command(engine: Engine) {
    needs!(root(), shipped_binary());
    let image = shell_image(engine, "");
    for (words, code) in [
        (&["--", "sh", "-c", "exit 7"][..], 7),
        (&["sh", "-c", "exit 0"], 0),
        (&["sh", "-c", "kill -KILL $$"], 137),
        (&["--", "no-such-command"], 127),
        (&["/etc/supervisord.conf"], 126),
    ] {
        let output = image.run(&[], words);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {error}");
    }

    let out = Out::new();
    let volume = ["-v", &out.volume()];
    let container = image.start(&volume, &["--", "sh", "-c", &on("HUP", "web", "exit 3")]);
    out.expect("web.ready", "ready");
    container.signal("HUP");
    assert_eq!((container.exit_code(), out.read("web").as_str()), (3, "HUP\n"));

    let container = image.start(&volume, &["--", "sh", "-c", &on("TERM", "db", "exit 4")]);
    out.expect("db.ready", "ready");
    let took = container.stop();
    assert!(took < Duration::from_secs(5), "the stop took {took:?}");
    assert_eq!((container.exit_code(), out.read("db").as_str()), (4, "TERM\n"));
}

fn docker_kill_reaches_the_programs_and_docker_stop_every_process(engine: Engine) {
    needs!(root(), shipped_binary());
    let section = |name: &str, script: &str| format!("[program:{name}]\ncommand=sh -c '{script}'\n");
    let conf = section("waits", "sleep 1000 & wait")
        + &section("forks", "(setsid sh /out/daemon.sh &); exec sleep 1000")
        + &section("leads", "sh /out/member.sh & exec sleep 1000")
        + &section("stubborn", &on("TERM", "stubborn", ":"))
        + "stopwaitsecs=2\n"
        + &section("hup", &on("HUP", "hup", ":"));
    let image = shell_image(engine, &conf);
    let out = Out::new();
    out.write("daemon.sh", &on("TERM", "daemon", "exit"));
    out.write("member.sh", &on("TERM", "member", "exit"));
    let container = image.start(&["-v", &out.volume()], &[]);
    for name in ["daemon", "member", "stubborn", "hup"] {
        out.expect(&format!("{name}.ready"), "ready");
    }
    container.expect_log("success: waits", 1);
    // The processes that replace these write the files again, when they are ready for SIGTERM.
    for name in ["daemon", "member", "stubborn"] {
        fs::remove_file(out.0.path().join(format!("{name}.ready"))).unwrap();
    }

    container.signal("HUP");
    out.expect("hup", "HUP\n");
    // SIGHUP kills the programs that do not handle it, and rsup restarts them.
    container.expect_log("exited: waits (terminated by SIGHUP; not expected)", 1);
    container.expect_log("success: waits", 2);
    container.expect_log("success: forks", 2);
    container.expect_log("success: leads", 2);
    ["daemon", "member", "stubborn"].iter().for_each(|name| out.expect(&format!("{name}.ready"), "ready"));

    let took = container.stop();
    assert!(took >= Duration::from_millis(1900) && took < Duration::from_secs(5), "the stop took {took:?}");
    assert_eq!(container.exit_code(), 0);
    for name in ["daemon", "member", "stubborn"] {
        assert!(out.read(name).contains("TERM\n"), "{name} did not get SIGTERM");
    }
    let logs = container.logs();
    assert!(logs.contains("stopped: stubborn (terminated by SIGKILL)"), "{logs}");
}

fn a_shell_in_docker_run_it_has_job_control(engine: Engine) {
    needs!(root(), shipped_binary());
    let image = shell_image(engine, "");
    let (mut terminal, _container) = image.start_on_terminal(&["-e", "PS1=inner> "], &["--", "sh", "-i"]);
    job_control(&mut terminal, "inner> ");
    terminal.enter("exit 7\n");
    assert_eq!(terminal.exit_code(), 7);
}

fn a_resized_terminal_sends_the_programs_no_sigwinch(engine: Engine) {
    needs!(root(), shipped_binary());
    let tell = |signal: &str| format!("trap \"echo {signal} >> /out/web\" {signal}; ");
    let conf = format!(
        "[program:web]\ncommand=sh -c '{}{}{}'\n",
        tell("WINCH"),
        tell("USR1"),
        on("TERM", "web", "exit 0")
    );
    let image = shell_image(engine, &conf);
    let out = Out::new();
    let (mut terminal, container) = image.start_on_terminal(&["-v", &out.volume()], &[]);
    out.expect("web.ready", "ready");
    terminal.expect("success: web");
    terminal.resize(33, 99);
    container.sh("kill -USR1 1");
    out.expect("web", "USR1\n");
    assert_eq!(out.read("web"), "USR1\n");
    // rsup drops the SIGWINCH of the kernel and the one that docker's client forwards, but not one from inside the
    // container.
    container.sh("kill -WINCH 1");
    out.expect("web", "WINCH\n");
    terminal.enter("\x03");
    terminal.expect("received SIGINT indicating exit request");
    terminal.expect("stopped: web (exit status 0)");
    assert_eq!(terminal.exit_code(), 0);
    assert_eq!(out.read("web"), "USR1\nWINCH\nTERM\n");
}

fn processes_of_docker_exec_are_reaped_and_terminated(engine: Engine) {
    needs!(root(), shipped_binary());
    let out = Out::new();
    out.write("job.sh", &on("TERM", "job", "exit"));
    let image = shell_image(engine, "[program:web]\ncommand=sleep 1000\n");
    let container = image.start(&["-v", &out.volume()], &[]);
    container.expect_running(&["web"]);
    let pid = container.pid();
    container.sh("setsid sh /out/job.sh >/dev/null 2>&1 &");
    container.sh("sleep 0.1 >/dev/null 2>&1 &");
    out.expect("job.ready", "ready");
    let names = || {
        let mut names: Vec<_> = proc::children(pid).into_iter().map(|child| child.name).collect();
        names.sort_unstable();
        names
    };
    // rsup has adopted the job. It has also adopted the short sleep, and has reaped it.
    eventually("rsup has the program and the job", || (names() == ["sh", "sleep"]).then_some(()));

    let words = ["exec", &container.id, "sh", "-c", "echo ready > /out/session; exec sleep 1000"];
    let mut session = engine.command(&words).spawn().unwrap();
    out.expect("session", "ready");
    container.stop_well();
    assert_eq!(out.read("job"), "TERM\n");
    let ended = eventually("the session ends with the container", || session.try_wait().unwrap());
    assert!(!ended.success());
}

fn rsup_works_under_docker_init(engine: Engine) {
    needs!(root(), shipped_binary());
    let conf = "[program:web]\ncommand=sh /out/web.sh\n[program:forks]\ncommand=sh -c '(setsid sh /out/daemon.sh &); exec sleep 1000'\n";
    let out = Out::new();
    out.write("web.sh", &on("TERM", "web", "exit 0"));
    out.write("daemon.sh", &on("TERM", "daemon", "exit"));
    let image = shell_image(engine, conf);
    let container = image.start(&["--init", "-v", &out.volume()], &[]);
    container.expect_running(&["web", "forks"]);
    ["web", "daemon"].iter().for_each(|name| out.expect(&format!("{name}.ready"), "ready"));
    let logs = container.logs();
    assert!(logs.contains("rsup started with pid ") && !logs.contains("rsup started with pid 1\n"), "{logs}");
    container.stop();
    assert_eq!(container.exit_code(), 0);
    assert_eq!((out.read("web").as_str(), out.read("daemon").as_str()), ("TERM\n", "TERM\n"));
}

/// A configuration whose program writes the signals of a container's user into the file `web` of the volume.
fn listener() -> String {
    let trap = |signal: &str| format!("trap \"echo {signal} >> /out/web\" {signal}; ");
    let traps = ["WINCH", "HUP", "USR1", "TSTP"].map(trap).concat();
    format!("[program:web]\ncommand=sh -c '{traps}{}'\n", on("TERM", "web", "exit 0"))
}

fn under_docker_init_signals_of_the_terminal_reach_no_program_and_docker_kill_does(engine: Engine) {
    needs!(root(), shipped_binary());
    let image = shell_image(engine, &listener());
    for is_detached in [false, true] {
        let out = Out::new();
        let volume = out.volume();
        let options = ["-i", "-t", "--init", "-v", &volume];
        let (mut terminal, container) = if is_detached {
            let container = image.start(&options, &["-e", "debug"]);
            out.expect("web.ready", "ready");
            let attach = [engine.words(), &["attach", &container.id]].concat();
            (Terminal::start(&attach, out.0.path()), container)
        } else {
            image.start_on_terminal(&options, &["-e", "debug"])
        };
        out.expect("web.ready", "ready");
        terminal.resize(33, 99);
        // The engine's client shows the output of the terminal, so rsup's line shows that the client is connected.
        container.expect_log("success: web", 1);
        terminal.resize(34, 100);
        terminal.enter("\x1a");
        terminal.expect("received SIGTSTP, which has no effect here");
        for signal in ["USR1", "HUP"] {
            container.signal(signal);
            out.expect("web", &format!("{signal}\n"));
            container.expect_log(&format!("passing SIG{signal} on to the programs"), 1);
        }
        assert_eq!(out.read("web"), "USR1\nHUP\n");
        container.stop();
        assert_eq!((container.exit_code(), out.read("web").as_str()), (0, "USR1\nHUP\nTERM\n"));
    }
}

/// rsup is not PID 1 there, and leads the session of the terminal.
fn with_the_hosts_pids_docker_kill_s_hup_reaches_the_programs(engine: Engine) {
    needs!(root(), shipped_binary());
    let image = shell_image(engine, &listener());
    let out = Out::new();
    let container = image.start(&["-t", "--pid=host", "-v", &out.volume()], &[]);
    out.expect("web.ready", "ready");
    container.signal("HUP");
    out.expect("web", "HUP\n");
    container.signal("HUP");
    out.expect("web", "HUP\nHUP\n");
    container.stop();
    assert_eq!((container.exit_code(), out.read("web").as_str()), (0, "HUP\nHUP\nTERM\n"));
}

fn a_shell_in_docker_run_it_can_stop_and_continue_rsup(engine: Engine) {
    needs!(root(), shipped_binary());
    let image = shell_image(engine, &listener());
    for init in [&[][..], &["--init"]] {
        let out = Out::new();
        let volume = out.volume();
        let options = [init, &["--entrypoint", "sh", "-e", "PS1=inner> ", "-v", &volume]].concat();
        let (mut terminal, container) = image.start_on_terminal(&options, &["-i"]);
        terminal.expect("inner> ");
        terminal.enter("/sbin/rsup; echo co''de=$?.\n");
        terminal.expect("success: web");
        for _ in 0..2 {
            terminal.enter("\x1a");
            terminal.expect("Stopped");
            terminal.expect("inner> ");
            terminal.enter("fg; echo co''de=$?.\n");
            let running = || {
                let below = proc::descendants(container.pid());
                (below.iter().any(|process| process.name == "rsup")
                    && below.iter().all(|process| process.state != 'T'))
                .then_some(())
            };
            eventually("rsup and its program run again", running);
        }
        terminal.enter("\x03");
        terminal.expect("received SIGINT indicating exit request");
        terminal.expect("code=0.");
        terminal.expect("inner> ");
        terminal.enter("exit 4\n");
        assert_eq!(terminal.exit_code(), 4);
    }
}

fn the_restart_policy_sees_the_exit_code_of_a_fatal_program(engine: Engine) {
    needs!(root(), shipped_binary());
    let conf = "[program:web]\ncommand=sleep 1000\n\
                [program:db]\ncommand=sh -c 'echo life >> /out/db; exit 3'\nstartretries=0\nshutdown_on=fatal\n";
    let image = shell_image(engine, conf);
    let out = Out::new();
    let container = image.start(&["--restart", "on-failure:2", "-v", &out.volume()], &[]);
    let lives = || (out.read("db") == "life\nlife\nlife\n").then_some(());
    eventually("the container was restarted twice", lives);
    let ended = || {
        (container.inspect(".State.Running") == "false" && container.inspect(".RestartCount") == "2")
            .then_some(())
    };
    eventually("the policy gives up", ended);
    assert_eq!(container.exit_code(), 3);
}

fn the_restart_policy_sees_the_exit_code_of_a_failed_migration(engine: Engine) {
    needs!(root(), shipped_binary());
    // The migration fails in the first life of the container.
    let conf = "[supervisord]\nstartup=ordered\n\
                [program:migrate]\ncommand=sh -c 'echo life >> /out/migrate; cat /out/second || { echo > /out/second; exit 1; }'\n\
                priority=10\nstartsecs=0\nautorestart=false\n\
                [program:web]\ncommand=sh -c 'echo life >> /out/web; exec sleep 1000'\npriority=20\n";
    let image = shell_image(engine, conf);
    let out = Out::new();
    let container = image.start(&["--restart", "on-failure:2", "-v", &out.volume()], &[]);
    container.expect_log(
        "ERRO web will not start: it waits in vain for the programs with lower priority numbers",
        1,
    );
    container.expect_log("INFO rsup exits with status 1: no program runs, and none will", 1);
    container.expect_running(&["web"]);
    assert_eq!((out.read("migrate").as_str(), out.read("web").as_str()), ("life\nlife\n", "life\n"));
    container.stop_well();
}
