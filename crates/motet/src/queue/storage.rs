//! The storage of the items: a ring of slots, or an ordered store behind a lock.

use std::collections::VecDeque;
use std::fmt;
use std::sync::PoisonError;

use tokio::time::Instant;

use super::atomics::{Mutex, MutexGuard};
use super::cursors::{Claim, Cursors, NoItem, NoSlot};
use super::orders::{Entry, Store};
use super::ring::Ring;

pub(super) type RankFn<T> = Box<dyn Fn(&T) -> i64 + Send + Sync>;
pub(super) type DueFn<T> = Box<dyn Fn(&T) -> Instant + Send + Sync>;

pub(super) enum Storage<T> {
    Ring(Ring<T>),
    Store(LockedStore<T>),
    /// No storage: the core keeps the items that are due later, and those that are due.
    Later(DueFn<T>),
}

/// A store behind a lock. Items are also counted under this lock, so that the store and the counts always agree.
pub(super) struct LockedStore<T> {
    store: Mutex<Box<dyn Store<T>>>,
    rank: Option<RankFn<T>>,
}

impl<T> LockedStore<T> {
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

    fn push(&self, cursors: &Cursors, claim: Claim, item: T) -> Result<(), (NoSlot, T)> {
        let entry = self.ranked(item);
        let mut store = self.lock();
        match cursors.claim_slots(claim, 1, |_| true) {
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
        cursors: &Cursors,
        claim: Claim,
        items: &mut VecDeque<T>,
        most: usize,
    ) -> Result<usize, NoSlot> {
        const AT_ONCE: usize = 64;
        let most = most.min(items.len()).min(AT_ONCE);
        let ranks: Vec<i64> = match &self.rank {
            Some(rank) => items.iter().take(most).map(rank).collect(),
            None => Vec::new(),
        };
        let mut store = self.lock();
        let (_, slots) = cursors.claim_slots(claim, most as u64, |_| true)?;
        for (offset, item) in items.drain(..slots as usize).enumerate() {
            store.push(Entry { rank: ranks.get(offset).copied().unwrap_or(0), ..Entry::new(item) });
        }
        Ok(slots as usize)
    }

    fn pop(&self, cursors: &Cursors, claim: Claim) -> Result<Entry<T>, NoItem> {
        let mut store = self.lock();
        cursors.claim_items(claim, 1, |_| true)?;
        // A counted item is in the store, since both happen under the lock.
        store.pop().ok_or(NoItem::Empty)
    }

    fn pop_many(
        &self,
        cursors: &Cursors,
        claim: Claim,
        into: &mut Vec<T>,
        most: usize,
    ) -> Result<usize, NoItem> {
        into.reserve(most.min(cursors.len()).max(1));
        let most = most.min(into.capacity() - into.len());
        let mut store = self.lock();
        let (_, items) = cursors.claim_items(claim, most as u64, |_| true)?;
        into.extend((0..items).filter_map(|_| store.pop()).map(|entry| entry.item));
        Ok(items as usize)
    }

    /// Puts an item back into the store, in the slot that was held for it.
    pub(super) fn push_front(&self, cursors: &Cursors, entry: Entry<T>) {
        let mut store = self.lock();
        cursors.settle_back();
        store.push_front(entry);
    }
}

impl<T> Storage<T> {
    #[inline(always)]
    pub(super) fn push(&self, cursors: &Cursors, claim: Claim, item: T) -> Result<(), (NoSlot, T)> {
        match self {
            Self::Ring(ring) => ring.push(cursors, claim, item),
            Self::Store(store) => store.push(cursors, claim, item),
            Self::Later(_) => Err((NoSlot::Busy, item)),
        }
    }

    /// Moves in as many items as there are free slots, up to `most`, and returns their number. With `Claim::Granted`
    /// the caller holds `most` slots.
    pub(super) fn push_many(
        &self,
        cursors: &Cursors,
        claim: Claim,
        items: &mut VecDeque<T>,
        most: usize,
    ) -> Result<usize, NoSlot> {
        match self {
            Self::Ring(ring) => ring.push_many(cursors, claim, items, most),
            Self::Store(store) => store.push_many(cursors, claim, items, most),
            Self::Later(_) => Err(NoSlot::Full),
        }
    }

    #[inline(always)]
    pub(super) fn pop(&self, cursors: &Cursors, claim: Claim) -> Result<Entry<T>, NoItem> {
        match self {
            Self::Ring(ring) => ring.pop(cursors, claim).map(Entry::new),
            Self::Store(store) => store.pop(cursors, claim),
            Self::Later(_) => Err(NoItem::Empty),
        }
    }

    /// Like [`pop`](Self::pop), but returns the item without the count of its returns.
    #[inline(always)]
    pub(super) fn pop_item(&self, cursors: &Cursors, claim: Claim) -> Result<T, NoItem> {
        match self {
            Self::Ring(ring) => ring.pop(cursors, claim),
            Self::Store(store) => store.pop(cursors, claim).map(|entry| entry.item),
            Self::Later(_) => Err(NoItem::Empty),
        }
    }

    pub(super) fn pop_many(
        &self,
        cursors: &Cursors,
        claim: Claim,
        into: &mut Vec<T>,
        most: usize,
    ) -> Result<usize, NoItem> {
        match self {
            Self::Ring(ring) => ring.pop_many(cursors, claim, into, most),
            Self::Store(store) => store.pop_many(cursors, claim, into, most),
            Self::Later(_) => Err(NoItem::Empty),
        }
    }
}

impl<T> fmt::Debug for Storage<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ring(_) => "Ring",
            Self::Store(_) => "Store",
            Self::Later(_) => "Later",
        })
    }
}
