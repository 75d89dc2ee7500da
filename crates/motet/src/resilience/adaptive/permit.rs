use std::sync::Arc;
use std::{fmt, mem};

use tokio::time::Instant;

use super::adaptive_limit::{Sample, Shared};
use crate::mutant;
use crate::resilience::Verdict;

/// A place below an [`AdaptiveLimit`](super::AdaptiveLimit), for one call that is to tell how it went.
///
/// # Drop
/// The place is free. A call that does not tell how it went says nothing of the limit: one that was cancelled
/// has taken as long as its caller was patient.
#[must_use = "the place is free when the permit is dropped"]
pub struct LimitPermit<'a> {
    limit: Held<'a>,
    begun: Instant,
    /// How many there were, this one included, when it began.
    in_flight: usize,
}

enum Held<'a> {
    Borrowed(&'a Arc<Shared>),
    Owned(Arc<Shared>),
    Done,
}

impl<'a> LimitPermit<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>, begun: Instant, in_flight: usize) -> Self {
        Self { limit: Held::Borrowed(shared), begun, in_flight }
    }

    /// Gives the place back; the call took as long as it should say.
    pub fn success(self) {
        self.record(Verdict::Success);
    }

    /// Gives the place back; the call failed of too much load: it was refused for that, or took too long.
    ///
    /// One in ten of a window lowers the limit.
    pub fn failure(self) {
        self.record(Verdict::Failure);
    }

    /// Gives the place back; how long the call took says nothing.
    pub fn ignore(self) {
        self.record(Verdict::Ignore);
    }

    /// Gives the place back, and tells how the call went. Only a failure of too much load is one to tell.
    pub fn record(mut self, verdict: Verdict) {
        let sample = match verdict {
            Verdict::Ignore => None,
            Verdict::Success | Verdict::Failure => {
                let now = Instant::now();
                let took = now.saturating_duration_since(self.begun);
                let failed = verdict == Verdict::Failure;
                Some((if failed { Sample::Failure } else { Sample::Success { took } }, now))
            }
        };
        self.leave(sample);
    }

    /// Makes a permit that borrows nothing, for a call that outlives the handle. It counts one more handle.
    pub fn into_owned(mut self) -> LimitPermit<'static> {
        let limit = match mem::replace(&mut self.limit, Held::Done) {
            Held::Borrowed(shared) => Held::Owned(Arc::clone(shared)),
            Held::Owned(shared) => Held::Owned(shared),
            Held::Done => Held::Done,
        };
        LimitPermit { limit, begun: self.begun, in_flight: self.in_flight }
    }

    fn leave(&mut self, sample: Option<(Sample, Instant)>) {
        match mem::replace(&mut self.limit, Held::Done) {
            Held::Borrowed(shared) => shared.leave(sample, self.in_flight),
            Held::Owned(shared) => shared.leave(sample, self.in_flight),
            Held::Done => {}
        }
    }
}

impl Drop for LimitPermit<'_> {
    fn drop(&mut self) {
        if !mutant!("limit.leak") {
            self.leave(None);
        }
    }
}

impl fmt::Debug for LimitPermit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitPermit").finish_non_exhaustive()
    }
}
