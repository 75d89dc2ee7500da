use std::error::Error;
use std::fmt;
use std::time::Duration;

use super::PolicyKind;

/// The error of a call that a policy rejected: the operation was not called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RejectedError {
    by: PolicyKind,
    retry_after: Option<Duration>,
}

impl RejectedError {
    pub(crate) fn new(by: PolicyKind, retry_after: Option<Duration>) -> Self {
        Self { by, retry_after }
    }

    /// The policy that rejected the call.
    #[must_use]
    pub fn by(&self) -> PolicyKind {
        self.by
    }

    /// How long to wait until a call may pass again, if the policy knows.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for RejectedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rejected by the {}", self.by)?;
        match self.retry_after {
            Some(after) => write!(f, "; try again in {after:?}"),
            None => Ok(()),
        }
    }
}

impl Error for RejectedError {}
