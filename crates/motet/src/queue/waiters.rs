//! The waiters on one side of a queue, in order: plain state, kept under the queue's lock.

use std::task::{Context, Poll, Waker};
#[cfg(not(all(test, motet_loom)))]
use std::{future::Future as _, pin::pin};

#[cfg(not(all(test, motet_loom)))]
use tokio::task::yield_now;

use crate::sync::{WaitList, WaitState};

/// How often an operation checks a slot that another thread is using before the task yields. That use takes
/// nanoseconds, unless the other thread was preempted.
pub(super) const SPIN_LIMIT: usize = if cfg!(all(test, motet_loom)) { 1 } else { 32 };

/// How often a sender that finds no free slot yields before it joins the line. Parking and waking a task, often on
/// another worker that is woken for it, costs as much as all of these yields; and while the line is empty, an operation
/// that frees a slot takes no lock. Four senders that share two workers with their receiver take 14 ns per item, and 25
/// ns with one yield. With as many yields as items are seen to leave during them it is 20 ns, because mostly the
/// receiver only moves to another worker.
pub(super) const YIELD_LIMIT: u8 = if cfg!(all(test, motet_loom)) { 1 } else { 16 };

/// The key of a waiter in its line.
pub(super) type WaiterKey = usize;

/// The waiters on one side of a queue. The first one is granted the next item or slots and leaves the line; its entry stays
/// until the waiter is polled or dropped. The data of a waiter is the number of slots that it wants; its waker is `None`
/// after a [`nudge`](Waiters::nudge).
#[derive(Debug)]
pub(super) struct Waiters(WaitList<Option<Waker>, WaiterState, u32>);

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
    pub(super) const fn new() -> Self {
        Self(WaitList::new())
    }

    /// The number of waiters in line.
    pub(super) fn waiting(&self) -> usize {
        self.0.len()
    }

    pub(super) fn push(&mut self, waker: Waker, want: u32) -> WaiterKey {
        self.0.push_back(Some(waker), want)
    }

    pub(super) fn state(&self, key: WaiterKey) -> WaiterState {
        match self.0.state(key) {
            WaitState::Waiting(_) => WaiterState::Waiting,
            WaitState::Settled(state) => *state,
        }
    }

    pub(super) fn first(&self) -> Option<WaiterKey> {
        self.0.first()
    }

    /// The number of slots that a waiter wants.
    pub(super) fn want(&self, key: WaiterKey) -> u32 {
        *self.0.data(key)
    }

    /// Sets the waker of a waiter in line, and returns the waker that is not needed any more.
    pub(super) fn replace(&mut self, key: WaiterKey, waker: Waker) -> Option<Waker> {
        match self.0.state_mut(key) {
            WaitState::Waiting(kept) => kept.replace(waker),
            WaitState::Settled(_) => Some(waker),
        }
    }

    /// Removes a waiter from the line, and returns its waker.
    pub(super) fn settle(&mut self, key: WaiterKey, state: WaiterState) -> Option<Waker> {
        self.0.settle(key, state).ok().flatten()
    }

    /// Returns the waker of a waiter, and leaves the waiter in line.
    pub(super) fn nudge(&mut self, key: WaiterKey) -> Option<Waker> {
        match self.0.state_mut(key) {
            WaitState::Waiting(waker) => waker.take(),
            WaitState::Settled(_) => None,
        }
    }

    /// Removes the entry of a waiter, and returns its state and its waker.
    pub(super) fn remove(&mut self, key: WaiterKey) -> (WaiterState, Option<Waker>) {
        match self.0.remove(key) {
            WaitState::Waiting(waker) => (WaiterState::Waiting, waker),
            WaitState::Settled(state) => (state, None),
        }
    }
}

/// Yields to other tasks, and to a thread that was preempted while it used a slot.
#[cfg(not(all(test, motet_loom)))]
pub(super) fn yield_poll<T>(cx: &mut Context<'_>) -> Poll<T> {
    // As tokio yields. A wake from inside the poll would make another worker take the task over, and the two workers
    // would pass the queue back and forth.
    let yielding = pin!(yield_now()).poll(cx);
    debug_assert!(yielding.is_pending(), "a yield waits once");
    Poll::Pending
}

#[cfg(all(test, motet_loom))]
pub(super) fn yield_poll<T>(cx: &mut Context<'_>) -> Poll<T> {
    super::atomics::yield_now();
    cx.waker().wake_by_ref();
    Poll::Pending
}
