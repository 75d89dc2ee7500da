use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use super::atomics::{spin_loop, yield_now};
use super::core::QueueCore;
use super::cursors::NoSlot;
use super::send_waiter::{Closed, SendWaiter, SendWaiterGuard, Sending};
use super::{AbandonedError, SendError, TrySendError};
use crate::observe::Stats;
use crate::task;
use crate::{mutant, sim};
use tokio::task::coop;

/// The sending handle of a queue. Clone it for more senders.
///
/// # Ordering and fairness
/// Senders in line are served in the order in which they joined the line. A `send` that finds no free slot first yields
/// to other tasks, up to 16 times; senders that yield may be served in any order among themselves. While a sender is in
/// line, no new sender overtakes it: a `send` joins the line behind it, and a [`try_send`](Self::try_send) fails as if
/// the queue were full. The items of one sender are received in the order in which it sent them.
///
/// A [`send_all`](Self::send_all) at the head of the line is granted as many slots as are free, up to the number of its
/// items.
///
/// # Drop
/// Dropping the last sender closes the queue: receivers get the items that are left, and then `None`.
pub struct Sender<T> {
    pub(super) core: Arc<QueueCore<T>>,
}

impl<T> Sender<T> {
    /// Sends an item, waiting until there is a free slot.
    ///
    /// # When to use
    /// Where losing the item with a dropped future is acceptable. Otherwise use [`reserve`](Self::reserve), or
    /// [`send_all`](Self::send_all) of a buffer, with which the caller keeps the item.
    ///
    /// # Cancel safety
    /// Nothing is sent unless the future returns. The future owns the item, so the item is dropped with it.
    ///
    /// # Errors
    /// [`SendError`] with the item, if the queue is closed, before or during the wait.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (sender, receiver) = motet::queue::bounded(2)?;
    /// for number in [1, 2] {
    ///     sender.send(number).await?;
    /// }
    /// drop(sender); // closes the queue
    /// while let Some(number) = receiver.recv().await {
    ///     println!("received {number}");
    /// }
    /// # Ok(())
    /// # }
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

    /// Sends an item if there is a free slot now, and no sender is in line.
    ///
    /// # Errors
    /// [`TrySendError`] with the item. It can be [`Full`](TrySendError::Full) for a moment longer than the queue is full,
    /// while a receiver on another thread moves the item out of the last slot.
    pub fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        self.core.push(item).map_err(|(why, item)| match why {
            NoSlot::Closed => TrySendError::Closed(item),
            NoSlot::Full | NoSlot::Busy => TrySendError::Full(item),
        })
    }

    /// Sends an item, waiting for a free slot for at most `timeout`: with zero it does not wait, with [`Duration::MAX`] it
    /// waits without limit.
    ///
    /// # Cancel safety
    /// As with [`send`](Self::send).
    ///
    /// # Errors
    /// [`TrySendError`] with the item, which was not sent: [`Full`](TrySendError::Full) if no slot became free in `timeout`.
    ///
    /// # Panics
    /// Outside of a runtime with a timer, if there is no free slot at once.
    #[track_caller]
    pub fn send_timeout(
        &self,
        item: T,
        timeout: Duration,
    ) -> impl Future<Output = Result<(), TrySendError<T>>> {
        sim::at_named("queue", "send with a timeout", || self.core.name(), async move {
            match task::timeout(timeout, self.reserve()).await {
                Ok(Ok(permit)) => permit.send(item).map_err(|SendError(item)| TrySendError::Closed(item)),
                Ok(Err(_)) => Err(TrySendError::Closed(item)),
                Err(_) => Err(TrySendError::Full(item)),
            }
        })
    }

    /// Sends all items of a buffer, from its front, in batches of as many as there are free slots.
    ///
    /// Items of other senders may come between them.
    ///
    /// # Cancel safety
    /// Safe: the items that were sent have left the buffer; the others are still in it, in order.
    ///
    /// # Errors
    /// [`SendError`], if the queue is closed. The items that were not sent stay in the buffer.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (sender, receiver) = motet::queue::bounded(100)?;
    /// sender.send_all(&mut (1..=3).collect()).await?;
    /// let mut received = Vec::new();
    /// assert_eq!(receiver.recv_many(&mut received, 50).await, 3);
    /// assert_eq!(received, [1, 2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn send_all(&self, items: &mut VecDeque<T>) -> impl Future<Output = Result<(), SendError<()>>> {
        sim::at_named("queue", "send all", || self.core.name(), async move {
            let mut waiter = SendWaiterGuard::new(&self.core);
            poll_fn(|cx| waiter.poll_send_all(cx, items)).await.map_err(|Closed| SendError(()))
        })
    }

    /// Reserves a slot, waiting until there is a free one. The item need not exist yet.
    ///
    /// # When to use
    /// To send without losing the item on cancellation: wait for the permit first, then create the item.
    ///
    /// # Cancel safety
    /// Safe: if the future is dropped after it was granted a slot, the slot goes to the next sender in line.
    ///
    /// # Errors
    /// [`SendError`], if the queue is closed, before or during the wait.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (sender, receiver) = motet::queue::bounded(1)?;
    /// let permit = sender.reserve().await?;
    /// assert!(sender.try_send("too late").is_err());
    /// permit.send("reserved")?;
    /// assert_eq!(receiver.recv().await, Some("reserved"));
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn reserve(&self) -> impl Future<Output = Result<Permit<'_, T>, SendError<()>>> {
        sim::at_named("queue", "reserve", || self.core.name(), async move {
            match SendWaiterGuard::new(&self.core).hold().await {
                Ok(()) => Ok(Permit { core: &self.core }),
                Err(Closed) => Err(SendError(())),
            }
        })
    }

    /// Reserves a slot if there is a free one now, and no sender is in line.
    ///
    /// # When to use
    /// To fetch from elsewhere only as many items as the queue takes: reserve, fetch, send.
    ///
    /// # Errors
    /// [`TrySendError`], without an item. It can be [`Full`](TrySendError::Full) for a moment longer than the queue is full,
    /// while a receiver on another thread moves the item out of the last slot.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (sender, receiver) = motet::queue::bounded(2)?;
    /// let free: Vec<_> = std::iter::from_fn(|| sender.try_reserve().ok()).take(10).collect();
    /// assert_eq!(free.len(), 2);
    /// for (permit, row) in free.into_iter().zip(["first"]) {
    ///     permit.send(row)?; // the other permit is dropped: its slot is free again
    /// }
    /// assert_eq!(receiver.recv().await, Some("first"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_reserve(&self) -> Result<Permit<'_, T>, TrySendError<()>> {
        match self.core.hold(1) {
            Ok(_) => Ok(Permit { core: &self.core }),
            Err(NoSlot::Closed) => Err(TrySendError::Closed(())),
            Err(NoSlot::Full | NoSlot::Busy) => Err(TrySendError::Full(())),
        }
    }

    /// Creates a sender that does not keep the queue open.
    ///
    /// # When to use
    /// Where the code that receives from a queue also sends to it: with a sender of its own, it would keep the queue open
    /// that it waits for.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (sender, receiver) = motet::queue::bounded(4)?;
    /// let weak = sender.downgrade();
    /// weak.upgrade().expect("a sender exists").send("item").await?;
    /// drop(sender); // the last sender closes the queue
    /// assert!(weak.upgrade().is_none());
    /// assert_eq!(receiver.recv().await, Some("item"));
    /// assert_eq!(receiver.recv().await, None);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use = "a weak sender keeps nothing open"]
    pub fn downgrade(&self) -> WeakSender<T> {
        WeakSender { core: Arc::downgrade(&self.core) }
    }

    /// Closes the queue: every further send fails, and so do the senders in line, which get their items back. Receivers
    /// get the items that are left.
    pub fn close(&self) {
        self.core.close();
    }

    /// Returns `true` if the queue is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.core.cursors.is_closed()
    }

    /// Waits until the queue is closed: by `close` or `shutdown_now`, or because its last receiver was dropped.
    ///
    /// # Cancel safety
    /// Safe: dropping the future loses nothing.
    #[track_caller]
    pub fn closed(&self) -> impl Future<Output = ()> {
        sim::at_named("queue", "wait for its close", || self.core.name(), async move {
            self.core.wait_closed().await;
        })
    }

    /// Waits until every item that was sent is settled: received with `recv`, leased and done, or moved to the dead
    /// letters.
    ///
    /// The answer holds for one moment: another sender may send right after it. If a worker sends further items while
    /// it works on an item, and settles that item afterwards, `join` waits for the further items as well. It waits
    /// without end if receivers exist but do not receive, or if a lease is neither settled nor dropped.
    ///
    /// # Cancel safety
    /// Safe: dropping the future loses nothing.
    ///
    /// # Errors
    /// [`AbandonedError`], if the last receiver was dropped while items were left.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (sender, receiver) = motet::queue::bounded(8)?;
    /// sender.send("job").await?;
    /// let job = receiver.lease().await.expect("a job");
    /// let (joined, done) = tokio::join!(sender.join(), job.done());
    /// assert!(joined.is_ok() && done.is_ok());
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn join(&self) -> impl Future<Output = Result<(), AbandonedError>> {
        sim::at_named("queue", "join", || self.core.name(), async move {
            coop::consume_budget().await;
            let _watch = self.core.watch();
            loop {
                // Registered before the state is read, so that a change between the two is not missed.
                let settled = self.core.settled.notified();
                match self.core.outcome() {
                    Some(0) => return Ok(()),
                    Some(left) => return Err(AbandonedError { left }),
                    None => {
                        if mutant!("queue.join_early") {
                            let is_empty = self.core.cursors.len() == 0;
                            if is_empty {
                                return Ok(());
                            }
                        }
                        settled.await;
                    }
                }
            }
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

/// A sender that does not keep its queue open; created by [`Sender::downgrade`].
///
/// It keeps neither the queue nor its items in memory.
pub struct WeakSender<T> {
    core: Weak<QueueCore<T>>,
}

impl<T> WeakSender<T> {
    /// Returns a sender, or `None` if the last sender has been dropped.
    ///
    /// The sender keeps the queue open until it is dropped. If the last other sender is dropped at the same time, either this
    /// returns `None` and the queue closes, or the queue stays open. The queue of the sender can be closed: by
    /// [`close`](Sender::close), or since its last receiver was dropped.
    #[must_use = "the sender is dropped at once"]
    pub fn upgrade(&self) -> Option<Sender<T>> {
        let core = self.core.upgrade()?;
        core.add_sender_unless_last_dropped().then(|| Sender { core })
    }
}

impl<T> Clone for WeakSender<T> {
    fn clone(&self) -> Self {
        Self { core: Weak::clone(&self.core) }
    }
}

impl<T> fmt::Debug for WeakSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakSender").finish_non_exhaustive()
    }
}

/// A slot in a queue that is reserved for one item.
///
/// The slot counts as used until the permit is used or dropped, and no other sender can take it.
///
/// # Drop
/// The slot goes to the first sender in line, or becomes free.
#[must_use = "the slot is released when the permit is dropped"]
pub struct Permit<'a, T> {
    core: &'a QueueCore<T>,
}

impl<T> Permit<'_, T> {
    /// Sends the item into the slot, without waiting.
    ///
    /// # Errors
    /// [`SendError`] with the item, if the queue was closed after the permit was granted.
    pub fn send(self, item: T) -> Result<(), SendError<T>> {
        let mut item = item;
        let mut retry_busy = 0;
        loop {
            match self.core.push_held(item) {
                Ok(()) => {
                    // The slot is used, so the drop must not release it.
                    let _used = ManuallyDrop::new(self);
                    return Ok(());
                }
                Err((NoSlot::Closed, back)) => return Err(SendError(back)),
                // The receiver that freed the slot is still moving its item out.
                Err((NoSlot::Full | NoSlot::Busy, back)) => item = back,
            }
            retry_busy += 1;
            if retry_busy < 32 { spin_loop() } else { yield_now() }
        }
    }
}

impl<T> Drop for Permit<'_, T> {
    fn drop(&mut self) {
        if mutant!("queue.keep_permit") {
            return;
        }
        self.core.release(1);
    }
}

impl<T> fmt::Debug for Permit<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

/// A sender for futures that are written by hand, with its position in line.
pub(crate) struct PollSender<T> {
    sender: Sender<T>,
    waiter: SendWaiter,
    /// Created at the first wait.
    closed: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<T> PollSender<T> {
    pub(crate) fn new(sender: Sender<T>) -> Self {
        Self { sender, waiter: SendWaiter::default(), closed: None }
    }

    /// Sends the item. It stays in `item` until it is in the queue, and if the queue is closed.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, item: &mut Option<T>) -> Poll<Result<(), ()>> {
        self.waiter.poll_send(&self.sender.core, cx, item).map_err(|Closed| ())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

impl<T: Send + 'static> PollSender<T> {
    /// Waits until the queue is closed.
    pub(crate) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let closed = self.closed.get_or_insert_with(|| {
            let sender = self.sender.clone();
            Box::pin(async move { sender.closed().await })
        });
        closed.as_mut().poll(cx)
    }
}

impl<T> Drop for PollSender<T> {
    fn drop(&mut self) {
        self.waiter.leave(&self.sender.core);
    }
}
