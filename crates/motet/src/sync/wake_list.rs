use std::task::Waker;

use crate::task::wakers::wake_each;

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
