//! Decides when programs start and stop, and when rsup exits. Every decision depends only on the state, and on the
//! event and the time that the caller passes. This folder makes no system call, and reads no clock, no environment
//! variable and no configuration file.
#![warn(clippy::wildcard_enum_match_arm)]

mod exit;
mod kill_deadlines;
mod level;
mod message;
mod process;
mod process_set;
mod signal;
mod signal_routing;
mod spec;
mod startup;
mod state_name;
mod time;
mod transition;

pub use exit::ExitStatus;
pub use kill_deadlines::{KILL_GRACE_SECS, KillDeadlines, KillOrGiveUp, ShutdownDeadlines};
pub use level::Level;
pub use message::{ExitCause, ProcessMessage, SupervisorMessage, describe};
pub use process::{Event, Leftovers, Process, ProcessAction, ProcessState, StopStep};
pub use process_set::{Action, ProcessSet, Settings};
pub use signal::{Signal, SignalTarget};
pub use signal_routing::{ReceivedSignal, Sender, SignalAction, SignalContext, route_signal};
pub use spec::{AutoRestart, Dependency, ProcessIndex, ProcessSpec, ShutdownOn, StartupWait};
pub use startup::WaitReason;
pub use state_name::StateName;
pub use time::Time;
pub use transition::Transition;
