use std::fmt;
use std::time::Duration;

use super::rejected::{write_hint, write_policy};
use super::{PolicyKind, RejectedError};
use crate::task::Name;

/// The error of a call through a [`Pipeline`](super::Pipeline) or a [`Retry`](super::Retry).
///
/// It is flat, for any number of policies: [`kind`](Self::kind) is the reason why the call ended, and the last error of
/// the operation is kept, whatever ended the call.
pub struct Error<E> {
    pub(super) failure: Failure<E>,
    pub(super) attempts: u32,
    pub(super) elapsed: Duration,
    pub(super) pipeline: Option<Name>,
}

/// The reason why a call ended without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operation failed. The failure was not retryable, or no policy retries.
    Failed,
    /// The last attempt that the retry allows failed as well.
    AttemptsExhausted,
    /// The failure was retryable, but too many calls are being retried: see [`RetryBudget`](super::RetryBudget).
    BudgetExhausted,
    /// The next attempt would have begun past the deadline.
    OutOfTime,
    /// The timeout of the whole call expired: attempts, and the delays between them.
    TimedOut,
    /// The timeout of a single attempt expired.
    AttemptTimedOut,
    /// A policy rejected the call.
    Rejected(PolicyKind),
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed => f.write_str("the operation failed"),
            Self::AttemptsExhausted => f.write_str("all attempts failed"),
            Self::BudgetExhausted => f.write_str("the retry budget is exhausted"),
            Self::OutOfTime => f.write_str("the next attempt would begin past the deadline"),
            Self::TimedOut => f.write_str("timed out"),
            Self::AttemptTimedOut => f.write_str("the attempt timed out"),
            Self::Rejected(by) => write!(f, "rejected by the {by}"),
        }
    }
}

/// An [`Error`] in the making, as the policies of a pipeline pass it on.
#[derive(Debug)]
#[allow(unnameable_types, reason = "it passes between policies, and users never see it")]
pub struct Failure<E> {
    pub(super) kind: ErrorKind,
    /// How the last attempt ended; differs from `kind` if a retry gave up.
    pub(super) last: ErrorKind,
    pub(super) source: Option<E>,
    /// Whether `source` comes from the last attempt, and not from an earlier one.
    pub(super) answered: bool,
    pub(super) retry_after: Option<Duration>,
    /// The name of the policy that rejected the call, or its last attempt.
    pub(super) rejected_by: Option<Name>,
}

impl<E> Failure<E> {
    pub(crate) fn of(kind: ErrorKind, source: Option<E>, retry_after: Option<Duration>) -> Self {
        Self { kind, last: kind, answered: source.is_some(), source, retry_after, rejected_by: None }
    }

    pub(super) fn rejected(rejected: RejectedError) -> Self {
        let (by, name, retry_after) = rejected.into_parts();
        Self { rejected_by: name, ..Self::of(ErrorKind::Rejected(by), None, retry_after) }
    }
}

impl<E> Error<E> {
    /// The reason why the call ended.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.failure.kind
    }

    /// How the last attempt ended. It differs from [`kind`](Self::kind) if a retry gave up: the operation failed, the
    /// attempt timed out, or it was rejected.
    #[must_use]
    pub fn last_attempt(&self) -> ErrorKind {
        self.failure.last
    }

    /// The last error of the operation, if it failed at least once.
    #[must_use]
    pub fn error(&self) -> Option<&E> {
        self.failure.source.as_ref()
    }

    /// Returns the last error of the operation, if it failed at least once.
    #[must_use]
    pub fn into_error(self) -> Option<E> {
        self.failure.source
    }

    /// Returns the error of the last attempt, or, if that attempt ended without one, everything else that is known.
    pub(crate) fn into_answer(self) -> Result<E, Error<()>> {
        let Self {
            failure: Failure { kind, last, source, answered, retry_after, rejected_by },
            attempts,
            elapsed,
            pipeline,
        } = self;
        match source {
            Some(error) if answered => Ok(error),
            _ => {
                let failure = Failure { kind, last, source: None, answered, retry_after, rejected_by };
                Err(Error { failure, attempts, elapsed, pipeline })
            }
        }
    }

    /// The number of times that the operation was called.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The time from the moment at which the call first had to wait, or failed, to its end. It includes the time of the
    /// operation.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// The policy that ended the call; `None` if the operation did.
    #[must_use]
    pub fn policy(&self) -> Option<PolicyKind> {
        match self.failure.kind {
            ErrorKind::Failed => None,
            ErrorKind::AttemptsExhausted | ErrorKind::BudgetExhausted | ErrorKind::OutOfTime => {
                Some(PolicyKind::Retry)
            }
            ErrorKind::TimedOut | ErrorKind::AttemptTimedOut => Some(PolicyKind::Timeout),
            ErrorKind::Rejected(by) => Some(by),
        }
    }

    /// The name of the policy that rejected the call or its last attempt, if it has one.
    #[must_use]
    pub fn rejected_by(&self) -> Option<&str> {
        self.failure.rejected_by.as_ref().map(Name::as_str)
    }

    /// How long to wait before the next call, if the dependency or the policy knows.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.failure.retry_after
    }

    /// The name of the pipeline.
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
                write!(f, "gave up after {attempts}: the retry budget is exhausted")?
            }
            ErrorKind::OutOfTime => {
                write!(f, "gave up after {attempts}: the next attempt would begin past the deadline")?
            }
            ErrorKind::TimedOut => write!(f, "timed out after {attempts}")?,
            ErrorKind::AttemptTimedOut => f.write_str("the attempt timed out")?,
            ErrorKind::Rejected(by) => {
                f.write_str("rejected by the ")?;
                write_policy(f, by, self.failure.rejected_by.as_ref())?;
                write_hint(f, self.failure.retry_after)?;
            }
        }
        match self.failure.last {
            last if last == self.failure.kind => Ok(()),
            ErrorKind::TimedOut | ErrorKind::AttemptTimedOut => f.write_str("; the last attempt timed out"),
            ErrorKind::Rejected(by) => {
                f.write_str("; the last attempt was rejected by the ")?;
                write_policy(f, by, self.failure.rejected_by.as_ref())
            }
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
