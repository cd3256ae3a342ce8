//! Black-box tests of the real binary, walks of its laws and the tests of the house, in one binary so that it links once.
//!
//! `RSUP_BIN` names the binary to test; without it, it is the one cargo has just built. What this machine cannot do
//! is skipped, and says so on stderr: `SKIP test: why`.
#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test stands outside the house: it starts processes, reads the clock and panics when something is wrong"
)]

mod architecture;
mod cli;
mod command;
mod config_limits;
mod corpus;
mod dist;
mod docker;
mod environment;
mod faults;
mod forwarding;
mod inject;
mod input;
mod lifecycle;
mod logging;
mod manual;
mod oracle;
mod peers;
mod peers_faults;
mod policy_walks;
mod reaping;
mod resource_use;
mod services;
mod soak;
mod stop;
mod support;
mod terminal;
mod unkillable;
