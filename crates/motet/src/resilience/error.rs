use std::fmt;
use std::time::Duration;

use super::{PolicyKind, RejectedBy};
use crate::task::Name;

/// Why a call through a [`Pipeline`](super::Pipeline) or a [`Retry`](super::Retry) gave no value.
///
/// Flat, however many policies there are: [`kind`](Self::kind) says what ended the call, and the last error of the
/// operation is kept, whatever that was.
pub struct Error<E> {
    pub(super) failure: Failure<E>,
    pub(super) attempts: u32,
    pub(super) elapsed: Duration,
    pub(super) pipeline: Option<Name>,
}

/// What ended a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operation failed, in a way that is not to be retried, or nothing retries it.
    Failed,
    /// The last attempt that a retry may make failed too.
    AttemptsExhausted,
    /// The call may have been retried, but too many are: see [`RetryBudget`](super::RetryBudget).
    BudgetExhausted,
    /// The next attempt would have begun past the deadline.
    OutOfTime,
    /// Time was up.
    TimedOut(Limited),
    /// A policy did not let it through.
    Rejected(RejectedBy),
}

/// What a timeout limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limited {
    /// All of the call: attempts, and the waits between them.
    Total,
    /// One attempt.
    Attempt,
}

/// What the policies of a pipeline hand to each other: an [`Error`] in the making.
#[derive(Debug)]
pub struct Failure<E> {
    pub(super) kind: ErrorKind,
    /// How the last attempt ended; differs from the kind where a retry gave up.
    pub(super) last: ErrorKind,
    pub(super) source: Option<E>,
    /// Whether the source is what the last attempt gave, and not left from one before.
    pub(super) answered: bool,
    pub(super) retry_after: Option<Duration>,
}

impl<E> Failure<E> {
    pub(crate) fn of(kind: ErrorKind, source: Option<E>, retry_after: Option<Duration>) -> Self {
        Self { kind, last: kind, answered: source.is_some(), source, retry_after }
    }
}

impl<E> Error<E> {
    /// Says what ended the call.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.failure.kind
    }

    /// Says how the last attempt ended, which is another thing where a retry gave up: the operation failed, its time
    /// was up, or it was rejected.
    #[must_use]
    pub fn last_attempt(&self) -> ErrorKind {
        self.failure.last
    }

    /// Gives the last error of the operation, if it had any.
    #[must_use]
    pub fn error(&self) -> Option<&E> {
        self.failure.source.as_ref()
    }

    /// Gives the last error of the operation, if it had any.
    #[must_use]
    pub fn into_error(self) -> Option<E> {
        self.failure.source
    }

    /// Gives the error that the last attempt gave, or, if it gave none, all that is known besides.
    pub(crate) fn into_answer(self) -> Result<E, Error<()>> {
        let Self {
            failure: Failure { kind, last, source, answered, retry_after },
            attempts,
            elapsed,
            pipeline,
        } = self;
        match source {
            Some(error) if answered => Ok(error),
            _ => {
                let failure = Failure { kind, last, source: None, answered, retry_after };
                Err(Error { failure, attempts, elapsed, pipeline })
            }
        }
    }

    /// Counts how often the operation was called.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Gives the time from when the call first had to wait, or failed, to its end: what the operation took is in it.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Says which policy ended the call; `None` if the operation did.
    #[must_use]
    pub fn policy(&self) -> Option<PolicyKind> {
        match self.failure.kind {
            ErrorKind::Failed => None,
            ErrorKind::AttemptsExhausted | ErrorKind::BudgetExhausted | ErrorKind::OutOfTime => {
                Some(PolicyKind::Retry)
            }
            ErrorKind::TimedOut(_) => Some(PolicyKind::Timeout),
            ErrorKind::Rejected(by) => Some(by.into()),
        }
    }

    /// Says when to try again, where the called side or the policy knows.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.failure.retry_after
    }

    /// Gives the name of the pipeline.
    #[must_use]
    pub fn pipeline(&self) -> Option<&str> {
        self.pipeline.as_ref().map(Name::as_str)
    }
}

impl<E> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.pipeline {
            write!(f, "`{name}`: ")?;
        }
        let attempts = match self.attempts {
            1 => "1 attempt".to_owned(),
            n => format!("{n} attempts"),
        };
        match self.failure.kind {
            ErrorKind::Failed => f.write_str("the operation failed")?,
            ErrorKind::AttemptsExhausted => write!(f, "gave up after {attempts}")?,
            ErrorKind::BudgetExhausted => {
                write!(f, "gave up after {attempts}, for too many calls are retried")?
            }
            ErrorKind::OutOfTime => write!(f, "gave up after {attempts}, for there is no time for another")?,
            ErrorKind::TimedOut(Limited::Total) => write!(f, "time was up, in {attempts}")?,
            ErrorKind::TimedOut(Limited::Attempt) => f.write_str("the time of the attempt was up")?,
            ErrorKind::Rejected(by) => write!(f, "rejected by the {by}")?,
        }
        match self.failure.last {
            last if last == self.failure.kind => Ok(()),
            ErrorKind::TimedOut(_) => f.write_str("; the time of the last was up"),
            ErrorKind::Rejected(by) => write!(f, "; the last was rejected by the {by}"),
            _ => Ok(()),
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.failure.kind)
            .field("last_attempt", &self.failure.last)
            .field("error", &self.failure.source)
            .field("attempts", &self.attempts)
            .field("elapsed", &self.elapsed)
            .field("retry_after", &self.failure.retry_after)
            .field("pipeline", &self.pipeline)
            .finish()
    }
}

impl<E: std::error::Error + 'static> std::error::Error for Error<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.failure.source.as_ref().map(|source| source as _)
    }
}
