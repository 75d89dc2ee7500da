//! A counting allocator, for tests that are separate programs: it counts the whole process.

#![allow(unsafe_code, reason = "an allocator is unsafe to write")]
#![allow(dead_code, reason = "no program asks for all of the figures")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

struct Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is passed to the allocator of the system unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size().cast_signed(), Ordering::Relaxed);
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of this function, which is that of the called one.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size().cast_signed(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of this function, which is that of the called one.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// The bytes that are allocated.
pub(crate) fn live() -> isize {
    LIVE.load(Ordering::Relaxed)
}

/// The number of allocations of this thread. The thread of the test harness allocates at any time.
pub(crate) fn allocations() -> usize {
    ALLOCATIONS.get()
}

/// The sum of all allocated bytes.
pub(crate) fn bytes() -> usize {
    BYTES.load(Ordering::Relaxed)
}
