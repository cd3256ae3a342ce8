//! Why a command ends early.

/// The reason why a command cannot be carried out. The command decides the text and the exit status of the first two
/// reasons.
#[derive(Clone, Copy, Debug)]
pub(super) enum Failure {
    /// No process was found that is an rsup.
    RsupNotFound,
    /// rsup is stopping every process. It accepts no request except `shutdown`, which turns a reload into an exit.
    ShuttingDown,
    /// Another reason, as the text of the line `error: …`.
    Other(&'static str),
    /// Writing to stdout failed, usually because its reader has closed it. Most commands end without a message.
    /// `start`, `stop`, `restart` and `signal` continue. If `shutdown` or `reload` cannot write its success text, the
    /// command still sends its request.
    OutputClosed,
}

impl Failure {
    /// The request pipe cannot be used any more. Normally rsup has ended or has executed itself again.
    pub(super) const HAS_ENDED: Self = Self::Other("rsup has ended");

    /// Returns a failure with this text. The text is leaked. So `Failure` has no destructor, which makes the program
    /// some kilobytes smaller. Each failed command leaks one short text.
    pub(super) fn other(text: String) -> Self {
        Self::Other(text.leak())
    }
}
