#![allow(unsafe_code, reason = "futures pinned in one boxed slice instead of in a box each")]

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::coop;

use crate::mutant;
use crate::sim::Site;

/// Runs futures until one ends, and gives its place in the input and its output once all have been dropped.
///
/// `None` if there are no futures: there is no winner, and waiting for one would never end. One allocation for
/// all.
///
/// # When to use
/// For a handful of futures: at every wake all are polled. For two of different types, [`race`](super::race()). For
/// the first that succeeds, on all cores, a scope with [`Policy::FirstOk`](super::Policy::FirstOk).
///
/// # Ordering and fairness
/// Biased: at every wake futures are polled in the order of the input, up to the first that is ready. So the first
/// wins a tie, and those behind it were not polled to an end that nobody sees. Except that after a poll in which one used
/// up the budget that tokio gives a task, the next poll begins behind that one.
///
/// # Drop
/// All futures are dropped.
///
/// # Cancel safety
/// All are dropped where they are. So are the losers, always: let them be futures that lose nothing by it.
///
/// # Panics
/// With the panic of any. If it is polled after its end.
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
    /// Which is polled first: the one behind that which left no budget.
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

/// Polls each once, from `first` on and around; says in `first` which is to be the first next time.
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
