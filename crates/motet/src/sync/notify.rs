//! Waiters that are notified together. It replaces `tokio::sync::Notify`, in which a waker that panics unwinds into the
//! caller that notifies, and the waiters after it stay suspended.
//!
//! A waiter creates a [`Notified`], then looks at its condition, and then awaits the [`Notified`]. The caller that
//! notifies changes the condition first. Creation and notification take the same lock. If the creation is first, the
//! notification completes the [`Notified`], registered or not; else the waiter finds the condition changed.
//!
//! Not a [`WaitList`](super::WaitList): the waiters have no order, the first one costs no allocation, and a notification takes
//! all of them at once.

#[cfg(all(test, motet_loom))]
use loom::sync::{Mutex, MutexGuard};
use std::mem;
use std::pin::Pin;
use std::sync::PoisonError;
#[cfg(not(all(test, motet_loom)))]
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use slab::Slab;

use super::{renew, wake_each};
use crate::mutant;

#[derive(Default)]
pub(crate) struct Notify(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    /// The number of notifications so far. Each takes all wakers out, so a [`Notified`] of an earlier round has none here.
    round: u64,
    /// The waker of one waiter: most often there is only one, which then allocates nothing.
    one: Option<Waker>,
    more: Slab<Waker>,
}

/// The place where a waker is kept.
#[derive(Clone, Copy)]
enum At {
    One,
    More(usize),
}

impl Notify {
    /// No code of a user runs under this lock, so a poisoned one holds a sound state.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Completes each [`Notified`] that was created before, and wakes its task. A panic of a waker is logged.
    pub(crate) fn notify_waiters(&self) {
        let mut waiting = self.lock();
        waiting.round += 1;
        let one = waiting.one.take();
        let mut more = mem::take(&mut waiting.more);
        drop(waiting);
        if mutant!("notify.wake_one") {
            more.clear();
        }
        wake_each(one.into_iter().chain(more.into_iter().map(|(_, waker)| waker)));
    }

    /// Returns a future that completes with the next notification.
    pub(crate) fn notified(&self) -> Notified<'_> {
        Notified { notify: self, round: self.lock().round, at: None }
    }
}

impl Waiting {
    fn insert(&mut self, waker: Waker) -> At {
        if self.one.is_none() {
            self.one = Some(waker);
            return At::One;
        }
        At::More(self.more.insert(waker))
    }

    fn get_mut(&mut self, at: At) -> Option<&mut Waker> {
        match at {
            At::One => self.one.as_mut(),
            At::More(key) => self.more.get_mut(key),
        }
    }

    fn remove(&mut self, at: At) -> Option<Waker> {
        match at {
            At::One => self.one.take(),
            At::More(key) => self.more.try_remove(key),
        }
    }
}

/// A wait for the next notification. Takes no part in the budget of tokio's tasks.
pub(crate) struct Notified<'a> {
    notify: &'a Notify,
    /// The round of its creation.
    round: u64,
    /// `None` until it is first polled.
    at: Option<At>,
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { notify, round, at } = &mut *self;
        renew(cx.waker(), |renewal| {
            let mut waiting = notify.lock();
            if waiting.round != *round {
                return Some(Poll::Ready(()));
            }
            let Some(kept) = at.and_then(|at| waiting.get_mut(at)) else {
                *at = Some(waiting.insert(renewal.clone_for_new()?));
                return Some(Poll::Pending);
            };
            renewal.set(kept).then_some(Poll::Pending)
        })
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        let Some(at) = self.at else { return };
        let mut waiting = self.notify.lock();
        if waiting.round == self.round {
            let waker = waiting.remove(at);
            drop(waiting);
            // Outside of the lock: a waker's drop may run code of a user.
            drop(waker);
        }
    }
}

#[cfg(all(test, not(motet_loom)))]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use super::super::renew::tests::Count;
    use super::*;

    impl Count {
        fn poll(self: &Arc<Self>, notified: Pin<&mut Notified<'_>>) -> Poll<()> {
            notified.poll(&mut Context::from_waker(&Waker::from(Arc::clone(self))))
        }

        fn wakes(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn notification_completes_only_waiters_created_before_it() {
        let (notify, count) = (Notify::default(), Arc::<Count>::default());
        let (mut polled, mut unpolled) = (pin!(notify.notified()), pin!(notify.notified()));
        assert!(count.poll(polled.as_mut()).is_pending());
        notify.notify_waiters();
        let mut later = pin!(notify.notified());
        assert_eq!(count.wakes(), 1);
        assert!(count.poll(polled.as_mut()).is_ready() && count.poll(unpolled.as_mut()).is_ready());
        assert!(count.poll(later.as_mut()).is_pending());
        notify.notify_waiters();
        assert_eq!(count.wakes(), 2, "each waiter is woken once");
        assert!(count.poll(later.as_mut()).is_ready());
    }

    #[test]
    fn dropped_waiter_is_not_woken_and_unlinks_no_other_waiter() {
        let (notify, gone, count) = (Notify::default(), Arc::<Count>::default(), Arc::<Count>::default());
        for dropped in 0..3 {
            let mut waiters: Vec<_> = (0..3).map(|_| Box::pin(notify.notified())).collect();
            for (at, waiter) in waiters.iter_mut().enumerate() {
                let count = if at == dropped { &gone } else { &count };
                assert!(count.poll(waiter.as_mut()).is_pending());
            }
            drop(waiters.remove(dropped));
            assert_eq!(Arc::strong_count(&gone), 1, "its waker is dropped with it");
            // Takes the free place.
            let mut next = pin!(notify.notified());
            assert!(count.poll(next.as_mut()).is_pending());
            notify.notify_waiters();
            assert_eq!((gone.wakes(), count.wakes()), (0, 3 * (dropped + 1)));
            // Dropped after a notification, they leave a waiter of the next round where it is.
            let mut newer = pin!(notify.notified());
            assert!(count.poll(newer.as_mut()).is_pending());
            drop(waiters);
            assert!(notify.lock().one.is_some());
        }
    }

    #[test]
    fn only_the_waker_of_the_last_poll_is_woken() {
        let notify = Notify::default();
        let (first, last) = (Arc::<Count>::default(), Arc::<Count>::default());
        let mut waiter = pin!(notify.notified());
        assert!(first.poll(waiter.as_mut()).is_pending() && last.poll(waiter.as_mut()).is_pending());
        assert_eq!(Arc::strong_count(&first), 1, "the former waker is dropped");
        notify.notify_waiters();
        assert_eq!((first.wakes(), last.wakes()), (0, 1));
    }
}
