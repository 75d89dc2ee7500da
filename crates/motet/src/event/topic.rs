//! The listeners of each event type.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::{ArcSwap, Guard};

use super::slot::{AnyListener, ListenerMeta, ListenerSlot, Order};
use super::snapshot::{Snapshot, SnapshotCalls, SnapshotEntry};
use super::{AnyEvent, Event};

/// The listeners of one event type: a list that changes with each listener that is added or removed, and a snapshot of
/// the list that an emit reads without a lock.
///
/// A change takes logarithmic time: it marks the snapshot as stale, and the next emit or post copies the list once for
/// all changes before it. A stale snapshot holds no listener, so that the values of a listener are dropped when the
/// listener is removed, and not only at the next emit.
pub(super) struct Topic<E> {
    snapshot: ArcSwap<Snapshot<E>>,
    /// The value of `snapshot` while the snapshot is stale.
    stale: Arc<Snapshot<E>>,
    /// No code of the user runs under this lock. A caller that changes the list also holds the registry.
    listed: Mutex<BTreeMap<Order, SnapshotEntry<E>>>,
    /// The length of the list, which is read without the lock.
    count: AtomicUsize,
    warned: AtomicBool,
}

/// A listener or a snapshot that was removed. It holds values of the user, so it is dropped after all locks are
/// released.
pub(super) enum RemovedListener {
    Listener(Arc<dyn AnyListener>),
    /// A snapshot that has become stale, with its listeners.
    Snapshot {
        _listeners: Arc<dyn Any + Send + Sync>,
    },
}

impl RemovedListener {
    pub(super) fn meta(&self) -> Option<&ListenerMeta> {
        match self {
            Self::Listener(listener) => Some(listener.meta()),
            Self::Snapshot { .. } => None,
        }
    }
}

impl<E: AnyEvent> Topic<E> {
    pub(super) fn new(patterns: impl Iterator<Item = Arc<ListenerSlot<dyn AnyEvent>>>) -> Self {
        let listed: BTreeMap<_, _> =
            patterns.map(|slot| (slot.meta.order(), SnapshotEntry::Pattern(slot))).collect();
        let stale = Arc::new(Snapshot::stale());
        Self {
            snapshot: ArcSwap::new(Arc::clone(&stale)),
            stale,
            count: AtomicUsize::new(listed.len()),
            listed: Mutex::new(listed),
            warned: AtomicBool::new(false),
        }
    }

    /// Adds a listener. Returns the snapshot that this made stale.
    pub(super) fn add(&self, entry: SnapshotEntry<E>) -> Option<RemovedListener> {
        let mut listed = self.listed();
        listed.insert(entry.meta().order(), entry);
        self.changed(&listed)
    }

    /// Marks the snapshot as stale, unless it is stale already.
    fn changed(&self, listed: &BTreeMap<Order, SnapshotEntry<E>>) -> Option<RemovedListener> {
        // Relaxed suffices: whatever informed a caller that a listener is on or off also synchronised with this store.
        // The emits of other callers are ordered before it.
        self.count.store(listed.len(), Ordering::Relaxed);
        let is_stale = self.snapshot.load().calls == SnapshotCalls::Stale;
        (!is_stale)
            .then(|| RemovedListener::Snapshot { _listeners: self.snapshot.swap(Arc::clone(&self.stale)) })
    }

    /// The current listeners.
    #[inline]
    pub(super) fn listeners(&self) -> Guard<Arc<Snapshot<E>>> {
        let snapshot = self.snapshot.load();
        match snapshot.calls {
            SnapshotCalls::Stale => Guard::from_inner(self.refresh()),
            SnapshotCalls::ByRef | SnapshotCalls::Shared => snapshot,
        }
    }

    /// Copies the list, once for all changes since the last copy.
    #[cold]
    fn refresh(&self) -> Arc<Snapshot<E>> {
        let listed = self.listed();
        // Another emit may have copied the list first.
        let snapshot = self.snapshot.load_full();
        if snapshot.calls != SnapshotCalls::Stale {
            return snapshot;
        }
        let snapshot = Arc::new(Snapshot::of(listed.values().cloned()));
        self.snapshot.store(Arc::clone(&snapshot));
        snapshot
    }
}

impl<E> Topic<E> {
    #[inline]
    pub(super) fn has_listeners(&self) -> bool {
        self.len() > 0
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn listed(&self) -> MutexGuard<'_, BTreeMap<Order, SnapshotEntry<E>>> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A topic of any event type.
pub(super) trait AnyTopic: Any + Send + Sync {
    fn event(&self) -> &'static str;
    fn len(&self) -> usize;
    fn add_pattern(&self, slot: Arc<ListenerSlot<dyn AnyEvent>>) -> Option<RemovedListener>;
    /// Removes the listener at `order`, if it is in the list.
    fn remove(&self, order: Order, out: &mut Vec<RemovedListener>);
    /// Removes all listeners that are off.
    fn remove_off(&self, out: &mut Vec<RemovedListener>);
    /// Returns `true` the first time that the topic has more than `limit` listeners.
    fn outgrows(&self, limit: usize) -> bool;
}

impl<E: Event> AnyTopic for Topic<E> {
    fn event(&self) -> &'static str {
        E::NAME
    }

    fn len(&self) -> usize {
        Self::len(self)
    }

    fn add_pattern(&self, slot: Arc<ListenerSlot<dyn AnyEvent>>) -> Option<RemovedListener> {
        self.add(SnapshotEntry::Pattern(slot))
    }

    fn remove(&self, order: Order, out: &mut Vec<RemovedListener>) {
        let mut listed = self.listed();
        if let Some(removed) = listed.remove(&order) {
            out.extend(self.changed(&listed));
            out.push(RemovedListener::Listener(removed.into_listener()));
        }
    }

    fn remove_off(&self, out: &mut Vec<RemovedListener>) {
        let mut listed = self.listed();
        let before = out.len();
        let off = listed.extract_if(.., |_, entry| !entry.meta().is_on());
        out.extend(off.map(|(_, entry)| RemovedListener::Listener(entry.into_listener())));
        if out.len() > before {
            out.extend(self.changed(&listed));
        }
    }

    fn outgrows(&self, limit: usize) -> bool {
        self.len() > limit && !self.warned.swap(true, Ordering::Relaxed)
    }
}

/// The topics by event type. A topic stays as long as the emitter, so that it is found without a lock or a reference
/// count; there are at most as many topics as the program has event types.
#[derive(Default)]
pub(super) struct Topics([Link; CHAINS]);

type Link = OnceLock<Box<Node>>;

struct Node {
    event: TypeId,
    topic: Box<dyn AnyTopic>,
    next: Link,
}

/// With 32 chains, a program with a hundred event types has three or four topics per chain.
const CHAINS: usize = 32;

impl Topics {
    #[inline]
    pub(super) fn find<E: Event>(&self) -> Option<&Topic<E>> {
        let event = TypeId::of::<E>();
        let node = self.chain(event).find(|node| node.event == event)?;
        let topic: &dyn Any = &*node.topic;
        topic.downcast_ref()
    }

    /// Adds a topic. The caller holds the registry, and has checked that there is no topic of this type.
    pub(super) fn add<E: Event>(&self, topic: Topic<E>) -> &Topic<E> {
        let event = TypeId::of::<E>();
        let mut end = &self.0[chain_of(event)];
        while let Some(node) = end.get() {
            end = &node.next;
        }
        let node = end.get_or_init(|| Box::new(Node { event, topic: Box::new(topic), next: Link::new() }));
        let topic: &dyn Any = &*node.topic;
        topic.downcast_ref().expect("the registry is locked, so the node is the one that was added")
    }

    #[inline]
    fn chain(&self, event: TypeId) -> impl Iterator<Item = &Node> {
        std::iter::successors(self.0[chain_of(event)].get(), |node| node.next.get()).map(|node| &**node)
    }

    pub(super) fn of(&self, event: TypeId) -> Option<&dyn AnyTopic> {
        self.chain(event).find(|node| node.event == event).map(|node| &*node.topic)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &dyn AnyTopic> {
        let chains = self.0.iter();
        chains
            .flat_map(|chain| std::iter::successors(chain.get(), |node| node.next.get()))
            .map(|node| &*node.topic)
    }
}

#[inline]
fn chain_of(event: TypeId) -> usize {
    let mut bits = Bits(0);
    event.hash(&mut bits);
    bits.0 as usize % CHAINS
}

/// A hasher that passes the bits through: a `TypeId` is a hash already.
struct Bits(u64);

impl Hasher for Bits {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, bits: u64) {
        self.0 = bits;
    }
}
