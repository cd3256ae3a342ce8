//! Checks of all sections together.

use super::known_keys;
use crate::config::tests::load_text;
use crate::config::{Loaded, Notice};
use crate::policy::Level;

/// A valid section of each kind that allows only certain keys (`known_keys::of_section`).
const SECTIONS: [(&str, &str); 8] = [
    ("supervisord", ""),
    ("program:x", "command=c\n"),
    ("eventlistener:x", "command=c\nevents=EVENT\n"),
    ("fcgi-program:x", "command=c\nsocket=tcp://localhost:9000\n"),
    ("group:x", "programs=\n"),
    ("include", "files=\n"),
    ("inet_http_server", "port=9001\nusername=u\npassword=p\n"),
    ("unix_http_server", "file=/run/x\nusername=u\npassword=p\n"),
];

/// The errors of a file with this section.
fn errors(section: &str, keys: &str) -> Vec<String> {
    load_text(&format!("[{section}]\n{keys}")).report.lines(false).collect()
}

#[test]
fn every_known_key_of_every_section_is_read() {
    for (section, keys) in SECTIONS {
        assert_eq!(errors(section, keys), [""; 0]);
        let tables = known_keys::of_section(section).flatten().unwrap();
        for key in tables.into_iter().flatten() {
            assert!(known_keys::is_known(key), "{key}");
            let found = errors(section, &format!("{keys}{key}=%\n"));
            let is_about_key =
                |line: &String| line.contains(&format!("{key}' is badly formatted: incomplete format"));
            assert!(found.iter().any(is_about_key), "[{section}] {key}: {found:?}");
        }
    }
}

#[test]
fn every_key_of_an_rpcinterface_is_expanded() {
    let found =
        errors("rpcinterface:x", "supervisor.rpcinterface_factory=a:b\nany=%(here)s\nother=%(ENV_X)s\n");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("'rpcinterface:x.any' contains names ('here')"), "{found:?}");
    let last_value_counts = "supervisor.rpcinterface_factory=a:b\nany=%(here)s\nany=1\n";
    assert!(errors("rpcinterface:x", last_value_counts).is_empty());
}

#[test]
fn supervisorctl_and_its_plugins_may_have_any_keys() {
    for section in ["supervisorctl", "ctlplugin:x"] {
        let loaded = load_text(&format!("[{section}]\nany=%\n"));
        assert_eq!(loaded.report.to_string(), "");
        assert_eq!(
            loaded.notices[0].text,
            format!("sections without effect in rsup, whose supervisorctl needs no server: [{section}]")
        );
    }
}

#[test]
fn ignored_sections_are_logged_in_one_line() {
    let loaded = load_text(
        "[unix_http_server]\nfile=/x\n[program:x]\ncommand=c\n[supervisorctl]\n\
         [rpcinterface:r]\nsupervisor.rpcinterface_factory=a:b\n",
    );
    let texts: Vec<_> = loaded.notices.iter().map(|notice| notice.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "sections without effect in rsup, whose supervisorctl needs no server: [unix_http_server], [supervisorctl], \
             [rpcinterface:r]"
        ]
    );
}

#[test]
fn an_event_listener_is_checked() {
    let table = [
        ("buffer_size=0", "events: [eventlistener:x] section requires an \"events\" line"),
        ("events=TICK_5\nbuffer_size=0", "[eventlistener:x] section sets invalid buffer_size (0)"),
        ("events=tick_5, nothing", "Unknown event type NOTHING in [eventlistener:x] events"),
        (
            "events=EVENT\nredirect_stderr=true",
            "[eventlistener:x] section sets redirect_stderr=true but this is not allowed because it will interfere with the eventlistener protocol",
        ),
    ];
    for (keys, want) in table {
        let found = errors("eventlistener:x", &format!("command=c\n{keys}\n"));
        assert!(found.iter().any(|line| line.ends_with(want)), "{keys}\n{found:?}");
    }
}

#[test]
fn a_listener_that_orders_starts_is_replaced() {
    let loaded =
        |command: &str| load_text(&format!("[eventlistener:x]\ncommand={command}\nevents=PROCESS_STATE\n"));
    for command in [
        "python3 -m supervisord_dependent_startup -c /x.conf",
        "/usr/bin/supervisord-dependent-startup",
        "sh -c 'exec python /x/supervisord_dependent_startup.py'",
    ] {
        let Loaded { report, notices, .. } = loaded(command);
        let why = "rsup itself does what this listener does, so this section is not needed";
        let lines: Vec<_> = report.lines(true).collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].ends_with(&format!(":1: warning: [eventlistener:x]: {why}")), "{lines:?}");
        assert_eq!(notices, [Notice { level: Level::Info, text: format!("For [eventlistener:x], {why}") }]);
    }
    let notices = loaded("ordered-startup-listener /x.conf").notices;
    let advice =
        "set startup=ordered in [supervisord], and remove autostart=false from the programs that it starts";
    assert!(notices[0].text.ends_with(advice), "{notices:?}");
    assert_eq!(notices[0].level, Level::Warn);
}

#[test]
fn a_listener_pool_is_a_group_with_the_name_as_written() {
    let config = load_text("[eventlistener: x ]\ncommand=c\nevents=EVENT\npriority=7\n").config.unwrap();
    let listener = &config.processes[0];
    assert_eq!((listener.group.as_str(), listener.name.as_str()), (" x ", "x"));
    assert_eq!((listener.spec.group_priority, listener.priority), (7, 7));
}
