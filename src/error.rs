//! Errors that end rsup before the first program runs, and the failure to execute rsup again after a reload. Each of
//! them ends rsup with exit code 2.

use crate::log::Escaped;
use crate::sys::Errno;
use std::fmt;
use std::io;

/// The reason why rsup starts no program, or why rsup cannot execute itself again. The caller adds `Error: ` and a
/// newline to the displayed text, except to the text of `Configuration`, which is complete.
#[derive(Debug)]
pub enum Error {
    /// The command line is wrong, or no configuration file was found.
    Usage {
        /// The reason. The words are supervisord's if supervisord reports the same error.
        reason: String,
        /// The name that rsup was started under.
        program: String,
    },
    /// The configuration has errors. The text is the report, which already marks each error with `error:` or `Error:`.
    Configuration(String),
    /// A descriptor from 0 to 2 was closed at the start and could not be opened.
    StandardDescriptors(Errno),
    /// rt_sigprocmask(2) failed.
    BlockSignals(Errno),
    /// signalfd(2), epoll_create1(2) or epoll_ctl(2) failed.
    WatchSignals(Errno),
    /// `[supervisord] user` or the command line names a user or a group that does not exist.
    UnknownUser(String),
    /// rsup could not switch to the user that `[supervisord] user` or the command line names. The text is supervisord's
    /// message if supervisord has one for this failure.
    DropPrivileges(String),
    /// A variable of `[supervisord] environment` contains a NUL byte, which execve(2) cannot pass on.
    NulInEnvironment,
    /// The socket of an `[fcgi-program:x]` could not be created.
    FastCgiSocket {
        /// The address of the socket, in the form of the key `socket`.
        url: String,
        /// The error of socket(2), bind(2), listen(2) or of a step that sets the owner or the mode.
        error: io::Error,
    },
    /// The file defines no process.
    NothingToStart,
    /// The text that an option asks for could not be written to stdout.
    Output(Errno),
    /// rsup could not execute itself again after a reload was requested.
    Reload(Errno),
    /// The arguments of rsup name a command to run, and rsup could not create a process for the command. The text is
    /// supervisord's message.
    Spawn(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage { reason, program } => {
                write!(f, "{}\nFor help, use {} -h", Escaped(reason), Escaped(program))
            }
            Self::Configuration(text) => f.write_str(text),
            Self::DropPrivileges(text) | Self::Spawn(text) => Escaped(text).fmt(f),
            Self::StandardDescriptors(errno) => write!(f, "can't open descriptors 0 to 2: {errno}"),
            Self::BlockSignals(errno) => write!(f, "can't block signals: {errno}"),
            Self::WatchSignals(errno) => write!(f, "can't watch signals: {errno}"),
            Self::Reload(errno) => write!(f, "can't execute rsup again: {errno}"),
            Self::Output(errno) => write!(f, "can't write to stdout: {errno}"),
            Self::UnknownUser(user) => write!(f, "Invalid user name {}", Escaped(user)),
            Self::NothingToStart => f.write_str("no program to start"),
            Self::NulInEnvironment => f.write_str("the environment of [supervisord] holds a NUL byte"),
            Self::FastCgiSocket { url, error } => {
                write!(f, "Could not create FastCGI socket {}: {error}", Escaped(url))
            }
        }
    }
}

impl std::error::Error for Error {}
