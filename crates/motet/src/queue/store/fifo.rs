use std::collections::VecDeque;

use super::{Entry, Store, spare};

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
        if let Some(enough) = spare(self.0.len(), self.0.capacity()) {
            self.0.shrink_to(enough);
        }
        entry
    }
}
