//! The batches that have ended, for callers that wait for all batches begun before.

use std::collections::VecDeque;

/// Numbers batches, and tracks up to which number all have ended.
#[derive(Debug, Default)]
pub(crate) struct BatchWindow {
    begun: u64,
    /// The batches that have not ended, in order. A batch that hangs costs one entry, whatever the number of batches
    /// after it.
    open: VecDeque<u64>,
}

impl BatchWindow {
    pub(crate) fn begin(&mut self) -> u64 {
        let number = self.begun;
        self.begun += 1;
        self.open.push_back(number);
        number
    }

    /// The number of batches that were begun.
    pub(crate) fn begun(&self) -> u64 {
        self.begun
    }

    pub(crate) fn end(&mut self, number: u64) {
        if let Ok(at) = self.open.binary_search(&number) {
            self.open.remove(at);
        }
    }

    /// Returns `true` if the first `count` batches have ended.
    pub(crate) fn have_ended(&self, count: u64) -> bool {
        *self.open.front().unwrap_or(&self.begun) >= count
    }

    #[cfg(test)]
    pub(crate) fn footprint(&self) -> usize {
        self.open.capacity()
    }
}
