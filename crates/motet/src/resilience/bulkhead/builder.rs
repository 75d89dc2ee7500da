use std::fmt;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::Bulkhead;
use crate::resilience::PolicyConfigError;
use crate::resilience::line::PermitLine;
use crate::resilience::register::{RegisterWith, register};
use crate::task::{Name, Scope};

/// A builder of a [`Bulkhead`].
///
/// # Defaults
/// No waiting line: a caller that finds no permit is rejected, as in Resilience4j. The default bulkhead has 25 permits.
#[derive(Clone)]
#[must_use = "nothing is limited until the bulkhead is built"]
pub struct BulkheadBuilder {
    limit: usize,
    max_waiting: usize,
    max_wait: Duration,
    name: Option<Name>,
}

impl BulkheadBuilder {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, max_waiting: 0, max_wait: Duration::ZERO, name: None }
    }

    /// Sets how many callers may wait for a permit, and for how long. With `max_wait` zero no caller waits,
    /// [`Duration::MAX`] waits without a limit.
    pub fn queue(mut self, max_waiting: usize, max_wait: Duration) -> Self {
        (self.max_waiting, self.max_wait) = (max_waiting, max_wait);
        self
    }

    /// Sets the name, for snapshots and errors.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Builds the bulkhead. If it has a name, the snapshots of the scope of the running task show it.
    ///
    /// # Errors
    /// [`PolicyConfigError`] if the limit is zero, or if the limit or the line exceeds the maximum of tokio's
    /// semaphore, `usize::MAX / 8`.
    pub fn build(self) -> Result<Bulkhead, PolicyConfigError> {
        self.check()?;
        Ok(self.checked(RegisterWith::AmbientScope))
    }

    /// Builds the bulkhead. If it has a name, the snapshots of `scope` show it.
    ///
    /// # Errors
    /// [`PolicyConfigError`], as for [`build`](Self::build).
    pub fn build_in(self, scope: &Scope) -> Result<Bulkhead, PolicyConfigError> {
        self.check()?;
        Ok(self.checked(RegisterWith::Scope(scope)))
    }

    fn check(&self) -> Result<(), PolicyConfigError> {
        let fits = (1..=Semaphore::MAX_PERMITS).contains(&self.limit);
        PolicyConfigError::unless(fits, "limit", self.limit, "from 1 to `usize::MAX / 8`")?;
        let fits = self.max_waiting <= Semaphore::MAX_PERMITS;
        PolicyConfigError::unless(fits, "queue", self.max_waiting, "at most `usize::MAX / 8`")
    }

    fn checked(self, with: RegisterWith<'_>) -> Bulkhead {
        let line = PermitLine::new(self.limit, self.max_waiting, self.max_wait);
        let bulkhead = Bulkhead::new(self.limit, line, self.name.clone());
        let stats = |shared| Bulkhead(shared).stats().shown();
        if let Some(registration) = register(with, "bulkhead", self.name, &bulkhead.0, stats) {
            // The bulkhead is new, so the cell is empty.
            let _ = bulkhead.0.registration.set(registration);
        }
        bulkhead
    }
}

/// Creates a bulkhead with 25 permits and no waiting line.
impl Default for Bulkhead {
    fn default() -> Self {
        BulkheadBuilder::new(25).checked(RegisterWith::AmbientScope)
    }
}

impl fmt::Debug for BulkheadBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, max_waiting, max_wait, .. } = self;
        f.debug_struct("BulkheadBuilder")
            .field("limit", limit)
            .field("max_waiting", max_waiting)
            .field("max_wait", max_wait)
            .finish_non_exhaustive()
    }
}
