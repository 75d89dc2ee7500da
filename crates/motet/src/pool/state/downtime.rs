use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::ConnectError;
use crate::{Backoff, rng};

/// A downtime of the backend: from a failed connect until the next successful one.
pub(super) struct Downtime<E> {
    /// The number of failed connects in a row.
    failures: u32,
    /// The connects that were in progress at the first failure: their failures do not count towards the
    /// back-off.
    stragglers: usize,
    cause: Arc<ConnectError<E>>,
    retry_at: Instant,
}

impl<E> Downtime<E> {
    /// Creates the downtime from the previous one. Also returns the cause that is not needed any more.
    pub(super) fn after(
        former: Option<Self>,
        cause: Arc<ConnectError<E>>,
        in_progress: usize,
        backoff: &Backoff,
        now: Instant,
    ) -> (Self, Option<Arc<ConnectError<E>>>) {
        let (failures, stragglers, retry_at, garbage) = match former {
            None => (1, in_progress, None, None),
            Some(Self { failures, stragglers, cause, retry_at }) if stragglers > 0 => {
                (failures, stragglers - 1, Some(retry_at), Some(cause))
            }
            Some(Self { failures, cause, .. }) => (failures.saturating_add(1), 0, None, Some(cause)),
        };
        let after_a_while = || {
            let delay = rng::with(|rng| backoff.delay(failures - 1, rng));
            // Beyond the range of the clock: never, for practical purposes.
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

    /// Returns `true` if the back-off has passed. The caller starts one connect at a time.
    pub(super) fn may_try(&self, now: Instant) -> bool {
        now >= self.retry_at
    }
}
