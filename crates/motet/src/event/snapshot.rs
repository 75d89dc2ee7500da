//! The listeners of an event, as an emit finds them. A snapshot never changes: a listener that comes or goes makes a
//! new one, and an emit that has begun keeps its own.

use std::sync::Arc;

use super::AnyEvent;
use super::failed::Cause;
use super::slot::{Call, Called, Meta, Slot};

pub(super) struct Snapshot<E> {
    pub(super) entries: Box<[Entry<E>]>,
    /// Nobody needs a share in the event.
    pub(super) by_ref: bool,
}

pub(super) enum Entry<E> {
    Own(Arc<Slot<E>>),
    Pattern(Arc<Slot<dyn AnyEvent>>),
}

impl<E: AnyEvent> Snapshot<E> {
    pub(super) fn of(entries: impl IntoIterator<Item = Entry<E>>) -> Self {
        let entries: Box<[_]> = entries.into_iter().collect();
        let by_ref = entries.iter().all(Entry::is_by_ref);
        Self { entries, by_ref }
    }

    /// The same with one more, in its order.
    pub(super) fn with(&self, entry: Entry<E>) -> Self {
        let before = |listed: &Entry<E>| !entry.meta().goes_before(listed.meta());
        let (before, after) = self.entries.split_at(self.entries.partition_point(before));
        Self::of(before.iter().cloned().chain([entry]).chain(after.iter().cloned()))
    }
}

impl<E: AnyEvent> Entry<E> {
    #[inline]
    pub(super) fn meta(&self) -> &Meta {
        match self {
            Self::Own(slot) => &slot.meta,
            Self::Pattern(slot) => &slot.meta,
        }
    }

    fn is_by_ref(&self) -> bool {
        match self {
            Self::Own(slot) => matches!(slot.call, Call::Sync(_)),
            Self::Pattern(slot) => matches!(slot.call, Call::Sync(_)),
        }
    }

    #[inline]
    pub(super) fn call_by_ref(&self, event: &E) -> Result<(), Cause> {
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

impl<E> Clone for Entry<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Own(slot) => Self::Own(Arc::clone(slot)),
            Self::Pattern(slot) => Self::Pattern(Arc::clone(slot)),
        }
    }
}
