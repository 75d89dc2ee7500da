use std::time::Duration;

use super::{ErrorKind, PolicyKind};

/// An event of a call through a pipeline: see [`Pipeline::on_event`](super::Pipeline::on_event).
///
/// Events are created only for a listener. No lock is held while it runs.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct PolicyEvent<'a> {
    /// The name of the pipeline.
    pub pipeline: Option<&'a str>,
    /// The number of times that the operation was called so far in this call.
    pub attempts: u32,
    /// The kind of the event.
    pub kind: PolicyEventKind,
}

/// The kind of a [`PolicyEvent`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum PolicyEventKind {
    /// The operation is called.
    AttemptStarted,
    /// An attempt ended, and another one follows after a delay.
    RetryScheduled {
        /// The delay.
        delay: Duration,
        /// How the attempt ended; `None` if it returned a value that is not acceptable.
        after: Option<ErrorKind>,
    },
    /// No attempt follows, although the last one was retryable.
    GaveUp {
        /// The reason: attempts, budget or time.
        reason: ErrorKind,
    },
    /// The timeout of the whole call expired.
    TimedOut,
    /// The timeout of an attempt expired.
    AttemptTimedOut,
    /// A policy rejected the call.
    Rejected {
        /// The policy.
        by: PolicyKind,
    },
    /// The operation is called once more while the earlier attempts still run.
    Hedged {
        /// The number of attempts that were started in addition to the first.
        extra: u32,
    },
    /// A hedge was due, but its budget is exhausted.
    HedgeWithheld,
    /// The fallback is called.
    FellBack,
}
