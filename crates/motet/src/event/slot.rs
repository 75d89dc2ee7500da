//! A registered listener: its name and options, its closure, and whether it is on.

use std::any::TypeId;
use std::cmp::Reverse;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::call::{Future, ListenerCall, ListenerOutput, call};
use super::error::ListenerErrorCause;
use super::inbox::{Inbox, Overflow};
use crate::mutant;
use crate::task::{Name, Scope};

/// How a listener is called. `T` is its event type, or `dyn AnyEvent`.
pub(super) enum ListenerFn<T: ?Sized> {
    Sync(Box<dyn Fn(&T) -> ListenerOutput + Send + Sync>),
    /// Stores the event for a stream or a `next` future. This closure belongs to the crate and does not block.
    Keep(Box<KeepFn<T>>),
    Async(Box<dyn Fn(Arc<T>) -> Future + Send + Sync>),
}

type KeepFn<T> = dyn Fn(&Arc<T>) + Send + Sync;

pub(super) struct ListenerSlot<T: ?Sized> {
    pub(super) meta: ListenerMeta,
    pub(super) call: ListenerFn<T>,
    pub(super) inbox: Inbox<T>,
}

/// The order of calls: higher priorities first, then the order in which the listeners were added. No two listeners have
/// the same order.
pub(super) type Order = (Reverse<i32>, u64);

/// The part of a listener that does not depend on its event type.
pub(super) struct ListenerMeta {
    pub(super) name: Name,
    pub(super) target: ListenerTarget,
    /// Listeners of a higher priority are called first.
    pub(super) priority: i32,
    /// Counts the listeners of the emitter, in the order in which they were added.
    pub(super) number: u64,
    pub(super) once: bool,
    pub(super) timeout: Duration,
    pub(super) backlog: NonZeroUsize,
    pub(super) overflow: Overflow,
    pub(super) scope: Scope,
    pub(super) on: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListenerTarget {
    Event(TypeId),
    Pattern,
}

/// Whether a listener may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// The listener is off.
    No,
    Yes,
    /// Yes, for the last time: the listener is off now, and has to be removed.
    Once,
}

impl ListenerMeta {
    /// Checks whether the listener may be called, right before the call.
    #[inline]
    pub(super) fn claim(&self) -> Claim {
        if self.once {
            return self.claim_once();
        }
        if mutant!("event.call_after_off") {
            return Claim::Yes;
        }
        match self.is_on() {
            true => Claim::Yes,
            false => Claim::No,
        }
    }

    fn claim_once(&self) -> Claim {
        if mutant!("event.once_twice") {
            return Claim::Once;
        }
        // Before the call: a nested or a concurrent emit finds the listener already claimed.
        match self.go_off() {
            true => Claim::Once,
            false => Claim::No,
        }
    }

    /// Switches the listener off. Returns `false` if it was off before.
    pub(super) fn go_off(&self) -> bool {
        // Relaxed suffices: whatever informed the reader that the listener is off also synchronised with this store.
        self.on.swap(false, Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// The position of the listener in the order of calls.
    pub(super) fn order(&self) -> Order {
        (Reverse(self.priority), self.number)
    }
}

/// The result of a call: the listener has ended, or its future has to be polled.
pub(super) enum Called {
    Done(Result<(), ListenerErrorCause>),
    Running(ListenerCall),
}

impl<T: ?Sized> ListenerSlot<T> {
    /// Calls a listener that takes the event by reference.
    #[inline]
    pub(super) fn call_by_ref(&self, event: &T) -> Result<(), ListenerErrorCause> {
        match &self.call {
            ListenerFn::Sync(listener) => call(|| listener(event)),
            ListenerFn::Keep(_) | ListenerFn::Async(_) => {
                unreachable!(
                    "`SnapshotCalls::ByRef` means that every listener of the snapshot is synchronous"
                )
            }
        }
    }

    pub(super) fn call(&self, event: &Arc<T>) -> Called {
        Called::Done(match &self.call {
            ListenerFn::Sync(listener) => call(|| listener(event)),
            ListenerFn::Keep(keep) => {
                keep(event);
                Ok(())
            }
            ListenerFn::Async(listener) => {
                let mut future = None;
                let begun = call(|| {
                    future = Some(listener(Arc::clone(event)));
                    Ok(())
                });
                match future {
                    Some(future) => return Called::Running(ListenerCall::new(future)),
                    None => begun,
                }
            }
        })
    }
}

/// A listener of any event type.
pub(super) trait AnyListener: Send + Sync {
    fn meta(&self) -> &ListenerMeta;
}

impl<T: ?Sized + Send + Sync> AnyListener for ListenerSlot<T> {
    fn meta(&self) -> &ListenerMeta {
        &self.meta
    }
}
