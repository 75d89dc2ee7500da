use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arc_swap::Guard;
use pin_project_lite::pin_project;
use tokio::task::coop;

use super::failed::Cause;
use super::hearing::{Hearing, let_go};
use super::inner::Inner;
use super::slot::{Called, Claim, Hears, Meta};
use super::snapshot::{Calls, Snapshot};
use super::topic::Topic;
use super::{AnyEvent, Closed, Emitted};
use crate::sim::Site;
use crate::task::timeout::Timeout;
use crate::task::{Group, TimeoutError, timeout};
use crate::{mutant, sim};

/// The future of [`Emitter::emit`](super::Emitter::emit): the result of every listener, or the refused event.
#[must_use = "futures do nothing unless awaited"]
pub struct Emit<'a, E> {
    inner: &'a Inner,
    listeners: Listeners<'a, E>,
    /// `None` once the emit has begun.
    event: Option<E>,
    /// `Some` once a listener has had to wait.
    running: Option<Running<E>>,
    with_names: bool,
    site: Site,
}

/// How the emit finds the listeners.
pub(super) enum Listeners<'a, E> {
    Topic(&'a Topic<E>),
    /// The listeners are looked up when the emit begins.
    Search(fn(&Inner, &E) -> Arc<Snapshot<E>>),
}

impl<'a, E: AnyEvent> Emit<'a, E> {
    #[track_caller]
    pub(super) fn new(inner: &'a Inner, listeners: Listeners<'a, E>, event: E) -> Self {
        let site = Site::named("emitter", "emit", || Some(inner.settings.name.to_string())).around();
        Self { inner, listeners, event: Some(event), running: None, with_names: false, site }
    }

    /// Also keeps the names of the listeners that succeed, which [`Emitted::names`] returns. This costs an allocation.
    pub fn with_names(mut self) -> Self {
        self.with_names = true;
        self
    }

    fn run(
        &mut self,
        snapshot: Arc<Snapshot<E>>,
        event: E,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Emitted, Closed<E>>> {
        sim::op("event.emit");
        let mut running = Running::new(snapshot, event, self.with_names);
        let polled = running.poll(self.inner, cx);
        match polled {
            Poll::Pending => self.running = Some(running),
            Poll::Ready(_) => let_go(running),
        }
        polled.map(Ok)
    }
}

// The event is moved and never pinned; the pinned listener futures are on the heap.
impl<E> Unpin for Emit<'_, E> {}

impl<E: AnyEvent> Future for Emit<'_, E> {
    type Output = Result<Emitted, Closed<E>>;

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
            let_go(this.running.take());
            return Poll::Ready(Ok(emitted));
        }
        ready!(coop::poll_proceed(cx)).made_progress();
        let Some(event) = this.event.take() else {
            panic!("`emit` was polled after it had returned its result")
        };
        if this.inner.open.is_closed() {
            return Poll::Ready(Err(Closed(event)));
        }
        match this.listeners {
            Listeners::Topic(topic) if !topic.is_heard() => {
                this.inner.dead(&event);
                Poll::Ready(Ok(Emitted::default()))
            }
            Listeners::Topic(topic) => {
                let snapshot = topic.listeners();
                match snapshot.calls {
                    Calls::ByRef => {
                        let emitted = snapshot.call_in_turn(this.inner, this.with_names, &event);
                        leave(snapshot);
                        Poll::Ready(Ok(emitted))
                    }
                    // The emit may take long, so it holds a reference count instead of the guard.
                    Calls::Shared | Calls::Stale => this.run(Guard::into_inner(snapshot), event, cx),
                }
            }
            Listeners::Search(search) => {
                let snapshot = search(this.inner, &event);
                match snapshot.calls {
                    Calls::ByRef => {
                        let emitted = snapshot.call_in_turn(this.inner, this.with_names, &event);
                        let_go(snapshot);
                        Poll::Ready(Ok(emitted))
                    }
                    Calls::Shared | Calls::Stale => this.run(snapshot, event, cx),
                }
            }
        }
    }
}

impl<E: AnyEvent> Snapshot<E> {
    /// Calls listeners that never wait: on the stack of the caller, and without an allocation.
    #[inline]
    fn call_in_turn(&self, inner: &Inner, with_names: bool, event: &E) -> Emitted {
        let mut emitted = Emitted::default();
        if self.entries.is_empty() {
            inner.dead(event);
        }
        let mut spent = Spent::new(inner);
        for entry in &self.entries {
            if begins(&mut spent, entry.meta()) {
                emitted.note(&entry.meta().name, with_names, entry.call_by_ref(event));
            } else {
                emitted.skip();
            }
        }
        emitted
    }
}

/// Returns `true` if the listener is to be called. A listener that is called for the last time is noted in `spent`.
#[inline]
fn begins(spent: &mut Spent<'_>, meta: &Meta) -> bool {
    match meta.claim() {
        Claim::No => false,
        Claim::Yes => true,
        Claim::Once => {
            spent.one(meta);
            true
        }
    }
}

/// The listeners that this emit has called for the last time. They are off. The drop of `Spent` removes all of them
/// under one lock, since ten thousand listeners may wait for one event.
struct Spent<'a> {
    inner: &'a Inner,
    /// The lists that contain these listeners, if there are any.
    hears: Option<Hears>,
}

impl<'a> Spent<'a> {
    #[inline]
    fn new(inner: &'a Inner) -> Self {
        Self { inner, hears: None }
    }

    #[cold]
    fn one(&mut self, meta: &Meta) {
        self.hears = match self.hears {
            // The removal of a pattern searches all topics, so it covers the listeners of this event.
            Some(Hears::Pattern) => Some(Hears::Pattern),
            _ => Some(meta.hears),
        };
    }
}

impl Drop for Spent<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(hears) = self.hears {
            self.inner.remove_spent(hears);
        }
    }
}

/// Drops a snapshot. If the list has changed since, this may be the last reference to listeners that are off.
#[inline]
pub(super) fn leave<E>(snapshot: Guard<Arc<Snapshot<E>>>) {
    if !snapshot.entries.is_empty() {
        let_go(snapshot);
    }
}

impl Inner {
    /// Reports an event without listeners.
    pub(super) fn dead(&self, event: &dyn AnyEvent) {
        if let Some(on_dead) = &self.settings.on_dead {
            on_dead(event);
        }
    }
}

/// An emit whose listeners may have to wait.
struct Running<E> {
    snapshot: Arc<Snapshot<E>>,
    event: Arc<E>,
    /// The index of the first listener that was not called yet.
    next: usize,
    /// The listeners that wait, and their number. On the heap: most emits have none, and are moved around.
    group: Option<Box<Group<Waits>>>,
    waiting: usize,
    with_names: bool,
    emitted: Emitted,
}

impl<E: AnyEvent> Running<E> {
    fn new(snapshot: Arc<Snapshot<E>>, event: E, with_names: bool) -> Self {
        let event = Arc::new(event);
        Self { snapshot, event, next: 0, group: None, waiting: 0, with_names, emitted: Emitted::default() }
    }

    fn poll(&mut self, inner: &Inner, cx: &mut Context<'_>) -> Poll<Emitted> {
        loop {
            let mut spent = Spent::new(inner);
            while self.waiting < inner.settings.concurrency.get() && self.next < self.snapshot.entries.len() {
                self.begin_next(&mut spent, cx);
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
            let result = ended.unwrap_or_else(|TimeoutError { .. }| Err(Cause::TimedOut(meta.limit)));
            self.emitted.note(&meta.name, self.with_names, result);
        }
    }

    #[inline]
    fn begin_next(&mut self, spent: &mut Spent<'_>, cx: &mut Context<'_>) {
        let at = self.next;
        self.next += 1;
        let entry = &self.snapshot.entries[at];
        let meta = entry.meta();
        if !begins(spent, meta) {
            return self.emitted.skip();
        }
        let result = match entry.call(&self.event) {
            Called::Done(result) => result,
            Called::Running(mut hearing) => match Pin::new(&mut hearing).poll(cx) {
                Poll::Ready(result) => result,
                // Only a listener that waits needs a slot of the group and a timer.
                Poll::Pending => {
                    let limit = if mutant!("event.no_deadline") { Duration::MAX } else { meta.limit };
                    let hearing = timeout(limit, hearing);
                    self.group.get_or_insert_with(|| Box::new(Group::empty())).push(Waits { at, hearing });
                    self.waiting += 1;
                    return;
                }
            },
        };
        self.emitted.note(&meta.name, self.with_names, result);
    }
}

pin_project! {
    /// A listener that waits, and its index in the snapshot.
    struct Waits {
        at: usize,
        #[pin]
        hearing: Timeout<Hearing>,
    }
}

impl Future for Waits {
    type Output = (usize, Result<Result<(), Cause>, TimeoutError>);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.hearing.poll(cx).map(|ended| (*this.at, ended))
    }
}

impl<E> Drop for Emit<'_, E> {
    #[inline]
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            let_go(running);
        }
    }
}

impl<E> fmt::Debug for Emit<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emit").field("emitter", &self.inner.settings.name).finish_non_exhaustive()
    }
}
