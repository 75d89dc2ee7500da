//! Delivery of posted events: one task at a time per listener, in the scope of the listener, for as long as the
//! listener's inbox has events.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::coop;

use super::AnyEvent;
use super::error::{ListenerError, ListenerErrorCause};
use super::inbox::InboxPut;
use super::shared::EmitterShared;
use super::slot::{Called, Claim, ListenerFn, ListenerSlot};
use super::snapshot::{Snapshot, SnapshotEntry};
use crate::sim;
use crate::sync::quietly_drop;
use crate::task::timeout;

/// The result of a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
#[must_use = "it reports whether an event was dropped"]
pub struct Posted {
    /// The number of listeners for which the event is queued.
    pub queued: usize,
    /// The number of events that were dropped, the posted event or an older one: the backlog of a listener was full,
    /// its scope has ended, or its runtime has shut down.
    pub dropped: usize,
}

impl<E: AnyEvent> Snapshot<E> {
    /// Queues the event for each listener.
    pub(super) fn post(&self, inner: &Arc<EmitterShared>, event: &Arc<E>) -> Posted {
        let mut posted = Posted::default();
        for entry in &self.entries {
            match entry {
                SnapshotEntry::Own(slot) => slot.post(inner, Arc::clone(event), &mut posted),
                SnapshotEntry::Pattern(slot) => {
                    slot.post(inner, Arc::clone(event) as Arc<dyn AnyEvent>, &mut posted)
                }
            }
        }
        posted
    }
}

impl<T: ?Sized + Send + Sync + 'static> ListenerSlot<T> {
    fn post(self: &Arc<Self>, inner: &Arc<EmitterShared>, event: Arc<T>, posted: &mut Posted) {
        let meta = &self.meta;
        if !meta.is_on() {
            return;
        }
        if let ListenerFn::Keep(keep) = &self.call {
            match meta.claim() {
                Claim::No => return,
                Claim::Yes => {}
                Claim::Once => inner.remove(meta),
            }
            keep(&event);
            posted.queued += 1;
            return;
        }
        inner.open.enter();
        match self.inbox.put(event, meta.backlog, meta.overflow) {
            InboxPut::Queued => posted.queued += 1,
            InboxPut::Instead(oldest) => {
                posted.queued += 1;
                posted.dropped += 1;
                inner.drop_posted(1);
                quietly_drop(oldest);
            }
            InboxPut::Full(event) => {
                posted.dropped += 1;
                inner.drop_posted(1);
                quietly_drop(event);
            }
            InboxPut::Begin(abandoned) => {
                let (inner, slot) = (Arc::clone(inner), Some(Arc::clone(self)));
                let delivery = DeliveryTask { inner, slot, event: None, ended: false };
                match meta.scope.spawn_for_many(meta.name.clone(), delivery.run()) {
                    // The runtime has shut down, and dropped the task when it was spawned.
                    Ok(task) if task.is_finished() && self.inbox.abandoned() != abandoned => {
                        posted.dropped += 1;
                    }
                    Ok(_) => posted.queued += 1,
                    // The task was dropped, and its drop has emptied the inbox.
                    Err(_ended) => posted.dropped += 1,
                }
            }
        }
    }
}

/// The task that passes the events of an inbox to the listener, one after the other.
struct DeliveryTask<T: ?Sized + Send + Sync + 'static> {
    inner: Arc<EmitterShared>,
    /// `Some` until the drop, which contains a panic of the listener's closure: after a listener was removed, its task
    /// may hold the last reference to it.
    slot: Option<Arc<ListenerSlot<T>>>,
    /// The event that the listener is handling.
    event: Option<Arc<T>>,
    /// The inbox was empty: the next event that is put in starts another task.
    ended: bool,
}

impl EmitterShared {
    /// Counts `count` dropped events, and removes them from the events that wait.
    fn drop_posted(&self, count: usize) {
        self.counters.dropped.fetch_add(count as u64, Ordering::Relaxed);
        (0..count).for_each(|_| self.handled());
    }
}

impl<T: ?Sized + Send + Sync + 'static> DeliveryTask<T> {
    async fn run(mut self) {
        while let Some(event) = self.slot().inbox.take() {
            self.event = Some(event);
            sim::op("event.deliver");
            coop::consume_budget().await;
            if let Err(cause) = self.handle().await {
                self.inner.counters.failed.fetch_add(1, Ordering::Relaxed);
                let failed = ListenerError { listener: self.slot().meta.name.clone(), cause };
                let error: &(dyn std::error::Error + 'static) = &failed;
                crate::log::warn!(
                    emitter = %self.inner.settings.name, error, cause = error.source(),
                    "a listener failed to handle a posted event"
                );
                quietly_drop(failed);
            }
            quietly_drop(self.event.take());
            self.inner.handled();
        }
        self.ended = true;
    }

    fn slot(&self) -> &Arc<ListenerSlot<T>> {
        self.slot.as_ref().expect("the slot is present until the drop")
    }

    async fn handle(&self) -> Result<(), ListenerErrorCause> {
        let Some(event) = &self.event else { return Ok(()) };
        let meta = &self.slot().meta;
        match meta.claim() {
            Claim::No => return Ok(()),
            Claim::Yes => {}
            Claim::Once => self.inner.remove(meta),
        }
        match self.slot().call(event) {
            Called::Done(result) => result,
            Called::Running(call) => {
                let ended = timeout(meta.timeout, call).await;
                ended.unwrap_or(Err(ListenerErrorCause::TimedOut(meta.timeout)))
            }
        }
    }
}

impl<T: ?Sized + Send + Sync + 'static> Drop for DeliveryTask<T> {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        if !self.ended {
            // The task was dropped before the inbox was empty: the scope of the listener is cancelled, or has ended.
            let (event, left) = (self.event.take(), slot.inbox.abandon());
            self.inner.drop_posted(left.len() + usize::from(event.is_some()));
            left.into_iter().chain(event).for_each(quietly_drop);
        }
        quietly_drop(slot);
    }
}
