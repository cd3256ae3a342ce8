//! The time zone of the log's time stamps. The log must show the same time as supervisord and date(1) do with glibc.
//! rsup's static binary uses musl, which reads `TZ` differently, so this module translates the value of `TZ`:
//!
//! - In glibc, a name such as `EST5EDT` means a file of the zone database. In musl, it is a POSIX string.
//! - A POSIX string may name summer time without rules for its begin and end. glibc then uses the rules of the United
//!   States, and musl uses none.
//! - glibc looks for files in the directory that the variable `TZDIR` names, and musl does not.
//!
//! The zones in the subdirectory `right/` of the database are not supported. They are for machines whose clock counts
//! leap seconds.

use std::borrow::Cow;
use std::ffi::{CString, OsStr, c_char};
use std::fs::File;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::{env, fs, ptr};

/// Where the zone database is if the variable `TZDIR` is not set.
const DATABASE: &str = "/usr/share/zoneinfo";

/// The rules of the United States since 2007. glibc appends them to a POSIX string that names summer time without rules
/// for its begin and end.
const DEFAULT_RULES: &[u8] = b",M3.2.0,M11.1.0";

unsafe extern "C" {
    /// The C library's list of rsup's own environment variables.
    static mut environ: *const *const c_char;

    /// Makes the C library read `TZ`. POSIX does not require localtime_r(3) to read it.
    safe fn tzset();
}

/// A time zone, stored as the environment variable that makes the C library use it.
#[derive(Debug, Default)]
pub struct TimeZone {
    /// `TZ=` and a value. With this value, musl uses the same time zone that glibc uses with rsup's own `TZ`. `None` if
    /// rsup's own `TZ` is unset or empty, because musl and glibc then use the same time zone anyway.
    variable: Option<CString>,
    /// Whether [`TimeZone::utc`] has made this value. gmtime_r(3) then converts the time, and reads no variable.
    is_utc: bool,
}

impl TimeZone {
    /// Returns the time zone of the variables `TZ` and `TZDIR`. If `TZ` is unset, this is the time zone of
    /// /etc/localtime.
    #[must_use]
    pub fn of_environment() -> Self {
        let Some(value) = env::var_os("TZ").filter(|value| !value.is_empty()) else { return Self::default() };
        let database = env::var_os("TZDIR").filter(|path| !path.is_empty());
        Self::new(&value, database.as_deref().unwrap_or(OsStr::new(DATABASE)))
    }

    /// Returns Coordinated Universal Time.
    #[must_use]
    pub fn utc() -> Self {
        Self { variable: None, is_utc: true }
    }

    fn new(value: &OsStr, database: &OsStr) -> Self {
        let name = value.as_bytes().strip_prefix(b":").unwrap_or(value.as_bytes());
        let path = Path::new(database).join(OsStr::from_bytes(name));
        let variable =
            if is_zone_file(&path) { Cow::Owned(tz_value_for_file(path)) } else { to_posix_tz(name) };
        Self { variable: CString::new([b"TZ=", &*variable].concat()).ok(), is_utc: false }
    }

    /// Converts a time since 1970 to this time zone.
    pub(super) fn local_time(&self, time: &libc::timespec) -> libc::tm {
        let mut local = MaybeUninit::<libc::tm>::zeroed();
        let variables = self.variable.as_ref().map(|variable| [variable.as_ptr(), ptr::null()]);
        if self.is_utc {
            // SAFETY: gmtime_r(3) reads `tv_sec`, and writes one tm to `local`.
            unsafe { libc::gmtime_r(&raw const time.tv_sec, local.as_mut_ptr()) };
        } else if let Some(variables) = &variables {
            // SAFETY: rsup has one thread, so nothing else reads or writes `environ` until it is restored below.
            let inherited = unsafe { environ };
            // rsup passes the variables of `inherited` to its programs and to `%(ENV_TZ)s`, which must get the `TZ`
            // that rsup was started with. So `inherited` stays unchanged, and `environ` points to another list until
            // the time is converted.
            // SAFETY: `variables` ends in a null pointer, and lives until `environ` is restored below.
            unsafe { environ = variables.as_ptr() };
            convert(time, &mut local);
            // SAFETY: rsup has one thread, and `inherited` is the list that `environ` pointed to before.
            unsafe { environ = inherited };
        } else {
            convert(time, &mut local);
        }
        // SAFETY: all bytes are initialised. They stay zero if the conversion fails, and zero is valid for every field
        // of tm.
        unsafe { local.assume_init() }
    }
}

/// Converts a time to the time zone of the variable `TZ` in `environ`.
fn convert(time: &libc::timespec, local: &mut MaybeUninit<libc::tm>) {
    tzset();
    // SAFETY: localtime_r(3) reads `tv_sec` and the list `environ`, and writes one tm to `local`; all three live
    // through the call.
    unsafe { libc::localtime_r(&raw const time.tv_sec, local.as_mut_ptr()) };
}

/// Returns whether `path` is a file of the zone database: a regular file that begins with `TZif`. Files of other types
/// are not opened, because open(2) of a FIFO may wait.
fn is_zone_file(path: &Path) -> bool {
    let mut magic = [0; 4];
    let is_regular = fs::metadata(path).is_ok_and(|found| found.is_file());
    is_regular
        && File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok()
        && magic == *b"TZif"
}

/// Returns the value of `TZ` that names the file at `path`: a colon, which means "not a POSIX string", and the path.
fn tz_value_for_file(path: PathBuf) -> Vec<u8> {
    let mut variable = path.into_os_string().into_vec();
    variable.insert(0, b':');
    variable
}

/// Returns the POSIX string for the time zone that glibc uses if `TZ` is `value` and names no file. Appends
/// [`DEFAULT_RULES`] if `value` names summer time without rules. Returns UTC if `value` is not a POSIX string.
fn to_posix_tz(value: &[u8]) -> Cow<'_, [u8]> {
    let with_rules = || Cow::Owned([value.strip_suffix(b",").unwrap_or(value), DEFAULT_RULES].concat());
    match after_abbreviation(value).and_then(after_offset) {
        None => Cow::Borrowed(b"UTC0"),
        Some(b"") => Cow::Borrowed(value),
        Some(summer_time) => {
            match after_abbreviation(summer_time).map(|rest| after_offset(rest).unwrap_or(rest)) {
                None => Cow::Borrowed(b"UTC0"),
                Some(b"" | b",") => with_rules(),
                Some(_) => Cow::Borrowed(value),
            }
        }
    }
}

/// Returns the text after the abbreviation at the start of `text`. An abbreviation is at least three letters, or any
/// text in `<>`.
fn after_abbreviation(text: &[u8]) -> Option<&[u8]> {
    if let Some(quoted) = text.strip_prefix(b"<") {
        let end = quoted.iter().position(|byte| *byte == b'>')?;
        return quoted.get(end + 1..);
    }
    let length = text.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    if length < 3 { None } else { text.get(length..) }
}

/// Returns the text after the offset at the start of `text`. An offset is an optional sign, digits, and optional
/// minutes and seconds after colons.
fn after_offset(text: &[u8]) -> Option<&[u8]> {
    let unsigned = text.strip_prefix(b"+").or_else(|| text.strip_prefix(b"-")).unwrap_or(text);
    let length = unsigned.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b':').count();
    if unsigned.first().is_some_and(u8::is_ascii_digit) { unsigned.get(length..) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::list_directory;
    use std::io::Write;
    use std::process::{Command, Stdio};

    /// The names of all files of the zone database, except those in the subdirectory `right/`.
    fn names() -> Vec<String> {
        fn collect(directory: &Path, names: &mut Vec<String>) {
            for path in list_directory(directory).map(|name| directory.join(name)) {
                if path.is_dir() && !path.ends_with("right") {
                    collect(&path, names);
                } else if let Some(name) = path.strip_prefix(DATABASE).ok().and_then(Path::to_str) {
                    names.push(name.to_owned());
                }
            }
        }
        let mut names = Vec::new();
        collect(Path::new(DATABASE), &mut names);
        names
    }

    /// What date(1) prints for these times.
    fn date(zone: &str, times: &[i64]) -> Vec<String> {
        let input: String = times.iter().map(|time| format!("@{time}\n")).collect();
        let mut date = Command::new("date");
        date.env("TZ", zone).args(["-f", "-", "+%Y-%m-%d %H:%M:%S"]);
        #[allow(clippy::disallowed_methods, reason = "a test may start a process")]
        let mut date = date.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        date.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = date.wait_with_output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    fn local_time(zone: &str, time: i64) -> String {
        let tm = TimeZone::new(OsStr::new(zone), OsStr::new(DATABASE))
            .local_time(&libc::timespec { tv_sec: time, tv_nsec: 0 });
        let year = tm.tm_year + 1900;
        let month = tm.tm_mon + 1;
        format!("{year:04}-{month:02}-{:02} {:02}:{:02}:{:02}", tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec)
    }

    /// All threads share `environ`, and other tests may read it at any time. So the conversions need a process of their
    /// own.
    #[test]
    fn every_zone_has_the_time_that_date_prints_in_winter_and_in_summer() {
        let name = "sys::time_zone::tests::conversions_of_every_zone";
        let mut alone = Command::new(env::current_exe().unwrap());
        alone.args(["--exact", name, "--ignored", "--test-threads", "1"]);
        #[allow(clippy::disallowed_methods, reason = "a test may start a process")]
        let output = alone.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }

    #[test]
    #[ignore = "runs in a process of its own"]
    fn conversions_of_every_zone() {
        // 2026-01-15, 2026-07-15 and 2037-12-15 12:00 UTC. The last second before and the first second after the change
        // of the clocks on 2026-03-08 in New York. The first second after the change on 2026-03-29 in Europe.
        let times =
            [1_768_478_400, 1_784_116_800, 2_144_491_200, 1_772_953_199, 1_772_953_200, 1_774_746_000];
        let strings = [
            "",
            "UTC",
            "GMT",
            "EST5",
            "EST5EDT",
            ":EST5EDT",
            "ABC5DEF",
            ":ABC5DEF",
            "ABC5DEF,",
            "<-05>5<-04>",
            "ABC5DEF,M4.1.0,M10.5.0",
            "NZST-12NZDT,M9.5.0,M4.1.0/3",
            "A5B",
            "no/such/zone",
            "GMT+3",
            "UTC-2",
        ];
        let names = names();
        for zone in names.iter().map(String::as_str).chain(strings) {
            let ours = times.map(|time| local_time(zone, time));
            assert_eq!(date(zone, &times), ours, "TZ={zone}");
        }
    }

    #[test]
    fn a_posix_string_with_summer_time_and_without_rules_gets_the_default_rules() {
        for value in ["EST5EDT", "EST5EDT4", "EST+5:00:00EDT-4:30", "<-05>5<-04>", "EST5EDT,"] {
            let expected = format!("{},M3.2.0,M11.1.0", value.trim_end_matches(','));
            assert_eq!(*to_posix_tz(value.as_bytes()), *expected.as_bytes());
        }
        for value in ["EST5", "EST+5:30", "EST5EDT,M3.2.0,M11.1.0"] {
            assert_eq!(*to_posix_tz(value.as_bytes()), *value.as_bytes());
        }
    }

    #[test]
    fn what_is_neither_a_file_nor_a_posix_string_is_utc() {
        for value in ["", "UTC", "Europe/Berlin", "<-05", "5EST", "ESTEDT", "EST5E", "iso3166.tab"] {
            assert_eq!(*to_posix_tz(value.as_bytes()), *b"UTC0");
        }
    }
}
