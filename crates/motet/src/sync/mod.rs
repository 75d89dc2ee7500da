//! The primitives that several modules are built from: one copy of each.
//!
//! | You need | Use |
//! |---|---|
//! | a line of waiters, and a result for each of them | [`WaitList`] |
//! | wakers that are called once a lock is released | [`WakeList`] |
//! | values that different threads write, on cache lines of their own | [`Padded`] |
//!
//! All of them are plain state and take no lock. Only [`WakeList::wake`] runs code of the user.

mod wait_list;

use std::task::Waker;

pub(crate) use self::wait_list::{WaitList, WaitState};
use crate::task::wakers::wake_each;

/// Keeps values that different threads write on different cache lines: on two lines each, since lines are fetched in
/// pairs.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

/// Wakers that are called once a lock is released. Mostly it is one waker, which needs no allocation.
#[derive(Debug, Default)]
pub(crate) struct WakeList {
    one: Option<Waker>,
    more: Vec<Waker>,
}

impl WakeList {
    pub(crate) fn is_empty(&self) -> bool {
        self.one.is_none()
    }

    /// Wakes all, even if a waker panics. The caller must hold no lock, since a waker runs code of the user.
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
