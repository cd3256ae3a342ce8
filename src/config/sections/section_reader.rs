//! Typed access to the keys of one section: each is expanded with the names its place allows, read, and reported
//! where it stands when it is wrong. Reading goes on with the default, so that one run finds everything.

use std::borrow::Cow;

use super::value::name;
use crate::config::grammar::document::{Document, Section, SourceLocation, Value};
use crate::config::grammar::expand::{ExpansionVars, expand};
use crate::config::grammar::ordered::{EnvMap, NameIndex};
use crate::config::model::{Inputs, Overrides};
use crate::config::report::{Notice, Report, Severity};
use crate::policy::Level;

/// Everything that reading sections needs, and what it has found so far.
pub(crate) struct Context<'a> {
    pub(crate) document: &'a Document<'a>,
    /// The sections, opened.
    pub(crate) sections: &'a [Section<'a>],
    pub(crate) inputs: &'a Inputs<'a>,
    pub(crate) overrides: &'a Overrides,
    /// Directory of the main file.
    pub(crate) here: &'a str,
    pub(crate) report: Report,
    pub(crate) notices: Vec<Notice>,
    /// How many processes there may still be.
    pub(crate) processes_left: i64,
    /// How many bytes may still be read and kept.
    pub(crate) text_budget: Option<usize>,
    /// The users that are known to exist: looking for one reads /etc/passwd and /etc/group.
    pub(crate) known_users: NameIndex,
}

/// More processes than the largest machines run are a mistake, and must not fill the memory.
pub(crate) const MAX_PROCESSES: i64 = 131_072;
/// A long text that many sections inherit must not either, nor take for ever.
pub(crate) const MAX_TEXT_BYTES: usize = 32 << 20;

impl<'a> Context<'a> {
    /// `ENV_*` and `here`: what `[supervisord]`, groups and pools may use.
    pub(crate) fn base_vars<'e>(&self, environment: &'e EnvMap) -> ExpansionVars<'e>
    where
        'a: 'e,
    {
        ExpansionVars { here: Some(self.here), ..ExpansionVars::variables(environment) }
    }

    /// The sections whose name begins so, with the rest of the name.
    pub(crate) fn sections_with_prefix<'p>(
        &self,
        prefix: &'p str,
    ) -> impl Iterator<Item = (&'a Section<'a>, &'a str)> + use<'a, 'p> {
        self.sections.iter().filter_map(move |section| Some((section, section.name.strip_prefix(prefix)?)))
    }

    /// The section with exactly this name.
    pub(crate) fn find(&self, name: &str) -> Option<&'a Section<'a>> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// Whether there may be so many processes more.
    pub(crate) fn charge_processes(&mut self, count: i64) -> bool {
        self.processes_left = self.processes_left.saturating_sub(count.max(0));
        self.processes_left >= 0
    }

    /// Whether so many bytes more may be read or kept; once they may not, nothing is, and that is an error.
    pub(crate) fn charge(&mut self, bytes: usize) -> bool {
        match self.text_budget.and_then(|left| left.checked_sub(bytes)) {
            Some(left) => self.text_budget = Some(left),
            None if self.text_budget.take().is_some() => {
                let why = "the sections come to more text than a machine can hold";
                self.report.add(Severity::Error, None, ("", ""), why.to_owned());
            }
            None => {}
        }
        self.text_budget.is_some()
    }

    /// Logs a line at start.
    pub(crate) fn notice(&mut self, level: Level, text: String) {
        // The processes of one section come to the same lines.
        if self.notices.last().is_none_or(|last| last.text != text) && self.charge(text.len()) {
            self.notices.push(Notice { level, text });
        }
    }

    /// Whether the users of this text exist.
    pub(crate) fn check_user(&mut self, user: &str) -> Result<(), String> {
        if self.known_users.get(user).is_none() {
            (self.inputs.check_user)(user)?;
            self.known_users.insert(user);
        }
        Ok(())
    }

    /// Opens a section for reading.
    pub(crate) fn reader<'c>(&'c mut self, section: &'a Section<'a>) -> SectionReader<'c, 'a> {
        SectionReader { context: self, section }
    }
}

/// One section, being read.
pub(crate) struct SectionReader<'c, 'a> {
    pub(crate) context: &'c mut Context<'a>,
    pub(crate) section: &'a Section<'a>,
}

impl<'a> SectionReader<'_, 'a> {
    /// The name behind the colon of the header.
    pub(crate) fn name_after_colon(&mut self) -> Option<String> {
        let written = self.section.name.split_once(':').map_or("", |(_, name)| name);
        name(written).map_err(|why| self.error("", why)).ok()
    }

    /// A key's text and place, as written.
    pub(crate) fn raw(&self, key: &str) -> Option<&'a Value<'a>> {
        self.section.get(key)
    }

    /// A key's text, expanded.
    pub(crate) fn text(&mut self, key: &str, vars: &ExpansionVars<'_>) -> Option<Cow<'a, str>> {
        self.expand(key, self.raw(key)?, vars)
    }

    /// A key's text, expanded, from the value that is at hand.
    pub(crate) fn expand(
        &mut self,
        key: &str,
        value: &Value<'a>,
        vars: &ExpansionVars<'_>,
    ) -> Option<Cow<'a, str>> {
        let text = value.text();
        if !self.context.charge(text.len()) {
            return None;
        }
        if !text.contains('%') {
            return Some(text);
        }
        let at = (self.section.name, key);
        match expand(&text, vars, format_args!("{}.{key}", self.section.name)) {
            Ok(text) => Some(text.into()),
            Err(why) => {
                self.context.report.add(Severity::Error, Some(value.place), at, why);
                None
            }
        }
    }

    /// The same, to keep.
    pub(crate) fn string(&mut self, key: &str, vars: &ExpansionVars<'_>) -> Option<String> {
        self.text(key, vars).map(Cow::into_owned)
    }

    /// A key's value, if it is set and right.
    pub(crate) fn value<T>(
        &mut self,
        key: &str,
        vars: &ExpansionVars<'_>,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(key, vars)?;
        read(&text).map_err(|why| self.error(key, why)).ok()
    }

    /// A key's value or its default.
    pub(crate) fn value_or<T>(
        &mut self,
        key: &str,
        vars: &ExpansionVars<'_>,
        default: T,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        self.value(key, vars, read).unwrap_or(default)
    }

    /// Where a key stands; the section's header when it has none.
    pub(crate) fn place(&self, key: &str) -> SourceLocation {
        self.raw(key).map_or(self.section.place, |value| value.place)
    }

    /// Reports an error about a key; about the section when the key is empty.
    pub(crate) fn error(&mut self, key: &str, text: String) {
        self.add(Severity::Error, key, text);
    }

    /// Reports a warning.
    pub(crate) fn warn(&mut self, key: &str, text: String) {
        self.add(Severity::Warning, key, text);
    }

    /// Logs a WARN at start.
    pub(crate) fn warn_at_start(&mut self, text: String) {
        self.context.notice(Level::Warn, text);
    }

    fn add(&mut self, severity: Severity, key: &str, text: String) {
        let place = self.place(key);
        self.context.report.add(severity, Some(place), (self.section.name, key), text);
    }
}
