//! Clients that are killed, that come in crowds, that lose their terminal or their reader, and rsups that are stopped or
//! that are two.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::Duration;

use super::{command_beside, with_supervisorctl};
use crate::support::{
    Rsup, SIGCONT, SIGINT, SIGSTOP, Setup, eventually, handler, kill, needs, never, pid_namespace, proc,
    program, root, rsup,
};

/// A set-up as PID 1 with these programs.
fn image(programs: &str) -> Setup {
    with_supervisorctl(rsup(programs).pid_1())
}

/// A program that is RUNNING as soon as it is started.
fn server(name: &str) -> String {
    program(name, "sleep 1000") + "startsecs=0\n"
}

/// `supervisorctl WORD...`, in a process group of its own.
fn supervisorctl(rsup: &Rsup, words: &[&str]) -> Command {
    let mut command = command_beside(rsup, &[&["supervisorctl"], words].concat());
    command.process_group(0);
    command
}

/// The exit status and the output of `supervisorctl WORD...`.
fn control(rsup: &Rsup, words: &[&str]) -> (Option<i32>, String) {
    let output = supervisorctl(rsup, words).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout) + &text(output.stderr))
}

/// The PID of the client itself. (`nsenter` forks it.)
fn client_pid(child: &Child) -> Option<i32> {
    let parent = child.id().cast_signed();
    proc::children(parent)
        .into_iter()
        .find(|process| process.name == "supervisorctl")
        .map(|process| process.pid)
}

#[test]
fn a_client_that_is_killed_at_any_moment_leaves_rsup_intact() {
    needs!(root(), pid_namespace());
    let mut rsup = image(&server("web")).start();
    rsup.expect("success: web");
    let descriptors = proc::open_descriptors(rsup.pid());
    let mut random = fastrand::Rng::with_seed(16);
    for _ in 0..40 {
        let mut client = supervisorctl(&rsup, &["restart", "web"]).spawn().unwrap();
        let looks = random.u32(0..300);
        // The client is killed at a random moment of its work. It may have ended before.
        for _ in 0..looks {
            client_pid(&client);
        }
        client_pid(&client).inspect(|pid| kill(*pid, libc::SIGKILL));
        client.wait().unwrap();
    }
    // The last restart may have been cut short after its stop.
    let (_, said) = control(&rsup, &["start", "web"]);
    assert!(["web: started\n", "web: ERROR (already started)\n"].contains(&&*said), "{said}");
    let (status, said) = control(&rsup, &["status", "web"]);
    assert_eq!(status, Some(0), "{said}");
    assert_eq!(proc::open_descriptors(rsup.pid()), descriptors);
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn a_thousand_clients_at_once_all_end() {
    needs!(root(), pid_namespace());
    let mut rsup = image(&(server("a") + &server("b") + &server("c"))).start();
    rsup.expect_all(&["success: a", "success: b", "success: c"]);
    let crowd = "for n in $(seq 200); do\n\
        for c in 'restart a' 'status' 'stop b' 'start b' 'signal CONT c'; do supervisorctl $c >/dev/null & done\n\
        done\nwait";
    let output = command_beside(&rsup, &["sh", "-c", crowd]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (_, said) = control(&rsup, &["start", "all"]);
    let (status, shown) = control(&rsup, &["status"]);
    assert_eq!((status, shown.matches("RUNNING").count()), (Some(0), 3), "{said}{shown}");
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn restart_all_of_1000_programs_restarts_each_once() {
    needs!(root(), pid_namespace());
    let conf = server("web") + "process_name=w%(process_num)d\nnumprocs=1000\n";
    let mut rsup = image(&conf).start();
    // The log may lose lines, because 2,000 lines come at once.
    eventually("all programs run", || {
        let (_, shown) = control(&rsup, &["status"]);
        (shown.matches("RUNNING").count() == 1000).then_some(())
    });
    let (status, said) = control(&rsup, &["restart", "all"]);
    assert_eq!(status, Some(0));
    let count = |end: &str| said.lines().filter(|line| line.ends_with(end)).count();
    assert_eq!((count(": stopped"), count(": started"), said.lines().count()), (1000, 1000, 2000));
    let (status, shown) = control(&rsup, &["status"]);
    assert_eq!((status, shown.matches("RUNNING").count()), (Some(0), 1000));
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn interrupting_a_client_ends_it_and_the_request_goes_on() {
    needs!(root(), pid_namespace());
    let conf = handler("slow", "TERM", "touch asked; while [ ! -e end ]; do sleep 0.02; done; exit 0");
    let mut rsup = image(&(conf + "stopwaitsecs=1000\n")).start();
    rsup.expect_ready(&["slow"]);
    let mut client = supervisorctl(&rsup, &["stop", "slow"]).spawn().unwrap();
    eventually("the program was asked to stop", || rsup.path("asked").exists().then_some(()));
    let pid = eventually("the client waits", || client_pid(&client));
    kill(pid, SIGINT);
    assert!(!client.wait().unwrap().success());
    rsup.touch("end");
    rsup.expect("stopped: slow");
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn a_closed_pipe_ends_a_client_without_a_message() {
    needs!(root(), pid_namespace());
    let mut rsup = image(&(server("web") + "process_name=w%(process_num)d\nnumprocs=500\n")).start();
    rsup.expect("success: w0 ");
    let output = command_beside(&rsup, &["sh", "-c", "supervisorctl status | head -n 1"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!((text.lines().count(), output.stderr), (1, vec![]), "{text}");
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn a_program_that_restarts_itself_and_reads_what_the_client_says_runs_again() {
    needs!(root(), pid_namespace());
    let web = r#"
        echo start >>starts
        if [ "$(wc -l <starts)" -eq 1 ]; then said=$(supervisorctl restart web); fi
        exec sleep 1000
    "#;
    let conf = program("web", "sh web.sh") + "startsecs=0\n";
    let mut rsup = image(&conf).file("web.sh", web, 0o644).start();
    rsup.expect_in_file("starts", "start\nstart\n");
    rsup.expect("stopped: web");
    rsup.expect("success: web");
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn while_rsup_is_stopped_its_status_can_be_read_and_requests_wait() {
    needs!(root(), pid_namespace());
    let mut rsup = image(&(server("web") + &server("job") + "autostart=false\n")).start();
    rsup.expect("success: web");
    rsup.signal(SIGSTOP);
    eventually("rsup is stopped", || (proc::process(rsup.pid())?.state == 'T').then_some(()));
    let (status, said) = control(&rsup, &["status", "web"]);
    assert_eq!(status, Some(0), "{said}");
    let mut client = supervisorctl(&rsup, &["start", "job"]).spawn().unwrap();
    never("the client ended", Duration::from_millis(300), || client.try_wait().unwrap().is_some());
    rsup.signal(SIGCONT);
    assert!(client.wait().unwrap().success());
    rsup.expect("success: job");
    assert_eq!(rsup.stop(), 0);
}

/// PID 1 is a shell here, as on a developer's machine.
#[test]
fn of_two_rsups_the_ancestor_or_the_named_one_is_controlled() {
    needs!(root(), pid_namespace());
    let script = r"
        supervisord -c a.conf & a=$!
        supervisord -c b.conf & b=$!
        until [ -e a.ready ] && [ -e b.ready ]; do sleep 0.02; done
        supervisorctl status >both 2>&1; echo $? >>both
        RSUP_PID=$a supervisorctl status >a.status 2>&1
        RSUP_PID=$b supervisorctl status >b.status 2>&1
        RSUP_PID=$$ supervisorctl status >none 2>&1; echo $? >>none
        echo $a $b >pids
        touch done
        while :; do sleep 0.1; done
    ";
    // The program of each file asks for its own status.
    let own = |name: &str| {
        let command = format!("supervisorctl status >{name}.own; touch {name}.ready; exec sleep 1000");
        format!("[program:{name}]\ncommand=sh -c '{command}'\nstartsecs=0\n")
    };
    let setup = with_supervisorctl(rsup("").pid_1())
        .file("a.conf", &own("a"), 0o644)
        .file("b.conf", &own("b"), 0o644)
        .file("init.sh", script, 0o644)
        .running(&["sh", "init.sh"]);
    let init = setup.start();
    eventually("the script has asked everybody", || init.path("done").exists().then_some(()));
    for name in ["a", "b"] {
        for file in ["status", "own"] {
            let said = init.read(&format!("{name}.{file}"));
            assert_eq!((said.split(' ').next(), said.lines().count()), (Some(name), 1), "{said}");
        }
    }
    let pids = init.read("pids");
    let both = init.read("both");
    assert!(both.starts_with("error: several rsups run") && both.contains(pids.trim()), "{both}");
    assert!(both.ends_with("\n1\n"), "{both}");
    assert!(init.read("none").contains("is not the process ID of an rsup"), "{}", init.read("none"));
}
