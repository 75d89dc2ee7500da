use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::ConnectError;
use crate::{Backoff, rng};

/// The backend cannot be reached: since the last connect failed, until one succeeds.
pub(super) struct Downtime<E> {
    /// Attempts that failed in a row.
    failures: u32,
    /// Attempts under way when the first failed: they tell nothing new.
    stragglers: usize,
    cause: Arc<ConnectError<E>>,
    retry_at: Instant,
}

impl<E> Downtime<E> {
    /// Makes it out of the former one; gives the cause that is not needed any more, too.
    pub(super) fn after(
        former: Option<Self>,
        cause: Arc<ConnectError<E>>,
        under_way: usize,
        backoff: &Backoff,
        now: Instant,
    ) -> (Self, Option<Arc<ConnectError<E>>>) {
        let (failures, stragglers, retry_at, garbage) = match former {
            None => (1, under_way, None, None),
            Some(Self { failures, stragglers, cause, retry_at }) if stragglers > 0 => {
                (failures, stragglers - 1, Some(retry_at), Some(cause))
            }
            Some(Self { failures, cause, .. }) => (failures.saturating_add(1), 0, None, Some(cause)),
        };
        let after_a_while = || {
            let delay = rng::with(|rng| backoff.delay(failures - 1, rng));
            // Beyond what the clock can tell: never, as far as anybody will know.
            now.checked_add(delay).unwrap_or_else(|| now + Duration::from_secs(86_400 * 365 * 30))
        };
        let retry_at = retry_at.unwrap_or_else(after_a_while);
        (Self { failures, stragglers, cause, retry_at }, garbage)
    }

    pub(super) fn cause(&self) -> Arc<ConnectError<E>> {
        Arc::clone(&self.cause)
    }

    pub(super) fn into_cause(self) -> Arc<ConnectError<E>> {
        self.cause
    }

    pub(super) fn retry_at(&self) -> Instant {
        self.retry_at
    }

    /// Whether it is time for an attempt; one at a time.
    pub(super) fn may_try(&self, now: Instant) -> bool {
        now >= self.retry_at
    }
}
