//! The sections of all configuration files, merged as Python's `configparser.RawConfigParser` merges them.
//!
//! A section can have several headers. Each header begins a *part* of the section. The field `parts_by_name` is a
//! `Properties` of rust-ini: an ordered map with several values per key. Each key is the name of a section. The values
//! of the key are the indices of the section's parts, written as text. No other file uses rust-ini.
//!
//! The keys and values of the configuration are slices of the files' text where possible, because copying all of them
//! into rust-ini's `Ini` takes 4 ms more for a thousand programs, and three times the memory. rust-ini's parser is not
//! used, because Python has other rules for comments, quotes, continuation lines and indentation (see `lines.rs`), and
//! because that parser returns no line numbers.
//!
//! supervisord ignores keys that it does not know. rsup collects these keys, because `--check` warns about them.

use std::borrow::Cow;

use ini::Properties;

use super::lines::{self, LogicalLine};
use crate::config::sections::known_keys;

/// The position of a line in the configuration files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SourceLocation {
    /// The index of the file; the main file has index 0.
    pub(crate) file: usize,
    /// The line number, from 1.
    pub(crate) line: usize,
}

impl SourceLocation {
    /// A number that sorts locations by file, then by line.
    pub(crate) fn rank(self) -> i64 {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        number(self.file).saturating_mul(1 << 32).saturating_add(number(self.line))
    }
}

/// The value of a key, before its `%` expansion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Value<'a> {
    written: &'a str,
    pub(crate) location: SourceLocation,
    /// The directory that replaces `%(here)s` in the value. If the main file has an `[include]`, supervisord replaces
    /// `%(here)s` before it expands the other `%(name)s`. If the main file has no `[include]`, this field is `None`,
    /// and `%(here)s` is expanded together with the others.
    here: Option<&'a str>,
}

impl<'a> Value<'a> {
    /// Returns the text for the `%` expansion. If `here` is set, `%(here)s` is already replaced in this text.
    pub(crate) fn text(&self) -> Cow<'a, str> {
        match self.here {
            Some(here) if self.written.contains(HERE) => self.written.replace(HERE, here).into(),
            _ => self.written.into(),
        }
    }
}

/// A section with the entries below all of its headers, and with the keys that `[DEFAULT]` adds.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    pub(crate) name: &'a str,
    /// The first header of the section.
    pub(crate) location: SourceLocation,
    /// The keys that rsup knows for this kind of section, with their values. There are few such keys, so a linear
    /// search is fast. If the kind of section allows any key, this list has all keys in the order of the file.
    pub(crate) values: Vec<(&'a str, Value<'a>)>,
    /// The keys of the section that rsup does not know. Keys of `[DEFAULT]` are not included. If rsup does not know the
    /// section, this list and `values` are empty.
    pub(crate) unknown_keys: Vec<(&'a str, SourceLocation)>,
}

impl<'a> Section<'a> {
    /// The last value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Value<'a>> {
        self.values.iter().rfind(|(known, _)| *known == key).map(|(_, value)| value)
    }

    /// Sets the value of a key. If the key already has a value, the new value replaces it at the same position, as in a
    /// Python dictionary.
    fn set(&mut self, key: &'a str, value: Value<'a>) {
        match self.values.iter_mut().find(|(known, _)| *known == key) {
            Some((_, old)) => *old = value,
            None => self.values.push((key, value)),
        }
    }
}

/// A key and its value from the lines below a header.
#[derive(Debug)]
struct Entry<'t> {
    key: Cow<'t, str>,
    value: Cow<'t, str>,
    line: usize,
}

/// A header and the entries below it. A section has one part for each of its headers.
#[derive(Debug)]
struct SectionPart<'t> {
    name: &'t str,
    header: SourceLocation,
    /// The index of the first entry. The entries end where those of the next part begin.
    first_entry: usize,
}

/// The sections of all files.
#[derive(Debug, Default)]
pub(crate) struct Document<'t> {
    entries: Vec<Entry<'t>>,
    parts: Vec<SectionPart<'t>>,
    /// For the name of each section, the indices of the section's parts in `parts`. The indices are written as text,
    /// because a `Properties` holds only strings.
    parts_by_name: Properties,
    /// The directory of each file, for `%(here)s`. Empty if the main file has no `[include]` (see
    /// [`Self::add_directory`]).
    directories: Vec<String>,
}

/// The section whose keys are defaults of all other sections (`configparser.DEFAULTSECT`).
const DEFAULT: &str = "DEFAULT";
/// The text that supervisord replaces before the `%` expansion, if the main file has an `[include]`.
const HERE: &str = "%(here)s";

impl<'t> Document<'t> {
    /// Adds the sections of one file. Passes each logical line that is neither a header nor an entry to `on_problem`,
    /// with its line number.
    pub(crate) fn add_file(
        &mut self,
        text: &'t str,
        file: usize,
        mut on_problem: impl FnMut(usize, LogicalLine<'t>),
    ) {
        lines::read(text, |line, logical| match logical {
            LogicalLine::Header(name) => self.begin_part(name, SourceLocation { file, line }),
            LogicalLine::Entry(key, value) => self.entries.push(Entry { key, value, line }),
            LogicalLine::Invalid(_)
            | LogicalLine::CommentInsideQuotes(_)
            | LogicalLine::EntryLikeContinuation(_) => {
                on_problem(line, logical);
            }
        });
    }

    /// Adds one more header, without entries, for the section with this name. If no file has the section, the header
    /// creates it. If a file has the section, its entries and its location stay the same.
    pub(crate) fn add_section_if_missing(&mut self, name: &'t str) {
        self.begin_part(name, SourceLocation { file: 0, line: 1 });
    }

    fn begin_part(&mut self, name: &'t str, header: SourceLocation) {
        self.parts_by_name.append(name, self.parts.len().to_string());
        self.parts.push(SectionPart { name, header, first_entry: self.entries.len() });
    }

    /// Adds the directory that replaces `%(here)s` in the values of one file. The first call is for the main file, and
    /// each later call is for the next included file. If the main file has no `[include]`, this function is not called,
    /// because supervisord then does not call its function `expand_here`.
    pub(crate) fn add_directory(&mut self, directory: String) {
        self.directories.push(directory);
    }

    /// All sections except `[DEFAULT]`, in the order of their first headers.
    pub(crate) fn sections(&self) -> Vec<Section<'_>> {
        let defaults = self.known_default_keys();
        let is_first_of_section =
            |index, part: &SectionPart<'_>| self.part_indices(part.name).next() == Some(index);
        let first_part_per_section =
            self.parts.iter().enumerate().filter(|(index, part)| is_first_of_section(*index, part));
        let non_default_parts = first_part_per_section.filter(|(_, part)| part.name != DEFAULT);
        non_default_parts.filter_map(|(_, part)| self.section(part.name, &defaults)).collect()
    }

    /// The section with exactly this name, without the keys of `[DEFAULT]`: see [`Document::value`].
    pub(crate) fn find<'a>(&'a self, name: &'a str) -> Option<Section<'a>> {
        self.section(name, &[])
    }

    /// Returns the value of a key in a section that [`Document::find`] has returned. If the section does not set the
    /// key, returns the last value that `[DEFAULT]` sets.
    pub(crate) fn value<'a>(&'a self, section: &Section<'a>, key: &str) -> Option<Value<'a>> {
        let default = || self.defaults().filter(|(name, _)| *name == key).last().map(|(_, value)| value);
        section.get(key).copied().or_else(default)
    }

    /// Returns all entries of `[DEFAULT]`, including repeated keys, in the order of the files and lines.
    pub(crate) fn defaults(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        self.part_indices(DEFAULT).flat_map(|index| self.entries_of_part(index))
    }

    fn part_indices(&self, name: &str) -> impl Iterator<Item = usize> {
        self.parts_by_name.get_all(name).filter_map(|index| index.parse().ok())
    }

    fn entries_of_part(&self, part: usize) -> impl Iterator<Item = (&str, Value<'_>)> {
        let file = self.parts.get(part).map_or(0, |part| part.header.file);
        let here = self.directories.get(file).map(String::as_str);
        let start = self.first_entry(part);
        let end = self.first_entry(part.saturating_add(1));
        self.entries.get(start..end).unwrap_or(&[]).iter().map(move |entry| {
            let location = SourceLocation { file, line: entry.line };
            (entry.key.as_ref(), Value { written: &entry.value, location, here })
        })
    }

    /// Returns the index of the first entry below the header with the index `part`. If `part` is the number of headers,
    /// returns the number of entries, because the entries of the last header end there.
    fn first_entry(&self, part: usize) -> usize {
        self.parts.get(part).map_or(self.entries.len(), |part| part.first_entry)
    }

    fn section<'a>(&'a self, name: &'a str, defaults: &[DefaultKey<'a>]) -> Option<Section<'a>> {
        let mut parts = self.part_indices(name).peekable();
        let location = self.parts.get(*parts.peek()?)?.header;
        let mut section = Section { name, location, values: Vec::new(), unknown_keys: Vec::new() };
        let Some(known) = known_keys::of_section(name) else { return Some(section) };
        for (key, value) in parts.flat_map(|part| self.entries_of_part(part)) {
            match known {
                None => section.values.push((key, value)),
                Some(tables) if known_keys::is_in(tables, key) => section.set(key, value),
                Some(_) => section.unknown_keys.push((key, value.location)),
            }
        }
        for default in defaults {
            let is_known = known.is_none_or(|tables| known_keys::is_in(tables, default.key));
            if is_known && section.get(default.key).is_none() {
                let value = default.value_for(location.file, &self.directories);
                section.values.push((default.key, value));
            }
        }
        Some(section)
    }

    /// The keys of `[DEFAULT]` that are known in some kind of section.
    fn known_default_keys(&self) -> Vec<DefaultKey<'_>> {
        let mut keys: Vec<DefaultKey<'_>> = Vec::new();
        for (key, value) in self.defaults().filter(|(key, _)| known_keys::is_known(key)) {
            match keys.iter_mut().find(|known| known.key == key) {
                Some(known) => known.replace(value),
                None => keys.push(DefaultKey { key, old_values: Vec::new(), newest_value: value }),
            }
        }
        keys
    }
}

/// A key of `[DEFAULT]`: its newest value, and the older values that some sections keep.
///
/// At the end of each file, supervisord replaces `%(here)s` in the values of all sections that it has read so far. If a
/// section inherits a value with `%(here)s` from `[DEFAULT]`, supervisord stores the replaced value in the section
/// itself. So the section keeps this value, even if a later file sets the key in `[DEFAULT]` again.
struct DefaultKey<'a> {
    key: &'a str,
    /// The values of this key that a later file has replaced, but that some sections keep. Each comes with the index
    /// of the file that has replaced it.
    old_values: Vec<(usize, Value<'a>)>,
    newest_value: Value<'a>,
}

impl<'a> DefaultKey<'a> {
    fn replace(&mut self, value: Value<'a>) {
        let old = std::mem::replace(&mut self.newest_value, value);
        if old.location.file < value.location.file && old.here.is_some() && old.written.contains(HERE) {
            self.old_values.push((value.location.file, old));
        }
    }

    /// Returns the value that a section inherits if its first header is in the file with the index `file`.
    fn value_for(&self, file: usize, directories: &'a [String]) -> Value<'a> {
        let first = self.old_values.partition_point(|(next, _)| *next <= file);
        let value = self.old_values.get(first).map_or(self.newest_value, |(_, value)| *value);
        // supervisord copies a value with `%(here)s` to the section as soon as two files are read: the file that sets
        // the value, and the file with the section's first header. The directory of the later of these two files
        // replaces `%(here)s`.
        let copied_in_file = value.location.file.max(file);
        Value { here: directories.get(copied_in_file).map(String::as_str), ..value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document<'t>(texts: &[&'t str]) -> Document<'t> {
        let mut document = Document::default();
        for (file, text) in texts.iter().enumerate() {
            document.add_file(text, file, |line, problem| panic!("{line}: {problem:?}"));
        }
        document
    }

    fn value(document: &Document<'_>, section: &str, key: &str) -> Option<String> {
        let all = document.sections();
        let value = all.iter().find(|candidate| candidate.name == section)?.get(key)?;
        Some(value.text().into_owned())
    }

    #[test]
    fn values_are_kept_as_they_are_written() {
        let awkward = [
            "plain",
            "",
            "a=b:c",
            "\"quoted\" 'too'",
            "C:\\new\\x41\\",
            "tab\tand#hash;semi",
            "[x]",
            "1:2",
            "ünï",
            "%(here)s",
            "\\",
            "x \\",
            "\u{2028}mid\u{c}dle",
            "\0nul",
        ];
        for text in awkward {
            let file = format!("[program:s]\ncommand={text}\nuser=1\n");
            let document = document(&[&file]);
            assert_eq!(value(&document, "program:s", "command").as_deref(), Some(text.trim()), "{text:?}");
            assert_eq!(value(&document, "program:s", "user").as_deref(), Some("1"), "{text:?}");
        }
    }

    #[test]
    fn section_names_are_kept_as_they_are_written() {
        for name in [" program:y ", "a]b", "\\n", "a=b", "#x", "program:a\\"] {
            assert!(document(&[&format!("[{name}]\na=1\n")]).find(name).is_some(), "{name:?}");
        }
    }

    #[test]
    fn the_last_value_of_a_key_counts_and_a_section_stays_where_it_began() {
        let document = document(&[
            "[group:a]\nprograms=1\nPrograms=2\n[b]\n[group:a]\npriority=3\n",
            "[b]\n[group:a]\npriority=4\n[c]\n",
        ]);
        let all = document.sections();
        let names: Vec<_> = all.iter().map(|section| (section.name, section.location)).collect();
        let at = |file, line| SourceLocation { file, line };
        assert_eq!(names, [("group:a", at(0, 1)), ("b", at(0, 4)), ("c", at(1, 4))]);
        assert_eq!(value(&document, "group:a", "programs").as_deref(), Some("2"));
        assert_eq!(value(&document, "group:a", "priority").as_deref(), Some("4"));
        assert_eq!(all[0].get("priority").unwrap().location, at(1, 3));
    }

    #[test]
    fn the_keys_of_default_are_inherited_and_default_is_no_section() {
        let document =
            document(&["[group:a]\npriority=1\nx=2\n[DEFAULT]\npriority=9\nprograms=8\nfiles=7\n"]);
        let all = document.sections();
        assert_eq!(all.len(), 1);
        assert_eq!(value(&document, "group:a", "priority").as_deref(), Some("1"));
        assert_eq!(value(&document, "group:a", "programs").as_deref(), Some("8"));
        assert_eq!(all[0].unknown_keys, [("x", SourceLocation { file: 0, line: 3 })]);
        let defaults: Vec<_> = document.defaults().map(|(key, _)| key).collect();
        assert_eq!(defaults, ["priority", "programs", "files"]);
    }

    #[test]
    fn here_is_replaced_by_the_directory_of_each_file() {
        let mut document = document(&[
            "[program:a]\ncommand=%(here)s\nuser=%%(here)s\n[DEFAULT]\ndirectory=%(here)s\n",
            "[program:b]\ncommand=%(here)s\n[DEFAULT]\ndirectory=plain\n",
            "[program:c]\n[program:a]\ncommand=%(here)s\n",
            "[DEFAULT]\ndirectory=%(here)s\n[program:d]\ndirectory=own\n",
            "[program:e]\n",
        ]);
        for directory in ["/0", "/1", "/2", "/3", "/4"] {
            document.add_directory(directory.to_owned());
        }
        let got = |section: &str, key: &str| value(&document, &format!("program:{section}"), key).unwrap();
        assert_eq!((got("a", "command"), got("a", "user")), ("/2".to_owned(), "%/0".to_owned()));
        assert_eq!(got("b", "command"), "/1");
        let directories = ["a", "b", "c", "d", "e"].map(|section| got(section, "directory"));
        assert_eq!(directories, ["/0", "/3", "/3", "own", "/4"]);
    }
}
