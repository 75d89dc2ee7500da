use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::core::{Core, flag};
use super::place::Place;
use super::store::Entry;
use super::waiters::Wakes;
use super::{DeadLetter, LeaseError};
use crate::{mutant, sim};

/// An item in the hands of one worker, until it says what became of it.
///
/// The item keeps its place in the queue's capacity. The words are those of a queue on another machine: settling it
/// is awaited and can fail, since somebody else may have the item by then.
///
/// # Drop
/// The item goes back to the front of the queue, with this attempt counted; after the last attempt it goes to the
/// dead letters, if the queue has such. Dropping never waits.
#[must_use = "the item goes back to the queue when this is dropped"]
pub struct Lease<T> {
    core: Arc<Core<T>>,
    /// `None` once settled.
    entry: Option<Entry<T>>,
}

impl<T> Lease<T> {
    pub(super) fn new(core: Arc<Core<T>>, entry: Entry<T>) -> Self {
        Self { core, entry: Some(entry) }
    }

    /// Settles the item: it is done, and its place is free.
    ///
    /// # Cancel safety
    /// A future that was never polled returns the item to the queue, as a drop of the lease does. It does not
    /// suspend in a queue in memory.
    ///
    /// # Errors
    /// [`LeaseError`]: the lease did not count any more. What was done stays done, and may be done again.
    #[track_caller]
    pub fn done(self) -> impl Future<Output = Result<(), LeaseError>> {
        sim::at("lease", "done", async move { self.end() })
    }

    pub(super) fn end(mut self) -> Result<(), LeaseError> {
        self.counts()?;
        match self.entry.take() {
            Some(entry) if mutant!("queue.hand_out_again") => self.core.take_back(entry, None),
            Some(_settled) => self.core.settle(),
            None => {}
        }
        Ok(())
    }

    /// Asks for more time. A queue in memory sets no limit, and grants it.
    ///
    /// # Cancel safety
    /// Safe: the lease is as it was, or extended.
    ///
    /// # Errors
    /// [`LeaseError`]: the lease does not count any more.
    #[allow(clippy::unused_async, reason = "a queue on another machine has to be asked")]
    #[track_caller]
    pub fn extend(&mut self, _by: Duration) -> impl Future<Output = Result<(), LeaseError>> {
        sim::at("lease", "extend", async move { self.counts() })
    }

    /// Gives the item back, to be handed out again after so much time: before those that were sent meanwhile. With zero that
    /// is at once, with [`Duration::MAX`] never: the item stays in the queue.
    ///
    /// The attempt counts: after the last one it goes to the dead letters, if the queue has such.
    ///
    /// # Cancel safety
    /// As [`done`](Self::done).
    ///
    /// # Errors
    /// [`LeaseError`]: the lease did not count any more.
    #[track_caller]
    pub fn retry(self, after: Duration) -> impl Future<Output = Result<(), LeaseError>> {
        sim::at("lease", "retry", async move { self.fail(after) })
    }

    pub(super) fn fail(mut self, after: Duration) -> Result<(), LeaseError> {
        self.counts()?;
        if let Some(entry) = self.entry.take() {
            // A time beyond what the clock can tell never comes.
            let now = Instant::now();
            let due = now.checked_add(after).unwrap_or_else(|| now + Duration::from_secs(86_400 * 365 * 30));
            self.core.take_back(entry, Some(due));
        }
        Ok(())
    }

    /// Gives the item back to the front, and the attempt does not count: nothing was done with it.
    ///
    /// # When to use
    /// When the worker has to stop, for a reason that is not the item's.
    ///
    /// # Cancel safety
    /// As [`done`](Self::done): a future that was never polled returns the item with the attempt counted.
    ///
    /// # Errors
    /// [`LeaseError`]: the lease did not count any more.
    #[track_caller]
    pub fn release(self) -> impl Future<Output = Result<(), LeaseError>> {
        sim::at("lease", "release", async move { self.give_back() })
    }

    pub(super) fn give_back(mut self) -> Result<(), LeaseError> {
        self.counts()?;
        if let Some(entry) = self.entry.take() {
            self.core.put_back(entry, None);
        }
        Ok(())
    }

    /// Counts this attempt as one that failed, and begins the next with the lease in hand. False if it was the last.
    pub(super) fn try_again(&mut self) -> bool {
        let Some(entry) = &mut self.entry else { return false };
        let returns = entry.returns.saturating_add(1);
        if self.core.letters.as_ref().is_some_and(|letters| returns >= letters.after()) {
            return false;
        }
        entry.returns = returns;
        true
    }

    /// Counts how often the item has been handed out, this time included.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.entry.as_ref().map_or(0, |entry| entry.returns.saturating_add(1))
    }

    /// Asks whether the lease still counts.
    fn counts(&self) -> Result<(), LeaseError> {
        if self.core.has(flag::FENCED) && !mutant!("queue.no_fence") {
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
            None => unreachable!("a lease is consumed by what settles it"),
        }
    }
}

impl<T> Drop for Lease<T> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.core.take_back(entry, None);
        }
    }
}

impl<T> Core<T> {
    /// Takes back what was leased: to the front, or to be due later, or to the dead letters.
    pub(super) fn take_back(&self, mut entry: Entry<T>, due: Option<Instant>) {
        if !mutant!("queue.attempt_uncounted") {
            entry.returns = entry.returns.saturating_add(1);
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

    /// Puts an item back that is to be handed out again.
    fn put_back(&self, entry: Entry<T>, due: Option<Instant>) {
        let mut wakes = Wakes::default();
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
        match (&self.place, due) {
            (_, Some(due)) => self.schedule(&mut slow, entry, due, &mut wakes),
            (Place::Store(store), None) => {
                store.push_front(&self.counts, entry);
                self.forget_lease(&slow);
            }
            (Place::Ring(_) | Place::Later(_), None) => {
                match mutant!("queue.return_to_back") {
                    true => slow.front.push_back(entry),
                    false => slow.front.push_front(entry),
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
