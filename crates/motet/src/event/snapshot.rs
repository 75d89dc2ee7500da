//! The listeners of an event, as an emit reads them. A snapshot never changes: after a listener was added or removed,
//! the next emit creates a new snapshot, and an emit that has begun keeps its own.

use std::sync::Arc;

use super::AnyEvent;
use super::error::ListenerErrorCause;
use super::slot::{AnyListener, Called, ListenerFn, ListenerMeta, ListenerSlot};

pub(super) struct Snapshot<E> {
    pub(super) entries: Box<[SnapshotEntry<E>]>,
    pub(super) calls: SnapshotCalls,
}

/// How the listeners of a snapshot are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SnapshotCalls {
    /// By reference, one after the other: no listener shares the event.
    ByRef,
    /// At least one listener needs the event as an `Arc`.
    Shared,
    /// Not at all: listeners were added or removed since the list was copied, so the list has to be copied again.
    Stale,
}

pub(super) enum SnapshotEntry<E> {
    Own(Arc<ListenerSlot<E>>),
    Pattern(Arc<ListenerSlot<dyn AnyEvent>>),
}

impl<E: AnyEvent> Snapshot<E> {
    pub(super) fn of(entries: impl IntoIterator<Item = SnapshotEntry<E>>) -> Self {
        let entries: Box<[_]> = entries.into_iter().collect();
        let calls = if entries.iter().all(SnapshotEntry::is_by_ref) {
            SnapshotCalls::ByRef
        } else {
            SnapshotCalls::Shared
        };
        Self { entries, calls }
    }

    pub(super) fn stale() -> Self {
        Self { entries: Box::default(), calls: SnapshotCalls::Stale }
    }
}

impl<E: AnyEvent> SnapshotEntry<E> {
    #[inline]
    pub(super) fn meta(&self) -> &ListenerMeta {
        match self {
            Self::Own(slot) => &slot.meta,
            Self::Pattern(slot) => &slot.meta,
        }
    }

    pub(super) fn into_listener(self) -> Arc<dyn AnyListener> {
        match self {
            Self::Own(slot) => slot,
            Self::Pattern(slot) => slot,
        }
    }

    fn is_by_ref(&self) -> bool {
        match self {
            Self::Own(slot) => matches!(slot.call, ListenerFn::Sync(_)),
            Self::Pattern(slot) => matches!(slot.call, ListenerFn::Sync(_)),
        }
    }

    #[inline]
    pub(super) fn call_by_ref(&self, event: &E) -> Result<(), ListenerErrorCause> {
        match self {
            Self::Own(slot) => slot.call_by_ref(event),
            Self::Pattern(slot) => slot.call_by_ref(event),
        }
    }

    pub(super) fn call(&self, event: &Arc<E>) -> Called {
        match self {
            Self::Own(slot) => slot.call(event),
            Self::Pattern(slot) => slot.call(&(Arc::clone(event) as Arc<dyn AnyEvent>)),
        }
    }
}

impl<E> Clone for SnapshotEntry<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Own(slot) => Self::Own(Arc::clone(slot)),
            Self::Pattern(slot) => Self::Pattern(Arc::clone(slot)),
        }
    }
}
