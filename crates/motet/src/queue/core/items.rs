//! The fast path: items in and out without a lock, and the wakes after it.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::super::counts::{Claim, NoItem, NoPlace};
use super::super::place::{DueFn, Place};
use super::super::store::Entry;
use super::super::sync::Ordering;
use super::super::waiters::Wakes;
use super::{Core, Slow, flag};
use crate::mutant;

/// The state of an item after it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::queue) enum Take {
    /// The item is settled, and its slot is free.
    Settled,
    /// The item is leased, and keeps its slot.
    Leased,
}

impl<T> Core<T> {
    // Items in.

    /// Moves an item in for a new sender, which must not overtake a sender in line.
    #[inline(always)]
    pub(in crate::queue) fn push(&self, item: T) -> Result<(), (NoPlace, T)> {
        if self.has(flag::SENDERS) {
            let why = if self.counts.is_closed() { NoPlace::Closed } else { NoPlace::Full };
            return Err((why, item));
        }
        if let Place::Later(due) = &self.place {
            return self.push_later(item, due);
        }
        self.place.push(&self.counts, Claim::Open, item)?;
        self.after_push();
        Ok(())
    }

    #[cold]
    fn push_later(&self, item: T, due: &DueFn<T>) -> Result<(), (NoPlace, T)> {
        // Before a slot is held: it is code of the user, and may panic.
        let due = due(&item);
        if let Err(why) = self.counts.hold(1) {
            return Err((why, item));
        }
        self.schedule_held(item, due).inspect_err(|_| self.release(1))
    }

    fn schedule_held(&self, item: T, due: Instant) -> Result<(), (NoPlace, T)> {
        let mut wakes = Wakes::default();
        let mut slow = self.lock();
        if self.counts.is_closed() {
            return Err((NoPlace::Closed, item));
        }
        self.unsettled.0.fetch_add(1, Ordering::SeqCst);
        self.schedule(&mut slow, Entry::new(item), due, &mut wakes);
        drop(slow);
        wakes.wake();
        Ok(())
    }

    /// Moves an item into a slot that the caller holds. If the item is returned, the caller still holds the slot.
    pub(in crate::queue) fn push_held(&self, item: T) -> Result<(), (NoPlace, T)> {
        if let Place::Later(due) = &self.place {
            let due = due(&item);
            return self.schedule_held(item, due);
        }
        self.place.push(&self.counts, Claim::Granted, item)?;
        self.after_push();
        Ok(())
    }

    /// Moves in as many items as there are free slots, for a new sender.
    pub(in crate::queue) fn push_many(&self, items: &mut VecDeque<T>) -> Result<(), NoPlace> {
        if self.has(flag::SENDERS) {
            return Err(if self.counts.is_closed() { NoPlace::Closed } else { NoPlace::Full });
        }
        if matches!(self.place, Place::Later(_)) {
            return one_of(items, |item| self.push(item));
        }
        let most = items.len();
        self.place.push_many(&self.counts, Claim::Open, items, most)?;
        self.after_push();
        Ok(())
    }

    /// Moves items into slots that the caller holds, and returns their number. The caller still holds the other slots.
    pub(in crate::queue) fn push_many_held(
        &self,
        items: &mut VecDeque<T>,
        held: u32,
    ) -> Result<u32, NoPlace> {
        if matches!(self.place, Place::Later(_)) {
            return one_of(items, |item| self.push_held(item)).map(|()| 1);
        }
        let places = self.place.push_many(&self.counts, Claim::Granted, items, held as usize)?;
        self.after_push();
        Ok(places as u32)
    }

    /// Wakes receivers after items came in. The claim of a slot and the parking of receivers have one order for all
    /// threads: either a receiver that parks finds the item, or this check finds the receiver.
    #[inline(always)]
    fn after_push(&self) {
        if self.has(flag::RECEIVERS) && !mutant!("queue.lose_wake") {
            self.feed_receivers();
        }
    }

    #[cold]
    fn feed_receivers(&self) {
        let mut wakes = Wakes::default();
        let mut slow = self.lock();
        self.grant_items(&mut slow, &mut wakes);
        drop(slow);
        wakes.wake();
    }

    // Items out.

    /// Takes and settles an item for a new receiver, if the fast path is open.
    #[inline(always)]
    pub(in crate::queue) fn pop_quickly(&self) -> Result<T, NoItem> {
        if self.has(flag::RECEIVERS | flag::ASIDE | flag::ENDED) {
            return Err(NoItem::Empty);
        }
        let item = self.place.pop_item(&self.counts, Claim::Open)?;
        self.after_take();
        Ok(item)
    }

    /// Takes an item for a new receiver, if the fast path is open.
    pub(in crate::queue) fn take_quickly(&self, take: Take) -> Result<Entry<T>, NoItem> {
        if self.has(flag::RECEIVERS | flag::ASIDE | flag::ENDED) {
            return Err(NoItem::Empty);
        }
        let taken = self.take(Claim::Open, take);
        // Also after a failed lease: another thread may have seen the counts while they were too high.
        if taken.is_ok() || take == Take::Leased {
            self.after_take();
        }
        taken
    }

    /// Takes up to `most` items, if the fast path is open.
    pub(in crate::queue) fn take_many(&self, into: &mut Vec<T>, most: usize) -> usize {
        if most == 0 || self.has(flag::RECEIVERS | flag::ASIDE | flag::ENDED) {
            return 0;
        }
        let taken = self.place.pop_many(&self.counts, Claim::Open, into, most).unwrap_or(0);
        if taken > 0 {
            self.after_take();
        }
        taken
    }

    /// Takes an item from the storage, and wakes no waiter.
    pub(super) fn take(&self, claim: Claim, take: Take) -> Result<Entry<T>, NoItem> {
        match take {
            Take::Settled => self.place.pop(&self.counts, claim),
            Take::Leased if self.counts.len() == 0 => Err(NoItem::Empty),
            Take::Leased => {
                // Both counts are raised before the item is taken: its slot must not look free, nor the item settled.
                self.unsettled.0.fetch_add(1, Ordering::SeqCst);
                let taken = match self.counts.hold_for_item() {
                    true => self.place.pop(&self.counts, claim).inspect_err(|_| self.counts.release(1)),
                    false => Err(NoItem::Busy),
                };
                if taken.is_err() {
                    self.unsettled.0.fetch_sub(1, Ordering::SeqCst);
                }
                taken
            }
        }
    }

    /// Wakes senders after slots became free. See [`after_push`](Self::after_push).
    #[inline(always)]
    pub(in crate::queue) fn after_take(&self) {
        if self.has(flag::SENDERS | flag::WATCHED) {
            self.feed_senders();
        }
    }

    #[cold]
    fn feed_senders(&self) {
        if self.has(flag::SENDERS) {
            let mut wakes = Wakes::default();
            let mut slow = self.lock();
            self.grant_places(&mut slow, &mut wakes);
            drop(slow);
            wakes.wake();
        }
        self.look_whether_settled();
    }

    // Held slots.

    /// Holds up to `want` slots for a new sender, and returns their number.
    pub(in crate::queue) fn hold(&self, want: u32) -> Result<u32, NoPlace> {
        if self.has(flag::SENDERS) {
            return Err(if self.counts.is_closed() { NoPlace::Closed } else { NoPlace::Full });
        }
        self.counts.hold(want)
    }

    /// Releases slots that were held and not used.
    pub(in crate::queue) fn release(&self, places: u32) {
        self.counts.release(places);
        self.after_take();
    }

    /// Settles an item that was leased.
    pub(in crate::queue) fn settle(&self) {
        self.counts.release(1);
        self.unsettled.0.fetch_sub(1, Ordering::SeqCst);
        self.after_take();
    }

    /// Stops counting a lease whose item is back in the storage, which counts it by position.
    pub(in crate::queue) fn forget_lease(&self, _: &Slow<T>) {
        self.unsettled.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Moves the first item in. If it is refused, it is the first item again.
fn one_of<T>(
    items: &mut VecDeque<T>,
    push: impl FnOnce(T) -> Result<(), (NoPlace, T)>,
) -> Result<(), NoPlace> {
    let Some(item) = items.pop_front() else { return Ok(()) };
    push(item).map_err(|(why, item)| {
        items.push_front(item);
        why
    })
}
