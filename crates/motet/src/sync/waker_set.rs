//! A waker that wakes many waiters, for a future that keeps a single waker.
//!
//! Not a [`WaitList`](super::WaitList): a waiter keeps its entry from wake to wake, and has no place in a line.

#[cfg(all(test, motet_loom))]
use loom::sync::{Mutex, MutexGuard};
use std::sync::{Arc, PoisonError};
#[cfg(not(all(test, motet_loom)))]
use std::sync::{Mutex, MutexGuard};
use std::task::{Wake, Waker};

use slab::Slab;

use super::wake_each;

/// The wakers of all waiters. Used as a waker, it wakes them all.
#[derive(Default)]
pub(crate) struct WakerSet(Mutex<Slab<Option<Waker>>>);

impl WakerSet {
    fn lock(&self) -> MutexGuard<'_, Slab<Option<Waker>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for WakerSet {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let wakers: Vec<Waker> = self.lock().iter_mut().filter_map(|(_, waker)| waker.take()).collect();
        wake_each(wakers);
    }
}

/// The entry of one waiter.
pub(crate) struct WakerSetEntry {
    wakers: Arc<WakerSet>,
    /// `None` until the waiter first waits.
    at: Option<usize>,
}

impl WakerSetEntry {
    pub(crate) fn of(wakers: &Arc<WakerSet>) -> Self {
        Self { wakers: Arc::clone(wakers), at: None }
    }

    /// An entry for a further waiter.
    pub(crate) fn another(&self) -> Self {
        Self::of(&self.wakers)
    }

    /// Registers the waker of this waiter for the next wake.
    pub(crate) fn set(&mut self, waker: &Waker) {
        // Outside of the lock, like the drop below: the clone and the drop of a waker may run user code.
        let waker = waker.clone();
        let mut wakers = self.wakers.lock();
        let at = *self.at.get_or_insert_with(|| wakers.insert(None));
        let replaced = wakers[at].replace(waker);
        drop(wakers);
        drop(replaced);
    }

    /// The waker that wakes all.
    pub(crate) fn all(&self) -> Waker {
        Waker::from(Arc::clone(&self.wakers))
    }
}

impl Drop for WakerSetEntry {
    fn drop(&mut self) {
        if let Some(at) = self.at {
            let waker = self.wakers.lock().remove(at);
            drop(waker);
        }
    }
}
