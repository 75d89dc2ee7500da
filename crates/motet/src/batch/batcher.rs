use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, ready};

use tokio::task::coop;

use super::builder::Builder;
use super::entering::{Denied, Entering, Wants};
use super::error::PostError;
use super::handle::Handle;
use super::outcome::BatchOutcome;
use super::stats::BatchStats;
use super::submit::Submit;
use crate::sim;
use crate::task::Scope;

/// Collects items into batches for a handler, and gives each caller the answer to its own item.
///
/// A handle: clones bring items to the same batches.
///
/// # Ordering and fairness
/// Items are batched in the order in which they came in. Callers that wait for a place are served in order, and
/// nobody overtakes them. Batches begin in order; with more than one in flight they may end in any.
///
/// # Drop
/// With the last handle the items that were posted go at once; what a caller waits for has a handle.
///
/// # Examples
/// ```
/// use motet::batch::Batcher;
/// use motet::task::{Nursery, gather, scope};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// scope(async |n: &Nursery| {
///     let squares = Batcher::new(n, async |items: Vec<u32>| {
///         items.into_iter().map(|n| n.checked_mul(n).ok_or("too large")).collect::<Vec<_>>()
///     });
///     let answers = gather([2, 3, u32::MAX].map(|n| squares.submit(n))).await;
///     assert_eq!(*answers[1].as_ref().unwrap(), 9);
///     assert_eq!(answers[2].as_ref().unwrap_err().to_string(), "the item failed");
///     assert_eq!(squares.stats().batches, 1);
///     Ok(())
/// }).await.unwrap();
/// # });
/// ```
pub struct Batcher<T, R, E> {
    handle: Arc<Handle<T, R, E>>,
}

impl<T: Send + 'static, R: Send + 'static, E: Send + Sync + 'static> Batcher<T, R, E> {
    /// Opens a batcher in a scope, with the defaults of [`Builder`].
    #[track_caller]
    pub fn new<F, Fut>(scope: &Scope, handler: F) -> Self
    where
        F: Fn(Vec<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: BatchOutcome<Value = R, Error = E>> + Send + 'static,
    {
        Builder::new(scope).open(handler)
    }
}

impl<T, R, E> Batcher<T, R, E> {
    pub(super) fn of(handle: Handle<T, R, E>) -> Self {
        Self { handle: Arc::new(handle) }
    }

    /// Submits an item, and waits for its own answer.
    ///
    /// Waits for a place first if as many items wait as may; with too many in that line it is refused. The item is in its batch from the first poll that
    /// finds a place.
    ///
    /// A handler that submits to its own batcher waits for another batch, and for ever once all that may be in flight
    /// do so: give the work of a handler a batcher of its own.
    ///
    /// # Cancel safety
    /// See [`Submit`]: an item that is not taken yet is removed, and nobody else is disturbed.
    ///
    /// # Errors
    /// [`SubmitError`](super::SubmitError): the item is handed back if it was in no batch.
    #[track_caller]
    pub fn submit(&self, item: T) -> Submit<'_, T, R, E> {
        Submit::new(Entering::new(&self.handle.shared, item))
    }

    /// Adds an item whose answer nobody waits for; waits for a place if as many items wait as may.
    ///
    /// An error for it is counted ([`BatchStats::failed_posts`]) and logged.
    ///
    /// # Cancel safety
    /// Safe: until it returns the item is in no batch; it is dropped with the future.
    ///
    /// # Errors
    /// [`PostError`], which hands the item back.
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

    /// Adds an item whose answer nobody waits for, if there is a place for it.
    ///
    /// # Errors
    /// [`PostError`], which hands the item back.
    pub fn try_post(&self, item: T) -> Result<(), PostError<T>> {
        match Entering::new(&self.handle.shared, item).enter(Wants::Nothing, None, None) {
            Err(Denied::Refused(refused)) => Err(refused),
            Ok(_) | Err(Denied::Waits | Denied::Changed) => Ok(()),
        }
    }

    /// Has the open batch go now, and waits until all items that had come in before have their answers.
    ///
    /// In a handler it would wait for itself.
    ///
    /// # Cancel safety
    /// Safe: the batch goes; only the wait is dropped.
    #[track_caller]
    pub fn flush(&self) -> impl Future<Output = ()> {
        sim::at_named("batcher", "flush", || Some(self.handle.shared.name.to_string()), async move {
            self.handle.flush().await;
        })
    }

    /// Takes no more items, has the open batch go now, and waits until all items have their answers. Callers that
    /// wait for a place have their items handed back.
    ///
    /// In a handler it would wait for itself.
    ///
    /// # Cancel safety
    /// Safe: it is closed all the same, and drains; call it again to wait.
    #[track_caller]
    pub fn close(&self) -> impl Future<Output = ()> {
        sim::at_named("batcher", "close", || Some(self.handle.shared.name.to_string()), async move {
            self.handle.close().await;
        })
    }

    /// Asks whether it takes no more items: it was closed, or its scope is cancelled or has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.handle.shared.is_over() || self.stats().is_closed
    }

    /// Tells what it does now, and what it has done.
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
