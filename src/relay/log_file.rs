//! A log file, which is rotated as supervisord rotates it (`RotatingFileHandler` in its loggers.py).

use super::plan::FilePlan;
use super::whole_lines::{WholeLines, Written};
use crate::sys::{self, Errno};
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Seek, Write};
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// One log file, which is open while its program writes to it.
#[derive(Debug)]
pub(super) struct LogFile<'a> {
    plan: &'a FilePlan,
    open: Option<OpenFile>,
    lines: WholeLines,
    /// When the relay may try to open the file again. 0 if the last attempt has succeeded.
    retry_at: u64,
    /// Whether the last rotation has failed.
    rotation_failed: bool,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    /// The device and the inode.
    identity: (u64, u64),
    /// When the relay has last looked whether the path still leads to this file.
    checked_at: u64,
}

/// What the relay logs about a log file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The file could not be opened. Later failures are not logged until the file has been opened.
    NotOpened(Errno),
    /// The file is open, after one or more attempts that have failed.
    OpenedAfterFailure,
    /// Lines are lost from now on.
    NotWritten(Errno),
    /// This number of lines was lost, and there is room again.
    LinesLost(u64),
    /// The file could not be rotated, and grows until a rotation succeeds. Later failures are not logged until then.
    NotRotated(Errno),
}

impl Trouble {
    /// The text of the log line about a file.
    pub(super) fn log_text(&self, path: &Path) -> String {
        let path = path.display();
        match self {
            Self::NotOpened(errno) => {
                format!("can't open log file {path}: {errno:?}; it gets no output until it can")
            }
            Self::OpenedAfterFailure => format!("log file {path} is open now, and gets its output again"),
            Self::NotWritten(errno) => {
                format!("can't write log file {path}: {errno:?}; its lines are lost until it can")
            }
            Self::LinesLost(lines) => format!("{lines} lines for log file {path} were lost"),
            Self::NotRotated(errno) => {
                format!("can't rotate log file {path}: {errno:?}; it grows until it can")
            }
        }
    }
}

/// The time between two attempts to open a file, and between two looks at its path, in nanoseconds.
const SECOND: u64 = 1_000_000_000;

impl<'a> LogFile<'a> {
    pub(super) fn new(plan: &'a FilePlan) -> Self {
        Self { plan, open: None, lines: WholeLines::default(), retry_at: 0, rotation_failed: false }
    }

    pub(super) fn path(&self) -> &'a Path {
        &self.plan.path
    }

    /// Closes the file, as supervisord does when the program has exited. The next write opens it again.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// Writes what one read has returned, and rotates the file if it is full. Returns false if the file cannot be
    /// opened. `now` is the monotonic clock in nanoseconds.
    pub(super) fn write(&mut self, bytes: &[u8], now: u64, report: &mut dyn FnMut(Trouble)) -> bool {
        self.close_if_moved(now);
        if self.open.is_none() && !self.open_if_due(now, report) {
            return false;
        }
        let Some(OpenFile { file, .. }) = &mut self.open else { return false };
        match self.lines.write(bytes, |bytes| file.write(bytes).map_err(errno)) {
            Written::FirstFailure(errno) => report(Trouble::NotWritten(errno)),
            Written::AllAfterFailure(lost) if lost > 0 => report(Trouble::LinesLost(lost)),
            Written::AllAfterFailure(_) | Written::All | Written::NothingToReport => {}
        }
        // O_APPEND moves the position to the end of the file at each write.
        let length = file.stream_position().unwrap_or(0);
        if self.plan.max_bytes > 0 && length >= self.plan.max_bytes {
            self.rotate_and_reopen(now, report);
        }
        true
    }

    /// Closes the file if its path leads to another file or to none: logrotate(8) has moved it, for example.
    fn close_if_moved(&mut self, now: u64) {
        let Some(open) = &mut self.open else { return };
        if now.saturating_sub(open.checked_at) < SECOND {
            return;
        }
        open.checked_at = now;
        let has_moved = match fs::metadata(&self.plan.path) {
            Ok(found) => identity(&found) != open.identity,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if has_moved {
            self.open = None;
        }
    }

    /// Opens the file, unless the last attempt has failed less than a second ago.
    fn open_if_due(&mut self, now: u64, report: &mut dyn FnMut(Trouble)) -> bool {
        now >= self.retry_at && self.try_open(false, now, report)
    }

    fn try_open(&mut self, truncate: bool, now: u64, report: &mut dyn FnMut(Trouble)) -> bool {
        let opened = sys::open_log_file(&self.plan.path, truncate).and_then(|file| {
            let identity = identity(&file.metadata().map_err(errno)?);
            Ok(OpenFile { file, identity, checked_at: now })
        });
        match opened {
            Ok(open) => {
                self.open = Some(open);
                if mem::take(&mut self.retry_at) > 0 {
                    report(Trouble::OpenedAfterFailure);
                }
                true
            }
            Err(errno) => {
                self.open = None;
                if mem::replace(&mut self.retry_at, now + SECOND) == 0 {
                    report(Trouble::NotOpened(errno));
                }
                false
            }
        }
    }

    fn rotate_and_reopen(&mut self, now: u64, report: &mut dyn FnMut(Trouble)) {
        match self.rename_to_backups() {
            Ok(()) => {
                self.rotation_failed = false;
                self.try_open(true, now, report);
            }
            Err(error) => {
                if !mem::replace(&mut self.rotation_failed, true) {
                    report(Trouble::NotRotated(errno(error)));
                }
            }
        }
    }

    /// Renames the old files `FILE.1`, `FILE.2` and so on, and then the file itself to `FILE.1`.
    fn rename_to_backups(&self) -> io::Result<()> {
        let backups = self.plan.backups;
        // If the last rotation has failed to rename the file itself, it has already renamed the old files. This
        // rotation must not rename them again, because each attempt would lose the oldest file.
        let old_files_are_renamed = self.rotation_failed && !self.numbered(1).exists();
        for number in (1..backups).rev().filter(|_| !old_files_are_renamed) {
            let old = self.numbered(number);
            // As in supervisord, a symbolic link that leads nowhere is not renamed.
            if old.try_exists().unwrap_or(true) {
                rename_if_there(&old, &self.numbered(number + 1))?;
            }
        }
        if backups > 0 {
            rename_if_there(&self.plan.path, &self.numbered(1))?;
        }
        Ok(())
    }

    fn numbered(&self, number: u64) -> PathBuf {
        let mut path = OsString::from(&self.plan.path);
        path.push(format!(".{number}"));
        path.into()
    }
}

/// Renames a file. Does nothing if there is no such file: another program may have removed it.
fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn errno(error: io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn plan(dir: &TempDir, max_bytes: u64, backups: u64) -> FilePlan {
        FilePlan { path: dir.path().join("log"), max_bytes, backups }
    }

    fn write(file: &mut LogFile<'_>, bytes: &[u8], now: u64) -> Vec<Trouble> {
        let mut troubles = Vec::new();
        file.write(bytes, now, &mut |trouble| troubles.push(trouble));
        troubles
    }

    fn content(dir: &TempDir) -> Vec<(String, String)> {
        let mut files: Vec<_> = sys::list_directory(dir.path())
            .map(|name| {
                let text = fs::read_to_string(dir.path().join(&name)).unwrap();
                (name.into_string().unwrap(), text)
            })
            .collect();
        files.sort();
        files
    }

    fn file(name: &str, text: &str) -> (String, String) {
        (name.to_owned(), text.to_owned())
    }

    #[test]
    fn a_full_file_becomes_the_first_of_the_old_files() {
        let dir = TempDir::new().unwrap();
        let plan = plan(&dir, 4, 2);
        let mut log = LogFile::new(&plan);
        for text in ["aaaa", "bb", "bb", "cccccc", "d"] {
            assert_eq!(write(&mut log, text.as_bytes(), 0), []);
        }
        assert_eq!(content(&dir), [file("log", "d"), file("log.1", "cccccc"), file("log.2", "bbbb")]);
    }

    #[test]
    fn without_old_files_a_full_file_is_emptied() {
        let dir = TempDir::new().unwrap();
        let plan = plan(&dir, 4, 0);
        let mut log = LogFile::new(&plan);
        for text in ["aaa", "bbb", "c"] {
            assert_eq!(write(&mut log, text.as_bytes(), 0), []);
        }
        assert_eq!(content(&dir), [file("log", "c")]);
    }

    #[test]
    fn a_file_without_a_limit_is_never_rotated() {
        let dir = TempDir::new().unwrap();
        let plan = plan(&dir, 0, 2);
        let mut log = LogFile::new(&plan);
        write(&mut log, &[b'a'; 10_000], 0);
        assert_eq!(content(&dir).len(), 1);
    }

    #[test]
    fn a_file_that_was_moved_is_opened_again_after_a_second() {
        let dir = TempDir::new().unwrap();
        let plan = plan(&dir, 100, 2);
        let mut log = LogFile::new(&plan);
        write(&mut log, b"a", 0);
        fs::rename(&plan.path, dir.path().join("moved")).unwrap();
        write(&mut log, b"b", SECOND - 1);
        write(&mut log, b"c", SECOND);
        assert_eq!(content(&dir), [file("log", "c"), file("moved", "ab")]);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_reported_once_and_tried_again() {
        let dir = TempDir::new().unwrap();
        let plan = FilePlan { path: dir.path().join("dir/log"), max_bytes: 4, backups: 1 };
        let mut log = LogFile::new(&plan);
        assert_eq!(write(&mut log, b"a", 0), [Trouble::NotOpened(Errno::ENOENT)]);
        assert_eq!(write(&mut log, b"b", SECOND), []);
        fs::create_dir(dir.path().join("dir")).unwrap();
        assert_eq!(write(&mut log, b"c", 2 * SECOND), [Trouble::OpenedAfterFailure]);
        assert_eq!(fs::read_to_string(&plan.path).unwrap(), "c");
    }

    #[test]
    fn a_rotation_that_fails_is_reported_once_and_the_file_grows() {
        let dir = TempDir::new().unwrap();
        let plan = plan(&dir, 2, 1);
        fs::create_dir(dir.path().join("log.1")).unwrap();
        let mut log = LogFile::new(&plan);
        assert!(matches!(write(&mut log, b"aa", 0)[..], [Trouble::NotRotated(_)]));
        assert_eq!(write(&mut log, b"bb", 0), []);
        assert_eq!(fs::read_to_string(&plan.path).unwrap(), "aabb");
    }
}
