//! The client: the commands of `supervisorctl`, with its texts and exit statuses.
//!
//! rsup does none of this work. The client finds rsup (`find.rs`), reads the board and writes requests
//! (`running_rsup.rs`), and waits until the board shows the result (`action.rs` decides, `request_commands.rs` waits).
//! If supervisorctl 4.3 has a text for the same case, the client writes that text, unless a comment says otherwise. The
//! text of `--help` is rsup's own.

mod action;
mod client_run;
mod config_loaders;
mod failure;
mod find;
mod help;
mod line;
mod names;
mod options;
mod request_commands;
mod running_rsup;
mod status;
mod tail;

pub use config_loaders::{ConfigLoaders, Launch, Load};

use self::client_run::ClientRun;
use self::options::Options;
use crate::cli::EarlyExit;
use crate::log::Escaped;
use crate::sys;
use std::ffi::OsString;

/// The exit status after a wrong command line.
const USAGE_ERROR: u8 = 2;

/// Runs the client with supervisorctl's command line, which comes without the program's name. `program` is the name for
/// messages. Returns the exit status.
#[must_use]
pub fn run(program: &str, arguments: &[OsString], config_loaders: &ConfigLoaders<'_>) -> u8 {
    // The client may have to go on after its output was closed.
    sys::ignore_broken_pipe();
    // An error of these writes cannot be reported anywhere.
    match options::parse(arguments) {
        Ok(options) => run_commands(options, config_loaders),
        Err(EarlyExit::HelpOrVersion(text)) => {
            let _ = sys::write_out(sys::STDOUT, text.replace("%s", program).as_bytes());
            0
        }
        Err(EarlyExit::UsageError(why)) => {
            let text = format!("Error: {}\nFor help, use {} -h\n", Escaped(&why), Escaped(program));
            let _ = sys::write_out(sys::STDERR, text.as_bytes());
            USAGE_ERROR
        }
    }
}

fn run_commands(mut options: Options, config_loaders: &ConfigLoaders<'_>) -> u8 {
    let words = options.words.take();
    let mut client_run = ClientRun::new(options, config_loaders);
    if let Some(words) = words {
        line::run(&mut client_run, &words);
        return client_run.status;
    }
    client_run.asks_user = true;
    line::run_prompt(&mut client_run);
    0
}
