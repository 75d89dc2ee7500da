//! The state that the handles of an emitter share: its listeners, and whether it is closed.

use std::collections::{BTreeMap, btree_map};
use std::future::ready;
use std::mem;
use std::num::NonZeroUsize;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use super::any_event::NamedEvent;
use super::builder::OnDead;
use super::inbox::Overflow;
use super::open::EmitterGate;
use super::slot::{AnyListener, ListenerMeta, ListenerSlot, ListenerTarget, Order};
use super::snapshot::{Snapshot, SnapshotEntry};
use super::subscription::Subscription;
use super::topic::{RemovedListener, Topic, Topics};
use super::{AnyEvent, EmitterClosedError, Event, Pattern};
use crate::observe::{Registration, Stats};
use crate::resource::{Exit, PendingRelease};
use crate::sync::{Class, quietly_drop};
use crate::task::core::Core;
use crate::task::finalizer::{self, ReleaseFuture};
use crate::task::member::Member;
use crate::task::{Name, Scope};

pub(crate) struct EmitterShared {
    pub(super) home: Scope,
    pub(super) settings: EmitterSettings,
    pub(super) topics: Topics,
    pub(super) open: EmitterGate,
    pub(super) counters: EmitterCounters,
    pub(super) shown: OnceLock<Registration>,
    /// The cleanup of `home` that closes the emitter: the core of `home`, and the number of the cleanup.
    closes: OnceLock<(Weak<Core>, u64)>,
    registry: Mutex<ListenerRegistry>,
}

pub(super) struct EmitterSettings {
    pub(super) name: Name,
    pub(super) concurrency: NonZeroUsize,
    pub(super) timeout: Duration,
    pub(super) backlog: NonZeroUsize,
    pub(super) overflow: Overflow,
    pub(super) max_listeners: usize,
    pub(super) on_dead: Option<OnDead>,
    pub(super) keep_names: bool,
}

/// Counts of failed and dropped posted events, which no caller waits for.
#[derive(Default)]
pub(super) struct EmitterCounters {
    pub(super) failed: AtomicU64,
    pub(super) dropped: AtomicU64,
}

/// The lists that change when a listener is added or removed. An emit does not lock them.
#[derive(Default)]
pub(super) struct ListenerRegistry {
    patterns: BTreeMap<Order, (Pattern, Arc<ListenerSlot<dyn AnyEvent>>)>,
    /// The scopes with listeners, by their address in memory. The end of a scope removes its listeners.
    scopes: BTreeMap<usize, ScopeListeners>,
    next_number: u64,
}

/// The state of a scope with listeners.
#[derive(Default)]
struct ScopeListeners {
    /// The scope and the number of its pending cleanup, once the cleanup is registered.
    cleanup: Option<(Weak<Core>, u64)>,
    /// The listeners of the scope, so that the end of the scope does not search those of other scopes.
    listeners: BTreeMap<Order, ListenerTarget>,
}

impl EmitterShared {
    pub(super) fn new(home: Scope, settings: EmitterSettings) -> Self {
        Self {
            home,
            settings,
            topics: Topics::default(),
            open: EmitterGate::default(),
            counters: EmitterCounters::default(),
            shown: OnceLock::new(),
            closes: OnceLock::new(),
            registry: Mutex::default(),
        }
    }

    /// No code of the user runs under this lock, so the state of a poisoned lock is consistent.
    pub(super) fn registry(&self) -> MutexGuard<'_, ListenerRegistry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the topic of event type `E`, which is created on first use.
    #[inline]
    pub(super) fn topic<E: Event>(&self) -> &Topic<E> {
        self.topics.find().unwrap_or_else(|| self.topic_of::<E>(&self.registry()))
    }

    #[cold]
    fn topic_of<E: Event>(&self, registry: &ListenerRegistry) -> &Topic<E> {
        match self.topics.find() {
            Some(topic) => topic,
            None => self.topics.add(Topic::new(registry.matching(E::NAME))),
        }
    }

    /// Returns the listeners of an event whose name is known only at run time.
    pub(super) fn named(&self, event: &NamedEvent) -> Arc<Snapshot<NamedEvent>> {
        let matching: Vec<_> = self.registry().matching(event.name()).map(SnapshotEntry::Pattern).collect();
        Arc::new(Snapshot::of(matching))
    }

    pub(super) fn add_to_topic<E: Event, F>(
        self: &Arc<Self>,
        scope: &Scope,
        listener: F,
        slot: impl FnOnce(F, u64) -> ListenerSlot<E>,
    ) -> Result<Subscription, EmitterClosedError<F>> {
        self.add(scope, listener, |registry, listener, number| {
            let slot = Arc::new(slot(listener, number));
            let topic = self.topic_of::<E>(registry);
            let before = topic.add(SnapshotEntry::Own(Arc::clone(&slot)));
            (slot, before.into_iter().collect())
        })
    }

    pub(super) fn add_to_pattern<F>(
        self: &Arc<Self>,
        scope: &Scope,
        pattern: Pattern,
        listener: F,
        slot: impl FnOnce(F, u64) -> ListenerSlot<dyn AnyEvent>,
    ) -> Result<Subscription, EmitterClosedError<F>> {
        self.add(scope, listener, |registry, listener, number| {
            let slot = Arc::new(slot(listener, number));
            let matching = self.topics.iter().filter(|topic| pattern.matches(topic.event()));
            let before = matching.filter_map(|topic| topic.add_pattern(Arc::clone(&slot))).collect();
            registry.patterns.insert(slot.meta.order(), (pattern, Arc::clone(&slot)));
            (slot, before)
        })
    }

    fn add<F, S: AnyListener + 'static>(
        self: &Arc<Self>,
        scope: &Scope,
        listener: F,
        list: impl FnOnce(&mut ListenerRegistry, F, u64) -> (Arc<S>, Vec<RemovedListener>),
    ) -> Result<Subscription, EmitterClosedError<F>> {
        if !self.joins(scope) {
            return Err(EmitterClosedError(listener));
        }
        let mut registry = self.registry();
        // Checked again under the lock: since the first check the scope may have ended, or the emitter may have been
        // closed.
        if self.open.is_closed() || !registry.scopes.contains_key(&key(scope)) {
            return Err(EmitterClosedError(listener));
        }
        let number = registry.next_number;
        registry.next_number += 1;
        let (slot, before) = list(&mut registry, listener, number);
        if let Some(joined) = registry.scopes.get_mut(&key(scope)) {
            joined.listeners.insert(slot.meta().order(), slot.meta().target);
        }
        let crowded = self.crowded();
        drop(registry);
        before.into_iter().for_each(quietly_drop);
        if let Some((event, listeners)) = crowded {
            crate::log::warn!(
                emitter = %self.settings.name, event, listeners,
                "an event has many listeners: check for subscriptions that are kept although they are not needed any more"
            );
        }
        Ok(Subscription::new(&slot, Arc::downgrade(self)))
    }

    fn crowded(&self) -> Option<(&'static str, usize)> {
        let mut topics = self.topics.iter();
        let crowded = topics.find(|topic| topic.outgrows(self.settings.max_listeners))?;
        Some((crowded.event(), crowded.len()))
    }

    /// Registers a cleanup that removes the listeners of the scope when the scope ends. Returns `false` if the scope
    /// has ended.
    fn joins(self: &Arc<Self>, scope: &Scope) -> bool {
        if self.open.is_closed() {
            return false;
        }
        if self.registry().scopes.contains_key(&key(scope)) {
            return true;
        }
        // The member keeps the scope from closing until the cleanup is registered.
        let Some(_member) = Member::enter(&scope.0, Class::Work) else { return false };
        // Inserted before the cleanup is registered: if the scope ends in between, its cleanup finds the entry.
        match self.registry().scopes.entry(key(scope)) {
            btree_map::Entry::Occupied(_) => return true,
            btree_map::Entry::Vacant(place) => _ = place.insert(ScopeListeners::default()),
        }
        let leaves = Box::new(RemoveListeners { inner: Arc::downgrade(self), scope: key(scope) });
        let number =
            finalizer::push(&scope.0, Name::from("event listeners"), Location::caller(), None, leaves);
        if let Some(joined) = self.registry().scopes.get_mut(&key(scope)) {
            joined.cleanup = Some((Arc::downgrade(&scope.0), number));
        }
        true
    }

    /// Removes a listener that is off.
    pub(super) fn remove(&self, meta: &ListenerMeta) {
        let mut out = Vec::new();
        let mut registry = self.registry();
        self.take_out(&mut registry, meta.order(), meta.target, &mut out);
        if let Some(joined) = registry.scopes.get_mut(&key(&meta.scope)) {
            joined.listeners.remove(&meta.order());
        }
        drop(registry);
        out.into_iter().for_each(quietly_drop);
    }

    fn take_out(
        &self,
        registry: &mut ListenerRegistry,
        order: Order,
        target: ListenerTarget,
        out: &mut Vec<RemovedListener>,
    ) {
        match target {
            ListenerTarget::Event(event) => {
                if let Some(topic) = self.topics.of(event) {
                    topic.remove(order, out);
                }
            }
            ListenerTarget::Pattern => {
                self.topics.iter().for_each(|topic| topic.remove(order, out));
                out.extend(registry.patterns.remove(&order).map(|(_, slot)| RemovedListener::Listener(slot)));
            }
        }
    }

    /// Removes all listeners that were called for the last time; they are off.
    #[cold]
    pub(super) fn remove_spent(&self, target: ListenerTarget) {
        let mut out = Vec::new();
        let mut registry = self.registry();
        match target {
            ListenerTarget::Event(event) => {
                if let Some(topic) = self.topics.of(event) {
                    topic.remove_off(&mut out);
                }
            }
            ListenerTarget::Pattern => {
                self.topics.iter().for_each(|topic| topic.remove_off(&mut out));
                let off = registry.patterns.extract_if(.., |_, (_, slot)| !slot.meta.is_on());
                out.extend(off.map(|(_, (_, slot))| RemovedListener::Listener(slot)));
            }
        }
        for meta in out.iter().filter_map(RemovedListener::meta) {
            if let Some(joined) = registry.scopes.get_mut(&key(&meta.scope)) {
                joined.listeners.remove(&meta.order());
            }
        }
        drop(registry);
        out.into_iter().for_each(quietly_drop);
    }

    /// Removes the listeners of a scope that has ended, and switches them off.
    fn leave_scope(&self, scope: usize) {
        let mut registry = self.registry();
        let joined = registry.scopes.remove(&scope);
        self.remove_all(registry, joined.into_iter().flat_map(|joined| joined.listeners));
    }

    fn remove_all(
        &self,
        mut registry: MutexGuard<'_, ListenerRegistry>,
        listeners: impl Iterator<Item = (Order, ListenerTarget)>,
    ) {
        let mut out = Vec::new();
        listeners.for_each(|(order, target)| self.take_out(&mut registry, order, target, &mut out));
        out.iter().filter_map(RemovedListener::meta).for_each(|meta| _ = meta.go_off());
        drop(registry);
        out.into_iter().for_each(quietly_drop);
    }

    pub(super) fn close(&self) {
        if self.open.close() {
            self.settle();
        }
    }

    /// Counts one posted event as handled.
    pub(super) fn handled(&self) {
        if self.open.leave() {
            self.settle();
        }
    }

    /// Removes all listeners: the emitter is closed, and all posted events are handled.
    #[cold]
    fn settle(&self) {
        let mut registry = self.registry();
        // The scopes stay in the list: their cleanups are still pending.
        let listeners: Vec<_> =
            registry.scopes.values_mut().map(|joined| mem::take(&mut joined.listeners)).collect();
        self.remove_all(registry, listeners.into_iter().flatten());
        self.open.wake();
    }

    pub(super) fn count_listeners(&self) -> (usize, usize, usize) {
        let patterns = self.registry().patterns.len();
        let topics = self.topics.iter();
        topics.fold((0, 0, patterns), |(topics, listeners, patterns), topic| {
            (topics + 1, listeners + topic.len(), patterns)
        })
    }

    /// Registers a cleanup of `home` that closes the emitter. Closes the emitter now if `home` has ended.
    pub(super) fn closes_with_home(self: &Arc<Self>) {
        // The member keeps the scope from closing until the cleanup is registered.
        let Some(_member) = Member::enter(&self.home.0, Class::Work) else { return self.close() };
        let closes = Box::new(CloseEmitter(Arc::downgrade(self)));
        let name = Name::from("event emitter");
        let number = finalizer::push(&self.home.0, name, Location::caller(), None, closes);
        let set = self.closes.set((Arc::downgrade(&self.home.0), number));
        debug_assert!(set.is_ok(), "the cleanup is registered once");
    }

    /// The statistics of the emitter in snapshots.
    pub(super) fn stats(&self) -> Stats {
        let (topics, listeners, patterns) = self.count_listeners();
        Stats::new()
            .count("events", topics as u64)
            .count("listeners", listeners as u64)
            .count("patterns", patterns as u64)
            .count("posted", self.open.waiting() as u64)
            .total("failed", self.counters.failed.load(Ordering::Relaxed))
            .total("dropped", self.counters.dropped.load(Ordering::Relaxed))
            .text("state", if self.open.is_closed() { "closed" } else { "open" })
    }

    pub(super) fn shows_stats(self: &Arc<Self>) {
        let weak = Arc::downgrade(self);
        let shown = self.home.register("emitter", self.settings.name.clone(), move || {
            weak.upgrade().map(|inner| inner.stats()).unwrap_or_default()
        });
        let set = self.shown.set(shown);
        debug_assert!(set.is_ok(), "the emitter is registered once");
    }
}

impl ListenerRegistry {
    fn matching(&self, name: &str) -> impl Iterator<Item = Arc<ListenerSlot<dyn AnyEvent>>> {
        self.patterns
            .values()
            .filter(move |(pattern, _)| pattern.matches(name))
            .map(|(_, slot)| Arc::clone(slot))
    }
}

/// The identity of a scope: its address. The address is not reused while the scope is in the list, since the scope's
/// pending cleanup removes it from the list before the scope is freed.
fn key(scope: &Scope) -> usize {
    Arc::as_ptr(&scope.0).addr()
}

/// The scopes that are still open must not keep cleanups for an emitter that is dropped.
impl Drop for EmitterShared {
    fn drop(&mut self) {
        let registry = self.registry.get_mut().unwrap_or_else(PoisonError::into_inner);
        let joined = mem::take(&mut registry.scopes).into_values();
        for (core, number) in joined.filter_map(|joined| joined.cleanup).chain(self.closes.take()) {
            if let Some(core) = core.upgrade() {
                drop(finalizer::take(&core, number));
            }
        }
    }
}

/// Closes an emitter when this guard is dropped, by the scope or with its runtime. The scope drops it after it
/// has released the resources that were opened later, since these may still emit.
struct CloseEmitter(Weak<EmitterShared>);

impl PendingRelease for CloseEmitter {
    fn begin(self: Box<Self>, _: Exit) -> Option<ReleaseFuture> {
        drop(self);
        Some(Box::pin(ready(Ok(()))))
    }
}

impl Drop for CloseEmitter {
    fn drop(&mut self) {
        if let Some(inner) = self.0.upgrade() {
            inner.close();
        }
    }
}

/// Removes the listeners of a scope when this guard is dropped, by the scope or with its runtime.
struct RemoveListeners {
    inner: Weak<EmitterShared>,
    scope: usize,
}

impl PendingRelease for RemoveListeners {
    fn begin(self: Box<Self>, _: Exit) -> Option<ReleaseFuture> {
        drop(self);
        Some(Box::pin(ready(Ok(()))))
    }
}

impl Drop for RemoveListeners {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.upgrade() {
            inner.leave_scope(self.scope);
        }
    }
}
