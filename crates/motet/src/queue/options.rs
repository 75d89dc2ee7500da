use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, Weak};

use tokio::time::Instant;

use super::core::Core;
use super::counts::{Counts, MAX_CAPACITY, UNBOUNDED};
use super::letters::{LetterBox, Letters};
use super::place::{Locked, Place, RankFn};
use super::ring::{Ring, slots};
use super::store::{Fifo, Lifo, Priority, Store};
use super::{DeadLetter, Receiver, Sender};
use crate::observe::Stats;
use crate::task::{Name, Scope};

/// Sets up a queue; made by [`options`].
///
/// # Defaults
/// First in, first out; no dead letters: an item may be tried for ever; no name.
#[must_use = "there is no queue until it is built"]
pub struct Options<T> {
    capacity: usize,
    order: Order<T>,
    letters: Option<Arc<dyn Letters<T>>>,
    #[allow(clippy::type_complexity, reason = "it is called once, in `build`")]
    register: Option<Box<dyn FnOnce(&Arc<Core<T>>)>>,
}

enum Order<T> {
    Fifo,
    Other(Place<T>),
}

/// Begins to set up a queue for so many items.
///
/// # Panics
/// If the capacity is 0, or more than 4 194 304.
///
/// # Examples
/// ```
/// use std::num::NonZeroU32;
/// use motet::queue;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let (dead, letters) = queue::bounded(16);
/// let (sender, receiver) = queue::options(64).dead_letters(NonZeroU32::MIN, dead).build();
/// sender.send("poison").await.unwrap();
/// drop(receiver.lease().await);
/// assert_eq!(letters.recv().await.unwrap().item, "poison");
/// # });
/// ```
#[track_caller]
pub fn options<T>(capacity: usize) -> Options<T> {
    assert!(capacity > 0, "a queue needs room for an item: give it a capacity of at least 1");
    assert!(
        capacity <= MAX_CAPACITY,
        "a queue has room for {MAX_CAPACITY} items at most: store more elsewhere"
    );
    Options { capacity, order: Order::Fifo, letters: None, register: None }
}

impl<T> Options<T> {
    /// Hands an item that came back from its lease for the `after`th time to another queue.
    ///
    /// While that is full, the letter waits in this queue, and keeps its place there. If that is closed, the letter is
    /// dropped, and an error is logged.
    pub fn dead_letters(mut self, after: NonZeroU32, to: Sender<DeadLetter<T>>) -> Self
    where
        T: Send + 'static,
    {
        self.letters = Some(Arc::new(LetterBox::new(after, to)));
        self
    }

    /// Shows the queue in the snapshots of a scope, under this name.
    pub fn named(mut self, name: impl Into<Name>, scope: &Scope) -> Self
    where
        T: Send + 'static,
    {
        let (name, scope) = (name.into(), scope.clone());
        self.register = Some(Box::new(move |core| {
            let weak = Arc::downgrade(core);
            let stats = move || weak.upgrade().map_or_else(Stats::new, |core| core.stats());
            let _ = core.registration.set(scope.register("queue", name, stats));
        }));
        self
    }

    /// Makes the queue.
    #[must_use = "a queue whose handles are dropped is closed"]
    pub fn build(self) -> (Sender<T>, Receiver<T>) {
        let (place, slots) = match self.order {
            Order::Fifo => (Place::Ring(Ring::new(self.capacity)), Some(slots(self.capacity))),
            Order::Other(place) => (place, None),
        };
        let core = Core::new(Counts::new(self.capacity, slots), place, self.letters);
        let core = Arc::new(core);
        if let Some(letters) = &core.letters {
            let owner: Weak<Core<T>> = Arc::downgrade(&core);
            letters.serve(owner);
        }
        if let Some(register) = self.register {
            register(&core);
        }
        (Sender { core: Arc::clone(&core) }, Receiver::new(core))
    }

    /// Hands out each item when it is due: see [`delay`].
    pub fn delay(mut self, due: impl Fn(&T) -> Instant + Send + Sync + 'static) -> Self {
        self.order = Order::Other(Place::Later(Box::new(due)));
        self
    }

    /// Hands out the last one sent first: see [`lifo`].
    pub fn lifo(self) -> Self
    where
        T: Send + 'static,
    {
        self.stored(Box::new(Lifo::new()), None)
    }

    /// Hands out those of the lowest rank first: see [`priority`].
    pub fn priority(self, rank: impl Fn(&T) -> i64 + Send + Sync + 'static) -> Self
    where
        T: Send + 'static,
    {
        self.stored(Box::new(Priority::new()), Some(Box::new(rank)))
    }

    /// Keeps the items in a store.
    pub(super) fn stored(mut self, store: Box<dyn Store<T>>, rank: Option<RankFn<T>>) -> Self {
        self.order = Order::Other(Place::Store(Locked::new(store, rank)));
        self
    }
}

/// Makes a queue that is first in, first out, for so many items.
///
/// A capacity that is a power of two is the quickest. Memory is taken at once: 8 bytes and the item, for each place
/// up to the next power of two.
///
/// # Panics
/// If the capacity is 0, or more than 4 194 304.
#[must_use = "a queue whose handles are dropped is closed"]
#[track_caller]
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    options(capacity).build()
}

/// Makes a queue that is first in, first out, and grows as it must.
///
/// # When to use
/// Where senders cannot wait, and something else bounds what they send. What does not is a leak: use [`bounded`].
#[must_use = "a queue whose handles are dropped is closed"]
pub fn unbounded<T: Send + 'static>() -> (Sender<T>, Receiver<T>) {
    let options = Options { capacity: UNBOUNDED, order: Order::Fifo, letters: None, register: None };
    options.stored(Box::new(Fifo::new()), None).build()
}

/// Makes a queue that hands out each item when it is due, the one that is due first before the others.
///
/// # Panics
/// If the capacity is 0, or more than 4 194 304. Receivers that wait panic outside of a runtime with time.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tokio::time::Instant;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let now = Instant::now();
/// let (sender, receiver) = motet::queue::delay(8, move |seconds: &u64| now + Duration::from_secs(*seconds));
/// sender.send(20).await.unwrap();
/// sender.send(10).await.unwrap();
/// assert_eq!(receiver.recv().await, Some(10));
/// assert_eq!(now.elapsed().as_secs(), 10);
/// # });
/// ```
#[must_use = "a queue whose handles are dropped is closed"]
#[track_caller]
pub fn delay<T>(
    capacity: usize,
    due: impl Fn(&T) -> Instant + Send + Sync + 'static,
) -> (Sender<T>, Receiver<T>) {
    options(capacity).delay(due).build()
}

/// Makes a queue for so many items that hands out the last one sent before the others.
///
/// # When to use
/// Where what is new is worth more than what is old, and the old may wait for as long as new items come.
///
/// # Panics
/// If the capacity is 0, or more than 4 194 304.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let (sender, receiver) = motet::queue::lifo(8);
/// sender.send("old").await.unwrap();
/// sender.send("new").await.unwrap();
/// assert_eq!(receiver.recv().await, Some("new"));
/// # });
/// ```
#[must_use = "a queue whose handles are dropped is closed"]
#[track_caller]
pub fn lifo<T: Send + 'static>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    options(capacity).lifo().build()
}

/// Makes a queue for so many items that hands out those of the lowest rank first.
///
/// `rank` is called when an item is sent, and again each time that it finds no room.
///
/// # When to use
/// Where some items must not wait for others. A rank may wait for as long as items of a lower one come.
///
/// # Ordering and fairness
/// First in, first out within a rank. What a lease brings back comes before all others of its rank. Up to 16 ranks at
/// a time are the quickest; more cost a search that grows with the logarithm of the items.
///
/// # Panics
/// If the capacity is 0, or more than 4 194 304.
///
/// # Examples
/// ```
/// struct Mail { urgent: bool, text: &'static str }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let (sender, receiver) = motet::queue::priority(8, |mail: &Mail| if mail.urgent { 0 } else { 1 });
/// for (urgent, text) in [(false, "news"), (true, "fire"), (true, "flood")] {
///     assert!(sender.send(Mail { urgent, text }).await.is_ok());
/// }
/// assert_eq!(receiver.recv().await.unwrap().text, "fire");
/// assert_eq!(receiver.recv().await.unwrap().text, "flood");
/// assert_eq!(receiver.recv().await.unwrap().text, "news");
/// # });
/// ```
#[must_use = "a queue whose handles are dropped is closed"]
#[track_caller]
pub fn priority<T: Send + 'static>(
    capacity: usize,
    rank: impl Fn(&T) -> i64 + Send + Sync + 'static,
) -> (Sender<T>, Receiver<T>) {
    options(capacity).priority(rank).build()
}

impl<T> fmt::Debug for Options<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}
