//! The laws: what follows from what, as pure functions of (state, event, time). No system call, no clock, no
//! environment, no configuration text.
#![warn(clippy::wildcard_enum_match_arm)]

mod exit;
mod fleet;
mod level;
mod message;
mod process;
mod route;
mod signal;
mod spec;
mod time;

pub use exit::Exit;
pub use fleet::{Action, Fleet, ProcId, Settings};
pub use level::Level;
pub use message::{Cause, Message, Notice};
pub use process::{Action as ProcessAction, Event, Process, Rest, State, To};
pub use route::{Received, Route, Standing, route};
pub use signal::Signal;
pub use spec::{AutoRestart, ShutdownOn, Spec};
pub use time::Time;
