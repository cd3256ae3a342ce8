//! Logical lines to sections. The only file that names rust-ini, whose properties, which keep their order and may have
//! several values, are the table of contents: for each section the parts of the files that it is made of. The values
//! stay in the text. rust-ini's parser is not used: comments, quotes, continuations and indentation mean something else
//! to it than to Python (see `lines.rs`), and it knows no line numbers.

use std::borrow::Cow;

use ini::Properties;

use super::lines::{self, LogicalLine};
use crate::config::sections::known_keys;

/// Where something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SourceLocation {
    /// Index of the file, the main one being 0.
    pub(crate) file: usize,
    /// Number of the line, from 1.
    pub(crate) line: usize,
}

impl SourceLocation {
    /// A number that orders places: by file, then by line.
    pub(crate) fn rank(self) -> i64 {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        number(self.file).saturating_mul(1 << 32).saturating_add(number(self.line))
    }
}

/// The text of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Value<'a> {
    written: &'a str,
    pub(crate) location: SourceLocation,
    /// The directory that `%(here)s` is replaced by as plain text, before anything else.
    here: Option<&'a str>,
}

impl<'a> Value<'a> {
    /// The text, not yet expanded.
    pub(crate) fn text(&self) -> Cow<'a, str> {
        match self.here {
            Some(here) if self.written.contains(HERE) => self.written.replace(HERE, here).into(),
            _ => self.written.into(),
        }
    }
}

/// A section, opened for reading: its own keys and those it inherits.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    pub(crate) name: &'a str,
    /// Its first header.
    pub(crate) location: SourceLocation,
    /// The keys that something reads: a few, so that looking for one is cheap, whatever else the section holds. Where
    /// any key is fine, all of them in the order they are set.
    pub(crate) values: Vec<(&'a str, Value<'a>)>,
    /// Its own other keys, and where they stand.
    pub(crate) unknown: Vec<(&'a str, SourceLocation)>,
    /// The [`mark`]s of its keys: most of those that are asked for are not set, and most of them this tells at once.
    marks: u64,
}

/// One of 64 marks; keys with different ones are different.
fn mark(key: &str) -> u64 {
    let last = key.bytes().next_back().map_or(0, usize::from);
    1 << (key.len().wrapping_mul(5).wrapping_add(last) % 64)
}

impl<'a> Section<'a> {
    /// A key's text and place.
    pub(crate) fn get(&self, key: &str) -> Option<&Value<'a>> {
        let place = self.place(key)?;
        self.values.get(place).map(|(_, value)| value)
    }

    fn place(&self, key: &str) -> Option<usize> {
        if self.marks & mark(key) == 0 {
            return None;
        }
        self.values.iter().rposition(|(known, _)| *known == key)
    }

    fn add(&mut self, key: &'a str, value: Value<'a>) {
        self.marks |= mark(key);
        self.values.push((key, value));
    }

    /// The last value of a key counts.
    fn set(&mut self, key: &'a str, value: Value<'a>) {
        match self.place(key).and_then(|place| self.values.get_mut(place)) {
            Some((_, old)) => *old = value,
            None => self.add(key, value),
        }
    }
}

/// What stands below a header.
#[derive(Debug)]
struct Entry<'t> {
    key: Cow<'t, str>,
    value: Cow<'t, str>,
    line: usize,
}

/// A header, and the entries below it.
#[derive(Clone, Copy, Debug)]
struct SectionPart {
    header: SourceLocation,
    from: usize,
    to: usize,
}

/// What the files come to: the sections, each merged from all its parts.
#[derive(Debug, Default)]
pub(crate) struct Document<'t> {
    /// The entries of all files, as they were read.
    entries: Vec<Entry<'t>>,
    parts: Vec<SectionPart>,
    /// The numbers of each section's parts, by its name.
    parts_by_name: Properties,
    /// The directory of each file, once `%(here)s` is to be replaced (see [`Self::replace_here`]).
    directories: Vec<String>,
}

/// What Python calls the section whose keys all others inherit.
const DEFAULT: &str = "DEFAULT";
/// So many keys most sections have at most.
const FEW: usize = 12;
/// The name that is replaced as text, file by file, when there are includes.
const HERE: &str = "%(here)s";

impl<'t> Document<'t> {
    /// Adds the sections of one file. `wrong` hears of the lines that are no configuration, or not what they seem.
    pub(crate) fn merge(
        &mut self,
        text: &'t str,
        file: usize,
        mut wrong: impl FnMut(usize, LogicalLine<'t>),
    ) {
        let mut header = None;
        lines::read(text, |line, what| match what {
            LogicalLine::Header(name) => {
                let next = (name, SourceLocation { file, line }, self.entries.len());
                self.close(header.replace(next));
            }
            LogicalLine::Entry(key, value) => self.entries.push(Entry { key, value, line }),
            LogicalLine::Wrong(_) | LogicalLine::CommentInsideQuotes(_) | LogicalLine::IndentedEntry(_) => {
                wrong(line, what)
            }
        });
        self.close(header);
    }

    /// Makes sure that there is a section of this name.
    pub(crate) fn ensure(&mut self, name: &str) {
        self.close(Some((name, SourceLocation { file: 0, line: 1 }, self.entries.len())));
    }

    /// Enters a header with the entries since.
    fn close(&mut self, header: Option<(&str, SourceLocation, usize)>) {
        let Some((name, header, from)) = header else { return };
        self.parts_by_name.append(name, self.parts.len().to_string());
        self.parts.push(SectionPart { header, from, to: self.entries.len() });
    }

    /// From now on `%(here)s` is replaced, in each value by the directory of its file. supervisord does so, as plain
    /// text, when there is an `[include]`, and after each included file.
    pub(crate) fn replace_here(&mut self, directory: String) {
        self.directories.push(directory);
    }

    /// All sections but `[DEFAULT]`, opened for reading.
    pub(crate) fn open(&self) -> Vec<Section<'_>> {
        let defaults = self.inherited();
        let is_first = |name: &str, part: &str| {
            self.parts_by_name.get(name).is_some_and(|first| std::ptr::eq(first, part))
        };
        let named = self.parts_by_name.iter().filter(|(name, part)| *name != DEFAULT && is_first(name, part));
        named.filter_map(|(name, _)| self.section(name, &defaults)).collect()
    }

    /// The section with exactly this name, without what it inherits.
    pub(crate) fn find<'a>(&'a self, name: &'a str) -> Option<Section<'a>> {
        self.section(name, &[])
    }

    /// Every value that a key of `[DEFAULT]` ever had, in order.
    pub(crate) fn defaults(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        self.parts(DEFAULT).flat_map(|part| self.entries_of(part))
    }

    fn parts(&self, name: &str) -> impl Iterator<Item = SectionPart> {
        self.parts_by_name
            .get_all(name)
            .filter_map(|number| self.parts.get(number.parse::<usize>().ok()?).copied())
    }

    fn entries_of(&self, part: SectionPart) -> impl Iterator<Item = (&str, Value<'_>)> {
        let file = part.header.file;
        let here = self.directories.get(file).map(String::as_str);
        self.entries.get(part.from..part.to).unwrap_or(&[]).iter().map(move |entry| {
            let value =
                Value { written: &entry.value, location: SourceLocation { file, line: entry.line }, here };
            (entry.key.as_ref(), value)
        })
    }

    fn section<'a>(&'a self, name: &'a str, defaults: &[Inherited<'a>]) -> Option<Section<'a>> {
        let mut parts = self.parts(name).peekable();
        let first = parts.peek()?;
        let values = Vec::with_capacity(first.to.saturating_sub(first.from).min(FEW));
        let mut section = Section { name, location: first.header, values, unknown: Vec::new(), marks: 0 };
        let Some(known) = known_keys::of_section(name) else { return Some(section) };
        for part in parts {
            for (key, value) in self.entries_of(part) {
                match known {
                    None => section.add(key, value),
                    Some(tables) if known_keys::is_in(tables, key) => section.set(key, value),
                    Some(_) => section.unknown.push((key, value.location)),
                }
            }
        }
        for default in
            defaults.iter().filter(|default| known.is_none_or(|known| known_keys::is_in(known, default.key)))
        {
            if section.get(default.key).is_none() {
                section.add(default.key, default.since(section.location.file, &self.directories));
            }
        }
        Some(section)
    }

    /// What sections inherit of the keys that something reads.
    fn inherited(&self) -> Vec<Inherited<'_>> {
        let mut all: Vec<Inherited<'_>> = Vec::new();
        for (key, value) in self.defaults().filter(|(key, _)| known_keys::is_known(key)) {
            match all.iter_mut().find(|known| known.key == key) {
                Some(known) => known.change(value),
                None => all.push(Inherited { key, handed_down: Vec::new(), last: value }),
            }
        }
        all
    }
}

/// A key of `[DEFAULT]`.
///
/// Where `%(here)s` is replaced, that happens in each section: after each file, every section known by then gets a
/// copy with that file's directory, which is its own from then on.
struct Inherited<'a> {
    key: &'a str,
    /// The values that were changed by a later file, each with that file.
    handed_down: Vec<(usize, Value<'a>)>,
    last: Value<'a>,
}

impl<'a> Inherited<'a> {
    fn change(&mut self, value: Value<'a>) {
        let old = std::mem::replace(&mut self.last, value);
        if old.location.file < value.location.file && old.here.is_some() && old.written.contains(HERE) {
            self.handed_down.push((value.location.file, old));
        }
    }

    /// The value for a section that this file began.
    fn since(&self, file: usize, directories: &'a [String]) -> Value<'a> {
        let first = self.handed_down.partition_point(|(until, _)| *until <= file);
        let value = self.handed_down.get(first).map_or(self.last, |(_, value)| *value);
        let copied = value.location.file.max(file);
        Value { here: directories.get(copied).map(String::as_str), ..value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sections<'t>(texts: &[&'t str]) -> Document<'t> {
        let mut sections = Document::default();
        for (file, text) in texts.iter().enumerate() {
            sections.merge(text, file, |line, what| panic!("{line}: {what:?}"));
        }
        sections
    }

    fn value(sections: &Document<'_>, section: &str, key: &str) -> Option<String> {
        let all = sections.open();
        let value = all.iter().find(|open| open.name == section)?.get(key)?;
        Some(value.text().into_owned())
    }

    #[test]
    fn values_survive() {
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
            let sections = sections(&[&file]);
            assert_eq!(value(&sections, "program:s", "command").as_deref(), Some(text.trim()), "{text:?}");
            assert_eq!(value(&sections, "program:s", "user").as_deref(), Some("1"), "{text:?}");
        }
    }

    #[test]
    fn names_survive() {
        for name in [" program:y ", "a]b", "\\n", "a=b", "#x", "program:a\\"] {
            assert!(sections(&[&format!("[{name}]\na=1\n")]).find(name).is_some(), "{name:?}");
        }
    }

    #[test]
    fn later_keys_win_at_the_first_place() {
        let sections = sections(&[
            "[group:a]\nprograms=1\nPrograms=2\n[b]\n[group:a]\npriority=3\n",
            "[b]\n[group:a]\npriority=4\n[c]\n",
        ]);
        let all = sections.open();
        let names: Vec<_> = all.iter().map(|section| (section.name, section.location)).collect();
        let place = |file, line| SourceLocation { file, line };
        assert_eq!(names, [("group:a", place(0, 1)), ("b", place(0, 4)), ("c", place(1, 4))]);
        assert_eq!(value(&sections, "group:a", "programs").as_deref(), Some("2"));
        assert_eq!(value(&sections, "group:a", "priority").as_deref(), Some("4"));
        assert_eq!(all[0].get("priority").unwrap().location, place(1, 3));
    }

    #[test]
    fn default_is_inherited_and_no_section() {
        let sections =
            sections(&["[group:a]\npriority=1\nx=2\n[DEFAULT]\npriority=9\nprograms=8\nfiles=7\n"]);
        let all = sections.open();
        assert_eq!(all.len(), 1);
        assert_eq!(value(&sections, "group:a", "priority").as_deref(), Some("1"));
        assert_eq!(value(&sections, "group:a", "programs").as_deref(), Some("8"));
        assert_eq!(all[0].unknown, [("x", SourceLocation { file: 0, line: 3 })]);
        let defaults: Vec<_> = sections.defaults().map(|(key, _)| key).collect();
        assert_eq!(defaults, ["priority", "programs", "files"]);
    }

    #[test]
    fn here_is_each_files_own() {
        let mut sections = sections(&[
            "[program:a]\ncommand=%(here)s\nuser=%%(here)s\n[DEFAULT]\ndirectory=%(here)s\n",
            "[program:b]\ncommand=%(here)s\n[DEFAULT]\ndirectory=plain\n",
            "[program:c]\n[program:a]\ncommand=%(here)s\n",
            "[DEFAULT]\ndirectory=%(here)s\n[program:d]\ndirectory=own\n",
            "[program:e]\n",
        ]);
        for directory in ["/0", "/1", "/2", "/3", "/4"] {
            sections.replace_here(directory.to_owned());
        }
        let got = |section: &str, key: &str| value(&sections, &format!("program:{section}"), key).unwrap();
        assert_eq!((got("a", "command"), got("a", "user")), ("/2".to_owned(), "%/0".to_owned()));
        assert_eq!(got("b", "command"), "/1");
        let directories = ["a", "b", "c", "d", "e"].map(|section| got(section, "directory"));
        assert_eq!(directories, ["/0", "/3", "/3", "own", "/4"]);
    }
}
