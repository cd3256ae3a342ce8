//! The program's entry point: arguments in, exit code out.
//!
//! This is a C `main`, because Rust's own start-up code changes the disposition of SIGPIPE. That code also aborts if a
//! standard descriptor is closed and /dev/null cannot be opened.
#![no_main]
#![allow(unsafe_code, reason = "a C main is called by the C library, which Rust cannot check")]

use std::ffi::{c_char, c_int};

#[global_allocator]
static ALLOCATOR: rsup::sys::RetryingAllocator = rsup::sys::RetryingAllocator;

/// The C library's start-up code calls this function.
///
/// # Safety
/// `argv` points to `argc` pointers to strings that end with NUL, as the C standard guarantees for `main`.
// SAFETY: no other function of this program or of its libraries is named `main`, and the signature is the one that the
// C standard gives `main`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    // SAFETY: the C library has passed `argc` and `argv`, and nothing has changed them since.
    rsup::run(&unsafe { rsup::sys::arguments(argc, argv) }).into()
}
