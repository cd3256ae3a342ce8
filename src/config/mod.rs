//! Reads a configuration file, with the grammar and the meaning of supervisord.
//!
//! [`load()`] reads the files (`load.rs`), splits them into sections (`grammar/`), and turns each kind of section into
//! values (`sections/`). It returns a [`Report`] of every error and warning (`report.rs`, `warnings.rs`) and, if there
//! is no error, a [`Config`] (`model.rs`). Only `load.rs` uses the file system.
//!
//! ```no_run
//! # fn check_user(_: &str) -> Result<(), String> { Ok(()) }
//! use rsup::config::{self, Machine, Overrides};
//! use std::path::Path;
//!
//! let environment = vec![("PATH".to_string(), "/bin".to_string())];
//! let machine = Machine {
//!     environment: &environment,
//!     non_utf8_env_names: &[],
//!     host: "web1",
//!     list_directory: &rsup::sys::list_directory,
//!     check_user: &check_user,
//!     try_step: None,
//! };
//! // An `Err` is the message that no file exists in the search path.
//! let file = config::find_config_file(Path::new("/sbin/rsup"))?;
//! let loaded = config::load(&file, &Overrides::default(), &machine);
//! // `--check` prints the whole report. A start prints only the errors, and exits with 2 if there is one.
//! let text = loaded.report.to_string();
//! if let Some(config) = loaded.config {
//!     for notice in &loaded.notices { /* log notice.text at notice.level before the first program starts */ }
//!     for process in &config.processes { /* … */ }
//!     let json = config.to_json(); // `--print-config` prints this.
//! }
//! # Ok::<(), String>(())
//! ```

mod grammar;
mod json;
mod load;
mod model;
mod report;
mod sample;
mod sections;
#[cfg(test)]
mod tests;
mod warnings;

pub(crate) use grammar::collections::StableSort;
pub use grammar::python::repr;
pub use load::{client_settings, find_config_file, load};
pub use model::{
    ClientSettings, Config, ListDirectory, Loaded, LogFile, Machine, Obstacle, OutputMode, Overrides,
    ProcessConfig, ProcessKind, Replacement, Rotation, RsupStartStep, Socket, SocketAddress, Startup,
    StreamEvents, Supervisord, TryStep, descriptor_of_path, expand_home,
};
pub use report::{Notice, Report};
pub use sample::SAMPLE;
pub use sections::value;
