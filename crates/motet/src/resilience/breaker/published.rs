//! What calls go by that take no lock. Checked with loom.

#[cfg(all(test, motet_loom))]
use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(all(test, motet_loom)))]
use std::sync::atomic::{AtomicU64, Ordering};

use super::word::{ONE, SUCCESSES, Word};
use crate::mutant;

/// A copy of what the machine says, written under its lock; and successes that it has not heard of yet, counted by
/// whoever has them.
#[derive(Debug)]
pub(in crate::resilience) struct Published {
    word: AtomicU64,
    /// Until when it is open, if the word says that it is.
    until: AtomicU64,
}

impl Published {
    pub(in crate::resilience) fn new(word: Word) -> Self {
        Self { word: AtomicU64::new(word.0), until: AtomicU64::new(0) }
    }

    #[inline]
    pub(in crate::resilience) fn word(&self) -> Word {
        // Relaxed: nothing else is read by it. A change that is missed by a moment is a call that came before it.
        Word(self.word.load(Ordering::Relaxed))
    }

    /// Says until when it is open, if it is.
    #[inline]
    pub(in crate::resilience) fn open_until(&self) -> Option<u64> {
        // Acquire: the time is that of this opening or of a later one. That of an earlier one, which somebody may have
        // ended long before its time, would keep calls out.
        let open = Word(self.word.load(Ordering::Acquire)).is_open();
        open.then(|| self.until.load(Ordering::Relaxed))
    }

    /// Counts a success of this generation, if that is enough; else the machine is to be told.
    #[inline]
    pub(in crate::resilience) fn count_success(&self, generation: u64) -> bool {
        let mut word = self.word();
        // A swap, and not a sum: the generation may end any moment.
        while word.generation() == generation && word.counts_successes() {
            let (counted, relaxed) = (word.0 + ONE, Ordering::Relaxed);
            match self.word.compare_exchange_weak(word.0, counted, relaxed, relaxed) {
                Ok(_) => return true,
                Err(changed) => word = Word(changed),
            }
        }
        false
    }

    /// Takes the successes that were counted in this generation: by whoever holds the lock.
    #[inline]
    pub(in crate::resilience) fn take_successes(&self) -> u32 {
        match self.word().successes() {
            0 => 0,
            _ => Word(self.word.fetch_and(!SUCCESSES, Ordering::Relaxed)).successes(),
        }
    }

    /// Writes what the machine says now: by whoever holds its lock. Successes that were counted meanwhile stay, in a
    /// new generation they say nothing.
    #[inline]
    pub(in crate::resilience) fn publish(&self, word: Word, until: impl FnOnce() -> u64) {
        let mut before = self.word().0;
        if before & !SUCCESSES == word.0 {
            return;
        }
        let until = word.is_open().then(until);
        let publish = |until| self.until.store(until, Ordering::Relaxed);
        let is_late = mutant!("breaker.publish_late");
        until.filter(|_| !is_late).map(publish);
        // Release: who sees an opening sees its time.
        if Word(before).generation() != word.generation() || mutant!("breaker.forget_successes") {
            self.word.store(word.0, Ordering::Release);
        } else {
            let with = |before: u64| word.0 | (before & SUCCESSES);
            let (written, failed) = (Ordering::Release, Ordering::Relaxed);
            while let Err(changed) = self.word.compare_exchange_weak(before, with(before), written, failed) {
                before = changed;
            }
        }
        until.filter(|_| is_late).map(publish);
    }
}
