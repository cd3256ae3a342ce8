//! Wrong input. An error in the file is reported with the file and the line, and no program starts. A command that
//! cannot be executed affects only its own program.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::{Rsup, Setup, installed, needs, pid_namespace, program, root, rsup, script};

/// The whole log as one text.
fn text(rsup: &Rsup) -> String {
    rsup.log().into_iter().map(|line| line.0 + "\n").collect()
}

/// A program that creates the file `started`, which shows that it ran. Its section has two lines.
fn creates_started() -> String {
    script("job", "echo ran > started; exec sleep 1000")
}

/// Asserts that rsup exited with 2, started no program, and logged all of these messages.
#[track_caller]
fn refused((code, rsup): (i32, Rsup), messages: &[&str]) {
    let text = text(&rsup);
    assert_eq!(code, 2, "{text}");
    for message in messages {
        assert!(text.contains(message), "no {message:?} in:\n{text}");
    }
    assert!(!text.contains("spawned:") && !rsup.path("started").exists(), "a program was started:\n{text}");
}

#[test]
fn without_any_file_the_error_lists_the_searched_paths() {
    let places = ["/etc/supervisord.conf", "/etc/supervisor/supervisord.conf"];
    let mut setup = rsup("").only_args(&[]).after("rm supervisord.conf");
    if places.iter().any(|place| Path::new(place).exists()) {
        needs!(root(), pid_namespace());
        setup = setup.pid_1().after("mount -t tmpfs none /etc");
    }
    refused(
        setup.run(),
        &[
            "No config file found at default paths (",
            "supervisord.conf, etc/supervisord.conf, /etc/supervisord.conf, /etc/supervisor/supervisord.conf)",
            "; use the -c option to specify a config file at a different path",
        ],
    );
}

#[test]
fn the_file_in_the_working_directory_is_found_without_an_option() {
    let (code, rsup) = rsup(&(script("job", "exit 0") + "startsecs=0\n")).only_args(&[]).run();
    assert_eq!((code, rsup.lines("spawned: 'job'").len()), (0, 1));
}

#[test]
fn the_error_names_a_file_that_is_missing_or_unreadable() {
    refused(
        rsup("").only_args(&["-c", "/there/is/none.conf"]).run(),
        &["could not find config file /there/is/none.conf"],
    );
    let cases = [
        ("/usr", "could not read config file /usr: Is a directory"),
        ("/dev/null", "could not read config file /dev/null: not a regular file"),
        ("loop", "could not find config file loop: "),
        ("supervisord.conf/x", "could not find config file supervisord.conf/x: Not a directory"),
    ];
    for (path, message) in cases {
        refused(rsup("").only_args(&["-c", path]).after("ln -s loop loop").run(), &[message]);
    }
}

#[test]
fn the_error_says_why_a_file_cannot_be_read() {
    needs!(root(), installed("setpriv"));
    let nobody = ["setpriv", "--reuid=54399", "--regid=54399", "--clear-groups"];
    let started = |setup: Setup| setup.file("secret", "", 0o000).file("dir/file", "", 0o644).through(&nobody);
    let unreadable = started(rsup("")).only_args(&["-c", "secret"]);
    refused(unreadable.run(), &["could not read config file secret: Permission denied\n"]);
    let hidden = started(rsup("")).only_args(&["-c", "dir/file"]);
    std::fs::set_permissions(hidden.path("dir"), PermissionsExt::from_mode(0o600)).unwrap();
    refused(hidden.run(), &["could not find config file dir/file: Permission denied\n"]);
    let included = started(rsup(&format!("[include]\nfiles=secret\n{}", program("x", "true"))));
    let (code, rsup) = included.args(&["--check"]).run();
    let warning = "supervisord.conf:2: warning: [include] files: could not read ";
    let line = rsup.lines(warning).pop().expect("the warning").0;
    assert!(code == 0 && line.ends_with("/secret: Permission denied"), "{code} {line}");
}

#[test]
fn a_file_in_utf_16_or_utf_32_causes_one_error() {
    let text = "[program:x]\r\ncommand=true\r\n";
    let little = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    let big = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>();
    let in_32_bits =
        |to_bytes: fn(u32) -> [u8; 4]| text.chars().flat_map(|c| to_bytes(c.into())).collect::<Vec<_>>();
    let with_mark = format!("\u{feff}{text}");
    let in_16_bits = [little(&with_mark), big(&with_mark), little(text), big(text)];
    let files = in_16_bits.into_iter().chain([in_32_bits(u32::to_le_bytes), in_32_bits(u32::to_be_bytes)]);
    for bytes in files {
        let setup = rsup("").args(&["--check"]);
        std::fs::write(setup.path("supervisord.conf"), bytes).unwrap();
        let (code, rsup) = setup.run();
        let lines: Vec<_> = rsup.log().into_iter().map(|line| line.0).collect();
        let error = "supervisord.conf:1: error: the file is encoded in UTF-16 or UTF-32, and must be UTF-8";
        assert_eq!((code, lines), (2, vec![error.to_owned()]));
    }
}

#[test]
fn a_quotation_mark_in_an_expanded_value_is_reported_with_its_name() {
    let cases = [
        (
            "[program:x]\ncommand=true\nenvironment=A=\"%(ENV_ODD)s\"",
            "error: [program:x] environment: No closing quotation (the value of %(ENV_ODD)s contains '\"')",
        ),
        (
            "[supervisord]\nenvironment=B=\"%(ENV_FINE)s\",A=\"%(ENV_ODD)s\"\n[program:x]\ncommand=true",
            "error: [supervisord] environment: No closing quotation (the value of %(ENV_ODD)s contains '\"')",
        ),
        (
            "[program:x]\ncommand=true\nenvironment=A=%(ENV_AT)s",
            "Unexpected end of key/value pairs in value 'A=a@b' (the value of %(ENV_AT)s contains '@')",
        ),
        (
            "[program:x]\ncommand=sh -c \"%(ENV_ODD)s\"",
            "can't parse command 'sh -c \"say \"hi\"': No closing quotation (the value of %(ENV_ODD)s contains '\"')",
        ),
        (
            "[program:x]\ncommand=true\nenvironment=A=\"%(ENV_FINE)s",
            "error: [program:x] environment: No closing quotation\n",
        ),
    ];
    for (conf, message) in cases {
        let setup = rsup(&format!("{conf}\n")).args(&["--check"]);
        let setup = setup.env("ODD", "say \"hi").env("AT", "a@b").env("FINE", "fine");
        let (_, rsup) = setup.run();
        assert!(text(&rsup).contains(message), "no {message:?} in:\n{}", text(&rsup));
    }
}

#[test]
fn a_nul_byte_that_no_program_can_be_given_is_an_error() {
    let cases = [
        ("command=sleep 1\0", "3: error: [program:x] command"),
        ("command=\0", "3: error: [program:x] command"),
        ("directory=/\0", "4: error: [program:x] directory"),
        ("environment=A=\"\0\"", "4: error: [program:x] environment"),
        ("stdout_logfile=/tmp/\0", "4: error: [program:x] stdout_logfile"),
        ("stderr_logfile=/tmp/\0", "4: error: [program:x] stderr_logfile"),
        ("serverurl=\0", "4: error: [program:x] serverurl"),
        ("process_name=x\0", "4: error: [program:x] process_name"),
    ];
    for (key, place) in cases {
        let command = if key.starts_with("command") { "" } else { "command=true\n" };
        let conf = format!("# A comment.\n[program:x]\n{command}{key}\n");
        let message = format!("supervisord.conf:{place}: the value contains a NUL byte");
        refused(rsup(&conf).args(&["--check"]).run(), &[&message]);
        refused(rsup(&conf).run(), &[&message]);
    }
    let conf = "[program:x]\ncommand=true\n[group:g\0]\nprograms=x\n";
    refused(rsup(conf).run(), &["[program:x]: the value contains a NUL byte (the name of the group)"]);
    let conf = format!("[supervisord]\nenvironment=A=\"\0\"\n{}", creates_started());
    let message = "supervisord.conf:2: error: [supervisord] environment: the value contains a NUL byte";
    refused(rsup(&conf).args(&["--check"]).run(), &[message]);
}

#[test]
fn an_error_in_the_file_is_reported_with_its_line() {
    // Most sections have the error in their second line. This is line 5 of the file, after the two lines of the valid
    // program and an empty line.
    let cases = [
        ("[program:x]\ngarbage\ncommand=true", "supervisord.conf:5", "garbage"),
        (
            "[program:x]\nautostart=maybe\ncommand=true",
            "supervisord.conf:5",
            "not a valid boolean value: 'maybe'",
        ),
        (
            "[program:x]\nstartsecs=1.5\ncommand=true",
            "supervisord.conf:5",
            "invalid literal for int() with base 10: '1.5'",
        ),
        (
            "[program:x]\npriority=abc\ncommand=true",
            "supervisord.conf:5",
            "invalid literal for int() with base 10: 'abc'",
        ),
        (
            "[program:x]\nstopsignal=FOO\ncommand=true",
            "supervisord.conf:5",
            "value 'FOO' is not a valid signal name",
        ),
        (
            "[program:x]\nexitcodes=0,,2\ncommand=true",
            "supervisord.conf:5",
            "not a valid list of exit codes: '0,,2'",
        ),
        (
            "[program:x]\nautorestart=never\ncommand=true",
            "supervisord.conf:5",
            "invalid 'autorestart' value 'never'",
        ),
        (
            "[program:x]\numask=9\ncommand=true",
            "supervisord.conf:5",
            "9 can not be converted to an octal type",
        ),
        (
            "[program:x]\nuser=nobody-of-this-name\ncommand=true",
            "supervisord.conf:5",
            "Invalid user name nobody-of-this-name",
        ),
        (
            "[program:x]\ncommand=%(nope)s",
            "supervisord.conf:5",
            "contains names ('nope') which cannot be expanded",
        ),
        (
            "[program:x]\nenvironment=A\ncommand=true",
            "supervisord.conf:5",
            "Unexpected end of key/value pairs in value 'A'",
        ),
        (
            "[program:x]\npriority=1",
            "supervisord.conf:",
            "program section program:x does not specify a command",
        ),
        (
            "[program:a b]\ncommand=true",
            "supervisord.conf:4",
            "Invalid name: 'a b' because of character: ' '",
        ),
        (
            "[group:g]\nprograms=zz",
            "supervisord.conf:5",
            "[group:g] names unknown program or fcgi-program zz",
        ),
        (
            "[program:x]\nnumprocs=2\ncommand=true",
            "supervisord.conf:",
            "%(process_num) must be present within process_name when numprocs > 1",
        ),
        (
            "[program:x]\nstopasgroup=true\nkillasgroup=false\ncommand=true",
            "supervisord.conf:",
            "Cannot set stopasgroup=true and killasgroup=false",
        ),
        ("[supervisord]\nloglevel=warning", "supervisord.conf:5", "bad logging level name 'warning'"),
    ];
    for (section, place, message) in cases {
        let conf = format!("{}\n{section}\n", creates_started());
        refused(rsup(&conf).run(), &[place, message]);
    }
}

#[test]
fn a_file_without_a_section_header_is_refused() {
    refused(rsup("foo=bar\n").run(), &["supervisord.conf:1", "File contains no section headers"]);
}

#[test]
fn an_error_in_an_included_file_is_reported_with_that_file() {
    let conf = creates_started() + "[include]\nfiles=conf.d/*.conf\n";
    let setup = rsup(&conf).file("conf.d/good.conf", &program("good", "sleep 1000"), 0o644).file(
        "conf.d/poor.conf",
        "[program:poor]\ncommand=sleep 1000\nnumprocs=x\n",
        0o644,
    );
    refused(setup.run(), &["poor.conf:3", "invalid literal for int() with base 10: 'x'"]);
}

#[test]
fn check_prints_one_line_for_each_of_five_errors() {
    let conf = "; five errors, two of them in the included file\n[program:web]\ncommand=web\nstartsecs=1.5\n\n\
                [program:web two]\ncommand=\n  web\nnonsense\n\n[include]\nfiles=conf.d/*.conf\n";
    let included = "[program:job]\nenvironment=A=\"1\"\n  ,B\ncommand=job %(nope)s\n";
    let (code, rsup) = rsup(conf).args(&["--check"]).file("conf.d/job.conf", included, 0o644).run();
    assert_eq!(code, 2, "{}", text(&rsup));
    let here = rsup.path("conf.d/job.conf").canonicalize().unwrap();
    let lines = text(&rsup);
    let lines: Vec<_> = lines.lines().collect();
    let in_job = |rest: &str| format!("{}:{rest}", here.display());
    let wanted = [
        "supervisord.conf:4: error: [program:web] startsecs: invalid literal for int() with base 10: '1.5'"
            .into(),
        "supervisord.conf:6: error: [program:web two]: Invalid name: 'web two' because of character: ' '"
            .into(),
        "supervisord.conf:9: error: Source contains parsing errors: 'nonsense'".into(),
        in_job(
            "2: error: [program:job] environment: Unexpected end of key/value pairs in value 'A=\"1\"\\n,B'",
        ),
        in_job(
            "4: error: [program:job] command: Format string 'job %(nope)s' for 'program:job.command' contains names ('nope')",
        ),
    ];
    assert_eq!(lines.len(), wanted.len(), "{lines:#?}");
    for (line, wanted) in lines.iter().zip(&wanted) {
        assert!(line.starts_with(wanted), "{line}\n{wanted}");
    }
}

#[test]
fn an_unknown_option_or_a_wrong_value_is_refused() {
    let setup = rsup(&creates_started()).args(&["--bogus"]);
    refused(setup.run(), &["option --bogus not recognized"]);
    refused(rsup(&creates_started()).args(&["-e", "warning"]).run(), &["bad logging level name 'warning'"]);
}

#[test]
fn a_command_that_cannot_be_executed_affects_only_its_own_program() {
    let cases = [
        ("empty", "", "command is empty"),
        ("quote", "sleep \"1000", "can't parse command 'sleep \"1000': No closing quotation"),
        ("slash", "sleep 1000 \\", "can't parse command 'sleep 1000 \\\\': No escaped character"),
        ("path", "/there/is/none", "can't find command '/there/is/none'"),
        ("word", "there-is-none", "can't find command 'there-is-none'"),
        ("dir", "/usr", "command at '/usr' is a directory"),
        ("mode", "./plain", "command at './plain' is not executable"),
        ("noexec", "./empty", "couldn't exec ./empty: ENOEXEC"),
        (
            "interp",
            "./lost",
            "couldn't exec ./lost: ENOENT (its interpreter '/there/is/none' does not exist)",
        ),
        (
            "crlf",
            "./windows",
            "couldn't exec ./windows: ENOENT (its interpreter '/bin/sh\\r' does not exist: the #! line ends with CR LF)",
        ),
        ("data", "./data", "couldn't exec ./data: EACCES (its interpreter './plain' cannot be executed)"),
        (
            "relative",
            "./plain.sh\ndirectory=/",
            "couldn't exec ./plain.sh: ENOENT (a relative path is executed in directory=/)",
        ),
        ("chdir", "sleep 1000\ndirectory=/there/is/none", "couldn't chdir to /there/is/none: ENOENT"),
    ];
    let conf: String =
        cases.iter().map(|(name, command, _)| program(name, command) + "startretries=1\n").collect();
    let mut rsup = rsup(&(conf + &program("good", "sleep 1000")))
        .file("plain", "#!/bin/sh\n", 0o644)
        .file("empty", "", 0o755)
        .file("lost", "#!/there/is/none\n", 0o755)
        .file("windows", "#!/bin/sh\r\nexit\r\n", 0o755)
        .file("data", "#!./plain\n", 0o755)
        .file("plain.sh", "#!/bin/sh\n", 0o755)
        .start();
    let gave_up = cases
        .map(|(name, ..)| format!("gave up: {name} entered FATAL state, too many start retries too quickly"));
    rsup.expect_all(&gave_up);
    rsup.lines("success: good").first().expect("the good program runs");
    for (name, _, message) in cases {
        let lines = rsup.lines(&format!("spawnerr: {message}"));
        assert_eq!(lines.len(), 2, "{name}: the first start and one retry: {lines:?}");
        assert_eq!(lines[0].message(), format!("INFO spawnerr: {message}"));
        assert!(lines[1].since(&lines[0]) >= 980, "{name}: the retry comes after BACKOFF: {lines:?}");
        assert!(rsup.lines(&format!("spawned: '{name}'")).is_empty(), "{name}");
    }
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn a_command_is_split_like_a_shell_line_but_no_shell_runs_it() {
    let command = "printf '%%s|' a\\ b \"c  d\" '' $HOME ~ * && e#f";
    let conf = program("job", command) + "startsecs=0\nautorestart=false\n";
    let (code, rsup) = rsup(&conf).run();
    assert_eq!((code, rsup.read("stdout").as_str()), (0, "a b|c  d||$HOME|~|*|&&|e#f|"));
}

#[test]
fn a_command_is_looked_up_in_the_path_of_its_programs_environment() {
    let conf = program("job", "tool")
        + "startsecs=0\nautorestart=false\nenvironment=PATH=\"%(here)s/bin:/usr/bin:/bin\"\n";
    let (code, rsup) = rsup(&conf).file("bin/tool", "#!/bin/sh\necho found by $0\n", 0o755).run();
    assert_eq!(code, 0, "{:?}", rsup.log());
    assert!(rsup.read("stdout").ends_with("/bin/tool\n"), "{}", rsup.read("stdout"));
}
