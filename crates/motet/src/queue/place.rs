//! The storage of the items: a ring of slots, or an ordered store behind a lock.

use std::collections::VecDeque;
use std::fmt;
use std::sync::PoisonError;

use tokio::time::Instant;

use super::counts::{Claim, Counts, NoItem, NoPlace};
use super::ring::Ring;
use super::store::{Entry, Store};
use super::sync::{Mutex, MutexGuard};

pub(super) type RankFn<T> = Box<dyn Fn(&T) -> i64 + Send + Sync>;
pub(super) type DueFn<T> = Box<dyn Fn(&T) -> Instant + Send + Sync>;

pub(super) enum Place<T> {
    Ring(Ring<T>),
    Store(Locked<T>),
    /// No storage: the core keeps the items that are due later, and those that are due.
    Later(DueFn<T>),
}

/// A store behind a lock. Items are also counted under this lock, so that the store and the counts always agree.
pub(super) struct Locked<T> {
    store: Mutex<Box<dyn Store<T>>>,
    rank: Option<RankFn<T>>,
}

impl<T> Locked<T> {
    pub(super) fn new(store: Box<dyn Store<T>>, rank: Option<RankFn<T>>) -> Self {
        Self { store: Mutex::new(store), rank }
    }

    fn lock(&self) -> MutexGuard<'_, Box<dyn Store<T>>> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Computes the rank, which runs code of the user, before the lock is taken.
    fn ranked(&self, item: T) -> Entry<T> {
        let rank = self.rank.as_ref().map_or(0, |rank| rank(&item));
        Entry { rank, ..Entry::new(item) }
    }

    fn push(&self, counts: &Counts, claim: Claim, item: T) -> Result<(), (NoPlace, T)> {
        let entry = self.ranked(item);
        let mut store = self.lock();
        match counts.claim_places(claim, 1, |_| true) {
            Ok(_) => {
                store.push(entry);
                Ok(())
            }
            Err(why) => Err((why, entry.item)),
        }
    }

    /// Moves at most 64 items per call, so that the lock is not held for long.
    fn push_many(
        &self,
        counts: &Counts,
        claim: Claim,
        items: &mut VecDeque<T>,
        most: usize,
    ) -> Result<usize, NoPlace> {
        const AT_ONCE: usize = 64;
        let most = most.min(items.len()).min(AT_ONCE);
        let ranks: Vec<i64> = match &self.rank {
            Some(rank) => items.iter().take(most).map(rank).collect(),
            None => Vec::new(),
        };
        let mut store = self.lock();
        let (_, places) = counts.claim_places(claim, most as u64, |_| true)?;
        for (place, item) in items.drain(..places as usize).enumerate() {
            store.push(Entry { rank: ranks.get(place).copied().unwrap_or(0), ..Entry::new(item) });
        }
        Ok(places as usize)
    }

    fn pop(&self, counts: &Counts, claim: Claim) -> Result<Entry<T>, NoItem> {
        let mut store = self.lock();
        counts.claim_items(claim, 1, |_| true)?;
        // A counted item is in the store, since both happen under the lock.
        store.pop().ok_or(NoItem::Empty)
    }

    fn pop_many(
        &self,
        counts: &Counts,
        claim: Claim,
        into: &mut Vec<T>,
        most: usize,
    ) -> Result<usize, NoItem> {
        into.reserve(most.min(counts.len()).max(1));
        let most = most.min(into.capacity() - into.len());
        let mut store = self.lock();
        let (_, items) = counts.claim_items(claim, most as u64, |_| true)?;
        into.extend((0..items).filter_map(|_| store.pop()).map(|entry| entry.item));
        Ok(items as usize)
    }

    /// Puts an item back into the store, in the slot that was held for it.
    pub(super) fn push_front(&self, counts: &Counts, entry: Entry<T>) {
        let mut store = self.lock();
        counts.settle_back();
        store.push_front(entry);
    }
}

impl<T> Place<T> {
    #[inline(always)]
    pub(super) fn push(&self, counts: &Counts, claim: Claim, item: T) -> Result<(), (NoPlace, T)> {
        match self {
            Self::Ring(ring) => ring.push(counts, claim, item),
            Self::Store(store) => store.push(counts, claim, item),
            Self::Later(_) => Err((NoPlace::Busy, item)),
        }
    }

    /// Moves in as many items as there are free slots, up to `most`, and returns their number. With `Claim::Granted`
    /// the caller holds `most` slots.
    pub(super) fn push_many(
        &self,
        counts: &Counts,
        claim: Claim,
        items: &mut VecDeque<T>,
        most: usize,
    ) -> Result<usize, NoPlace> {
        match self {
            Self::Ring(ring) => ring.push_many(counts, claim, items, most),
            Self::Store(store) => store.push_many(counts, claim, items, most),
            Self::Later(_) => Err(NoPlace::Full),
        }
    }

    #[inline(always)]
    pub(super) fn pop(&self, counts: &Counts, claim: Claim) -> Result<Entry<T>, NoItem> {
        match self {
            Self::Ring(ring) => ring.pop(counts, claim).map(Entry::new),
            Self::Store(store) => store.pop(counts, claim),
            Self::Later(_) => Err(NoItem::Empty),
        }
    }

    /// Like [`pop`](Self::pop), but returns the item without the count of its returns.
    #[inline(always)]
    pub(super) fn pop_item(&self, counts: &Counts, claim: Claim) -> Result<T, NoItem> {
        match self {
            Self::Ring(ring) => ring.pop(counts, claim),
            Self::Store(store) => store.pop(counts, claim).map(|entry| entry.item),
            Self::Later(_) => Err(NoItem::Empty),
        }
    }

    pub(super) fn pop_many(
        &self,
        counts: &Counts,
        claim: Claim,
        into: &mut Vec<T>,
        most: usize,
    ) -> Result<usize, NoItem> {
        match self {
            Self::Ring(ring) => ring.pop_many(counts, claim, into, most),
            Self::Store(store) => store.pop_many(counts, claim, into, most),
            Self::Later(_) => Err(NoItem::Empty),
        }
    }
}

impl<T> fmt::Debug for Place<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ring(_) => "Ring",
            Self::Store(_) => "Store",
            Self::Later(_) => "Later",
        })
    }
}
