//! Tries steps of rsup's start in a child process, for `--check`. The child makes the real system calls, so the kernel
//! decides whether a step succeeds. rsup's own user and working directory do not change.

use super::credentials::{CredentialStep, Credentials, drop_privileges};
use super::errno::Errno;
use super::exec_status::{ExecFailure, ExecStep, FailureReport, failure_pipe, report_failure};
use super::fork::raw_fork;
use std::io;
use std::os::fd::AsFd;
use std::ptr::null_mut;

/// Tries in a child to change to `user`. `own` is the user that rsup itself changes to at its start; if `own` is given,
/// the child changes to `own` first.
///
/// # Errors
/// Returns the step that failed, and its errno.
pub fn try_user(own: Option<&Credentials>, user: &Credentials) -> Result<(), (CredentialStep, Errno)> {
    let failure = in_child(&|| {
        change_user(own)?;
        change_user(Some(user))
    });
    let Some(ExecFailure { step, errno, .. }) = failure else { return Ok(()) };
    Err((
        match step {
            ExecStep::Groups => CredentialStep::Groups,
            ExecStep::Gid => CredentialStep::Gid,
            _ => CredentialStep::Uid,
        },
        errno,
    ))
}

/// Tries in a child to create a socket. `own` is the user that rsup itself changes to at its start; if `own` is given,
/// the child changes to `own` first. `create_socket` may change the working directory, because only the child runs it.
///
/// # Errors
/// Returns the errno of the system call that failed, or EINVAL if `create_socket` fails without one, such as for a path
/// with a NUL byte.
pub fn try_create_socket(
    own: Option<&Credentials>,
    create_socket: impl Fn() -> io::Result<()>,
) -> Result<(), Errno> {
    let failure = in_child(&|| {
        change_user(own)?;
        create_socket().map_err(|error| {
            let errno = error.raw_os_error().map_or(Errno::EINVAL, Errno::from_raw);
            ExecFailure { step: ExecStep::Streams, candidate: 0, errno }
        })
    });
    failure.map_or(Ok(()), |failure| Err(failure.errno))
}

fn change_user(user: Option<&Credentials>) -> Result<(), ExecFailure> {
    user.map_or(Ok(()), drop_privileges).map_err(|(step, errno)| {
        let step = ExecStep::of_credentials(step);
        ExecFailure { step, candidate: 0, errno }
    })
}

/// Runs `steps` in a child and waits until the child has ended. Returns the step that failed. If no child can be
/// created, returns `None`, as if all steps had succeeded.
fn in_child(steps: &dyn Fn() -> Result<(), ExecFailure>) -> Option<ExecFailure> {
    let (mut reader, status) = failure_pipe().ok()?;
    // SAFETY: rsup has one thread, so no other thread holds a lock when the memory is copied.
    let Some(child) = unsafe { raw_fork(libc::SIGCHLD) }.ok()? else {
        if let Err(failure) = steps() {
            report_failure(status.as_fd(), failure);
        }
        // SAFETY: _exit(2) takes a number; unlike exit(3) it runs no exit handlers of the parent.
        unsafe { libc::_exit(0) }
    };
    drop(status);
    // SAFETY: waitpid(2) may be given a null pointer in the place of a status.
    while unsafe { libc::waitpid(child.number(), null_mut(), 0) } == -1 && Errno::last() == Errno::EINTR {}
    let mut failed = None;
    reader.read(|report| {
        if let FailureReport::Failure(failure) = report {
            failed = Some(failure);
        }
    });
    failed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failed_step_of_the_child_is_returned() {
        let failure = ExecFailure { step: ExecStep::Gid, candidate: 0, errno: Errno::EINVAL };
        assert_eq!(in_child(&|| Err(failure)), Some(failure));
        assert_eq!(in_child(&|| Ok(())), None);
    }

    #[test]
    fn an_attempt_changes_nothing_in_the_parent() {
        let before = std::env::current_dir().unwrap();
        let created = try_create_socket(None, || std::env::set_current_dir("/"));
        assert_eq!((created, std::env::current_dir().unwrap()), (Ok(()), before));
        assert_eq!(try_create_socket(None, || Err(Errno::EROFS.into())), Err(Errno::EROFS));
    }

    #[test]
    fn the_own_user_is_always_possible() {
        let uid = nix::unistd::getuid().as_raw();
        let own = Credentials { uid, gid: 1, groups: vec![1], names_group: false };
        assert_eq!(try_user(None, &own), Ok(()));
        assert_eq!(try_user(Some(&own), &own), Ok(()));
    }
}
