//! supervisord's log levels.

/// A log level of supervisord. The most urgent level comes first and compares as the smallest. A log line is written if
/// its level is at least as urgent as `loglevel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Critical,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
    Blather,
}

const ALL: [Level; 7] =
    [Level::Critical, Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace, Level::Blather];

impl Level {
    /// Returns the level that has this name in `loglevel=`. `name` must be in lower case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        ALL.into_iter().find(|level| level.name() == name)
    }

    /// The level's name in `loglevel=`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
            Self::Blather => "blather",
        }
    }

    /// The abbreviation of the level in a log line, for example `CRIT`.
    #[must_use]
    pub fn tag(self) -> &'static str {
        match self {
            Self::Critical => "CRIT",
            Self::Error => "ERRO",
            Self::Warn => "WARN",
            Self::Info => "INFO",
            Self::Debug => "DEBG",
            Self::Trace => "TRAC",
            Self::Blather => "BLAT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL, Level};

    #[test]
    fn every_level_has_the_names_of_supervisord() {
        let names: Vec<_> = ALL.iter().map(|level| (level.name(), level.tag())).collect();
        assert_eq!(
            names,
            [
                ("critical", "CRIT"),
                ("error", "ERRO"),
                ("warn", "WARN"),
                ("info", "INFO"),
                ("debug", "DEBG"),
                ("trace", "TRAC"),
                ("blather", "BLAT"),
            ]
        );
    }

    #[test]
    fn a_level_is_found_by_its_name_in_lower_case_only() {
        for level in ALL {
            assert_eq!(Level::from_name(level.name()), Some(level));
            assert_eq!(Level::from_name(level.tag()), None);
        }
        assert_eq!(Level::from_name(""), None);
        assert_eq!(Level::from_name("warning"), None);
    }

    #[test]
    fn a_more_urgent_level_is_less() {
        assert!(ALL.is_sorted());
    }
}
