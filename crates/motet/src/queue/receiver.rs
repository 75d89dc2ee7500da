use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;

use super::close::End;
use super::core::{QueueCore, Take};
use super::orders::Entry;
use super::recv_waiter::{Receiving, RecvWaiter, RecvWaiterGuard};
use super::{Lease, TryRecvError};
use crate::observe::Stats;
use crate::sim;
use crate::task;

/// The receiving handle of a queue. Clone it for more receivers: each item goes to one of them.
///
/// As a [`Stream`] it yields the items that [`recv`](Self::recv) returns. A stream that was polled and found no item
/// stays in line until it is polled again or dropped, and no other receiver can take an item that is granted to it. So
/// continue to poll the stream, or use [`recv`](Self::recv), whose future leaves the line when it is dropped.
///
/// # Ordering and fairness
/// Receivers in line are served in the order in which they joined the line. Once a receiver was woken for an item, no
/// other receiver can take the last item from it.
///
/// # Drop
/// Dropping the last receiver closes the queue and drops the items in it. [`Sender::join`](super::Sender::join) then fails
/// with their number.
pub struct Receiver<T> {
    core: Arc<QueueCore<T>>,
    /// The position in line of this receiver as a stream.
    streaming: RecvWaiter,
}

impl<T> Receiver<T> {
    pub(super) fn new(core: Arc<QueueCore<T>>) -> Self {
        Self { core, streaming: RecvWaiter::default() }
    }

    /// Receives and settles the next item. Returns `None` once the queue is closed and no item is left.
    ///
    /// While leases exist, items may come back to a closed queue: then `recv` waits, and returns `None` only after the last
    /// lease has ended.
    ///
    /// # When to use
    /// Where an item may be lost with the task that works on it. Otherwise use [`lease`](Self::lease).
    ///
    /// # Cancel safety
    /// Safe: an item stays in the queue, in order, until the future returns it.
    #[track_caller]
    pub fn recv(&self) -> impl Future<Output = Option<T>> {
        sim::at_named(
            "queue",
            "receive",
            || self.core.name(),
            async move { Receiving::new(&self.core).await },
        )
    }

    /// Receives the next item if there is one that was not granted to a receiver in line.
    ///
    /// # Errors
    /// [`TryRecvError`]: the queue is empty, or closed. It also counts as empty while a sender on another thread is
    /// still moving the first item in.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        match self.core.pop_fast() {
            Ok(item) => Ok(item),
            Err(_) => self.try_take(Take::Settled).map(|entry| entry.item),
        }
    }

    /// Receives the next item, waiting for at most `timeout`.
    ///
    /// # Cancel safety
    /// As with [`recv`](Self::recv).
    ///
    /// # Errors
    /// [`TryRecvError`]: no item arrived in `timeout`, or the queue is closed and no item is left.
    ///
    /// # Panics
    /// Outside of a runtime with a timer, if there is no item at once.
    #[track_caller]
    pub fn recv_timeout(&self, timeout: Duration) -> impl Future<Output = Result<T, TryRecvError>> {
        sim::at_named("queue", "receive with a timeout", || self.core.name(), async move {
            match task::timeout(timeout, self.recv()).await {
                Ok(Some(item)) => Ok(item),
                Ok(None) => Err(TryRecvError::Closed),
                Err(_) => Err(TryRecvError::Empty),
            }
        })
    }

    /// Waits for at least one item, and appends up to `limit` items to `buffer`. Returns the number of these items: 0 once
    /// the queue is closed and no item is left, or if `limit` is 0.
    ///
    /// # Cancel safety
    /// Safe: the items are taken all at once, when the future returns.
    #[track_caller]
    pub fn recv_many(&self, buffer: &mut Vec<T>, limit: usize) -> impl Future<Output = usize> {
        sim::at_named("queue", "receive many", || self.core.name(), async move {
            if limit == 0 {
                return 0;
            }
            let mut waiter = RecvWaiterGuard::new(&self.core);
            poll_fn(|cx| waiter.poll_many(cx, buffer, limit)).await
        })
    }

    /// Leases the next item. Returns `None` once the queue is closed and no item is left or can come back.
    ///
    /// An item whose lease is dropped comes back without end, unless the queue has
    /// [dead letters](super::QueueBuilder::dead_letters).
    ///
    /// # Cancel safety
    /// As with [`recv`](Self::recv).
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (sender, receiver) = motet::queue::bounded(4)?;
    /// sender.send("job").await?;
    /// drop(receiver.lease().await); // the worker fails
    /// let job = receiver.lease().await.expect("the job came back");
    /// assert_eq!((*job, job.attempt()), ("job", 2));
    /// job.done().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn lease(&self) -> impl Future<Output = Option<Lease<T>>> {
        sim::at_named("queue", "lease", || self.core.name(), async move {
            let mut waiter = RecvWaiterGuard::new(&self.core);
            let entry = poll_fn(|cx| waiter.poll_lease(cx)).await?;
            Some(Lease::new(Arc::clone(&self.core), entry))
        })
    }

    /// Leases the next item if there is one that was not granted to a receiver in line.
    ///
    /// # Errors
    /// As with [`try_recv`](Self::try_recv).
    pub fn try_lease(&self) -> Result<Lease<T>, TryRecvError> {
        self.try_take(Take::Leased).map(|entry| Lease::new(Arc::clone(&self.core), entry))
    }

    fn try_take(&self, take: Take) -> Result<Entry<T>, TryRecvError> {
        match RecvWaiter::try_take(&self.core, take) {
            Ok(entry) => entry.ok_or(TryRecvError::Closed),
            Err(_) => Err(TryRecvError::Empty),
        }
    }

    /// Closes the queue: every further send fails, and so do the senders in line, which get their items back. Receivers
    /// get the items that are left.
    pub fn close(&self) {
        self.core.close();
    }

    /// Closes the queue at once, and returns all items in it, in order; items due later come last.
    ///
    /// Receivers in line get `None`. A leased item stays with its holder, but the lease is void: [`done`](Lease::done)
    /// fails.
    #[must_use = "the returned items were never received"]
    pub fn shutdown_now(&self) -> Vec<T> {
        self.core.end(End::Handed)
    }

    /// Returns `true` if the queue is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.core.cursors.is_closed()
    }

    /// Waits until the queue is closed: by `close` or `shutdown_now`, or because its last sender was dropped.
    ///
    /// # Cancel safety
    /// Safe: dropping the future loses nothing.
    #[track_caller]
    pub fn closed(&self) -> impl Future<Output = ()> {
        sim::at_named("queue", "wait for its close", || self.core.name(), async move {
            self.core.wait_closed().await;
        })
    }

    /// The number of items in the queue: those that were sent and not handed out, including those due later.
    #[must_use]
    pub fn len(&self) -> usize {
        self.core.len()
    }

    /// Returns `true` if there is no item in the queue.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The capacity, permits included; `None` if the queue is unbounded.
    #[must_use]
    pub fn capacity(&self) -> Option<usize> {
        self.core.capacity()
    }

    /// The current numbers of the queue.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }
}

impl<T> Stream for Receiver<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let Self { core, streaming } = self.get_mut();
        streaming.poll_recv(core, cx)
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.core.add_receiver();
        Self::new(Arc::clone(&self.core))
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.streaming.leave(&self.core);
        self.core.drop_receiver();
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt_handle("Receiver", f)
    }
}
