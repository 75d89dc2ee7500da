//! Atomics and locks: the standard ones, or loom's in its models.

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

/// Loom's way to a cell, which it checks for two accesses at once.
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

/// Keeps what different threads write on different cache lines; two lines each, since they are fetched in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Padded<T>(pub(super) T);

/// Stands between two sequentially consistent accesses that the hand-off needs in one order for all threads. They are
/// in one by the language; loom takes such accesses for acquire and release, and needs a fence to know.
#[inline(always)]
pub(super) fn in_one_order() {
    #[cfg(all(test, motet_loom))]
    loom::sync::atomic::fence(Ordering::SeqCst);
}

/// Waits for about a microsecond after a race that was lost. Whoever has won has the line in its cache, and is to go on
/// for some items before it is taken away: four senders and four receivers on two workers are three times as fast as
/// when each takes it from the other for every item, and with a quarter of this, twice.
#[cold]
pub(super) fn lost_a_race() {
    const LOOKS: usize = if cfg!(all(test, motet_loom)) { 1 } else { 64 };
    for _ in 0..LOOKS {
        spin_loop();
    }
}
