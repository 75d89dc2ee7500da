use std::time::Duration;

use super::{ErrorKind, Limited, RejectedBy};

/// An event of a call through a pipeline: see [`Pipeline::on_event`](super::Pipeline::on_event).
///
/// Events are created only for a listener. No lock is held while it runs.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Event<'a> {
    /// The name of the pipeline.
    pub pipeline: Option<&'a str>,
    /// The number of times that the operation was called so far in this call.
    pub attempts: u32,
    /// The kind of the event.
    pub what: EventKind,
}

/// The kind of an [`Event`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum EventKind {
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
    /// A timeout expired.
    TimedOut {
        /// The part of the call that the timeout limits.
        limited: Limited,
    },
    /// A policy rejected the call.
    Rejected {
        /// The policy.
        by: RejectedBy,
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
