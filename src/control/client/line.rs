//! Carries out one line of input, from the command line or from the prompt.

use super::action::Action;
use super::client_run::{ClientRun, read_line};
use super::failure::Failure;
use super::find::find;
use super::{help, request_commands, status, tail};
use crate::cli::SUPERVISORD_VERSION;
use crate::config::value::signal;
use crate::control::request::Request;
use std::path::Path;

/// Why rsup does not carry out some of supervisorctl's commands, and what to do instead.
const UNSUPPORTED: [(&str, &str); 8] = [
    ("add", USE_RELOAD_TEXT),
    ("clear", "rsup clears no log file: empty the file itself, for example with \": > FILE\" in a shell"),
    (
        "fg",
        "rsup connects no program to this terminal: use \"tail -f NAME\", or \"docker attach\" for output that goes \
         to rsup's stdout",
    ),
    (
        "maintail",
        "rsup has no log file: it writes its log to its stderr, which \"docker logs\" or \"kubectl logs\" shows",
    ),
    ("open", "rsup has no server to connect to: set RSUP_PID to the process ID of the rsup to control"),
    ("remove", USE_RELOAD_TEXT),
    ("reread", USE_RELOAD_TEXT),
    ("update", USE_RELOAD_TEXT),
];
const USE_RELOAD_TEXT: &str =
    "rsup reads its file only at start: use \"reload\", which restarts all programs with the new file";

/// A line of input, split into the command and the text after the command.
#[derive(Debug, PartialEq, Eq)]
struct InputLine {
    text: String,
    /// The number of bytes of `text` that are the command: letters, digits and underscores.
    command_length: usize,
}

impl InputLine {
    fn new(input: &str) -> Self {
        let input = input.trim_ascii();
        let text = match input.strip_prefix('?') {
            Some(topic) => format!("help {topic}").trim_ascii_end().to_owned(),
            None => input.to_owned(),
        };
        let is_in_command = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let command_length = text.find(|c| !is_in_command(c)).unwrap_or(text.len());
        Self { text, command_length }
    }

    fn command(&self) -> &str {
        self.text.get(..self.command_length).unwrap_or_default()
    }

    fn argument(&self) -> &str {
        self.text.get(self.command_length..).unwrap_or_default().trim_ascii()
    }
}

/// Shows the state of all processes. Then carries out lines from stdin until `quit`, `exit`, the end of input or a
/// write error.
pub(super) fn run_prompt(client_run: &mut ClientRun<'_>) {
    let prompt = format!("{}> ", client_run.settings().prompt);
    let mut goes_on = run(client_run, "status");
    while goes_on && client_run.write(prompt.as_bytes()).is_ok() {
        let input = read_line();
        goes_on = run(client_run, input.as_deref().unwrap_or("EOF"));
    }
}

/// Carries out one line. Returns whether the prompt may read another one.
pub(super) fn run(client_run: &mut ClientRun<'_>, input: &str) -> bool {
    let line = InputLine::new(input);
    if line.text.is_empty() {
        return true;
    }
    let command = line.command();
    let result = match execute(client_run, &line) {
        Err(failure) => report(client_run, command, failure),
        Ok(()) => Ok(()),
    };
    if result.is_err() {
        client_run.status = 1;
    }
    result.is_ok() && !is_end(command)
}

fn is_end(command: &str) -> bool {
    ["quit", "exit", "EOF"].contains(&command)
}

fn execute(client_run: &mut ClientRun<'_>, line: &InputLine) -> Result<(), Failure> {
    let argument = line.argument();
    let command = line.command();
    if command == "help" {
        return show_help(client_run, argument);
    }
    if is_end(command) {
        return client_run.write(b"\n");
    }
    if let Some((_, instead)) = UNSUPPORTED.iter().find(|(name, _)| *name == command) {
        return client_run.error(1, format_args!("ERROR: {instead}"));
    }
    if help::of(command).is_none() {
        return client_run.error(1, format_args!("*** Unknown syntax: {}", line.text));
    }
    if ["version", "avail", "shutdown", "reload"].contains(&command) && !argument.is_empty() {
        return client_run.usage_error(1, command, "accepts no arguments");
    }
    let rsup = find()?;
    let board = if command == "shutdown" { rsup.read() } else { rsup.read_unless_shutting_down() }?;
    let words: Vec<&str> = argument.split_ascii_whitespace().collect();
    match command {
        "status" => status::status(client_run, &board, &words),
        "health" => status::health(client_run, &board, &words),
        "pid" => status::pid(client_run, rsup.pid, &board, &words),
        "avail" => status::avail(client_run, &board),
        "start" => request_commands::start_stop_or_signal(client_run, &rsup, Action::Start, &words),
        "stop" => request_commands::start_stop_or_signal(client_run, &rsup, Action::Stop, &words),
        "restart" => request_commands::restart(client_run, &rsup, &words),
        "signal" => {
            let number = words.first().and_then(|name| signal(name).ok()).map(|signal| signal.number());
            request_commands::start_stop_or_signal(
                client_run,
                &rsup,
                Action::Signal(number),
                words.get(1..).unwrap_or_default(),
            )
        }
        "shutdown" => {
            let question = "Really shut the remote supervisord process down y/N? ";
            request_commands::confirm_and_send(client_run, &rsup, Request::Shutdown, question, "Shut down")
        }
        "reload" => {
            let question = "Really restart the remote supervisord process y/N? ";
            request_commands::confirm_and_send(
                client_run,
                &rsup,
                Request::Reload,
                question,
                "Restarted supervisord",
            )
        }
        "tail" => tail::tail(client_run, &rsup, &board, &words),
        _ => client_run.line(format_args!("{SUPERVISORD_VERSION}")),
    }
}

fn show_help(client_run: &ClientRun<'_>, topic: &str) -> Result<(), Failure> {
    match help::of(topic) {
        _ if topic.is_empty() => client_run.write(help::LISTING.as_bytes()),
        Some(text) => client_run.write(text.as_bytes()),
        None => client_run.line(format_args!("*** No help on {topic}")),
    }
}

/// Writes why a command could not be carried out, and sets the exit status.
fn report(client_run: &mut ClientRun<'_>, command: &str, failure: Failure) -> Result<(), Failure> {
    match failure {
        Failure::OutputClosed => Err(failure),
        Failure::Other(why) => client_run.error(1, format_args!("error: {why}")),
        Failure::RsupNotFound => report_rsup_not_found(client_run, command),
        Failure::ShuttingDown => {
            let text = match command {
                "shutdown" | "reload" => "ERROR: already shutting down",
                "avail" => "ERROR: supervisor shutting down",
                "health" => "rsup is shutting down",
                _ => "error: <class 'xmlrpc.client.Fault'>, <Fault 6: 'SHUTDOWN_STATE'>",
            };
            // rsup exits, which is what `shutdown` requests, so this is no failure.
            let status = if command == "shutdown" { client_run.status } else { 1 };
            client_run.error(status, format_args!("{text}"))
        }
    }
}

/// Writes what supervisorctl writes if it cannot connect to its server.
fn report_rsup_not_found(client_run: &mut ClientRun<'_>, command: &str) -> Result<(), Failure> {
    let url = client_run.settings().supervisorctl_server_url;
    let is_missing = url.strip_prefix("unix://").is_some_and(|path| !Path::new(path).exists());
    let why = if is_missing { "no such file" } else { "refused connection" };
    match command {
        "shutdown" => client_run.error(1, format_args!("ERROR: {url} {why} (already shut down?)")),
        "reload" | "avail" => {
            let error = if is_missing {
                "<class 'FileNotFoundError'>, [Errno 2] No such file or directory"
            } else {
                "<class 'ConnectionRefusedError'>, [Errno 111] Connection refused"
            };
            client_run.error(1, format_args!("error: {error}"))
        }
        _ => {
            let status = match command {
                "health" => 1,
                "status" => 4,
                _ if is_missing => 7,
                _ => 4,
            };
            client_run.error(status, format_args!("{url} {why}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_behind_the_leading_letters() {
        for (input, command, argument) in [
            ("status", "status", ""),
            (" signal HUP  web ", "signal", "HUP  web"),
            ("stop-all", "stop", "-all"),
            ("restart_x y", "restart_x", "y"),
            ("?", "help", ""),
            ("?stop", "help", "stop"),
            ("? stop", "help", "stop"),
            ("!ls", "", "!ls"),
            ("ä b", "", "ä b"),
            ("", "", ""),
        ] {
            let line = InputLine::new(input);
            assert_eq!((line.command(), line.argument()), (command, argument), "{input:?}");
        }
        assert_eq!(InputLine::new(" nosuch web ").text, "nosuch web");
    }

    #[test]
    fn a_signal_is_a_name_in_any_case_or_a_number() {
        let number = |text| signal(text).ok().map(|signal| signal.number());
        for (text, want) in [
            ("HUP", Some(1)),
            ("sighup", Some(1)),
            ("SIGTERM", Some(15)),
            ("9", Some(9)),
            ("0", Some(0)),
            ("64", Some(64)),
            ("65", None),
            ("-1", None),
            ("NOPE", None),
        ] {
            assert_eq!(number(text), want, "{text}");
        }
    }

    #[test]
    fn every_unsupported_command_has_a_help() {
        for (command, instead) in UNSUPPORTED {
            assert!(help::of(command).is_some(), "{command}");
            assert!(!instead.contains('\n'), "{command}");
        }
    }
}
