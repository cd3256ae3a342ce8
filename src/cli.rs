//! argv.
