//! How many children a scope has, and whether it still takes some. Pure atomics, checked with loom.

#[cfg(motet_loom)]
use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(motet_loom))]
use std::sync::atomic::{AtomicU64, Ordering};

const WORK: u64 = 1;
const SERVICE: u64 = 1 << 32;
const CLOSED: u64 = 1 << 63;

/// Which of the two counts a child is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Work,
    Service,
}

impl Class {
    fn one(self) -> u64 {
        match self {
            Self::Work => WORK,
            Self::Service => SERVICE,
        }
    }

    fn of(self, counts: u64) -> u64 {
        match self {
            Self::Work => counts & (SERVICE - 1),
            Self::Service => (counts & !CLOSED) >> 32,
        }
    }
}

/// Both counts and the closed bit in one word, so that closing and entering cannot miss one another.
#[derive(Debug)]
pub(crate) struct Gate(AtomicU64);

impl Gate {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts one more child, unless the gate is closed.
    pub(crate) fn enter(&self, class: Class) -> bool {
        // Acquire is not needed: a child reads the rest of the scope under its lock.
        let before = self.0.fetch_add(class.one(), Ordering::Relaxed);
        if before & CLOSED == 0 {
            return true;
        }
        self.0.fetch_sub(class.one(), Ordering::Relaxed);
        false
    }

    /// Counts one child less; true when it was the last of its class.
    pub(crate) fn leave(&self, class: Class) -> bool {
        // Release: whoever sees zero also sees what the child wrote. Acquire: the last one wakes for all.
        let before = self.0.fetch_sub(class.one(), Ordering::AcqRel);
        class.of(before) == 1
    }

    pub(crate) fn count(&self, class: Class) -> usize {
        class.of(self.0.load(Ordering::Acquire)) as usize
    }

    /// Closes the gate if nobody is inside; false when somebody is.
    pub(crate) fn close(&self) -> bool {
        self.0.compare_exchange(0, CLOSED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.load(Ordering::Acquire) & CLOSED != 0
    }
}
