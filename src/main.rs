//! The door: argv in, exit code out.
//!
//! A C `main`, since Rust's own start-up would change SIGPIPE, and give up where /dev/null is missing.
#![no_main]
#![allow(unsafe_code, reason = "the C main")]

use std::ffi::{c_char, c_int};

#[global_allocator]
static MEMORY: rsup::sys::RetryingAllocator = rsup::sys::RetryingAllocator;

/// What the C library calls.
///
/// # Safety
/// The C library calls it with what the C standard promises `main`.
// SAFETY (of the name): the one function of this name, with the signature that the C standard gives it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    // SAFETY: passed on as they came.
    rsup::run(&unsafe { rsup::sys::arguments(argc, argv) }).into()
}
