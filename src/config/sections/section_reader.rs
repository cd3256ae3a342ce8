//! Typed access to the keys of one section. A value is expanded and then parsed; an error is reported with the file and
//! line of the value, and reading continues with the key's default, so that one run finds every error.

use std::borrow::Cow;

use super::value::checked_name;
use super::wait_graph::ProgramWaits;
use crate::config::grammar::collections::{EnvMap, NameIndex};
use crate::config::grammar::document::{Document, Section, SourceLocation, Value};
use crate::config::grammar::expand::{ExpansionVars, expand};
use crate::config::model::{Machine, Obstacle, Overrides, RsupStartStep, Socket};
use crate::config::report::{Notice, Report, SectionKey, Severity};
use crate::policy::Level;

/// The data that is needed to read the sections, and the errors, warnings and log lines so far.
pub(crate) struct Context<'a> {
    pub(crate) document: &'a Document<'a>,
    /// All sections of `document` except `[DEFAULT]`.
    pub(crate) sections: &'a [Section<'a>],
    pub(crate) machine: &'a Machine<'a>,
    pub(crate) overrides: &'a Overrides,
    /// The directory of the main configuration file, for `%(here)s`.
    pub(crate) here: &'a str,
    pub(crate) report: Report,
    pub(crate) notices: Vec<Notice>,
    /// How many more processes may be defined.
    pub(crate) processes_left: i64,
    /// How many more bytes of text may be read or kept; `None` after the limit was exceeded.
    pub(crate) text_bytes_left: Option<usize>,
    /// The `user` values that were found valid. They are kept because each look-up reads /etc/passwd and /etc/group.
    pub(crate) valid_users: NameIndex,
    /// The user that rsup changes to when it starts. `None` if no user is set, if that user does not exist, or before
    /// `[supervisord]` has been read.
    pub(crate) own_user: Option<String>,
    /// Whether rsup can change to `own_user`. If not, `--check` tries no later step of the start, because rsup does not
    /// get that far.
    pub(crate) can_change_to_own_user: bool,
    /// Each user that [`Self::try_program_user`] was called with, and the result of the call. The result is kept so
    /// that no user is tried twice.
    pub(crate) tried_program_users: Vec<(String, Option<Obstacle>)>,
    /// The programs that wait for other programs, or that have `dependent_startup=true` or `startup_wait=exited`.
    pub(crate) program_waits: Vec<ProgramWaits<'a>>,
}

/// Limit on the number of processes, so that a mistyped `numprocs` cannot exhaust the memory.
pub(crate) const MAX_PROCESSES: i64 = 131_072;
/// Limit on the bytes of text that are read and kept for all sections. Every section inherits the keys of `[DEFAULT]`,
/// so a small file can expand to gigabytes.
pub(crate) const MAX_TOTAL_TEXT_BYTES: usize = 64 << 20;

impl<'a> Context<'a> {
    /// Returns the variables that most sections may use: `here`, and `ENV_*` with the values of `environment`.
    pub(crate) fn base_vars<'e>(&self, environment: &'e EnvMap) -> ExpansionVars<'e>
    where
        'a: 'e,
    {
        ExpansionVars {
            here: Some(self.here),
            non_utf8_env_names: self.machine.non_utf8_env_names,
            ..ExpansionVars::with_env_only(environment)
        }
    }

    /// Returns the sections whose name begins with `prefix`, each with the remainder of its name.
    pub(crate) fn sections_with_prefix<'p>(
        &self,
        prefix: &'p str,
    ) -> impl Iterator<Item = (&'a Section<'a>, &'a str)> + use<'a, 'p> {
        self.sections.iter().filter_map(move |section| Some((section, section.name.strip_prefix(prefix)?)))
    }

    pub(crate) fn find_section(&self, name: &str) -> Option<&'a Section<'a>> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// Subtracts `count` from the processes that may still be defined. Returns false if the limit is exceeded.
    pub(crate) fn charge_processes(&mut self, count: i64) -> bool {
        self.processes_left = self.processes_left.saturating_sub(count.max(0));
        self.processes_left >= 0
    }

    /// Subtracts `bytes` from the text that may still be read or kept. Returns false if the limit is exceeded now or
    /// was exceeded in an earlier call. Only the first such call reports an error.
    pub(crate) fn charge_bytes(&mut self, bytes: usize) -> bool {
        match self.text_bytes_left.and_then(|left| left.checked_sub(bytes)) {
            Some(left) => self.text_bytes_left = Some(left),
            None if self.text_bytes_left.take().is_some() => {
                let why = "the sections with all inherited values have more text than a machine can hold";
                self.report.add(Severity::Error, None, SectionKey::NONE, why.to_owned());
            }
            None => {}
        }
        self.text_bytes_left.is_some()
    }

    /// Adds a line to the lines that rsup logs when it starts.
    pub(crate) fn log_at_start(&mut self, level: Level, text: String) {
        // All processes of a section with numprocs > 1 cause the same line.
        if self.notices.last().is_none_or(|last| last.text != text) && self.charge_bytes(text.len()) {
            self.notices.push(Notice { level, text });
        }
    }

    /// Checks that the user of a `user` or `user:group` value exists, and also the group of a `user:group` value.
    ///
    /// # Errors
    /// Returns a message. If the user does not exist, it is the message that supervisord writes for this value.
    pub(crate) fn check_user(&mut self, user: &str) -> Result<(), String> {
        if self.valid_users.get(user).is_none() {
            (self.machine.check_user)(user)?;
            self.valid_users.insert(user);
        }
        Ok(())
    }

    /// For `--check`: tries to change to the user of `[supervisord]`. All later steps of the start are tried as this
    /// user.
    pub(crate) fn try_own_user(&mut self, user: &str) -> Option<Obstacle> {
        let obstacle =
            self.machine.try_step.and_then(|try_step| try_step(RsupStartStep::SupervisordUser(user)).err());
        self.own_user = Some(user.to_owned());
        self.can_change_to_own_user = obstacle.is_none();
        obstacle
    }

    /// For `--check`: tries to change to the user of a program.
    pub(crate) fn try_program_user(&mut self, user: &str) -> Option<Obstacle> {
        if let Some((_, obstacle)) = self.tried_program_users.iter().find(|(tried, _)| tried == user) {
            return obstacle.clone();
        }
        let own_user = self.own_user.as_deref();
        let obstacle = self.try_step(RsupStartStep::ProgramUser { own_user, user });
        self.tried_program_users.push((user.to_owned(), obstacle.clone()));
        obstacle
    }

    /// For `--check`: tries to create the socket of a program that runs as `user`.
    pub(crate) fn try_create_socket(&self, socket: &Socket, user: Option<&str>) -> Option<Obstacle> {
        self.try_step(RsupStartStep::Socket { own_user: self.own_user.as_deref(), socket, user })
    }

    pub(crate) fn try_step(&self, step: RsupStartStep<'_>) -> Option<Obstacle> {
        self.machine.try_step.filter(|_| self.can_change_to_own_user)?(step).err()
    }

    pub(crate) fn reader<'c>(&'c mut self, section: &'a Section<'a>) -> SectionReader<'c, 'a> {
        SectionReader { context: self, section }
    }
}

/// Reads the keys of one section.
pub(crate) struct SectionReader<'c, 'a> {
    pub(crate) context: &'c mut Context<'a>,
    pub(crate) section: &'a Section<'a>,
}

impl<'a> SectionReader<'_, 'a> {
    /// Returns the name after the colon of the header: `x` of `[program:x]`. Reports an error if the name is not valid.
    pub(crate) fn name_after_colon(&mut self) -> Option<String> {
        let written = self.section.name.split_once(':').map_or("", |(_, name)| name);
        checked_name(written).map_err(|why| self.error("", why)).ok()
    }

    /// Returns a key's value before its expansion, with its file and line.
    pub(crate) fn raw(&self, key: &str) -> Option<&'a Value<'a>> {
        self.section.get(key)
    }

    /// Returns a key's expanded value, or `None` if the key is not set. If the expansion fails, reports an error and
    /// returns `None`.
    pub(crate) fn text(&mut self, key: &str, vars: &ExpansionVars<'_>) -> Option<Cow<'a, str>> {
        self.expand_value(key, self.raw(key)?, vars)
    }

    /// Expands `value`, which is the value of `key`. If the expansion fails, reports an error and returns `None`.
    pub(crate) fn expand_value(
        &mut self,
        key: &str,
        value: &Value<'a>,
        vars: &ExpansionVars<'_>,
    ) -> Option<Cow<'a, str>> {
        let text = value.text();
        if !self.context.charge_bytes(text.len()) {
            return None;
        }
        if !text.contains('%') {
            return Some(text);
        }
        match expand(&text, vars, &format_args!("{}.{key}", self.section.name)) {
            Ok(text) => Some(text.into()),
            Err(why) => {
                let subject = SectionKey { section: self.section.name, key };
                self.context.report.add(Severity::Error, Some(value.location), subject, why);
                None
            }
        }
    }

    /// The same as [`Self::text`], as a `String`.
    pub(crate) fn owned_text(&mut self, key: &str, vars: &ExpansionVars<'_>) -> Option<String> {
        self.text(key, vars).map(Cow::into_owned)
    }

    /// Expands and parses a key's value. `None` if the key is not set or its value is not valid.
    pub(crate) fn value<T>(
        &mut self,
        key: &str,
        vars: &ExpansionVars<'_>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(key, vars)?;
        parse(&text).map_err(|why| self.error(key, why)).ok()
    }

    /// Expands and parses a key's value. Returns `default` if the key is not set or its value is not valid.
    pub(crate) fn value_or<T>(
        &mut self,
        key: &str,
        vars: &ExpansionVars<'_>,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        self.value(key, vars, parse).unwrap_or(default)
    }

    /// Returns the file and line of a key, or of the section's header if the key is not set.
    fn location(&self, key: &str) -> SourceLocation {
        self.raw(key).map_or(self.section.location, |value| value.location)
    }

    /// Reports an error about a key, or about the whole section if `key` is empty.
    pub(crate) fn error(&mut self, key: &str, text: String) {
        self.report(Severity::Error, key, text);
    }

    /// Reports a warning about a key, or about the whole section if `key` is empty.
    pub(crate) fn warn(&mut self, key: &str, text: String) {
        self.report(Severity::Warning, key, text);
    }

    /// Reports why a step of rsup's start fails, as an error or as a warning.
    pub(crate) fn report_obstacle(&mut self, key: &str, obstacle: Obstacle) {
        match obstacle {
            Obstacle::Error(why) => self.error(key, why),
            Obstacle::Warning(why) => self.warn(key, why),
        }
    }

    /// Adds a WARN line to the lines that rsup logs when it starts.
    pub(crate) fn warn_at_start(&mut self, text: String) {
        self.context.log_at_start(Level::Warn, text);
    }

    fn report(&mut self, severity: Severity, key: &str, text: String) {
        let location = self.location(key);
        let subject = SectionKey { section: self.section.name, key };
        self.context.report.add(severity, Some(location), subject, text);
    }
}
