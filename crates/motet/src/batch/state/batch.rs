//! A batch that does not run yet: its items, and its callers.

use std::collections::HashMap;

use tokio::time::Instant;

use crate::mutant;

/// The caller that waits for an answer.
#[derive(Debug)]
pub(crate) enum Waiter<W> {
    /// A caller waits.
    Asked(W),
    /// No caller waits: the item was posted.
    Posted,
    /// The caller was dropped.
    Gone,
}

#[derive(Debug)]
pub(crate) struct Batch<T, W, B> {
    pub(crate) number: u64,
    /// The slots in which the answers will be.
    pub(crate) slots: B,
    /// The items, in the order in which they were added until one is removed: see [`SlotMap::in_order`].
    pub(crate) items: Vec<T>,
    pub(crate) waiters: Vec<Waiter<W>>,
    pub(crate) slot_map: SlotMap,
    /// The time at which the batch runs at the latest.
    pub(crate) deadline: Option<Instant>,
    /// `true` if the batch runs as soon as it may be in flight.
    pub(crate) due: bool,
    pub(crate) weight: u64,
    /// The number of items that were removed.
    pub(crate) removed: usize,
    /// The number of items that were ever added.
    given: u32,
    /// Items by the hash of their key, and the number of earlier items with that hash. Batches without keys have none.
    keys: Option<HashMap<(u64, u32), u32>>,
}

/// The mapping between slots and items. Items are numbered in the order in which they were added, and keep their
/// number.
#[derive(Debug, Default)]
pub(crate) struct SlotMap {
    /// The number of each remaining item; empty while none was removed.
    numbers: Vec<u32>,
    /// The index of each item among the remaining ones, or `GONE`; empty while none was removed.
    positions: Vec<u32>,
    /// The item of each slot; empty while each slot has its own item.
    item_of: Vec<u32>,
    /// The number of callers of each item; empty while each item has one.
    callers: Vec<u32>,
}

const GONE: u32 = u32::MAX;

impl SlotMap {
    /// The index of an item among the remaining ones.
    fn position(&self, number: u32) -> Option<usize> {
        match self.positions.is_empty() {
            true => Some(number as usize),
            false => self
                .positions
                .get(number as usize)
                .filter(|index| **index != GONE)
                .map(|index| *index as usize),
        }
    }

    /// Removes an item. The last item takes its index, so that the cost does not depend on the size of the batch.
    fn remove_item<T>(&mut self, items: &mut Vec<T>, at: usize, given: u32) -> T {
        if self.positions.is_empty() {
            self.numbers.extend(0..given);
            self.positions.extend(0..given);
        }
        let gone = self.numbers.swap_remove(at);
        self.positions[gone as usize] = GONE;
        if let Some(moved) = self.numbers.get(at) {
            self.positions[*moved as usize] = at as u32;
        }
        items.swap_remove(at)
    }

    /// Puts the items back into the order in which they were added.
    pub(crate) fn in_order<T>(&mut self, items: Vec<T>) -> Vec<T> {
        if self.numbers.is_sorted() {
            return items;
        }
        let mut items: Vec<Option<T>> = items.into_iter().map(Some).collect();
        let positions = std::mem::take(&mut self.positions);
        let left = positions.iter().filter(|index| **index != GONE);
        let items = left.filter_map(|index| items.get_mut(*index as usize)?.take()).collect();
        self.numbers.sort_unstable();
        self.positions = positions;
        for (index, number) in self.numbers.iter().enumerate() {
            self.positions[*number as usize] = index as u32;
        }
        items
    }

    fn item_of(&self, slot: u32) -> u32 {
        self.item_of.get(slot as usize).copied().unwrap_or(slot)
    }

    /// Assigns values, in the order of the remaining items, to the numbers of these items.
    pub(crate) fn by_number<X>(&self, of_items: Vec<X>) -> Vec<Option<X>> {
        if self.positions.is_empty() {
            // Mostly in place: an `Option` of a result is no larger.
            return of_items.into_iter().map(Some).collect();
        }
        let mut all: Vec<Option<X>> = self.positions.iter().map(|_| None).collect();
        for (number, one) in self.numbers.iter().zip(of_items) {
            all[*number as usize] = Some(one);
        }
        all
    }

    /// Returns for each slot a copy of the value of its item.
    pub(crate) fn by_slot<X: Clone>(&self, of_items: Vec<X>) -> Vec<Option<X>> {
        let all = self.by_number(of_items);
        if self.item_of.is_empty() {
            return all;
        }
        self.item_of.iter().map(|item| all.get(*item as usize).cloned().flatten()).collect()
    }
}

impl<T, W, B> Batch<T, W, B> {
    pub(crate) fn new(number: u64, slots: B, deadline: Option<Instant>, capacity: usize) -> Self {
        Self {
            number,
            slots,
            items: Vec::with_capacity(capacity),
            waiters: Vec::with_capacity(capacity),
            slot_map: SlotMap::default(),
            deadline,
            due: false,
            weight: 0,
            removed: 0,
            given: 0,
            keys: None,
        }
    }

    /// Adds an item, and returns the number of its slot.
    #[inline(always)]
    pub(crate) fn push(&mut self, item: T, weight: u64, waiter: Waiter<W>) -> u32 {
        let (number, at) = (self.given, self.waiters.len() as u32);
        self.given += 1;
        self.weight += weight;
        self.items.push(item);
        self.waiters.push(waiter);
        let slot_map = &mut self.slot_map;
        if !slot_map.positions.is_empty() {
            slot_map.positions.push(slot_map.numbers.len() as u32);
            slot_map.numbers.push(number);
        }
        if !slot_map.item_of.is_empty() {
            slot_map.item_of.push(number);
            slot_map.callers.push(1);
        }
        at
    }

    /// Adds a slot for a further caller of an item that is in the batch.
    pub(crate) fn join(&mut self, number: u32, waker: W) -> u32 {
        let slot_map = &mut self.slot_map;
        if slot_map.item_of.is_empty() {
            slot_map.item_of.extend(0..self.given);
            slot_map.callers.resize(self.given as usize, 1);
        }
        let at = self.waiters.len() as u32;
        slot_map.item_of.push(number);
        slot_map.callers[number as usize] += 1;
        self.waiters.push(Waiter::Asked(waker));
        at
    }

    /// Removes a caller from its slot, and its item if no other caller waits for it.
    pub(crate) fn leave(&mut self, slot: u32, weight: u64) -> (Option<T>, Waiter<W>) {
        let was = std::mem::replace(&mut self.waiters[slot as usize], Waiter::Gone);
        let number = self.slot_map.item_of(slot);
        if let Some(callers) = self.slot_map.callers.get_mut(number as usize) {
            *callers -= 1;
            let mut is_shared = *callers > 0;
            if mutant!("batch.first_asker_only") {
                is_shared = false;
            }
            if is_shared {
                return (None, was);
            }
        }
        let Some(mut at) = self.slot_map.position(number) else { return (None, was) };
        if mutant!("batch.remove_neighbour") {
            at = (at + 1) % self.items.len();
        }
        self.removed += 1;
        self.weight -= weight;
        (Some(self.slot_map.remove_item(&mut self.items, at, self.given)), was)
    }

    /// The item with this hash that has `before` earlier items of that hash, if it is still there; `None` if there is
    /// no further one.
    pub(crate) fn candidate(&self, hash: u64, before: u32) -> Option<(u32, Option<&T>)> {
        let number = *self.keys.as_ref()?.get(&(hash, before))?;
        Some((number, self.slot_map.position(number).and_then(|at| self.items.get(at))))
    }

    /// Records the hash of the item that was added last.
    pub(crate) fn record_key(&mut self, hash: u64, before: u32) {
        self.keys.get_or_insert_default().insert((hash, before), self.given - 1);
    }
}
