//! Typed access to the keys of one section: each is expanded with the names its place allows, read, and reported
//! where it stands when it is wrong. Reading goes on with the default, so that one run finds everything.

use std::borrow::Cow;

use super::expand::{Names, expand};
use super::ini::{Place, Section, Sections, Value};
use super::order::{Index, Pairs};
use super::report::{Notice, Report, Severity};
use super::value::name;
use super::{Inputs, Overrides};
use crate::policy::Level;

/// Everything that reading sections needs, and what it has found so far.
pub(super) struct Context<'a> {
    pub(super) sections: &'a Sections<'a>,
    /// The sections, opened.
    pub(super) all: &'a [Section<'a>],
    pub(super) inputs: &'a Inputs<'a>,
    pub(super) overrides: &'a Overrides,
    /// Directory of the main file.
    pub(super) here: &'a str,
    pub(super) report: Report,
    pub(super) notices: Vec<Notice>,
    /// How many processes there may still be.
    pub(super) processes_left: i64,
    /// How many bytes may still be read and kept.
    pub(super) text_left: Option<usize>,
    /// The users that are known to exist: looking for one reads /etc/passwd and /etc/group.
    pub(super) users: Index,
}

/// More processes than the largest machines run are a mistake, and must not fill the memory.
pub(super) const MAX_PROCESSES: i64 = 131_072;
/// A long text that many sections inherit must not either, nor take for ever.
pub(super) const MAX_TEXT: usize = 32 << 20;

impl<'a> Context<'a> {
    /// `ENV_*` and `here`: what `[supervisord]`, groups and pools may use.
    pub(super) fn common<'e>(&self, environment: &'e Pairs) -> Names<'e>
    where
        'a: 'e,
    {
        Names { here: Some(self.here), ..Names::variables(environment) }
    }

    /// The sections whose name begins so, with the rest of the name.
    pub(super) fn starting_with<'p>(
        &self,
        prefix: &'p str,
    ) -> impl Iterator<Item = (&'a Section<'a>, &'a str)> + use<'a, 'p> {
        let all = self.all;
        all.iter().filter_map(move |section| Some((section, section.name.strip_prefix(prefix)?)))
    }

    /// The section with exactly this name.
    pub(super) fn find(&self, name: &str) -> Option<&'a Section<'a>> {
        self.all.iter().find(|section| section.name == name)
    }

    /// Whether there may be so many processes more.
    pub(super) fn admit(&mut self, count: i64) -> bool {
        self.processes_left = self.processes_left.saturating_sub(count.max(0));
        self.processes_left >= 0
    }

    /// Whether so many bytes more may be read or kept; once they may not, nothing is, and that is an error.
    pub(super) fn has_room(&mut self, bytes: usize) -> bool {
        match self.text_left.and_then(|left| left.checked_sub(bytes)) {
            Some(left) => self.text_left = Some(left),
            None if self.text_left.take().is_some() => {
                let why = "the sections come to more text than a machine can hold";
                self.report.add(Severity::Error, None, ("", ""), why.to_owned());
            }
            None => {}
        }
        self.text_left.is_some()
    }

    /// Logs a line at start.
    pub(super) fn notice(&mut self, level: Level, text: String) {
        // The processes of one section come to the same lines.
        if self.notices.last().is_none_or(|last| last.text != text) && self.has_room(text.len()) {
            self.notices.push(Notice { level, text });
        }
    }

    /// Whether the users of this text exist.
    pub(super) fn check_user(&mut self, user: &str) -> Result<(), String> {
        if self.users.get(user).is_none() {
            (self.inputs.check_user)(user)?;
            self.users.admit(user);
        }
        Ok(())
    }

    /// Opens a section for reading.
    pub(super) fn reader<'c>(&'c mut self, section: &'a Section<'a>) -> Reader<'c, 'a> {
        Reader { context: self, section }
    }
}

/// One section, being read.
pub(super) struct Reader<'c, 'a> {
    pub(super) context: &'c mut Context<'a>,
    pub(super) section: &'a Section<'a>,
}

impl<'a> Reader<'_, 'a> {
    /// The name behind the colon of the header.
    pub(super) fn own_name(&mut self) -> Option<String> {
        let written = self.section.name.split_once(':').map_or("", |(_, name)| name);
        name(written).map_err(|why| self.error("", why)).ok()
    }

    /// A key's text and place, as written.
    pub(super) fn raw(&self, key: &str) -> Option<&'a Value<'a>> {
        self.section.get(key)
    }

    /// A key's text, expanded.
    pub(super) fn text(&mut self, key: &str, names: &Names<'_>) -> Option<Cow<'a, str>> {
        self.expand(key, self.raw(key)?, names)
    }

    /// A key's text, expanded, from the value that is at hand.
    pub(super) fn expand(&mut self, key: &str, value: &Value<'a>, names: &Names<'_>) -> Option<Cow<'a, str>> {
        let text = value.text();
        if !self.context.has_room(text.len()) {
            return None;
        }
        if !text.contains('%') {
            return Some(text);
        }
        let at = (self.section.name, key);
        match expand(&text, names, format_args!("{}.{key}", self.section.name)) {
            Ok(text) => Some(text.into()),
            Err(why) => {
                self.context.report.add(Severity::Error, Some(value.place), at, why);
                None
            }
        }
    }

    /// The same, to keep.
    pub(super) fn owned(&mut self, key: &str, names: &Names<'_>) -> Option<String> {
        self.text(key, names).map(Cow::into_owned)
    }

    /// A key's value, if it is set and right.
    pub(super) fn value<T>(
        &mut self,
        key: &str,
        names: &Names<'_>,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(key, names)?;
        read(&text).map_err(|why| self.error(key, why)).ok()
    }

    /// A key's value or its default.
    pub(super) fn value_or<T>(
        &mut self,
        key: &str,
        names: &Names<'_>,
        default: T,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        self.value(key, names, read).unwrap_or(default)
    }

    /// Where a key stands; the section's header when it has none.
    pub(super) fn place(&self, key: &str) -> Place {
        self.raw(key).map_or(self.section.place, |value| value.place)
    }

    /// Reports an error about a key; about the section when the key is empty.
    pub(super) fn error(&mut self, key: &str, text: String) {
        self.add(Severity::Error, key, text);
    }

    /// Reports a warning.
    pub(super) fn warn(&mut self, key: &str, text: String) {
        self.add(Severity::Warning, key, text);
    }

    /// Logs a WARN at start.
    pub(super) fn notice(&mut self, text: String) {
        self.context.notice(Level::Warn, text);
    }

    fn add(&mut self, severity: Severity, key: &str, text: String) {
        let place = self.place(key);
        self.context.report.add(severity, Some(place), (self.section.name, key), text);
    }
}
