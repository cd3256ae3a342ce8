//! The sections and keys that are known, and the nearest to one that is not.

/// `[supervisord]`, rsup's two last.
const SUPERVISORD: &[&str] = &[
    "childlogdir",
    "directory",
    "environment",
    "identifier",
    "logfile",
    "logfile_backups",
    "logfile_maxbytes",
    "loglevel",
    "minfds",
    "minprocs",
    "nocleanup",
    "nodaemon",
    "pidfile",
    "silent",
    "strip_ansi",
    "umask",
    "user",
    "shutdown_on",
    "stop_timeout",
];
/// `[program:x]`, rsup's last.
const PROGRAM: &[&str] = &[
    "autorestart",
    "autostart",
    "command",
    "directory",
    "environment",
    "exitcodes",
    "killasgroup",
    "numprocs",
    "numprocs_start",
    "priority",
    "process_name",
    "redirect_stderr",
    "serverurl",
    "startretries",
    "startsecs",
    "stderr_capture_maxbytes",
    "stderr_events_enabled",
    "stderr_logfile",
    "stderr_logfile_backups",
    "stderr_logfile_maxbytes",
    "stderr_syslog",
    "stdout_capture_maxbytes",
    "stdout_events_enabled",
    "stdout_logfile",
    "stdout_logfile_backups",
    "stdout_logfile_maxbytes",
    "stdout_syslog",
    "stopasgroup",
    "stopsignal",
    "stopwaitsecs",
    "umask",
    "user",
    "shutdown_on",
];
/// The keys of one stream of a program.
pub(crate) struct StreamKeys {
    pub(crate) logfile: &'static str,
    pub(crate) logfile_backups: &'static str,
    pub(crate) logfile_maxbytes: &'static str,
    pub(crate) syslog: &'static str,
    pub(crate) capture_maxbytes: &'static str,
    pub(crate) events_enabled: &'static str,
}
/// `stdout_…`.
pub(crate) const STDOUT_KEYS: StreamKeys = StreamKeys {
    logfile: "stdout_logfile",
    logfile_backups: "stdout_logfile_backups",
    logfile_maxbytes: "stdout_logfile_maxbytes",
    syslog: "stdout_syslog",
    capture_maxbytes: "stdout_capture_maxbytes",
    events_enabled: "stdout_events_enabled",
};
/// `stderr_…`.
pub(crate) const STDERR_KEYS: StreamKeys = StreamKeys {
    logfile: "stderr_logfile",
    logfile_backups: "stderr_logfile_backups",
    logfile_maxbytes: "stderr_logfile_maxbytes",
    syslog: "stderr_syslog",
    capture_maxbytes: "stderr_capture_maxbytes",
    events_enabled: "stderr_events_enabled",
};
const EVENTLISTENER: &[&str] = &["buffer_size", "events", "result_handler"];
const FCGI_PROGRAM: &[&str] = &["socket", "socket_backlog", "socket_mode", "socket_owner"];
const GROUP: &[&str] = &["priority", "programs"];
const INCLUDE: &[&str] = &["files"];
const INET_HTTP_SERVER: &[&str] = &["password", "port", "username"];
const RPCINTERFACE: &[&str] = &[RPCINTERFACE_FACTORY];
/// The one key that every `[rpcinterface:x]` has.
pub(crate) const RPCINTERFACE_FACTORY: &str = "supervisor.rpcinterface_factory";
const UNIX_HTTP_SERVER: &[&str] = &["chmod", "chown", "file", "password", "username"];

/// Section names, or how they begin, as they are suggested.
const SECTION_PREFIXES: &[&str] = &[
    "supervisord",
    "program:",
    "group:",
    "eventlistener:",
    "fcgi-program:",
    "include",
    "inet_http_server",
    "unix_http_server",
    "supervisorctl",
    "rpcinterface:",
    "ctlplugin:",
];

/// The keys of a section, in tables; `None`: any key is fine there.
type KnownKeys = Option<[&'static [&'static str]; 2]>;

/// Which keys a section has; `None` when supervisord does not know the section at all.
pub(crate) fn of_section(name: &str) -> Option<KnownKeys> {
    let kind = name.split_once(':').map_or("", |(kind, _)| kind);
    match (name, kind) {
        ("supervisord", _) => Some(Some([SUPERVISORD, &[]])),
        ("include", _) => Some(Some([INCLUDE, &[]])),
        (_, "program") => Some(Some([PROGRAM, &[]])),
        (_, "eventlistener") => Some(Some([PROGRAM, EVENTLISTENER])),
        (_, "fcgi-program") => Some(Some([PROGRAM, FCGI_PROGRAM])),
        (_, "group") => Some(Some([GROUP, &[]])),
        ("supervisorctl", _) | (_, "rpcinterface" | "ctlplugin") => Some(None),
        _ if name.starts_with("inet_http_server") => Some(Some([INET_HTTP_SERVER, &[]])),
        _ if name.starts_with("unix_http_server") => Some(Some([UNIX_HTTP_SERVER, &[]])),
        _ => None,
    }
}

/// Whether a program has this key.
pub(crate) fn is_program_key(key: &str) -> bool {
    PROGRAM.contains(&key)
}

/// Whether one of these tables has this key.
pub(crate) fn is_in(tables: [&[&str]; 2], key: &str) -> bool {
    tables.iter().any(|table| table.contains(&key))
}

/// Whether some section has this key.
pub(crate) fn is_known(key: &str) -> bool {
    let tables = [
        [SUPERVISORD, PROGRAM],
        [EVENTLISTENER, FCGI_PROGRAM],
        [GROUP, INCLUDE],
        [INET_HTTP_SERVER, UNIX_HTTP_SERVER],
        [RPCINTERFACE, &[]],
    ];
    tables.into_iter().any(|tables| is_in(tables, key))
}

/// The known key nearest to this one, when it is near enough for a slip of the finger; first of all one that begins
/// with it.
pub(crate) fn nearest_key(key: &str, tables: [&'static [&'static str]; 2]) -> Option<&'static str> {
    nearest_word(key, tables.into_iter().flatten().copied())
}

/// The section that may have been meant: `program:` for `[Program:x]`.
pub(crate) fn nearest_section(name: &str) -> Option<&'static str> {
    let kind = name.split_inclusive(':').next().unwrap_or(name);
    nearest_word(
        &crate::config::grammar::python::strip(kind).to_ascii_lowercase(),
        SECTION_PREFIXES.iter().copied(),
    )
}

fn nearest_word(word: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let limit = (word.chars().count() / 3).min(3);
    let measured = known.map(|candidate| {
        let shortened = limit > 0 && candidate.starts_with(word);
        (if shortened { 0 } else { distance(word, candidate) }, candidate)
    });
    let close = measured.filter(|(distance, _)| *distance <= limit);
    close.min_by_key(|(distance, candidate)| (*distance, candidate.len())).map(|(_, candidate)| candidate)
}

/// The number of characters to insert, delete or replace to make one word of the other. Long words are far from all.
fn distance(a: &str, b: &str) -> usize {
    if a.len().abs_diff(b.len()) > 3 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (deleted, x) in a.chars().enumerate() {
        let mut diagonal = deleted;
        let mut left = deleted.saturating_add(1);
        let mut next = vec![left];
        for (y, above) in b.chars().zip(row.iter().skip(1)) {
            let replaced = diagonal.saturating_add(usize::from(x != y));
            left = replaced.min(left.saturating_add(1)).min(above.saturating_add(1));
            next.push(left);
            diagonal = *above;
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, want) in
            [("", "", 0), ("abc", "abc", 0), ("comand", "command", 1), ("autostrat", "autostart", 2)]
        {
            assert_eq!(distance(a, b), want, "{a} {b}");
        }
    }

    #[test]
    fn the_nearest_key_is_suggested() {
        let program = of_section("program:x").flatten().unwrap();
        let table = [
            ("comand", Some("command")),
            ("autorestrat", Some("autorestart")),
            ("stdout_log_file", Some("stdout_logfile")),
            ("start_secs", Some("startsecs")),
            ("stdout_log", Some("stdout_logfile")),
            ("env", Some("environment")),
            ("dependent_startup", None),
            ("x", None),
        ];
        for (key, want) in table {
            assert_eq!(nearest_key(key, program), want, "{key}");
        }
        assert_eq!(nearest_section("Program:web"), Some("program:"));
        assert_eq!(nearest_section(" program:web"), Some("program:"));
        assert_eq!(nearest_section("supervisor"), Some("supervisord"));
        assert_eq!(nearest_section("mysqld"), None);
    }
}
