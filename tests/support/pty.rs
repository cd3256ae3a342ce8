//! A pseudo-terminal and the session on it.
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

/// A terminal with a session. Dropping the value kills the session.
pub(crate) struct Terminal {
    /// `None` after the terminal was closed.
    master: Option<File>,
    child: Child,
    shown: String,
    /// The number of bytes that `expect` has passed.
    read: usize,
}

impl Terminal {
    /// Starts a command in a directory, as the leader of a session on a new terminal without echo.
    pub(crate) fn start(words: &[&str], dir: &Path) -> Self {
        // The descriptor is close-on-exec from the start, because the processes of other tests must not inherit the
        // terminal.
        let master =
            File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open("/dev/ptmx").unwrap();
        let locked = 0;
        // SAFETY: `locked` is one int that outlives the call, which is what TIOCSPTLCK reads.
        unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const locked) };
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        // SAFETY: TIOCGPTPEER takes flags by value and accesses no memory of this process.
        let slave = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
        assert!(slave >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: the kernel has just created this descriptor, and nothing else owns it.
        let slave = unsafe { OwnedFd::from_raw_fd(slave) };
        quiet(&slave);
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(dir).env_clear().env("PATH", super::PATH).env("PS1", "$ ");
        let stream = || Stdio::from(slave.try_clone().unwrap());
        command.stdin(stream()).stdout(stream()).stderr(stream());
        let lead_session = || {
            // SAFETY: setsid(2) has no arguments and accesses no memory.
            unsafe { libc::setsid() };
            // SAFETY: TIOCSCTTY takes a number by value.
            unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) };
            Ok(())
        };
        // SAFETY: the closure makes two system calls, which are async-signal-safe, and nothing else.
        unsafe { command.pre_exec(lead_session) };
        let child = command.spawn().unwrap_or_else(|error| panic!("{words:?}: {error}"));
        Self { master: Some(master), child, shown: String::new(), read: 0 }
    }

    fn master(&self) -> &File {
        self.master.as_ref().expect("the terminal was closed")
    }

    /// Types a text; `\x03` is ^C, `\x04` the end of input, `\x1a` ^Z.
    pub(crate) fn enter(&self, text: &str) {
        self.master().write_all(text.as_bytes()).unwrap();
    }

    /// Waits until a text is shown, after the text of the last call.
    #[track_caller]
    pub(crate) fn expect(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.shown[self.read..].find(text) {
                self.read += at + text.len();
                return;
            }
            let patient = Instant::now() < deadline && self.read_output(100);
            assert!(patient, "the terminal does not show {text:?} but:\n{}", self.shown);
        }
    }

    /// The whole output so far.
    pub(crate) fn shown(&mut self) -> &str {
        while self.readable(0) && self.read_output(0) {}
        &self.shown
    }

    fn readable(&self, milliseconds: i32) -> bool {
        let mut poll = libc::pollfd { fd: self.master().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the pointer is to one pollfd, which outlives the call.
        let ready = unsafe { libc::poll(&raw mut poll, 1, milliseconds) };
        ready == 1
    }

    /// Reads the next output, if there is some within a time. Returns whether more output can follow.
    fn read_output(&mut self, milliseconds: i32) -> bool {
        if !self.readable(milliseconds) {
            return true;
        }
        let mut bytes = [0; 4096];
        // EIO means that no process has the terminal open any more.
        let length = self.master().read(&mut bytes).unwrap_or(0);
        self.shown += &String::from_utf8_lossy(&bytes[..length]);
        length > 0
    }

    /// The process that was started on the terminal.
    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Waits until a descendant with a given name is in a given state. Returns the descendant's PID.
    #[track_caller]
    pub(crate) fn process(&self, name: &str, state: char) -> i32 {
        let found = || {
            let below = proc::descendants(self.pid());
            below.into_iter().find(|process| process.name == name && process.state == state)
        };
        eventually(&format!("{name} is in state {state}"), found).pid
    }

    /// The foreground process group.
    pub(crate) fn foreground(&self) -> i32 {
        let mut group = -1;
        // SAFETY: `group` is one int that outlives the call, which is what TIOCGPGRP writes.
        unsafe { libc::ioctl(self.master().as_raw_fd(), libc::TIOCGPGRP, &raw mut group) };
        group
    }

    /// Changes the size. The kernel sends SIGWINCH to the foreground process group.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: `size` is one winsize that outlives the call, which is what TIOCSWINSZ reads.
        unsafe { libc::ioctl(self.master().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    }

    /// Closes the terminal, as closing a terminal's window does.
    pub(crate) fn close(&mut self) {
        self.master = None;
    }

    /// Waits until the process that was started on the terminal has exited. Returns the exit code.
    #[track_caller]
    pub(crate) fn exit_code(&mut self) -> i32 {
        let status = eventually("the session ends", || {
            // The output is read, so that no process waits for room in the terminal.
            if self.master.is_some() {
                self.shown();
            }
            self.child.try_wait().unwrap()
        });
        status.code().unwrap_or_else(|| panic!("killed: {status}"))
    }
}

/// Switches the terminal's echo off.
fn quiet(slave: &OwnedFd) {
    let mut settings = std::mem::MaybeUninit::<libc::termios>::zeroed();
    // SAFETY: `settings` has room for the one termios that is written.
    unsafe { libc::tcgetattr(slave.as_raw_fd(), settings.as_mut_ptr()) };
    // SAFETY: termios consists of integers, so zeros are a valid value even if the call above failed.
    let mut settings = unsafe { settings.assume_init() };
    settings.c_lflag &= !libc::ECHO;
    // SAFETY: `settings` is one termios that outlives the call.
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
