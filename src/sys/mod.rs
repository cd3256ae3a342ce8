//! The kernel. The only room with `unsafe`, nix and libc; it knows no configuration and no state, only numbers,
//! paths and descriptors.
#![allow(unsafe_code, reason = "system calls")]

mod clock;
mod command;
mod fork;
mod lent;
mod memory;
mod process;
mod reap;
mod signals;
mod socket;
mod spawn;
mod stdio;
pub mod terminal;
mod users;
mod wait;

pub use clock::{LocalTime, WallClock, monotonic_nanos, processor_time};
pub use command::launch;
pub use fork::{Report, SpawnError, Step, Strings, Unsayable};
pub use memory::Patient;
pub use nix::errno::Errno;
pub use process::{
    Limit, Pid, adopt_orphans, become_user, children, close_inherited, group_exists, host_name, is_pid1,
    is_readable_file, make_room, raise_limits, send, send_to_all, send_to_group, send_to_own_group,
    send_to_self,
};
pub use reap::{Dead, Status, reap, reap_child};
pub use signals::{
    Arrived, Inherited, SignalFd, death_is_pending, reset_dispositions, take_over, wait_for_signal,
};
pub use socket::{listen_tcp, listen_unix};
pub use spawn::{Child, Common, ExecStatus, Input, Output, Program, spawn};
pub use stdio::{LogStream, open_missing, write_out};
pub use users::{Ids, UserError, look_up};
pub use wait::{Poller, rest};

use std::ffi::{CStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStringExt;

/// The arguments that `main` was called with.
///
/// # Safety
/// `argv` points to `argc` pointers to strings that end in NUL, as the C standard promises `main`.
#[must_use]
pub unsafe fn arguments(argc: c_int, argv: *const *const c_char) -> Vec<OsString> {
    let count = usize::try_from(argc).unwrap_or(0);
    let argument = |index: usize| {
        // SAFETY: `index` is below `argc`: the place is inside the list,
        let place = unsafe { argv.add(index) };
        // SAFETY: holds a pointer,
        let pointer = unsafe { *place };
        // SAFETY: and that points to a string. The caller vouches for all three.
        let text = unsafe { CStr::from_ptr(pointer) };
        OsString::from_vec(text.to_bytes().to_vec())
    };
    (0..count).map(argument).collect()
}

/// The error of a raw system call that returned -1.
fn check(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result == -1 { Err(Errno::last()) } else { Ok(result) }
}
