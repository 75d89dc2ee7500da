use std::time::Duration;

use super::Verdict;

/// Judges what a call gave: what it says of what was called, and whether to try again.
///
/// One judgement serves every policy of a pipeline: a breaker counts the [`verdict`](Class::verdict), a retry and a
/// hedge ask whether it is [`retryable`](Class::retryable). It sees values too, for not everything that failed is an
/// `Err`: a response with status 503 is none.
///
/// Implemented by closures from `Result<&T, &E>` (what `Result::as_ref` gives) to [`Class`], and by
/// [`ErrorsAreRetryable`], the default.
///
/// # Examples
/// ```
/// use motet::resilience::{Class, Classify};
/// use std::io::{Error, ErrorKind};
///
/// let by_kind = |outcome: Result<&u16, &Error>| match outcome {
///     Ok(503) => Class::retry(),
///     Ok(_) => Class::success(),
///     Err(error) if error.kind() == ErrorKind::InvalidInput => Class::ignore(), // our own mistake
///     Err(_) => Class::retry(),
/// };
/// assert!(by_kind.classify(Ok(&503)).retryable);
/// ```
pub trait Classify<T, E> {
    /// Judges an outcome. Called by each policy that asks, and for the error that is given; so it should be cheap, and do
    /// nothing else.
    fn classify(&self, outcome: Result<&T, &E>) -> Class;
}

/// A judgement of one outcome: see [`Classify`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class {
    /// What it says of what was called.
    pub verdict: Verdict,
    /// Whether the same call may end otherwise when it is made again.
    pub retryable: bool,
    /// When to try again, as the called side has it: `Retry-After`, say.
    pub retry_after: Option<Duration>,
}

impl Class {
    /// All is well.
    #[must_use]
    pub const fn success() -> Self {
        Self { verdict: Verdict::Success, retryable: false, retry_after: None }
    }

    /// It failed, and may not fail again.
    #[must_use]
    pub const fn retry() -> Self {
        Self { verdict: Verdict::Failure, retryable: true, retry_after: None }
    }

    /// It failed, and would again.
    #[must_use]
    pub const fn fail() -> Self {
        Self { verdict: Verdict::Failure, retryable: false, retry_after: None }
    }

    /// It says nothing of what was called, and would go the same way again.
    #[must_use]
    pub const fn ignore() -> Self {
        Self { verdict: Verdict::Ignore, retryable: false, retry_after: None }
    }

    /// Says when to try again.
    #[must_use]
    pub const fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

/// Takes every `Ok` for a success, and every `Err` for a failure that may not come again.
#[derive(Debug, Clone, Copy, Default)]
pub struct ErrorsAreRetryable;

impl<T, E> Classify<T, E> for ErrorsAreRetryable {
    #[inline]
    fn classify(&self, outcome: Result<&T, &E>) -> Class {
        match outcome {
            Ok(_) => Class::success(),
            Err(_) => Class::retry(),
        }
    }
}

impl<T, E, F> Classify<T, E> for F
where
    F: Fn(Result<&T, &E>) -> Class,
{
    #[inline]
    fn classify(&self, outcome: Result<&T, &E>) -> Class {
        self(outcome)
    }
}
