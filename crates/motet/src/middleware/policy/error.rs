use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::resilience::{self, ErrorKind, PolicyKind};

/// A policy ended a call, and there is no answer from inside: time was up, or the call was not let through.
///
/// # Errors
/// Whether to try again, [`retry_after`](Self::retry_after) says where it is known. Nothing inside was called if the
/// [`kind`](Self::kind) is `Rejected`, and [`attempts`](Self::attempts) is 0.
#[derive(Debug)]
pub struct PolicyError(pub(super) resilience::Error<()>);

impl PolicyError {
    /// Says what ended the call.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind()
    }

    /// Says how the last attempt ended, which is another thing where a retry gave up.
    #[must_use]
    pub fn last_attempt(&self) -> ErrorKind {
        self.0.last_attempt()
    }

    /// Says which policy ended the call.
    #[must_use]
    pub fn policy(&self) -> Option<PolicyKind> {
        self.0.policy()
    }

    /// Counts how often what is inside was run.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.0.attempts()
    }

    /// Gives the time from when the call first had to wait, or failed, to its end.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Says when to try again, where the policy knows.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after()
    }

    /// Gives the name of the policies, if they were given one.
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
