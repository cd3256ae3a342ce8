//! Logical lines to sections. The only file that names rust-ini, which keeps them: in order, each section with its keys.
//! Its parser is not used, since comments, quotes, continuations and indentation are something else to it than to Python
//! (see `lines.rs`); nor does it know where a value stands, so each has its place in front.

use std::borrow::Cow;

use ini::{Ini, Properties};

use super::keys;
use super::lines::{self, Line};
use super::order::Index;

/// Where something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Index of the file, the main one being 0.
    pub(super) file: usize,
    /// Number of the line, from 1.
    pub(super) line: usize,
}

impl Place {
    /// A number that orders places: by file, then by line.
    pub(super) fn rank(self) -> i64 {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        number(self.file).saturating_mul(1 << 32).saturating_add(number(self.line))
    }

    /// `FILE:LINE:TEXT`. (Written digit by digit: formatting took a tenth of the time that a large file takes.)
    fn before(self, text: &str) -> String {
        let mut out = String::with_capacity(text.len().saturating_add(24));
        for number in [self.file, self.line] {
            push_number(&mut out, number);
            out.push(':');
        }
        out.push_str(text);
        out
    }
}

fn push_number(out: &mut String, number: usize) {
    if number > 9 {
        push_number(out, number / 10);
    }
    out.push(['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'].get(number % 10).copied().unwrap_or('0'));
}

/// Takes a number and its `:` off the front of a text.
fn leading_number(text: &str) -> Option<(usize, &str)> {
    let mut number = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'0'..=b'9' => number = number.wrapping_mul(10).wrapping_add((byte & 15).into()),
            _ => return Some((number, text.get(at.saturating_add(1)..)?)),
        }
    }
    None
}

/// The text of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value<'a> {
    written: &'a str,
    pub(super) place: Place,
    /// The directory that `%(here)s` is replaced by as plain text, before anything else.
    here: Option<&'a str>,
}

impl<'a> Value<'a> {
    /// Reads `FILE:LINE:TEXT`.
    fn located(text: &'a str) -> Option<Self> {
        let (file, rest) = leading_number(text)?;
        let (line, written) = leading_number(rest)?;
        Some(Value { written, place: Place { file, line }, here: None })
    }

    fn has_here(&self) -> bool {
        self.written.contains(HERE)
    }

    /// The text, not yet expanded.
    pub(super) fn text(&self) -> Cow<'a, str> {
        match self.here {
            Some(here) if self.has_here() => self.written.replace(HERE, here).into(),
            _ => self.written.into(),
        }
    }
}

/// A section, opened for reading: its own keys and those it inherits.
#[derive(Debug)]
pub(super) struct Section<'a> {
    pub(super) name: &'a str,
    /// Its first header.
    pub(super) place: Place,
    /// The keys that something reads. Few, so that looking for one is cheap, whatever else the section holds.
    pub(super) values: Vec<(&'a str, Value<'a>)>,
    /// Its own other keys, and where they stand.
    pub(super) unknown: Vec<(&'a str, Place)>,
}

impl<'a> Section<'a> {
    /// A key's text and place.
    pub(super) fn get(&self, key: &str) -> Option<&Value<'a>> {
        self.values.iter().find(|(known, _)| *known == key).map(|(_, value)| value)
    }
}

/// What the files come to: sections in the order of their first appearance, merged from all of them, the last value of a
/// key counting. rust-ini's general section is `[DEFAULT]`, with every value that a key of it ever had.
#[derive(Debug, Default)]
pub(super) struct Sections {
    ini: Ini,
    /// The sections' places in this order, and their first headers.
    index: Index,
    headers: Vec<Place>,
    /// The directory of each file, once `%(here)s` is to be replaced (see [`Self::replace_here`]).
    directories: Vec<String>,
}

/// What Python calls the section whose keys all others inherit.
const DEFAULT: &str = "DEFAULT";
/// The name that is replaced as text, file by file, when there are includes.
const HERE: &str = "%(here)s";

impl Sections {
    /// Adds the sections of one file. `wrong` hears of the lines that are no configuration, or not what they seem.
    pub(super) fn merge<'a>(&mut self, text: &'a str, file: usize, mut wrong: impl FnMut(usize, Line<'a>)) {
        let mut header = None;
        let mut entries = Properties::new();
        lines::read(text, |line, what| match what {
            Line::Header(name) => {
                self.add(header.replace((name, Place { file, line })), std::mem::take(&mut entries));
            }
            Line::Entry(key, value) => entries.insert(key.to_ascii_lowercase(), Place { file, line }.before(&value)),
            Line::Wrong(_) | Line::CutQuotes(_) => wrong(line, what),
        });
        self.add(header, entries);
    }

    /// Adds a header and what stands below it.
    fn add(&mut self, header: Option<(&str, Place)>, entries: Properties) {
        match header {
            None => {}
            Some((DEFAULT, _)) => {
                let defaults = self.ini.entry(None).or_insert_with(Properties::new);
                entries.into_iter().for_each(|(key, value)| defaults.append(key, value));
            }
            Some((name, place)) => {
                if self.index.place(name, self.headers.len()) == self.headers.len() {
                    self.headers.push(place);
                }
                match self.ini.entry(Some(name.to_owned())) {
                    ini::SectionEntry::Vacant(new) => drop(new.insert(entries)),
                    ini::SectionEntry::Occupied(old) => {
                        let old = old.into_mut();
                        entries.into_iter().for_each(|(key, value)| old.insert(key, value));
                    }
                }
            }
        }
    }

    /// Makes sure that there is a section of this name.
    pub(super) fn ensure(&mut self, name: &str) {
        self.add(Some((name, Place { file: 0, line: 1 })), Properties::new());
    }

    /// From now on `%(here)s` is replaced, in each value by the directory of its file. supervisord does so, as plain
    /// text, when there is an `[include]`, and after each included file.
    pub(super) fn replace_here(&mut self, directory: &str) {
        self.directories.push(directory.to_owned());
    }

    /// The place of the section with exactly this name among all of them.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.index.get(name)
    }

    /// All sections, opened for reading.
    pub(super) fn open(&self) -> Vec<Section<'_>> {
        let mut defaults: Vec<Inherited<'_>> = Vec::new();
        for (key, _) in self.defaults().filter(|(key, _)| keys::is_known(key)) {
            if defaults.iter().all(|known| known.key != key) {
                defaults.extend(self.history(key));
            }
        }
        self.headed().map(|(name, place, entries)| self.section(name, place, entries, &defaults)).collect()
    }

    /// One section, opened for reading: its own keys alone.
    pub(super) fn find(&self, wanted: &str) -> Option<Section<'_>> {
        let (name, place, entries) = self.headed().find(|(name, ..)| *name == wanted)?;
        Some(self.section(name, place, entries, &[]))
    }

    /// Every value that a key of `[DEFAULT]` ever had.
    pub(super) fn defaults(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        let entries = self.ini.section(None::<String>).into_iter().flatten();
        entries.filter_map(|(key, text)| Some((key, self.value(text)?)))
    }

    fn headed(&self) -> impl Iterator<Item = (&str, Place, &Properties)> {
        let named = self.ini.iter().filter_map(|(name, entries)| Some((name?, entries)));
        named.zip(&self.headers).map(|((name, entries), place)| (name, *place, entries))
    }

    fn section<'a>(
        &'a self,
        name: &'a str,
        place: Place,
        entries: &'a Properties,
        defaults: &[Inherited<'a>],
    ) -> Section<'a> {
        let mut section = Section { name, place, values: Vec::new(), unknown: Vec::new() };
        let Some(known) = keys::of_section(name) else { return section };
        let is_read = |key| known.is_none_or(|tables| tables.iter().any(|table| table.contains(&key)));
        for (key, text) in entries {
            match self.value(text) {
                Some(value) if is_read(key) => section.values.push((key, value)),
                Some(value) => section.unknown.push((key, value.place)),
                None => {}
            }
        }
        for default in defaults.iter().filter(|default| is_read(default.key)) {
            if section.get(default.key).is_none() {
                section.values.push((default.key, default.since(place.file, &self.directories)));
            }
        }
        section
    }

    fn value<'a>(&'a self, text: &'a str) -> Option<Value<'a>> {
        let value = Value::located(text)?;
        Some(Value { here: self.directories.get(value.place.file).map(String::as_str), ..value })
    }

    /// What sections inherit of a key of `[DEFAULT]`.
    fn history<'a>(&'a self, key: &'a str) -> Option<Inherited<'a>> {
        let mut values = self.ini.section(None::<String>)?.get_all(key).filter_map(|text| self.value(text)).peekable();
        let mut handed_down = Vec::new();
        let mut last = None;
        while let Some(value) = values.next() {
            let until = values.peek().map_or(usize::MAX, |next| next.place.file);
            if value.here.is_some() && until > value.place.file && value.has_here() {
                handed_down.push((until, value));
            }
            last = Some(value);
        }
        Some(Inherited { key, handed_down, last: last? })
    }
}

/// A key of `[DEFAULT]`.
///
/// Where `%(here)s` is replaced, that happens in each section: after each file, every section known by then gets a
/// copy with that file's directory, which is its own from then on.
struct Inherited<'a> {
    key: &'a str,
    /// The values with `%(here)s` that still stood when their file was at its end, each with the file that changed it.
    handed_down: Vec<(usize, Value<'a>)>,
    last: Value<'a>,
}

impl<'a> Inherited<'a> {
    /// The value for a section that this file began.
    fn since(&self, file: usize, directories: &'a [String]) -> Value<'a> {
        let first = self.handed_down.partition_point(|(until, _)| *until <= file);
        let copied = self.handed_down.get(first).map(|(_, value)| {
            let at = value.place.file.max(file);
            Value { here: directories.get(at).map(String::as_str), ..*value }
        });
        copied.unwrap_or(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sections(texts: &[&str]) -> Sections {
        let mut sections = Sections::default();
        for (file, text) in texts.iter().enumerate() {
            sections.merge(text, file, |line, what| panic!("{line}: {what:?}"));
        }
        sections
    }

    fn value(sections: &Sections, section: &str, key: &str) -> Option<String> {
        let all = sections.open();
        let value = *all.get(sections.place(section)?)?.get(key)?;
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
            let sections = sections(&[&format!("[program:s]\ncommand={text}\nuser=1\n")]);
            assert_eq!(value(&sections, "program:s", "command").as_deref(), Some(text.trim()), "{text:?}");
            assert_eq!(value(&sections, "program:s", "user").as_deref(), Some("1"), "{text:?}");
        }
    }

    #[test]
    fn names_survive() {
        for name in [" program:y ", "a]b", "\\n", "a=b", "#x", "program:a\\"] {
            assert!(sections(&[&format!("[{name}]\na=1\n")]).place(name).is_some(), "{name:?}");
        }
    }

    #[test]
    fn later_keys_win_at_the_first_place() {
        let sections = sections(&[
            "[group:a]\nprograms=1\nPrograms=2\n[b]\n[group:a]\npriority=3\n",
            "[b]\n[group:a]\npriority=4\n[c]\n",
        ]);
        let all = sections.open();
        let names: Vec<_> = all.iter().map(|section| (section.name, section.place)).collect();
        let place = |file, line| Place { file, line };
        assert_eq!(names, [("group:a", place(0, 1)), ("b", place(0, 4)), ("c", place(1, 4))]);
        assert_eq!(value(&sections, "group:a", "programs").as_deref(), Some("2"));
        assert_eq!(value(&sections, "group:a", "priority").as_deref(), Some("4"));
        assert_eq!(all[0].get("priority").unwrap().place, place(1, 3));
    }

    #[test]
    fn default_is_inherited_and_no_section() {
        let sections = sections(&["[group:a]\npriority=1\nx=2\n[DEFAULT]\npriority=9\nprograms=8\nfiles=7\n"]);
        let all = sections.open();
        assert_eq!(all.len(), 1);
        assert_eq!(value(&sections, "group:a", "priority").as_deref(), Some("1"));
        assert_eq!(value(&sections, "group:a", "programs").as_deref(), Some("8"));
        assert_eq!(all[0].unknown, [("x", Place { file: 0, line: 3 })]);
        assert!(sections.place("DEFAULT").is_none());
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
            sections.replace_here(directory);
        }
        let got = |section: &str, key: &str| value(&sections, &format!("program:{section}"), key).unwrap();
        assert_eq!((got("a", "command"), got("a", "user")), ("/2".to_owned(), "%/0".to_owned()));
        assert_eq!(got("b", "command"), "/1");
        let directories = ["a", "b", "c", "d", "e"].map(|section| got(section, "directory"));
        assert_eq!(directories, ["/0", "/3", "/3", "own", "/4"]);
    }
}
