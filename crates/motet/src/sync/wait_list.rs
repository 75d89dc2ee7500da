use std::mem;

use slab::Slab;

/// A key that no entry has: it marks both ends of the line.
const NONE: usize = usize::MAX;

/// The number of entries that an empty list keeps. A larger list frees its memory, since a crowd of waiters may come
/// only once.
const KEPT: usize = 256;

/// A line of waiters, each with its waker `W` and its data `D`. A waiter that is settled leaves the line; its entry keeps
/// the result `T` until the waiter removes it.
///
/// Every operation takes constant time, and a waiter costs no allocation of its own.
#[derive(Debug)]
pub(crate) struct WaitList<W, T, D = ()> {
    entries: Slab<WaitEntry<W, T, D>>,
    first: usize,
    last: usize,
    waiting: usize,
}

#[derive(Debug)]
struct WaitEntry<W, T, D> {
    state: WaitState<W, T>,
    data: D,
    before: usize,
    after: usize,
}

/// The state of a waiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitState<W, T> {
    /// The waiter is in line.
    Waiting(W),
    /// The waiter has left the line, and has not taken its result yet.
    Settled(T),
}

impl<W, T, D> WaitList<W, T, D> {
    pub(crate) const fn new() -> Self {
        Self { entries: Slab::new(), first: NONE, last: NONE, waiting: 0 }
    }

    /// The number of waiters in line.
    pub(crate) const fn len(&self) -> usize {
        self.waiting
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// The key of the first waiter in line.
    pub(crate) fn first(&self) -> Option<usize> {
        Some(self.first).filter(|key| *key != NONE)
    }

    /// The data of a waiter.
    pub(crate) fn data(&self, key: usize) -> &D {
        &self.entries[key].data
    }

    pub(crate) fn state(&self, key: usize) -> &WaitState<W, T> {
        &self.entries[key].state
    }

    pub(crate) fn state_mut(&mut self, key: usize) -> &mut WaitState<W, T> {
        &mut self.entries[key].state
    }

    /// Adds a waiter at the end of the line, and returns its key.
    pub(crate) fn push_back(&mut self, waker: W, data: D) -> usize {
        self.insert(waker, data, self.last, NONE)
    }

    /// Adds a waiter at the front of the line, and returns its key.
    pub(crate) fn push_front(&mut self, waker: W, data: D) -> usize {
        self.insert(waker, data, NONE, self.first)
    }

    /// Removes a waiter from the line, keeps its result, and returns its waker. Returns `result` if the waiter is settled
    /// already.
    pub(crate) fn settle(&mut self, key: usize, result: T) -> Result<W, T> {
        if matches!(self.entries[key].state, WaitState::Settled(_)) {
            return Err(result);
        }
        self.unlink(key);
        match mem::replace(&mut self.entries[key].state, WaitState::Settled(result)) {
            WaitState::Waiting(waker) => Ok(waker),
            WaitState::Settled(_) => unreachable!("the waiter was in line"),
        }
    }

    /// Removes the entry of a waiter: its waker, or its result. The caller drops it once the lock is released.
    pub(crate) fn remove(&mut self, key: usize) -> WaitState<W, T> {
        if matches!(self.entries[key].state, WaitState::Waiting(_)) {
            self.unlink(key);
        }
        let entry = self.entries.remove(key);
        if self.entries.is_empty() && self.entries.capacity() > KEPT {
            self.entries = Slab::new();
        }
        entry.state
    }

    /// The number of entries: of the waiters in line, and of those with a result.
    #[cfg(test)]
    pub(crate) fn entries(&self) -> usize {
        self.entries.len()
    }

    #[cfg(all(test, not(motet_loom)))]
    pub(crate) fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    fn insert(&mut self, waker: W, data: D, before: usize, after: usize) -> usize {
        let key = self.entries.insert(WaitEntry { state: WaitState::Waiting(waker), data, before, after });
        self.tie(before, key);
        self.tie(key, after);
        self.waiting += 1;
        key
    }

    fn unlink(&mut self, key: usize) {
        let WaitEntry { before, after, .. } = self.entries[key];
        self.tie(before, after);
        self.waiting -= 1;
    }

    /// Links two entries. If one side is missing, the other one is the end of the line.
    fn tie(&mut self, before: usize, after: usize) {
        match self.entries.get_mut(before) {
            Some(entry) => entry.after = after,
            None => self.first = after,
        }
        match self.entries.get_mut(after) {
            Some(entry) => entry.before = before,
            None => self.last = before,
        }
    }
}

#[cfg(all(test, not(motet_loom)))]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        /// The naive model: the line as a list of numbers, and the results beside it.
        #[test]
        fn wait_list_agrees_with_a_naive_model(
            steps in proptest::collection::vec((0..6u8, any::<usize>()), 0..300)
        ) {
            let mut list = WaitList::<u32, u32, u32>::new();
            let (mut line, mut settled) = (Vec::<(usize, u32)>::new(), Vec::<(usize, u32)>::new());
            for (number, (kind, which)) in (0..).zip(steps) {
                match kind {
                    0 | 1 => line.push((list.push_back(number, number), number)),
                    2 => line.insert(0, (list.push_front(number, number), number)),
                    3 if !line.is_empty() => {
                        let (key, waiter) = line.remove(0);
                        prop_assert_eq!(list.first(), Some(key));
                        prop_assert_eq!(*list.data(key), waiter);
                        prop_assert_eq!(list.settle(key, number), Ok(waiter));
                        prop_assert_eq!(list.settle(key, 0), Err(0));
                        settled.push((key, number));
                    }
                    4 if !line.is_empty() => {
                        let (key, waiter) = line.remove(which % line.len());
                        prop_assert_eq!(list.remove(key), WaitState::Waiting(waiter));
                    }
                    5 if !settled.is_empty() => {
                        let (key, result) = settled.remove(which % settled.len());
                        prop_assert_eq!(list.remove(key), WaitState::Settled(result));
                    }
                    _ => {}
                }
                prop_assert_eq!((list.len(), list.is_empty()), (line.len(), line.is_empty()));
                prop_assert_eq!(list.first(), line.first().map(|(key, _)| *key));
                prop_assert_eq!(list.entries.len(), line.len() + settled.len());
            }
        }
    }

    #[test]
    fn emptied_wait_list_frees_its_memory() {
        let mut list = WaitList::<(), ()>::new();
        let keys: Vec<usize> = (0..100_000).map(|_| list.push_back((), ())).collect();
        // First from the middle of the line.
        let (middle, ends): (Vec<usize>, Vec<usize>) = keys.into_iter().partition(|key| key % 3 == 1);
        for key in middle.into_iter().chain(ends) {
            list.remove(key);
        }
        assert_eq!((list.len(), list.first(), list.capacity()), (0, None, 0));
    }
}
