//! The orders in which a queue hands out its items, as plain state: no lock, no clock, no waiting.
//!
//! A bounded queue that is first in, first out uses the ring; every other order is a store behind one lock. An item
//! that comes back from a lease goes to the front: of the whole store, or of its rank if items have ranks.

mod fifo;
mod later;
mod levels;
mod lifo;
mod priority;
#[cfg(test)]
mod tests;

pub(crate) use fifo::Fifo;
pub(crate) use later::Later;
pub(crate) use lifo::Lifo;
pub(crate) use priority::Priority;

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
const fn spare(len: usize, capacity: usize) -> Option<usize> {
    if capacity > 64 && len < capacity / 4 { Some(capacity / 2) } else { None }
}
