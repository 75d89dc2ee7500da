//! The callers that wait for a connection, in order. Each has an entry from which it takes its result.

use std::task::Waker;

use slab::Slab;
use tokio::time::Instant;

use crate::task::renew::Renewal;

const NONE: usize = usize::MAX;

/// The number of entries that an empty queue keeps. A larger queue frees its memory, since a crowd of callers may come
/// only once.
const KEPT: usize = 256;

/// A queue of wakers from which each caller can leave in constant time and without an allocation per caller.
pub(in crate::pool) struct WaitQueue<T> {
    entries: Slab<WaitEntry<T>>,
    front: usize,
    back: usize,
    waiting: usize,
}

struct WaitEntry<T> {
    stage: WaitStage<T>,
    before: usize,
    after: usize,
    deadline: Option<Instant>,
}

/// The state of a caller in the queue.
pub(in crate::pool) enum WaitStage<T> {
    Waiting(Waker),
    /// The caller has left the queue, and has not taken its result yet.
    Settled(T),
}

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
        Self { entries: Slab::new(), front: NONE, back: NONE, waiting: 0 }
    }

    /// The number of callers that wait.
    pub(super) const fn len(&self) -> usize {
        self.waiting
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    pub(super) fn front_deadline(&self) -> Option<Instant> {
        self.entries.get(self.front)?.deadline
    }

    pub(super) fn join(&mut self, at: QueueEnd, waker: Waker, deadline: Option<Instant>) -> usize {
        let (before, after) = match at {
            QueueEnd::Front => (NONE, self.front),
            QueueEnd::Back => (self.back, NONE),
        };
        let key =
            self.entries.insert(WaitEntry { stage: WaitStage::Waiting(waker), before, after, deadline });
        self.tie(before, key);
        self.tie(key, after);
        self.waiting += 1;
        key
    }

    /// Hands a result to the caller that has waited longest, and returns its waker. Returns the result if no caller
    /// waits.
    pub(super) fn settle(&mut self, value: T) -> Result<Waker, T> {
        let key = self.front;
        if key == NONE {
            return Err(value);
        }
        self.unlink(key);
        match std::mem::replace(&mut self.entries[key].stage, WaitStage::Settled(value)) {
            WaitStage::Waiting(waker) => Ok(waker),
            WaitStage::Settled(_) => unreachable!("a settled caller has left the queue"),
        }
    }

    /// Takes the result of this entry, which is then free; or checks its waker.
    pub(super) fn look(&mut self, key: usize, renewal: &mut Renewal<'_>) -> Seen<T> {
        match &mut self.entries[key].stage {
            WaitStage::Waiting(own) => {
                if renewal.set(own) {
                    Seen::Waiting
                } else {
                    Seen::OtherWaker
                }
            }
            WaitStage::Settled(_) => match self.remove(key) {
                WaitStage::Settled(value) => Seen::Settled(value),
                WaitStage::Waiting(_) => unreachable!("the entry was settled"),
            },
        }
    }

    /// Frees the entry.
    pub(super) fn remove(&mut self, key: usize) -> WaitStage<T> {
        if matches!(self.entries[key].stage, WaitStage::Waiting(_)) {
            self.unlink(key);
        }
        let entry = self.entries.remove(key);
        if self.entries.is_empty() && self.entries.capacity() > KEPT {
            self.entries = Slab::new();
        }
        entry.stage
    }

    fn unlink(&mut self, key: usize) {
        let WaitEntry { before, after, .. } = self.entries[key];
        self.tie(before, after);
        self.waiting -= 1;
    }

    /// Links two entries. If one side is missing, the other one is the end of the queue.
    fn tie(&mut self, before: usize, after: usize) {
        match self.entries.get_mut(before) {
            Some(entry) => entry.after = after,
            None => self.front = after,
        }
        match self.entries.get_mut(after) {
            Some(entry) => entry.before = before,
            None => self.back = before,
        }
    }
}
