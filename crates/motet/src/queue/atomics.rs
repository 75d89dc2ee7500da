//! Atomics and locks: those of the standard library, or loom's in its models.

#[cfg(all(test, motet_loom))]
pub(super) use loom::{
    cell::UnsafeCell,
    hint::spin_loop,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    thread::yield_now,
};
#[cfg(not(all(test, motet_loom)))]
pub(super) use std::{
    hint::spin_loop,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    thread::yield_now,
};

/// The interface of loom's cell, which loom checks for concurrent accesses.
#[cfg(not(all(test, motet_loom)))]
#[derive(Debug)]
pub(super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(all(test, motet_loom)))]
impl<T> UnsafeCell<T> {
    pub(super) fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    #[inline(always)]
    pub(super) fn with_mut<R>(&self, access: impl FnOnce(*mut T) -> R) -> R {
        access(self.0.get())
    }
}

/// Separates two sequentially consistent accesses that the hand-off needs in one order for all threads. The language
/// guarantees that order; loom treats such accesses as acquire and release, and needs a fence.
#[inline(always)]
pub(super) fn in_one_order() {
    #[cfg(all(test, motet_loom))]
    loom::sync::atomic::fence(Ordering::SeqCst);
}

/// Waits for about a microsecond after a lost race. The winner has the cache line, and should continue for some items
/// before it loses the line: four senders and four receivers on two workers are three times as fast as when the line
/// moves at every item, and twice as fast with a quarter of this wait.
#[cold]
pub(super) fn lost_a_race() {
    const SPIN_LIMIT: usize = if cfg!(all(test, motet_loom)) { 1 } else { 64 };
    for _ in 0..SPIN_LIMIT {
        spin_loop();
    }
}
