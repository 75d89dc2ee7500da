//! The listeners of one type of event, and all such types.

use std::any::{Any, TypeId};
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

use super::slot::{Meta, Slot};
use super::snapshot::{Entry, Snapshot};
use super::{AnyEvent, Event};

/// Written by who holds the registry alone; read by anybody.
pub(super) struct Topic<E> {
    pub(super) snapshot: ArcSwap<Snapshot<E>>,
    /// Whether there is anybody in the snapshot, for those who need not look into it.
    is_heard: AtomicBool,
    warned: AtomicBool,
}

/// What was taken out. It holds what users gave, so it is dropped where no lock is held.
pub(super) type TakenOut = Arc<dyn Any + Send + Sync>;

impl<E: Event> Topic<E> {
    pub(super) fn new(patterns: impl Iterator<Item = Arc<Slot<dyn AnyEvent>>>) -> Self {
        // They are listed in their order already.
        let snapshot = Snapshot::of(patterns.map(Entry::Pattern));
        let is_heard = AtomicBool::new(!snapshot.entries.is_empty());
        Self { snapshot: ArcSwap::from_pointee(snapshot), is_heard, warned: AtomicBool::new(false) }
    }

    pub(super) fn add(&self, entry: Entry<E>) -> TakenOut {
        self.replace(self.snapshot.load().with(entry))
    }

    fn replace(&self, snapshot: Snapshot<E>) -> TakenOut {
        let is_heard = !snapshot.entries.is_empty();
        let before = self.snapshot.swap(Arc::new(snapshot));
        // Relaxed, as who is told that a listener is on or off, by whatever means, sees this. Others emit before that.
        self.is_heard.store(is_heard, Ordering::Relaxed);
        before
    }
}

impl<E> Topic<E> {
    #[inline]
    pub(super) fn is_heard(&self) -> bool {
        self.is_heard.load(Ordering::Relaxed)
    }
}

/// A topic, of whatever event.
pub(super) trait AnyTopic: Any + Send + Sync {
    fn event(&self) -> &'static str;
    fn len(&self) -> usize;
    fn add_pattern(&self, slot: Arc<Slot<dyn AnyEvent>>) -> TakenOut;
    /// Takes out all but those that `keep` says yes to.
    fn retain(&self, keep: &dyn Fn(&Meta) -> bool) -> Option<TakenOut>;
    /// True the first time there are more listeners than this.
    fn outgrows(&self, limit: usize) -> bool;
}

impl<E: Event> AnyTopic for Topic<E> {
    fn event(&self) -> &'static str {
        E::NAME
    }

    fn len(&self) -> usize {
        self.snapshot.load().entries.len()
    }

    fn add_pattern(&self, slot: Arc<Slot<dyn AnyEvent>>) -> TakenOut {
        self.add(Entry::Pattern(slot))
    }

    fn retain(&self, keep: &dyn Fn(&Meta) -> bool) -> Option<TakenOut> {
        let now = self.snapshot.load();
        let kept: Vec<_> = now.entries.iter().filter(|entry| keep(entry.meta())).cloned().collect();
        if kept.len() == now.entries.len() {
            return None;
        }
        Some(self.replace(Snapshot::of(kept)))
    }

    fn outgrows(&self, limit: usize) -> bool {
        self.len() > limit && !self.warned.swap(true, Ordering::Relaxed)
    }
}

/// Topics by the type of their event. One that is there stays, as long as the emitter does: so it is found without a
/// lock or a count, and there are no more than a program has types.
#[derive(Default)]
pub(super) struct Topics([Link; CHAINS]);

type Link = OnceLock<Box<Node>>;

struct Node {
    event: TypeId,
    topic: Box<dyn AnyTopic>,
    next: Link,
}

/// For up to a hundred types, a chain has three or four.
const CHAINS: usize = 32;

impl Topics {
    #[inline]
    pub(super) fn find<E: Event>(&self) -> Option<&Topic<E>> {
        let event = TypeId::of::<E>();
        let node = self.chain(event).find(|node| node.event == event)?;
        let topic: &dyn Any = &*node.topic;
        topic.downcast_ref()
    }

    /// Adds a topic, by who holds the registry and has not found one.
    pub(super) fn add<E: Event>(&self, topic: Topic<E>) -> &Topic<E> {
        let event = TypeId::of::<E>();
        let mut end = &self.0[chain_of(event)];
        while let Some(node) = end.get() {
            end = &node.next;
        }
        let node = end.get_or_init(|| Box::new(Node { event, topic: Box::new(topic), next: Link::new() }));
        let topic: &dyn Any = &*node.topic;
        topic.downcast_ref().expect("the registry is held, so it is the one that was added")
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

/// A `TypeId` is a hash already: its own bits do.
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
