//! What the commands of one client have in common: the options, the output and the exit status.

use super::config_loaders::ConfigLoaders;
use super::failure::Failure;
use super::help;
use super::options::Options;
use crate::config::ClientSettings;
use crate::sys;
use std::fmt;

/// One run of the client. From the prompt, one run may carry out many commands.
pub(super) struct ClientRun<'a> {
    pub(super) options: Options,
    pub(super) config_loaders: &'a ConfigLoaders<'a>,
    /// Whether the client asks the user before it sends `shutdown` or `reload`.
    pub(super) asks_user: bool,
    /// The exit status. Some results set it, and nothing sets it back to 0. The prompt ignores it.
    pub(super) status: u8,
}

impl<'a> ClientRun<'a> {
    pub(super) fn new(options: Options, config_loaders: &'a ConfigLoaders<'a>) -> Self {
        Self { asks_user: options.interactive, options, config_loaders, status: 0 }
    }

    /// Writes bytes to stdout.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        sys::write_out(sys::STDOUT, bytes).map_err(|_| Failure::OutputClosed)
    }

    /// Writes a line to stdout. As in supervisorctl, errors are lines on stdout too.
    pub(super) fn line(&self, text: fmt::Arguments<'_>) -> Result<(), Failure> {
        self.write(format!("{text}\n").as_bytes())
    }

    /// Writes the line of an error, and sets the exit status.
    pub(super) fn error(&mut self, status: u8, text: fmt::Arguments<'_>) -> Result<(), Failure> {
        self.status = status;
        self.line(text)
    }

    /// Writes an error line about wrong arguments, and then the help of the command.
    pub(super) fn usage_error(&mut self, status: u8, command: &str, why: &str) -> Result<(), Failure> {
        self.error(status, format_args!("Error: {command} {why}"))?;
        self.write(help::of(command).unwrap_or_default().as_bytes())
    }

    /// Returns true if no question is needed, or if the user's answer begins with `y` or `Y`.
    pub(super) fn confirms(&self, question: &str) -> Result<bool, Failure> {
        if !self.asks_user {
            return Ok(true);
        }
        self.write(question.as_bytes())?;
        Ok(read_line().is_some_and(|line| line.starts_with(['y', 'Y'])))
    }

    pub(super) fn settings(&self) -> ClientSettings {
        let mut settings = (self.config_loaders.settings)(self.options.configuration.as_deref());
        if let Some(url) = &self.options.server_url {
            settings.supervisorctl_server_url.clone_from(url);
        }
        settings
    }
}

/// Reads a line from stdin. Returns `None` at the end of the input, and after an error.
pub(super) fn read_line() -> Option<String> {
    let mut bytes = vec![sys::read_stdin_byte()?];
    // The client reads only one byte at a time. So the bytes after the line stay in the pipe, and a program that reads
    // from the pipe after the client gets them.
    while bytes.last() != Some(&b'\n')
        && let Some(byte) = sys::read_stdin_byte()
    {
        bytes.push(byte);
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
