//! Everything that is wrong with a configuration, and what is to be logged of it.

use std::collections::BTreeSet;
use std::fmt;

use super::ini::Place;
use crate::policy::Level;

/// A line for the log at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The level it is logged at.
    pub level: Level,
    /// The line.
    pub text: String,
}

/// How bad a finding is: with an error nothing is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    Error,
    Warning,
}

/// One error or warning. The order of the fields is the order of the report.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    place: Option<Place>,
    severity: Severity,
    section: String,
    key: String,
    text: String,
}

/// Every error and warning, each with its file and line; displayed as `FILE:LINE: error: [section] key: text`.
#[derive(Debug, Default)]
pub struct Report {
    files: Vec<String>,
    /// In order, each once: a section that two groups list is read twice.
    findings: BTreeSet<Finding>,
    /// How often an error was added, repeated ones too.
    errors: usize,
}

impl Report {
    /// Whether nothing must be started.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Its lines in order, the warnings too or only the errors.
    pub fn lines(&self, warnings: bool) -> impl Iterator<Item = String> {
        let wanted = move |finding: &&Finding| warnings || finding.severity == Severity::Error;
        self.findings.iter().filter(wanted).map(|finding| self.render(finding))
    }

    /// Registers a file by the name it is reported under.
    pub(super) fn add_file(&mut self, name: String) -> usize {
        self.files.push(name);
        self.files.len().saturating_sub(1)
    }

    /// How many files are registered.
    pub(super) fn files(&self) -> usize {
        self.files.len()
    }

    /// Reports something about a key (or none) of a section (or none).
    pub(super) fn add(&mut self, severity: Severity, place: Option<Place>, at: (&str, &str), text: String) {
        self.errors = self.errors.saturating_add(usize::from(severity == Severity::Error));
        let (section, key) = (at.0.to_owned(), at.1.to_owned());
        self.findings.insert(Finding { place, severity, section, key, text });
    }

    /// How often an error was added.
    pub(super) fn errors(&self) -> usize {
        self.errors
    }

    fn render(&self, finding: &Finding) -> String {
        let mut line = String::new();
        if let Some((file, place)) = finding.place.and_then(|at| Some((self.files.get(at.file)?, at))) {
            line = format!("{file}:{}: ", place.line);
        }
        line.push_str(match finding.severity {
            Severity::Error => "error: ",
            Severity::Warning => "warning: ",
        });
        let section = format!("[{}]", finding.section);
        // Some of supervisord's texts name the section themselves.
        if !finding.section.is_empty() && !finding.text.contains(&section) {
            line.push_str(&section);
            line.push_str(if finding.key.is_empty() { ": " } else { " " });
        }
        if !finding.key.is_empty() {
            line.push_str(&finding.key);
            line.push_str(": ");
        }
        line.push_str(&finding.text);
        // Some texts quote a value as it is; a finding is one line all the same.
        line.replace('\n', "\\n")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines(true).try_for_each(|line| writeln!(f, "{line}"))
    }
}
