//! Tests of whole files: the configuration and the report.

use std::fs;
use std::path::Path;

use super::*;
use crate::policy::{AutoRestart, Level, ShutdownOn, Signal};

fn load_file(file: &Path, overrides: &Overrides) -> Loaded {
    let environment = [("HOME".to_owned(), "/root".to_owned()), ("X".to_owned(), "from outside".to_owned())];
    let check_user = |user: &str| match user {
        "nosuch" => Err("Invalid user name nosuch".to_owned()),
        _ => Ok(()),
    };
    load(
        file,
        overrides,
        &Machine {
            environment: &environment,
            non_utf8_env_names: &[],
            host: "node1",
            list_directory: &crate::sys::list_directory,
            check_user: &check_user,
            try_step: None,
        },
    )
}

pub(super) fn load_text(text: &str) -> Loaded {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("supervisord.conf");
    fs::write(&file, text).unwrap();
    load_file(&file, &Overrides::default())
}

fn config(text: &str) -> Config {
    let loaded = load_text(text);
    let report = loaded.report.to_string();
    loaded.config.unwrap_or_else(|| panic!("{text}\n{report}"))
}

/// Returns the process of a `[program:x]` with these keys and a command.
fn program(keys: &str) -> ProcessConfig {
    config(&format!("[program:x]\ncommand=c\n{keys}\n")).processes.remove(0)
}

/// Returns the errors of an invalid file, without `FILE:LINE: error:`.
fn errors(text: &str) -> Vec<String> {
    let loaded = load_text(text);
    assert!(loaded.config.is_none(), "{text}");
    loaded.report.lines(false).map(|line| line.split_once(" error: ").unwrap().1.to_owned()).collect()
}

fn names(config: &Config) -> String {
    let names = config.processes.iter().map(|process| format!("{}:{}", process.group, process.name));
    names.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_defaults_are_those_of_supervisord() {
    let process = program("");
    let spec = &process.spec;
    assert!(spec.autostart && !spec.stopasgroup && !spec.killasgroup && !process.redirect_stderr);
    assert_eq!(spec.autorestart, AutoRestart::Unexpected);
    assert_eq!((spec.startsecs, spec.startretries, spec.stopwaitsecs), (1, 3, 10));
    assert_eq!((spec.stopsignal, &*spec.exitcodes), (Signal::TERM, [0].as_slice()));
    assert_eq!((process.priority, spec.group_priority), (999, 999));
    assert_eq!((process.stdout_logfile, process.stderr_logfile), (LogFile::Auto, LogFile::Auto));
    assert_eq!((process.directory, process.umask, process.user), (None, None, None));
    let rotation = Rotation { max_bytes: 50 * 1024 * 1024, backups: 10 };
    assert_eq!((process.stdout_rotation, process.stderr_rotation), (rotation, rotation));
    let supervisord = config("").supervisord;
    assert_eq!((supervisord.minfds, supervisord.minprocs, supervisord.umask), (1024, 200, 0o022));
    assert_eq!((supervisord.loglevel, supervisord.shutdown_on), (Level::Info, ShutdownOn::Never));
    assert_eq!((supervisord.output, supervisord.startup), (OutputMode::Direct, Startup::Parallel));
}

#[test]
fn the_values_of_a_program_are_read() {
    let process = program(
        "priority=1\nstopasgroup=true\nexitcodes=\nuser=1000:1000\nserverurl=Auto\nredirect_stderr=yes\n\
         stderr_logfile=none\nstdout_logfile=/dev/stdout\numask=027\nshutdown_on=fatal\n\
         stdout_logfile_maxbytes=2KB\nstdout_logfile_backups=-3\nstderr_logfile_maxbytes=0",
    );
    assert!(process.spec.killasgroup && process.spec.exitcodes.is_empty());
    assert_eq!((process.spec.shutdown_on, process.umask), (ShutdownOn::Fatal, Some(0o27)));
    assert_eq!((process.user.as_deref(), process.serverurl), (Some("1000:1000"), None));
    assert_eq!(process.stdout_logfile, LogFile::Path("/dev/stdout".to_owned()));
    assert_eq!(process.stdout_rotation, Rotation { max_bytes: 2048, backups: 0 });
    assert_eq!(process.stderr_rotation.max_bytes, 0);
}

#[test]
fn a_programs_environment_is_added_to_that_of_supervisord() {
    let text = "[supervisord]\nenvironment=A=1,B=2\n[program:x]\nenvironment=B=\"%(ENV_A)s%(ENV_X)s\",C=3\n\
                command=%(ENV_B)s %(ENV_C)s %(host_node_name)s\ndirectory=/%(program_name)s/%(group_name)s\n";
    let config = config(text);
    let json: serde_json::Value = serde_json::from_str(&config.to_json()).unwrap();
    let want = serde_json::json!({"A": "1", "B": "1from outside", "C": "3"});
    assert_eq!(json["programs"][0]["environment"], want);
    let process = &config.processes[0];
    assert_eq!(process.command, "1from outside 3 node1");
    assert_eq!(process.directory.as_deref(), Some("/x/x"));
}

#[test]
fn log_files_are_expanded_twice() {
    assert_eq!(program("stdout_logfile=/%%%%").stdout_logfile, LogFile::Path("/%".to_owned()));
    let wrong = errors("[program:x]\ncommand=c\nstdout_logfile=/%%\n");
    assert_eq!(
        wrong,
        [
            "[program:x] stdout_logfile: Format string '/%' for 'stdout_logfile' is badly formatted: incomplete format"
        ]
    );
}

#[test]
fn the_processes_of_one_program_are_sorted_by_name() {
    let text = "[program:w]\ncommand=c %(process_num)02d/%(numprocs)d\nnumprocs=3\nnumprocs_start=9\n\
                process_name=%(program_name)s%(process_num)d\n";
    let config = config(text);
    assert_eq!(names(&config), "w:w10 w:w11 w:w9");
    assert_eq!(config.processes[2].command, "c 09/3");
    assert_eq!(names(&self::config("[program:w]\ncommand=c\nnumprocs=0\n")), "");
    // supervisord's integers have no limit. In rsup a larger number becomes the largest i64.
    let text = "[program:w]\ncommand=c %(process_num)d\nnumprocs_start=99999999999999999999\n";
    assert_eq!(self::config(text).processes[0].command, "c 9223372036854775807");
}

#[test]
fn groups_sort_by_priority_and_name() {
    let text = "[program:b]\ncommand=c\n[program:A]\ncommand=c\n[program:z]\ncommand=c\npriority=-1\n\
                [program:a10]\ncommand=c\n[program:a9]\ncommand=c\n[program: s ]\ncommand=c\npriority=1\n";
    assert_eq!(names(&config(text)), "z:z s:s A:A a10:a10 a9:a9 b:b");
}

#[test]
fn a_group_has_its_programs_in_the_order_of_its_list() {
    let text = "[program:a]\ncommand=c\npriority=1\n[program:b]\ncommand=c\n[fcgi-program:f]\ncommand=c\n\
                [group:g]\nprograms=b, a,f\n[group:h]\nprograms=a\npriority=2\n";
    let config = config(text);
    assert_eq!(names(&config), "h:a g:b g:a g:f");
    assert_eq!(config.processes[3].socket, None);
}

#[test]
fn only_the_first_of_two_groups_with_the_same_name_is_kept() {
    let text = "[group:g]\nprograms=a\n[program:a]\ncommand=c\n[program:g]\ncommand=d\n";
    assert_eq!(names(&config(text)), "g:a");
    assert_eq!(names(&config(&format!("{text}priority=5\n"))), "g:g");
    let twice = "[program:a]\ncommand=c\nprocess_name=p\n[program:b]\ncommand=d\nprocess_name=p\n[group:g]\nprograms=a,b\n";
    assert_eq!(config(twice).processes.iter().map(|p| p.command.as_str()).collect::<Vec<_>>(), ["d"]);
}

#[test]
fn event_listeners_come_before_the_programs() {
    let text =
        "[program:a]\ncommand=c\n[eventlistener:l]\ncommand=c\nevents=process_state_fatal,TICK_5,TICK_5\n";
    let loaded = load_text(text);
    let config = loaded.config.unwrap();
    let listener = &config.processes[0];
    assert_eq!((config.processes.len(), listener.name.as_str(), listener.spec.group_priority), (2, "l", -1));
    assert!(listener.spec.is_listener && !config.processes[1].spec.is_listener);
    assert_eq!(listener.listener.as_ref().unwrap().events, ["PROCESS_STATE_FATAL", "TICK_5"]);
    assert!(loaded.notices.is_empty(), "{:?}", loaded.notices);
}

#[test]
fn a_listener_knows_the_url_of_the_server_that_supervisord_would_open() {
    let unix = "[unix_http_server:s]\nfile=/run/x/../s.sock\n";
    let inet = |port: &str| format!("[inet_http_server]\nport={port}\n");
    let table = [
        (String::new(), None),
        (inet("9001") + unix, Some("unix:///run/s.sock")),
        (inet("9001"), Some("http://localhost:9001")),
        (inet("9001") + "[inet_http_server2]\nport=9002\n", Some("http://localhost:9002")),
        (format!("{unix}[unix_http_server2]\nfile=/b.sock\n"), Some("unix:///run/s.sock")),
        (inet("*:9001"), Some("http://localhost:9001")),
        (inet("127.0.0.1:9001"), Some("http://127.0.0.1:9001")),
    ];
    for (server, want) in table {
        let text = format!("[eventlistener:l]\ncommand=c\nevents=TICK_5\n{server}");
        let config = load_text(&text).config.unwrap();
        let listener = config.processes[0].listener.as_ref().unwrap();
        assert_eq!(listener.http_server_url.as_deref(), want, "{server}");
    }
}

#[test]
fn a_listener_that_names_the_output_is_replaced() {
    let config = |command: &str| {
        load_text(&format!("[eventlistener:o]\ncommand={command}\nevents=PROCESS_LOG\n")).config.unwrap()
    };
    for command in ["supervisor_stdout", "/usr/bin/supervisor_stdout", "python3 -u -m supervisor_stdout"] {
        let config = config(command);
        let listener = config.replaced_listeners[0].listener.as_ref().unwrap();
        assert!(config.processes.is_empty());
        assert_eq!(listener.replacement, Some(Replacement::SupervisorStdoutListener));
    }
    for command in ["kill.py --log /log/supervisor_stdout.log", "/opt/supervisor_stdout/kill.py"] {
        assert!(config(command).replaced_listeners.is_empty(), "{command}");
    }
}

#[test]
fn the_socket_of_an_fcgi_program_is_read() {
    let text = "[fcgi-program:f]\ncommand=c\nsocket=unix:///run/%(program_name)s.sock\nsocket_mode=0770\nsocket_backlog=9\n";
    let socket = config(text).processes.remove(0).socket.unwrap();
    let address = SocketAddress::Unix("/run/f.sock".to_owned());
    assert_eq!(socket, Socket { address, owner: None, mode: 0o770, backlog: Some(9) });
}

#[test]
fn errors_have_supervisords_messages() {
    let table = [
        ("[program:x]", "[program:x]: program section program:x does not specify a command"),
        ("[program:a b]\ncommand=c", "[program:a b]: Invalid name: 'a b' because of character: ' '"),
        (
            "[program:x]\ncommand=c\nnumprocs=2",
            "[program:x] process_name: %(process_num) must be present within process_name when numprocs > 1",
        ),
        (
            "[program:x]\ncommand=c\nstopasgroup=1\nkillasgroup=0",
            "[program:x] killasgroup: Cannot set stopasgroup=true and killasgroup=false",
        ),
        ("[program:x]\ncommand=c\nuser=nosuch", "[program:x] user: Invalid user name nosuch"),
        ("[supervisord]\nuser=nosuch", "[supervisord] user: Invalid user name nosuch"),
        (
            "[program:x]\ncommand=c\nstartsecs=",
            "[program:x] startsecs: invalid literal for int() with base 10: ''",
        ),
        (
            "[program:x]\ncommand=c\npriority=%(program_name)s",
            "[program:x] priority: Format string '%(program_name)s' for 'program:x.priority' contains names ('program_name') which cannot be expanded. Available names: ENV_HOME, ENV_X, here",
        ),
        ("[group:g]\nprograms=zz", "programs: [group:g] names unknown program or fcgi-program zz"),
        ("[eventlistener:l]\ncommand=c", "events: [eventlistener:l] section requires an \"events\" line"),
        (
            "[eventlistener:l]\ncommand=c\nevents=FOO",
            "events: Unknown event type FOO in [eventlistener:l] events",
        ),
        ("[fcgi-program:f]\ncommand=c", "socket: [fcgi-program:f] section requires a \"socket\" line"),
        (
            "[fcgi-program:f]\ncommand=c\nsocket=%(ENV_X).0s",
            "socket: [fcgi-program:f] section requires a \"socket\" line",
        ),
        (
            "[fcgi-program:f]\ncommand=c\nsocket=foo",
            "socket: ('Bad socket format %s', 'foo') in [fcgi-program:f] socket",
        ),
        ("[unix_http_server]", "section [unix_http_server] has no file value"),
        ("[inet_http_server]\nport=0", "[inet_http_server] port: not a valid port number: '0' "),
        (
            "[inet_http_server]\nport=9001\nusername=u",
            "Section [inet_http_server] contains incomplete authentication: If a username or a password is specified, both the username and password must be specified",
        ),
        ("[rpcinterface:r]", "section [rpcinterface:r] does not specify a supervisor.rpcinterface_factory"),
        ("[include]", ".ini file has [include] section, but no files setting"),
        (
            "[program:x]\ncommand=c\nnumprocs=1000000000\nprocess_name=%(process_num)s",
            "[program:x] numprocs: numprocs=1000000000 makes more processes than a machine can run",
        ),
    ];
    for (text, want) in table {
        let found = errors(text);
        assert!(found.iter().any(|line| line == want), "{text}\n{found:#?}");
    }
}

#[test]
fn one_run_reports_every_error_with_its_file_and_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(
        path("main.conf"),
        "[include]\nfiles=more.conf\n[program:a]\ncomand=x\nstartsecs=1.5\n\n[program:a]\nautostart=maybe\n",
    )
    .unwrap();
    fs::write(path("more.conf"), "[program:b]\ncommand=y\njunk\nstopsignal=FOO\n").unwrap();
    let loaded = load_file(&path("main.conf"), &Overrides::default());
    let found: Vec<_> = loaded.report.lines(true).collect();
    let at = |name: &str, rest: &str| format!("{}:{rest}", path(name).display());
    assert_eq!(
        found,
        [
            at("main.conf", "3: error: [program:a]: program section program:a does not specify a command"),
            at("main.conf", "4: warning: [program:a] comand: unknown key, did you mean command?"),
            at("main.conf", "5: error: [program:a] startsecs: invalid literal for int() with base 10: '1.5'"),
            at("main.conf", "8: error: [program:a] autostart: not a valid boolean value: 'maybe'"),
            at("more.conf", "3: error: Source contains parsing errors: 'junk'"),
            at("more.conf", "4: error: [program:b] stopsignal: value 'FOO' is not a valid signal name"),
        ]
    );
}

#[test]
fn the_patterns_of_include_can_come_from_default() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("more.ini"), "[program:b]\ncommand=b\n").unwrap();
    let main = directory.path().join("main");
    fs::write(&main, "[DEFAULT]\nfiles=none\nfiles=more.ini\n[include]\n").unwrap();
    assert_eq!(load_file(&main, &Overrides::default()).config.unwrap().processes.len(), 1);
}

#[test]
fn included_files_override_the_main_file_and_have_their_own_directory() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path().to_str().unwrap().to_owned();
    fs::create_dir(format!("{here}/d")).unwrap();
    fs::write(
        format!("{here}/main"),
        "[include]\nfiles=d/*.ini none* main\n[program:a]\ncommand=a %(here)s\npriority=1\n",
    )
    .unwrap();
    fs::write(format!("{here}/d/2.ini"), "[program:b]\ncommand=b %(here)s\n[program:a]\npriority=2\n")
        .unwrap();
    fs::write(format!("{here}/d/1.ini"), "[program:a]\npriority=3\n[include]\nfiles=/etc/*\n").unwrap();
    fs::write(format!("{here}/d/.hidden.ini"), "junk").unwrap();
    fs::create_dir(format!("{here}/d/directory.ini")).unwrap();
    let loaded = load_file(&directory.path().join("main"), &Overrides::default());
    let texts: Vec<_> = loaded.notices.iter().map(|notice| notice.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            format!("Included extra file \"{here}/d/1.ini\" during parsing"),
            format!("Included extra file \"{here}/d/2.ini\" during parsing"),
            format!("Included extra file \"{here}/d/directory.ini\" during parsing"),
            format!("could not read {here}/d/directory.ini: Is a directory"),
            format!("No file matches via include \"{here}/none*\""),
            format!("Included extra file \"{here}/main\" during parsing"),
        ]
    );
    let config = loaded.config.unwrap();
    let commands: Vec<_> = config.processes.iter().map(|process| process.command.as_str()).collect();
    assert_eq!(commands, [format!("a {here}"), format!("b {here}/d")]);
    assert_eq!(config.processes[0].priority, 1);
}

#[test]
fn options_override_the_supervisord_section_and_a_program_overrides_both() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("f");
    fs::write(&file, "[supervisord]\nloglevel=warn\nshutdown_on=exited\noutput=lines\nstartup=ordered\nuser=nosuch\n[program:a]\ncommand=c\n[program:b]\ncommand=c\nshutdown_on=never\n").unwrap();
    let overrides = Overrides {
        loglevel: Some(Level::Debug),
        user: Some("root".to_owned()),
        shutdown_on: Some(ShutdownOn::Fatal),
        output: Some(OutputMode::Prefix),
        startup: Some(Startup::Parallel),
        ..Overrides::default()
    };
    let config = load_file(&file, &overrides).config.unwrap();
    assert_eq!(config.supervisord.loglevel, Level::Debug);
    assert_eq!(config.supervisord.user.as_deref(), Some("root"));
    assert_eq!(config.supervisord.output, OutputMode::Prefix);
    assert_eq!(config.supervisord.startup, Startup::Parallel);
    assert_eq!(config.processes[0].spec.shutdown_on, ShutdownOn::Fatal);
    assert_eq!(config.processes[1].spec.shutdown_on, ShutdownOn::Never);
}

#[test]
fn only_regular_files_are_read() {
    for (path, want) in [
        ("/nowhere/x.conf", "Error: could not find config file /nowhere/x.conf"),
        ("/dev/zero", "Error: could not read config file /dev/zero: not a regular file"),
        ("/etc", "Error: could not read config file /etc: Is a directory"),
    ] {
        let loaded = load_file(Path::new(path), &Overrides::default());
        assert_eq!(loaded.report.lines(true).collect::<Vec<_>>(), [want]);
    }
}

#[test]
fn settings_that_do_not_suit_containers_get_a_warning() {
    let text = "[supervisord]\nnodaemon=false\n[program:x]\ncommand=c\nautorestart=false\nstopwaitsecs=30\n\
                stderr_syslog=true\n";
    let loaded = load_text(text);
    let keys: Vec<_> = loaded
        .report
        .lines(true)
        .map(|line| line.split_once("] ").unwrap().1.split_once(':').unwrap().0.to_owned())
        .collect();
    assert_eq!(keys, ["nodaemon", "autorestart", "stopwaitsecs", "stderr_syslog"]);
}

/// Returns the lines of the report, without the file's name.
fn report_lines(text: &str) -> Vec<String> {
    let report = load_text(text).report;
    report.lines(true).map(|line| line.split_once("supervisord.conf:").unwrap().1.to_owned()).collect()
}

#[test]
fn processes_and_commands_that_cannot_run_get_a_warning() {
    let text = "[program:a]\ncommand=c\n[group:a]\nprograms=b,b2\n[program:b]\ncommand=\nprocess_name=x\n\
                [program:b2]\ncommand=c 'd\nprocess_name=x\n";
    let want = [
        "1: warning: [program:a]: no process of this section runs, because another section also makes a group named a",
        "3: warning: [group:a] process_name: of the processes in this group that have the same name, only the last runs",
        "6: warning: [program:b] command: command is empty",
        "9: warning: [program:b2] command: can't parse command \"c 'd\": No closing quotation",
    ];
    assert_eq!(report_lines(text), want);
}

#[test]
fn indented_entries_and_unclosed_headers_get_a_warning() {
    let text = "[program:a]\ncommand=c\n  autostart=false\n  X=1\n [program:b]\n d\n[program:c\n";
    let want = [
        "3: warning: 'autostart' is indented, so this line continues the value above it",
        "5: warning: 'program:b' is indented, so this line continues the value above it",
        "7: warning: [program:a] [program: unknown key, a section header ends with ]",
    ];
    assert_eq!(report_lines(text), want);
}

#[test]
fn control_characters_of_a_file_do_not_reach_the_terminal() {
    let text = "[program:a]\ncommand=c\n\x1b[2Jx=1\nuser=nosuch\n[\u{9b}1m\x07]\n";
    let lines = report_lines(text);
    assert_eq!(lines[0], "3: warning: [program:a] \\x1b[2jx: unknown key");
    assert!(lines.iter().all(|line| !line.contains(char::is_control)), "{lines:?}");
}

#[test]
fn the_sample_has_no_errors_and_no_warnings() {
    let loaded = load_text(SAMPLE);
    assert_eq!(loaded.report.to_string(), "");
    // With all commented keys of the sample active, there are still no errors and no unknown keys.
    let all: String = SAMPLE
        .lines()
        .map(|line| {
            format!("{}\n", line.strip_prefix(';').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        })
        .collect();
    let report = load_text(&all).report.to_string();
    assert!(!report.contains("error") && !report.contains("unknown"), "{report}");
}

#[test]
fn the_json_output_shows_the_keys_of_ordered_start_only_where_they_are_set() {
    let text = "[supervisord]\nstartup=ordered\n[program:a]\ncommand=c\nstartup_wait=running\n\
                [program:b]\ncommand=c\nautostart=false\ndependent_startup=true\n\
                dependent_startup_wait_for=a:fatal,exited\n[program:c]\ncommand=c\ndepends_on=a,b\n";
    let json: serde_json::Value = serde_json::from_str(&config(text).to_json()).unwrap();
    assert_eq!(json["supervisord"]["startup"], "ordered");
    let keys = ["dependent_startup", "waits_for", "startup_wait"];
    let shown: Vec<_> =
        (0..3).map(|index| keys.map(|key| json["programs"][index].get(key).cloned())).collect();
    let for_a = serde_json::json!([{"program": "a", "states": ["EXITED", "FATAL"]}]);
    let for_both = serde_json::json!([
        {"program": "a", "states": ["RUNNING"]},
        {"program": "b", "states": ["RUNNING"]}
    ]);
    assert_eq!(shown[0], [None, None, Some("running".into())]);
    assert_eq!(shown[1], [Some(true.into()), Some(for_a), None]);
    assert_eq!(shown[2], [None, Some(for_both), None]);
    assert_eq!(json["programs"][1]["autostart"], false);
    let json: serde_json::Value =
        serde_json::from_str(&config("[program:a]\ncommand=c\n").to_json()).unwrap();
    assert_eq!(json["supervisord"]["startup"], "parallel");
    assert!(keys.iter().all(|key| json["programs"][0].get(*key).is_none()));
}

#[test]
fn the_json_output_keeps_every_character() {
    let text = "[program:x]\ncommand=a \"b\\\"c\" 'd\n  e'\nenvironment=T=\"tab\tquote'\"\n[eventlistener:l]\ncommand=c\nevents=EVENT\n";
    let json: serde_json::Value = serde_json::from_str(&config(text).to_json()).unwrap();
    let programs = json["programs"].as_array().unwrap();
    assert_eq!(programs[0]["kind"], "eventlistener");
    assert_eq!(programs[1]["argv"], serde_json::json!(["a", "b\"c", "d\ne"]));
    assert_eq!(programs[1]["environment"]["T"], "tab\tquote'");
    assert_eq!(programs[1]["user"], serde_json::Value::Null);
}
