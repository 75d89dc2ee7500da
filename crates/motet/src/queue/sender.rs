use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::counts::NoPlace;
use super::line::{Closed, Placing, Sending};
use super::{Abandoned, Permit, SendError, SendTimeoutError, TrySendError};
use crate::observe::Stats;
use crate::task::timeout;
use crate::{mutant, sim};
use tokio::task::coop;

/// The side of a queue that items go in at. Clone it for more senders.
///
/// # Ordering and fairness
/// Senders that wait for room are served in the order in which they went into the line. A `send` that finds no room
/// first lets other tasks run, up to 16 times, and may be lucky before or after others who do the same. While one is in
/// line, no newcomer goes before it: a `send` goes behind it, and a [`try_send`](Self::try_send) is refused as if the
/// queue were full. What one sender has sent is received in that order.
///
/// A [`send_all`](Self::send_all) that is first in line is granted as many places as there are, up to what it brings.
///
/// # Drop
/// With the last sender the queue is closed: receivers get what is left, and then `None`.
pub struct Sender<T> {
    pub(super) core: Arc<Core<T>>,
}

impl<T> Sender<T> {
    /// Sends an item, as soon as there is room.
    ///
    /// # When to use
    /// Where the item may go with the future. [`reserve`](Self::reserve), or `send_all` of a buffer, keep it in the
    /// caller's hands.
    ///
    /// # Cancel safety
    /// Nothing is sent unless the future returns; but the item was the future's, and is dropped with it.
    ///
    /// # Errors
    /// [`SendError`] with the item, if the queue is closed, now or while this waits.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let (sender, receiver) = motet::queue::bounded(2);
    /// sender.send("first").await.unwrap();
    /// receiver.close();
    /// assert_eq!(sender.send("late").await.unwrap_err().0, "late");
    /// assert_eq!((receiver.recv().await, receiver.recv().await), (Some("first"), None));
    /// # });
    /// ```
    #[track_caller]
    pub fn send(&self, item: T) -> impl Future<Output = Result<(), SendError<T>>> {
        sim::at_named(
            "queue",
            "send",
            || self.core.name(),
            async move { Sending::new(&self.core, item).await },
        )
    }

    /// Sends an item if there is room now, and nobody waits for it.
    ///
    /// # Errors
    /// [`TrySendError`] with the item. It also counts as full while a receiver on another thread is in the middle of
    /// taking what was in the last place.
    pub fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        self.core.push(item).map_err(|(why, item)| match why {
            NoPlace::Closed => TrySendError::Closed(item),
            NoPlace::Full | NoPlace::Busy => TrySendError::Full(item),
        })
    }

    /// Sends an item if there is room within so much time: with zero now, with [`Duration::MAX`] whenever there is.
    ///
    /// # Cancel safety
    /// As [`send`](Self::send).
    ///
    /// # Errors
    /// [`SendTimeoutError`] with the item: nothing was sent.
    ///
    /// # Panics
    /// Outside of a runtime with time, if there is no room at once.
    #[track_caller]
    pub fn send_timeout(
        &self,
        item: T,
        time: Duration,
    ) -> impl Future<Output = Result<(), SendTimeoutError<T>>> {
        sim::at_named("queue", "send with a timeout", || self.core.name(), async move {
            match timeout(time, self.reserve()).await {
                Ok(Ok(permit)) => permit.send(item).map_err(|SendError(item)| SendTimeoutError::Closed(item)),
                Ok(Err(_)) => Err(SendTimeoutError::Closed(item)),
                Err(_) => Err(SendTimeoutError::Elapsed(item)),
            }
        })
    }

    /// Sends all of a buffer, from its front, many at a time where there is room.
    ///
    /// The items of other senders may come between.
    ///
    /// # Cancel safety
    /// Safe: what was sent has left the buffer, and what was not is there, in order.
    ///
    /// # Errors
    /// [`SendError`], if the queue is closed; what was not sent stays in the buffer.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let (sender, receiver) = motet::queue::bounded(100);
    /// sender.send_all(&mut (1..=3).collect()).await.unwrap();
    /// let mut received = Vec::new();
    /// assert_eq!(receiver.recv_many(&mut received, 50).await, 3);
    /// assert_eq!(received, [1, 2, 3]);
    /// # });
    /// ```
    #[track_caller]
    pub fn send_all(&self, items: &mut VecDeque<T>) -> impl Future<Output = Result<(), SendError<()>>> {
        sim::at_named("queue", "send all", || self.core.name(), async move {
            let mut turn = Placing::new(&self.core);
            poll_fn(|cx| turn.poll_send_all(cx, items)).await.map_err(|Closed| SendError(()))
        })
    }

    /// Holds a place, as soon as there is room, for an item that need not be there yet.
    ///
    /// # When to use
    /// The way to send that loses nothing when it is cancelled: wait for the place first, then make the item.
    ///
    /// # Cancel safety
    /// Safe: a place that was granted to a future that is dropped goes to the next.
    ///
    /// # Errors
    /// [`SendError`], if the queue is closed, now or while this waits.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let (sender, receiver) = motet::queue::bounded(1);
    /// let place = sender.reserve().await.unwrap();
    /// assert!(sender.try_send("no room").is_err());
    /// place.send("mine").unwrap();
    /// assert_eq!(receiver.recv().await, Some("mine"));
    /// # });
    /// ```
    #[track_caller]
    pub fn reserve(&self) -> impl Future<Output = Result<Permit<'_, T>, SendError<()>>> {
        sim::at_named("queue", "reserve", || self.core.name(), async move {
            match Placing::new(&self.core).hold().await {
                Ok(()) => Ok(Permit { core: &self.core }),
                Err(Closed) => Err(SendError(())),
            }
        })
    }

    /// Closes the queue: senders are refused from now on, and those that wait are refused, too, with their items.
    /// Receivers get what is inside.
    pub fn close(&self) {
        self.core.close();
    }

    /// Asks whether the queue takes no more items.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.core.counts.is_closed()
    }

    /// Waits until the queue takes no more items: it was closed, or its last receiver has gone.
    ///
    /// # Cancel safety
    /// Safe: a dropped wait loses nothing.
    #[track_caller]
    pub fn closed(&self) -> impl Future<Output = ()> {
        sim::at_named("queue", "wait for its close", || self.core.name(), async move {
            self.core.wait_closed().await;
        })
    }

    /// Waits until all that was sent is settled: received with `recv`, or leased and done, or handed to the dead
    /// letters.
    ///
    /// It says so of one moment; another sender may send at the next. Whoever sends more while it works on an item,
    /// and settles that afterwards, is waited for. It always ends, unless receivers that are there leave items where
    /// they are, or a lease is never dropped.
    ///
    /// # Cancel safety
    /// Safe: a dropped wait loses nothing.
    ///
    /// # Errors
    /// [`Abandoned`], if the last receiver has gone, and items were left.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let (sender, receiver) = motet::queue::bounded(8);
    /// sender.send("job").await.unwrap();
    /// let job = receiver.lease().await.unwrap();
    /// let (joined, done) = tokio::join!(sender.join(), job.done());
    /// assert!(joined.is_ok() && done.is_ok());
    /// # });
    /// ```
    #[track_caller]
    pub fn join(&self) -> impl Future<Output = Result<(), Abandoned>> {
        sim::at_named("queue", "join", || self.core.name(), async move {
            coop::consume_budget().await;
            let _watch = self.core.watch();
            loop {
                // Before the state is read, so that a change between the two is not missed.
                let settled = self.core.settled.notified();
                match self.core.outcome() {
                    Some(0) => return Ok(()),
                    Some(left) => return Err(Abandoned { left }),
                    None if mutant!("queue.join_early") && self.core.counts.len() == 0 => return Ok(()),
                    None => settled.await,
                }
            }
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

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.core.add_sender();
        Self { core: Arc::clone(&self.core) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.core.drop_sender();
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt_handle("Sender", f)
    }
}
