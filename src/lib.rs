//! rsup: supervisord for containers as one small static binary.
//!
//! The house: `cli` reads argv, `config` reads the file, `policy` holds the laws, `sys` is the kernel, `log` writes
//! the lines, and `supervise` is the hallway where facts become events and actions become calls.
#![warn(clippy::disallowed_methods, clippy::disallowed_macros)]

pub mod cli;
pub mod config;
pub mod log;
pub mod policy;
pub mod supervise;
pub mod sys;
