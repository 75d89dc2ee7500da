//! The gate of a scope: it counts the children, refuses them once it is closed, and wakes the task that waits for their end.
//! Checked with loom.

#[cfg(all(test, motet_loom))]
use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};
use std::sync::PoisonError;
#[cfg(not(all(test, motet_loom)))]
use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};
use std::task::{Context, Poll, Waker};

use super::{renew, wake_each};
use crate::mutant;

const WORK: u64 = 1;
const SERVICE: u64 = 1 << 32;
const CLOSED: u64 = 1 << 63;

/// The count that a child belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Work,
    Service,
}

impl Class {
    #[inline]
    fn one(self) -> u64 {
        match self {
            Self::Work => WORK,
            Self::Service => SERVICE,
        }
    }

    #[inline]
    fn of(self, counts: u64) -> u64 {
        match self {
            Self::Work => counts & (SERVICE - 1),
            Self::Service => (counts & !CLOSED) >> 32,
        }
    }
}

/// The result of entering the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entered {
    /// The gate is closed.
    Refused,
    /// Entered, as the first member of the class.
    First,
    Next,
}

#[derive(Debug)]
pub(crate) struct Gate {
    /// Both counts and the closed bit in one word, so that closing and entering cannot miss one another.
    counts: AtomicU64,
    /// The waker of the task that waits for a count to become zero: only the end of the scope waits.
    joiner: Mutex<Option<Waker>>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self { counts: AtomicU64::new(0), joiner: Mutex::new(None) }
    }

    /// Counts a child in, unless the gate is closed.
    #[inline]
    pub(crate) fn enter(&self, class: Class) -> Entered {
        // Acquire is not needed: a child reads the rest of the scope under its lock.
        let before = self.counts.fetch_add(class.one(), Ordering::Relaxed);
        if before & CLOSED != 0 {
            self.counts.fetch_sub(class.one(), Ordering::Relaxed);
            return Entered::Refused;
        }
        if class.of(before) == 0 { Entered::First } else { Entered::Next }
    }

    /// Counts a child out. The last child of its class wakes the joiner. Returns `true` for that child; any other child must
    /// not access the scope afterwards.
    pub(crate) fn leave(&self, class: Class) -> bool {
        // Release: a thread that sees zero also sees the writes of the child. Acquire: the last child wakes on behalf of all.
        let before = self.counts.fetch_sub(class.one(), Ordering::AcqRel);
        let last = class.of(before) == 1;
        if mutant!("scope.skip_wake") {
            return last;
        }
        if last {
            self.wake_joiner();
        }
        last
    }

    pub(crate) fn count(&self, class: Class) -> usize {
        class.of(self.counts.load(Ordering::Acquire)) as usize
    }

    /// Closes the gate if it has no member. Returns `false` if it has one.
    pub(crate) fn close(&self) -> bool {
        self.counts.compare_exchange(0, CLOSED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.counts.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Returns `Ready` when `done` returns `true`. The joiner is woken whenever a class becomes empty.
    pub(crate) fn poll_until(&self, cx: &Context<'_>, done: impl Fn() -> bool) -> Poll<()> {
        if done() {
            return Poll::Ready(());
        }
        self.set_joiner(cx.waker());
        if mutant!("scope.check_once") {
            return Poll::Pending;
        }
        // Checked again after the waker is stored: the last child may have left in between.
        if done() { Poll::Ready(()) } else { Poll::Pending }
    }

    pub(crate) fn set_joiner(&self, waker: &Waker) {
        renew(waker, |renewal| {
            let mut joiner = self.joiner();
            let Some(kept) = &mut *joiner else {
                *joiner = Some(renewal.clone_for_new()?);
                return Some(());
            };
            renewal.set(kept).then_some(())
        });
    }

    pub(crate) fn wake_joiner(&self) {
        let joiner = self.joiner().take();
        wake_each(joiner);
    }

    fn joiner(&self) -> MutexGuard<'_, Option<Waker>> {
        self.joiner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(motet_loom)))]
#[allow(unsafe_code, reason = "a waker made of an `Arc` runs no code when it is cloned")]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::{RawWaker, RawWakerVTable};

    use super::*;

    /// A gate, and how often its joiner was cloned while the lock of the gate was free.
    struct Cloned(Gate, AtomicUsize);

    const TABLE: RawWakerVTable = RawWakerVTable::new(clone, |_| {}, |_| {}, |_| {});

    fn clone(data: *const ()) -> RawWaker {
        // SAFETY: the test below makes the only wakers of this table, of a reference to a `Cloned` that outlives them. It
        // clones no clone.
        let cloned = unsafe { &*data.cast::<Cloned>() };
        let is_free = cloned.0.joiner.try_lock().is_ok();
        cloned.1.fetch_add(usize::from(is_free), Ordering::Relaxed);
        RawWaker::new(data.wrapping_byte_add(1), &TABLE)
    }

    /// A clone is code of the user: it may cancel the scope, which takes the lock.
    #[test]
    fn waker_of_a_joiner_is_cloned_without_the_lock_of_the_gate() {
        let cloned = Cloned(Gate::new(), AtomicUsize::new(0));
        let gate = &cloned.0;
        // SAFETY: the functions of the table keep the contract of a waker, and `cloned` outlives the wakers.
        let waker = unsafe { Waker::new((&raw const cloned).cast(), &TABLE) };
        gate.set_joiner(&waker);
        assert_eq!(cloned.1.load(Ordering::Relaxed), 1);
        gate.set_joiner(&waker);
        assert_eq!(cloned.1.load(Ordering::Relaxed), 2, "a clone that wakes another task is replaced");
        gate.wake_joiner();
    }
}
