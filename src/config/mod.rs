//! From text to [`Config`]. Pure but for `load.rs`, which reads the files.
//!
//! ```no_run
//! # fn look_up(_: &str) -> Result<(), String> { Ok(()) }
//! use rsup::config::{self, Inputs, Overrides};
//! use std::path::Path;
//!
//! let environment = vec![("PATH".to_string(), "/bin".to_string())];
//! let inputs = Inputs { environment: &environment, host: "web1", check_user: &look_up };
//! // `Err` is the text for stderr when the search path holds no file.
//! let file = config::find(Path::new("/sbin/rsup"))?;
//! let loaded = config::load(&file, &Overrides::default(), &inputs);
//! // `--check` prints every line of this; a start prints the errors and leaves with 2 when there are any.
//! let text = loaded.report.to_string();
//! if let Some(config) = loaded.config {
//!     for notice in &loaded.notices { /* log notice.text at notice.level, before anything is started */ }
//!     for process in &config.processes { /* … */ }
//!     let json = config.to_json(); // `--print-config`
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

pub use grammar::python::repr;
pub use load::{find, load};
pub use model::{
    Address, Config, Inputs, Loaded, LogFile, Overrides, ProcessConfig, SectionKind, Socket, Supervisord,
};
pub use report::{Notice, Report};
pub use sample::SAMPLE;
pub use sections::value;
