use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::Bulkhead;
use crate::resilience::InvalidPolicy;
use crate::resilience::line::Line;
use crate::task::{Name, Scope};

/// A builder of a [`Bulkhead`].
///
/// # Defaults
/// No waiting line: a caller that finds no permit is rejected, as in Resilience4j. The default bulkhead has 25 permits.
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

    /// Sets how many callers may wait for a permit, and for how long. With `max_wait` zero no caller waits,
    /// [`Duration::MAX`] waits without a limit.
    pub fn queue(mut self, length: usize, max_wait: Duration) -> Self {
        (self.queue, self.max_wait) = (length, max_wait);
        self
    }

    /// Sets the name, and registers the bulkhead with the scope, whose snapshots show it.
    pub fn named(mut self, scope: &Scope, name: impl Into<Name>) -> Self {
        self.shown = Some((scope.clone(), name.into()));
        self
    }

    /// Builds the bulkhead.
    ///
    /// # Errors
    /// [`InvalidPolicy`] if the bulkhead has no permit, or if its permits or its line exceed the limit of tokio's
    /// semaphore, `usize::MAX / 8`.
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
            // The bulkhead is new, so the cell is empty.
            let _ = bulkhead.0.shown.set(shown);
        }
        bulkhead
    }
}

/// Creates a bulkhead with 25 permits and no waiting line.
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
