//! Canonical text to sections. The only file that names rust-ini, which splits and unescapes it; what belongs
//! together, across files too, is merged here.

use std::collections::BTreeMap;

use ini::{Ini, ParseOption};

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
}

/// The text of a key.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) text: String,
    pub(super) place: Place,
}

/// A section, merged from all its appearances: the last value of a key counts.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) name: String,
    /// Its first header.
    pub(super) place: Place,
    pub(super) values: BTreeMap<String, Value>,
}

/// What the files come to: sections in the order of their first appearance, and `[DEFAULT]`, which is none of them.
#[derive(Debug, Default)]
pub(super) struct Sections {
    pub(super) all: Vec<Section>,
    index: Index,
    defaults: BTreeMap<String, Value>,
}

/// What Python calls the section whose keys all others inherit.
const DEFAULT: &str = "DEFAULT";
/// The name that is replaced as text, file by file, when there are includes.
const HERE: &str = "%(here)s";

impl Sections {
    /// The section with exactly this name.
    pub(super) fn find(&self, name: &str) -> Option<&Section> {
        self.index.get(name).and_then(|at| self.all.get(at))
    }

    /// A key of a section or of `[DEFAULT]`.
    pub(super) fn get<'a>(&'a self, section: &'a Section, key: &str) -> Option<&'a Value> {
        section.values.get(key).or_else(|| self.defaults.get(key))
    }

    /// The keys that stand in a section itself.
    pub(super) fn own_keys<'a>(&'a self, section: &'a Section) -> impl Iterator<Item = &'a str> {
        // A copy of an inherited value does not count (see `hand_down_here`).
        section.values.keys().filter(|key| !self.defaults.contains_key(*key)).map(String::as_str)
    }

    /// The keys a section inherits or has itself.
    pub(super) fn keys<'a>(&'a self, section: &'a Section) -> impl Iterator<Item = &'a str> {
        let inherited = self.defaults.keys().filter(|key| !section.values.contains_key(*key));
        section.values.keys().chain(inherited).map(String::as_str)
    }

    /// Adds the canonical sections of one file. `here` is its directory when it is included (see
    /// [`Self::replace_here`]).
    pub(super) fn merge(
        &mut self,
        canonical: &[String],
        file: usize,
        here: Option<&str>,
    ) -> Result<(), String> {
        for text in canonical {
            self.merge_section(text, file, here)?;
        }
        if let Some(here) = here {
            self.hand_down_here(here);
        }
        Ok(())
    }

    fn merge_section(&mut self, canonical: &str, file: usize, here: Option<&str>) -> Result<(), String> {
        let option = ParseOption { enabled_quote: false, enabled_escape: true, ..ParseOption::default() };
        let ini = Ini::load_from_str_opt(canonical, option).map_err(|error| error.to_string())?;
        for (header, properties) in &ini {
            let Some((line, name)) = header.and_then(located) else { continue };
            let name = name.strip_suffix(';').unwrap_or(name);
            let here = here.filter(|_| name != DEFAULT);
            let values = self.values_of(name, Place { file, line });
            for (key, text) in properties {
                let (Some(key), Some((line, text))) = (key.strip_prefix('.'), located(text)) else {
                    continue;
                };
                let text = here.map_or_else(|| text.to_owned(), |here| text.replace(HERE, here));
                values.insert(key.to_owned(), Value { text, place: Place { file, line } });
            }
        }
        Ok(())
    }

    /// Makes sure that there is a section of this name.
    pub(super) fn ensure(&mut self, name: &str) {
        let _values = self.values_of(name, Place { file: 0, line: 1 });
    }

    fn values_of(&mut self, name: &str, place: Place) -> &mut BTreeMap<String, Value> {
        if name == DEFAULT {
            return &mut self.defaults;
        }
        let next = self.all.len();
        let at = self.index.place(name, next);
        if at == next {
            self.all.push(Section { name: name.to_owned(), place, values: BTreeMap::new() });
        }
        self.all.get_mut(at).map_or(&mut self.defaults, |section| &mut section.values)
    }

    /// Replaces `%(here)s` in all values by the main file's directory. supervisord does so, as plain text, when there
    /// is an `[include]`, and after each included file with that one's directory.
    pub(super) fn replace_here(&mut self, here: &str) {
        for value in self.all.iter_mut().flat_map(|section| section.values.values_mut()) {
            value.text = value.text.replace(HERE, here);
        }
        self.hand_down_here(here);
    }

    /// A value of `[DEFAULT]` with `%(here)s` stays as it is, but each section known by now gets a copy with the
    /// directory of the file just read, which is its own from then on.
    fn hand_down_here(&mut self, here: &str) {
        let affected = self.defaults.iter().filter(|(_, value)| value.text.contains(HERE));
        for (key, value) in affected {
            for section in self.all.iter_mut().filter(|section| !section.values.contains_key(key)) {
                let copy = Value { text: value.text.replace(HERE, here), place: value.place };
                section.values.insert(key.clone(), copy);
            }
        }
    }
}

/// Splits `LINE:TEXT`.
fn located(text: &str) -> Option<(usize, &str)> {
    let (line, text) = text.split_once(':')?;
    Some((line.parse().ok()?, text))
}

#[cfg(test)]
mod tests {
    use super::super::lines;
    use super::*;

    fn sections(texts: &[&str]) -> Sections {
        let mut sections = Sections::default();
        for (file, text) in texts.iter().enumerate() {
            sections.merge(&lines::read(text).canonical, file, None).unwrap();
        }
        sections
    }

    fn value(sections: &Sections, section: &str, key: &str) -> Option<String> {
        sections.find(section).and_then(|section| sections.get(section, key)).map(|value| value.text.clone())
    }

    #[test]
    fn values_survive_the_parser() {
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
            let sections = sections(&[&format!("[s]\nkey={text}\nnext=1\n")]);
            assert_eq!(value(&sections, "s", "key").as_deref(), Some(text.trim()), "{text:?}");
            assert_eq!(value(&sections, "s", "next").as_deref(), Some("1"), "{text:?}");
        }
    }

    #[test]
    fn names_survive_the_parser() {
        for name in [" program:y ", "a]b", "\\n", "a=b", "#x", "program:a\\"] {
            assert!(sections(&[&format!("[{name}]\na=1\n")]).find(name).is_some(), "{name:?}");
        }
    }

    #[test]
    fn later_keys_win_at_the_first_place() {
        let sections = sections(&["[a]\nx=1\nX=2\n[b]\n[a]\ny=3\n", "[b]\n[a]\ny=4\n[c]\n"]);
        let names: Vec<_> = sections.all.iter().map(|section| section.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(value(&sections, "a", "x").as_deref(), Some("2"));
        assert_eq!(value(&sections, "a", "y").as_deref(), Some("4"));
        let place = sections.get(sections.find("a").unwrap(), "y").unwrap().place;
        assert_eq!(place, Place { file: 1, line: 3 });
    }

    #[test]
    fn default_is_inherited_and_no_section() {
        let sections = sections(&["[a]\nx=1\n[DEFAULT]\nx=9\ny=8\n"]);
        assert_eq!(sections.all.len(), 1);
        assert_eq!(value(&sections, "a", "x").as_deref(), Some("1"));
        assert_eq!(value(&sections, "a", "y").as_deref(), Some("8"));
        assert!(sections.find("DEFAULT").is_none());
    }

    #[test]
    fn here_is_each_files_own() {
        let mut sections = sections(&["[a]\nx=%(here)s\ny=%%(here)s\n"]);
        sections.replace_here("/main");
        sections.merge(&lines::read("[b]\nx=%(here)s\n").canonical, 1, Some("/inc")).unwrap();
        assert_eq!(value(&sections, "a", "x").as_deref(), Some("/main"));
        assert_eq!(value(&sections, "a", "y").as_deref(), Some("%/main"));
        assert_eq!(value(&sections, "b", "x").as_deref(), Some("/inc"));
    }
}
