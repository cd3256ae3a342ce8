//! The command line: getopt's spellings, which Dockerfiles use; what goes to stdout and to stderr; usage errors.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use crate::support::{Setup, binary, installed, needs, program, root, rsup, script, skip};

/// A program whose exit code 7 becomes that of rsup, which shows that the program ran.
fn exits_with_7() -> String {
    script("job", "exit 7") + "startsecs=0\nautorestart=false\n"
}

/// Runs rsup with these arguments, without writing a configuration file for it.
fn run(args: &[&str]) -> Output {
    Command::new(binary()).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_getopt_spelling_of_an_option_works() {
    let spellings: [&[&str]; 11] = [
        &["-c", "supervisord.conf"],
        &["-csupervisord.conf"],
        &["-nc", "supervisord.conf"],
        &["-ncsupervisord.conf"],
        &["--configuration", "supervisord.conf"],
        &["--configuration=supervisord.conf"],
        &["--conf", "supervisord.conf"],
        &["--conf=supervisord.conf"],
        &["-n", "-e", "debug", "--configuration=supervisord.conf"],
        &["-c", "/there/is/none", "-c", "supervisord.conf"],
        &["-nktl", "x.log", "-j/x.pid", "-y1MB", "-z", "3", "-i", "id", "-q/tmp", "-c", "supervisord.conf"],
    ];
    for args in spellings {
        let (code, rsup) = rsup(&exits_with_7()).only_args(args).run();
        assert_eq!(code, 7, "{args:?}: {:?}", rsup.log());
    }
}

#[test]
fn supervisords_other_options_are_accepted_without_effect() {
    let args = "--nodaemon --logfile=/x/y.log --logfile_maxbytes=1MB --logfile_backups=3 --pidfile=/x/y.pid \
                --identifier=me --childlogdir=/x --nocleanup --strip_ansi";
    let args: Vec<_> = args.split_whitespace().collect();
    let (code, rsup) = rsup(&exits_with_7()).args(&args).run();
    assert_eq!(code, 7, "{:?}", rsup.log());
    let files = crate::support::files_below(&rsup.path("."));
    assert_eq!(files.len(), 2, "only the configuration and the stdout of the test: {files:?}");
}

#[test]
fn help_and_version_go_to_stdout_with_exit_code_0() {
    for help in ["-h", "-?", "--help"] {
        let output = run(&[help]);
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""), "{help}");
        assert!(text(&output.stdout).contains("--configuration"), "{help}");
    }
    for version in ["-v", "--version"] {
        let output = run(&[version]);
        let expected = concat!("rsup ", env!("CARGO_PKG_VERSION"), "\n");
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), expected), "{version}");
    }
}

/// The names of all options in the first column of `rsup --help`, short and long, with their dashes.
fn options_in_help() -> Vec<String> {
    let help = text(&run(&["--help"]).stdout);
    let lines = help.lines().skip_while(|line| *line != "Options:").take_while(|line| !line.is_empty());
    let first_columns = lines.filter(|line| line.starts_with("  -"));
    let names = first_columns.flat_map(|line| {
        let column = line.trim_start().split("  ").next().unwrap_or_default();
        column.split(", ").map(str::to_owned)
    });
    let names: Vec<_> = names.collect();
    for expected in ["-c", "--configuration", "--check", "-h", "--help"] {
        assert!(names.iter().any(|name| name == expected), "no {expected} in {names:?} of:\n{help}");
    }
    names
}

#[test]
fn every_option_in_the_help_is_accepted() {
    for name in options_in_help() {
        // --help comes first, so that rsup prints the help and does not act on the option.
        let alone = run(&["--help", &name]);
        if alone.status.code() == Some(0) {
            continue;
        }
        let error = text(&alone.stderr);
        assert!(error.contains(&format!("option {name} requires argument")), "{name}: {error}");
        let with_value = run(&["--help", &name, "1"]);
        assert_eq!(with_value.status.code(), Some(0), "{name}: {}", text(&with_value.stderr));
    }
}

#[test]
fn the_readme_names_every_long_option_in_the_help() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    for name in options_in_help().iter().filter(|name| name.starts_with("--")) {
        assert!(readme.contains(name), "README.md does not name {name}");
    }
}

#[test]
fn under_the_name_supervisord_rsup_prints_supervisords_version_and_refuses_words() {
    let dir = tempfile::tempdir().unwrap();
    let supervisord = dir.path().join("supervisord");
    symlink(binary(), &supervisord).unwrap();
    let version = Command::new(&supervisord).arg("-v").output().unwrap();
    assert_eq!((version.status.code(), text(&version.stdout).as_str()), (Some(0), "4.3.0\n"));
    let words = Command::new(&supervisord).args(["-n", "extra", "words"]).output().unwrap();
    assert_eq!(words.status.code(), Some(2));
    let error = text(&words.stderr);
    assert!(error.contains("positional arguments are not supported: ['extra', 'words']"), "{error}");
}

#[test]
fn under_the_name_supervisorctl_rsup_is_the_client_as_with_ctl() {
    let dir = tempfile::tempdir().unwrap();
    let supervisorctl = dir.path().join("supervisorctl");
    symlink(binary(), &supervisorctl).unwrap();
    let name = supervisorctl.display();
    let with_ctl = format!("{} --ctl", binary().display());
    for (args, code, stdout, stderr) in [
        (&["help", "quit"][..], 0, "quit\tExit the supervisor shell.\n", String::new()),
        (&["quit"], 0, "\n", String::new()),
        (&["nosuch", "web"], 1, "*** Unknown syntax: nosuch web\n", String::new()),
        (&["shutdown now"], 1, "Error: shutdown accepts no arguments\nshutdown \tShut the", String::new()),
        (&["pid"], 1, "error: RSUP_PID=x is not the process ID of an rsup with control\n", String::new()),
        (&["-x"], 2, "", "Error: option -x not recognized\nFor help, use NAME -h\n".to_owned()),
    ] {
        let run = |command: &mut Command| command.args(args).env("RSUP_PID", "x").output().unwrap();
        for (output, name) in [
            (run(&mut Command::new(&supervisorctl)), name.to_string()),
            (run(Command::new(binary()).arg("--ctl")), with_ctl.clone()),
        ] {
            assert!(text(&output.stdout).starts_with(stdout), "{args:?}: {}", text(&output.stdout));
            assert_eq!(text(&output.stderr), stderr.replace("NAME", &name), "{args:?}");
            assert_eq!(output.status.code(), Some(code), "{args:?}");
        }
    }
}

#[test]
fn a_usage_error_goes_to_stderr_with_exit_code_2() {
    let cases: [(&[&str], &str); 13] = [
        (&["-x"], "option -x not recognized"),
        (&["--bogus"], "option --bogus not recognized"),
        (&["-c"], "option -c requires argument"),
        (&["--configuration"], "option --configuration requires argument"),
        (&["--log", "x"], "option --log not a unique prefix"),
        (&["--nodaemon=1"], "option --nodaemon must not have an argument"),
        (&["-e", "warning"], "invalid value for -e 'warning': bad logging level name 'warning'"),
        (&["-m", "9"], "9 can not be converted to an octal type"),
        (&["-a", "many"], "invalid literal for int() with base 10: 'many'"),
        (&["--shutdown-on", "never-ever"], "never-ever"),
        (&["--"], "no command after --"),
        (&["-s", "--ctl", "status"], "option --ctl must be the first argument, written in full"),
        (&["-c", "x.conf", "true"], "-c"),
    ];
    for (args, message) in cases {
        let output = run(args);
        let error = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(2), ""), "{args:?}: {error}");
        assert!(error.contains(message), "{args:?}: {error}");
        let hint = format!("\nFor help, use {} -h\n", binary().display());
        assert!(error.starts_with("Error: ") && error.ends_with(&hint), "{args:?}: {error}");
    }
}

#[test]
fn an_option_takes_precedence_over_the_file() {
    let conf = |keys: &str| {
        format!("[supervisord]\n{keys}\n{}", script("job", "umask; pwd; ulimit -Sn; exit 7"))
            + "startsecs=0\nautorestart=false\n"
    };
    let (code, rsup) = rsup(&conf("minfds=600")).args(&["-a", "700"]).after("ulimit -Sn 512").run();
    assert_eq!((code, rsup.read("stdout").lines().last()), (7, Some("700")), "{:?}", rsup.log());
}

#[test]
fn the_option_shutdown_on_applies_to_programs_without_that_key() {
    let conf = "[program:stays]\ncommand=sleep 1000\n".to_owned() + &exits_with_7();
    let (code, rsup) = rsup(&conf).args(&["--shutdown-on=exited"]).run();
    assert_eq!(code, 7);
    assert_eq!(rsup.lines("stopped: stays").len(), 1);
}

#[test]
fn stop_timeout_is_one_deadline_for_the_whole_stop() {
    let ignores_sigterm = |name: &str, priority: u32| {
        crate::support::handler(name, "TERM", "") + &format!("stopwaitsecs=600\npriority={priority}\n")
    };
    let conf = ignores_sigterm("a", 1) + &ignores_sigterm("b", 2);
    let in_file = format!("[supervisord]\nstop_timeout=1\n{conf}");
    for setup in [rsup(&conf).args(&["--stop-timeout", "1"]), rsup(&in_file)] {
        let mut rsup = setup.start();
        rsup.expect_ready(&["a", "b"]);
        assert_eq!(rsup.stop(), 0);
        assert_eq!(rsup.lines("terminated by SIGKILL").len(), 2, "{:?}", rsup.log());
    }
}

#[test]
fn check_starts_nothing_and_reports_every_error() {
    let conf = script("job", "echo ran > started; exec sleep 1000");
    let (code, good) = rsup(&conf).args(&["--check"]).run();
    assert_eq!(code, 0, "{:?}", good.log());
    let errors = "startsecs=x\npriority=y\nautostrat=true\n";
    let (code, bad) = rsup(&(conf + errors)).args(&["--check"]).run();
    assert_eq!(code, 2);
    let printed: String =
        (bad.log().into_iter().map(|line| line.0 + "\n")).collect::<String>() + &bad.read("stdout");
    for words in
        ["supervisord.conf:3: ", "'x'", "supervisord.conf:4: ", "'y'", "supervisord.conf:5: ", "autostart"]
    {
        assert!(printed.contains(words), "no {words:?} in:\n{printed}");
    }
    assert!(!good.path("started").exists() && !bad.path("started").exists());
}

#[test]
fn check_fails_if_the_file_defines_no_program() {
    let error = "Error: no program to start".to_owned();
    for (conf, expected) in
        [("", (2, vec![error])), ("[program:x]\ncommand=x\nautostart=false\n", (0, vec![]))]
    {
        let (code, rsup) = rsup(conf).args(&["--check"]).run();
        let lines: Vec<_> = rsup.log().into_iter().map(|line| line.0).collect();
        assert_eq!((code, lines), expected, "{conf}");
    }
}

/// Runs rsup as a user without any rights.
const NOBODY: [&str; 4] = ["setpriv", "--reuid=54399", "--regid=54399", "--clear-groups"];

/// Returns the exit code of `--check` and what it prints. Also checks that rsup starts if and only if `--check` finds
/// no error.
fn checked(setup: impl Fn() -> Setup) -> (i32, Vec<String>) {
    let (code, check) = setup().args(&["--check"]).run();
    let starts = setup().run().0;
    assert_eq!(
        code == 2,
        starts == 2,
        "--check exits with {code}, the start with {starts}: {:?}",
        check.log()
    );
    (code, check.log().into_iter().map(|line| line.0).collect())
}

#[test]
fn check_finds_a_user_that_rsup_cannot_change_to() {
    needs!(root(), installed("setpriv"));
    let job = |keys: &str| program("job", "true") + "startsecs=0\nautorestart=false\nstartretries=0\n" + keys;
    let no_groups = ["setpriv", "--bounding-set", "-setgid", "--inh-caps", "-setgid"];
    let no_right = "Can't drop privilege as nonroot user";
    let own = "supervisord.conf:2: error: [supervisord] user: ";
    let programs = "supervisord.conf:6: warning: [program:job] user: this program cannot start: ";
    let cases: [(&[&str], String, i32, String); 7] = [
        (
            &NOBODY,
            format!("[supervisord]\nuser=root\n{}", job("")),
            2,
            format!("{own}{no_right}: start rsup as root or as this user, or remove this key"),
        ),
        (
            &no_groups,
            format!("[supervisord]\nuser=54321\n{}", job("")),
            2,
            format!(
                "{own}Could not set groups of effective user: rsup needs the capabilities SETUID and SETGID"
            ),
        ),
        (
            &NOBODY,
            job("user=root\n"),
            1,
            format!("{programs}{no_right}: start rsup as root, or remove this key"),
        ),
        (
            &no_groups,
            job("user=54321\n"),
            1,
            format!(
                "{programs}Could not set groups of effective user: rsup needs the capabilities SETUID and SETGID"
            ),
        ),
        (
            &[],
            job("user=54321\n[supervisord]\nuser=54322\n"),
            1,
            format!("{programs}{no_right}: rsup itself changes to the user of [supervisord] before"),
        ),
        (&NOBODY, format!("[supervisord]\nuser=54399\n{}", job("user=54399\n")), 0, String::new()),
        (&[], job("user=54321\n[supervisord]\nuser=root\n"), 0, String::new()),
    ];
    for (through, conf, started, finding) in cases {
        let setup = || rsup(&conf).through(through);
        let (code, lines) = checked(setup);
        assert_eq!(setup().run().0, started, "{conf}");
        let expected: Vec<_> = Some(finding).into_iter().filter(|line| !line.is_empty()).collect();
        assert_eq!((code, lines), (if started == 2 { 2 } else { 0 }, expected), "{conf}");
    }
    let setup = || rsup(&job("")).through(&NOBODY).args(&["-u", "root"]);
    let line = format!("Error: {no_right}: start rsup as root or as this user, or remove this key");
    assert_eq!(checked(setup), (2, vec![line]));
}

/// Containers allow ports below 1024 to every user.
fn every_user_may_use_low_ports() -> bool {
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    first.is_ok_and(|first| first.trim().parse().is_ok_and(|first: u32| first <= 99))
}

#[test]
fn check_finds_a_socket_that_rsup_cannot_create() {
    needs!(root(), installed("setpriv"));
    let conf = |socket: &str| {
        format!("[fcgi-program:job]\ncommand=true\nstartsecs=0\nautorestart=false\nsocket={socket}\n")
    };
    let long = format!("unix:///{}", "x".repeat(107));
    let cases = [
        ("unix:///there/is/none", "No such file or directory: create its directory before rsup starts"),
        (
            "unix://%(here)s/supervisord.conf",
            "Address already in use: remove the file at this path, which is no socket",
        ),
        ("unix:///rsup-socket", "Permission denied: rsup's user may not create it"),
        (
            "unix://%(here)s/socket\nsocket_owner=root",
            "Operation not permitted: rsup's user may not set the owner",
        ),
        ("tcp://192.0.2.1:9000", "the host must be localhost or an IPv4 address of this machine"),
        ("tcp://127.0.0.1:99", "Permission denied: rsup's user may not create it"),
        (&long, "the path of a socket has at most 107 bytes"),
    ];
    for (socket, why) in cases {
        if socket.ends_with(":99") && every_user_may_use_low_ports() {
            skip(&"the case of a port below 1024: every user may use it here");
            continue;
        }
        let (code, lines) = checked(|| rsup(&conf(socket)).through(&NOBODY));
        let start = "supervisord.conf:5: error: [fcgi-program:job] socket: Could not create FastCGI socket ";
        assert_eq!((code, lines.len()), (2, 1), "{lines:?}");
        assert!(lines[0].starts_with(start) && lines[0].contains(why), "{lines:?}");
    }
}

#[test]
fn check_does_not_disturb_a_socket_that_is_in_use() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let number = port.local_addr().unwrap().port();
    let conf = format!("[fcgi-program:job]\ncommand=true\nsocket=tcp://127.0.0.1:{number}\n");
    let (code, in_use) = rsup(&conf).args(&["--check"]).run();
    let warning = format!(
        "supervisord.conf:3: warning: [fcgi-program:job] socket: Could not create FastCGI socket \
         tcp://127.0.0.1:{number}: Address already in use: rsup can start when the process that listens there has ended"
    );
    assert_eq!((code, in_use.lines(&warning).len()), (0, 1), "{:?}", in_use.log());

    let setup = rsup("[fcgi-program:job]\ncommand=true\nsocket=unix://%(here)s/socket\n").args(&["--check"]);
    let path = setup.path("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let (code, rsup) = setup.run();
    assert_eq!((code, rsup.log()), (0, vec![]));
    std::os::unix::net::UnixStream::connect(&path).expect("the socket is still there");
    let names = std::fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().starts_with("rsup-check")));
}

#[test]
fn check_prints_colours_only_on_a_terminal_and_without_no_color() {
    needs!(installed("script"));
    let setup = rsup("[program:x]\nstartsecs=x\ncommand=x\n");
    let check = format!("{} --check -c {}", binary().display(), setup.path("supervisord.conf").display());
    let mut on_terminal = Command::new("script");
    on_terminal.args(["-qc", &check, "/dev/null"]).env_remove("NO_COLOR");
    let in_colour =
        |output: Output| text(&output.stdout).contains("\x1b[1;31merror:\x1b[0m [program:x] startsecs: ");
    assert!(in_colour(on_terminal.output().unwrap()));
    assert!(!in_colour(on_terminal.env("NO_COLOR", "1").output().unwrap()));
    let piped = Command::new("sh").args(["-c", &check]).output().unwrap();
    assert!(!text(&piped.stderr).contains('\x1b'));
}

#[test]
fn print_config_shows_every_process_in_start_order() {
    let conf =
        "[program:b]\ncommand=sleep 1\npriority=1\n[program:a]\ncommand=sleep 2\nuser=nobody-of-this-name\n";
    let (code, rsup) = rsup(conf).args(&["--print-config"]).run();
    assert_eq!(code, 0, "{:?}", rsup.log());
    let shown: serde_json::Value = serde_json::from_str(&rsup.read("stdout")).unwrap();
    let names = shown["programs"].as_array().unwrap().iter().map(|program| program["name"].as_str().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(shown["programs"][1]["user"], "nobody-of-this-name");
}

/// The variable may be a password, so a replacement character in its value must not go unnoticed.
#[test]
fn an_environment_variable_that_is_not_utf_8_cannot_be_expanded() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("supervisord.conf");
    std::fs::write(&file, "[program:x]\ncommand=x %(ENV_BYTES)s\n").unwrap();
    let mut check = Command::new(binary());
    check.args(["--check", "-c"]).arg(&file);
    assert_eq!(check.env("BYTES", "text").output().unwrap().status.code(), Some(0));
    let bytes = std::ffi::OsStr::from_bytes(b"a\xffb");
    let output = check.env("BYTES", bytes).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let why =
        "names ('ENV_BYTES') which cannot be expanded. This variable is set, but its value is not UTF-8\n";
    assert!(text(&output.stderr).ends_with(why), "{}", text(&output.stderr));
}

#[test]
fn check_accepts_the_sample_configuration() {
    let sample = run(&["--echo-config"]);
    assert_eq!(sample.status.code(), Some(0));
    let (code, rsup) = rsup(&text(&sample.stdout)).args(&["--check"]).run();
    assert_eq!(code, 0, "{:?}", rsup.log());
}

#[test]
fn text_that_cannot_be_written_to_stdout_is_an_error() {
    for option in ["--help", "--version", "--echo-config"] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = Command::new(binary()).arg(option).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{option}");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.starts_with("Error: can't write to stdout: ENOSPC"), "{option}: {error}");

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(binary()).arg(option).stdout(writer).output().unwrap();
        // SIGPIPE may kill a rsup that starts no program, as it kills any filter.
        assert_ne!(output.status.code(), Some(2), "{option} without a reader");
        assert_eq!(output.stderr, b"", "{option} without a reader");
    }
}
