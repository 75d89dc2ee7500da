//! Closing and shutting down a queue, and waiting until every item is settled.

use super::atomics::{Ordering, yield_now};
use super::core::{QueueCore, SlowState, flag};
use super::cursors::{Claim, NoItem};
use super::waiters::WaiterState;
use crate::mutant;
use crate::sync::WakeList;

impl<T> QueueCore<T> {
    /// Returns `true` if no item is in the queue, and none can come back.
    pub(super) fn is_settled(&self) -> bool {
        // A lease is counted before its item leaves the storage. A worker may send further items before it settles the
        // last one, so both numbers are read as of one moment.
        self.cursors.is_empty_while(|| self.unsettled() == 0) || self.has(flag::FENCED)
    }

    pub(super) fn is_finished(&self) -> bool {
        self.cursors.is_closed() && self.is_settled()
    }

    /// Wakes the callers of `join` if the last item is settled, and the receivers if the queue is closed as well.
    pub(super) fn notify_if_settled(&self) {
        if !self.has(flag::WATCHED) || !self.is_settled() {
            return;
        }
        let mut wakes = WakeList::default();
        let mut slow = self.lock();
        // Under the lock: an item that comes back to a store is counted twice for a moment, but never zero times.
        if !self.is_settled() {
            return;
        }
        if self.cursors.is_closed() {
            self.release_receivers(&mut slow, &mut wakes);
        }
        drop(slow);
        self.settled.notify_waiters();
        wakes.wake();
    }

    fn release_receivers(&self, slow: &mut SlowState<T>, wakes: &mut WakeList) {
        while let Some(first) = slow.receivers.first() {
            wakes.extend(slow.receivers.settle(first, WaiterState::Released));
        }
        self.lower(slow, flag::RECEIVERS);
        self.ensure_timer(slow, wakes);
    }

    /// Closes the queue, and releases the senders in line.
    pub(super) fn close(&self) {
        let first = self.cursors.close();
        let mut wakes = WakeList::default();
        let mut slow = self.lock();
        self.raise(&slow, flag::WATCHED);
        while let Some(sender) = slow.senders.first() {
            if mutant!("queue.close_and_tell_nobody") {
                break;
            }
            wakes.extend(slow.senders.settle(sender, WaiterState::Released));
        }
        if slow.senders.waiting() == 0 {
            self.lower(&slow, flag::SENDERS);
        }
        drop(slow);
        wakes.wake();
        if first {
            self.closed.notify_waiters();
        }
        self.notify_if_settled();
    }

    /// Closes the queue, and takes all items out of it.
    pub(super) fn end(&self, how: End) -> Vec<T> {
        self.close();
        // No caller must find the queue settled before the number of abandoned items is known.
        self.unsettled.0.fetch_add(1, Ordering::SeqCst);
        let mut wakes = WakeList::default();
        let mut slow = self.lock();
        // Both flags at once: an item that a holder returns from now on does not count as abandoned.
        self.raise(&slow, flag::ENDED | if how == End::Handed { flag::FENCED } else { 0 });
        let mut left: Vec<T> = slow.front.drain(..).map(|entry| entry.item).collect();
        let due_later: Vec<T> = slow.later.drain().map(|entry| entry.item).collect();
        self.lower(&slow, flag::ASIDE);
        self.release_receivers(&mut slow, &mut wakes);
        drop(slow);
        wakes.wake();
        let aside = left.len() + due_later.len();
        (0..aside).for_each(|_| self.cursors.release(1));
        loop {
            match self.storage.pop(&self.cursors, Claim::All) {
                Ok(entry) => left.push(entry.item),
                Err(NoItem::Empty) => break,
                // A sender on another thread is still writing the item.
                Err(NoItem::Busy) => yield_now(),
            }
        }
        left.extend(due_later);
        if how == End::Abandoned {
            self.lock().abandoned += left.len();
        }
        self.unsettled.0.fetch_sub(aside + 1, Ordering::SeqCst);
        self.notify_if_settled();
        left
    }

    /// Returns the number of abandoned items if every item is settled.
    pub(super) fn outcome(&self) -> Option<usize> {
        let slow = self.lock();
        self.is_settled().then_some(slow.abandoned)
    }

    /// Requests a notification of `settled` when every item is settled, for as long as the result lives.
    pub(super) fn watch(&self) -> Watch<'_, T> {
        let mut slow = self.lock();
        slow.joiners += 1;
        self.raise(&slow, flag::WATCHED);
        Watch(self)
    }
}

/// The fate of the items of a queue that is shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The caller gets them, and leases are void.
    Handed,
    /// No receiver is left, and the items are dropped.
    Abandoned,
}

pub(super) struct Watch<'a, T>(&'a QueueCore<T>);

impl<T> Drop for Watch<'_, T> {
    fn drop(&mut self) {
        let mut slow = self.0.lock();
        slow.joiners -= 1;
        if slow.joiners == 0 && !self.0.cursors.is_closed() {
            self.0.lower(&slow, flag::WATCHED);
        }
    }
}
