//! All tests except the unit tests: black-box tests of the rsup binary, random walks of the policy, and tests of the
//! source code. They are one test binary, so that cargo links only once.
//!
//! `RSUP_BIN` names the rsup binary under test. Without `RSUP_BIN`, the tests use the debug binary that cargo has built
//! for them. A test that this machine cannot run prints `SKIP test: reason` on stderr and passes.
#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "tests start processes, read the clock, and panic when something is wrong"
)]

mod architecture;
mod arm64;
mod cli;
mod command;
mod config_limits;
mod control;
mod corpus;
mod dependent_startup;
mod dist;
mod docker;
mod environment;
mod faults;
mod fifo_log_file;
mod forwarding;
mod imports;
mod inject;
mod input;
mod lifecycle;
mod listeners;
mod logging;
mod manual;
mod oracle;
mod ordered_start;
mod output;
mod output_soak;
mod peers;
mod peers_faults;
mod policy_walks;
mod reaping;
mod requests;
mod resource_use;
mod services;
mod soak;
mod stop;
mod support;
mod terminal;
mod under_init;
mod unkillable;
