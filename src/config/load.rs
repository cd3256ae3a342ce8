//! Finds the configuration file and reads it and its includes: the only file of the room that looks at the disk.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::model::{Inputs, Loaded, Overrides};
use super::report::{Notice, Report, SectionKey, Severity};
use super::warnings;
use crate::config::grammar::document::{Document, SourceLocation};
use crate::config::grammar::expand::{ExpansionVars, expand};
use crate::config::grammar::glob::{is_magic, join, matches, normal};
use crate::config::grammar::lines::LogicalLine;
use crate::config::grammar::ordered::{EnvMap, StableSort};
use crate::config::sections::assemble::assemble;
use crate::policy::Level;

/// What all files together may hold: a few ten thousand programs. This only keeps a mistake from filling the memory.
const MAX_BYTES: u64 = 4 << 20;
/// The key that names the included files.
const INCLUDE_FILES: SectionKey<'_> = SectionKey { section: "include", key: "files" };
/// Why a file that exceeds this is not read.
const TOO_LARGE: &str = ": too large";
/// How many paths all patterns may match, on their way too: `/*/*/*/*` must not walk for ever.
const MAX_FILES: usize = 10_000;

/// The configuration file where none is named: the first of supervisord's search path that exists. `program` is the path
/// of rsup's own executable, beside whose directory the search begins.
///
/// # Errors
/// supervisord's text when none exists.
pub fn find(program: &Path) -> Result<PathBuf, String> {
    first(&search_path(program))
}

/// supervisord's places, in its order.
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

/// The first of these paths that exists.
fn first(paths: &[PathBuf]) -> Result<PathBuf, String> {
    paths.iter().find(|path| path.exists()).cloned().ok_or_else(|| {
        let searched: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        format!(
            "No config file found at default paths ({}); use the -c option to specify a config file at a different path",
            searched.join(", ")
        )
    })
}

/// Reads a file and its includes and makes of them what can be made; everything that is wrong is in the report.
#[must_use]
pub fn load(file: &Path, overrides: &Overrides, inputs: &Inputs<'_>) -> Loaded {
    let mut loader = Loader::new(file);
    let main = loader.main(file);
    let mut sections = Document::default();
    loader.merge(&mut sections, 0, &main);
    let included = loader.includes(&mut sections, inputs);
    for File { id, directory, text } in &included {
        loader.merge(&mut sections, *id, text);
        sections.replace_here(directory.clone());
    }
    sections.ensure("supervisord");
    let Loader { here, report, notices, .. } = loader;
    assemble(&sections, overrides, inputs, &here, report, notices)
}

/// An included file.
struct File {
    /// Its number in the report.
    id: usize,
    directory: String,
    text: String,
}

struct Loader {
    /// Directory of the main file, as named: symbolic links are not resolved.
    here: String,
    report: Report,
    notices: Vec<Notice>,
    /// Bytes that may still be read.
    bytes_left: u64,
    walk: Walk,
    included: Vec<File>,
}

impl Loader {
    fn new(file: &Path) -> Self {
        Loader {
            here: directory(file),
            report: Report::default(),
            notices: Vec::new(),
            bytes_left: MAX_BYTES,
            // One more than may be, to tell when there are more.
            walk: Walk { left: MAX_FILES.saturating_add(1) },
            included: Vec::new(),
        }
    }

    /// The text of the main file; nothing when it cannot be read.
    fn main(&mut self, file: &Path) -> String {
        let name = file.to_string_lossy().into_owned();
        let why = match self.read(file) {
            Ok(bytes) => {
                let id = self.report.add_file(name);
                return self.decode(id, bytes);
            }
            Err(_) if !file.exists() => format!("could not find config file {name}"),
            Err(why) => format!("could not read config file {name}{why}"),
        };
        self.error(None, why);
        String::new()
    }

    /// A regular file's bytes. A FIFO would block and a device never ends.
    fn read(&mut self, path: &Path) -> Result<Vec<u8>, &'static str> {
        let metadata = fs::metadata(path).map_err(|_| "")?;
        if !metadata.is_file() {
            return Err(if metadata.is_dir() { "" } else { ": not a regular file" });
        }
        let limit = self.bytes_left.saturating_add(1);
        let mut bytes =
            Vec::with_capacity(usize::try_from(metadata.len().min(limit)).unwrap_or(0).saturating_add(1));
        let file = fs::File::open(path).map_err(|_| "")?;
        let length = file.take(limit).read_to_end(&mut bytes).map_err(|_| "")?;
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        self.bytes_left = self.bytes_left.checked_sub(length).ok_or(TOO_LARGE)?;
        Ok(bytes)
    }

    /// A file's text. What is no UTF-8 is an error, and replaced to find what else is wrong.
    fn decode(&mut self, file: usize, bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap_or_else(|error| {
            let (line, why) = undecodable(error.as_bytes(), error.utf8_error());
            self.error(Some(SourceLocation { file, line }), why);
            String::from_utf8_lossy(error.as_bytes()).into_owned()
        })
    }

    /// Takes a file's sections in.
    fn merge<'t>(&mut self, sections: &mut Document<'t>, file: usize, text: &'t str) {
        sections.merge(text, file, |line, what| {
            let (severity, why) = match what {
                LogicalLine::Wrong(why) => (Severity::Error, why),
                LogicalLine::CommentInsideQuotes(rest) => (Severity::Warning, cut_quotes(rest)),
                LogicalLine::IndentedEntry(name) if warnings::is_known_section_or_key(name) => {
                    (Severity::Warning, swallowed(name))
                }
                LogicalLine::IndentedEntry(_) | LogicalLine::Header(_) | LogicalLine::Entry(..) => return,
            };
            self.report.add(severity, Some(SourceLocation { file, line }), SectionKey::NONE, why);
        });
    }

    /// Reads what `[include] files` of the main file names; an `[include]` in an included file is without effect.
    fn includes(&mut self, sections: &mut Document<'_>, inputs: &Inputs<'_>) -> Vec<File> {
        if sections.find("include").is_some() {
            sections.replace_here(self.here.clone());
            self.include_all(sections, inputs);
        }
        std::mem::take(&mut self.included)
    }

    fn include_all(&mut self, sections: &Document<'_>, inputs: &Inputs<'_>) {
        let Some(section) = sections.find("include") else { return };
        let Some(files) = section.get("files") else {
            let why = ".ini file has [include] section, but no files setting".to_owned();
            self.report.add(
                Severity::Error,
                Some(section.location),
                SectionKey { section: "include", key: "" },
                why,
            );
            return;
        };
        let place = files.location;
        let environment = EnvMap::from(inputs.environment);
        let here = self.here.clone();
        let names = ExpansionVars {
            here: Some(&here),
            host: Some(inputs.host),
            ..ExpansionVars::variables(&environment)
        };
        match expand(&files.text(), &names, "include.files") {
            Ok(patterns) => {
                for pattern in patterns
                    .split(crate::config::grammar::python::is_space)
                    .filter(|pattern| !pattern.is_empty())
                {
                    self.include(&join(&here, pattern), place);
                }
            }
            Err(why) => self.report.add(Severity::Error, Some(place), INCLUDE_FILES, why),
        }
    }

    fn include(&mut self, pattern: &str, place: SourceLocation) {
        if self.walk.left == 0 {
            return;
        }
        let matches = self.walk.matches(pattern);
        if self.walk.left == 0 {
            let why = format!("{pattern} comes to more files than the {MAX_FILES} that are looked at");
            self.report.add(Severity::Error, Some(place), INCLUDE_FILES, why);
        } else if matches.is_empty() {
            let why = format!("No file matches via include \"{pattern}\"");
            self.report.add(Severity::Warning, Some(place), INCLUDE_FILES, why.clone());
            self.notices.push(Notice { level: Level::Warn, text: why });
        }
        for path in matches {
            self.include_file(&path, place);
        }
    }

    /// A match that cannot be read is passed over, as supervisord does, though not without a word.
    fn include_file(&mut self, path: &Path, place: SourceLocation) {
        let name = path.to_string_lossy().into_owned();
        self.notices.push(Notice {
            level: Level::Info,
            text: format!("Included extra file \"{name}\" during parsing"),
        });
        match self.read(path) {
            Ok(bytes) => {
                let id = self.report.add_file(name);
                let text = self.decode(id, bytes);
                self.included.push(File { id, directory: directory(path), text });
            }
            Err(why) => {
                let severity = if why == TOO_LARGE { Severity::Error } else { Severity::Warning };
                let why = format!("could not read {name}{why}");
                self.report.add(severity, Some(place), INCLUDE_FILES, why.clone());
                self.notices.push(Notice { level: Level::Warn, text: why });
            }
        }
    }

    fn error(&mut self, place: Option<SourceLocation>, why: String) {
        self.report.add(Severity::Error, place, SectionKey::NONE, why);
    }
}

/// A walk through directories that ends when it comes to nothing.
struct Walk {
    /// How many paths may still be found.
    left: usize,
}

impl Walk {
    /// The paths that match, sorted; a pattern without wildcards matches a path that exists.
    fn matches(&mut self, pattern: &str) -> Vec<PathBuf> {
        let paths = self.expand(pattern);
        let mut order = StableSort::default();
        for path in &paths {
            order.push(0, path.to_string_lossy().into_owned());
        }
        order.apply(paths).collect()
    }

    fn expand(&mut self, pattern: &str) -> Vec<PathBuf> {
        if !is_magic(pattern) {
            return self.existing(PathBuf::from(pattern));
        }
        let (directory, name) = pattern.rsplit_once('/').unwrap_or(("", pattern));
        let directory = if directory.is_empty() && pattern.starts_with('/') { "/" } else { directory };
        let directories =
            if is_magic(directory) { self.expand(directory) } else { vec![PathBuf::from(directory)] };
        directories.iter().flat_map(|directory| self.inside(directory, name)).collect()
    }

    /// The entries of one directory that match the last part of a pattern.
    fn inside(&mut self, directory: &Path, pattern: &str) -> Vec<PathBuf> {
        if !is_magic(pattern) {
            return self.existing(directory.join(pattern));
        }
        let Ok(entries) =
            fs::read_dir(if directory.as_os_str().is_empty() { Path::new(".") } else { directory })
        else {
            return Vec::new();
        };
        let names = entries.filter_map(|entry| entry.ok().map(|entry| entry.file_name()));
        let visible =
            names.filter(|name| pattern.starts_with('.') || !name.as_encoded_bytes().starts_with(b"."));
        let matching = visible.filter(|name| matches(pattern, &name.to_string_lossy()));
        let found: Vec<_> = matching.take(self.left).map(|name| directory.join(name)).collect();
        self.left = self.left.saturating_sub(found.len());
        found
    }

    fn existing(&mut self, path: PathBuf) -> Vec<PathBuf> {
        let exists = self.left > 0 && fs::symlink_metadata(&path).is_ok();
        self.left = self.left.saturating_sub(usize::from(exists));
        exists.then_some(path).into_iter().collect()
    }
}

/// The absolute directory of a file, without `.` and `..` but with its symbolic links.
fn directory(file: &Path) -> String {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf());
    normal(&absolute.parent().unwrap_or(Path::new("/")).to_string_lossy())
}

fn cut_quotes(rest: &str) -> String {
    format!(
        "a comment begins inside the quotes: only {} is left of this line",
        crate::config::grammar::python::repr(rest)
    )
}

fn swallowed(name: &str) -> String {
    format!("{} is indented and so part of the value above it", crate::config::grammar::python::repr(name))
}

/// Line and text of a decoding error, as Python words it.
fn undecodable(bytes: &[u8], error: std::str::Utf8Error) -> (usize, String) {
    let start = error.valid_up_to();
    let (good, bad) = bytes.split_at_checked(start).unwrap_or((bytes, &[]));
    let first = bad.first().copied().unwrap_or(0);
    let length = error.error_len().unwrap_or(bad.len());
    let reason = match (error.error_len(), first) {
        (None, _) => "unexpected end of data",
        (Some(_), 0xC2..=0xF4) => "invalid continuation byte",
        (Some(_), _) => "invalid start byte",
    };
    let what = match length {
        0 | 1 => format!("byte 0x{first:02x} in position {start}"),
        _ => format!("bytes in position {start}-{}", start.saturating_add(length).saturating_sub(1)),
    };
    let line_ends = |good: &str| good.replace("\r\n", "\n").matches(['\n', '\r']).count();
    let line = line_ends(&String::from_utf8_lossy(good)).saturating_add(1);
    (line, format!("'utf-8' codec can't decode {what}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_errors_read_as_pythons() {
        let table: [(&[u8], usize, &str); 5] = [
            (b"[s]\na=\xff\n", 2, "byte 0xff in position 6: invalid start byte"),
            (b"\xc3(", 1, "byte 0xc3 in position 0: invalid continuation byte"),
            (b"\xe2\x82(", 1, "bytes in position 0-1: invalid continuation byte"),
            (b"a\xe2\x82", 1, "bytes in position 1-2: unexpected end of data"),
            (b"[s]\r\na=1\r\xff", 3, "byte 0xff in position 9: invalid start byte"),
        ];
        for (bytes, line, want) in table {
            let error = std::str::from_utf8(bytes).unwrap_err();
            assert_eq!(undecodable(bytes, error), (line, format!("'utf-8' codec can't decode {want}")));
        }
    }

    #[test]
    fn the_search_path_is_named_when_it_is_empty() {
        let paths = search_path(Path::new("/nowhere/bin/rsup"));
        let [beside, below, ..] = paths;
        let text = first(&[beside, below]).unwrap_err();
        let want = "No config file found at default paths (/nowhere/etc/supervisord.conf, \
                    /nowhere/supervisord.conf); use the -c option";
        assert!(text.starts_with(want), "{text}");
    }
}
