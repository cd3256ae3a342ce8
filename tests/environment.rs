//! What a program inherits from rsup: signals, descriptors, stdin, environment, user, output streams and limits.

use std::collections::BTreeMap;
use std::fs;

use crate::support::{
    Rsup, Setup, both_ways, eventually, installed, needs, pid_namespace, proc, program, root, rsup, script,
};

/// The keys of a program that runs once and writes into the file `out`.
const ONCE: &str = "startsecs=0\nautorestart=false\nstdout_logfile=%(here)s/out\n";

/// Runs a program once, with this command, and with `keys` in addition to `ONCE`. Returns what the program wrote.
#[track_caller]
fn output_of(command: &str, keys: &str) -> String {
    output(rsup(&format!("{}{ONCE}{keys}\n", program("job", command))))
}

/// Runs rsup until it exits with 0. Returns what the program wrote.
#[track_caller]
fn output(setup: Setup) -> String {
    let (code, rsup) = setup.run();
    assert_eq!(code, 0, "{:?}", rsup.log());
    rsup.read("out")
}

/// The variables that `env` printed.
fn variables(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once('=')).collect()
}

/// Starts rsup with ignored and blocked signals and with open descriptors, as a careless parent process does.
const CARELESS: [&str; 3] =
    ["env", "--ignore-signal=CHLD,PIPE,XFSZ,USR1,HUP", "--block-signal=CHLD,TERM,INT,USR2,CONT"];

#[test]
fn a_program_starts_with_default_dispositions_and_an_empty_mask() {
    for way in both_ways() {
        let conf = program("job", "cat /proc/self/status") + ONCE;
        let status = output(rsup(&conf).through(&CARELESS).run_as(way));
        for key in ["SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"] {
            let set = proc::field(&status, key).unwrap();
            assert_eq!(set.trim_start_matches('0'), "", "{way:?} {key}");
        }
    }
}

#[test]
fn rsup_handles_signals_that_were_blocked_or_ignored_at_its_start() {
    for way in both_ways() {
        let mut rsup = rsup(&program("web", "sleep 1000")).through(&CARELESS).run_as(way).start();
        rsup.expect("success: web");
        rsup.kill("web", libc::SIGKILL);
        rsup.expect("exited: web (terminated by SIGKILL; not expected)");
        rsup.expect("spawned: 'web'");
        assert_eq!(rsup.stop(), 0, "{way:?}");
    }
}

#[test]
fn only_the_three_standard_descriptors_are_open() {
    let conf =
        program("other", "sleep 1000") + "shutdown_on=never\n" + &program("job", "ls /proc/self/fd") + ONCE;
    let mut rsup = rsup(&conf).after("exec 7</dev/null 9>/dev/null").start();
    rsup.expect("exited: job");
    assert_eq!(rsup.stop(), 0);
    // `ls` has a fourth descriptor open: the directory that it lists.
    assert_eq!(rsup.read("out"), "0\n1\n2\n3\n");
}

#[test]
fn each_program_leads_its_own_process_group() {
    let mut rsup = rsup(&(program("a", "sleep 1000") + &program("b", "sleep 1000"))).start();
    rsup.expect_all(&["spawned: 'a'", "spawned: 'b'"]);
    for program in ["a", "b"] {
        let pid = rsup.pid_of(program);
        assert_eq!(proc::process(pid).unwrap().group, pid);
    }
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn stdin_is_a_pipe_without_data_and_without_end_of_file() {
    let mut rsup = rsup(&(program("a", "cat") + &program("b", "cat"))).start();
    rsup.expect_all(&["success: a", "success: b"]);
    let stdin = |name: &str| fs::read_link(format!("/proc/{}/fd/0", rsup.pid_of(name))).unwrap();
    let a = stdin("a");
    let b = stdin("b");
    assert!(a.to_string_lossy().starts_with("pipe:"), "{a:?}");
    assert_ne!(a, b);
    // rsup keeps no end of that pipe open.
    assert_eq!(proc::open_descriptors(rsup.pid()), proc::OWN_DESCRIPTORS);
    rsup.kill("a", libc::SIGKILL);
    rsup.expect("success: a");
    assert!(rsup.lines("exited: b").is_empty());
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn a_program_runs_in_its_directory() {
    assert_eq!(output_of("pwd", "directory=/usr/bin"), "/usr/bin\n");
    let here = rsup(&(program("job", "pwd") + ONCE));
    let expected = fs::canonicalize(here.path(".")).unwrap();
    assert_eq!(output(here).trim_end(), expected.to_str().unwrap());
}

#[test]
fn the_umask_is_the_programs_own_or_rsups() {
    assert_eq!(output_of("sh -c umask", "umask=027"), "0027\n");
    let inherited = rsup(&(program("job", "sh -c umask") + ONCE)).after("umask 035");
    assert_eq!(output(inherited), "0035\n");
}

#[test]
fn the_programs_variables_override_the_files_and_the_files_override_rsups() {
    let conf = "[supervisord]\nenvironment=B=\"file\",C=\"file\",PERCENT=\"100%%\"\n\
                [group:crew]\nprograms=job\n"
        .to_owned()
        + &program("job", "env")
        + ONCE
        + "environment=C=\"own, and quoted\",D=\"%(program_name)s of %(group_name)s\"\n";
    let text = output(rsup(&conf).env("A", "outer").env("B", "outer").env("C", "outer"));
    let seen = variables(&text);
    let expected = [
        ("A", "outer"),
        ("B", "file"),
        ("C", "own, and quoted"),
        ("D", "job of crew"),
        ("PERCENT", "100%"),
        ("SUPERVISOR_ENABLED", "1"),
        ("SUPERVISOR_PROCESS_NAME", "job"),
        ("SUPERVISOR_GROUP_NAME", "crew"),
    ];
    for (name, value) in expected {
        assert_eq!(seen.get(name), Some(&value), "{name} in {text}");
    }
    assert!(!seen.contains_key("SUPERVISOR_SERVER_URL"));
}

#[test]
fn serverurl_sets_a_variable() {
    let text = output_of("env", "serverurl=http://127.0.0.1:9001");
    assert_eq!(variables(&text).get("SUPERVISOR_SERVER_URL"), Some(&"http://127.0.0.1:9001"));
}

#[test]
fn the_command_sees_its_environment() {
    let conf = program("job", "echo %(ENV_GREETING)s %(ENV_WHOM)s %(process_num)d %(host_node_name)s")
        + ONCE
        + "environment=WHOM=world\n";
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(output(rsup(&conf).env("GREETING", "hello")), format!("hello world 0 {host}"));
}

#[test]
fn a_uid_needs_no_passwd_file() {
    needs!(root());
    assert_eq!(output_of("sh -c 'id -u; id -g; id -G'", "user=54321"), "54321\n54321\n54321\n");
    assert_eq!(output_of("sh -c 'id -u; id -g'", "user=54321:54322"), "54321\n54322\n");
}

/// rsup as PID 1, with a passwd and a group file that the test has written.
fn with_users(conf: &str) -> Setup {
    let passwd = "app:x:4711:4712::/:/bin/false\n";
    let group = "app:x:4712:\nlogs:x:4713:app\nother:x:4714:somebody\nmedia:x:4715:somebody,app\n";
    rsup(conf)
        .file("passwd", passwd, 0o644)
        .file("group", group, 0o644)
        .after("set -e; mount --bind passwd /etc/passwd; mount --bind group /etc/group")
        .pid_1()
}

#[test]
fn a_user_name_sets_uid_gid_and_all_groups() {
    needs!(root(), pid_namespace());
    let conf = |user: &str| program("job", "sh -c 'id -u; id -g; id -G'") + ONCE + "user=" + user + "\n";
    assert_eq!(output(with_users(&conf("app"))), "4711\n4712\n4712 4713 4715\n");
    assert!(output(with_users(&conf("app:other"))).starts_with("4711\n4714\n"));
    assert!(output(with_users(&conf("root"))).starts_with("0\n0\n"), "root needs no entry");
    assert!(output(with_users(&conf("root:other"))).starts_with("0\n4714\n"));
    assert!(output(with_users(&conf("0:4714"))).starts_with("0\n4714\n"));
}

#[test]
fn a_program_of_another_user_inherits_the_streams() {
    needs!(root());
    for file in
        ["", "stdout_logfile=/dev/stdout\n", "stdout_logfile=/proc/self/fd/1\n", "stdout_logfile=/dev/fd/1\n"]
    {
        let conf = script("job", "echo hello") + "startsecs=0\nautorestart=false\nuser=54321\n" + file;
        // The pipe belongs to root: a program of another user can inherit it, but cannot open it.
        let (code, rsup) = rsup(&conf).after("exec >&2").run();
        assert_eq!((code, rsup.lines("hello").len()), (0, 1), "{file} {:?}", rsup.log());
    }
}

/// Runs a program that writes `to stdout` and `to stderr`. Returns rsup after its exit.
fn both_streams(keys: &str) -> Rsup {
    let job = script("job", "echo to stdout; echo to stderr >&2") + "startsecs=0\nautorestart=false\n" + keys;
    let (code, rsup) = rsup(&job).file("log", "before\n", 0o644).run();
    assert_eq!(code, 0);
    rsup
}

#[test]
fn streams_are_inherited_by_default() {
    for keys in ["", "stdout_logfile=AUTO\n", "stdout_logfile=/dev/stdout\nstderr_logfile=/dev/stderr\n"] {
        let rsup = both_streams(keys);
        assert_eq!(rsup.read("stdout"), "to stdout\n", "{keys}");
        assert_eq!(rsup.lines("to stderr").len(), 1, "{keys}");
    }
}

#[test]
fn streams_are_written_to_the_configured_files() {
    let rsup = both_streams("stdout_logfile=%(here)s/log\nstdout_logfile_maxbytes=0\n");
    assert_eq!(rsup.read("log"), "before\nto stdout\n", "appended");
    assert_eq!((rsup.read("stdout").as_str(), rsup.lines("to stderr").len()), ("", 1));

    let rsup = both_streams("stderr_logfile=%(here)s/log\n");
    assert_eq!(rsup.read("log"), "before\nto stderr\n");
    assert_eq!((rsup.read("stdout").as_str(), rsup.lines("to stderr").len()), ("to stdout\n", 0));

    let rsup = both_streams("stdout_logfile=/dev/stderr\nstderr_logfile=/dev/stdout\n");
    assert_eq!((rsup.read("stdout").as_str(), rsup.lines("to stdout").len()), ("to stderr\n", 1));

    let rsup = both_streams("stdout_logfile=NONE\nstderr_logfile=off\n");
    assert_eq!((rsup.read("stdout").as_str(), rsup.lines("to std").len()), ("", 0));
}

#[test]
fn redirect_stderr_sends_stderr_to_stdout() {
    let rsup = both_streams("redirect_stderr=true\n");
    assert_eq!((rsup.read("stdout").as_str(), rsup.lines("to stderr").len()), ("to stdout\nto stderr\n", 0));
    let rsup = both_streams("redirect_stderr=true\nstdout_logfile=%(here)s/log\n");
    assert_eq!(rsup.read("log"), "before\nto stdout\nto stderr\n");
}

#[test]
fn a_log_file_that_cannot_be_opened_does_not_stop_the_program() {
    let rsup = both_streams("stdout_logfile=%(here)s\n");
    assert_eq!(rsup.read("stdout"), "to stdout\n", "inherited instead");
    assert!(rsup.log().iter().any(|line| line.0.contains(" WARN ")), "{:?}", rsup.log());
}

#[test]
fn a_program_cannot_make_the_other_programs_pipe_non_blocking() {
    // `dd` sets O_NONBLOCK on the open file description that it inherits, as node and asyncio do.
    let conf = program("rude", "dd if=/dev/null oflag=nonblock status=none")
        + "startsecs=0\nautorestart=false\n"
        + &program("web", "sleep 1000");
    let mut rsup = rsup(&conf).after("exec >&2").start();
    rsup.expect("exited: rude (exit status 0; expected)");
    let flags = |pid: i32| -> u32 {
        let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/1")).unwrap();
        u32::from_str_radix(proc::field(&text, "flags").unwrap(), 8).unwrap()
    };
    let web =
        eventually("web runs", || (!rsup.lines("spawned: 'web'").is_empty()).then(|| rsup.pid_of("web")));
    for pid in [rsup.pid(), web] {
        assert_eq!(flags(pid) & libc::O_NONBLOCK.cast_unsigned(), 0);
    }
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn minfds_and_minprocs_raise_the_limits() {
    needs!(root());
    let conf = format!("[supervisord]\nminfds=2048\n{}{ONCE}", program("job", "sh -c 'ulimit -Sn'"));
    assert_eq!(output(rsup(&conf).after("ulimit -Sn 512")), "2048\n");
}

#[test]
fn rsup_starts_even_if_a_limit_cannot_be_raised() {
    needs!(root());
    let conf = format!("[supervisord]\nminfds=2048\n{}{ONCE}", program("job", "sh -c 'ulimit -Sn'"));
    let setup = rsup(&conf).after("ulimit -n 512").through(&["setpriv", "--bounding-set=-sys_resource"]);
    let (code, rsup) = setup.run();
    assert_eq!((code, rsup.read("out").as_str()), (0, "512\n"));
    assert!(rsup.log().iter().any(|line| line.0.contains(" WARN ")), "{:?}", rsup.log());
}

#[test]
fn a_failed_change_of_the_user_has_the_text_that_supervisord_has_for_rsups_own_user() {
    needs!(root(), installed("setpriv"));
    let without =
        |capability: &'static str| ["setpriv", "--bounding-set", capability, "--inh-caps", capability];
    let nobody = ["setpriv", "--reuid=54399", "--regid=54399", "--clear-groups"];
    let no_groups = without("-setgid");
    let no_user = without("-setuid");
    let cases: [(&[&str], &str); 3] = [
        (&nobody, "Can't drop privilege as nonroot user"),
        (&no_groups, "Could not set groups of effective user"),
        (&no_user, "Could not set user id of effective user: EPERM"),
    ];
    for (through, why) in cases {
        let conf = script("job", "echo ran > ran") + "user=54321:54322\nstartretries=0\n";
        let (code, job) = rsup(&conf).through(through).run();
        let lines: Vec<_> = job.lines("spawnerr:").iter().map(|line| line.message().to_owned()).collect();
        assert_eq!((code, lines), (1, vec![format!("INFO spawnerr: couldn't setuid to 54321: {why}")]));

        let conf = "[supervisord]\nuser=54321:54322\n".to_owned() + &script("job", "echo ran > ran");
        let (code, all) = rsup(&conf).through(through).run();
        let last = all.log().pop().map(|line| line.0);
        assert_eq!((code, last), (2, Some(format!("Error: {why}"))));
        assert!(!job.path("ran").exists() && !all.path("ran").exists());
    }
}
