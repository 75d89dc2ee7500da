use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;

use super::adaptive_limit::{AdaptiveShared, CallSample};
use crate::mutant;
use crate::resilience::Verdict;
use crate::resilience::policy_handle::PolicyHandle;

/// A permit of an [`AdaptiveLimit`](super::AdaptiveLimit) for one call, with which its outcome is recorded.
///
/// # Drop
/// The permit is free. A call without a recorded outcome does not count: the duration of a dropped call shows the
/// patience of its caller only.
#[must_use = "a permit that is dropped is free again"]
pub struct LimitPermit<'a> {
    limit: PolicyHandle<'a, AdaptiveShared>,
    begun: Instant,
    /// The number of calls in flight when this call began, itself included.
    in_flight: usize,
}

impl<'a> LimitPermit<'a> {
    pub(super) fn new(shared: &'a Arc<AdaptiveShared>, begun: Instant, in_flight: usize) -> Self {
        Self { limit: PolicyHandle::Borrowed(shared), begun, in_flight }
    }

    /// Returns the permit, and records a success with its duration.
    pub fn success(self) {
        self.record(Verdict::Success);
    }

    /// Returns the permit, and records a failure because of too much load: the dependency rejected the call, or took
    /// too long.
    ///
    /// If at least one call in ten of a window fails, the limit is lowered.
    pub fn failure(self) {
        self.record(Verdict::Failure);
    }

    /// Returns the permit, without counting the call.
    pub fn ignore(self) {
        self.record(Verdict::Ignore);
    }

    /// Returns the permit, and records the verdict. Record a failure only if it was caused by too much load.
    pub fn record(mut self, verdict: Verdict) {
        let sample = match verdict {
            Verdict::Ignore => None,
            Verdict::Success | Verdict::Failure => {
                let now = Instant::now();
                let took = now.saturating_duration_since(self.begun);
                let failed = verdict == Verdict::Failure;
                Some((if failed { CallSample::Failure } else { CallSample::Success { took } }, now))
            }
        };
        self.leave(sample);
    }

    /// Turns the permit into one that does not borrow the handle, for a call that outlives it. The permit counts as
    /// another handle.
    pub fn into_owned(mut self) -> LimitPermit<'static> {
        LimitPermit { limit: self.limit.take_owned(), begun: self.begun, in_flight: self.in_flight }
    }

    fn leave(&mut self, sample: Option<(CallSample, Instant)>) {
        if let Some(shared) = self.limit.take().get() {
            shared.leave(sample, self.in_flight);
        }
    }
}

impl Drop for LimitPermit<'_> {
    fn drop(&mut self) {
        if mutant!("limit.leak") {
            return;
        }
        self.leave(None);
    }
}

impl fmt::Debug for LimitPermit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitPermit").finish_non_exhaustive()
    }
}
