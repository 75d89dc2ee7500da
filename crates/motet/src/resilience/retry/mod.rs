//! Calling again.

mod machine;

use std::time::Duration;

use tokio::time::Instant;

use super::budget::{Charge, RetryBudget};
use super::classify::ErrorsAreRetryable;
use super::pipeline::{End, Hooks, Layer, Plain, Run, Told, with_state};
use super::{Attempt, Error, ErrorKind};
use crate::sim;
use crate::{Backoff, mutant, rng};

pub use machine::Retrying;

/// Calls an operation again when it fails, after a wait, up to a number of times, and within a budget.
///
/// What is worth another attempt a [`Classify`](super::Classify) says; by itself, as here, a retry takes every error for
/// one. A value can be judged too. Once a retry gives up, the last outcome is given: an error with the last error of
/// the operation in it, or the value that was not acceptable.
///
/// A handle: clones share the budget. Nothing is locked, nothing spawned, and `T` and `E` need not be anything.
///
/// # When to use
/// For operations that can be repeated without harm. In a [`Pipeline`](super::Pipeline) with other policies; here,
/// alone.
///
/// # Defaults
/// | | | |
/// |---|---|---|
/// | attempts | 3 | as the AWS SDKs and most libraries have it |
/// | waits | 100 ms, doubling up to 20 s, with full jitter | [`Backoff::default`] |
/// | budget | 20 % of the calls, and 10 a second | [`RetryBudget::default`] |
/// | hints of the called side | followed for up to 5 s more than the wait | the rule of the AWS SDKs |
/// | rejections | not retried | a breaker that is open has said what there is to say |
/// | limits of time | none | |
///
/// # Examples
/// ```
/// use motet::resilience::{ErrorKind, Retry};
/// use std::cell::Cell;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let retry = Retry::new().attempts(4);
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
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct Retry {
    pub(super) attempts: u32,
    pub(super) backoff: Backoff,
    pub(crate) budget: Option<RetryBudget>,
    pub(super) patience: Duration,
    pub(super) timeout: Option<Duration>,
    pub(super) attempt_timeout: Option<Duration>,
    pub(super) cut_off: Option<Instant>,
    pub(super) rejected: bool,
}

impl Retry {
    /// Makes a retry with the defaults, and a budget of its own.
    #[must_use]
    pub fn new() -> Self {
        Self {
            attempts: 3,
            backoff: Backoff::default(),
            budget: Some(RetryBudget::default()),
            patience: Duration::from_secs(5),
            timeout: None,
            attempt_timeout: None,
            cut_off: None,
            rejected: false,
        }
    }

    /// Makes up to so many attempts in all, the first included.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    #[track_caller]
    pub fn attempts(mut self, attempts: u32) -> Self {
        assert!(attempts > 0, "a retry makes one attempt at least");
        self.attempts = attempts;
        self
    }

    /// Waits like this between attempts.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Takes its attempts past the first from this budget.
    #[must_use]
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Retries without a budget, for work in which nobody else would be hurt: a test, a batch at night.
    #[must_use]
    pub fn without_budget(mut self) -> Self {
        self.budget = None;
        self
    }

    /// Waits so much longer than the backoff says, at most, when the called side asks for it.
    ///
    /// A hint never makes a wait shorter, nor an attempt more. Zero follows none, [`Duration::MAX`] each.
    #[must_use]
    pub fn follow_hints_for(mut self, longer: Duration) -> Self {
        self.patience = longer;
        self
    }

    /// Limits the time of all attempts, with the waits between them.
    ///
    /// An attempt is cut off by it, with zero as soon as it waits; [`Duration::MAX`] is no limit. A wait that would end past it is not begun: the call ends at once, with
    /// [`ErrorKind::OutOfTime`].
    #[must_use]
    pub fn timeout(mut self, within: Duration) -> Self {
        self.timeout = Some(within);
        self
    }

    /// Limits the time as [`timeout`](Self::timeout) does, up to a point in time, but without a timer for attempts: one is
    /// cut off when it is polled and the time is up.
    ///
    /// # When to use
    /// Where each attempt has a timer for the same end, so that a second one would only cost. An attempt that nothing
    /// wakes by then goes on until something does.
    ///
    /// # Examples
    /// ```
    /// use motet::resilience::{ErrorKind, Limited, Retry};
    /// use std::time::Duration;
    /// use tokio::time::{Instant, sleep_until};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
    /// let deadline = Instant::now() + Duration::from_secs(3);
    /// let hung = async || {
    ///     sleep_until(deadline).await;
    ///     std::future::pending::<Result<(), &str>>().await
    /// };
    /// let error = Retry::new().cut_off_at(deadline).run(hung).await.unwrap_err();
    /// assert_eq!((error.kind(), Instant::now()), (ErrorKind::TimedOut(Limited::Total), deadline));
    /// # });
    /// ```
    #[must_use]
    pub fn cut_off_at(mut self, deadline: Instant) -> Self {
        self.cut_off = Some(deadline);
        self
    }

    /// Limits the time of each attempt; one that is cut off is retried. Zero cuts off each that waits, [`Duration::MAX`]
    /// none.
    #[must_use]
    pub fn attempt_timeout(mut self, within: Duration) -> Self {
        self.attempt_timeout = Some(within);
        self
    }

    /// Retries also what a breaker, a bulkhead or a limit inside has rejected, and waits for as long as that says.
    #[must_use]
    pub fn retry_rejected(mut self) -> Self {
        self.rejected = true;
        self
    }

    /// Calls the operation until it succeeds, or no attempt is left.
    ///
    /// # Cancel safety
    /// The attempt under way is dropped where it is; if the call was waiting for the next, its charge goes back to the
    /// budget.
    ///
    /// # Errors
    /// [`Error`], whose [`kind`](Error::kind) says what ended it, with the operation's last error.
    ///
    /// # Panics
    /// With the operation's panic. If the future is polled after its end. Outside of a runtime with time, once there
    /// is something to wait for.
    #[track_caller]
    pub fn run<F, Fut, T, E>(&self, operation: F) -> Run<'_, Layer<Self, End>, Plain<F>, ErrorsAreRetryable>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        Run::new(Retrying::new(self, &End), Plain(operation), &ErrorsAreRetryable, Hooks::NONE)
    }

    /// Calls an operation that is told of its attempts.
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
    ) -> Run<'_, Layer<Self, End>, Told<F, E>, ErrorsAreRetryable>
    where
        F: FnMut(Attempt<'_, E>) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        Run::new(Retrying::new(self, &End), Told::new(operation), &ErrorsAreRetryable, Hooks::NONE)
    }

    /// Calls an operation that borrows mutably what it has captured: a counter, a connection.
    ///
    /// # When to use
    /// For an `async ||` closure that changes something, awaited where it is. The compiler cannot show that the
    /// futures of such closures are `Send`: in a task of its own use [`run_with`](Self::run_with).
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
            let slot = with_state::Slot::new(operation);
            self.run(|| with_state::call_mut(&slot)).await
        })
    }

    /// Calls an operation that is lent `state`, mutably, for each attempt; its futures are boxed and `Send`.
    ///
    /// # Cancel safety
    /// As [`run`](Self::run); `state` is as the attempt left it.
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
            let slot = with_state::Slot::new((state, operation));
            self.run(|| with_state::call_with(&slot)).await
        })
    }

    /// Decides what follows attempt number `tries`, which failed.
    pub(crate) fn next(&self, tries: u32, hint: Option<Duration>, remaining: Option<Duration>) -> Next {
        if tries >= self.attempts && !(mutant!("resilience.hint_adds_attempts") && hint.is_some()) {
            return Next::GiveUp(ErrorKind::AttemptsExhausted);
        }
        let mut delay = rng::aside(|rng| self.backoff.delay(tries - 1, rng));
        if let Some(hint) = hint {
            delay = hint.clamp(delay, delay.saturating_add(self.patience));
        }
        if remaining.is_some_and(|remaining| delay >= remaining) && !mutant!("resilience.wait_past_deadline")
        {
            return Next::GiveUp(ErrorKind::OutOfTime);
        }
        match self.budget.as_ref().map(RetryBudget::try_withdraw) {
            None => Next::After(delay, None),
            Some(Some(charge)) => Next::After(delay, Some(charge)),
            Some(None) => Next::GiveUp(ErrorKind::BudgetExhausted),
        }
    }
}

/// What follows an attempt that failed.
pub(crate) enum Next {
    After(Duration, Option<Charge>),
    GiveUp(ErrorKind),
}

impl Default for Retry {
    fn default() -> Self {
        Self::new()
    }
}
