//! The global allocator. Rust aborts when an allocation fails; a supervisor with running programs must not
//! abort, so this allocator waits and retries.

use super::output_stream::OutputStream;
use super::poll::back_off;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The C library's allocator. A call that fails is repeated until it succeeds. If no program of a configuration file
/// has been started, rsup exits after a few attempts.
#[derive(Debug)]
pub struct RetryingAllocator;

static PROGRAM_WAS_STARTED: AtomicBool = AtomicBool::new(false);

/// Makes every later allocation wait until it succeeds. Called after every start of a program of a configuration file.
pub(super) fn retry_allocations_forever() {
    PROGRAM_WAS_STARTED.store(true, Relaxed);
}

/// The number of attempts after which rsup reports that it is out of memory. If no program has been started,
/// it then exits with status 2.
const ATTEMPTS_BEFORE_REPORT: u32 = 5;

fn retry(allocate: impl Fn() -> *mut u8) -> *mut u8 {
    let mut attempts = 0_u32;
    loop {
        let pointer = allocate();
        if !pointer.is_null() {
            return pointer;
        }
        attempts = attempts.saturating_add(1);
        if attempts == ATTEMPTS_BEFORE_REPORT {
            let _ = OutputStream::stderr().write(b"rsup: out of memory\n");
            if !PROGRAM_WAS_STARTED.load(Relaxed) {
                // SAFETY: _exit(2) takes a number; unlike exit(3) it runs no exit handlers, which might
                // allocate.
                unsafe { libc::_exit(2) };
            }
        }
        back_off();
    }
}

// SAFETY: every method forwards its arguments to the method of `System` of the same name and returns the
// result of that method. A call of `System` that fails changes nothing, so it may be repeated.
unsafe impl GlobalAlloc for RetryingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller guarantees that the size of `layout` is not zero.
        retry(|| unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller guarantees that the size of `layout` is not zero.
        retry(|| unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller guarantees that `System` has allocated `pointer` with `layout`, and that `size` is neither
        // zero nor too large. A `realloc` that fails leaves `pointer` allocated, so the call may be repeated.
        retry(|| unsafe { System.realloc(pointer, layout, size) })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller guarantees that `System` has allocated `pointer` with `layout`.
        unsafe { System.dealloc(pointer, layout) };
    }
}
