use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::core::{QueueCore, flag};
use super::orders::Entry;
use super::storage::Storage;
use super::{DeadLetter, LeaseError};
use crate::sync::WakeList;
use crate::{mutant, sim};

/// An item that is handed out to one worker and not settled yet.
///
/// The item keeps its slot in the queue. Settling is asynchronous and can fail, so that a queue on another machine, where
/// the item may have been handed out again, can have the same interface.
///
/// The lease dereferences to the item. A change of the item is kept when the item returns to the queue, which does not
/// compute the rank or the due time of the item again.
///
/// # Drop
/// The item returns to the front of the queue, and the attempt counts. After the last attempt it goes to the dead
/// letters, if the queue has such. The drop never waits.
#[must_use = "the item returns to the queue when the lease is dropped"]
pub struct Lease<T> {
    core: Arc<QueueCore<T>>,
    /// `None` once settled.
    entry: Option<Entry<T>>,
}

impl<T> Lease<T> {
    pub(super) fn new(core: Arc<QueueCore<T>>, entry: Entry<T>) -> Self {
        Self { core, entry: Some(entry) }
    }

    /// Settles the item as done, which frees its slot.
    ///
    /// # Cancel safety
    /// A future that is dropped before its first poll returns the item to the queue, like a drop of the lease. In a
    /// queue in memory it never suspends.
    ///
    /// # Errors
    /// [`LeaseError`]: the lease was void. The work is done all the same, and may be done again.
    #[track_caller]
    pub fn done(self) -> impl Future<Output = Result<(), LeaseError>> {
        sim::at("lease", "done", async move { self.end() })
    }

    pub(super) fn end(mut self) -> Result<(), LeaseError> {
        self.check()?;
        if let Some(entry) = self.entry.take() {
            if mutant!("queue.hand_out_again") {
                self.core.take_back(entry, None);
                return Ok(());
            }
            self.core.settle();
            drop(entry);
        }
        Ok(())
    }

    /// Settles the item as done, which frees its slot, and passes the item to `then`. Returns the result of `then`.
    ///
    /// `then` runs before the item is settled: when a [`join`](super::Sender::join) has returned, `then` has run for each
    /// item.
    ///
    /// # When to use
    /// To keep the item, or a part of it, without a clone. With `|item| item` it returns the item.
    ///
    /// # Cancel safety
    /// As with [`done`](Self::done).
    ///
    /// # Errors
    /// [`LeaseError`]: the lease was void. `then` was not called, and the item is dropped: it was, or will be, handed out
    /// again, or `shutdown_now` was called.
    ///
    /// # Panics
    /// Passes a panic of `then` on. The item is settled.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (sender, receiver) = motet::queue::bounded(4)?;
    /// sender.send(String::from("page")).await?;
    /// let mut visited = Vec::new();
    /// let mut lease = receiver.lease().await.expect("a page");
    /// lease.push_str(" 1");
    /// lease.done_with(|page| visited.push(page)).await?;
    /// assert_eq!(visited, ["page 1"]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn done_with<R>(self, then: impl FnOnce(T) -> R) -> impl Future<Output = Result<R, LeaseError>> {
        sim::at("lease", "done with", async move { self.end_with(then) })
    }

    fn end_with<R>(mut self, then: impl FnOnce(T) -> R) -> Result<R, LeaseError> {
        self.check()?;
        let Some(entry) = self.entry.take() else { unreachable!("settling a lease consumes it") };
        // Dropped after `then`, also if `then` panics.
        let settles = Settles(&self.core);
        if mutant!("queue.settle_before_then") {
            drop(settles);
            return Ok(then(entry.item));
        }
        let result = then(entry.item);
        drop(settles);
        Ok(result)
    }

    /// Requests more time. A queue in memory has no time limit, and grants the request.
    ///
    /// # Cancel safety
    /// Safe: the lease is unchanged, or extended.
    ///
    /// # Errors
    /// [`LeaseError`]: the lease is void.
    #[allow(clippy::unused_async, reason = "a queue on another machine needs a request")]
    #[track_caller]
    pub fn extend(&mut self, _by: Duration) -> impl Future<Output = Result<(), LeaseError>> {
        sim::at("lease", "extend", async move { self.check() })
    }

    /// Returns the item, to be handed out again after the delay `after`, before items that are sent in the meantime.
    /// With zero that is at once; with [`Duration::MAX`] never: the item stays in the queue.
    ///
    /// The attempt counts: after the last attempt the item goes to the dead letters, if the queue has such.
    ///
    /// # Cancel safety
    /// As with [`done`](Self::done).
    ///
    /// # Errors
    /// [`LeaseError`]: the lease was void.
    #[track_caller]
    pub fn retry(self, after: Duration) -> impl Future<Output = Result<(), LeaseError>> {
        sim::at("lease", "retry", async move { self.fail(after) })
    }

    pub(super) fn fail(mut self, after: Duration) -> Result<(), LeaseError> {
        self.check()?;
        if let Some(entry) = self.entry.take() {
            // A time beyond the range of the clock never comes.
            let now = Instant::now();
            let due = now.checked_add(after).unwrap_or_else(|| now + Duration::from_secs(86_400 * 365 * 30));
            self.core.take_back(entry, Some(due));
        }
        Ok(())
    }

    /// Returns the item to the front of the queue. The attempt does not count.
    ///
    /// # When to use
    /// If the worker has to stop before it has begun to work on the item.
    ///
    /// # Cancel safety
    /// As with [`done`](Self::done): a future that is dropped before its first poll returns the item, and the attempt
    /// counts.
    ///
    /// # Errors
    /// [`LeaseError`]: the lease was void.
    #[track_caller]
    pub fn release(self) -> impl Future<Output = Result<(), LeaseError>> {
        sim::at("lease", "release", async move { self.give_back() })
    }

    pub(super) fn give_back(mut self) -> Result<(), LeaseError> {
        self.check()?;
        if let Some(entry) = self.entry.take() {
            self.core.put_back(entry, None);
        }
        Ok(())
    }

    /// Counts this attempt as failed, and begins the next one with the same lease. Returns `false` if it was the last
    /// attempt.
    pub(super) fn try_again(&mut self) -> bool {
        let Some(entry) = &mut self.entry else { return false };
        let returns = entry.returns.saturating_add(1);
        if self.core.letters.as_ref().is_some_and(|letters| returns >= letters.after()) {
            return false;
        }
        entry.returns = returns;
        true
    }

    /// The number of times the item has been handed out, including this one.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.entry.as_ref().map_or(0, |entry| entry.returns.saturating_add(1))
    }

    /// Returns an error if the lease is void.
    fn check(&self) -> Result<(), LeaseError> {
        if mutant!("queue.no_fence") {
            return Ok(());
        }
        if self.core.has(flag::FENCED) {
            return Err(LeaseError::Closed);
        }
        Ok(())
    }
}

impl<T> Deref for Lease<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.entry {
            Some(entry) => &entry.item,
            None => unreachable!("settling a lease consumes it"),
        }
    }
}

impl<T> DerefMut for Lease<T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.entry {
            Some(entry) => &mut entry.item,
            None => unreachable!("settling a lease consumes it"),
        }
    }
}

/// Settles a leased item when it is dropped.
struct Settles<'a, T>(&'a QueueCore<T>);

impl<T> Drop for Settles<'_, T> {
    fn drop(&mut self) {
        self.0.settle();
    }
}

impl<T> Drop for Lease<T> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.core.take_back(entry, None);
        }
    }
}

impl<T> QueueCore<T> {
    /// Takes a leased item back: to the front, to be due later, or to the dead letters.
    pub(super) fn take_back(&self, mut entry: Entry<T>, due: Option<Instant>) {
        entry.returns = entry.returns.saturating_add(1);
        if mutant!("queue.attempt_uncounted") {
            entry.returns -= 1;
        }
        if let Some(letters) = &self.letters
            && entry.returns >= letters.after()
            && !self.has(flag::FENCED)
        {
            Arc::clone(letters).put(DeadLetter { item: entry.item, attempts: entry.returns });
            return;
        }
        self.put_back(entry, due);
    }

    /// Puts an item back that will be handed out again.
    fn put_back(&self, entry: Entry<T>, due: Option<Instant>) {
        let mut wakes = WakeList::default();
        let mut slow = self.lock();
        if self.has(flag::ENDED) {
            if !self.has(flag::FENCED) {
                slow.abandoned += 1;
            }
            drop(slow);
            self.settle();
            drop(entry);
            return;
        }
        match (&self.storage, due) {
            (_, Some(due)) => self.schedule(&mut slow, entry, due, &mut wakes),
            (Storage::Store(store), None) => {
                store.push_front(&self.cursors, entry);
                self.forget_lease(&slow);
            }
            (Storage::Ring(_) | Storage::Later(_), None) => {
                slow.front.push_front(entry);
                if mutant!("queue.return_to_back") {
                    slow.front.rotate_left(1);
                }
                self.raise(&slow, flag::ASIDE);
            }
        }
        self.grant_items(&mut slow, &mut wakes);
        drop(slow);
        wakes.wake();
    }
}

impl<T: fmt::Debug> fmt::Debug for Lease<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("item", &**self).field("attempt", &self.attempt()).finish()
    }
}
