//! Memory. Rust ends a program that gets none; what has programs to look after waits for some instead. And what runs one
//! command, or few programs, hardly asks the kernel for any.

use super::LogStream;
use super::poll::back_off;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// The C library's memory, for as long as it takes to get it.
#[derive(Debug)]
pub struct RetryingAllocator;

static HAS_PROGRAMS: AtomicBool = AtomicBool::new(false);

/// There is a program: from here on rsup does not leave for want of memory.
pub(super) fn retry_allocations() {
    HAS_PROGRAMS.store(true, Relaxed);
}

/// Before there are programs a shortage is the end, with code 2, when it does not pass at once.
const TRIES: u32 = 5;

fn insist(allocate: impl Fn() -> *mut u8) -> *mut u8 {
    let mut tries = 0;
    loop {
        let place = allocate();
        if !place.is_null() {
            return place;
        }
        tries = u32::saturating_add(tries, 1);
        if tries == TRIES {
            let _ = LogStream::stderr().write(b"rsup: out of memory\n");
            if !HAS_PROGRAMS.load(Relaxed) {
                // SAFETY: takes a number; unlike exit(3) it runs nothing that could need memory.
                unsafe { libc::_exit(2) };
            }
        }
        back_off();
    }
}

/// The first places are in rsup's own image, one behind the other; only the last of them can grow, or be given again. One
/// command or a few programs need no more: to make a heap would be a sixth of the time by which rsup delays their start.
struct First(UnsafeCell<[u8; FIRST_SIZE]>);

const FIRST_SIZE: usize = 48 * 1024;
static FIRST: First = First(UnsafeCell::new([0; FIRST_SIZE]));
static FIRST_USED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: rsup has one thread; and nobody looks into what was given to another.
unsafe impl Sync for First {}

impl First {
    fn start(&self) -> *mut u8 {
        self.0.get().cast()
    }

    fn allocate(&self, layout: Layout) -> Option<*mut u8> {
        let used = FIRST_USED.load(Relaxed);
        let from = used + self.start().wrapping_add(used).align_offset(layout.align());
        if layout.size() > FIRST_SIZE.saturating_sub(from) {
            return None;
        }
        FIRST_USED.store(from + layout.size(), Relaxed);
        // SAFETY: `from` is inside. (So it is no null pointer, and who asks for memory need not look.)
        Some(unsafe { self.start().add(from) })
    }

    /// Makes the last place end elsewhere. Returns whether this is the last, and there is room.
    fn resize(&self, place: *mut u8, size: usize, size_then: usize) -> bool {
        let from = place.addr().wrapping_sub(self.start().addr());
        let (end, end_then) = (from.wrapping_add(size), from.saturating_add(size_then));
        let is_possible = end == FIRST_USED.load(Relaxed) && end_then <= FIRST_SIZE;
        if is_possible {
            FIRST_USED.store(end_then, Relaxed);
        }
        is_possible
    }

    fn contains(&self, place: *mut u8) -> bool {
        // As numbers: to compare the pointers takes 8 KB more of code.
        let start = self.start().addr();
        (start..start + FIRST_SIZE).contains(&place.addr())
    }
}

// SAFETY: every place is a part of `FIRST` that is nobody else's, or one that `System` gave for the same layout.
unsafe impl GlobalAlloc for RetryingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the same.
        FIRST.allocate(layout).unwrap_or_else(|| insist(|| unsafe { System.alloc(layout) }))
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        insist(|| unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !FIRST.contains(place) {
            // SAFETY: as above; where it fails, `place` is as it was.
            return insist(|| unsafe { System.realloc(place, layout, size) });
        }
        if FIRST.resize(place, layout.size(), size) {
            return place;
        }
        // SAFETY: the caller vouches for size and alignment,
        let layout_then = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: as above,
        let place_then = unsafe { self.alloc(layout_then) };
        // SAFETY: and there are as many bytes in both.
        unsafe { place_then.copy_from_nonoverlapping(place, layout.size().min(size)) };
        place_then
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        if FIRST.contains(place) {
            FIRST.resize(place, layout.size(), 0);
        } else {
            // SAFETY: as above.
            unsafe { System.dealloc(place, layout) };
        }
    }
}
