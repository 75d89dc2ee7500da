use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::{Lease, LeaseError};
use crate::mutant;
use crate::task::core::panic_words;

/// An item in the hands of a worker's handler.
///
/// It is not settled here: what the handler returns settles it.
///
/// # Drop
/// The item goes back to the worker. One that the handler lets live on elsewhere is settled when it is dropped there,
/// by what the handler had returned.
pub struct Job<T: Send + 'static> {
    /// Always there until it is dropped.
    lease: Option<Lease<T>>,
    slot: Arc<Slot<T>>,
}

/// Where a job brings its lease back to.
pub(super) struct Slot<T: Send + 'static>(Mutex<State<T>>);

enum State<T: Send + 'static> {
    Out,
    Back(Lease<T>),
    /// The handler has ended, and the job lives on.
    Judged(Verdict),
}

/// What becomes of an item whose handler has ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verdict {
    Done,
    /// Handled again after this time, or a dead letter.
    Retry(Duration),
    /// Handled again; the attempt does not count.
    Release,
}

impl Verdict {
    /// Settles the item, or gives it back to the queue. An item that panics in its drop is settled, and harms nobody.
    pub(super) fn apply<T: Send + 'static>(self, lease: Lease<T>) {
        match catch_unwind(AssertUnwindSafe(|| self.settle(lease))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => crate::log::debug!(%error, "an item was somebody else's before it was settled"),
            Err(payload) => {
                let panic = panic_words(payload);
                crate::log::error!(panic, "an item panicked when it was dropped");
            }
        }
    }

    fn settle<T: Send + 'static>(self, lease: Lease<T>) -> Result<(), LeaseError> {
        match self {
            Self::Done => lease.end(),
            Self::Release if !mutant!("workers.burn_attempt") => lease.give_back(),
            Self::Retry(after) if !after.is_zero() => lease.fail(after),
            Self::Release | Self::Retry(_) => {
                drop(lease);
                Ok(())
            }
        }
    }
}

impl<T: Send + 'static> Slot<T> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State::Out)))
    }

    /// Makes a job of the lease, which comes back here.
    pub(super) fn hand_out(self: &Arc<Self>, lease: Lease<T>) -> Job<T> {
        Job { lease: Some(lease), slot: Arc::clone(self) }
    }

    /// Takes the lease back. If it is not here, `verdict` is applied when the job is dropped.
    pub(super) fn take_or(&self, verdict: Verdict) -> Option<Lease<T>> {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Out) {
            State::Back(lease) => Some(lease),
            State::Out | State::Judged(_) => {
                *state = State::Judged(verdict);
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + 'static> Job<T> {
    /// Counts the attempts at this item, this one included.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.lease().attempt()
    }

    #[allow(clippy::missing_panics_doc, reason = "the lease is taken out by the drop alone")]
    fn lease(&self) -> &Lease<T> {
        self.lease.as_ref().expect("a job has its lease until it is dropped")
    }
}

impl<T: Send + 'static> Deref for Job<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.lease()
    }
}

impl<T: Send + 'static> Drop for Job<T> {
    fn drop(&mut self) {
        let Some(lease) = self.lease.take() else { return };
        let mut state = self.slot.lock();
        match std::mem::replace(&mut *state, State::Out) {
            State::Judged(verdict) => {
                drop(state);
                verdict.apply(lease);
            }
            State::Out | State::Back(_) => *state = State::Back(lease),
        }
    }
}

impl<T: fmt::Debug + Send + 'static> fmt::Debug for Job<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("item", &**self).field("attempt", &self.attempt()).finish_non_exhaustive()
    }
}
