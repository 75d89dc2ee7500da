use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, Weak};

use tokio::time::Instant;

use super::core::QueueCore;
use super::cursors::{Cursors, MAX_CAPACITY, UNBOUNDED};
use super::dead_letters::{DeadLetterQueue, DeadLetterSink};
use super::orders::{Fifo, Lifo, Priority, Store};
use super::ring::{Ring, slots};
use super::storage::{LockedStore, RankFn, Storage};
use super::{DeadLetter, QueueConfigError, Receiver, Sender};
use crate::observe::Stats;
use crate::task::{Name, Scope, ambient};

/// Sets the options of a queue; created by [`builder`].
///
/// # Defaults
/// First in, first out; no dead letters, so an item may be tried without end; no name.
#[must_use = "the queue is created by `build`"]
pub struct QueueBuilder<T> {
    capacity: usize,
    order: Order<T>,
    letters: Option<Arc<dyn DeadLetterSink<T>>>,
    register: Option<Register<T>>,
}

/// Registers a queue with a scope.
type Register<T> = Box<dyn FnOnce(&Arc<QueueCore<T>>, &Scope)>;

enum Order<T> {
    Fifo,
    Other(Storage<T>),
}

/// Creates a builder for a queue that holds at most `capacity` items: from 1 to 4 194 304.
///
/// # Examples
/// ```
/// use std::num::NonZeroU32;
/// use motet::queue;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (dead, letters) = queue::bounded(16)?;
/// let (sender, receiver) = queue::builder(64).dead_letters(NonZeroU32::MIN, dead).build()?;
/// sender.send("poison").await?;
/// drop(receiver.lease().await); // the only attempt fails
/// let letter = letters.recv().await.expect("a dead letter");
/// assert_eq!((letter.item, letter.attempts), ("poison", 1));
/// # Ok(())
/// # }
/// ```
pub fn builder<T>(capacity: usize) -> QueueBuilder<T> {
    QueueBuilder { capacity, order: Order::Fifo, letters: None, register: None }
}

impl<T> QueueBuilder<T> {
    /// Moves an item to the queue `to` when it has come back from its lease `after` times.
    ///
    /// While `to` is full, the dead letter waits in this queue and keeps its slot. If `to` is closed, the dead letter
    /// is dropped, and an error is logged.
    pub fn dead_letters(mut self, after: NonZeroU32, to: Sender<DeadLetter<T>>) -> Self
    where
        T: Send + 'static,
    {
        self.letters = Some(Arc::new(DeadLetterQueue::new(after, to)));
        self
    }

    /// Sets the name, under which snapshots of the queue's scope show the queue.
    pub fn name(mut self, name: impl Into<Name>) -> Self
    where
        T: Send + 'static,
    {
        let name = name.into();
        self.register = Some(Box::new(move |core, scope| {
            let weak = Arc::downgrade(core);
            let stats = move || weak.upgrade().map_or_else(Stats::new, |core| core.stats());
            let _ = core.registration.set(scope.register("queue", name, stats));
        }));
        self
    }

    /// Creates the queue. A queue with a name is shown in the snapshots of the scope that the caller runs in, if it runs
    /// in one.
    ///
    /// # Errors
    /// [`QueueConfigError`]: the capacity is 0, or more than 4 194 304.
    pub fn build(self) -> Result<(Sender<T>, Receiver<T>), QueueConfigError> {
        self.check()?;
        let scope = ambient::current().filter(|_| self.register.is_some()).map(Scope);
        Ok(self.create(scope.as_ref()))
    }

    /// Creates the queue. A queue with a name is shown in the snapshots of `scope`.
    ///
    /// # Errors
    /// [`QueueConfigError`]: the capacity is 0, or more than 4 194 304.
    pub fn build_in(self, scope: &Scope) -> Result<(Sender<T>, Receiver<T>), QueueConfigError> {
        self.check()?;
        Ok(self.create(Some(scope)))
    }

    fn check(&self) -> Result<(), QueueConfigError> {
        match self.capacity {
            1..=MAX_CAPACITY => Ok(()),
            capacity => Err(QueueConfigError::Capacity(capacity)),
        }
    }

    /// Creates the queue with a capacity that is known to be valid.
    fn create(self, scope: Option<&Scope>) -> (Sender<T>, Receiver<T>) {
        let (storage, slots) = match self.order {
            Order::Fifo => (Storage::Ring(Ring::new(self.capacity)), Some(slots(self.capacity))),
            Order::Other(storage) => (storage, None),
        };
        let core = QueueCore::new(Cursors::new(self.capacity, slots), storage, self.letters);
        let core = Arc::new(core);
        if let Some(letters) = &core.letters {
            let owner: Weak<QueueCore<T>> = Arc::downgrade(&core);
            letters.serve(owner);
        }
        if let (Some(register), Some(scope)) = (self.register, scope) {
            register(&core, scope);
        }
        (Sender { core: Arc::clone(&core) }, Receiver::new(core))
    }

    /// Hands out each item when it is due. See [`delay`].
    pub fn delay(mut self, due: impl Fn(&T) -> Instant + Send + Sync + 'static) -> Self {
        self.order = Order::Other(Storage::Later(Box::new(due)));
        self
    }

    /// Hands out the newest item first. See [`lifo`].
    pub fn lifo(self) -> Self
    where
        T: Send + 'static,
    {
        self.stored(Box::new(Lifo::new()), None)
    }

    /// Hands out the items with the lowest rank first. See [`priority`].
    pub fn priority(self, rank: impl Fn(&T) -> i64 + Send + Sync + 'static) -> Self
    where
        T: Send + 'static,
    {
        self.stored(Box::new(Priority::new()), Some(Box::new(rank)))
    }

    /// Stores the items in `store`.
    pub(super) fn stored(mut self, store: Box<dyn Store<T>>, rank: Option<RankFn<T>>) -> Self {
        self.order = Order::Other(Storage::Store(LockedStore::new(store, rank)));
        self
    }
}

/// Creates a queue that is first in, first out, and holds at most `capacity` items.
///
/// A capacity that is a power of two is the fastest. The memory is allocated at once: 8 bytes and the size of an item
/// for each slot, up to the next power of two.
///
/// # Errors
/// [`QueueConfigError`]: the capacity is 0, or more than 4 194 304.
pub fn bounded<T>(capacity: usize) -> Result<(Sender<T>, Receiver<T>), QueueConfigError> {
    builder(capacity).build()
}

/// Creates a queue that is first in, first out, and has no capacity limit.
///
/// # When to use
/// Where senders cannot wait, and something else limits the number of items. Without such a limit the queue is a memory
/// leak: use [`bounded`].
#[must_use = "a queue whose handles are dropped is closed"]
pub fn unbounded<T: Send + 'static>() -> (Sender<T>, Receiver<T>) {
    builder(UNBOUNDED).stored(Box::new(Fifo::new()), None).create(None)
}

/// Creates a queue that hands out each item when it is due, in the order of their due times.
///
/// # Errors
/// [`QueueConfigError`]: the capacity is 0, or more than 4 194 304.
///
/// # Panics
/// A receiver that waits for a due time panics outside of a runtime with a timer.
///
/// # Examples
/// ```
/// use motet::queue;
/// use std::time::Duration;
/// use tokio::time::Instant;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let now = Instant::now();
/// let (sender, receiver) = queue::delay(8, move |seconds: &u64| now + Duration::from_secs(*seconds))?;
/// sender.send(20).await?;
/// sender.send(10).await?;
/// assert_eq!(receiver.recv().await, Some(10));
/// assert_eq!(now.elapsed().as_secs(), 10);
/// # Ok(())
/// # }
/// ```
pub fn delay<T>(
    capacity: usize,
    due: impl Fn(&T) -> Instant + Send + Sync + 'static,
) -> Result<(Sender<T>, Receiver<T>), QueueConfigError> {
    builder(capacity).delay(due).build()
}

/// Creates a queue that hands out the newest item first.
///
/// # When to use
/// Where new items are worth more than old ones. An old item may wait for as long as new items arrive.
///
/// # Errors
/// [`QueueConfigError`]: the capacity is 0, or more than 4 194 304.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use motet::queue;
///
/// let (sender, receiver) = queue::lifo(8)?;
/// sender.send("old").await?;
/// sender.send("new").await?;
/// assert_eq!(receiver.recv().await, Some("new"));
/// # Ok(())
/// # }
/// ```
pub fn lifo<T: Send + 'static>(capacity: usize) -> Result<(Sender<T>, Receiver<T>), QueueConfigError> {
    builder(capacity).lifo().build()
}

/// Creates a queue that hands out the items with the lowest rank first.
///
/// `rank` is called when an item is sent, and again each time the item finds no free slot.
///
/// # When to use
/// Where some items must not wait for others. An item may wait for as long as items of a lower rank arrive.
///
/// # Ordering and fairness
/// First in, first out within a rank. An item that comes back from a lease is handed out before all other items of its
/// rank. Up to 16 ranks at a time are the fastest; further ranks cost a search whose time grows with the logarithm of
/// the number of items.
///
/// # Errors
/// [`QueueConfigError`]: the capacity is 0, or more than 4 194 304.
///
/// # Examples
/// ```
/// use motet::queue;
///
/// struct Mail { urgent: bool, text: &'static str }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (sender, receiver) = queue::priority(8, |mail: &Mail| if mail.urgent { 0 } else { 1 })?;
/// for (urgent, text) in [(false, "news"), (true, "fire"), (true, "flood")] {
///     sender.send(Mail { urgent, text }).await?;
/// }
/// drop(sender);
/// let mut received = Vec::new();
/// while let Some(mail) = receiver.recv().await {
///     received.push(mail.text);
/// }
/// assert_eq!(received, ["fire", "flood", "news"]);
/// # Ok(())
/// # }
/// ```
pub fn priority<T: Send + 'static>(
    capacity: usize,
    rank: impl Fn(&T) -> i64 + Send + Sync + 'static,
) -> Result<(Sender<T>, Receiver<T>), QueueConfigError> {
    builder(capacity).priority(rank).build()
}

impl<T> fmt::Debug for QueueBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueBuilder").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}
