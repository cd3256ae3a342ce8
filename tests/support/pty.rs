//! A terminal, and what is started on it.
#![allow(unsafe_code, reason = "ioctls")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::{PATIENCE, SIGKILL, SIGSTOP, eventually, kill, proc};

/// A terminal with a session on it. When it goes out of scope, the session is killed.
pub(crate) struct Terminal {
    /// None once it was closed.
    master: Option<File>,
    child: Child,
    shown: String,
    /// What `expect` has passed.
    read: usize,
}

impl Terminal {
    /// Starts a command in this directory as the leader of a session on a new terminal, which does not echo.
    pub(crate) fn start(words: &[&str], dir: &Path) -> Self {
        // Close-on-exec from the first moment: the terminal must not be held open by what other tests start.
        let master =
            File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open("/dev/ptmx").unwrap();
        let locked = 0;
        // SAFETY: the kernel reads one number.
        unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const locked) };
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        // SAFETY: numbers.
        let slave = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
        assert!(slave >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: it was just made, and nobody else knows it.
        let slave = unsafe { OwnedFd::from_raw_fd(slave) };
        quiet(&slave);
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(dir).env_clear().env("PATH", super::PATH).env("PS1", "$ ");
        let stream = || Stdio::from(slave.try_clone().unwrap());
        command.stdin(stream()).stdout(stream()).stderr(stream());
        let lead_session = || {
            // SAFETY: takes nothing.
            unsafe { libc::setsid() };
            // SAFETY: numbers.
            unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) };
            Ok(())
        };
        // SAFETY: two system calls, which a child may make before its exec.
        unsafe { command.pre_exec(lead_session) };
        let child = command.spawn().unwrap_or_else(|error| panic!("{words:?}: {error}"));
        Self { master: Some(master), child, shown: String::new(), read: 0 }
    }

    fn master(&self) -> &File {
        self.master.as_ref().expect("the terminal was closed")
    }

    /// Types this; `\x03` is ^C, `\x04` the end of input, `\x1a` ^Z.
    pub(crate) fn enter(&self, text: &str) {
        self.master().write_all(text.as_bytes()).unwrap();
    }

    /// Waits until this text is shown, behind what was expected before.
    #[track_caller]
    pub(crate) fn expect(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.shown[self.read..].find(text) {
                self.read += at + text.len();
                return;
            }
            let patient = Instant::now() < deadline && self.take_in(100);
            assert!(patient, "the terminal does not show {text:?} but:\n{}", self.shown);
        }
    }

    /// All that was shown so far.
    pub(crate) fn shown(&mut self) -> &str {
        while self.readable(0) && self.take_in(0) {}
        &self.shown
    }

    fn readable(&self, milliseconds: i32) -> bool {
        let mut poll = libc::pollfd { fd: self.master().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one record, which outlives the call.
        let ready = unsafe { libc::poll(&raw mut poll, 1, milliseconds) };
        ready == 1
    }

    /// Takes in what is shown next, if something is soon. Returns whether more can come.
    fn take_in(&mut self, milliseconds: i32) -> bool {
        if !self.readable(milliseconds) {
            return true;
        }
        let mut bytes = [0; 4096];
        // EIO says that nobody has the terminal open any more.
        let length = self.master().read(&mut bytes).unwrap_or(0);
        self.shown += &String::from_utf8_lossy(&bytes[..length]);
        length > 0
    }

    /// The process that was started on it.
    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// The process below it with this name, once there is one that is in this state.
    #[track_caller]
    pub(crate) fn process(&self, name: &str, state: char) -> i32 {
        let found = || {
            let below = proc::descendants(self.pid());
            below.into_iter().find(|process| process.name == name && process.state == state)
        };
        eventually(&format!("{name} is in state {state}"), found).pid
    }

    /// The process group that is in the foreground.
    pub(crate) fn foreground(&self) -> i32 {
        let mut group = -1;
        // SAFETY: writes one number.
        unsafe { libc::ioctl(self.master().as_raw_fd(), libc::TIOCGPGRP, &raw mut group) };
        group
    }

    /// Gives it another size, of which the kernel tells the foreground.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: reads one record.
        unsafe { libc::ioctl(self.master().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    }

    /// Closes it, as a terminal's window is closed.
    pub(crate) fn close(&mut self) {
        self.master = None;
    }

    /// Waits for the end of what was started on it.
    #[track_caller]
    pub(crate) fn exit_code(&mut self) -> i32 {
        let status = eventually("the session ends", || {
            // Whoever writes must not have to wait.
            if self.master.is_some() {
                self.shown();
            }
            self.child.try_wait().unwrap()
        });
        status.code().unwrap_or_else(|| panic!("killed: {status}"))
    }
}

/// Switches the echo off.
fn quiet(slave: &OwnedFd) {
    let mut settings = std::mem::MaybeUninit::<libc::termios>::zeroed();
    // SAFETY: writes one record,
    unsafe { libc::tcgetattr(slave.as_raw_fd(), settings.as_mut_ptr()) };
    // SAFETY: of numbers, for which zeros are valid.
    let mut settings = unsafe { settings.assume_init() };
    settings.c_lflag &= !libc::ECHO;
    // SAFETY: reads one record.
    unsafe { libc::tcsetattr(slave.as_raw_fd(), libc::TCSANOW, &raw const settings) };
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if std::thread::panicking() && self.master.is_some() {
            eprintln!("--- the terminal\n{}\n---", self.shown());
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            kill(self.pid(), SIGSTOP);
            let below = proc::descendants(self.pid());
            kill(self.pid(), SIGKILL);
            below.iter().for_each(|process| kill(process.pid, SIGKILL));
            let _status = self.child.wait();
        }
    }
}
