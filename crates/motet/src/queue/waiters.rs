//! The waiters on one side of a queue, in order: plain state, kept under the queue's lock.

use std::task::Waker;

use slab::Slab;

use crate::task::wakers::wake_each;

/// The key of a waiter in its list.
pub(super) type Key = usize;

/// The number of entries that an empty list keeps. A larger list frees its memory, since a crowd of waiters may come
/// only once.
const KEPT: usize = 256;

/// A line of waiters. The first one is granted the next item or slots and leaves the line; its entry stays in the list
/// until the waiter is polled or dropped.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    places: Slab<Waiter>,
    first: Option<Key>,
    last: Option<Key>,
    waiting: usize,
}

#[derive(Debug)]
struct Waiter {
    waker: Option<Waker>,
    /// The number of slots that the waiter wants.
    want: u32,
    state: State,
    before: Option<Key>,
    after: Option<Key>,
}

/// The state of a waiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
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

    pub(super) fn push(&mut self, waker: Waker, want: u32) -> Key {
        let before = self.last;
        let waiter = Waiter { waker: Some(waker), want, state: State::Waiting, before, after: None };
        let key = self.places.insert(waiter);
        match before {
            Some(before) => self.places[before].after = Some(key),
            None => self.first = Some(key),
        }
        self.last = Some(key);
        self.waiting += 1;
        key
    }

    pub(super) fn state(&self, key: Key) -> State {
        self.places[key].state
    }

    pub(super) fn first(&self) -> Option<Key> {
        self.first
    }

    /// The number of slots that a waiter wants.
    pub(super) fn want(&self, key: Key) -> u32 {
        self.places[key].want
    }

    /// Sets the waker of a waiter, and returns the previous one.
    pub(super) fn replace(&mut self, key: Key, waker: Waker) -> Option<Waker> {
        self.places[key].waker.replace(waker)
    }

    /// Removes a waiter from the line, and returns its waker.
    pub(super) fn settle(&mut self, key: Key, state: State) -> Option<Waker> {
        self.unlink(key);
        self.places[key].state = state;
        self.places[key].waker.take()
    }

    /// Returns the waker of a waiter, and leaves the waiter in line.
    pub(super) fn nudge(&mut self, key: Key) -> Option<Waker> {
        self.places[key].waker.take()
    }

    /// Removes the entry of a waiter, and returns its state and its waker.
    pub(super) fn remove(&mut self, key: Key) -> (State, Option<Waker>) {
        let state = self.places[key].state;
        if state == State::Waiting {
            self.unlink(key);
        }
        let waker = self.places.remove(key).waker;
        if self.places.is_empty() && self.places.capacity() > KEPT {
            self.places = Slab::new();
        }
        (state, waker)
    }

    fn unlink(&mut self, key: Key) {
        let (before, after) = (self.places[key].before.take(), self.places[key].after.take());
        match before {
            Some(before) => self.places[before].after = after,
            None => self.first = after,
        }
        match after {
            Some(after) => self.places[after].before = before,
            None => self.last = before,
        }
        self.waiting -= 1;
    }
}

/// Wakers that are called once the lock is released. Mostly it is one waker, which needs no allocation.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    one: Option<Waker>,
    more: Vec<Waker>,
}

impl Wakes {
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

#[cfg(all(test, not(motet_loom)))]
mod tests {
    use super::*;

    #[test]
    fn empty_line_frees_the_memory_of_a_crowd() {
        let mut line = Waiters::default();
        let keys: Vec<Key> = (0..100_000).map(|_| line.push(Waker::noop().clone(), 1)).collect();
        // First from the middle of the line.
        let (middle, ends): (Vec<Key>, Vec<Key>) = keys.into_iter().partition(|key| key % 3 == 1);
        for key in middle.into_iter().chain(ends) {
            drop(line.remove(key));
        }
        assert_eq!((line.waiting(), line.first(), line.places.capacity()), (0, None, 0));
    }
}
