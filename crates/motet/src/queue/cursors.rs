//! The head and tail cursors of a queue, each packed with a count into one `AtomicU64`.
//!
//! `tail` is the position of the next item to be sent, with the number of held slots: slots of permits, of leases, and of
//! items that wait to come back. `head` is the position of the next item to be received, with the number of items that are
//! promised to woken receivers. Since a position and its count are one word, each claim is one compare-and-swap, and the
//! bound is exact: the items in the queue and the held slots together never exceed the capacity.
//!
//! All accesses that the hand-off depends on are sequentially consistent. An operation that claims a position checks
//! afterwards whether a waiter is parked, and a waiter sets its flag before it reads the cursors again. So at least one of
//! the two sees the other.

use super::atomics::{AtomicU64, Ordering, lost_a_race};
use crate::sync::Padded;

// 40 bits of position repeat after hours at the highest rates; two positions that are compared are never that far
// apart.
const POSITION_BITS: u32 = 40;
const POSITION: u64 = (1 << POSITION_BITS) - 1;
const ONE: u64 = 1 << POSITION_BITS;
const CLOSED: u64 = 1 << 63;
const MOST: u64 = (CLOSED >> POSITION_BITS) - 1;

/// The largest capacity: half of the largest count, because counts may be too high for a moment.
pub(super) const MAX_CAPACITY: usize = 1 << 22;
/// The capacity of an unbounded queue: as many items as positions can distinguish.
pub(super) const UNBOUNDED: usize = 1 << (POSITION_BITS - 2);

/// The kind of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// The claim of a new caller: held slots and promised items are not available to it.
    Open,
    /// The claim of a caller that holds the slots, or was promised the item. The claim uses them up.
    Granted,
    /// A claim on every item, promised or not.
    All,
}

/// The reason why no slot was claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoSlot {
    Full,
    Closed,
    /// A slot is free, but its last item is still being moved out; try again.
    Busy,
}

/// The reason why no item was claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoItem {
    Empty,
    /// An item is still being written; try again.
    Busy,
}

#[derive(Debug)]
pub(super) struct Cursors {
    head: Padded<AtomicU64>,
    tail: Padded<AtomicU64>,
    capacity: u64,
    /// The number of slots equals the capacity: then a free slot proves that there is capacity.
    exact: bool,
    /// The items are in slots whose stamps show whether an item is there. Otherwise only the cursors show it.
    slotted: bool,
}

#[inline(always)]
fn position(word: u64) -> u64 {
    word & POSITION
}

#[inline(always)]
fn count(word: u64) -> u64 {
    (word & !CLOSED) >> POSITION_BITS
}

/// The distance from one position to another; negative if the other is behind.
#[inline(always)]
fn distance(from: u64, to: u64) -> i64 {
    const SHIFT: u32 = u64::BITS - POSITION_BITS;
    ((to.wrapping_sub(from) << SHIFT) as i64) >> SHIFT
}

#[inline(always)]
pub(super) fn advance(position: u64, by: u64) -> u64 {
    position.wrapping_add(by) & POSITION
}

/// The word with its position advanced by `by`.
#[inline(always)]
fn advanced(word: u64, by: u64) -> u64 {
    (word & !POSITION) | advance(position(word), by)
}

impl Cursors {
    /// Creates the cursors. `slots` is the number of slots, if the items are in slots.
    pub(super) fn new(capacity: usize, slots: Option<usize>) -> Self {
        let word = || Padded(AtomicU64::new(0));
        Self {
            head: word(),
            tail: word(),
            capacity: capacity as u64,
            exact: slots == Some(capacity),
            slotted: slots.is_some(),
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// The position of the next item to be sent in the plain case: no slot is held, the queue is not closed, and a free
    /// slot proves that there is capacity. The word then equals the position.
    #[inline(always)]
    pub(super) fn plain_slot(&self) -> Option<u64> {
        let at = self.tail.0.load(Ordering::SeqCst);
        (at <= POSITION && self.exact).then_some(at)
    }

    /// Claims the position of [`plain_slot`](Self::plain_slot), if the word has not changed.
    #[inline(always)]
    pub(super) fn claim_plain_slot(&self, at: u64) -> bool {
        let next = advance(at, 1);
        let claimed = self.tail.0.compare_exchange(at, next, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        if !claimed {
            lost_a_race();
        }
        claimed
    }

    /// The position of the next item to be received in the plain case: no item is promised, and a full slot proves that
    /// there is an item. The word then equals the position.
    #[inline(always)]
    pub(super) fn plain_item(&self) -> Option<u64> {
        let at = self.head.0.load(Ordering::SeqCst);
        (at <= POSITION && self.slotted).then_some(at)
    }

    /// Claims the position of [`plain_item`](Self::plain_item), if the word has not changed.
    #[inline(always)]
    pub(super) fn claim_plain_item(&self, at: u64) -> bool {
        let next = advance(at, 1);
        let claimed = self.head.0.compare_exchange(at, next, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        if !claimed {
            lost_a_race();
        }
        claimed
    }

    /// Claims up to `want` consecutive free positions, and returns the first one and their number. `free` returns
    /// `true` if the slot of a position can be written.
    #[inline(always)]
    pub(super) fn claim_slots(
        &self,
        claim: Claim,
        want: u64,
        free: impl Fn(u64) -> bool,
    ) -> Result<(u64, u64), NoSlot> {
        let mut word = self.tail.0.load(Ordering::SeqCst);
        loop {
            if word & CLOSED != 0 {
                return Err(NoSlot::Closed);
            }
            let (at, held) = (position(word), count(word));
            let is_granted = claim == Claim::Granted;
            debug_assert!(!is_granted || held >= want, "more slots were claimed than are held");
            let most = match is_granted || (self.exact && held == 0) {
                true => want,
                false => want.min(self.unclaimed(word).max(0).unsigned_abs()),
            };
            let slots = (0..most).take_while(|slot| free(advance(at, *slot))).count() as u64;
            if slots == 0 {
                let full = !is_granted && self.unclaimed(word) <= 0;
                let now = self.tail.0.load(Ordering::SeqCst);
                if now != word {
                    word = now;
                    continue;
                }
                return Err(if full { NoSlot::Full } else { NoSlot::Busy });
            }
            let used = if is_granted { slots * ONE } else { 0 };
            let next = advanced(word, slots) - used;
            match self.tail.0.compare_exchange_weak(word, next, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Ok((at, slots)),
                Err(now) => {
                    word = now;
                    lost_a_race();
                }
            }
        }
    }

    /// The free capacity. Too high if the word is out of date.
    #[inline(always)]
    fn unclaimed(&self, tail: u64) -> i64 {
        let head = position(self.head.0.load(Ordering::SeqCst));
        self.capacity as i64 - distance(head, position(tail)) - count(tail) as i64
    }

    /// Claims up to `want` consecutive items, and returns the first position and their number. `there` returns `true`
    /// if the item at a position can be read.
    #[inline(always)]
    pub(super) fn claim_items(
        &self,
        claim: Claim,
        want: u64,
        there: impl Fn(u64) -> bool,
    ) -> Result<(u64, u64), NoItem> {
        let mut word = self.head.0.load(Ordering::SeqCst);
        loop {
            let (at, promised) = (position(word), count(word));
            let granted = u64::from(claim == Claim::Granted);
            let reserved = if claim == Claim::All { 0 } else { promised - granted.min(promised) };
            let most = match reserved {
                0 if self.slotted => want,
                _ => want.min((self.ready(word) - reserved as i64).max(0).unsigned_abs()),
            };
            let items = (0..most).take_while(|item| there(advance(at, *item))).count() as u64;
            if items == 0 {
                let empty = self.ready(word) - reserved as i64 <= 0;
                let now = self.head.0.load(Ordering::SeqCst);
                if now != word {
                    word = now;
                    continue;
                }
                return Err(if empty { NoItem::Empty } else { NoItem::Busy });
            }
            let next = advanced(word, items) - granted * ONE;
            match self.head.0.compare_exchange_weak(word, next, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Ok((at, items)),
                Err(now) => {
                    word = now;
                    lost_a_race();
                }
            }
        }
    }

    /// The number of items, promised or not.
    #[inline(always)]
    fn ready(&self, head: u64) -> i64 {
        distance(position(head), position(self.tail.0.load(Ordering::SeqCst)))
    }

    /// Holds up to `want` slots, and returns their number.
    pub(super) fn hold(&self, want: u32) -> Result<u32, NoSlot> {
        let mut word = self.tail.0.load(Ordering::SeqCst);
        loop {
            if word & CLOSED != 0 {
                return Err(NoSlot::Closed);
            }
            let unclaimed = self.unclaimed(word).max(0).unsigned_abs();
            let slots = unclaimed.min(MOST - count(word)).min(want.into());
            if slots == 0 {
                let now = self.tail.0.load(Ordering::SeqCst);
                if now == word {
                    return Err(NoSlot::Full);
                }
                word = now;
                continue;
            }
            let next = word + slots * ONE;
            match self.tail.0.compare_exchange_weak(word, next, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Ok(slots as u32),
                Err(now) => {
                    word = now;
                    lost_a_race();
                }
            }
        }
    }

    /// Holds a slot for an item that is about to be leased: both the item and the slot are counted for a moment.
    /// Returns `false` if the count is at its maximum.
    pub(super) fn hold_for_item(&self) -> bool {
        let more = |word| (count(word) < MOST).then(|| word + ONE);
        self.tail.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    /// Releases held slots.
    pub(super) fn release(&self, slots: u32) {
        let before = self.tail.0.fetch_sub(u64::from(slots) * ONE, Ordering::SeqCst);
        debug_assert!(count(before) >= slots.into(), "more slots were released than are held");
    }

    /// Turns a held slot into the slot of an item, also in a closed queue, since the item was in the queue before.
    pub(super) fn settle_back(&self) {
        let back = |word| Some(advanced(word, 1) - ONE);
        let settled = self.tail.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, back);
        debug_assert!(settled.is_ok_and(|before| count(before) > 0), "an item came back without a held slot");
    }

    /// Promises an item to a receiver. `aside` is the number of items that are kept outside of the storage.
    pub(super) fn promise(&self, aside: usize) -> bool {
        let mut word = self.head.0.load(Ordering::SeqCst);
        loop {
            if count(word) == MOST || self.unpromised_of(word, aside) <= 0 {
                let now = self.head.0.load(Ordering::SeqCst);
                if now == word {
                    return false;
                }
                word = now;
                continue;
            }
            match self.head.0.compare_exchange_weak(word, word + ONE, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return true,
                Err(now) => {
                    word = now;
                    lost_a_race();
                }
            }
        }
    }

    /// Withdraws a promise.
    pub(super) fn unpromise(&self) {
        let before = self.head.0.fetch_sub(ONE, Ordering::SeqCst);
        debug_assert!(count(before) > 0, "a promise was withdrawn that was not made");
    }

    fn unpromised_of(&self, head: u64, aside: usize) -> i64 {
        self.ready(head) + aside as i64 - count(head) as i64
    }

    /// Returns `true` if there is an item for a new receiver, among the items in the storage and the `aside` items
    /// outside of it.
    pub(super) fn has_unpromised(&self, aside: usize) -> bool {
        self.unpromised_of(self.head.0.load(Ordering::SeqCst), aside) > 0
    }

    /// Closes the queue. Returns `false` if it was already closed.
    pub(super) fn close(&self) -> bool {
        self.tail.0.fetch_or(CLOSED, Ordering::SeqCst) & CLOSED == 0
    }

    pub(super) fn is_closed(&self) -> bool {
        self.tail.0.load(Ordering::SeqCst) & CLOSED != 0
    }

    /// The number of items in the storage.
    pub(super) fn len(&self) -> usize {
        let ready = self.ready(self.head.0.load(Ordering::SeqCst));
        ready.clamp(0, self.capacity as i64).unsigned_abs() as usize
    }

    /// Returns `true` if the storage was empty at a moment at which `also` returned `true`.
    pub(super) fn is_empty_while(&self, also: impl FnOnce() -> bool) -> bool {
        let tail = position(self.tail.0.load(Ordering::SeqCst));
        let is_empty = position(self.head.0.load(Ordering::SeqCst)) == tail;
        // No item came in between the two reads, so the storage was empty all the time.
        is_empty && also() && position(self.tail.0.load(Ordering::SeqCst)) == tail
    }

    /// The number of held slots.
    pub(super) fn held(&self) -> usize {
        count(self.tail.0.load(Ordering::SeqCst)) as usize
    }
}

#[cfg(test)]
#[cfg(not(motet_loom))]
mod tests {
    use super::*;

    fn cursors(capacity: usize, slots: Option<usize>, at: u64) -> Cursors {
        let cursors = Cursors::new(capacity, slots);
        cursors.head.0.store(at, Ordering::Relaxed);
        cursors.tail.0.store(at, Ordering::Relaxed);
        cursors
    }

    /// Starts just before positions wrap, where a carry would count as a held slot.
    #[test]
    fn length_and_held_count_are_exact_when_positions_wrap() {
        for (slots, capacity) in [(Some(4), 4), (None, 3)] {
            let cursors = cursors(capacity, slots, POSITION - 1);
            cursors.hold(1).unwrap();
            let open = cursors.claim_slots(Claim::Open, 9, |_| true);
            assert_eq!(open, Ok((POSITION - 1, capacity as u64 - 1)));
            assert_eq!(cursors.claim_slots(Claim::Open, 1, |_| true), Err(NoSlot::Full));
            assert_eq!((cursors.len(), cursors.held()), (capacity - 1, 1));
            assert!(cursors.promise(0));
            let items = cursors.claim_items(Claim::Open, 9, |_| true);
            assert_eq!(items, Ok((POSITION - 1, capacity as u64 - 2)));
            assert_eq!(cursors.claim_items(Claim::Open, 1, |_| true), Err(NoItem::Empty));
            assert_eq!(cursors.claim_items(Claim::Granted, 1, |_| true).unwrap().1, 1);
            cursors.settle_back();
            assert_eq!((cursors.len(), cursors.held()), (1, 0));
        }
    }

    #[test]
    fn claim_stops_before_a_busy_slot_and_fails_if_it_is_first() {
        let cursors = cursors(4, Some(4), 0);
        assert_eq!(cursors.claim_slots(Claim::Open, 1, |_| false), Err(NoSlot::Busy));
        assert_eq!(cursors.claim_slots(Claim::Open, 3, |at| at < 2), Ok((0, 2)));
        assert_eq!(cursors.claim_items(Claim::Open, 1, |_| false), Err(NoItem::Busy));
        assert_eq!(cursors.claim_items(Claim::Open, 3, |at| at < 1), Ok((0, 1)));
    }
}
