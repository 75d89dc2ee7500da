//! The orders in which a queue hands out its items, as plain state: no lock, no clock, no waiting.
//!
//! A bounded queue that is first in, first out uses the ring; every other order is a store behind one lock. An item
//! that comes back from a lease goes to the front: of the whole store, or of its rank if items have ranks.

mod priority;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

use tokio::time::Instant;

pub(crate) use self::priority::Priority;

/// An item with the bookkeeping of the queue.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    pub(crate) item: T,
    /// How often the item has come back from a lease.
    pub(crate) returns: u32,
    /// The key of a ranked store, computed from the item before the store is locked; 0 in other stores.
    pub(crate) rank: i64,
}

impl<T> Entry<T> {
    pub(crate) fn new(item: T) -> Self {
        Self { item, returns: 0, rank: 0 }
    }
}

/// Stores items in some order.
///
/// It is called under a lock, so it must not run code of the item: no comparison and no drop.
pub(crate) trait Store<T>: Send {
    /// Adds a new item.
    fn push(&mut self, entry: Entry<T>);

    /// Puts back an item that was handed out: it comes before the other items of its rank.
    fn push_front(&mut self, entry: Entry<T>);

    /// Removes the next item.
    fn pop(&mut self) -> Option<Entry<T>>;
}

/// Returns the capacity to shrink to, if `capacity` is much more than `len` entries need.
///
/// It is checked after each removal, so that a queue that was full once does not keep the memory forever. Halving the
/// capacity when a quarter is used keeps the cost per removal constant.
const fn shrink_target(len: usize, capacity: usize) -> Option<usize> {
    if capacity > 64 && len < capacity / 4 { Some(capacity / 2) } else { None }
}

/// First in, first out, and growing: the order of an unbounded queue.
#[derive(Debug)]
pub(crate) struct Fifo<T>(VecDeque<Entry<T>>);

impl<T> Fifo<T> {
    pub(crate) fn new() -> Self {
        Self(VecDeque::new())
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl<T: Send> Store<T> for Fifo<T> {
    fn push(&mut self, entry: Entry<T>) {
        self.0.push_back(entry);
    }

    fn push_front(&mut self, entry: Entry<T>) {
        self.0.push_front(entry);
    }

    fn pop(&mut self) -> Option<Entry<T>> {
        let entry = self.0.pop_front();
        if let Some(enough) = shrink_target(self.0.len(), self.0.capacity()) {
            self.0.shrink_to(enough);
        }
        entry
    }
}

/// Last in, first out. The front is the top, so an item that comes back is handed out next.
#[derive(Debug)]
pub(crate) struct Lifo<T>(Vec<Entry<T>>);

impl<T> Lifo<T> {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl<T: Send> Store<T> for Lifo<T> {
    fn push(&mut self, entry: Entry<T>) {
        self.0.push(entry);
    }

    fn push_front(&mut self, entry: Entry<T>) {
        self.0.push(entry);
    }

    fn pop(&mut self) -> Option<Entry<T>> {
        let entry = self.0.pop();
        if let Some(enough) = shrink_target(self.0.len(), self.0.capacity()) {
            self.0.shrink_to(enough);
        }
        entry
    }
}

/// Items that are due later, ordered by due time, and by arrival where due times are equal.
#[derive(Debug)]
pub(crate) struct Later<T> {
    heap: BinaryHeap<Due<T>>,
    arrived: u64,
}

#[derive(Debug)]
struct Due<T> {
    at: Instant,
    arrival: u64,
    entry: Entry<T>,
}

impl<T> Later<T> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), arrived: 0 }
    }

    pub(crate) fn push(&mut self, entry: Entry<T>, due: Instant) {
        self.heap.push(Due { at: due, arrival: self.arrived, entry });
        self.arrived += 1;
    }

    /// The due time of the first item.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.heap.peek().map(|due| due.at)
    }

    /// Removes the first item, if it is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Entry<T>> {
        self.next_due().filter(|due| *due <= now)?;
        self.pop()
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Entry<T>> {
        std::iter::from_fn(|| self.pop())
    }

    fn pop(&mut self) -> Option<Entry<T>> {
        let first = self.heap.pop();
        if let Some(enough) = shrink_target(self.heap.len(), self.heap.capacity()) {
            self.heap.shrink_to(enough);
        }
        first.map(|due| due.entry)
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.heap.capacity()
    }
}

impl<T> PartialEq for Due<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Due<T> {}

impl<T> PartialOrd for Due<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Due<T> {
    /// The item that is due first is the greatest, because the heap pops the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.arrival).cmp(&(self.at, self.arrival))
    }
}
