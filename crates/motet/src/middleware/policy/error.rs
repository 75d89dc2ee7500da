use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::resilience::{self, ErrorKind, PolicyKind};

/// The error of a call that a policy ended without an answer of the inner parts: the call timed out or was rejected.
///
/// [`retry_after`](Self::retry_after) is the time after which a retry makes sense, if the policy knows it. No inner
/// part was called if [`kind`](Self::kind) is `Rejected` and [`attempts`](Self::attempts) is 0.
#[derive(Debug)]
pub struct PolicyError(pub(super) resilience::Error<()>);

impl PolicyError {
    /// The reason why the call ended.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind()
    }

    /// The reason why the last attempt ended, which differs from [`kind`](Self::kind) if a retry gave up.
    #[must_use]
    pub fn last_attempt(&self) -> ErrorKind {
        self.0.last_attempt()
    }

    /// The policy that ended the call; `None` if the inner parts failed for good.
    #[must_use]
    pub fn policy(&self) -> Option<PolicyKind> {
        self.0.policy()
    }

    /// The number of times that the inner parts were called.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.0.attempts()
    }

    /// The time from the first wait or failure of the call to its end.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// The time after which to try again, if the policy knows it.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after()
    }

    /// The name of the pipeline, if it has one.
    #[must_use]
    pub fn pipeline(&self) -> Option<&str> {
        self.0.pipeline()
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for PolicyError {}
