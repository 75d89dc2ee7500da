//! Wakers that are called once a lock is released.

use std::task::Waker;

use super::catch;
use crate::mutant;

/// Wakes every waiter, even if a waker panics.
#[expect(clippy::disallowed_methods, reason = "this is the place that catches the panic of a waker")]
pub(crate) fn wake_each(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        if mutant!("wakers.let_panics_out") {
            waker.wake();
            continue;
        }
        if let Err(panic) = catch(|| waker.wake()) {
            crate::log::error!(panic, "a waker panicked");
        }
    }
}

/// A list of wakers. Mostly it is one waker, which needs no allocation.
#[derive(Debug, Default)]
pub(crate) struct WakeList {
    one: Option<Waker>,
    more: Vec<Waker>,
}

impl WakeList {
    pub(crate) fn is_empty(&self) -> bool {
        self.one.is_none()
    }

    /// Wakes all in the order of their insertion, even if a waker panics. The caller must hold no lock, since a waker runs
    /// code of the user.
    pub(crate) fn wake(self) {
        wake_each(self.one.into_iter().chain(self.more));
    }
}

impl Extend<Waker> for WakeList {
    fn extend<I: IntoIterator<Item = Waker>>(&mut self, wakers: I) {
        let mut wakers = wakers.into_iter();
        if self.one.is_none() {
            self.one = wakers.next();
        }
        self.more.extend(wakers);
    }
}
