//! The report of an inner policy to the policies around it.
//!
//! An answer does not show which part created it: to a retry, the error that an inner breaker made of a rejection looks
//! like an error of the handler. Within one pipeline the policies know of each other; the policies of separate parts
//! use this report.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::resilience::{Error, ErrorKind};

/// The report of one attempt, which is passed inward with the attempt.
#[derive(Default)]
pub(in crate::middleware) struct AttemptOutcome(Mutex<Option<PolicyEnd>>);

/// How an inner policy ended the attempt.
#[derive(Clone, Copy)]
pub(super) struct PolicyEnd {
    pub(super) kind: ErrorKind,
    pub(super) retry_after: Option<Duration>,
}

impl AttemptOutcome {
    /// Stores how a policy saw its call end; the last report counts.
    pub(super) fn set<E>(&self, error: Option<&Error<E>>) {
        let ended = error.and_then(|error| match error.kind() {
            ErrorKind::Failed => None,
            kind => Some(PolicyEnd { kind, retry_after: error.retry_after() }),
        });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = ended;
    }

    pub(super) fn take(&self) -> Option<PolicyEnd> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
