//! One parser for each type of value (supervisord's `datatypes.py`). The error of a parser is supervisord's message.
//! The keys that supervisord does not have get messages in supervisord's style.

use std::rc::Rc;

use crate::config::grammar::expand::{ExpansionVars, describe_expansion_cause};
use crate::config::grammar::glob::normal;
use crate::config::grammar::python::{is_space, repr, saturating_int, strip};
use crate::config::grammar::shlex;
use crate::config::model::{LogFile, OutputMode, SocketAddress, Startup};
use crate::policy::{AutoRestart, Level, ShutdownOn, Signal, StartupWait, StateName};

/// The `priority` of a program or a group whose section does not set one.
pub(crate) const DEFAULT_PRIORITY: i64 = 999;

/// Parses a boolean: `yes`, `true`, `on`, `1`, or `no`, `false`, `off`, `0`, in any case.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    known_boolean(text).ok_or_else(|| format!("not a valid boolean value: {}", repr(text)))
}

fn known_boolean(text: &str) -> Option<bool> {
    let is_one_of = |words: [&str; 4]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    is_one_of(["yes", "true", "on", "1"])
        .then_some(true)
        .or_else(|| is_one_of(["no", "false", "off", "0"]).then_some(false))
}

/// Parses an integer like Python's `int()`.
///
/// # Errors
/// Returns the message that supervisord writes for this value.
pub fn integer(text: &str) -> Result<i64, String> {
    saturating_int(text, 10).ok_or_else(|| format!("invalid literal for int() with base 10: {}", repr(text)))
}

/// Parses a number of seconds that is 0 or more (`stop_timeout`, which supervisord does not have).
///
/// # Errors
/// Returns a message in supervisord's style.
pub fn seconds(text: &str) -> Result<u64, String> {
    u64::try_from(integer(text)?).map_err(|_| format!("{} is below lower bound (0)", strip(text)))
}

/// Parses a file mode, which is an octal number. supervisord accepts negative and huge modes; only the nine permission
/// bits of such a mode are used.
///
/// # Errors
/// Returns the message that supervisord writes for this value.
pub fn octal(text: &str) -> Result<u32, String> {
    let mode =
        saturating_int(text, 8).ok_or_else(|| format!("{text} can not be converted to an octal type"))?;
    Ok(u32::try_from(mode).or_else(|_| u32::try_from(mode & 0o777)).unwrap_or(0))
}

/// Parses a number of bytes with an optional suffix `KB`, `MB` or `GB` in any case.
///
/// # Errors
/// Returns the message that supervisord writes for this value.
pub fn byte_size(text: &str) -> Result<i64, String> {
    if let Some(number) = saturating_int(text, 10) {
        return Ok(number);
    }
    // supervisord's message quotes the value in lower case.
    let lower = text.to_ascii_lowercase();
    let units = [("kb", 1 << 10), ("mb", 1 << 20), ("gb", 1 << 30)];
    let digits_and_unit = units.iter().find_map(|(suffix, unit)| Some((lower.strip_suffix(suffix)?, *unit)));
    let (digits, unit) = digits_and_unit.unwrap_or((&lower, 1));
    Ok(integer(digits)?.saturating_mul(unit))
}

/// Parses a signal number or name, with or without `SIG`. As in supervisord, a number is valid if a name in Python's
/// `signal` module begins with `SIG` and has this value. So 0 is valid, because `signal.SIG_DFL` is 0.
pub(crate) fn signal(text: &str) -> Result<Signal, String> {
    if let Some(number) = saturating_int(text, 10) {
        let named = Signal::from_number(number).filter(|_| matches!(number, 0..=31 | 34 | 64));
        return named.ok_or_else(|| format!("value {} is not a valid signal number", repr(text)));
    }
    let name = strip(text).to_ascii_uppercase();
    Signal::from_name(&name).ok_or_else(|| format!("value {} is not a valid signal name", repr(text)))
}

/// Parses a comma-separated list of exit codes. An empty value is an empty list.
pub(crate) fn exit_codes(text: &str) -> Result<Rc<[u8]>, String> {
    if text.is_empty() {
        return Ok(Rc::new([]));
    }
    let codes = text.split(',').map(|code| saturating_int(code, 10).and_then(|code| u8::try_from(code).ok()));
    codes.collect::<Option<_>>().ok_or_else(|| format!("not a valid list of exit codes: {}", repr(text)))
}

/// Parses `autorestart`, which is a boolean or `unexpected`.
pub(crate) fn auto_restart(text: &str) -> Result<AutoRestart, String> {
    match known_boolean(text) {
        Some(true) => Ok(AutoRestart::Always),
        Some(false) => Ok(AutoRestart::Never),
        None if text.eq_ignore_ascii_case("unexpected") => Ok(AutoRestart::Unexpected),
        None => Err(format!("invalid 'autorestart' value {}", repr(&text.to_ascii_lowercase()))),
    }
}

/// Parses `shutdown_on`, which supervisord does not have.
///
/// # Errors
/// Returns a message in supervisord's style.
pub fn shutdown_on(text: &str) -> Result<ShutdownOn, String> {
    match text.to_ascii_lowercase().as_str() {
        "never" => Ok(ShutdownOn::Never),
        "fatal" => Ok(ShutdownOn::Fatal),
        "exited" => Ok(ShutdownOn::Exited),
        _ => Err(format!("invalid 'shutdown_on' value {}: never, fatal or exited", repr(text))),
    }
}

/// Parses `output`, which supervisord does not have.
///
/// # Errors
/// Returns a message in supervisord's style.
pub fn output_mode(text: &str) -> Result<OutputMode, String> {
    match text.to_ascii_lowercase().as_str() {
        "direct" => Ok(OutputMode::Direct),
        "lines" => Ok(OutputMode::Lines),
        "prefix" => Ok(OutputMode::Prefix),
        "json" => Ok(OutputMode::Json),
        _ => Err(format!("invalid 'output' value {}: direct, lines, prefix or json", repr(text))),
    }
}

/// Parses `startup`, which supervisord does not have.
///
/// # Errors
/// Returns a message in supervisord's style.
pub fn startup(text: &str) -> Result<Startup, String> {
    match text.to_ascii_lowercase().as_str() {
        "parallel" => Ok(Startup::Parallel),
        "ordered" => Ok(Startup::Ordered),
        _ => Err(format!("invalid 'startup' value {}: parallel or ordered", repr(text))),
    }
}

/// Parses `startup_wait`, which supervisord does not have.
pub(crate) fn startup_wait(text: &str) -> Result<StartupWait, String> {
    match text.to_ascii_lowercase().as_str() {
        "running" => Ok(StartupWait::Running),
        "exited" => Ok(StartupWait::Exited),
        _ => Err(format!("invalid 'startup_wait' value {}: running or exited", repr(text))),
    }
}

/// Parses the name of a state for `dependent_startup_wait_for`, in upper, lower or mixed case. STOPPED is not accepted.
pub(crate) fn awaited_state(text: &str) -> Option<StateName> {
    let mut awaited = StateName::ALL.into_iter().filter(|state| *state != StateName::Stopped);
    awaited.find(|state| state.name().eq_ignore_ascii_case(text))
}

/// Parses the name of a log level, in any case.
///
/// # Errors
/// Returns the message that supervisord writes for this value.
pub fn log_level(text: &str) -> Result<Level, String> {
    Level::from_name(&text.to_ascii_lowercase())
        .ok_or_else(|| format!("bad logging level name {}", repr(text)))
}

/// Parses `stdout_logfile` or `stderr_logfile`. supervisord also checks that the directory exists. rsup does not check
/// this, because rsup runs a program even if its log file cannot be opened.
pub(crate) fn log_file(text: &str) -> LogFile {
    let words = [
        ("none", LogFile::None),
        ("off", LogFile::None),
        ("auto", LogFile::Auto),
        ("syslog", LogFile::Syslog),
    ];
    let known = words.into_iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
    known.map_or_else(|| LogFile::Path(text.to_owned()), |(_, file)| file)
}

/// Splits a comma-separated list and strips its items. An empty value has no item; a trailing comma makes an empty
/// item.
pub(crate) fn comma_list(text: &str) -> Vec<&str> {
    if text.is_empty() { Vec::new() } else { text.split(',').map(strip).collect() }
}

/// Strips white space around the name of a program, a group or a process. Refuses a name with a space, a colon or a
/// slash. supervisord refuses these characters because they would break the protocol of the event listeners and the
/// URLs of the web interface.
pub(crate) fn checked_name(text: &str) -> Result<String, String> {
    let name = strip(text);
    match [' ', ':', '/'].iter().find(|separator| name.contains(**separator)) {
        Some(separator) => Err(format!("Invalid name: {} because of character: '{separator}'", repr(text))),
        None => Ok(name.to_owned()),
    }
}

/// The message for a value with a NUL byte, which execve(2), chdir(2) and open(2) cannot take. supervisord accepts such
/// a value, but cannot start the program.
pub(crate) const NUL_BYTE: &str = "the value contains a NUL byte";

/// Parses the expanded value of `environment`. `text` is the value before its expansion. If the value of a `%(name)s`
/// in `text` may have caused a syntax error, the message names this `%(name)s`.
pub(crate) fn parse_environment(
    text: &str,
    expanded: &str,
    vars: &ExpansionVars<'_>,
) -> Result<Vec<(String, String)>, String> {
    let pairs = shlex::pairs(expanded).map_err(|why| {
        format!("{why}{}", describe_expansion_cause(text, vars, &|c| shlex::can_cause(&why, c)))
    })?;
    match pairs.iter().any(|(name, value)| name.contains('\0') || value.contains('\0')) {
        true => Err(NUL_BYTE.to_owned()),
        false => Ok(pairs),
    }
}

/// Parses `serverurl`. `None` means `AUTO`.
pub(crate) fn server_url(text: &str) -> Option<String> {
    (!strip(text).eq_ignore_ascii_case("auto")).then(|| text.to_owned())
}

/// Checks `[inet_http_server] port`, which is `port`, `host:port` or `*:port`.
pub(crate) fn check_inet_http_port(text: &str) -> Result<(), String> {
    match text.rsplit_once(':') {
        Some((_, "")) => Err("no port number specified in ''".to_owned()),
        Some((_, number)) => port(number).map(|_| ()),
        None => port(text).map(|_| ()).map_err(|_| format!("not a valid port number: {} ", repr(text))),
    }
}

fn port(text: &str) -> Result<u16, String> {
    let number = integer(text)?;
    match u16::try_from(number) {
        Ok(0) => Err("0 is below lower bound (1)".to_owned()),
        Ok(port) => Ok(port),
        Err(_) if number < 0 => Err(format!("{number} is below lower bound (1)")),
        Err(_) => Err(format!("{number} is above upper bound (65535)")),
    }
}

/// The URL of a server that listens on the Unix socket `path`.
pub(crate) fn unix_url(path: &str) -> String {
    let path = std::path::absolute(path).unwrap_or_default();
    format!("unix://{}", normal(&path.to_string_lossy()))
}

/// Parses `[fcgi-program:x] socket`. Two of supervisord's messages are the text of a Python tuple, by a mistake in
/// supervisord.
pub(crate) fn fcgi_socket_address(text: &str, has_unix_only_keys: bool) -> Result<SocketAddress, String> {
    if let Some(path) = text.strip_prefix("unix://") {
        return if path.starts_with('/') {
            Ok(SocketAddress::Unix(path.to_owned()))
        } else {
            Err(format!("('Unix socket path %s is not an absolute path', {})", repr(path)))
        };
    }
    if has_unix_only_keys {
        return Err(
            "socket_owner and socket_mode params should only be used with a Unix domain socket".to_owned()
        );
    }
    let is_host = |host: &str| !host.is_empty() && !host.contains(|c| c == ':' || is_space(c));
    match text.strip_prefix("tcp://").and_then(|address| address.split_once(':')) {
        Some((host, digits))
            if is_host(host) && !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()) =>
        {
            Ok(SocketAddress::Tcp(host.to_ascii_lowercase(), port(digits)?))
        }
        _ => Err(format!("('Bad socket format %s', {})", repr(text))),
    }
}

/// Parses `socket_backlog`.
pub(crate) fn socket_backlog(text: &str) -> Result<u16, String> {
    let number = integer(text)?;
    u16::try_from(number)
        .ok()
        .filter(|n| *n > 0)
        .ok_or_else(|| format!("Invalid socket_backlog value {number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error<T>(result: Result<T, String>) -> String {
        result.err().unwrap_or_default()
    }

    #[test]
    fn booleans_are_eight_words_in_any_case() {
        for (text, want) in
            [("yes", true), ("TRUE", true), ("On", true), ("1", true), ("no", false), ("oFF", false)]
        {
            assert_eq!(boolean(text), Ok(want));
        }
        for text in ["y", "", "maybe", " true"] {
            assert_eq!(error(boolean(text)), format!("not a valid boolean value: '{text}'"));
        }
    }

    #[test]
    fn sizes_have_suffixes_and_modes_are_octal() {
        let table = [("5", 5), ("1KB", 1024), ("2 mb", 2 << 20), ("1Gb", 1 << 30), ("-1", -1)];
        for (text, want) in table {
            assert_eq!(byte_size(text), Ok(want));
        }
        assert_eq!(error(byte_size("50M")), "invalid literal for int() with base 10: '50m'");
        assert_eq!(error(byte_size("1.5MB")), "invalid literal for int() with base 10: '1.5'");
        assert_eq!(octal("022"), Ok(0o22));
        assert_eq!(error(octal("8")), "8 can not be converted to an octal type");
    }

    #[test]
    fn signals_are_named_or_numbered() {
        for (text, want) in
            [("TERM", 15), ("sigquit", 3), ("9", 9), (" usr1 ", 10), ("RTMIN", 34), ("0", 0), ("64", 64)]
        {
            assert_eq!(signal(text).map(Signal::number), Ok(want), "{text}");
        }
        assert_eq!(error(signal("FOO")), "value 'FOO' is not a valid signal name");
        for text in ["99", "32", "35", "-1"] {
            assert_eq!(error(signal(text)), format!("value '{text}' is not a valid signal number"));
        }
    }

    #[test]
    fn exit_codes_restarts_and_levels_are_checked() {
        assert_eq!(exit_codes("0, 2,255"), Ok(Rc::from([0, 2, 255])));
        assert_eq!(exit_codes(""), Ok(Rc::from([])));
        for text in ["0,,2", "256", "-1", "a"] {
            assert_eq!(error(exit_codes(text)), format!("not a valid list of exit codes: '{text}'"));
        }
        assert_eq!(auto_restart("Unexpected"), Ok(AutoRestart::Unexpected));
        assert_eq!(auto_restart("ON"), Ok(AutoRestart::Always));
        assert_eq!(error(auto_restart("Never")), "invalid 'autorestart' value 'never'");
        assert_eq!(error(log_level("Warning")), "bad logging level name 'Warning'");
    }

    #[test]
    fn seconds_are_not_negative() {
        assert_eq!(seconds(" 9 "), Ok(9));
        assert_eq!(error(seconds("-1 ")), "-1 is below lower bound (0)");
        assert_eq!(error(seconds("1s")), "invalid literal for int() with base 10: '1s'");
    }

    #[test]
    fn output_is_one_of_four_words() {
        assert_eq!(output_mode("JSON"), Ok(OutputMode::Json));
        assert_eq!(error(output_mode("x")), "invalid 'output' value 'x': direct, lines, prefix or json");
    }

    #[test]
    fn startup_and_startup_wait_are_one_of_two_words() {
        assert_eq!((startup("Ordered"), startup("parallel")), (Ok(Startup::Ordered), Ok(Startup::Parallel)));
        assert_eq!(error(startup("yes")), "invalid 'startup' value 'yes': parallel or ordered");
        assert_eq!(startup_wait("EXITED"), Ok(StartupWait::Exited));
        assert_eq!(startup_wait("running"), Ok(StartupWait::Running));
        assert_eq!(error(startup_wait("")), "invalid 'startup_wait' value '': running or exited");
    }

    #[test]
    fn all_states_but_stopped_can_be_awaited_in_any_case() {
        for state in StateName::ALL.into_iter().filter(|state| *state != StateName::Stopped) {
            assert_eq!(awaited_state(&state.name().to_ascii_lowercase()), Some(state));
        }
        assert_eq!([awaited_state("STOPPED"), awaited_state("UNKNOWN"), awaited_state("")], [None; 3]);
    }

    #[test]
    fn shutdown_on_is_one_of_three_words() {
        assert_eq!(shutdown_on("Fatal"), Ok(ShutdownOn::Fatal));
        assert_eq!(error(shutdown_on("yes")), "invalid 'shutdown_on' value 'yes': never, fatal or exited");
    }

    #[test]
    fn log_files_are_special_words_or_paths() {
        assert_eq!((log_file("None"), log_file("OFF")), (LogFile::None, LogFile::None));
        assert_eq!((log_file("auto"), log_file("syslog")), (LogFile::Auto, LogFile::Syslog));
        for path in ["", "/x", "~/x", "none "] {
            assert_eq!(log_file(path), LogFile::Path(path.to_owned()));
        }
    }

    #[test]
    fn lists_are_split_at_commas() {
        assert_eq!(comma_list(""), [""; 0]);
        assert_eq!(comma_list(" a, b c ,"), ["a", "b c", ""]);
    }

    #[test]
    fn a_server_url_of_auto_is_none() {
        assert_eq!(server_url(" Auto "), None);
        assert_eq!(server_url("unix:///x").as_deref(), Some("unix:///x"));
    }

    #[test]
    fn names_hold_no_separator() {
        assert_eq!(checked_name(" a "), Ok("a".to_owned()));
        assert_eq!(checked_name(""), Ok(String::new()));
        assert_eq!(error(checked_name("a /b:c d")), "Invalid name: 'a /b:c d' because of character: ' '");
        assert_eq!(error(checked_name("a/b:c")), "Invalid name: 'a/b:c' because of character: ':'");
    }

    #[test]
    fn addresses_are_checked() {
        assert_eq!(check_inet_http_port("*:9001"), Ok(()));
        assert_eq!(check_inet_http_port("9001"), Ok(()));
        assert_eq!(error(check_inet_http_port("foo")), "not a valid port number: 'foo' ");
        assert_eq!(error(check_inet_http_port("host:")), "no port number specified in ''");
        assert_eq!(error(check_inet_http_port(":0")), "0 is below lower bound (1)");
        assert_eq!(unix_url("/run/x/../y.sock"), "unix:///run/y.sock");
        assert_eq!(
            fcgi_socket_address("tcp://Host:9000", false),
            Ok(SocketAddress::Tcp("host".to_owned(), 9000))
        );
        assert_eq!(fcgi_socket_address("unix:///run/x", true), Ok(SocketAddress::Unix("/run/x".to_owned())));
        assert_eq!(error(fcgi_socket_address("foo", false)), "('Bad socket format %s', 'foo')");
        assert!(
            error(fcgi_socket_address("tcp://h:1", true)).starts_with("socket_owner and socket_mode params")
        );
    }
}
