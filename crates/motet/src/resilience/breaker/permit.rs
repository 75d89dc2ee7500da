use std::{fmt, thread};

use tokio::time::Instant;

use super::CircuitBreaker;
use super::builder::DroppedCalls;
use super::counts::EndedCall;
use super::machine::AdmittedCall;
use super::shared::BreakerShared;
use crate::mutant;
use crate::resilience::Verdict;
use crate::resilience::policy_handle::PolicyHandle;

/// The permit of a call that a [`CircuitBreaker`] admitted, with which its outcome is recorded.
///
/// The outcome counts for the state in which the call was admitted. If the breaker has changed its state since, the
/// outcome does not count: an old success does not close the breaker, and an old failure does not open it.
///
/// # Drop
/// The call was dropped, and counts as [the builder](super::CircuitBreakerBuilder::fail_dropped_calls_after) sets; a
/// call that is dropped by a panic counts as failed. The lease of a probe is free again.
#[must_use = "a call without a recorded outcome counts as dropped"]
pub struct BreakerPermit<'a> {
    breaker: PolicyHandle<'a, BreakerShared>,
    call: AdmittedCall,
    /// When the duration of the call began to count; `None` if the duration does not count, and before the call first
    /// waits.
    begun: Option<Instant>,
}

impl<'a> BreakerPermit<'a> {
    #[inline]
    pub(super) fn new(breaker: &'a CircuitBreaker, call: AdmittedCall, begun: Option<Instant>) -> Self {
        Self { breaker: PolicyHandle::Borrowed(&breaker.0), call, begun }
    }

    /// Records a success.
    #[inline]
    pub fn success(self) {
        self.record(Verdict::Success);
    }

    /// Records a failure.
    pub fn failure(self) {
        self.record(Verdict::Failure);
    }

    /// Records that the outcome does not show whether the dependency is healthy.
    pub fn ignore(self) {
        self.record(Verdict::Ignore);
    }

    /// Records the verdict.
    #[inline]
    pub fn record(mut self, verdict: Verdict) {
        if let PolicyHandle::Borrowed(shared) = self.breaker
            && verdict == Verdict::Success
            && shared.slow_call.is_none()
            && shared.succeeds(self.call)
        {
            self.breaker = PolicyHandle::Released;
            return;
        }
        self.record_by_machine(verdict);
    }

    #[inline(never)]
    fn record_by_machine(&mut self, verdict: Verdict) {
        let breaker = self.breaker.take();
        let Some(shared) = breaker.get() else { return };
        // The clock is read once, and not at all if the duration of calls does not count.
        let now = match shared.slow_call {
            Some(_) if verdict != Verdict::Ignore => Some(Instant::now()),
            _ => None,
        };
        let slow = now.is_some_and(|now| self.is_slow(shared, now));
        let ended = match verdict {
            Verdict::Success => Some(EndedCall { failed: false, slow }),
            Verdict::Failure => Some(EndedCall { failed: true, slow }),
            Verdict::Ignore => None,
        };
        shared.record(self.call, ended, now);
    }

    /// Notes that the call waits: its duration counts from now on, unless it counted from the start.
    #[inline]
    pub(crate) fn waits(&mut self) {
        if self.begun.is_none()
            && let Some(shared) = self.breaker.get()
            && matches!(shared.dropped_calls, DroppedCalls::FailedAfter(_))
        {
            self.begun = Some(Instant::now());
        }
    }

    /// Turns the permit into one that does not borrow the handle, for a call that outlives it: the body of a response,
    /// for example.
    ///
    /// The permit counts as another handle of the breaker.
    pub fn into_owned(mut self) -> BreakerPermit<'static> {
        BreakerPermit { breaker: self.breaker.take_owned(), call: self.call, begun: self.begun }
    }

    fn is_slow(&self, shared: &BreakerShared, now: Instant) -> bool {
        let took = self.begun.map(|begun| now.saturating_duration_since(begun));
        shared.slow_call.zip(took).is_some_and(|(slow, took)| took >= slow)
    }

    /// Returns how the call counts if it is dropped now.
    fn cancelled(&self, shared: &BreakerShared) -> (Option<EndedCall>, Option<Instant>) {
        let is_failure = match shared.dropped_calls {
            _ if thread::panicking() => true,
            DroppedCalls::Ignored => false,
            DroppedCalls::Failed => true,
            DroppedCalls::FailedAfter(limit) => {
                let now = Instant::now();
                let took = self.begun.map(|begun| now.saturating_duration_since(begun));
                let hung = took.is_some_and(|took| took >= limit);
                if mutant!("breaker.forget_hung") {
                    return (None, Some(now));
                }
                return (hung.then_some(EndedCall { failed: true, slow: true }), Some(now));
            }
        };
        if !is_failure {
            return (None, None);
        }
        let now = Instant::now();
        (Some(EndedCall { failed: true, slow: self.is_slow(shared, now) }), Some(now))
    }
}

impl Drop for BreakerPermit<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(shared) = self.breaker.get() {
            let (ended, now) = self.cancelled(shared);
            shared.record(self.call, ended, now);
        }
    }
}

impl fmt::Debug for BreakerPermit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerPermit").field("is_probe", &self.call.probe.is_some()).finish_non_exhaustive()
    }
}
