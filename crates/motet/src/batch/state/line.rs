//! The callers that wait for capacity, in order. Capacity that is offered to a caller is reserved for it.

use crate::mutant;
use crate::sync::{WaitList, WaitState};

/// A queue of waiting callers. `W` is their waker. A caller with an offer has left the line.
#[derive(Debug)]
pub(crate) struct WaitLine<W> {
    callers: WaitList<W, Offer>,
    /// The number of offers that were not taken yet.
    offered: usize,
}

#[derive(Debug)]
struct Offer;

impl<W> WaitLine<W> {
    pub(crate) fn new() -> Self {
        Self { callers: WaitList::new(), offered: 0 }
    }

    /// The number of callers that wait for an offer.
    pub(crate) fn len(&self) -> usize {
        self.callers.len()
    }

    #[cfg(test)]
    pub(crate) fn footprint(&self) -> usize {
        self.callers.entries()
    }

    /// The number of offers that are reserved for a caller.
    pub(crate) fn offered(&self) -> usize {
        self.offered
    }

    /// Adds a caller at the end.
    pub(crate) fn join(&mut self, waker: W) -> usize {
        self.callers.push_back(waker, ())
    }

    pub(crate) fn is_offered(&self, key: usize) -> bool {
        matches!(self.callers.state(key), WaitState::Settled(Offer))
    }

    /// The waker of a waiting caller, to be compared or replaced.
    pub(crate) fn waker(&mut self, key: usize) -> Option<&mut W> {
        match self.callers.state_mut(key) {
            WaitState::Waiting(waker) => Some(waker),
            WaitState::Settled(Offer) => None,
        }
    }

    /// Removes a caller, or takes its offer. The caller drops the returned waker outside of the lock.
    pub(crate) fn leave(&mut self, key: usize) -> Option<W> {
        match self.callers.remove(key) {
            WaitState::Settled(Offer) => {
                self.offered -= 1;
                if mutant!("batch.keep_offer") {
                    self.offered += 1;
                }
                None
            }
            WaitState::Waiting(waker) => Some(waker),
        }
    }

    /// Offers capacity to the first `count` callers.
    pub(crate) fn offer(&mut self, count: usize, wakers: &mut impl Extend<W>) {
        for _ in 0..count {
            let Some(first) = self.callers.first() else { return };
            wakers.extend(self.callers.settle(first, Offer).ok());
            self.offered += 1;
        }
    }
}
