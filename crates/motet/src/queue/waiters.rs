//! The waiters on one side of a queue, in order: plain state, kept under the queue's lock.

use std::task::{Context, Poll, Waker};
#[cfg(not(all(test, motet_loom)))]
use std::{future::Future as _, pin::pin};

use slab::Slab;
#[cfg(not(all(test, motet_loom)))]
use tokio::task::yield_now;

use crate::task::wakers::wake_each;

/// How often an operation checks a slot that another thread is using before the task yields. That use takes
/// nanoseconds, unless the other thread was preempted.
pub(super) const LOOKS: usize = if cfg!(all(test, motet_loom)) { 1 } else { 32 };

/// How often a sender that finds no free slot yields before it joins the line. Parking and waking a task, often on
/// another worker that is woken for it, costs as much as all of these yields; and while the line is empty, an operation
/// that frees a slot takes no lock. Four senders that share two workers with their receiver take 14 ns per item, and 25
/// ns with one yield. With as many yields as items are seen to leave during them it is 20 ns, because mostly the
/// receiver only moves to another worker.
pub(super) const YIELDS: u8 = if cfg!(all(test, motet_loom)) { 1 } else { 16 };

/// The key of a waiter in its list.
pub(super) type WaiterKey = usize;

/// The number of entries that an empty list keeps. A larger list frees its memory, since a crowd of waiters may come
/// only once.
const KEPT: usize = 256;

/// A line of waiters. The first one is granted the next item or slots and leaves the line; its entry stays in the list
/// until the waiter is polled or dropped.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    entries: Slab<Waiter>,
    first: Option<WaiterKey>,
    last: Option<WaiterKey>,
    waiting: usize,
}

#[derive(Debug)]
struct Waiter {
    waker: Option<Waker>,
    /// The number of slots that the waiter wants.
    want: u32,
    state: WaiterState,
    before: Option<WaiterKey>,
    after: Option<WaiterKey>,
}

/// The state of a waiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WaiterState {
    Waiting,
    /// The waiter holds this number of slots, or one item.
    Granted(u32),
    /// The waiter left the line without a grant: the queue is closed.
    Released,
}

impl Waiters {
    /// The number of waiters in line.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn push(&mut self, waker: Waker, want: u32) -> WaiterKey {
        let before = self.last;
        let waiter = Waiter { waker: Some(waker), want, state: WaiterState::Waiting, before, after: None };
        let key = self.entries.insert(waiter);
        match before {
            Some(before) => self.entries[before].after = Some(key),
            None => self.first = Some(key),
        }
        self.last = Some(key);
        self.waiting += 1;
        key
    }

    pub(super) fn state(&self, key: WaiterKey) -> WaiterState {
        self.entries[key].state
    }

    pub(super) fn first(&self) -> Option<WaiterKey> {
        self.first
    }

    /// The number of slots that a waiter wants.
    pub(super) fn want(&self, key: WaiterKey) -> u32 {
        self.entries[key].want
    }

    /// Sets the waker of a waiter, and returns the previous one.
    pub(super) fn replace(&mut self, key: WaiterKey, waker: Waker) -> Option<Waker> {
        self.entries[key].waker.replace(waker)
    }

    /// Removes a waiter from the line, and returns its waker.
    pub(super) fn settle(&mut self, key: WaiterKey, state: WaiterState) -> Option<Waker> {
        self.unlink(key);
        self.entries[key].state = state;
        self.entries[key].waker.take()
    }

    /// Returns the waker of a waiter, and leaves the waiter in line.
    pub(super) fn nudge(&mut self, key: WaiterKey) -> Option<Waker> {
        self.entries[key].waker.take()
    }

    /// Removes the entry of a waiter, and returns its state and its waker.
    pub(super) fn remove(&mut self, key: WaiterKey) -> (WaiterState, Option<Waker>) {
        let state = self.entries[key].state;
        if state == WaiterState::Waiting {
            self.unlink(key);
        }
        let waker = self.entries.remove(key).waker;
        if self.entries.is_empty() && self.entries.capacity() > KEPT {
            self.entries = Slab::new();
        }
        (state, waker)
    }

    fn unlink(&mut self, key: WaiterKey) {
        let (before, after) = (self.entries[key].before.take(), self.entries[key].after.take());
        match before {
            Some(before) => self.entries[before].after = after,
            None => self.first = after,
        }
        match after {
            Some(after) => self.entries[after].before = before,
            None => self.last = before,
        }
        self.waiting -= 1;
    }
}

/// Wakers that are called once the lock is released. Mostly it is one waker, which needs no allocation.
#[derive(Debug, Default)]
pub(super) struct WakeList {
    one: Option<Waker>,
    more: Vec<Waker>,
}

impl WakeList {
    pub(super) fn add(&mut self, waker: Option<Waker>) {
        match waker {
            Some(waker) if self.one.is_none() => self.one = Some(waker),
            more => self.more.extend(more),
        }
    }

    /// Wakes all. The caller must hold no lock.
    pub(super) fn wake(self) {
        wake_each(self.one.into_iter().chain(self.more));
    }
}

/// Yields to other tasks, and to a thread that was preempted while it used a slot.
#[cfg(not(all(test, motet_loom)))]
pub(super) fn again<T>(cx: &mut Context<'_>) -> Poll<T> {
    // As tokio yields. A wake from inside the poll would make another worker take the task over, and the two workers
    // would pass the queue back and forth.
    let yielding = pin!(yield_now()).poll(cx);
    debug_assert!(yielding.is_pending(), "a yield waits once");
    Poll::Pending
}

#[cfg(all(test, motet_loom))]
pub(super) fn again<T>(cx: &mut Context<'_>) -> Poll<T> {
    super::atomics::yield_now();
    cx.waker().wake_by_ref();
    Poll::Pending
}

#[cfg(all(test, not(motet_loom)))]
mod tests {
    use super::*;

    #[test]
    fn empty_line_frees_the_memory_of_a_crowd() {
        let mut line = Waiters::default();
        let keys: Vec<WaiterKey> = (0..100_000).map(|_| line.push(Waker::noop().clone(), 1)).collect();
        // First from the middle of the line.
        let (middle, ends): (Vec<WaiterKey>, Vec<WaiterKey>) = keys.into_iter().partition(|key| key % 3 == 1);
        for key in middle.into_iter().chain(ends) {
            drop(line.remove(key));
        }
        assert_eq!((line.waiting(), line.first(), line.entries.capacity()), (0, None, 0));
    }
}
