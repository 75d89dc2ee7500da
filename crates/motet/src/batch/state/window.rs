//! Which batches have ended: the question of whoever waits for all that were begun before.

use std::collections::VecDeque;

/// Numbers batches, and knows up to which number all have ended.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// All before this one have ended.
    first: u64,
    /// Whether each from `first` on has.
    ended: VecDeque<bool>,
}

impl Window {
    pub(crate) fn begin(&mut self) -> u64 {
        self.ended.push_back(false);
        self.begun() - 1
    }

    /// How many were begun.
    pub(crate) fn begun(&self) -> u64 {
        self.first + self.ended.len() as u64
    }

    pub(crate) fn end(&mut self, number: u64) {
        self.ended[(number - self.first) as usize] = true;
        while self.ended.front() == Some(&true) {
            self.ended.pop_front();
            self.first += 1;
        }
    }

    /// Whether the first `count` batches have ended.
    pub(crate) fn have_ended(&self, count: u64) -> bool {
        self.first >= count
    }
}
