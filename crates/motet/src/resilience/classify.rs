use std::time::Duration;

/// Classifies the outcomes of calls: whether the dependency is healthy, and whether to try again.
///
/// All policies of a pipeline share one classification: a breaker counts the [`verdict`](Class::verdict), a retry and a
/// hedge use [`retryable`](Class::retryable). Values are classified as well as errors, because not every failure is an
/// `Err`: a response with status 503 is an `Ok`.
///
/// It is implemented by closures from `Result<&T, &E>` (the type of `Result::as_ref`) to [`Class`]. Without a
/// classification, every `Ok` is a success, and every `Err` is a failure that is worth another attempt.
///
/// # Examples
/// ```
/// use motet::resilience::{Class, Classify};
/// use std::io::{Error, ErrorKind};
///
/// let by_kind = |outcome: Result<&u16, &Error>| match outcome {
///     Ok(503) => Class::retry(),
///     Ok(_) => Class::success(),
///     Err(error) if error.kind() == ErrorKind::InvalidInput => Class::ignore(), // a mistake of the caller
///     Err(_) => Class::retry(),
/// };
/// assert!(by_kind.classify(Ok(&503)).retryable);
/// ```
pub trait Classify<T, E> {
    /// Classifies an outcome. Each policy that needs the class calls it, and the pipeline calls it once more for the
    /// error that it returns: it should be cheap and have no effects.
    fn classify(&self, outcome: Result<&T, &E>) -> Class;
}

/// The verdict of a finished call on the dependency that was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The dependency is healthy.
    Success,
    /// The dependency failed: the call counts against it.
    Failure,
    /// The call does not show whether the dependency is healthy: a mistake of the caller, for example. It neither
    /// counts as a failure nor ends a streak of failures.
    Ignore,
}

/// The classification of an outcome: see [`Classify`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class {
    /// The verdict on the dependency that was called.
    pub verdict: Verdict,
    /// Whether another attempt may end differently.
    pub retryable: bool,
    /// How long to wait before the next attempt, as the dependency asked for: by `Retry-After`, for example.
    pub retry_after: Option<Duration>,
}

impl Class {
    /// The call succeeded.
    #[must_use]
    pub const fn success() -> Self {
        Self { verdict: Verdict::Success, retryable: false, retry_after: None }
    }

    /// The call failed, and another attempt may succeed.
    #[must_use]
    pub const fn retry() -> Self {
        Self { verdict: Verdict::Failure, retryable: true, retry_after: None }
    }

    /// The call failed, and another attempt would fail as well.
    #[must_use]
    pub const fn fail() -> Self {
        Self { verdict: Verdict::Failure, retryable: false, retry_after: None }
    }

    /// The outcome does not show whether the dependency is healthy, and another attempt would end the same way.
    #[must_use]
    pub const fn ignore() -> Self {
        Self { verdict: Verdict::Ignore, retryable: false, retry_after: None }
    }

    /// Sets how long to wait before the next attempt.
    #[must_use]
    pub const fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

/// The default classification: every `Ok` is a success, and every `Err` is a failure that is worth another attempt.
#[derive(Debug, Clone, Copy, Default)]
#[allow(unnameable_types, reason = "it is the default of a pipeline")]
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
