use std::time::Duration;

use super::{ErrorKind, Limited, RejectedBy};

/// What happens in a pipeline: see [`Pipeline::on_event`](super::Pipeline::on_event).
///
/// Made only where somebody listens; no lock is held meanwhile.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Event<'a> {
    /// The name of the pipeline.
    pub pipeline: Option<&'a str>,
    /// How often the operation was called so far in this call.
    pub attempts: u32,
    /// What it is.
    pub what: EventKind,
}

/// What an [`Event`] tells.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum EventKind {
    /// The operation is called.
    AttemptStarted,
    /// An attempt ended so, and another is made after a wait.
    RetryScheduled {
        /// The wait.
        delay: Duration,
        /// How it ended; `None`: with a value that is not acceptable.
        after: Option<ErrorKind>,
    },
    /// No attempt follows, though the last one may have been retried.
    GaveUp {
        /// The reason: attempts, budget or time.
        reason: ErrorKind,
    },
    /// Time was up.
    TimedOut {
        /// What was limited.
        limited: Limited,
    },
    /// A policy did not let the call through.
    Rejected {
        /// The policy.
        by: RejectedBy,
    },
    /// The operation is called once more, beside the attempts under way.
    Hedged {
        /// How many are beside the first now.
        extra: u32,
    },
    /// A hedge was due, but its budget is used up.
    HedgeWithheld,
    /// The fallback is asked.
    FellBack,
}
