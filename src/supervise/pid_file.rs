//! The file that holds rsup's PID, for scripts such as `kill $(cat /run/supervisord.pid)`.

use crate::config::expand_home;
use crate::sys;
use std::io::Write;
use std::path::Path;
use std::process;
use std::{env, fs};

/// The file that the key `pidfile` names.
pub(super) struct PidFile {
    /// `None` if the key is not set, or if the file could not be written.
    path: Option<String>,
}

impl PidFile {
    pub(super) fn new(path: Option<String>) -> Self {
        let home = env::var("HOME").ok();
        Self { path: path.map(|path| expand_home(&path, home.as_deref())) }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// Returns supervisord's text about a file that cannot be written, with the reason.
    pub(super) fn write(&mut self) -> Result<(), String> {
        let Some(path) = self.path.take() else { return Ok(()) };
        let text = format!("{}\n", process::id());
        // Only a regular file is written, because a FIFO without a reader would block.
        sys::open_log_file(Path::new(&path), true)
            .map_err(Into::into)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| format!("could not write pidfile {path}: {error}"))?;
        self.path = Some(path);
        Ok(())
    }

    /// Removes the file that rsup has written.
    pub(super) fn remove(&self) {
        if let Some(path) = &self.path {
            // Another process may have removed it.
            let _ = fs::remove_file(path);
        }
    }
}
