//! A waker that wakes many waiters.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use slab::Slab;

use super::core::panic_words;
use crate::mutant;

/// Wakes every waiter, even if a waker panics.
#[expect(clippy::disallowed_methods, reason = "this is the place that catches the panic of a waker")]
pub(crate) fn wake_each(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        if mutant!("wakers.let_panics_out") {
            waker.wake();
            continue;
        }
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
            let panic = panic_words(payload);
            crate::log::error!(panic, "a waker panicked");
        }
    }
}

/// The wakers of all waiters. Used as a waker, it wakes them all.
#[derive(Default)]
pub(crate) struct Wakers(Mutex<Slab<Option<Waker>>>);

impl Wakers {
    fn lock(&self) -> MutexGuard<'_, Slab<Option<Waker>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let wakers: Vec<Waker> = self.lock().iter_mut().filter_map(|(_, waker)| waker.take()).collect();
        wake_each(wakers);
    }
}

/// The entry of one waiter.
pub(crate) struct Place {
    wakers: Arc<Wakers>,
    /// `None` until the waiter first waits.
    at: Option<usize>,
}

impl Place {
    pub(crate) fn among(wakers: &Arc<Wakers>) -> Self {
        Self { wakers: Arc::clone(wakers), at: None }
    }

    /// An entry for a further waiter.
    pub(crate) fn another(&self) -> Self {
        Self::among(&self.wakers)
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

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(at) = self.at {
            let waker = self.wakers.lock().remove(at);
            drop(waker);
        }
    }
}
