use super::{Entry, Store, spare};

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
        if let Some(enough) = spare(self.0.len(), self.0.capacity()) {
            self.0.shrink_to(enough);
        }
        entry
    }
}
