use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::local::Group;
use crate::sim::Site;

/// Runs futures concurrently in the calling task, and returns their outputs in the order of the input.
///
/// Each future has its own waker, and is polled only after it was woken. A future costs one allocation, which also holds its
/// output.
///
/// # When to use
/// For futures that mostly wait: they run on one core, and may borrow. For work on all cores use tasks of a
/// [`scope`](crate::task::scope()). All futures start at once, so bound their number.
///
/// An error does not affect the other futures, as in `asyncio.gather` with `return_exceptions=True`. To stop at the first
/// error, use [`try_gather`].
///
/// # Ordering and fairness
/// Futures are first polled in the order of the input, then in the order of their wakes. After 128 polls, or when tokio's
/// budget of the task is used up, the future yields to the executor, so that an input of any length starves no other task.
///
/// An empty input is ready at once.
///
/// # Drop
/// Drops the futures that have not ended, the last of the input first, and the outputs so far.
///
/// # Cancel safety
/// The futures are dropped at their current await, and the outputs so far are lost.
///
/// # Panics
/// Rethrows the panic of a future when all other futures have been dropped. Panics if it is polled after its end.
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

/// Runs futures concurrently in the calling task until one fails. Returns all outputs in the order of the input, or the first
/// error.
///
/// The error is returned once all other futures have been dropped. It is the first in time, not in the order of the input.
///
/// # When to use
/// If the other outputs are of no use after an error, as with `asyncio.gather` by default. If every result counts, use
/// [`gather()`]. Unlike the cooperative tasks of a scope, the other futures are dropped without a grace period.
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
/// The first error of a future. Side effects of the other futures are not undone: a retry repeats them.
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
