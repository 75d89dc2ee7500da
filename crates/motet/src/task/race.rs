use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::task::coop;

use crate::mutant;
use crate::sim::Site;

/// Runs two futures until one is ready, and returns its output once both have been dropped.
///
/// A `select!` runs the winner's arm while a loser that it only borrows still exists: the loser is not polled, but it may hold
/// a lock, or a position in a queue. An arm that needs the same lock waits forever ("futurelock", Oxide RFD 609). `race`
/// drops the loser, and everything it holds, before it returns the winner's output.
///
/// # When to use
/// For two futures of different types. For many of one type, [`race_all`](super::race_all()); against time,
/// [`timeout`](super::timeout()), which reads no clock for a future that is ready.
///
/// # Ordering and fairness
/// Biased: at every wake `a` is polled first, and `b` only if `a` is not ready. So `a` wins a tie, and no output of `b` is
/// discarded. Exception: after a poll in which `a` used up tokio's budget of the task, `b` is polled first once, since a
/// future that takes part in the budget could make no progress after such an `a`.
///
/// # Drop
/// Both futures are dropped.
///
/// # Cancel safety
/// Both futures are dropped at their current await, and so is the loser of every race: use futures that are cancel-safe.
///
/// # Panics
/// If one of the futures panics, or if it is polled after its end.
///
/// # Examples
/// ```
/// use motet::task::{Either, race};
/// use std::time::Duration;
/// use tokio::sync::Mutex;
/// use tokio::time::sleep;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let lock = Mutex::new(());
/// let holds_the_lock = async {
///     let _guard = lock.lock().await;
///     sleep(Duration::from_secs(60)).await;
/// };
/// assert_eq!(race(holds_the_lock, sleep(Duration::from_secs(1))).await, Either::Right(()));
/// drop(lock.lock().await);
/// # });
/// ```
#[track_caller]
pub fn race<A: Future, B: Future>(a: A, b: B) -> Race<A, B> {
    Race { a: Some(a), b: Some(b), b_is_next: false, site: Site::new("race", "run").around() }
}

pin_project! {
    /// The future of [`race()`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct Race<A, B> {
        #[pin]
        a: Option<A>,
        #[pin]
        b: Option<B>,
        // `a` left no budget.
        b_is_next: bool,
        site: Site,
    }
}

impl<A: Future, B: Future> Future for Race<A, B> {
    type Output = Either<A::Output, B::Output>;

    #[track_caller]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let entered = self.site.enter();
        let polled = self.poll_here(cx);
        entered.leave(polled)
    }
}

impl<A: Future, B: Future> Race<A, B> {
    #[track_caller]
    fn poll_here(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<<Self as Future>::Output> {
        let mut this = self.project();
        let (Some(a), Some(b)) = (this.a.as_mut().as_pin_mut(), this.b.as_mut().as_pin_mut()) else {
            panic!("`race` was polled after its end")
        };
        let mut b_is_next = std::mem::take(this.b_is_next);
        if mutant!("race.always_a_first") {
            b_is_next = false;
        }
        let won = if b_is_next {
            match b.poll(cx) {
                Poll::Ready(output) => Either::Right(output),
                Poll::Pending => match a.poll(cx) {
                    Poll::Ready(output) => Either::Left(output),
                    Poll::Pending => return Poll::Pending,
                },
            }
        } else {
            let had_budget = coop::has_budget_remaining();
            match a.poll(cx) {
                Poll::Ready(output) => Either::Left(output),
                Poll::Pending => {
                    *this.b_is_next = had_budget && !coop::has_budget_remaining();
                    match b.poll(cx) {
                        Poll::Ready(output) => Either::Right(output),
                        Poll::Pending => return Poll::Pending,
                    }
                }
            }
        };
        if mutant!("race.keep_loser") {
            return Poll::Ready(won);
        }
        this.a.set(None);
        this.b.set(None);
        Poll::Ready(won)
    }
}

impl<A, B> fmt::Debug for Race<A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Race").finish_non_exhaustive()
    }
}

/// The output of one of two futures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Either<A, B> {
    /// The output of the first future.
    Left(A),
    /// The output of the second future.
    Right(B),
}

impl<T> Either<T, T> {
    /// Returns the output, from either future.
    #[must_use]
    pub fn into_inner(self) -> T {
        match self {
            Self::Left(output) | Self::Right(output) => output,
        }
    }
}
