//! A listener in its place: what it is called, what it is called with, and whether it is on.

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

/// How a listener is called; `T` is its event, or any.
pub(super) enum Call<T: ?Sized> {
    Sync(Box<dyn Fn(&T) -> Heard + Send + Sync>),
    /// What keeps the event: streams, and those who wait for one. It is ours, and takes no time.
    Keep(Box<Keeps<T>>),
    Async(Box<dyn Fn(Arc<T>) -> Future + Send + Sync>),
}

type Keeps<T> = dyn Fn(&Arc<T>) + Send + Sync;

pub(super) struct Slot<T: ?Sized> {
    pub(super) meta: Meta,
    pub(super) call: Call<T>,
    pub(super) inbox: Inbox<T>,
}

/// Orders listeners: those of a higher priority first, those of the same priority as they came. No two are equal.
pub(super) type Order = (Reverse<i32>, u64);

/// What is known of a listener, whatever it listens to.
pub(super) struct Meta {
    pub(super) name: Name,
    pub(super) hears: Hears,
    /// Listeners are in the order in which they came, and those of a higher priority before that.
    pub(super) priority: i32,
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

/// May the listener be called?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// It is off.
    No,
    Yes,
    /// This once: it is off from now on, and has to be taken out.
    Once,
}

impl Meta {
    /// Asks whether the listener may be called, right before it is.
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
        // Before the call: one that emits again, or another thread that does, finds it claimed.
        match mutant!("event.once_twice") || self.go_off() {
            true => Claim::Once,
            false => Claim::No,
        }
    }

    /// Switches it off; false if it was.
    pub(super) fn go_off(&self) -> bool {
        // Relaxed: who is told that it is off, by whatever means, sees it off.
        self.on.swap(false, Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// When it is called, compared with other listeners.
    pub(super) fn order(&self) -> Order {
        (Reverse(self.priority), self.number)
    }
}

/// A listener that was called.
pub(super) enum Called {
    Done(Result<(), Cause>),
    Running(Hearing),
}

impl<T: ?Sized> Slot<T> {
    /// Calls a listener that needs no share in the event.
    #[inline]
    pub(super) fn call_by_ref(&self, event: &T) -> Result<(), Cause> {
        match &self.call {
            Call::Sync(listener) => call(|| listener(event)),
            Call::Keep(_) | Call::Async(_) => unreachable!("a snapshot knows who shares the event"),
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

/// A listener, of whatever event.
pub(super) trait Registered: Send + Sync {
    fn meta(&self) -> &Meta;
}

impl<T: ?Sized + Send + Sync> Registered for Slot<T> {
    fn meta(&self) -> &Meta {
        &self.meta
    }
}
