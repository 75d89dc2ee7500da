//! Who waits for a place: in order, and a place that is offered is kept for whom it was offered.

use std::collections::VecDeque;

use slab::Slab;

use crate::mutant;

/// A queue of those that wait. `W` is how one is told.
#[derive(Debug)]
pub(crate) struct Line<W> {
    entries: Slab<Entry<W>>,
    /// Those that wait, the first first, and those that left meanwhile.
    order: VecDeque<usize>,
    left: usize,
    /// Places that are offered and not taken yet.
    offered: usize,
}

#[derive(Debug)]
enum Entry<W> {
    Waits(W),
    Offered,
    Left,
}

impl<W> Line<W> {
    pub(crate) fn new() -> Self {
        Self { entries: Slab::new(), order: VecDeque::new(), left: 0, offered: 0 }
    }

    /// How many wait for an offer.
    pub(crate) fn len(&self) -> usize {
        self.order.len() - self.left
    }

    #[cfg(test)]
    pub(crate) fn footprint(&self) -> usize {
        self.entries.len().max(self.order.len())
    }

    /// How many places are kept for somebody.
    pub(crate) fn offered(&self) -> usize {
        self.offered
    }

    /// Joins at the end.
    pub(crate) fn join(&mut self, waker: W) -> usize {
        let key = self.entries.insert(Entry::Waits(waker));
        self.order.push_back(key);
        key
    }

    pub(crate) fn is_offered(&self, key: usize) -> bool {
        matches!(self.entries[key], Entry::Offered)
    }

    /// How the one that waits is told, to be compared or replaced.
    pub(crate) fn waker(&mut self, key: usize) -> Option<&mut W> {
        match &mut self.entries[key] {
            Entry::Waits(waker) => Some(waker),
            Entry::Offered | Entry::Left => None,
        }
    }

    /// Leaves the line, or takes the place that was offered. What comes back is to be dropped outside of the lock.
    pub(crate) fn leave(&mut self, key: usize) -> Option<W> {
        match std::mem::replace(&mut self.entries[key], Entry::Left) {
            Entry::Offered => {
                self.entries.remove(key);
                if !mutant!("batch.keep_offer") {
                    self.offered -= 1;
                }
                None
            }
            Entry::Waits(waker) => {
                self.left += 1;
                // Rarely, so that leaving costs a constant time, and at some point, so that it costs no memory.
                if self.left > self.order.len() / 2 {
                    self.order.retain(|key| !forget(&mut self.entries, *key));
                    self.left = 0;
                }
                Some(waker)
            }
            Entry::Left => None,
        }
    }

    /// Offers a place to each of the first `places`.
    pub(crate) fn offer(&mut self, places: usize, told: &mut Vec<W>) {
        let mut places = places;
        while places > 0
            && let Some(key) = self.order.pop_front()
        {
            if forget(&mut self.entries, key) {
                self.left -= 1;
                continue;
            }
            if let Entry::Waits(waker) = std::mem::replace(&mut self.entries[key], Entry::Offered) {
                told.push(waker);
            }
            self.offered += 1;
            places -= 1;
        }
    }
}

/// Frees the entry of one that left.
fn forget<W>(entries: &mut Slab<Entry<W>>, key: usize) -> bool {
    let left = matches!(entries[key], Entry::Left);
    if left {
        entries.remove(key);
    }
    left
}
