//! The callers that wait for a connection, in order. Each has an entry from which it takes its result.

use std::task::Waker;

use crate::sync::{Renewal, WaitList, WaitState};
use tokio::time::Instant;

/// A queue of callers, each with its deadline, and the result `T` of each.
pub(in crate::pool) struct WaitQueue<T>(WaitList<Waker, T, Option<Instant>>);

/// The end of the queue at which a caller joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pool) enum QueueEnd {
    Front,
    Back,
}

/// The result of looking at an entry.
pub(in crate::pool) enum Seen<T> {
    Settled(T),
    /// The caller still waits, and its waker is the right one.
    Waiting,
    /// The caller still waits, with another waker.
    OtherWaker,
}

impl<T> WaitQueue<T> {
    pub(super) const fn new() -> Self {
        Self(WaitList::new())
    }

    /// The number of callers that wait.
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn front_deadline(&self) -> Option<Instant> {
        *self.0.data(self.0.first()?)
    }

    pub(super) fn join(&mut self, end: QueueEnd, waker: Waker, deadline: Option<Instant>) -> usize {
        match end {
            QueueEnd::Front => self.0.push_front(waker, deadline),
            QueueEnd::Back => self.0.push_back(waker, deadline),
        }
    }

    /// Hands a result to the caller that has waited longest, and returns its waker. Returns the result if no caller
    /// waits.
    pub(super) fn settle(&mut self, value: T) -> Result<Waker, T> {
        match self.0.first() {
            Some(first) => self.0.settle(first, value),
            None => Err(value),
        }
    }

    /// If the entry is settled, frees it and returns its result. Otherwise renews its waker.
    pub(super) fn look(&mut self, key: usize, renewal: &mut Renewal<'_>) -> Seen<T> {
        if let WaitState::Waiting(own) = self.0.state_mut(key) {
            return if renewal.set(own) { Seen::Waiting } else { Seen::OtherWaker };
        }
        match self.0.remove(key) {
            WaitState::Settled(value) => Seen::Settled(value),
            WaitState::Waiting(_) => unreachable!("the entry was settled"),
        }
    }

    /// Frees the entry.
    pub(super) fn remove(&mut self, key: usize) -> WaitState<Waker, T> {
        self.0.remove(key)
    }
}
