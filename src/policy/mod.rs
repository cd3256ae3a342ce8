//! The laws: what follows from what, as pure functions of (state, event, time). No system call, no clock, no
//! environment, no configuration text.

mod level;
mod signal;
mod spec;

pub use level::Level;
pub use signal::Signal;
pub use spec::{AutoRestart, ShutdownOn, Spec};
