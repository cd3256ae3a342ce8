//! Control: how `supervisorctl` learns what rsup's processes do, and how it asks rsup to start and stop them.
//!
//! rsup answers no client. It writes a status board ([`board`]) into a file in memory, which clients read, and it reads
//! requests ([`request`]) from a pipe, into which clients write. A client opens both below /proc/PID/fd, so the kernel
//! decides who has access. There is no socket, no port and no file on a disk.
//!
//! The commands of `supervisorctl` are in [`client`].

pub mod board;
pub mod client;
pub mod request;
