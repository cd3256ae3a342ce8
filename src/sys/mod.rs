//! The kernel. The only room with `unsafe`, nix and libc; it knows no configuration and no state, only numbers,
//! paths and descriptors.
#![allow(unsafe_code, reason = "system calls")]

mod alloc;
mod clock;
mod clone_vm;
mod credentials;
mod errno;
mod fork;
mod poll;
mod process;
mod signals;
mod socket;
mod spawn_command;
mod spawn_program;
mod stdio;
pub mod terminal;
mod wait;

pub use alloc::RetryingAllocator;
pub use clock::{LocalTime, WallClock, monotonic_nanos, processor_time};
pub use credentials::{Credentials, UserError, resolve_user};
pub use errno::Errno;
pub use fork::{ExecFailure, ExecStep, InteriorNul, PackedCStrings, SpawnError};
pub use poll::{Poller, sleep};
pub use process::{
    Limit, Pid, children, close_inherited, drop_privileges, group_exists, host_name, is_pid1,
    is_readable_file, kill, kill_all, kill_own_group, kill_self, killpg, raise_limits, raise_nofile_for,
    set_child_subreaper,
};
pub use signals::{
    RawSignal, SavedMask, SignalFd, block_all_signals, reset_dispositions, sigchld_pending, wait_for_signal,
};
pub use socket::{listen_tcp, listen_unix};
pub use spawn_command::spawn_command;
pub use spawn_program::{Child, ExecStatusPipe, Output, SpawnDefaults, SpawnSpec, Stdin, spawn};
pub use stdio::{LogStream, open_standard_fds, write_out};
pub use wait::{ChildStatus, WaitStatus, wait_any};

use errno::cvt;
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
