//! Finds the configuration file, and reads it and its includes. This is the only file of `config` that uses the file
//! system. `sys` lists the directories, because `std::fs::read_dir` can panic.
//!
//! The order of the search, of the includes and of the messages is that of supervisord's `Options.default_configfile`
//! and `ServerOptions.read_config`. rsup differs in this: it reads only regular files, always as UTF-8, up to a limit;
//! it reports every error instead of the first; and it reports an included file that it cannot read, which
//! supervisord skips without a message.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::model::{ClientSettings, ListDirectory, Loaded, Machine, Overrides};
use super::report::{Notice, Report, SectionKey, Severity};
use super::sections::value::unix_url;
use super::warnings;
use crate::config::grammar::collections::{EnvMap, StableSort};
use crate::config::grammar::document::{Document, SourceLocation};
use crate::config::grammar::expand::{ExpansionVars, expand};
use crate::config::grammar::glob::{has_wildcards, join, matches, normal};
use crate::config::grammar::lines::LogicalLine;
use crate::config::grammar::python::{is_space, repr};
use crate::config::sections::assemble::assemble;
use crate::policy::Level;

/// Limit on the bytes of all files together, which is enough for tens of thousands of programs. Without a limit, an
/// include pattern that matches large files of another kind would fill the memory.
const MAX_TOTAL_BYTES: u64 = 4 << 20;
const TOO_LARGE: &str = ": too large";
/// Limit on the number of paths that all patterns match together. Directories that match a part of a pattern count too,
/// because `/*/*/*/*` matches most of a file system.
const MAX_PATHS: usize = 10_000;
const INCLUDE_FILES: SectionKey<'_> = SectionKey { section: "include", key: "files" };

/// Returns the first file of supervisord's search path that exists. `program` is the path of rsup's executable: the
/// search begins in the parent of the executable's directory.
///
/// # Errors
/// Returns supervisord's message if none of the files exists.
pub fn find_config_file(program: &Path) -> Result<PathBuf, String> {
    first_existing(&search_path(program))
}

fn search_path(program: &Path) -> [PathBuf; 6] {
    let prefix = program.parent().and_then(Path::parent).unwrap_or(Path::new(""));
    [
        prefix.join("etc/supervisord.conf"),
        prefix.join("supervisord.conf"),
        "supervisord.conf".into(),
        "etc/supervisord.conf".into(),
        "/etc/supervisord.conf".into(),
        "/etc/supervisor/supervisord.conf".into(),
    ]
}

fn first_existing(paths: &[PathBuf]) -> Result<PathBuf, String> {
    paths.iter().find(|path| path.exists()).cloned().ok_or_else(|| {
        let searched: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        format!(
            "No config file found at default paths ({}); use the -c option to specify a config file at a different path",
            searched.join(", ")
        )
    })
}

/// Loads a configuration file and its includes. The report lists all errors and warnings; after an error there is no
/// configuration.
#[must_use]
pub fn load(file: &Path, overrides: &Overrides, machine: &Machine<'_>) -> Loaded {
    let mut loader = Loader::new(file, machine);
    let main = loader.read_main_file(file);
    let mut document = Document::default();
    loader.add_file(&mut document, 0, &main);
    let included = loader.read_includes(&mut document, machine);
    for IncludedFile { index, directory, text } in &included {
        loader.add_file(&mut document, *index, text);
        document.add_directory(directory.clone());
    }
    // supervisord requires this section. In rsup it may be missing, because all of its keys have defaults.
    document.add_section_if_missing("supervisord");
    let Loader { here, report, notices, .. } = loader;
    assemble(&document, overrides, machine, &here, report, notices)
}

/// Reads the keys of `[supervisorctl]` that rsup's client uses. As in supervisord, an included file is not read. The
/// client works without a file, so a key keeps its default if the file cannot be read or the value has an error.
#[must_use]
pub fn client_settings(file: &Path, machine: &Machine<'_>) -> ClientSettings {
    let mut loader = Loader::new(file, machine);
    let text = loader.read_main_file(file);
    let mut document = Document::default();
    loader.add_file(&mut document, 0, &text);
    let environment = EnvMap::from(machine.environment);
    let vars = ExpansionVars {
        here: Some(&loader.here),
        non_utf8_env_names: machine.non_utf8_env_names,
        ..ExpansionVars::with_env_only(&environment)
    };
    let section = document.find("supervisorctl");
    let value = |key| expand(&document.value(section.as_ref()?, key)?.text(), &vars, &key).ok();
    let mut settings = ClientSettings::default();
    if let Some(url) = value("serverurl") {
        settings.supervisorctl_server_url = url.strip_prefix("unix://").map(unix_url).unwrap_or(url);
    }
    if let Some(prompt) = value("prompt") {
        settings.prompt = prompt;
    }
    settings
}

struct IncludedFile {
    /// The index of the file in the report.
    index: usize,
    directory: String,
    text: String,
}

struct Loader<'a> {
    /// The directory of the main file. Symbolic links in the path of the directory are not resolved.
    here: String,
    report: Report,
    notices: Vec<Notice>,
    /// How many more bytes may be read.
    bytes_left: u64,
    glob: Glob<'a>,
    included: Vec<IncludedFile>,
}

impl<'a> Loader<'a> {
    fn new(file: &Path, machine: &Machine<'a>) -> Self {
        Loader {
            here: directory(file),
            report: Report::default(),
            notices: Vec::new(),
            bytes_left: MAX_TOTAL_BYTES,
            // The count begins one above the limit: when it reaches zero, the limit is exceeded.
            glob: Glob { paths_left: MAX_PATHS.saturating_add(1), list_directory: machine.list_directory },
            included: Vec::new(),
        }
    }

    /// Returns the text of the main file. If the file cannot be read, reports an error and returns no text.
    fn read_main_file(&mut self, file: &Path) -> String {
        let name = file.to_string_lossy().into_owned();
        let why = match self.read(file) {
            Ok(bytes) => {
                let index = self.report.add_file(name);
                return self.decode(index, bytes);
            }
            Err(why) => match file.try_exists() {
                Ok(true) => format!("could not read config file {name}{why}"),
                Ok(false) => format!("could not find config file {name}"),
                Err(error) => format!("could not find config file {name}{}", reason(&error)),
            },
        };
        self.report.add(Severity::Error, None, SectionKey::NONE, why);
        String::new()
    }

    /// Reads a regular file. Other files are refused, because a FIFO would block and a device may have no end.
    ///
    /// # Errors
    /// Returns the end of the error message, which says why.
    fn read(&mut self, path: &Path) -> Result<Vec<u8>, String> {
        let failed = |error: io::Error| reason(&error);
        let metadata = fs::metadata(path).map_err(failed)?;
        if !metadata.is_file() {
            let why = if metadata.is_dir() { ": Is a directory" } else { ": not a regular file" };
            return Err(why.to_owned());
        }
        // At most one byte more than is allowed is read. If that byte can be read, the file is too large.
        let read_limit = self.bytes_left.saturating_add(1);
        let capacity = usize::try_from(metadata.len().min(read_limit)).unwrap_or(0).saturating_add(1);
        let mut bytes = Vec::with_capacity(capacity);
        let file = fs::File::open(path).map_err(failed)?;
        let length = file.take(read_limit).read_to_end(&mut bytes).map_err(failed)?;
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        self.bytes_left = self.bytes_left.checked_sub(length).ok_or(TOO_LARGE)?;
        Ok(bytes)
    }

    /// Returns the text of a file. Reports invalid UTF-8 as an error, and replaces it with U+FFFD, so that one run also
    /// finds the other errors of the file. A file in UTF-16 or UTF-32 gets only one error, because none of its lines
    /// could be read.
    fn decode(&mut self, file: usize, bytes: Vec<u8>) -> String {
        if is_utf_16_or_32(&bytes) {
            let location = SourceLocation { file, line: 1 };
            let why = "the file is encoded in UTF-16 or UTF-32, and must be UTF-8".to_owned();
            self.report.add(Severity::Error, Some(location), SectionKey::NONE, why);
            return String::new();
        }
        String::from_utf8(bytes).unwrap_or_else(|error| {
            let (line, why) = decode_error(error.as_bytes(), error.utf8_error());
            self.report.add(Severity::Error, Some(SourceLocation { file, line }), SectionKey::NONE, why);
            String::from_utf8_lossy(error.as_bytes()).into_owned()
        })
    }

    /// Adds the sections of a file to the document, and reports the problems of its lines.
    fn add_file<'t>(&mut self, document: &mut Document<'t>, file: usize, text: &'t str) {
        document.add_file(text, file, |line, problem| {
            let (severity, why) = match problem {
                LogicalLine::Invalid(why) => (Severity::Error, why),
                LogicalLine::CommentInsideQuotes(kept) => {
                    (Severity::Warning, comment_in_quotes_warning(kept))
                }
                LogicalLine::EntryLikeContinuation(name) if warnings::is_section_or_program_key(name) => {
                    (Severity::Warning, indented_entry_warning(name))
                }
                LogicalLine::EntryLikeContinuation(_) | LogicalLine::Header(_) | LogicalLine::Entry(..) => {
                    return;
                }
            };
            self.report.add(severity, Some(SourceLocation { file, line }), SectionKey::NONE, why);
        });
    }

    /// Reads the files that match the patterns in the key `files` of the main file's `[include]` section. As in
    /// supervisord, an `[include]` in an included file has no effect.
    fn read_includes(&mut self, document: &mut Document<'_>, machine: &Machine<'_>) -> Vec<IncludedFile> {
        if document.find("include").is_some() {
            document.add_directory(self.here.clone());
            self.read_include_section(document, machine);
        }
        std::mem::take(&mut self.included)
    }

    fn read_include_section(&mut self, document: &Document<'_>, machine: &Machine<'_>) {
        let Some(section) = document.find("include") else { return };
        let Some(files) = document.value(&section, "files") else {
            let why = ".ini file has [include] section, but no files setting".to_owned();
            let subject = SectionKey { section: "include", key: "" };
            self.report.add(Severity::Error, Some(section.location), subject, why);
            return;
        };
        let location = files.location;
        let environment = EnvMap::from(machine.environment);
        let here = self.here.clone();
        let vars = ExpansionVars {
            here: Some(&here),
            host: Some(machine.host),
            non_utf8_env_names: machine.non_utf8_env_names,
            ..ExpansionVars::with_env_only(&environment)
        };
        match expand(&files.text(), &vars, &"include.files") {
            Ok(patterns) => {
                for pattern in patterns.split(is_space).filter(|pattern| !pattern.is_empty()) {
                    self.include_pattern(&join(&here, pattern), location);
                }
            }
            Err(why) => self.report.add(Severity::Error, Some(location), INCLUDE_FILES, why),
        }
    }

    fn include_pattern(&mut self, pattern: &str, location: SourceLocation) {
        if self.glob.paths_left == 0 {
            return;
        }
        let paths = self.glob.paths(pattern);
        if self.glob.paths_left == 0 {
            let why = format!("{pattern} exceeds the limit of {MAX_PATHS} matching paths");
            self.report.add(Severity::Error, Some(location), INCLUDE_FILES, why);
        } else if paths.is_empty() {
            let why = format!("No file matches via include \"{pattern}\"");
            self.report.add(Severity::Warning, Some(location), INCLUDE_FILES, why.clone());
            self.notices.push(Notice { level: Level::Warn, text: why });
        }
        for path in paths {
            self.include_file(&path, location);
        }
    }

    fn include_file(&mut self, path: &Path, location: SourceLocation) {
        let name = path.to_string_lossy().into_owned();
        // supervisord logs this line before it opens the file, and so also for a file that it cannot read.
        let text = format!("Included extra file \"{name}\" during parsing");
        self.notices.push(Notice { level: Level::Info, text });
        match self.read(path) {
            Ok(bytes) => {
                let index = self.report.add_file(name);
                let text = self.decode(index, bytes);
                self.included.push(IncludedFile { index, directory: directory(path), text });
            }
            Err(why) => {
                let severity = if why == TOO_LARGE { Severity::Error } else { Severity::Warning };
                let why = format!("could not read {name}{why}");
                self.report.add(severity, Some(location), INCLUDE_FILES, why.clone());
                self.notices.push(Notice { level: Level::Warn, text: why });
            }
        }
    }
}

/// Python's `glob.glob`, with sorted results and a limit on the number of paths.
struct Glob<'a> {
    /// How many more paths may match.
    paths_left: usize,
    list_directory: &'a ListDirectory,
}

impl Glob<'_> {
    /// Returns the paths that match, sorted by their text, as supervisord sorts them. A pattern without wildcards
    /// matches a path that exists.
    fn paths(&mut self, pattern: &str) -> Vec<PathBuf> {
        let paths = self.unsorted_paths(pattern);
        let mut order = StableSort::default();
        for path in &paths {
            order.push(0, path.to_string_lossy().into_owned());
        }
        order.apply(paths).collect()
    }

    fn unsorted_paths(&mut self, pattern: &str) -> Vec<PathBuf> {
        if !has_wildcards(pattern) {
            return self.if_it_exists(PathBuf::from(pattern));
        }
        let (directory, name) = pattern.rsplit_once('/').unwrap_or(("", pattern));
        let directory = if directory.is_empty() && pattern.starts_with('/') { "/" } else { directory };
        let directories = if has_wildcards(directory) {
            self.unsorted_paths(directory)
        } else {
            vec![PathBuf::from(directory)]
        };
        let mut found = Vec::new();
        for directory in &directories {
            found.append(&mut self.matches_in(directory, name));
        }
        found
    }

    /// Returns the paths in one directory whose names match `pattern`, which is the last component of a path pattern.
    fn matches_in(&mut self, directory: &Path, pattern: &str) -> Vec<PathBuf> {
        if !has_wildcards(pattern) {
            return self.if_it_exists(directory.join(pattern));
        }
        let listed = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        let names = (self.list_directory)(listed);
        let matchable_names =
            names.filter(|name| pattern.starts_with('.') || !name.as_encoded_bytes().starts_with(b"."));
        let matching = matchable_names.filter(|name| matches(pattern, &name.to_string_lossy()));
        let found: Vec<_> = matching.take(self.paths_left).map(|name| directory.join(name)).collect();
        self.paths_left = self.paths_left.saturating_sub(found.len());
        found
    }

    fn if_it_exists(&mut self, path: PathBuf) -> Vec<PathBuf> {
        let exists = self.paths_left > 0 && fs::symlink_metadata(&path).is_ok();
        self.paths_left = self.paths_left.saturating_sub(usize::from(exists));
        exists.then_some(path).into_iter().collect()
    }
}

/// Returns the absolute directory of a file, without `.` and `..`. Symbolic links are not resolved
/// (`os.path.abspath(os.path.dirname(file))`). If a seccomp filter refuses getcwd(2), the result for a relative path is
/// a path relative to rsup's working directory, for example `./`.
fn directory(file: &Path) -> String {
    let parent = |file: &Path| file.parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned();
    std::path::absolute(file).map_or_else(|_| join(".", &parent(file)), |file| normal(&parent(&file)))
}

fn comment_in_quotes_warning(kept: &str) -> String {
    format!("a comment begins inside the quotes, so this line ends after {}", repr(kept))
}

fn indented_entry_warning(name: &str) -> String {
    format!("{} is indented, so this line continues the value above it", repr(name))
}

/// Returns the end of a message about an error of the file system.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    // The number of the error is left out, because the text already says what it means.
    format!(": {}", text.split_once(" (os error").map_or(&*text, |(text, _)| text))
}

/// Returns whether a file begins with a byte order mark of UTF-16 or UTF-32, or with ASCII characters in one of them.
fn is_utf_16_or_32(bytes: &[u8]) -> bool {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, 0, 0xfe, 0xff, ..] => true,
        [first, 0, 0, 0, ..] | [0, 0, 0, first, ..] => first.is_ascii() && *first != 0,
        [first, 0, second, 0, ..] | [0, first, 0, second, ..] => {
            first.is_ascii() && second.is_ascii() && *first != 0 && *second != 0
        }
        _ => false,
    }
}

/// Returns the line number of the first invalid byte, and a message in the words of Python's `UnicodeDecodeError`. The
/// position in the message is counted from the start of the file.
fn decode_error(bytes: &[u8], error: std::str::Utf8Error) -> (usize, String) {
    let start = error.valid_up_to();
    let (valid, invalid) = bytes.split_at_checked(start).unwrap_or((bytes, &[]));
    let first = invalid.first().copied().unwrap_or(0);
    let length = error.error_len().unwrap_or(invalid.len());
    let reason = match (error.error_len(), first) {
        (None, _) => "unexpected end of data",
        (Some(_), 0xC2..=0xF4) => "invalid continuation byte",
        (Some(_), _) => "invalid start byte",
    };
    let byte_position_text = match length {
        0 | 1 => format!("byte 0x{first:02x} in position {start}"),
        _ => format!("bytes in position {start}-{}", start.saturating_add(length).saturating_sub(1)),
    };
    let text = String::from_utf8_lossy(valid).replace("\r\n", "\n");
    let line = text.matches(['\n', '\r']).count().saturating_add(1);
    (line, format!("'utf-8' codec can't decode {byte_position_text}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decode_errors_have_the_text_and_line_of_pythons() {
        let table: [(&[u8], usize, &str); 5] = [
            (b"[s]\na=\xff\n", 2, "byte 0xff in position 6: invalid start byte"),
            (b"\xc3(", 1, "byte 0xc3 in position 0: invalid continuation byte"),
            (b"\xe2\x82(", 1, "bytes in position 0-1: invalid continuation byte"),
            (b"a\xe2\x82", 1, "bytes in position 1-2: unexpected end of data"),
            (b"[s]\r\na=1\r\xff", 3, "byte 0xff in position 9: invalid start byte"),
        ];
        for (bytes, line, want) in table {
            let error = std::str::from_utf8(bytes).unwrap_err();
            assert_eq!(decode_error(bytes, error), (line, format!("'utf-8' codec can't decode {want}")));
        }
    }

    #[test]
    fn the_keys_of_the_client_are_read_and_have_defaults() {
        let environment = [("NAME".to_owned(), "ctl".to_owned())];
        let machine = Machine {
            environment: &environment,
            non_utf8_env_names: &[],
            host: "",
            list_directory: &crate::sys::list_directory,
            check_user: &|_| Ok(()),
            try_step: None,
        };
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.conf");
        let settings = |text: &str| {
            fs::write(&file, text).unwrap();
            client_settings(&file, &machine)
        };
        let here = directory.path().display();
        let read = settings("[supervisorctl]\nserverurl=unix://%(here)s/x/../a.sock\nprompt=%(ENV_NAME)s\n");
        assert_eq!(
            (&*read.supervisorctl_server_url, &*read.prompt),
            (&*format!("unix://{here}/a.sock"), "ctl")
        );
        let read = settings("[supervisorctl]\nserverurl=http://127.0.0.1:9001\nprompt=%(ENV_NONE)s\nx\n");
        assert_eq!((&*read.supervisorctl_server_url, &*read.prompt), ("http://127.0.0.1:9001", "supervisor"));
        let read =
            settings("[DEFAULT]\nserverurl=unix:///a\nserverurl=unix:///b\n[supervisorctl]\nprompt=p\n");
        assert_eq!((&*read.supervisorctl_server_url, &*read.prompt), ("unix:///b", "p"));
        for read in [settings("[a\n"), client_settings(Path::new("/nowhere"), &machine)] {
            assert_eq!(
                (&*read.supervisorctl_server_url, &*read.prompt),
                ("http://localhost:9001", "supervisor")
            );
        }
    }

    #[test]
    fn utf_16_is_recognised_with_and_without_a_byte_order_mark() {
        for bytes in
            [&b"\xff\xfe[\0"[..], b"\xfe\xff\0[", b"[\0p\0", b"\0[\0p", b"\xff\xfe\0\0", b"\0\0\xfe\xff"]
        {
            assert!(is_utf_16_or_32(bytes), "{bytes:02x?}");
        }
        for bytes in [&b""[..], b"[program:x]", b"\xef\xbb\xbf[x]", b"#\0x\n", b"\0\0\0\0", b"\0", b"\xff["] {
            assert!(!is_utf_16_or_32(bytes), "{bytes:02x?}");
        }
    }

    #[test]
    fn the_message_names_the_searched_paths_if_no_file_exists() {
        let paths = search_path(Path::new("/nowhere/bin/rsup"));
        let [in_etc, in_prefix, ..] = paths;
        let text = first_existing(&[in_etc, in_prefix]).unwrap_err();
        let want = "No config file found at default paths (/nowhere/etc/supervisord.conf, \
                    /nowhere/supervisord.conf); use the -c option";
        assert!(text.starts_with(want), "{text}");
    }
}
