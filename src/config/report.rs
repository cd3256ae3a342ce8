//! The errors and warnings of a configuration, each with its file and line.
//!
//! supervisord stops at the first error. rsup reports all of them, and warns of names that supervisord ignores.

use std::fmt;

use crate::config::grammar::collections::StableSort;
use crate::config::grammar::document::SourceLocation;
use crate::config::grammar::python::escape_control_chars;
use crate::policy::Level;

/// A line about the configuration that rsup logs when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub level: Level,
    pub text: String,
}

/// Whether a finding is an error or a warning. If there is an error, rsup starts nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    Error,
    Warning,
}

/// The section and the key that a finding is about. A finding about a whole section has an empty key; a finding about a
/// line or a file has an empty section and an empty key.
#[derive(Clone, Copy)]
pub(crate) struct SectionKey<'a> {
    pub(crate) section: &'a str,
    pub(crate) key: &'a str,
}

impl SectionKey<'_> {
    pub(crate) const NONE: Self = Self { section: "", key: "" };
}

/// One error or warning.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    location: Option<SourceLocation>,
    severity: Severity,
    section: String,
    key: String,
    text: String,
}

/// All errors and warnings. Each is displayed as `FILE:LINE: error: [section] key: text`, with `warning:` if it is a
/// warning.
#[derive(Debug, Default)]
pub struct Report {
    files: Vec<String>,
    findings: Vec<Finding>,
    /// The number of errors, including repeated ones and those that are not in `findings` because of [`MAX_SIZE`].
    errors: usize,
    /// The size of the errors and warnings in bytes. If it exceeds [`MAX_SIZE`], no more are added to `findings`.
    size: usize,
    /// The number of errors and warnings that are not in `findings` because of [`MAX_SIZE`].
    not_shown: usize,
}

/// Limit on the bytes of all errors and warnings. A hundred thousand programs can inherit the same error from
/// `[DEFAULT]`.
const MAX_SIZE: usize = 8 << 20;

/// The escape sequences before and after a severity.
struct Colours {
    error: &'static str,
    warning: &'static str,
    end: &'static str,
}

const NO_COLOURS: Colours = Colours { error: "", warning: "", end: "" };
const ANSI_COLOURS: Colours = Colours { error: "\x1b[1;31m", warning: "\x1b[1;33m", end: "\x1b[0m" };

impl Report {
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Returns a line for each error, and also for each warning if `warnings` is true, sorted by file and line. If two
    /// groups list the same program, its section is read twice, so equal lines are returned only once. If errors or
    /// warnings were left out because of `MAX_SIZE`, the last line says how many.
    pub fn lines(&self, warnings: bool) -> impl Iterator<Item = String> {
        self.rendered(warnings, &NO_COLOURS)
    }

    /// All errors and warnings, with coloured severities.
    #[must_use]
    pub fn in_colour(&self) -> String {
        self.rendered(true, &ANSI_COLOURS).map(|line| line + "\n").collect()
    }

    fn rendered(&self, warnings: bool, colours: &Colours) -> impl Iterator<Item = String> + use<> {
        let mut order = StableSort::default();
        for finding in self.findings.iter().filter(|finding| warnings || finding.severity == Severity::Error)
        {
            order.push(finding.location.map_or(0, SourceLocation::rank), self.render(finding, colours));
        }
        let mut lines: Vec<_> = order.into_sorted().map(|(line, _)| line).collect();
        lines.dedup();
        if self.not_shown > 0 {
            lines.push(format!("{} more findings are not shown", self.not_shown));
        }
        lines.into_iter()
    }

    /// Adds the name of a file. Returns the index of the file, for [`SourceLocation::file`].
    pub(crate) fn add_file(&mut self, name: String) -> usize {
        self.files.push(name);
        self.files.len().saturating_sub(1)
    }

    pub(crate) fn add(
        &mut self,
        severity: Severity,
        location: Option<SourceLocation>,
        subject: SectionKey<'_>,
        text: String,
    ) {
        self.errors = self.errors.saturating_add(usize::from(severity == Severity::Error));
        let section = subject.section.to_owned();
        let key = subject.key.to_owned();
        let finding = Finding { location, severity, section, key, text };
        // If numprocs > 1, each process of the section can cause the same warning again. If a group lists a program
        // twice, the section of the program is read twice and can cause the same error again.
        if self.findings.last() == Some(&finding) {
            return;
        }
        let size =
            size_of::<Finding>().saturating_add(finding.text.len()).saturating_add(finding.section.len());
        self.size = self.size.saturating_add(size);
        if self.size > MAX_SIZE {
            self.not_shown = self.not_shown.saturating_add(1);
        } else {
            self.findings.push(finding);
        }
    }

    /// The number of errors, including repeated ones.
    pub(crate) fn error_count(&self) -> usize {
        self.errors
    }

    fn render(&self, finding: &Finding, colours: &Colours) -> String {
        let location = finding.location.and_then(|at| Some((self.files.get(at.file)?, at.line)));
        let prefix = location.map_or_else(String::new, |(file, line)| format!("{file}:{line}: "));
        let (colour, severity) = match finding.severity {
            // An error that is not about a line is written like supervisord's own errors.
            Severity::Error if prefix.is_empty() => (colours.error, "Error:"),
            Severity::Error => (colours.error, "error:"),
            Severity::Warning => (colours.warning, "warning:"),
        };
        let mut message = String::new();
        let section = format!("[{}]", finding.section);
        // Some of supervisord's messages already name the section.
        if !finding.section.is_empty() && !finding.text.contains(&section) {
            message.push_str(&section);
            message.push_str(if finding.key.is_empty() { ": " } else { " " });
        }
        if !finding.key.is_empty() {
            message.push_str(&finding.key);
            message.push_str(": ");
        }
        message.push_str(&finding.text);
        // File names, section names and messages can contain control characters, which a terminal must not receive,
        // because it acts on them.
        format!(
            "{}{colour}{severity}{} {}",
            escape_control_chars(&prefix),
            colours.end,
            escape_control_chars(&message)
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines(true).try_for_each(|line| writeln!(f, "{line}"))
    }
}
