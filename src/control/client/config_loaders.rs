//! What the client needs of the configuration file. The caller of the client loads the file, because only the caller
//! knows the options of rsup's command line.

use crate::config::{ClientSettings, Config};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A function that loads the configuration of a running rsup. The first argument is the file that `-c` names. If it is
/// `None`, the function loads the file that rsup was started with. The error is the text for a message.
pub type Load<'a> = dyn Fn(Option<&Path>, Launch) -> Result<Config, String> + 'a;

/// The functions that read the configuration file.
pub struct ConfigLoaders<'a> {
    /// Returns the settings of the client. The argument is the file that `-c` names.
    pub settings: &'a dyn Fn(Option<&Path>) -> ClientSettings,
    pub load: &'a Load<'a>,
}

/// How a running rsup was started.
#[derive(Debug, Default)]
pub struct Launch {
    /// The path of the executable.
    pub executable: PathBuf,
    /// The arguments, the program's name first.
    pub arguments: Vec<OsString>,
    pub environment: Vec<(OsString, OsString)>,
}
