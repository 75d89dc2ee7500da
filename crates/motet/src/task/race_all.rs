#![allow(unsafe_code, reason = "futures pinned in one boxed slice instead of in a box each")]

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::coop;

use crate::mutant;
use crate::sim::Site;

/// Runs futures until one is ready, and returns its index in the input and its output once all have been dropped.
///
/// Returns `None` for an empty input, which would never have a winner. Costs one allocation for all futures.
///
/// # When to use
/// For a few futures: all are polled at every wake. For two futures of different types use [`race`](super::race()); for the
/// first success, on all cores, a scope with [`Policy::FirstOk`](super::Policy::FirstOk).
///
/// # Ordering and fairness
/// Biased: at every wake the futures are polled in the order of the input, up to the first that is ready. So the first wins a
/// tie, and no output of a later one is discarded. Exception: after a poll in which a future used up tokio's budget of the
/// task, the next poll begins after that future.
///
/// # Drop
/// All futures are dropped.
///
/// # Cancel safety
/// All futures are dropped at their current await, and so are the losers of every race: use futures that are cancel-safe.
///
/// # Panics
/// If one of the futures panics, or if it is polled after its end.
///
/// # Examples
/// ```
/// use motet::task::race_all;
/// use std::time::Duration;
/// use tokio::time::sleep;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let mirrors = [("far", 30), ("near", 10)].map(async |(name, millis)| {
///     sleep(Duration::from_millis(millis)).await;
///     name
/// });
/// assert_eq!(race_all(mirrors).await, Some((1, "near")));
/// # });
/// ```
#[track_caller]
pub fn race_all<I>(futures: I) -> RaceAll<I::Item>
where
    I: IntoIterator<Item: Future>,
{
    RaceAll {
        futures: Some(Box::into_pin(futures.into_iter().collect())),
        first: 0,
        site: Site::new("race", "run").around(),
    }
}

/// The future of [`race_all()`].
#[must_use = "futures do nothing unless awaited"]
#[allow(unnameable_types, reason = "users await it, and never write its type")]
pub struct RaceAll<F> {
    futures: Option<Pin<Box<[F]>>>,
    /// The index of the future that is polled first: the one after the future that used up the budget.
    first: usize,
    site: Site,
}

impl<F: Future> Future for RaceAll<F> {
    type Output = Option<(usize, F::Output)>;

    #[track_caller]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let entered = self.site.enter();
        let polled = self.poll_here(cx);
        entered.leave(polled)
    }
}

impl<F: Future> RaceAll<F> {
    #[track_caller]
    fn poll_here(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<<Self as Future>::Output> {
        let mut first = std::mem::take(&mut self.first);
        let Some(futures) = &mut self.futures else { panic!("`race_all` was polled after its end") };
        let won = match futures.is_empty() {
            true => None,
            false => match poll_in_order(futures.as_mut(), &mut first, cx) {
                Poll::Ready(won) => Some(won),
                Poll::Pending => {
                    self.first = first;
                    return Poll::Pending;
                }
            },
        };
        self.futures = None;
        Poll::Ready(won)
    }
}

/// Polls each future once, in order, beginning at `first`. Sets `first` for the next call.
fn poll_in_order<F: Future>(
    futures: Pin<&mut [F]>,
    first: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<(usize, F::Output)> {
    // SAFETY: nothing is moved out of the slice, and each element is pinned again at once: pinning a slice pins
    // its elements.
    let futures = unsafe { futures.get_unchecked_mut() };
    let (count, begin) = (futures.len(), std::mem::take(first));
    for at in (begin..count).chain(0..begin) {
        let had_budget = coop::has_budget_remaining();
        // SAFETY: as above.
        if let Poll::Ready(output) = unsafe { Pin::new_unchecked(&mut futures[at]) }.poll(cx) {
            return Poll::Ready((at, output));
        }
        if had_budget && !coop::has_budget_remaining() {
            *first = (at + 1) % count;
        }
    }
    if mutant!("race.always_a_first") {
        *first = 0;
    }
    Poll::Pending
}

impl<F> fmt::Debug for RaceAll<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaceAll").finish_non_exhaustive()
    }
}
