use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::task::coop;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::mutant;
use crate::sim::Site;

/// Limits a future to `timeout`, from its first poll on.
///
/// The future is polled first; only if it is not ready, the clock is read and a timer is set. With zero, a future that is
/// not ready at its first poll times out. A duration that exceeds the range of the clock, such as [`Duration::MAX`], is no
/// limit.
///
/// # When to use
/// For a single future. [`timeout_at`] for several that share a deadline; a scope's
/// [`deadline`](super::ScopeBuilder::deadline) for a body with children.
///
/// # Drop
/// The future is dropped.
///
/// # Cancel safety
/// As safe as the future, which is dropped at its current await. At the timeout it is dropped before the error is returned,
/// so that the locks and permits it held are free. It is taken by value: a future that is only borrowed would still exist
/// after the timeout.
///
/// # Errors
/// [`TimeoutError`]: the future was not ready in time. Its side effects are not undone.
///
/// # Panics
/// Rethrows the panic of the future. Panics if it is polled after its end, and outside of a runtime with a timer if the
/// future is not ready at its first poll.
///
/// # Examples
/// ```
/// use motet::task::timeout;
/// use std::{future::pending, time::Duration};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// assert_eq!(timeout(Duration::from_secs(1), async { 7 }).await, Ok(7));
/// let late = timeout(Duration::from_secs(1), pending::<()>()).await;
/// assert_eq!(late.unwrap_err().to_string(), "the future was not ready before its timeout");
/// # });
/// ```
#[track_caller]
pub fn timeout<F: Future>(timeout: Duration, future: F) -> Timeout<F> {
    Timeout {
        future: Some(future),
        timer: None,
        limit: Limit::After(timeout),
        site: Site::new("timeout", "run").around(),
    }
}

/// Limits a future to `deadline`.
///
/// The future is polled first, even if the deadline has passed; so work that is ready is not thrown away.
///
/// # When to use
/// Where several futures in turn share one deadline. Otherwise [`timeout()`].
///
/// # Drop
/// As [`timeout()`].
///
/// # Cancel safety
/// As [`timeout()`].
///
/// # Errors
/// As [`timeout()`].
///
/// # Panics
/// As [`timeout()`].
///
/// # Examples
/// ```
/// use motet::task::timeout_at;
/// use std::time::Duration;
/// use tokio::time::{Instant, sleep};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let deadline = Instant::now() + Duration::from_secs(3);
/// assert!(timeout_at(deadline, sleep(Duration::from_secs(2))).await.is_ok());
/// assert!(timeout_at(deadline, sleep(Duration::from_secs(2))).await.is_err());
/// # });
/// ```
#[track_caller]
pub fn timeout_at<F: Future>(deadline: Instant, future: F) -> Timeout<F> {
    Timeout {
        future: Some(future),
        timer: None,
        limit: Limit::At(deadline),
        site: Site::new("timeout", "run").around(),
    }
}

pin_project! {
    /// The future of [`timeout()`] and [`timeout_at`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct Timeout<F> {
        #[pin]
        future: Option<F>,
        #[pin]
        timer: Option<Sleep>,
        limit: Limit,
        site: Site,
    }
}

enum Limit {
    After(Duration),
    At(Instant),
    /// The timer has it, or there is none.
    Set,
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, TimeoutError>;

    #[track_caller]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let entered = self.site.enter();
        let polled = self.poll_here(cx);
        entered.leave(polled)
    }
}

impl<F: Future> Timeout<F> {
    #[track_caller]
    fn poll_here(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<<Self as Future>::Output> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else {
            panic!("`timeout` was polled after its end")
        };
        let had_budget = coop::has_budget_remaining();
        if let Poll::Ready(output) = future.poll(cx) {
            this.timer.set(None);
            this.future.set(None);
            return Poll::Ready(Ok(output));
        }
        match std::mem::replace(this.limit, Limit::Set) {
            Limit::After(time) => this.timer.set(Instant::now().checked_add(time).map(sleep_until)),
            Limit::At(deadline) => this.timer.set(Some(sleep_until(deadline))),
            Limit::Set => {}
        }
        let Some(timer) = this.timer.as_mut().as_pin_mut() else { return Poll::Pending };
        if poll_limit(timer, had_budget, cx).is_pending() {
            return Poll::Pending;
        }
        this.timer.set(None);
        if mutant!("timeout.keep_future") {
            return Poll::Ready(Err(TimeoutError(())));
        }
        this.future.set(None);
        Poll::Ready(Err(TimeoutError(())))
    }
}

/// Limits a future like [`timeout()`], within an operation that is the site. Returns `None` if the limit has passed.
pub(crate) async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let mut limited = pin!(timeout(limit, future));
    poll_fn(|cx| limited.as_mut().poll_here(cx)).await.ok()
}

/// Polls the timer of a future, after the future. `had_budget` is `true` if there was budget before the poll of the future.
///
/// A future that uses up the budget at every poll would keep its limit from ever being looked at.
pub(crate) fn poll_limit<L: Future>(
    limit: Pin<&mut L>,
    had_budget: bool,
    cx: &mut Context<'_>,
) -> Poll<L::Output> {
    if mutant!("coop.limit_in_budget") {
        return limit.poll(cx);
    }
    match had_budget && !coop::has_budget_remaining() {
        true => pin!(coop::unconstrained(limit)).poll(cx),
        false => limit.poll(cx),
    }
}

impl<F> fmt::Debug for Timeout<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout").finish_non_exhaustive()
    }
}

/// The error of [`timeout()`] and [`timeout_at`]: the future was not ready in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeoutError(());

impl fmt::Display for TimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the future was not ready before its timeout")
    }
}

impl Error for TimeoutError {}
