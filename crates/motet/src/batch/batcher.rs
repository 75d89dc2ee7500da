use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, ready};

use tokio::task::coop;

use super::entering::{Denied, Entering, Wants};
use super::error::{PostError, SubmitError};
use super::handle::BatchHandle;
use super::run::BatchOutcome;
use super::stats::BatchStats;
use super::submit::Submit;
use crate::sim;
use crate::task::Scope;

/// Collects items into batches for a handler, and returns to each caller the answer to its own item.
///
/// It is a handle: clones add items to the same batches.
///
/// # Ordering and fairness
/// Items are batched in the order in which they were added. Callers that wait for capacity are served in order, and no
/// caller overtakes another. Batches start in order; with more than one in flight they may end in any order.
///
/// # Drop
/// The drop of the last handle closes the batcher, and sends posted items to the handler at once. No caller waits for an
/// answer then, since a call borrows its handle.
///
/// # Examples
/// ```
/// use motet::batch::Batcher;
/// use motet::task::{Nursery, gather, scope};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// scope(async |n: &Nursery| {
///     let squares = Batcher::new(n, async |items: Vec<u32>| {
///         items.into_iter().map(|n| n.checked_mul(n).ok_or("too large")).collect::<Vec<_>>()
///     });
///     let answers = gather([2, 3, u32::MAX].map(|n| squares.submit(n))).await;
///     assert_eq!(*answers[1].as_ref().unwrap(), 9);
///     assert_eq!(answers[2].as_ref().unwrap_err().to_string(), "the item failed");
///     assert_eq!(squares.stats().batches, 1);
///     Ok(())
/// })
/// .await?;
/// # Ok(())
/// # }
/// ```
pub struct Batcher<T, R, E> {
    handle: Arc<BatchHandle<T, R, E>>,
}

impl<T: Send + 'static, R: Send + 'static, E: Send + Sync + 'static> Batcher<T, R, E> {
    /// Creates a batcher in a scope, with the defaults of [`BatcherBuilder`](super::BatcherBuilder).
    #[track_caller]
    pub fn new<F, Fut>(scope: &Scope, handler: F) -> Self
    where
        F: Fn(Vec<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: BatchOutcome<Value = R, Error = E>> + Send + 'static,
    {
        Batcher::builder(scope).open(handler)
    }
}

impl<T, R, E> Batcher<T, R, E> {
    pub(super) fn of(handle: BatchHandle<T, R, E>) -> Self {
        Self { handle: Arc::new(handle) }
    }

    /// Submits an item, and waits for its answer.
    ///
    /// If `max_waiting` items wait for their batches, the call first waits for capacity; if `max_in_line` callers wait for
    /// capacity already, it fails. The item is in its batch from the first poll that finds capacity.
    ///
    /// A handler that submits to its own batcher waits for another batch. If all batches in flight do that, they wait
    /// without end: use another batcher for the work of a handler.
    ///
    /// # Cancel safety
    /// Safe for other callers, see Drop. The item of this caller is dropped with the future, or handled without an
    /// answer.
    ///
    /// # Errors
    /// [`SubmitError`]. The item is handed back if the handler did not get it.
    ///
    /// # Drop
    /// Before its batch runs, the item is removed and dropped; the other items of the batch stay. After that the handler
    /// has the item, and its answer is dropped. A future that is held and not polled keeps its position in the line.
    #[track_caller]
    pub fn submit(&self, item: T) -> impl Future<Output = Result<R, SubmitError<T, E>>> {
        Submit::new(Entering::new(&self.handle.shared, item))
    }

    /// Adds an item without waiting for its answer. Waits for capacity if `max_waiting` items wait for their batches.
    ///
    /// An error for the item is counted ([`BatchStats::failed_posts`]) and logged.
    ///
    /// # Cancel safety
    /// Safe: until the future returns, the item is in no batch, and is dropped with the future.
    ///
    /// # Errors
    /// [`PostError`], which contains the item.
    #[track_caller]
    pub fn post(&self, item: T) -> impl Future<Output = Result<(), PostError<T>>> {
        sim::at_named("batcher", "post", || Some(self.handle.shared.name.to_string()), async move {
            let mut entering = Entering::new(&self.handle.shared, item);
            poll_fn(|cx| {
                let budget = ready!(coop::poll_proceed(cx));
                let entered = ready!(entering.poll(Wants::Nothing, cx));
                budget.made_progress();
                Poll::Ready(entered.map(drop))
            })
            .await
        })
    }

    /// Adds an item without waiting for its answer, if there is capacity for it now.
    ///
    /// # Errors
    /// [`PostError`], which contains the item.
    pub fn try_post(&self, item: T) -> Result<(), PostError<T>> {
        match Entering::new(&self.handle.shared, item).enter(Wants::Nothing, None, None) {
            Err(Denied::Refused(refused)) => Err(refused),
            Ok(_) | Err(Denied::Waits | Denied::Changed) => Ok(()),
        }
    }

    /// Sends the open batch to the handler now, and waits until all items that were added before have their answers.
    ///
    /// A handler must not call this: it would wait for itself.
    ///
    /// # Cancel safety
    /// Safe: the batch runs; only the wait is dropped.
    #[track_caller]
    pub fn flush(&self) -> impl Future<Output = ()> {
        sim::at_named("batcher", "flush", || Some(self.handle.shared.name.to_string()), async move {
            self.handle.flush().await;
        })
    }

    /// Closes the batcher, sends the open batch to the handler now, and waits until all items have their answers.
    /// Callers that wait for capacity get their items back.
    ///
    /// A handler must not call this: it would wait for itself.
    ///
    /// # Cancel safety
    /// Safe: the batcher is closed at the first poll, and its items are handled. A further call waits for them.
    #[track_caller]
    pub fn close(&self) -> impl Future<Output = ()> {
        sim::at_named("batcher", "close", || Some(self.handle.shared.name.to_string()), async move {
            self.handle.close().await;
        })
    }

    /// Returns `true` if the batcher is closed, or its scope is cancelled or has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.handle.shared.is_over() || self.stats().is_closed
    }

    /// The current counts of the batcher.
    #[must_use]
    pub fn stats(&self) -> BatchStats {
        BatchStats::of(&self.handle.shared)
    }
}

impl<T, R, E> Clone for Batcher<T, R, E> {
    fn clone(&self) -> Self {
        Self { handle: Arc::clone(&self.handle) }
    }
}

impl<T, R, E> fmt::Debug for Batcher<T, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batcher")
            .field("name", &self.handle.shared.name)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
