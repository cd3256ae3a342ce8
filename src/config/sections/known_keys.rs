//! The names of all known sections and keys, and the search for the known name that is nearest to an unknown one.
//!
//! Source: supervisord's documentation, "Configuration File". `shutdown_on`, `stop_timeout`, `output`,
//! `startup`, `startup_wait` and `depends_on` are rsup's own, and the keys `dependent_startup*` are those of the event
//! listener supervisord-dependent-startup.

use crate::config::grammar::python::strip;

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
    "output",
    "startup",
];

/// The keys of `[program:x]`. `[eventlistener:x]` and `[fcgi-program:x]` have these keys too.
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
    "dependent_startup",
    "dependent_startup_inherit_priority",
    "dependent_startup_wait_for",
    "depends_on",
    "startup_wait",
];

/// The keys of `[program:x]` about one output stream: `stdout_logfile` and so on.
pub(crate) struct StreamKeys {
    pub(crate) logfile: &'static str,
    pub(crate) logfile_backups: &'static str,
    pub(crate) logfile_maxbytes: &'static str,
    pub(crate) syslog: &'static str,
    pub(crate) capture_maxbytes: &'static str,
    pub(crate) events_enabled: &'static str,
}

pub(crate) const STDOUT_KEYS: StreamKeys = StreamKeys {
    logfile: "stdout_logfile",
    logfile_backups: "stdout_logfile_backups",
    logfile_maxbytes: "stdout_logfile_maxbytes",
    syslog: "stdout_syslog",
    capture_maxbytes: "stdout_capture_maxbytes",
    events_enabled: "stdout_events_enabled",
};

pub(crate) const STDERR_KEYS: StreamKeys = StreamKeys {
    logfile: "stderr_logfile",
    logfile_backups: "stderr_logfile_backups",
    logfile_maxbytes: "stderr_logfile_maxbytes",
    syslog: "stderr_syslog",
    capture_maxbytes: "stderr_capture_maxbytes",
    events_enabled: "stderr_events_enabled",
};

/// The only key that supervisord itself reads from `[rpcinterface:x]`.
pub(crate) const RPCINTERFACE_FACTORY: &str = "supervisor.rpcinterface_factory";

const EVENTLISTENER: &[&str] = &["buffer_size", "events", "result_handler"];
const FCGI_PROGRAM: &[&str] = &["socket", "socket_backlog", "socket_mode", "socket_owner"];
const GROUP: &[&str] = &["priority", "programs"];
const INCLUDE: &[&str] = &["files"];
const INET_HTTP_SERVER: &[&str] = &["password", "port", "username"];
const UNIX_HTTP_SERVER: &[&str] = &["chmod", "chown", "file", "password", "username"];
const RPCINTERFACE: &[&str] = &[RPCINTERFACE_FACTORY];

/// The names of the known sections. The warning about an unknown section suggests one of them. In the file, a name with
/// a colon is followed by the name of a program or similar, as in `[program:x]`.
const SECTION_NAMES: &[&str] = &[
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

/// If a name differs from a known name in more characters than this, it is not taken for a misspelling of that name.
const MAX_EDIT_DISTANCE: usize = 3;

/// The known keys of a section, in up to two tables. `None` if any key is valid, as in `[rpcinterface:x]`.
type KnownKeysOrAny = Option<[&'static [&'static str]; 2]>;

/// Returns the known keys of a section, or `None` if supervisord does not know the section.
pub(crate) fn of_section(name: &str) -> Option<KnownKeysOrAny> {
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

pub(crate) fn is_program_key(key: &str) -> bool {
    PROGRAM.contains(&key)
}

pub(crate) fn is_in(tables: [&[&str]; 2], key: &str) -> bool {
    tables.iter().any(|table| table.contains(&key))
}

/// Returns whether the key is in at least one of the tables of known keys.
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

/// Returns the key of `tables` that `key` most likely means, if the difference is small enough for a typing error.
pub(crate) fn nearest_key(key: &str, tables: [&'static [&'static str]; 2]) -> Option<&'static str> {
    nearest_word(key, tables)
}

/// Returns the section that `name` most likely means: `program:` for `[Program:x]`.
pub(crate) fn nearest_section(name: &str) -> Option<&'static str> {
    let kind = name.split_inclusive(':').next().unwrap_or(name);
    nearest_word(&strip(kind).to_ascii_lowercase(), [SECTION_NAMES, &[]])
}

/// Returns the candidate with the smallest edit distance to `word`. If several candidates have that distance, returns
/// the shortest of them. The distance must not exceed a third of the length of `word`, nor [`MAX_EDIT_DISTANCE`]. If
/// `word` has at least 3 characters, the distance to a candidate that begins with `word` counts as 0, because
/// people often abbreviate keys.
fn nearest_word(word: &str, candidates: [&'static [&'static str]; 2]) -> Option<&'static str> {
    let limit = (word.chars().count() / 3).min(MAX_EDIT_DISTANCE);
    let measured = candidates.into_iter().flatten().copied().map(|candidate| {
        let is_abbreviated = limit > 0 && candidate.starts_with(word);
        (if is_abbreviated { 0 } else { edit_distance(word, candidate) }, candidate)
    });
    let close = measured.filter(|(distance, _)| *distance <= limit);
    close.min_by_key(|(distance, candidate)| (*distance, candidate.len())).map(|(_, candidate)| candidate)
}

/// Returns the number of characters to insert, delete or replace to turn `a` into `b` (Levenshtein distance).
fn edit_distance(a: &str, b: &str) -> usize {
    // A text from the file may be megabytes long, and the loop below takes a.len() * b.len() steps. So two texts are
    // not compared if their lengths differ too much.
    if a.len().abs_diff(b.len()) > MAX_EDIT_DISTANCE {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    // After each character of `a`, `row[n]` is the edit distance from the characters of `a` read so far to the first n
    // characters of `b`.
    for (index, from) in a.chars().enumerate() {
        let mut diagonal = index;
        let mut left = index.saturating_add(1);
        let mut next = vec![left];
        for (to, above) in b.chars().zip(row.iter().skip(1)) {
            let replaced = diagonal.saturating_add(usize::from(from != to));
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
    fn the_edit_distance_counts_inserted_deleted_and_replaced_characters() {
        for (a, b, want) in
            [("", "", 0), ("abc", "abc", 0), ("comand", "command", 1), ("autostrat", "autostart", 2)]
        {
            assert_eq!(edit_distance(a, b), want, "{a} {b}");
        }
    }

    #[test]
    fn the_nearest_known_name_is_found() {
        let program = of_section("program:x").flatten().unwrap();
        let table = [
            ("comand", Some("command")),
            ("autorestrat", Some("autorestart")),
            ("stdout_log_file", Some("stdout_logfile")),
            ("start_secs", Some("startsecs")),
            ("stdout_log", Some("stdout_logfile")),
            ("env", Some("environment")),
            ("depend_on", Some("depends_on")),
            ("startinorder", None),
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
