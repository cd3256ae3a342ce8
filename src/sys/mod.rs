//! The kernel interface: the only folder that uses nix and libc. Only this folder and main.rs contain `unsafe`. The
//! files of this folder know neither the configuration nor the state of rsup, only numbers, paths and descriptors.
#![allow(unsafe_code, reason = "system calls")]

mod alloc;
mod clock;
mod clone_vm;
mod control;
mod credentials;
mod directory;
mod errno;
mod exec;
mod exec_status;
mod execute_again;
mod fifo;
mod fork;
mod interpreter;
mod kill;
mod listener;
mod output_stream;
mod poll;
mod processes;
mod relay;
mod rlimit;
mod signals;
mod socket;
mod spawn_one_command;
mod spawn_program;
mod stdio;
mod system;
pub mod terminal;
mod time_zone;
mod try_in_child;
mod wait;
mod write_journal;

pub use alloc::RetryingAllocator;
pub use clock::{LocalTime, WallTime, monotonic_nanos, processor_time};
pub use control::{MemoryFile, RequestPipe, RequestWriter, open_regular, set_dumpable};
pub use credentials::{
    CredentialStep, Credentials, UserError, drop_privileges, real_user_is_root, resolve_user,
};
pub use directory::list_directory;
pub use errno::Errno;
pub use exec_status::{ExecFailure, ExecStep, FailureReport};
pub use execute_again::execute_again;
pub use fifo::{Fifo, PipeId, own_output_pipes};
pub use fork::SpawnError;
pub use kill::{Pid, group_exists, kill, kill_all, kill_own_group, kill_self, killpg, killpg_or_kill};
pub use listener::{FdPassingSockets, ListenerPipes};
pub use output_stream::OutputStream;
pub use poll::{Poller, sleep};
pub use processes::{leave_group_of, process_group, processes};
pub use relay::{
    InsideLineFlags, RelayChild, RelayPipe, StagingPipe, fork_relay, open_log_file, read_pipe, write_record,
};
pub use rlimit::{TooLowLimit, raise_limits, raise_nofile_for, soft_nofile_limit};
pub use signals::{
    RawSignal, SavedMask, SignalFd, block_all_signals, ignore_broken_pipe, ignore_sigterm,
    reset_dispositions, sigchld_pending, wait_for_signal,
};
pub use socket::{check_listen_unix, listen_tcp, listen_unix};
pub use spawn_one_command::spawn_one_command;
pub use spawn_program::{
    Child, ExecStatusPipe, FifoHandling, FifoOpenErrors, LogFile, Output, SpawnDefaults, SpawnSpec, Stdin,
    spawn,
};
pub use stdio::{
    STDERR, STDOUT, is_writable_pipe, open_standard_fds, read_stdin_byte, stdout_is_stderr, write_out,
};
pub use system::{
    allows_colour, arguments, close_inherited, host_name, is_child_of_pid1, is_nonexecutable_readable_file,
    is_on_path, is_pid1, is_python_script, parent, set_child_subreaper,
};
pub use time_zone::TimeZone;
pub use try_in_child::{try_create_socket, try_user};
pub use wait::{ChildStatus, WaitStatus, children, wait_any};
pub use write_journal::WriteJournal;
