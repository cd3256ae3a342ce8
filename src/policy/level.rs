//! How much a log line matters.

/// supervisord's log levels, most urgent first: a line is shown when its level is at most the chosen one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// `critical`, CRIT.
    Critical,
    /// `error`, ERRO.
    Error,
    /// `warn`, WARN.
    Warn,
    /// `info`, INFO.
    Info,
    /// `debug`, DEBG.
    Debug,
    /// `trace`, TRAC.
    Trace,
    /// `blather`, BLAT.
    Blather,
}

/// Each level with its name in `loglevel=` and its name in a log line.
const NAMES: [(Level, &str, &str); 7] = [
    (Level::Critical, "critical", "CRIT"),
    (Level::Error, "error", "ERRO"),
    (Level::Warn, "warn", "WARN"),
    (Level::Info, "info", "INFO"),
    (Level::Debug, "debug", "DEBG"),
    (Level::Trace, "trace", "TRAC"),
    (Level::Blather, "blather", "BLAT"),
];

impl Level {
    /// The level that `loglevel=` calls so, in lower case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, known, _)| *known == name).map(|(level, _, _)| *level)
    }

    /// Its name in `loglevel=`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// Its name in a log line.
    #[must_use]
    pub fn tag(self) -> &'static str {
        self.row().1
    }

    fn row(self) -> (&'static str, &'static str) {
        NAMES.iter().find(|(level, ..)| *level == self).map_or(("info", "INFO"), |(_, name, tag)| (name, tag))
    }
}
