//! Retries.

mod machine;

use std::time::Duration;

use tokio::time::Instant;

use super::budget::{Charge, RetryBudget};
use super::classify::ErrorsAreRetryable;
use super::pipeline::direct::{Plain, WithAttempt};
use super::pipeline::{End, Hooks, Layer, Run, with_state};
use super::{Attempt, Error, ErrorKind, PolicyConfigError};
use crate::sim;
use crate::{Backoff, mutant, rng};

use machine::Retrying;

/// Calls an operation again when it fails, after a delay, up to a number of attempts, and within a budget.
///
/// A [`Classify`](super::Classify) decides which outcomes are worth another attempt; used alone, a retry repeats the
/// call after every error. A `Classify` may also ask to retry a value, such as a response with status 503; when the retry
/// gives up, it returns that value. Otherwise it returns an error that contains the last error of the operation.
///
/// It is a handle: clones share the budget. A retry takes no lock and spawns no task, and its values and errors need no
/// bounds.
///
/// # When to use
/// Use it for operations that can be repeated without harm: alone, or in a [`Pipeline`](super::Pipeline) with other
/// policies.
///
/// # Defaults
/// | Setting | Default | Reason |
/// |---|---|---|
/// | attempts | 3 | as in the AWS SDKs and most libraries |
/// | delays | 100 ms, doubling up to 20 s, with full jitter | [`Backoff::default`] |
/// | budget | 20 % of the calls, and 10 a second | [`RetryBudget::default`] |
/// | hints of the dependency | followed for up to 5 s longer than the delay | the rule of the AWS SDKs |
/// | rejections | not retried | an open breaker would reject the next attempt as well |
/// | timeouts | none | the caller knows the time it has |
///
/// # Examples
/// ```
/// use motet::resilience::{ErrorKind, Retry};
/// use std::cell::Cell;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let retry = Retry::new().attempts(4)?;
/// let calls = Cell::new(0);
/// let flaky = async || {
///     calls.set(calls.get() + 1);
///     if calls.get() < 3 { Err("busy") } else { Ok(calls.get()) }
/// };
/// assert_eq!(retry.run(flaky).await.unwrap(), 3);
///
/// let error = retry.run(async || Err::<(), _>("down")).await.unwrap_err();
/// assert_eq!((error.kind(), error.attempts()), (ErrorKind::AttemptsExhausted, 4));
/// assert_eq!(error.into_error(), Some("down"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Retry {
    pub(super) attempts: u32,
    pub(super) backoff: Backoff,
    pub(crate) budget: Option<RetryBudget>,
    pub(super) max_extension: Duration,
    pub(super) timeout: Option<Duration>,
    pub(super) attempt_timeout: Option<Duration>,
    pub(super) cut_off: Option<Instant>,
    pub(super) rejected: bool,
}

impl Retry {
    /// Creates a retry with the defaults, and a budget of its own.
    #[must_use]
    pub fn new() -> Self {
        Self {
            attempts: 3,
            backoff: Backoff::default(),
            budget: Some(RetryBudget::default()),
            max_extension: Duration::from_secs(5),
            timeout: None,
            attempt_timeout: None,
            cut_off: None,
            rejected: false,
        }
    }

    /// Sets the maximum number of attempts, including the first.
    ///
    /// # Errors
    /// [`PolicyConfigError`] if `attempts` is zero.
    pub fn attempts(mut self, attempts: u32) -> Result<Self, PolicyConfigError> {
        PolicyConfigError::unless(attempts > 0, "attempts", attempts, "at least 1")?;
        self.attempts = attempts;
        Ok(self)
    }

    /// Sets the delays between attempts.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets the budget that pays for the attempts after the first.
    #[must_use]
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Removes the budget: for work that overloads no other client, as in a test, or in a batch at night.
    #[must_use]
    pub fn without_budget(mut self) -> Self {
        self.budget = None;
        self
    }

    /// Sets how much longer than the back-off a delay may be when the dependency asks for it, as with `Retry-After`.
    ///
    /// Such a hint never shortens a delay, and never adds an attempt. Zero follows no hint, [`Duration::MAX`] each.
    #[must_use]
    pub fn follow_hints_for(mut self, longer: Duration) -> Self {
        self.max_extension = longer;
        self
    }

    /// Limits the time of all attempts together, including the delays between them.
    ///
    /// It cuts off the attempt in flight; with zero, as soon as an attempt waits. [`Duration::MAX`] is no limit. A
    /// delay that would end past it does not begin: the call ends at once with [`ErrorKind::OutOfTime`].
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Limits the time as [`timeout`](Self::timeout) does, but by an instant, and without a timer for attempts: an
    /// attempt is cut off when it is polled after `deadline`.
    ///
    /// # When to use
    /// Use it where each attempt has a timer for the same deadline already, so that a second timer would only cost. An
    /// attempt that is not woken at `deadline` goes on until it is woken.
    ///
    /// # Examples
    /// ```
    /// use motet::resilience::{ErrorKind, Retry};
    /// use std::time::Duration;
    /// use tokio::time::{Instant, sleep_until};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let deadline = Instant::now() + Duration::from_secs(3);
    /// let hung = async || {
    ///     sleep_until(deadline).await;
    ///     std::future::pending::<Result<(), &str>>().await
    /// };
    /// let error = Retry::new().deadline(deadline).run(hung).await.unwrap_err();
    /// assert_eq!((error.kind(), Instant::now()), (ErrorKind::TimedOut, deadline));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.cut_off = Some(deadline);
        self
    }

    /// Limits the time of each attempt; an attempt that is cut off is retried. Zero cuts off every attempt that waits,
    /// [`Duration::MAX`] none.
    #[must_use]
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = Some(timeout);
        self
    }

    /// Also retries rejections of an inner breaker, bulkhead or limit, after the time that the rejection asks for.
    #[must_use]
    pub fn retry_rejected(mut self) -> Self {
        self.rejected = true;
        self
    }

    /// Calls the operation until it succeeds, or no attempt is left.
    ///
    /// An operation may be called several times: `docs/guide/when-the-compiler-says.md` has what to do if it is not `FnMut`, or if
    /// its future is not `Send`.
    ///
    /// # Cancel safety
    /// The attempt in flight is dropped. If the call was waiting for the next attempt, the charge of that attempt
    /// returns to the budget.
    ///
    /// # Errors
    /// [`Error`], whose [`kind`](Error::kind) is the reason why the call ended, with the last error of the operation.
    ///
    /// # Panics
    /// Passes on a panic of the operation. Panics if the future is polled after its end, and, if the call has to wait,
    /// outside of a runtime with a clock.
    #[track_caller]
    pub fn run<F, Fut, T, E>(&self, operation: F) -> Run<'_, Layer<Self, End>, Plain<F>, ErrorsAreRetryable>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        Run::new(Retrying::new(self, &End), Plain(operation), &ErrorsAreRetryable, Hooks::NONE)
    }

    /// Calls an operation that receives its [`Attempt`].
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Panics
    /// As [`run`](Self::run).
    #[track_caller]
    pub fn run_attempts<F, Fut, T, E>(
        &self,
        operation: F,
    ) -> Run<'_, Layer<Self, End>, WithAttempt<F, E>, ErrorsAreRetryable>
    where
        F: FnMut(Attempt<'_, E>) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        Run::new(Retrying::new(self, &End), WithAttempt::new(operation), &ErrorsAreRetryable, Hooks::NONE)
    }

    /// Calls an operation that mutably borrows captured variables: a counter, a connection.
    ///
    /// # When to use
    /// Use it for an `async ||` closure that changes a captured variable, and await it in the same task. The compiler
    /// cannot show that the futures of such closures are `Send`: in a spawned task, use [`run_with`](Self::run_with).
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Panics
    /// As [`run`](Self::run).
    #[track_caller]
    pub fn run_mut<F, T, E>(&self, operation: F) -> impl Future<Output = Result<T, Error<E>>>
    where
        F: AsyncFnMut() -> Result<T, E>,
    {
        sim::around("retry", "run", async move {
            let slot = with_state::OperationSlot::new(operation);
            self.run(|| with_state::call_mut(&slot)).await
        })
    }

    /// Calls an operation that borrows `state` mutably in each attempt; its futures are boxed and `Send`.
    ///
    /// # Cancel safety
    /// As [`run`](Self::run). `state` is left as the dropped attempt left it.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Panics
    /// As [`run`](Self::run).
    #[track_caller]
    pub fn run_with<S, F, T, E>(
        &self,
        state: &mut S,
        operation: F,
    ) -> impl Future<Output = Result<T, Error<E>>>
    where
        S: ?Sized,
        F: for<'s> FnMut(&'s mut S) -> with_state::BoxFuture<'s, Result<T, E>>,
    {
        sim::around("retry", "run", async move {
            let slot = with_state::OperationSlot::new((state, operation));
            self.run(|| with_state::call_with(&slot)).await
        })
    }

    /// Decides what follows attempt number `tries`, which failed.
    pub(crate) fn decide(
        &self,
        tries: u32,
        hint: Option<Duration>,
        remaining: Option<Duration>,
    ) -> RetryDecision {
        let mut is_last = tries >= self.attempts;
        if mutant!("resilience.hint_adds_attempts") {
            is_last &= hint.is_none();
        }
        if is_last {
            return RetryDecision::GiveUp(ErrorKind::AttemptsExhausted);
        }
        let mut delay = rng::aside(|rng| self.backoff.delay(tries - 1, rng));
        if let Some(hint) = hint {
            delay = hint.clamp(delay, delay.saturating_add(self.max_extension));
        }
        let mut is_too_late = remaining.is_some_and(|remaining| delay >= remaining);
        if mutant!("resilience.wait_past_deadline") {
            is_too_late = false;
        }
        if is_too_late {
            return RetryDecision::GiveUp(ErrorKind::OutOfTime);
        }
        match self.budget.as_ref().map(RetryBudget::try_withdraw) {
            None => RetryDecision::After(delay, None),
            Some(Some(charge)) => RetryDecision::After(delay, Some(charge)),
            Some(None) => RetryDecision::GiveUp(ErrorKind::BudgetExhausted),
        }
    }
}

/// The decision of a retry after a failed attempt.
pub(crate) enum RetryDecision {
    After(Duration, Option<Charge>),
    GiveUp(ErrorKind),
}

impl Default for Retry {
    fn default() -> Self {
        Self::new()
    }
}
