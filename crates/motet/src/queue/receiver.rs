use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;

use super::core::{Core, End, Take};
use super::line::{Line, Receiving, Taking};
use super::store::Entry;
use super::{Lease, RecvTimeoutError, TryRecvError};
use crate::observe::Stats;
use crate::sim;
use crate::task::timeout;

/// The side of a queue that items come out at. Clone it for more receivers: each item goes to one of them.
///
/// As a [`Stream`] it gives what [`recv`](Self::recv) gives. A stream that was polled and found nothing has a place in
/// the line until it is polled again or dropped, and an item that was granted to it meanwhile is nobody else's: poll it
/// on, or use [`recv`](Self::recv), whose future gives its place up when it is dropped.
///
/// # Ordering and fairness
/// Receivers that wait are served in the order in which they began to wait. Once one of them was woken for an item,
/// no other can take the last one from it.
///
/// # Drop
/// With the last receiver the queue is closed, and what is inside is dropped; [`Sender::join`](super::Sender::join)
/// tells how much that was.
pub struct Receiver<T> {
    core: Arc<Core<T>>,
    /// The place in line of the stream that this is.
    streaming: Line,
}

impl<T> Receiver<T> {
    pub(super) fn new(core: Arc<Core<T>>) -> Self {
        Self { core, streaming: Line::default() }
    }

    /// Receives the next item, which is settled with that; `None` once the queue is closed and nothing is left.
    ///
    /// While leases are out, a closed queue may still get their items back: `None` comes after them.
    ///
    /// # When to use
    /// Where an item may be lost with the task that works on it. [`lease`](Self::lease) where not.
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

    /// Receives the next item if there is one that nobody waits for.
    ///
    /// # Errors
    /// [`TryRecvError`]: it is empty, or closed. It also counts as empty while a sender on another thread is in the
    /// middle of moving the first item in.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        match self.core.pop_quickly() {
            Ok(item) => Ok(item),
            Err(_) => self.try_take(Take::Settled).map(|entry| entry.item),
        }
    }

    /// Receives the next item if there is one within so much time.
    ///
    /// # Cancel safety
    /// As [`recv`](Self::recv).
    ///
    /// # Errors
    /// [`RecvTimeoutError`]: time was up, or the queue is closed and nothing is left.
    ///
    /// # Panics
    /// Outside of a runtime with time, if there is no item at once.
    #[track_caller]
    pub fn recv_timeout(&self, time: Duration) -> impl Future<Output = Result<T, RecvTimeoutError>> {
        sim::at_named("queue", "receive with a timeout", || self.core.name(), async move {
            match timeout(time, self.recv()).await {
                Ok(Some(item)) => Ok(item),
                Ok(None) => Err(RecvTimeoutError::Closed),
                Err(_) => Err(RecvTimeoutError::Elapsed),
            }
        })
    }

    /// Receives up to `most` items at once: waits for the first, and takes what else is there. Gives how many were
    /// added to `into`; 0 once the queue is closed and nothing is left, or if `most` is 0.
    ///
    /// # Cancel safety
    /// Safe: items are taken all at once, when the future returns.
    #[track_caller]
    pub fn recv_many(&self, into: &mut Vec<T>, most: usize) -> impl Future<Output = usize> {
        sim::at_named("queue", "receive many", || self.core.name(), async move {
            if most == 0 {
                return 0;
            }
            let mut turn = Taking::new(&self.core);
            poll_fn(|cx| turn.poll_many(cx, into, most)).await
        })
    }

    /// Leases the next item; `None` once the queue is closed and nothing is left or can come back.
    ///
    /// # Cancel safety
    /// As [`recv`](Self::recv).
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let (sender, receiver) = motet::queue::bounded(4);
    /// sender.send("job").await.unwrap();
    /// drop(receiver.lease().await); // the worker fails
    /// let job = receiver.lease().await.unwrap();
    /// assert_eq!((*job, job.attempt()), ("job", 2));
    /// job.done().await.unwrap();
    /// # });
    /// ```
    #[track_caller]
    pub fn lease(&self) -> impl Future<Output = Option<Lease<T>>> {
        sim::at_named("queue", "lease", || self.core.name(), async move {
            let mut turn = Taking::new(&self.core);
            let entry = poll_fn(|cx| turn.poll_lease(cx)).await?;
            Some(Lease::new(Arc::clone(&self.core), entry))
        })
    }

    /// Leases the next item if there is one that nobody waits for.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv).
    pub fn try_lease(&self) -> Result<Lease<T>, TryRecvError> {
        self.try_take(Take::Leased).map(|entry| Lease::new(Arc::clone(&self.core), entry))
    }

    fn try_take(&self, take: Take) -> Result<Entry<T>, TryRecvError> {
        match Line::try_take(&self.core, take) {
            Ok(entry) => entry.ok_or(TryRecvError::Closed),
            Err(_) => Err(TryRecvError::Empty),
        }
    }

    /// Closes the queue: senders are refused from now on, and those that wait are refused, too, with their items.
    /// Receivers get what is inside.
    pub fn close(&self) {
        self.core.close();
    }

    /// Closes the queue at once, and hands back all that is inside, in order, what is due later last.
    ///
    /// Receivers that wait get `None`. What is leased stays with its holder, but the lease does not count any more:
    /// [`done`](Lease::done) says so.
    #[must_use = "these are the items that were never received"]
    pub fn shutdown_now(&self) -> Vec<T> {
        self.core.end(End::Handed)
    }

    /// Asks whether the queue takes no more items.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.core.counts.is_closed()
    }

    /// Waits until the queue takes no more items: it was closed, or its last sender has gone.
    ///
    /// # Cancel safety
    /// Safe: a dropped wait loses nothing.
    #[track_caller]
    pub fn closed(&self) -> impl Future<Output = ()> {
        sim::at_named("queue", "wait for its close", || self.core.name(), async move {
            self.core.wait_closed().await;
        })
    }

    /// Counts the items inside: all that were sent and not handed out, those due later included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.core.len()
    }

    /// Asks whether there is no item inside.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives how many items there can be, places that are held included; `None` if there is no bound.
    #[must_use]
    pub fn capacity(&self) -> Option<usize> {
        self.core.capacity()
    }

    /// Shows what the queue does now.
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
