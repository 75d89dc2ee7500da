//! The waker of a waiter, kept under a lock, and replaced when another task polls.

use std::mem;
use std::task::Waker;

/// Access to the kept waker of a waiter: see [`renew`].
pub(crate) struct Renewal<'a> {
    waker: &'a Waker,
    clone: Option<Waker>,
    replaced: Option<Waker>,
}

impl Renewal<'_> {
    /// Returns a waker to store for a waiter that has none yet. If this is `None`, the caller releases the lock and returns
    /// `None`, as with [`set`](Self::set).
    #[must_use]
    pub(crate) fn clone_for_new(&mut self) -> Option<Waker> {
        self.clone.take()
    }

    /// Stores the waker of the task in `kept`. Returns `false` if it could not yet: then the caller releases the lock and
    /// returns `None`, so that [`renew`] calls it again.
    #[must_use]
    pub(crate) fn set(&mut self, kept: &mut Waker) -> bool {
        match self.clone.take() {
            // The clone is not compared again: `will_wake` may return `false` for a waker and its own clone. In optimised
            // builds this happens with wakers of the standard library.
            Some(clone) => {
                self.replaced = Some(mem::replace(kept, clone));
                true
            }
            None => kept.will_wake(self.waker),
        }
    }
}

/// Calls `look`, which takes the lock and checks its condition; if it has to wait, it calls [`Renewal::set`] for the kept
/// waker.
///
/// `look` is called at most twice for one kept waker. The new waker is cloned between the two calls, and a replaced waker is
/// dropped at the end: both may run user code, so no lock is held.
#[inline]
pub(crate) fn renew<R>(waker: &Waker, mut look: impl FnMut(&mut Renewal<'_>) -> Option<R>) -> R {
    let mut renewal = Renewal { waker, clone: None, replaced: None };
    loop {
        if let Some(found) = look(&mut renewal) {
            return found;
        }
        renewal.clone = Some(waker.clone());
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    /// A waker that counts how often it wakes.
    #[derive(Default)]
    pub(in crate::sync) struct Count(pub(in crate::sync) AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the waker is this test's own")]
    fn renewed_waker_wakes_only_the_last_poller() {
        let (first, last) = (Arc::<Count>::default(), Arc::<Count>::default());
        let mut kept = Waker::from(Arc::clone(&first));
        let other = Waker::from(Arc::clone(&last));
        let mut looks = 0;
        renew(&other, |renewal| {
            looks += 1;
            renewal.set(&mut kept).then_some(())
        });
        kept.wake_by_ref();
        assert_eq!((looks, first.0.load(Ordering::Relaxed), last.0.load(Ordering::Relaxed)), (2, 0, 1));
        assert_eq!(Arc::strong_count(&first), 1, "the former waker is dropped");
        renew(&kept.clone(), |renewal| renewal.set(&mut kept).then_some(()));
        kept.wake();
        assert_eq!((last.0.load(Ordering::Relaxed), Arc::strong_count(&last)), (2, 2));
    }
}
