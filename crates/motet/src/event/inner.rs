//! The state that the handles of an emitter share: its listeners, and whether it is closed.

use std::collections::{BTreeMap, btree_map};
use std::future::ready;
use std::mem;
use std::num::NonZeroUsize;
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use super::builder::OnDead;
use super::hearing::let_go;
use super::open::Open;
use super::slot::{Hears, Meta, Order, Registered, Slot};
use super::snapshot::{Entry, Snapshot};
use super::stats::Counters;
use super::subscription::Subscription;
use super::topic::{TakenOut, Topic, Topics};
use super::{AnyEvent, Closed, Event, NamedEvent, Overflow, Pattern};
use crate::observe::Registration;
use crate::resource::{Exit, Owe};
use crate::task::core::Core;
use crate::task::finalizer::{self, ReleaseFuture};
use crate::task::gate::Class;
use crate::task::member::Member;
use crate::task::{Name, Scope};

pub(crate) struct Inner {
    pub(super) home: Scope,
    pub(super) settings: Settings,
    pub(super) topics: Topics,
    pub(super) open: Open,
    pub(super) counters: Counters,
    pub(super) shown: OnceLock<Registration>,
    /// The cleanup of `home` that closes the emitter: the core of `home`, and the number of the cleanup.
    closes: OnceLock<(Weak<Core>, u64)>,
    registry: Mutex<Registry>,
}

pub(super) struct Settings {
    pub(super) name: Name,
    pub(super) concurrency: NonZeroUsize,
    pub(super) limit: Duration,
    pub(super) backlog: NonZeroUsize,
    pub(super) overflow: Overflow,
    pub(super) max_listeners: usize,
    pub(super) on_dead: Option<OnDead>,
}

/// The lists that change when a listener is added or removed. An emit does not lock them.
#[derive(Default)]
pub(super) struct Registry {
    patterns: BTreeMap<Order, (Pattern, Arc<Slot<dyn AnyEvent>>)>,
    /// The scopes with listeners, by their address in memory. The end of a scope removes its listeners.
    scopes: BTreeMap<usize, Joined>,
    next_number: u64,
}

/// The state of a scope with listeners.
#[derive(Default)]
struct Joined {
    /// The scope and the number of its pending cleanup, once the cleanup is registered.
    owed: Option<(Weak<Core>, u64)>,
    /// The listeners of the scope, so that the end of the scope does not search those of other scopes.
    listeners: BTreeMap<Order, Hears>,
}

impl Inner {
    pub(super) fn new(home: Scope, settings: Settings) -> Self {
        Self {
            home,
            settings,
            topics: Topics::default(),
            open: Open::default(),
            counters: Counters::default(),
            shown: OnceLock::new(),
            closes: OnceLock::new(),
            registry: Mutex::default(),
        }
    }

    /// No code of the user runs under this lock, so the state of a poisoned lock is consistent.
    pub(super) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the topic of event type `E`, which is created on first use.
    #[inline]
    pub(super) fn topic<E: Event>(&self) -> &Topic<E> {
        self.topics.find().unwrap_or_else(|| self.topic_of::<E>(&self.registry()))
    }

    #[cold]
    fn topic_of<E: Event>(&self, registry: &Registry) -> &Topic<E> {
        match self.topics.find() {
            Some(topic) => topic,
            None => self.topics.add(Topic::new(registry.matching(E::NAME))),
        }
    }

    /// Returns the listeners of an event whose name is known only at run time.
    pub(super) fn named(&self, event: &NamedEvent) -> Arc<Snapshot<NamedEvent>> {
        let matching: Vec<_> = self.registry().matching(event.name()).map(Entry::Pattern).collect();
        Arc::new(Snapshot::of(matching))
    }

    pub(super) fn add_to_topic<E: Event, F>(
        self: &Arc<Self>,
        scope: &Scope,
        listener: F,
        slot: impl FnOnce(F, u64) -> Slot<E>,
    ) -> Result<Subscription, Closed<F>> {
        self.add(scope, listener, |registry, listener, number| {
            let slot = Arc::new(slot(listener, number));
            let topic = self.topic_of::<E>(registry);
            let before = topic.add(Entry::Own(Arc::clone(&slot)));
            (slot, before.into_iter().collect())
        })
    }

    pub(super) fn add_to_pattern<F>(
        self: &Arc<Self>,
        scope: &Scope,
        pattern: Pattern,
        listener: F,
        slot: impl FnOnce(F, u64) -> Slot<dyn AnyEvent>,
    ) -> Result<Subscription, Closed<F>> {
        self.add(scope, listener, |registry, listener, number| {
            let slot = Arc::new(slot(listener, number));
            let matching = self.topics.iter().filter(|topic| pattern.matches(topic.event()));
            let before = matching.filter_map(|topic| topic.add_pattern(Arc::clone(&slot))).collect();
            registry.patterns.insert(slot.meta.order(), (pattern, Arc::clone(&slot)));
            (slot, before)
        })
    }

    fn add<F, S: Registered + 'static>(
        self: &Arc<Self>,
        scope: &Scope,
        listener: F,
        list: impl FnOnce(&mut Registry, F, u64) -> (Arc<S>, Vec<TakenOut>),
    ) -> Result<Subscription, Closed<F>> {
        if !self.joins(scope) {
            return Err(Closed(listener));
        }
        let mut registry = self.registry();
        // Checked again under the lock: since the first check the scope may have ended, or the emitter may have been
        // closed.
        if self.open.is_closed() || !registry.scopes.contains_key(&key(scope)) {
            return Err(Closed(listener));
        }
        let number = registry.next_number;
        registry.next_number += 1;
        let (slot, before) = list(&mut registry, listener, number);
        if let Some(joined) = registry.scopes.get_mut(&key(scope)) {
            joined.listeners.insert(slot.meta().order(), slot.meta().hears);
        }
        let crowded = self.crowded();
        drop(registry);
        before.into_iter().for_each(let_go);
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
            btree_map::Entry::Vacant(place) => _ = place.insert(Joined::default()),
        }
        let leaves = Box::new(Leaves { inner: Arc::downgrade(self), scope: key(scope) });
        let owed = finalizer::push(&scope.0, Name::from("event listeners"), Location::caller(), None, leaves);
        if let Some(joined) = self.registry().scopes.get_mut(&key(scope)) {
            joined.owed = Some((Arc::downgrade(&scope.0), owed));
        }
        true
    }

    /// Removes a listener that is off.
    pub(super) fn remove(&self, meta: &Meta) {
        let mut out = Vec::new();
        let mut registry = self.registry();
        self.take_out(&mut registry, meta.order(), meta.hears, &mut out);
        if let Some(joined) = registry.scopes.get_mut(&key(&meta.scope)) {
            joined.listeners.remove(&meta.order());
        }
        drop(registry);
        out.into_iter().for_each(let_go);
    }

    fn take_out(&self, registry: &mut Registry, order: Order, hears: Hears, out: &mut Vec<TakenOut>) {
        match hears {
            Hears::Event(event) => {
                if let Some(topic) = self.topics.of(event) {
                    topic.remove(order, out);
                }
            }
            Hears::Pattern => {
                self.topics.iter().for_each(|topic| topic.remove(order, out));
                out.extend(registry.patterns.remove(&order).map(|(_, slot)| TakenOut::Listener(slot)));
            }
        }
    }

    /// Removes all listeners that were called for the last time; they are off.
    #[cold]
    pub(super) fn remove_spent(&self, hears: Hears) {
        let mut out = Vec::new();
        let mut registry = self.registry();
        match hears {
            Hears::Event(event) => {
                if let Some(topic) = self.topics.of(event) {
                    topic.remove_off(&mut out);
                }
            }
            Hears::Pattern => {
                self.topics.iter().for_each(|topic| topic.remove_off(&mut out));
                let off = registry.patterns.extract_if(.., |_, (_, slot)| !slot.meta.is_on());
                out.extend(off.map(|(_, (_, slot))| TakenOut::Listener(slot)));
            }
        }
        for meta in out.iter().filter_map(TakenOut::meta) {
            if let Some(joined) = registry.scopes.get_mut(&key(&meta.scope)) {
                joined.listeners.remove(&meta.order());
            }
        }
        drop(registry);
        out.into_iter().for_each(let_go);
    }

    /// Removes the listeners of a scope that has ended, and switches them off.
    fn leave_scope(&self, scope: usize) {
        let mut registry = self.registry();
        let joined = registry.scopes.remove(&scope);
        self.remove_all(registry, joined.into_iter().flat_map(|joined| joined.listeners));
    }

    fn remove_all(
        &self,
        mut registry: MutexGuard<'_, Registry>,
        listeners: impl Iterator<Item = (Order, Hears)>,
    ) {
        let mut out = Vec::new();
        listeners.for_each(|(order, hears)| self.take_out(&mut registry, order, hears, &mut out));
        out.iter().filter_map(TakenOut::meta).for_each(|meta| _ = meta.go_off());
        drop(registry);
        out.into_iter().for_each(let_go);
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
        let closes = Box::new(Closes(Arc::downgrade(self)));
        let name = Name::from("event emitter");
        let owed = finalizer::push(&self.home.0, name, Location::caller(), None, closes);
        let set = self.closes.set((Arc::downgrade(&self.home.0), owed));
        debug_assert!(set.is_ok(), "the cleanup is registered once");
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

impl Registry {
    fn matching(&self, name: &str) -> impl Iterator<Item = Arc<Slot<dyn AnyEvent>>> {
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
impl Drop for Inner {
    fn drop(&mut self) {
        let registry = self.registry.get_mut().unwrap_or_else(PoisonError::into_inner);
        let joined = mem::take(&mut registry.scopes).into_values();
        for (core, owed) in joined.filter_map(|joined| joined.owed).chain(self.closes.take()) {
            if let Some(core) = core.upgrade() {
                drop(finalizer::take(&core, owed));
            }
        }
    }
}

/// Closes an emitter when this guard is dropped, by the scope or with its runtime. The scope drops it after it has
/// released the resources that were opened later, since these may still emit.
struct Closes(Weak<Inner>);

impl Owe for Closes {
    fn begin(self: Box<Self>, _: Exit) -> Option<ReleaseFuture> {
        drop(self);
        Some(Box::pin(ready(Ok(()))))
    }
}

impl Drop for Closes {
    fn drop(&mut self) {
        if let Some(inner) = self.0.upgrade() {
            inner.close();
        }
    }
}

/// Removes the listeners of a scope when this guard is dropped, by the scope or with its runtime.
struct Leaves {
    inner: Weak<Inner>,
    scope: usize,
}

impl Owe for Leaves {
    fn begin(self: Box<Self>, _: Exit) -> Option<ReleaseFuture> {
        drop(self);
        Some(Box::pin(ready(Ok(()))))
    }
}

impl Drop for Leaves {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.upgrade() {
            inner.leave_scope(self.scope);
        }
    }
}
