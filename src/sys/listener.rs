//! The pipes of event listeners, and the socket through which rsup passes them to the relay.

use super::errno::{Errno, cvt};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{pipe2, write};
use std::mem::zeroed;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// The relay's ends of the stdin and the stdout of one listener. Reads and writes do not wait.
#[derive(Debug)]
pub struct ListenerPipes {
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
}

/// The listener's ends of its stdin and its stdout.
#[derive(Debug)]
pub(super) struct ListenerStdio {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
}

impl ListenerPipes {
    /// Creates the pipes for one run of a listener.
    ///
    /// # Errors
    /// Returns the errno of pipe2(2) or fcntl(2).
    pub(super) fn new() -> Result<(Self, ListenerStdio), Errno> {
        let (listener_stdin, stdin) = pipe2(OFlag::O_CLOEXEC)?;
        let (stdout, listener_stdout) = pipe2(OFlag::O_CLOEXEC)?;
        for end in [&stdin, &stdout] {
            fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        Ok((Self { stdin, stdout }, ListenerStdio { stdin: listener_stdin, stdout: listener_stdout }))
    }

    /// Writes to the stdin of the listener, without waiting. Returns the number of bytes written.
    ///
    /// # Errors
    /// Returns EAGAIN if the pipe has no room, and EPIPE if the listener has closed it.
    pub fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        write(&self.stdin, bytes)
    }
}

/// A pair of connected sockets. rsup keeps both, so that the next relay gets what the last one has not received.
#[derive(Debug)]
pub struct FdPassingSockets {
    sending_socket: OwnedFd,
    receiving_socket: OwnedFd,
}

impl FdPassingSockets {
    /// Creates the sockets.
    ///
    /// # Errors
    /// Returns the errno of socketpair(2).
    pub fn new() -> Result<Self, Errno> {
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let mut sockets = [-1, -1];
        // SAFETY: socketpair(2) writes two ints to `sockets`, which has room for two.
        cvt(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, sockets.as_mut_ptr()) }.into())?;
        // SAFETY: the kernel has just created these descriptors, so nothing else owns them.
        let [sending_socket, receiving_socket] = sockets.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        Ok(Self { sending_socket, receiving_socket })
    }

    /// The descriptor from which the relay receives.
    #[must_use]
    pub fn receiver(&self) -> RawFd {
        self.receiving_socket.as_raw_fd()
    }

    /// Sends the pipes of a listener. `pid` is the PID of the listener.
    ///
    /// # Errors
    /// Returns the errno of sendmsg(2): EAGAIN if the socket has no room, because the relay has not received earlier
    /// pipes.
    pub fn send(&self, pid: i32, pipes: &ListenerPipes) -> Result<(), Errno> {
        let mut bytes = pid.to_ne_bytes();
        let descriptors = [pipes.stdin.as_raw_fd(), pipes.stdout.as_raw_fd()];
        transfer_descriptors(&mut bytes, descriptors, &|message| {
            // SAFETY: `transfer_descriptors` gives a valid message, which the kernel only reads.
            unsafe { libc::sendmsg(self.sending_socket.as_raw_fd(), message, libc::MSG_NOSIGNAL) }
        })
        .map(drop)
    }

    /// Receives the pipes and the PID of a listener. Returns `None` if no message has arrived, or if this process has
    /// too few free descriptors for the pipes.
    #[must_use]
    pub fn receive(&self) -> Option<(i32, ListenerPipes)> {
        let mut bytes = [0; 4];
        let received = transfer_descriptors(&mut bytes, [-1, -1], &|message| {
            // SAFETY: `transfer_descriptors` gives a valid message, and the kernel writes at most as much as it has
            // room for.
            unsafe { libc::recvmsg(self.receiving_socket.as_raw_fd(), message, libc::MSG_CMSG_CLOEXEC) }
        });
        // The message contains two descriptors. If this process has room for only one more, the kernel creates only
        // the first one, and the second one stays -1. The first one is then closed again.
        let [stdin, stdout] = received.ok()?.map(|fd| {
            // SAFETY: the kernel has just created this descriptor, so nothing else owns it.
            (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
        });
        Some((i32::from_ne_bytes(bytes), ListenerPipes { stdin: stdin?, stdout: stdout? }))
    }
}

/// The control message that carries two descriptors. The kernel and libc lay it out in this way: the header, and then
/// the descriptors, which need no padding.
#[repr(C)]
struct ControlMessage {
    header: libc::cmsghdr,
    descriptors: [RawFd; 2],
}

/// Calls `transfer`, which is sendmsg(2) or recvmsg(2), with a message of four bytes and two descriptors. Returns the
/// descriptors that the message contains after the call.
///
/// # Errors
/// Returns the errno of the call.
fn transfer_descriptors(
    bytes: &mut [u8; 4],
    descriptors: [RawFd; 2],
    transfer: &dyn Fn(*mut libc::msghdr) -> libc::ssize_t,
) -> Result<[RawFd; 2], Errno> {
    // SAFETY: zero is a valid value for every field of this struct, which are numbers.
    let mut control = ControlMessage { header: unsafe { zeroed() }, descriptors };
    let length = size_of::<ControlMessage>();
    control.header.cmsg_len = length as _;
    control.header.cmsg_level = libc::SOL_SOCKET;
    control.header.cmsg_type = libc::SCM_RIGHTS;
    let mut buffer = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: zero is a valid value for every field of this struct, which are numbers and pointers.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut buffer;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = length as _;
    cvt(transfer(&raw mut message) as libc::c_long)?;
    Ok(control.descriptors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::read;

    #[test]
    fn pipes_arrive_in_order_with_their_pids() {
        let socket = FdPassingSockets::new().unwrap();
        assert!(socket.receive().is_none());
        let ends: Vec<ListenerStdio> = [7, 70_000]
            .map(|pid| {
                let (pipes, ends) = ListenerPipes::new().unwrap();
                socket.send(pid, &pipes).unwrap();
                ends
            })
            .into();
        for (pid, ends) in [7, 70_000].into_iter().zip(&ends) {
            let (received, pipes) = socket.receive().unwrap();
            assert_eq!(received, pid);
            write(&ends.stdout, b"READY\n").unwrap();
            let mut buffer = [0; 10];
            assert_eq!(read(&pipes.stdout, &mut buffer), Ok(6));
            assert_eq!(read(&pipes.stdout, &mut buffer), Err(Errno::EAGAIN));
            assert_eq!(pipes.write(b"event"), Ok(5));
            assert_eq!(read(&ends.stdin, &mut buffer), Ok(5));
        }
        assert!(socket.receive().is_none());
    }
}
