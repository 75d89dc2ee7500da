use std::cmp::Ordering;
use std::collections::BinaryHeap;

use tokio::time::Instant;

use super::{Entry, spare};

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
        if let Some(enough) = spare(self.heap.len(), self.heap.capacity()) {
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
