//! The orders in which a queue can hand out its items, as plain state: no lock, no clock, no waiting.
//!
//! First in, first out has a ring of its own; every other order is a store behind one lock. What a lease brings
//! back goes to the front: of the whole store, or of its own rank where there are ranks.

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

/// An item with what the queue knows of it.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    pub(crate) item: T,
    /// How often it has come back from a lease.
    pub(crate) returns: u32,
    /// What a ranked store orders by, drawn from the item before the store is locked; 0 elsewhere.
    pub(crate) rank: i64,
}

impl<T> Entry<T> {
    pub(crate) fn new(item: T) -> Self {
        Self { item, returns: 0, rank: 0 }
    }
}

/// Keeps items in some order.
///
/// It is called under a lock, so nothing of it runs code of the item: no comparison, no drop.
pub(crate) trait Store<T>: Send {
    /// Takes in a new item.
    fn push(&mut self, entry: Entry<T>);

    /// Takes back what was handed out: it comes before its equals.
    fn push_front(&mut self, entry: Entry<T>);

    /// Hands out the next.
    fn pop(&mut self) -> Option<Entry<T>>;
}

/// What is left to keep of memory for `capacity` entries, when it is much more than `len` of them need.
///
/// Asked after each removal: a queue that was full once does not hold the memory for ever. Halving what is a
/// quarter full costs less than a copy for each removal.
const fn spare(len: usize, capacity: usize) -> Option<usize> {
    if capacity > 64 && len < capacity / 4 { Some(capacity / 2) } else { None }
}
