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
pub(in crate::pool) struct Queue<T> {
    places: Slab<Place<T>>,
    front: usize,
    back: usize,
    waiting: usize,
}

struct Place<T> {
    stage: Stage<T>,
    before: usize,
    after: usize,
    deadline: Option<Instant>,
}

/// The state of a caller in the queue.
pub(in crate::pool) enum Stage<T> {
    Waiting(Waker),
    /// The caller has left the queue, and has not taken its result yet.
    Settled(T),
}

/// The end of the queue at which a caller joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pool) enum At {
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

impl<T> Queue<T> {
    pub(super) const fn new() -> Self {
        Self { places: Slab::new(), front: NONE, back: NONE, waiting: 0 }
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
        self.places.capacity()
    }

    pub(super) fn front_deadline(&self) -> Option<Instant> {
        self.places.get(self.front)?.deadline
    }

    pub(super) fn join(&mut self, at: At, waker: Waker, deadline: Option<Instant>) -> usize {
        let (before, after) = match at {
            At::Front => (NONE, self.front),
            At::Back => (self.back, NONE),
        };
        let key = self.places.insert(Place { stage: Stage::Waiting(waker), before, after, deadline });
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
        match std::mem::replace(&mut self.places[key].stage, Stage::Settled(value)) {
            Stage::Waiting(waker) => Ok(waker),
            Stage::Settled(_) => unreachable!("a settled caller has left the queue"),
        }
    }

    /// Takes the result of this entry, which is then free; or checks its waker.
    pub(super) fn look(&mut self, key: usize, renewal: &mut Renewal<'_>) -> Seen<T> {
        match &mut self.places[key].stage {
            Stage::Waiting(own) => {
                if renewal.set(own) {
                    Seen::Waiting
                } else {
                    Seen::OtherWaker
                }
            }
            Stage::Settled(_) => match self.remove(key) {
                Stage::Settled(value) => Seen::Settled(value),
                Stage::Waiting(_) => unreachable!("the entry was settled"),
            },
        }
    }

    /// Frees the entry.
    pub(super) fn remove(&mut self, key: usize) -> Stage<T> {
        if matches!(self.places[key].stage, Stage::Waiting(_)) {
            self.unlink(key);
        }
        let place = self.places.remove(key);
        if self.places.is_empty() && self.places.capacity() > KEPT {
            self.places = Slab::new();
        }
        place.stage
    }

    fn unlink(&mut self, key: usize) {
        let Place { before, after, .. } = self.places[key];
        self.tie(before, after);
        self.waiting -= 1;
    }

    /// Links two entries. If one side is missing, the other one is the end of the queue.
    fn tie(&mut self, before: usize, after: usize) {
        match self.places.get_mut(before) {
            Some(place) => place.after = after,
            None => self.front = after,
        }
        match self.places.get_mut(after) {
            Some(place) => place.before = before,
            None => self.back = before,
        }
    }
}
