//! Everything that is wrong with a configuration, and what is to be logged of it.

use std::fmt;

use crate::config::grammar::document::SourceLocation;
use crate::config::grammar::ordered::StableSort;
use crate::config::grammar::python::visible;
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    Error,
    Warning,
}

/// The section and the key that a finding is about. Either is empty if the finding is about none.
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
    place: Option<SourceLocation>,
    severity: Severity,
    section: String,
    key: String,
    text: String,
}

/// Every error and warning, each with its file and line; displayed as `FILE:LINE: error: [section] key: text`.
#[derive(Debug, Default)]
pub struct Report {
    files: Vec<String>,
    findings: Vec<Finding>,
    /// How often an error was added, repeated ones too.
    errors: usize,
    /// How many bytes the findings take.
    size: usize,
    /// How many found no room any more.
    left_out: usize,
}

/// Nobody reads more; a mistake that each of a hundred thousand programs inherits must not fill the memory.
const MAX_SIZE: usize = 8 << 20;

/// What a terminal is told before and after a severity.
struct Paint {
    error: &'static str,
    warning: &'static str,
    end: &'static str,
}

const PLAIN: Paint = Paint { error: "", warning: "", end: "" };
const COLOURS: Paint = Paint { error: "\x1b[1;31m", warning: "\x1b[1;33m", end: "\x1b[0m" };

impl Report {
    /// Whether nothing must be started.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Its lines by file and line, the warnings too or only the errors; each once, for a section that two groups list
    /// is read twice.
    pub fn lines(&self, warnings: bool) -> impl Iterator<Item = String> {
        self.rendered(warnings, &PLAIN)
    }

    /// All lines for a terminal, the severities in colour.
    #[must_use]
    pub fn in_colour(&self) -> String {
        self.rendered(true, &COLOURS).map(|line| line + "\n").collect()
    }

    fn rendered(&self, warnings: bool, paint: &Paint) -> impl Iterator<Item = String> + use<> {
        let mut order = StableSort::default();
        for finding in self.findings.iter().filter(|finding| warnings || finding.severity == Severity::Error)
        {
            order.push(finding.place.map_or(0, SourceLocation::rank), self.render(finding, paint));
        }
        let mut lines: Vec<_> = order.into_iter().map(|(line, _)| line).collect();
        lines.dedup();
        if self.left_out > 0 {
            lines.push(format!("{} more findings are not shown", self.left_out));
        }
        lines.into_iter()
    }

    /// Registers a file by the name it is reported under.
    pub(crate) fn add_file(&mut self, name: String) -> usize {
        self.files.push(name);
        self.files.len().saturating_sub(1)
    }

    /// Reports something about a key (or none) of a section (or none).
    pub(crate) fn add(
        &mut self,
        severity: Severity,
        place: Option<SourceLocation>,
        subject: SectionKey<'_>,
        text: String,
    ) {
        self.errors = self.errors.saturating_add(usize::from(severity == Severity::Error));
        let section = subject.section.to_owned();
        let key = subject.key.to_owned();
        let finding = Finding { place, severity, section, key, text };
        // The processes of one section come to the same findings.
        if self.findings.last() == Some(&finding) {
            return;
        }
        let size =
            size_of::<Finding>().saturating_add(finding.text.len()).saturating_add(finding.section.len());
        self.size = self.size.saturating_add(size);
        if self.size > MAX_SIZE {
            self.left_out = self.left_out.saturating_add(1);
        } else {
            self.findings.push(finding);
        }
    }

    /// How often an error was added.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    fn render(&self, finding: &Finding, paint: &Paint) -> String {
        let at = finding.place.and_then(|at| Some((self.files.get(at.file)?, at.line)));
        let place = at.map_or_else(String::new, |(file, line)| format!("{file}:{line}: "));
        let (colour, severity) = match finding.severity {
            // Without a place it is not about a line of a file: supervisord's own spelling.
            Severity::Error if place.is_empty() => (paint.error, "Error:"),
            Severity::Error => (paint.error, "error:"),
            Severity::Warning => (paint.warning, "warning:"),
        };
        let mut what = String::new();
        let section = format!("[{}]", finding.section);
        // Some of supervisord's texts name the section themselves.
        if !finding.section.is_empty() && !finding.text.contains(&section) {
            what.push_str(&section);
            what.push_str(if finding.key.is_empty() { ": " } else { " " });
        }
        if !finding.key.is_empty() {
            what.push_str(&finding.key);
            what.push_str(": ");
        }
        what.push_str(&finding.text);
        // Names and some texts quote the file as it is; what they hold must not command a terminal.
        format!("{}{colour}{severity}{} {}", visible(&place), paint.end, visible(&what))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines(true).try_for_each(|line| writeln!(f, "{line}"))
    }
}
