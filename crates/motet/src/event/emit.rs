use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arc_swap::Guard;
use pin_project_lite::pin_project;
use tokio::task::coop;

use super::call::ListenerCall;
use super::error::ListenerErrorCause;
use super::shared::EmitterShared;
use super::slot::{Called, Claim, ListenerMeta, ListenerTarget};
use super::snapshot::{Snapshot, SnapshotCalls};
use super::topic::Topic;
use super::{AnyEvent, Emitted, EmitterClosedError};
use crate::sim::Site;
use crate::sync::quietly_drop;
use crate::task::timeout::Timeout;
use crate::task::{Group, TimeoutError, timeout};
use crate::{mutant, sim};

/// The future of [`Emitter::emit`](super::Emitter::emit): the result of every listener, or the refused event.
pub(super) struct Emit<'a, E> {
    inner: &'a EmitterShared,
    listeners: Listeners<'a, E>,
    /// `None` once the emit has begun.
    event: Option<E>,
    /// `Some` once a listener has had to wait.
    running: Option<RunningEmit<E>>,
    site: Site,
}

/// How the emit finds the listeners.
pub(super) enum Listeners<'a, E> {
    Topic(&'a Topic<E>),
    /// The listeners are looked up when the emit begins.
    Search(fn(&EmitterShared, &E) -> Arc<Snapshot<E>>),
}

impl<'a, E: AnyEvent> Emit<'a, E> {
    pub(super) fn new(inner: &'a EmitterShared, listeners: Listeners<'a, E>, event: E, site: Site) -> Self {
        Self { inner, listeners, event: Some(event), running: None, site }
    }

    fn run(
        &mut self,
        snapshot: Arc<Snapshot<E>>,
        event: E,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Emitted, EmitterClosedError<E>>> {
        sim::op("event.emit");
        let mut running = RunningEmit::new(snapshot, event);
        let polled = running.poll(self.inner, cx);
        match polled {
            Poll::Pending => self.running = Some(running),
            Poll::Ready(_) => quietly_drop(running),
        }
        polled.map(Ok)
    }
}

// The event is moved and never pinned; the pinned listener futures are on the heap.
impl<E> Unpin for Emit<'_, E> {}

impl<E: AnyEvent> Future for Emit<'_, E> {
    type Output = Result<Emitted, EmitterClosedError<E>>;

    #[track_caller]
    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let entered = self.site.enter();
        let polled = self.poll_here(cx);
        entered.leave(polled)
    }
}

impl<E: AnyEvent> Emit<'_, E> {
    #[track_caller]
    #[inline]
    fn poll_here(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<<Self as Future>::Output> {
        let this = &mut *self;
        if let Some(running) = &mut this.running {
            let emitted = ready!(running.poll(this.inner, cx));
            quietly_drop(this.running.take());
            return Poll::Ready(Ok(emitted));
        }
        ready!(coop::poll_proceed(cx)).made_progress();
        let Some(event) = this.event.take() else {
            panic!("`emit` was polled after it had returned its result")
        };
        if this.inner.open.is_closed() {
            return Poll::Ready(Err(EmitterClosedError(event)));
        }
        match this.listeners {
            Listeners::Topic(topic) if !topic.has_listeners() => {
                this.inner.dead(&event);
                Poll::Ready(Ok(Emitted::default()))
            }
            Listeners::Topic(topic) => {
                let snapshot = topic.listeners();
                match snapshot.calls {
                    SnapshotCalls::ByRef => {
                        let emitted = snapshot.call_in_turn(this.inner, &event);
                        leave(snapshot);
                        Poll::Ready(Ok(emitted))
                    }
                    // The emit may take long, so it holds a reference count instead of the guard.
                    SnapshotCalls::Shared | SnapshotCalls::Stale => {
                        this.run(Guard::into_inner(snapshot), event, cx)
                    }
                }
            }
            Listeners::Search(search) => {
                let snapshot = search(this.inner, &event);
                match snapshot.calls {
                    SnapshotCalls::ByRef => {
                        let emitted = snapshot.call_in_turn(this.inner, &event);
                        quietly_drop(snapshot);
                        Poll::Ready(Ok(emitted))
                    }
                    SnapshotCalls::Shared | SnapshotCalls::Stale => this.run(snapshot, event, cx),
                }
            }
        }
    }
}

impl<E: AnyEvent> Snapshot<E> {
    /// Calls listeners that never wait: on the stack of the caller, and without an allocation.
    #[inline]
    fn call_in_turn(&self, inner: &EmitterShared, event: &E) -> Emitted {
        let mut emitted = Emitted::default();
        if self.entries.is_empty() {
            inner.dead(event);
        }
        let mut spent = SpentListeners::new(inner);
        for entry in &self.entries {
            if begins(&mut spent, entry.meta()) {
                emitted.note(&entry.meta().name, inner.settings.keep_names, entry.call_by_ref(event));
            } else {
                emitted.skip();
            }
        }
        emitted
    }
}

/// Returns `true` if the listener is to be called. A listener that is called for the last time is noted in `spent`.
#[inline]
fn begins(spent: &mut SpentListeners<'_>, meta: &ListenerMeta) -> bool {
    match meta.claim() {
        Claim::No => false,
        Claim::Yes => true,
        Claim::Once => {
            spent.one(meta);
            true
        }
    }
}

/// The listeners that this emit has called for the last time. They are off. The drop of `SpentListeners` removes all of
/// them under one lock, since ten thousand listeners may wait for one event.
struct SpentListeners<'a> {
    inner: &'a EmitterShared,
    /// The lists that contain these listeners, if there are any.
    target: Option<ListenerTarget>,
}

impl<'a> SpentListeners<'a> {
    #[inline]
    fn new(inner: &'a EmitterShared) -> Self {
        Self { inner, target: None }
    }

    #[cold]
    fn one(&mut self, meta: &ListenerMeta) {
        self.target = match self.target {
            // The removal of a pattern searches all topics, so it covers the listeners of this event.
            Some(ListenerTarget::Pattern) => Some(ListenerTarget::Pattern),
            _ => Some(meta.target),
        };
    }
}

impl Drop for SpentListeners<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(target) = self.target {
            self.inner.remove_spent(target);
        }
    }
}

/// Drops a snapshot. If the list has changed since, this may be the last reference to listeners that are off.
#[inline]
pub(super) fn leave<E>(snapshot: Guard<Arc<Snapshot<E>>>) {
    if !snapshot.entries.is_empty() {
        quietly_drop(snapshot);
    }
}

impl EmitterShared {
    /// Reports an event without listeners.
    pub(super) fn dead(&self, event: &dyn AnyEvent) {
        if let Some(on_dead) = &self.settings.on_dead {
            on_dead(event);
        }
    }
}

/// An emit whose listeners may have to wait.
struct RunningEmit<E> {
    snapshot: Arc<Snapshot<E>>,
    event: Arc<E>,
    /// The index of the first listener that was not called yet.
    next: usize,
    /// The listeners that wait, and their number. On the heap: most emits have none, and are moved around.
    group: Option<Box<Group<WaitingListener>>>,
    waiting: usize,
    emitted: Emitted,
}

impl<E: AnyEvent> RunningEmit<E> {
    fn new(snapshot: Arc<Snapshot<E>>, event: E) -> Self {
        let event = Arc::new(event);
        Self { snapshot, event, next: 0, group: None, waiting: 0, emitted: Emitted::default() }
    }

    fn poll(&mut self, inner: &EmitterShared, cx: &mut Context<'_>) -> Poll<Emitted> {
        loop {
            let mut spent = SpentListeners::new(inner);
            while self.waiting < inner.settings.concurrency.get() && self.next < self.snapshot.entries.len() {
                self.begin_next(inner, &mut spent, cx);
            }
            drop(spent);
            let Some(group) = self.group.as_mut().filter(|_| self.waiting > 0) else {
                return Poll::Ready(std::mem::take(&mut self.emitted));
            };
            let Some(ended) = ready!(group.poll_next(cx)) else {
                unreachable!("`waiting` futures are in the group")
            };
            let Some((at, ended)) = group.take(ended) else {
                unreachable!("the group returned this future as ended")
            };
            self.waiting -= 1;
            let meta = self.snapshot.entries[at].meta();
            let result =
                ended.unwrap_or_else(|TimeoutError { .. }| Err(ListenerErrorCause::TimedOut(meta.timeout)));
            self.emitted.note(&meta.name, inner.settings.keep_names, result);
        }
    }

    #[inline]
    fn begin_next(&mut self, inner: &EmitterShared, spent: &mut SpentListeners<'_>, cx: &mut Context<'_>) {
        let at = self.next;
        self.next += 1;
        let entry = &self.snapshot.entries[at];
        let meta = entry.meta();
        if !begins(spent, meta) {
            return self.emitted.skip();
        }
        let result = match entry.call(&self.event) {
            Called::Done(result) => result,
            Called::Running(mut call) => match Pin::new(&mut call).poll(cx) {
                Poll::Ready(result) => result,
                // Only a listener that waits needs a slot of the group and a timer.
                Poll::Pending => {
                    let mut limit = meta.timeout;
                    if mutant!("event.no_deadline") {
                        limit = Duration::MAX;
                    }
                    let call = timeout(limit, call);
                    self.group
                        .get_or_insert_with(|| Box::new(Group::empty()))
                        .push(WaitingListener { at, call });
                    self.waiting += 1;
                    return;
                }
            },
        };
        self.emitted.note(&meta.name, inner.settings.keep_names, result);
    }
}

pin_project! {
    /// A listener that waits, and its index in the snapshot.
    struct WaitingListener {
        at: usize,
        #[pin]
        call: Timeout<ListenerCall>,
    }
}

impl Future for WaitingListener {
    type Output = (usize, Result<Result<(), ListenerErrorCause>, TimeoutError>);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.call.poll(cx).map(|ended| (*this.at, ended))
    }
}

impl<E> Drop for Emit<'_, E> {
    #[inline]
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            quietly_drop(running);
        }
    }
}

impl<E> fmt::Debug for Emit<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emit").field("emitter", &self.inner.settings.name).finish_non_exhaustive()
    }
}
