//! The names of the states of a process.

/// supervisord's name of a state of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StateName {
    Stopped,
    Starting,
    Running,
    Backoff,
    Stopping,
    Exited,
    Fatal,
}

impl StateName {
    pub const ALL: [Self; 7] = [
        Self::Stopped,
        Self::Starting,
        Self::Running,
        Self::Backoff,
        Self::Stopping,
        Self::Exited,
        Self::Fatal,
    ];

    /// Whether a process in this state has a leader. A leader is a child that rsup is about to fork, or that rsup has
    /// forked and not reaped yet.
    #[must_use]
    pub fn has_leader(self) -> bool {
        match self {
            Self::Starting | Self::Running | Self::Stopping => true,
            Self::Stopped | Self::Backoff | Self::Exited | Self::Fatal => false,
        }
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stopped => "STOPPED",
            Self::Starting => "STARTING",
            Self::Running => "RUNNING",
            Self::Backoff => "BACKOFF",
            Self::Stopping => "STOPPING",
            Self::Exited => "EXITED",
            Self::Fatal => "FATAL",
        }
    }
}
