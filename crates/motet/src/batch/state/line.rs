//! The callers that wait for capacity, in order. Capacity that is offered to a caller is reserved for it.

use std::collections::VecDeque;

use slab::Slab;

use crate::mutant;

/// A queue of waiting callers. `W` is their waker.
#[derive(Debug)]
pub(crate) struct Line<W> {
    entries: Slab<Entry<W>>,
    /// The waiting callers in order, including those that have left and are not removed yet.
    order: VecDeque<usize>,
    left: usize,
    /// The number of offers that were not taken yet.
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

    /// The number of callers that wait for an offer.
    pub(crate) fn len(&self) -> usize {
        self.order.len() - self.left
    }

    #[cfg(test)]
    pub(crate) fn footprint(&self) -> usize {
        self.entries.len().max(self.order.len())
    }

    /// The number of offers that are reserved for a caller.
    pub(crate) fn offered(&self) -> usize {
        self.offered
    }

    /// Adds a caller at the end.
    pub(crate) fn join(&mut self, waker: W) -> usize {
        let key = self.entries.insert(Entry::Waits(waker));
        self.order.push_back(key);
        key
    }

    pub(crate) fn is_offered(&self, key: usize) -> bool {
        matches!(self.entries[key], Entry::Offered)
    }

    /// The waker of a waiting caller, to be compared or replaced.
    pub(crate) fn waker(&mut self, key: usize) -> Option<&mut W> {
        match &mut self.entries[key] {
            Entry::Waits(waker) => Some(waker),
            Entry::Offered | Entry::Left => None,
        }
    }

    /// Removes a caller, or takes its offer. The caller drops the returned waker outside of the lock.
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
                // Rarely, so that leaving costs constant time; and often enough that callers that left use no memory.
                if self.left > self.order.len() / 2 {
                    self.order.retain(|key| !forget(&mut self.entries, *key));
                    self.left = 0;
                }
                Some(waker)
            }
            Entry::Left => None,
        }
    }

    /// Offers capacity to the first `places` callers.
    pub(crate) fn offer(&mut self, places: usize, wakers: &mut Vec<W>) {
        let mut places = places;
        while places > 0
            && let Some(key) = self.order.pop_front()
        {
            if forget(&mut self.entries, key) {
                self.left -= 1;
                continue;
            }
            if let Entry::Waits(waker) = std::mem::replace(&mut self.entries[key], Entry::Offered) {
                wakers.push(waker);
            }
            self.offered += 1;
            places -= 1;
        }
    }
}

/// Frees the entry of a caller that has left.
fn forget<W>(entries: &mut Slab<Entry<W>>, key: usize) -> bool {
    let left = matches!(entries[key], Entry::Left);
    if left {
        entries.remove(key);
    }
    left
}
