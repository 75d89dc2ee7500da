use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::{Lease, LeaseError};
use crate::mutant;
use crate::sync::catch;

/// An item that a worker passes to its handler.
///
/// The handler does not settle the item itself: the result of the handler does.
///
/// # Drop
/// The item returns to the worker. A job that outlives its handler is settled when it is dropped, by the result of that
/// handler.
pub struct Job<T: Send + 'static> {
    /// Always `Some` until the drop.
    lease: Option<Lease<T>>,
    slot: Arc<JobSlot<T>>,
}

/// The slot to which a job returns its lease.
pub(super) struct JobSlot<T: Send + 'static>(Mutex<JobState<T>>);

enum JobState<T: Send + 'static> {
    Out,
    Back(Lease<T>),
    /// The handler has ended, and the job still lives.
    Judged(Verdict),
}

/// The decision about an item whose handler has ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verdict {
    Done,
    /// The item is handled again after this delay, or is a dead letter.
    Retry(Duration),
    /// The item is handled again, and the attempt does not count.
    Release,
}

impl Verdict {
    /// Settles the item, or returns it to the queue. An item that panics in its drop is settled, and the panic is
    /// caught.
    pub(super) fn apply<T: Send + 'static>(self, lease: Lease<T>) {
        match catch(|| self.settle(lease)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                crate::log::debug!(%error, "the lease of an item was void before the item was settled")
            }
            Err(panic) => crate::log::error!(panic, "an item panicked when it was dropped"),
        }
    }

    fn settle<T: Send + 'static>(self, lease: Lease<T>) -> Result<(), LeaseError> {
        match self {
            Self::Done => lease.end(),
            Self::Release => {
                if mutant!("workers.burn_attempt") {
                    drop(lease);
                    return Ok(());
                }
                lease.give_back()
            }
            Self::Retry(after) if !after.is_zero() => lease.fail(after),
            Self::Retry(_) => {
                drop(lease);
                Ok(())
            }
        }
    }
}

impl<T: Send + 'static> JobSlot<T> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(JobState::Out)))
    }

    /// Creates a job of the lease, which returns to this slot.
    pub(super) fn hand_out(self: &Arc<Self>, lease: Lease<T>) -> Job<T> {
        Job { lease: Some(lease), slot: Arc::clone(self) }
    }

    /// Takes the lease back. If the job still lives, `verdict` is applied when the job is dropped.
    pub(super) fn take_or(&self, verdict: Verdict) -> Option<Lease<T>> {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, JobState::Out) {
            JobState::Back(lease) => Some(lease),
            JobState::Out | JobState::Judged(_) => {
                *state = JobState::Judged(verdict);
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, JobState<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + 'static> Job<T> {
    /// The number of attempts at this item, including this one.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.lease().attempt()
    }

    #[allow(clippy::missing_panics_doc, reason = "only the drop takes the lease out")]
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
        match std::mem::replace(&mut *state, JobState::Out) {
            JobState::Judged(verdict) => {
                drop(state);
                verdict.apply(lease);
            }
            JobState::Out | JobState::Back(_) => *state = JobState::Back(lease),
        }
    }
}

impl<T: fmt::Debug + Send + 'static> fmt::Debug for Job<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("item", &**self).field("attempt", &self.attempt()).finish_non_exhaustive()
    }
}
