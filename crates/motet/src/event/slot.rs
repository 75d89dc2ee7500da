//! A registered listener: its name and options, its closure, and whether it is on.

use std::any::TypeId;
use std::cmp::Reverse;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Overflow;
use super::failed::Cause;
use super::hearing::{Future, Heard, Hearing, call};
use super::inbox::Inbox;
use crate::mutant;
use crate::task::{Name, Scope};

/// How a listener is called. `T` is its event type, or `dyn AnyEvent`.
pub(super) enum Call<T: ?Sized> {
    Sync(Box<dyn Fn(&T) -> Heard + Send + Sync>),
    /// Stores the event for a stream or a `next` future. This closure belongs to the crate and does not block.
    Keep(Box<Keeps<T>>),
    Async(Box<dyn Fn(Arc<T>) -> Future + Send + Sync>),
}

type Keeps<T> = dyn Fn(&Arc<T>) + Send + Sync;

pub(super) struct Slot<T: ?Sized> {
    pub(super) meta: Meta,
    pub(super) call: Call<T>,
    pub(super) inbox: Inbox<T>,
}

/// The order of calls: higher priorities first, then the order in which the listeners were added. No two listeners have
/// the same order.
pub(super) type Order = (Reverse<i32>, u64);

/// The part of a listener that does not depend on its event type.
pub(super) struct Meta {
    pub(super) name: Name,
    pub(super) hears: Hears,
    /// Listeners of a higher priority are called first.
    pub(super) priority: i32,
    /// Counts the listeners of the emitter, in the order in which they were added.
    pub(super) number: u64,
    pub(super) once: bool,
    pub(super) limit: Duration,
    pub(super) backlog: NonZeroUsize,
    pub(super) overflow: Overflow,
    pub(super) scope: Scope,
    pub(super) on: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hears {
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

impl Meta {
    /// Checks whether the listener may be called, right before the call.
    #[inline]
    pub(super) fn claim(&self) -> Claim {
        if self.once {
            return self.claim_once();
        }
        match self.is_on() || mutant!("event.call_after_off") {
            true => Claim::Yes,
            false => Claim::No,
        }
    }

    fn claim_once(&self) -> Claim {
        // Before the call: a nested or a concurrent emit finds the listener already claimed.
        match mutant!("event.once_twice") || self.go_off() {
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
    Done(Result<(), Cause>),
    Running(Hearing),
}

impl<T: ?Sized> Slot<T> {
    /// Calls a listener that takes the event by reference.
    #[inline]
    pub(super) fn call_by_ref(&self, event: &T) -> Result<(), Cause> {
        match &self.call {
            Call::Sync(listener) => call(|| listener(event)),
            Call::Keep(_) | Call::Async(_) => {
                unreachable!("`Calls::ByRef` means that every listener of the snapshot is synchronous")
            }
        }
    }

    pub(super) fn call(&self, event: &Arc<T>) -> Called {
        Called::Done(match &self.call {
            Call::Sync(listener) => call(|| listener(event)),
            Call::Keep(keep) => {
                keep(event);
                Ok(())
            }
            Call::Async(listener) => {
                let mut future = None;
                let begun = call(|| {
                    future = Some(listener(Arc::clone(event)));
                    Ok(())
                });
                match future {
                    Some(future) => return Called::Running(Hearing::new(future)),
                    None => begun,
                }
            }
        })
    }
}

/// A listener of any event type.
pub(super) trait Registered: Send + Sync {
    fn meta(&self) -> &Meta;
}

impl<T: ?Sized + Send + Sync> Registered for Slot<T> {
    fn meta(&self) -> &Meta {
        &self.meta
    }
}
