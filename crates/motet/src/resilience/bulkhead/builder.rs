use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::Bulkhead;
use crate::resilience::InvalidPolicy;
use crate::resilience::line::Line;
use crate::task::{Name, Scope};

/// Builds a [`Bulkhead`].
///
/// # Defaults
/// No queue: who finds no place is rejected, as with Resilience4j. A bulkhead of its default has 25 places.
#[derive(Clone)]
#[must_use = "nothing is limited until the bulkhead is built"]
pub struct BulkheadBuilder {
    places: usize,
    queue: usize,
    max_wait: Duration,
    shown: Option<(Scope, Name)>,
}

impl BulkheadBuilder {
    pub(super) fn new(places: usize) -> Self {
        Self { places, queue: 0, max_wait: Duration::ZERO, shown: None }
    }

    /// Lets so many wait for a place, and for no longer than this. With zero no caller waits, [`Duration::MAX`] is no limit.
    pub fn queue(mut self, length: usize, max_wait: Duration) -> Self {
        (self.queue, self.max_wait) = (length, max_wait);
        self
    }

    /// Names the bulkhead, and shows it in the snapshots of the scope.
    pub fn named(mut self, scope: &Scope, name: impl Into<Name>) -> Self {
        self.shown = Some((scope.clone(), name.into()));
        self
    }

    /// Makes the bulkhead.
    ///
    /// # Errors
    /// [`InvalidPolicy`], if it has no place, or more places, or a longer queue, than the semaphore of tokio
    /// counts.
    pub fn build(self) -> Result<Bulkhead, InvalidPolicy> {
        let counted = 1..=Semaphore::MAX_PERMITS;
        InvalidPolicy::unless(
            counted.contains(&self.places),
            "a bulkhead has from 1 to usize::MAX / 8 places",
        )?;
        let fits = self.queue <= Semaphore::MAX_PERMITS;
        InvalidPolicy::unless(fits, "the queue of a bulkhead has up to usize::MAX / 8 places")?;
        Ok(self.checked())
    }

    pub(super) fn checked(self) -> Bulkhead {
        let bulkhead = Bulkhead::new(self.places, Line::new(self.places, self.queue, self.max_wait));
        if let Some((scope, name)) = self.shown {
            let weak = Arc::downgrade(&bulkhead.0);
            let shown = scope.register("bulkhead", name, move || {
                weak.upgrade().map(|shared| Bulkhead(shared).stats().shown()).unwrap_or_default()
            });
            // It is new, so nothing is there yet.
            let _ = bulkhead.0.shown.set(shown);
        }
        bulkhead
    }
}

/// 25 places and no queue.
impl Default for Bulkhead {
    fn default() -> Self {
        BulkheadBuilder::new(25).checked()
    }
}

impl fmt::Debug for BulkheadBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { places, queue, max_wait, .. } = self;
        f.debug_struct("BulkheadBuilder")
            .field("places", places)
            .field("queue", queue)
            .field("max_wait", max_wait)
            .finish_non_exhaustive()
    }
}
