//! The pipe through which a child reports failures. A report names the step that failed before or at the exec, or the
//! interpreter because of which the exec fails.
//!
//! The writing end is close-on-exec, so the parent reads end of file after the exec or after the child has exited.
//! After a report about a step that is not [harmless](ExecStep::failure_allows_exec), end of file means that the child
//! has exited. Otherwise the exec has succeeded, or a signal has killed the child.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    clippy::unwrap_used,
    reason = "the child calls `report_failure` in rsup's memory and must not panic: see clone_vm.rs"
)]

use super::credentials::CredentialStep;
use super::errno::Errno;
use nix::fcntl::OFlag;
use std::ffi::CStr;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A step between fork and exec, or the reason why the executable was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExecStep {
    /// The file for stdout could not be opened. The program gets a pipe to the relay or rsup's own stdout instead.
    Stdout = 0,
    /// The file for stderr could not be opened. The program gets a pipe to the relay or rsup's own stderr instead.
    Stderr = 1,
    /// None of the paths at which the command is looked for exists.
    NotFound = 2,
    /// The path at which the command was found is a directory.
    IsDirectory = 3,
    /// The file that was found for the command has no x bit.
    NotExecutable = 4,
    /// For a program of the configuration file: the file that was found for the command has an x bit, but access(2)
    /// reports that rsup may not execute the file. For rsup's one-command mode, which runs one command and no
    /// configuration file: execve(2) failed with EACCES.
    NoPermission = 5,
    /// Descriptors 0 to 2 could not be put in place, or epoll_ctl(2) or sendmsg(2) failed in rsup for this child.
    Streams = 6,
    /// setgroups(2) failed.
    Groups = 7,
    /// setgid(2) failed.
    Gid = 8,
    /// setuid(2) failed.
    Uid = 9,
    /// chdir(2) failed.
    Chdir = 10,
    /// execve(2) failed, or rt_sigprocmask(2) failed just before it.
    Exec = 11,
    /// A log file is a FIFO that rsup has not opened for this process. The child exits, so that rsup can open the FIFO
    /// before it starts the program again.
    UnopenedFifo = 12,
}

impl ExecStep {
    /// Whether the program is started although this step failed.
    #[must_use]
    pub fn failure_allows_exec(self) -> bool {
        matches!(self, Self::Stdout | Self::Stderr)
    }

    /// Converts the step of `set_credentials` that failed.
    pub(super) fn of_credentials(step: CredentialStep) -> Self {
        match step {
            CredentialStep::Groups => Self::Groups,
            CredentialStep::Gid => Self::Gid,
            CredentialStep::Uid => Self::Uid,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Stdout,
            1 => Self::Stderr,
            2 => Self::NotFound,
            3 => Self::IsDirectory,
            4 => Self::NotExecutable,
            5 => Self::NoPermission,
            6 => Self::Streams,
            7 => Self::Groups,
            8 => Self::Gid,
            9 => Self::Uid,
            10 => Self::Chdir,
            11 => Self::Exec,
            12 => Self::UnopenedFifo,
            _ => return None,
        })
    }
}

/// What a child writes into the pipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailureReport {
    Failure(ExecFailure),
    /// The path of the interpreter because of which the exec fails. A report of the failure, with [`ExecStep::Exec`],
    /// follows this report.
    UnusableInterpreter(Vec<u8>),
}

/// A step that failed in the child or, for [`ExecStep::Streams`], in rsup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecFailure {
    pub step: ExecStep,
    /// The index of the file that is to be executed, in the list of paths at which the command is looked for. 0 if the
    /// step failed before the child found the file. Always 0 for [`ExecStep::Stdout`] and [`ExecStep::Stderr`].
    pub candidate: u16,
    pub errno: Errno,
}

impl ExecFailure {
    const SIZE: usize = 8;

    fn to_bytes(self) -> [u8; Self::SIZE] {
        let [a, b, c, d] = (self.errno as i32).to_le_bytes();
        let [e, f] = self.candidate.to_le_bytes();
        [self.step as u8, 0, e, f, a, b, c, d]
    }

    fn from_bytes([step, _, e, f, a, b, c, d]: [u8; Self::SIZE]) -> Option<Self> {
        let step = ExecStep::from_byte(step)?;
        let errno = Errno::from_raw(i32::from_le_bytes([a, b, c, d]));
        Some(Self { step, candidate: u16::from_le_bytes([e, f]), errno })
    }
}

/// The first byte of a report about an interpreter. The second byte of such a report is the length of the interpreter's
/// path, and the path follows after the first [`ExecFailure::SIZE`] bytes. A report about a failed step has only
/// [`ExecFailure::SIZE`] bytes, and its first byte is an [`ExecStep`].
const INTERPRETER: u8 = 255;
/// The maximum length of a path in a report, in bytes. One byte of the report contains the length of the path.
const MAX_PATH_LENGTH: usize = 255;

/// The parent's end of the pipe.
#[derive(Debug)]
pub(super) struct FailureReader {
    pipe: OwnedFd,
    at_eof: bool,
}

/// Makes the pipe: the parent's end, and the child's end for [`report_failure`].
///
/// # Errors
/// Returns the errno of pipe2(2).
pub(super) fn failure_pipe() -> Result<(FailureReader, OwnedFd), Errno> {
    let (pipe, status) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    Ok((FailureReader { pipe, at_eof: false }, status))
}

impl FailureReader {
    /// Passes every report that has arrived to `receive`. Returns whether the pipe is at end of file.
    pub(super) fn read(&mut self, mut receive: impl FnMut(FailureReport)) -> bool {
        let mut bytes = [0; ExecFailure::SIZE];
        while !self.at_eof {
            match nix::unistd::read(&self.pipe, &mut bytes) {
                Ok(0) => self.at_eof = true,
                Ok(ExecFailure::SIZE) => {
                    if let [INTERPRETER, length, ..] = bytes {
                        receive(FailureReport::UnusableInterpreter(self.read_path(length.into())));
                    } else if let Some(failure) = ExecFailure::from_bytes(bytes) {
                        receive(FailureReport::Failure(failure));
                    }
                }
                // A read returns 0 or `ExecFailure::SIZE` bytes, because every child writes each report with
                // one write(2).
                Ok(_) => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Reads the path of an interpreter. The child writes the path and the bytes before it with one write(2), so the
    /// path has arrived if those bytes have arrived.
    fn read_path(&self, length: usize) -> Vec<u8> {
        let mut path = vec![0; length];
        let read = nix::unistd::read(&self.pipe, &mut path).unwrap_or(0);
        path.truncate(read);
        path
    }

    pub(super) fn is_at_eof(&self) -> bool {
        self.at_eof
    }
}

impl AsFd for FailureReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// Reports the interpreter because of which the exec fails. A path that is too long is cut. Async-signal-safe.
pub(super) fn report_interpreter(status: BorrowedFd<'_>, path: &CStr) {
    let path = path.to_bytes();
    let path = path.get(..MAX_PATH_LENGTH).unwrap_or(path);
    // The report is written with one write(2). It has less than PIPE_BUF bytes, so the kernel writes it as a whole.
    let mut report = [0; ExecFailure::SIZE + MAX_PATH_LENGTH];
    let mut free_space = report.as_mut_slice();
    let head = [INTERPRETER, u8::try_from(path.len()).unwrap_or(u8::MAX), 0, 0, 0, 0, 0, 0];
    // Neither write fails, because the buffer has room for both.
    let _ = free_space.write_all(&head);
    let _ = free_space.write_all(path);
    let unused = free_space.len();
    let used = report.len().saturating_sub(unused);
    let _ = nix::unistd::write(status, report.get(..used).unwrap_or_default());
}

/// Reports a failed step. Async-signal-safe.
pub(super) fn report_failure(status: BorrowedFd<'_>, failure: ExecFailure) {
    // The pipe has enough space for the few reports of one child. EPIPE means that the parent no longer waits
    // for this exec.
    let _ = nix::unistd::write(status, &failure.to_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    /// Every step, in order. The compiler rejects this function when a step has no arm here.
    fn step_after(step: ExecStep) -> Option<ExecStep> {
        match step {
            ExecStep::Stdout => Some(ExecStep::Stderr),
            ExecStep::Stderr => Some(ExecStep::NotFound),
            ExecStep::NotFound => Some(ExecStep::IsDirectory),
            ExecStep::IsDirectory => Some(ExecStep::NotExecutable),
            ExecStep::NotExecutable => Some(ExecStep::NoPermission),
            ExecStep::NoPermission => Some(ExecStep::Streams),
            ExecStep::Streams => Some(ExecStep::Groups),
            ExecStep::Groups => Some(ExecStep::Gid),
            ExecStep::Gid => Some(ExecStep::Uid),
            ExecStep::Uid => Some(ExecStep::Chdir),
            ExecStep::Chdir => Some(ExecStep::Exec),
            ExecStep::Exec => Some(ExecStep::UnopenedFifo),
            ExecStep::UnopenedFifo => None,
        }
    }

    fn read_all(reader: &mut FailureReader) -> (Vec<FailureReport>, bool) {
        let mut reports = Vec::new();
        let at_eof = reader.read(|report| reports.push(report));
        (reports, at_eof)
    }

    #[test]
    fn every_step_survives_the_round_trip_through_bytes() {
        for step in std::iter::successors(Some(ExecStep::Stdout), |step| step_after(*step)) {
            let failure = ExecFailure { step, candidate: 0x0102, errno: Errno::ETXTBSY };
            assert_eq!(ExecFailure::from_bytes(failure.to_bytes()), Some(failure));
        }
    }

    #[test]
    fn a_byte_that_stands_for_no_step_is_no_report() {
        assert_eq!(ExecStep::from_byte(13), None);
        assert_eq!(ExecFailure::from_bytes([u8::MAX; ExecFailure::SIZE]), None);
    }

    #[test]
    fn reports_arrive_in_order_and_end_of_file_after_them() {
        let (mut reader, status) = failure_pipe().unwrap();
        assert_eq!(read_all(&mut reader), (vec![], false));

        let first = ExecFailure { step: ExecStep::Stdout, candidate: 0, errno: Errno::EACCES };
        let second = ExecFailure { step: ExecStep::Exec, candidate: u16::MAX, errno: Errno::ENOEXEC };
        report_failure(status.as_fd(), first);
        report_failure(status.as_fd(), second);
        assert_eq!(
            read_all(&mut reader),
            (vec![first, second].into_iter().map(FailureReport::Failure).collect(), false)
        );
        assert!(!reader.is_at_eof());

        drop(status);
        assert_eq!(read_all(&mut reader), (vec![], true));
        assert!(reader.is_at_eof());
    }

    #[test]
    fn the_path_of_an_interpreter_arrives_before_the_failure() {
        let failure = ExecFailure { step: ExecStep::Exec, candidate: 1, errno: Errno::ENOENT };
        let long = CString::new("x".repeat(300)).unwrap();
        for (path, arrives) in
            [(c"/bin/sh\r", &b"/bin/sh\r"[..]), (c"", b""), (&long, &[b'x'; MAX_PATH_LENGTH])]
        {
            let (mut reader, status) = failure_pipe().unwrap();
            report_interpreter(status.as_fd(), path);
            report_failure(status.as_fd(), failure);
            drop(status);
            let reports =
                vec![FailureReport::UnusableInterpreter(arrives.to_vec()), FailureReport::Failure(failure)];
            assert_eq!(read_all(&mut reader), (reports, true));
        }
    }

    #[test]
    fn a_part_of_a_report_is_ignored() {
        let (mut reader, status) = failure_pipe().unwrap();
        nix::unistd::write(&status, &[ExecStep::Exec as u8, 0, 0]).unwrap();
        drop(status);
        assert_eq!(read_all(&mut reader), (vec![], true));
    }

    #[test]
    fn a_report_to_a_closed_pipe_is_dropped() {
        let (reader, status) = failure_pipe().unwrap();
        drop(reader);
        report_failure(
            status.as_fd(),
            ExecFailure { step: ExecStep::Exec, candidate: 0, errno: Errno::ENOENT },
        );
    }
}
