use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::local::Group;
use crate::sim::Site;

/// Runs futures concurrently in the calling task, and gives their outputs in the order of the input.
///
/// Each is polled only after it was woken, with a waker of its own. A future costs one allocation, made here; the
/// outputs wait in it.
///
/// # When to use
/// To overlap waiting: all on one core, and nothing needs to be `'static`. For work on all cores, tasks of a
/// [`scope`](crate::task::scope()). Every future starts at once: bound how many you make.
///
/// A future that fails does not disturb the others: gathering `Result`s is `asyncio.gather` with
/// `return_exceptions=True`. Without it, the first error ends all: [`try_gather`].
///
/// # Ordering and fairness
/// Futures are first polled in the order of the input, then in the order of their wakes. After 128 polls, or when
/// tokio's budget for the task is used up, the executor has its turn: an input of any length starves nobody.
///
/// # Drop
/// All futures that have not ended are dropped, the last of the input first; so are the outputs.
///
/// # Cancel safety
/// The futures are dropped where they are, and outputs that were there are lost with them. An empty input is ready at
/// once.
///
/// # Panics
/// With the panic of a future, once all the others have been dropped. If it is polled after its end.
///
/// # Examples
/// ```
/// use motet::task::gather;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let words = ["one", "three"];
/// assert_eq!(gather(words.iter().map(async |word| word.len())).await, [3, 5]);
///
/// // Results are outputs like any other: every one comes back.
/// let parsed = gather(["1", "x", "3"].map(async |text| text.parse::<u8>())).await;
/// assert_eq!(parsed.iter().filter_map(|result| result.as_ref().ok()).collect::<Vec<_>>(), [&1, &3]);
/// assert!(parsed[1].is_err());
/// # });
/// ```
#[track_caller]
pub fn gather<I>(futures: I) -> Gather<I::Item>
where
    I: IntoIterator<Item: Future>,
{
    Gather { group: Some(Group::new(futures.into_iter())), site: Site::new("gather", "run").around() }
}

/// Runs futures concurrently in the calling task until one fails: all outputs in the order of the input, or the
/// first error.
///
/// The error comes back once all other futures have been dropped. It is the first in time, not in order.
///
/// # When to use
/// Where the rest is of no use after an error, as `asyncio.gather` is by default. Where every result counts,
/// [`gather()`]. A scope tells its tasks of the cancellation and lets them tidy up; here they are dropped.
///
/// # Ordering and fairness
/// As [`gather()`].
///
/// # Drop
/// As [`gather()`].
///
/// # Cancel safety
/// As [`gather()`].
///
/// # Errors
/// The first error of a future, as it is. What the others had done stays done: a retry does it again.
///
/// # Panics
/// As [`gather()`].
///
/// # Examples
/// ```
/// use motet::task::try_gather;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// assert_eq!(try_gather(["1", "2"].map(async |text| text.parse::<u8>())).await, Ok(vec![1, 2]));
/// let failed = try_gather(["1", "x", "3"].map(async |text| text.parse::<u8>())).await;
/// assert_eq!(failed.unwrap_err().to_string(), "invalid digit found in string");
/// # });
/// ```
#[track_caller]
pub fn try_gather<I, T, E>(futures: I) -> TryGather<I::Item>
where
    I: IntoIterator<Item: Future<Output = Result<T, E>>>,
{
    TryGather { group: Some(Group::new(futures.into_iter())), site: Site::new("gather", "run").around() }
}

/// The future of [`gather()`].
#[must_use = "futures do nothing unless awaited"]
#[allow(unnameable_types, reason = "users await it, and never write its type")]
pub struct Gather<F: Future> {
    group: Option<Group<F>>,
    site: Site,
}

impl<F: Future> Future for Gather<F> {
    type Output = Vec<F::Output>;

    #[track_caller]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let entered = self.site.enter();
        let polled = self.poll_here(cx);
        entered.leave(polled)
    }
}

impl<F: Future> Gather<F> {
    #[track_caller]
    fn poll_here(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<<Self as Future>::Output> {
        let Some(group) = &mut self.group else { panic!("`gather` was polled after its end") };
        while ready!(group.poll_next(cx)).is_some() {}
        let outputs = group.outputs();
        self.group = None;
        Poll::Ready(outputs)
    }
}

/// The future of [`try_gather`].
#[must_use = "futures do nothing unless awaited"]
#[allow(unnameable_types, reason = "users await it, and never write its type")]
pub struct TryGather<F: Future> {
    group: Option<Group<F>>,
    site: Site,
}

impl<F, T, E> Future for TryGather<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<Vec<T>, E>;

    #[track_caller]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let entered = self.site.enter();
        let polled = self.poll_here(cx);
        entered.leave(polled)
    }
}

impl<F, T, E> TryGather<F>
where
    F: Future<Output = Result<T, E>>,
{
    #[track_caller]
    fn poll_here(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<<Self as Future>::Output> {
        let Some(group) = &mut self.group else { panic!("`try_gather` was polled after its end") };
        while let Some(ended) = ready!(group.poll_next(cx)) {
            if group.output(ended).is_some_and(Result::is_err) {
                let Some(failed) = group.take(ended) else { unreachable!("its output was just seen") };
                // Before the error is seen: the other futures are gone by then.
                self.group = None;
                return Poll::Ready(failed.map(|_| Vec::new()));
            }
        }
        let outputs = group.outputs().into_iter().collect();
        self.group = None;
        Poll::Ready(outputs)
    }
}

// The futures are pinned on the heap, each in its own place.
impl<F: Future> Unpin for Gather<F> {}
impl<F: Future> Unpin for TryGather<F> {}

impl<F: Future> fmt::Debug for Gather<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gather").finish_non_exhaustive()
    }
}

impl<F: Future> fmt::Debug for TryGather<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryGather").finish_non_exhaustive()
    }
}
