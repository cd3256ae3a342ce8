//! Why a command ends early.

/// The reason why a command cannot be carried out. The command decides the text and the exit status of the first two
/// reasons.
#[derive(Clone, Copy, Debug)]
pub(super) enum Failure {
    /// No process was found that is an rsup.
    NotFound,
    /// rsup stops every process, and accepts no request any more.
    ShuttingDown,
    /// Another reason, as the text of the line `error: …`.
    Other(&'static str),
    /// stdout cannot be written, in general because its reader has closed it. The client ends without a message.
    OutputClosed,
}

impl Failure {
    /// rsup has ended, or has executed itself again, since the client has found it.
    pub(super) const HAS_ENDED: Self = Self::Other("rsup has ended");

    /// Returns a failure with this text. The memory of the text is not released, because a failure without a destructor
    /// makes the program smaller by some kilobytes, and the client soon ends.
    pub(super) fn other(text: String) -> Self {
        Self::Other(text.leak())
    }
}
