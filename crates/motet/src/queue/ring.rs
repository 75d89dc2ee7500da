//! The storage of a queue that is first in, first out: a ring of slots, without a lock.
//!
//! This is Dmitry Vyukov's bounded queue, as in crossbeam's `ArrayQueue`. Each slot has a stamp that shows its state: for
//! position `p`, the slot is free if its stamp is `p`, and full if its stamp is `p + 1`. The receiver that empties the slot
//! stamps it for the next lap. Positions are claimed in [`Cursors`].
//!
//! The rules that make it sound:
//! - Only the sender that has claimed a position writes the slot of that position. A position is claimed only if the stamp
//!   shows that its slot is free, and no other thread can change the stamp of a free slot before the claim.
//! - Only the receiver that has claimed a position reads the slot of that position. A position is claimed only if the stamp
//!   shows that its slot is full, and no other thread can change the stamp of a full slot before the claim.
//! - The stamp is written last, with release, and read first, with acquire.
#![allow(unsafe_code, reason = "slots without a lock: see the rules above")]

use std::collections::VecDeque;
use std::fmt;
use std::mem::MaybeUninit;

use super::atomics::{AtomicU64, Ordering, UnsafeCell};
use super::cursors::{Claim, Cursors, NoItem, NoSlot, advance};

pub(super) struct Ring<T> {
    slots: Box<[RingSlot<T>]>,
}

struct RingSlot<T> {
    stamp: AtomicU64,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: an item is moved in by one thread and out by another, and is never shared.
unsafe impl<T: Send> Send for Ring<T> {}
// SAFETY: as above; only the stamps are accessed by several threads at once.
unsafe impl<T: Send> Sync for Ring<T> {}

/// The number of slots for `capacity` items: a power of two, and at least two. With one slot, the stamp of the full
/// slot would equal that of the free slot in the next lap.
pub(super) fn slots(capacity: usize) -> usize {
    capacity.next_power_of_two().max(2)
}

impl<T> Ring<T> {
    pub(super) fn new(capacity: usize) -> Self {
        let slot =
            |at| RingSlot { stamp: AtomicU64::new(at as u64), value: UnsafeCell::new(MaybeUninit::uninit()) };
        Self { slots: (0..slots(capacity)).map(slot).collect() }
    }

    #[inline(always)]
    fn slot(&self, position: u64) -> &RingSlot<T> {
        // The number of slots is a power of two, so the mask is the remainder, and the index is within bounds.
        &self.slots[position as usize & (self.slots.len() - 1)]
    }

    #[inline(always)]
    fn is_free(&self, position: u64) -> bool {
        self.slot(position).is_free(position)
    }

    #[inline(always)]
    fn is_full(&self, position: u64) -> bool {
        self.slot(position).is_full(position)
    }

    /// The stamp of a slot that was emptied: its position in the next lap.
    #[inline(always)]
    fn next_lap(&self, position: u64) -> u64 {
        advance(position, self.slots.len() as u64)
    }

    /// # Safety
    /// The caller claimed the position when its slot was free, and writes it once.
    #[inline(always)]
    unsafe fn write(&self, position: u64, item: T) {
        // SAFETY: the caller guarantees it.
        unsafe { self.slot(position).write(position, item) };
    }

    /// # Safety
    /// The caller claimed the position when its slot was full, and reads it once.
    #[inline(always)]
    unsafe fn read(&self, position: u64) -> T {
        // SAFETY: the caller guarantees it.
        unsafe { self.slot(position).read(self.next_lap(position)) }
    }

    /// Moves an item in. The plain case is inlined and looks its slot up once; the other cases are in a function of
    /// their own.
    #[inline(always)]
    pub(super) fn push(&self, cursors: &Cursors, claim: Claim, item: T) -> Result<(), (NoSlot, T)> {
        if claim == Claim::Open
            && let Some(at) = cursors.plain_slot()
        {
            let slot = self.slot(at);
            if slot.is_free(at) && cursors.claim_plain_slot(at) {
                // SAFETY: the position was claimed just now.
                unsafe { slot.write(at, item) };
                return Ok(());
            }
        }
        self.push_any(cursors, claim, item)
    }

    #[inline(never)]
    fn push_any(&self, cursors: &Cursors, claim: Claim, item: T) -> Result<(), (NoSlot, T)> {
        match cursors.claim_slots(claim, 1, |at| self.is_free(at)) {
            Ok((at, _)) => {
                // SAFETY: the position was claimed just now.
                unsafe { self.write(at, item) };
                Ok(())
            }
            Err(why) => Err((why, item)),
        }
    }

    /// Moves in as many items as there are free slots, up to `most`.
    pub(super) fn push_many(
        &self,
        cursors: &Cursors,
        claim: Claim,
        items: &mut VecDeque<T>,
        most: usize,
    ) -> Result<usize, NoSlot> {
        let most = most.min(items.len()) as u64;
        let (at, count) = cursors.claim_slots(claim, most, |at| self.is_free(at))?;
        for (offset, item) in (0..count).zip(items.drain(..count as usize)) {
            // SAFETY: the positions were claimed just now, and each is used once.
            unsafe { self.write(advance(at, offset), item) };
        }
        Ok(count as usize)
    }

    /// Moves an item out. See [`push`](Self::push).
    #[inline(always)]
    pub(super) fn pop(&self, cursors: &Cursors, claim: Claim) -> Result<T, NoItem> {
        if claim == Claim::Open
            && let Some(at) = cursors.plain_item()
        {
            let slot = self.slot(at);
            if slot.is_full(at) && cursors.claim_plain_item(at) {
                // SAFETY: the position was claimed just now.
                return Ok(unsafe { slot.read(self.next_lap(at)) });
            }
        }
        self.pop_any(cursors, claim)
    }

    #[inline(never)]
    fn pop_any(&self, cursors: &Cursors, claim: Claim) -> Result<T, NoItem> {
        let (at, _) = cursors.claim_items(claim, 1, |at| self.is_full(at))?;
        // SAFETY: the position was claimed just now.
        Ok(unsafe { self.read(at) })
    }

    /// Moves out as many items as there are, up to `most`.
    pub(super) fn pop_many(
        &self,
        cursors: &Cursors,
        claim: Claim,
        into: &mut Vec<T>,
        most: usize,
    ) -> Result<usize, NoItem> {
        // Before a position is claimed: the allocation may panic.
        into.reserve(most.min(cursors.len()).max(1));
        let most = most.min(into.capacity() - into.len());
        let (at, count) = cursors.claim_items(claim, most as u64, |at| self.is_full(at))?;
        for item in 0..count {
            // SAFETY: the positions were claimed just now, and each is used once.
            into.push(unsafe { self.read(advance(at, item)) });
        }
        Ok(count as usize)
    }
}

impl<T> RingSlot<T> {
    #[inline(always)]
    fn is_free(&self, position: u64) -> bool {
        self.stamp.load(Ordering::Acquire) == position
    }

    #[inline(always)]
    fn is_full(&self, position: u64) -> bool {
        self.stamp.load(Ordering::Acquire) == advance(position, 1)
    }

    /// # Safety
    /// As for [`Ring::write`], and this is the slot of the position.
    #[inline(always)]
    unsafe fn write(&self, position: u64, item: T) {
        self.value.with_mut(|value| {
            // SAFETY: the claim gives the caller exclusive access to the slot until the stamp is written.
            unsafe { (*value).write(item) };
        });
        self.stamp.store(advance(position, 1), Ordering::Release);
    }

    /// # Safety
    /// As for [`Ring::read`]; this is the slot of the position, and `stamp` is the stamp of the next lap.
    #[inline(always)]
    unsafe fn read(&self, stamp: u64) -> T {
        // SAFETY: the stamp showed that the item is there, and the claim gives the caller exclusive access to it.
        let item = self.value.with_mut(|value| unsafe { (*value).assume_init_read() });
        self.stamp.store(stamp, Ordering::Release);
        item
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        let lap = self.slots.len() as u64;
        for (at, slot) in (0..lap).zip(&*self.slots) {
            // The stamp of a free slot is its index in some lap; the stamp of a full slot is one more.
            if slot.stamp.load(Ordering::Relaxed) % lap != at {
                // SAFETY: the item is there, no other thread can reach it any more, and it is dropped once.
                slot.value.with_mut(|value| unsafe { (*value).assume_init_drop() });
            }
        }
    }
}

impl<T> fmt::Debug for Ring<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("slots", &self.slots.len()).finish_non_exhaustive()
    }
}
