//! The laws: what follows from what, as pure functions of (state, event, time). No system call, no clock, no
//! environment, no configuration text.

mod signal;
mod spec;

pub use signal::Signal;
pub use spec::{AutoRestart, ShutdownOn, Spec};
