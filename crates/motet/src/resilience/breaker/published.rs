//! The state that calls use without a lock. Checked with loom.

#[cfg(all(test, motet_loom))]
use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(all(test, motet_loom)))]
use std::sync::atomic::{AtomicU64, Ordering};

use super::word::{ONE, SUCCESSES, StateWord};
use crate::mutant;

/// A copy of the machine's state, written under its lock, and the successes that the machine has not counted yet, added
/// by the calls themselves.
#[derive(Debug)]
pub(in crate::resilience) struct PublishedState {
    word: AtomicU64,
    /// When the open time ends, if the word is that of an open breaker.
    until: AtomicU64,
}

impl PublishedState {
    pub(in crate::resilience) fn new(word: StateWord) -> Self {
        Self { word: AtomicU64::new(word.0), until: AtomicU64::new(0) }
    }

    #[inline]
    pub(in crate::resilience) fn word(&self) -> StateWord {
        // Relaxed: no other memory is read by it. A call that misses a change by a moment counts as a call before the
        // change.
        StateWord(self.word.load(Ordering::Relaxed))
    }

    /// Returns the end of the open time if the breaker is open.
    #[inline]
    pub(in crate::resilience) fn open_until(&self) -> Option<u64> {
        // Acquire: the time is that of this opening or of a later one. The time of an earlier opening, which may have
        // been ended long before, would keep calls out.
        let open = StateWord(self.word.load(Ordering::Acquire)).is_open();
        open.then(|| self.until.load(Ordering::Relaxed))
    }

    /// Counts a success of this generation, if that is enough; otherwise returns `false`, and the machine must record
    /// it.
    #[inline]
    pub(in crate::resilience) fn count_success(&self, generation: u64) -> bool {
        let mut word = self.word();
        // A compare-and-swap, not an addition: the generation may end at any moment.
        while word.generation() == generation && word.counts_successes() {
            let (counted, relaxed) = (word.0 + ONE, Ordering::Relaxed);
            match self.word.compare_exchange_weak(word.0, counted, relaxed, relaxed) {
                Ok(_) => return true,
                Err(changed) => word = StateWord(changed),
            }
        }
        false
    }

    /// Takes the successes that were counted in this generation. The caller holds the lock.
    #[inline]
    pub(in crate::resilience) fn take_successes(&self) -> u32 {
        match self.word().successes() {
            0 => 0,
            _ => StateWord(self.word.fetch_and(!SUCCESSES, Ordering::Relaxed)).successes(),
        }
    }

    /// Publishes the state of the machine. The caller holds its lock. Successes that were counted since the last call
    /// stay; in a new generation they do not count.
    #[inline]
    pub(in crate::resilience) fn publish(&self, word: StateWord, until: impl FnOnce() -> u64) {
        let mut before = self.word().0;
        if before & !SUCCESSES == word.0 {
            return;
        }
        if mutant!("breaker.publish_late") {
            self.word.store(word.0, Ordering::Release);
        }
        if word.is_open() {
            self.until.store(until(), Ordering::Relaxed);
        }
        if mutant!("breaker.forget_successes") {
            self.word.store(word.0, Ordering::Release);
            return;
        }
        // Release: a reader that sees an opening sees its time.
        if StateWord(before).generation() != word.generation() {
            self.word.store(word.0, Ordering::Release);
        } else {
            let with = |before: u64| word.0 | (before & SUCCESSES);
            let (written, failed) = (Ordering::Release, Ordering::Relaxed);
            while let Err(changed) = self.word.compare_exchange_weak(before, with(before), written, failed) {
                before = changed;
            }
        }
    }
}
