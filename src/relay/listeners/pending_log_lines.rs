//! Log lines about listeners, until the relay writes them to its log.

use crate::policy::Level;
use std::fmt;
use std::mem;

#[derive(Debug)]
pub(in crate::relay) struct PendingLogLines {
    /// The least severe level that is logged. `None` if nothing is.
    threshold: Option<Level>,
    lines: Vec<(Level, String)>,
}

impl PendingLogLines {
    pub(in crate::relay) fn new(threshold: Option<Level>) -> Self {
        Self { threshold, lines: Vec::new() }
    }

    pub(super) fn add(&mut self, level: Level, text: fmt::Arguments<'_>) {
        if self.shows(level) {
            self.lines.push((level, text.to_string()));
        }
    }

    pub(super) fn shows(&self, level: Level) -> bool {
        self.threshold.is_some_and(|threshold| level <= threshold)
    }

    /// Returns the lines that were added since the last call.
    pub(in crate::relay) fn take(&mut self) -> Vec<(Level, String)> {
        mem::take(&mut self.lines)
    }
}
