//! Restrictions of an engine: a read-only root, another user, no capabilities, few processes, little memory.

use super::{Engine, Out, on, shell_image, with_each_engine};
use crate::resource_use::shipped_binary;
use crate::support::probe::{probe, static_programs};
use crate::support::{SIGKILL, eventually, kill, needs, proc, root};

with_each_engine!(
    rsup_runs_without_root_capabilities_network_or_a_writable_root,
    rsup_restarts_programs_when_the_pids_limit_is_used_up,
    rsup_restarts_a_program_that_the_oom_killer_has_killed
);

fn rsup_runs_without_root_capabilities_network_or_a_writable_root(engine: Engine) {
    needs!(root(), shipped_binary());
    let conf = "[program:web]\ncommand=sh /out/web.sh\nautorestart=true\n\
                [program:db]\ncommand=sh -c 'cd /etc; true > new; echo $?; exec sleep 1000'\n";
    let image = shell_image(engine, conf);
    const READ_ONLY: &[&str] = &["--read-only"];
    const USER: &[&str] = &["--user", "65534:65534"];
    const NO_CAPABILITIES: &[&str] = &["--cap-drop", "ALL"];
    const NO_NEW_PRIVILEGES: &[&str] = &["--security-opt", "no-new-privileges"];
    let all = [READ_ONLY, USER, NO_CAPABILITIES, NO_NEW_PRIVILEGES].concat();
    for less in [READ_ONLY, USER, NO_CAPABILITIES, NO_NEW_PRIVILEGES, &all] {
        let has = |options: &[&str]| less.windows(options.len()).any(|words| words == options);
        let out = Out::new();
        out.write("web.sh", &on("TERM", "web", "exit 0"));
        let container = image.start(&[less, &["-v", &out.volume()]].concat(), &[]);
        container.expect_running(&["web", "db"]);
        out.expect("web.ready", "ready");

        let status = |key: &str| proc::status(container.program("db"), key).unwrap();
        let user = if has(USER) { "65534\t65534\t65534\t65534" } else { "0\t0\t0\t0" };
        assert_eq!((status("Uid").as_str(), status("Gid").as_str()), (user, user), "{less:?}");
        assert_eq!(status("CapEff") == "0000000000000000", has(USER) || has(NO_CAPABILITIES), "{less:?}");
        assert_eq!(status("NoNewPrivs"), if has(NO_NEW_PRIVILEGES) { "1" } else { "0" }, "{less:?}");
        let written = if has(READ_ONLY) || has(USER) { "cannot create new" } else { "0\n" };
        container.expect_log(written, 1);

        std::fs::remove_file(out.0.path().join("web.ready")).unwrap();
        container.kill_and_expect_another("web");
        out.expect("web.ready", "ready");
        container.stop_well();
        assert_eq!(out.read("web"), "TERM\n", "{less:?}");
    }
}

fn rsup_restarts_programs_when_the_pids_limit_is_used_up(engine: Engine) {
    needs!(root(), shipped_binary(), static_programs());
    // `web` starts first, because `fill` leaves no process for a later start.
    let conf = "[program:web]\ncommand=sleep 1000\npriority=1\nstartsecs=0\nautorestart=true\n\
                [program:fill]\ncommand=/out/probe fill\nautorestart=false\n";
    let image = shell_image(engine, conf);
    let out = Out::new();
    std::fs::copy(probe(), out.0.path().join("probe")).unwrap();
    let container = image.start(&["--pids-limit", "20", "-v", &out.volume()], &[]);
    container.expect_running(&["web"]);
    container.expect_log("no more processes", 1);

    // `web` and `fill` compete for each process that becomes available.
    eventually("rsup cannot start web", || {
        let web = proc::children(container.pid())
            .into_iter()
            .find(|child| child.name == "sleep" && !child.is_zombie());
        web.iter().for_each(|web| kill(web.pid, SIGKILL));
        container.logs().contains("spawnerr: Too many processes in process table").then_some(())
    });
    assert_eq!(container.inspect(".State.Running"), "true");

    let fill = |process: &proc::Process| process.name == "probe";
    proc::descendants(container.pid())
        .into_iter()
        .filter(fill)
        .for_each(|process| kill(process.pid, SIGKILL));
    container.expect_log("exited: fill (terminated by SIGKILL; not expected)", 1);
    let again = || proc::children(container.pid()).iter().any(|child| child.name == "sleep").then_some(());
    eventually("web runs again", again);
    container.stop_well();
}

fn rsup_restarts_a_program_that_the_oom_killer_has_killed(engine: Engine) {
    needs!(root(), shipped_binary());
    let conf = "[program:web]\ncommand=sleep 1000\n\
                [program:hog]\ncommand=sh -c 'x=0123456789abcdef; while :; do x=$x$x; done'\n\
                startsecs=0\nautorestart=false\n";
    let image = shell_image(engine, conf);
    let container = image.start(&["--memory", "24m", "--memory-swap", "24m"], &[]);
    container.expect_running(&["web", "hog"]);
    container.expect_log("exited: hog (terminated by SIGKILL; not expected)", 1);
    let _web = container.program("web");
    container.stop_well();
}
