//! The primitives that several modules are built from: one copy of each.
//!
//! | You need | Use |
//! |---|---|
//! | a line of waiters, and a result for each of them | [`WaitList`] |
//! | waiters that are all notified together | [`Notify`] |
//! | a waker that wakes many waiters | [`WakerSet`] |
//! | the waker of one waiter, kept under a lock | [`renew()`] |
//! | wakers that are called once a lock is released | [`WakeList`], [`wake_each`] |
//! | a count of members that can be closed | [`Gate`] |
//! | to drop a value of the user, or to run code of the user, without a panic | [`quietly_drop`], [`Quiet`], [`catch`] |
//! | values that different threads write, on cache lines of their own | [`Padded`] |
//!
//! No lock is held while code of the user runs: the clone, the wake and the drop of a waker are such code. A panic of this
//! code is logged and ends here.

mod gate;
#[cfg(all(test, motet_loom))]
mod models;
mod notify;
mod quiet;
mod renew;
mod wait_list;
mod wake_list;
mod waker_set;

use std::ops::Deref;

pub(crate) use gate::{Class, Entered, Gate};
pub(crate) use notify::Notify;
pub(crate) use quiet::{Quiet, catch, panic_message, panic_words, quietly_drop};
pub(crate) use renew::{Renewal, renew};
pub(crate) use wait_list::{WaitList, WaitState};
pub(crate) use wake_list::{WakeList, wake_each};
pub(crate) use waker_set::{WakerSet, WakerSetEntry};

/// Keeps values that different threads write on different cache lines: on two lines each, since processors fetch lines in
/// pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

impl<T> Deref for Padded<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}
