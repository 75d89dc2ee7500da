//! Those who wait, in order; each has a place from which it takes what it was handed.

use std::task::Waker;

use slab::Slab;
use tokio::time::Instant;

use crate::task::renew::Renewal;

const NOBODY: usize = usize::MAX;

/// Places kept when the queue is empty; more are given back, for a crowd may come once.
const KEPT: usize = 256;

/// A queue of wakers out of which anybody can step, in constant time and without an allocation for each.
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

/// How far somebody in the queue is.
pub(in crate::pool) enum Stage<T> {
    Waiting(Waker),
    /// It is out of the queue, and has not seen yet what it was handed.
    Settled(T),
}

/// Which end somebody joins at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pool) enum At {
    Front,
    Back,
}

/// What there is at a place.
pub(in crate::pool) enum Seen<T> {
    Settled(T),
    /// It waits on, and its waker is the right one.
    Waiting,
    /// It waits on with another waker.
    OtherWaker,
}

impl<T> Queue<T> {
    pub(super) const fn new() -> Self {
        Self { places: Slab::new(), front: NOBODY, back: NOBODY, waiting: 0 }
    }

    /// How many wait.
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
            At::Front => (NOBODY, self.front),
            At::Back => (self.back, NOBODY),
        };
        let key = self.places.insert(Place { stage: Stage::Waiting(waker), before, after, deadline });
        self.tie(before, key);
        self.tie(key, after);
        self.waiting += 1;
        key
    }

    /// Hands something to whoever has waited longest, and gives the waker; without anybody, gives it back.
    pub(super) fn settle(&mut self, value: T) -> Result<Waker, T> {
        let key = self.front;
        if key == NOBODY {
            return Err(value);
        }
        self.unlink(key);
        match std::mem::replace(&mut self.places[key].stage, Stage::Settled(value)) {
            Stage::Waiting(waker) => Ok(waker),
            Stage::Settled(_) => unreachable!("who is settled has left the queue"),
        }
    }

    /// Takes what was handed to this place, which is free then; or looks at its waker.
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
                Stage::Waiting(_) => unreachable!("it was settled"),
            },
        }
    }

    /// Frees the place.
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

    /// Makes the two neighbours; with nobody on one side, the other is at that end.
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
