//! How much a log line matters, in supervisord's words.

/// A log level; a later one is chattier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// `critical`, logged as CRIT.
    Critical,
    /// `error`, logged as ERRO.
    Error,
    /// `warn`, logged as WARN.
    Warn,
    /// `info`, logged as INFO; the default.
    Info,
    /// `debug`, logged as DEBG.
    Debug,
    /// `trace`, logged as TRAC.
    Trace,
    /// `blather`, logged as BLAT.
    Blather,
}

impl Level {
    /// The level of a `loglevel` value in lower case; supervisord knows no `warning`, no `crit` and no numbers.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "critical" => Self::Critical,
            "error" => Self::Error,
            "warn" => Self::Warn,
            "info" => Self::Info,
            "debug" => Self::Debug,
            "trace" => Self::Trace,
            "blather" => Self::Blather,
            _ => return None,
        })
    }

    /// The four letters that stand in a line.
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
