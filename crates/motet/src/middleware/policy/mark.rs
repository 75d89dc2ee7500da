//! What policies further inside tell those further outside.
//!
//! An answer says nothing of who gave it: to a retry, the error that a breaker inside made of a rejection looks like one
//! of the handler. Within one pipeline they know of each other; as parts of a chain they have this.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::resilience::{Error, ErrorKind};

/// Belongs to one attempt; is handed inward with it.
#[derive(Default)]
pub(in crate::middleware) struct Mark(Mutex<Option<Ended>>);

/// A policy inside ended the attempt.
#[derive(Clone, Copy)]
pub(super) struct Ended {
    pub(super) kind: ErrorKind,
    pub(super) retry_after: Option<Duration>,
}

impl Mark {
    /// How a policy inside saw its call end; the latest counts.
    pub(super) fn set<E>(&self, error: Option<&Error<E>>) {
        let ended = error.and_then(|error| match error.kind() {
            ErrorKind::Failed => None,
            kind => Some(Ended { kind, retry_after: error.retry_after() }),
        });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = ended;
    }

    pub(super) fn take(&self) -> Option<Ended> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
