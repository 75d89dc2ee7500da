//! The members of a scope: they are counted by its gate, and keep it alive.
//!
//! All members of a class share one reference to their scope: the first to enter creates it, the last to leave releases it.
//! With a reference for each member beside the count, the worker that starts a child and the worker that ends it would both
//! write two words; with one word, two workers start and end a child in four fifths of the time.
#![allow(unsafe_code, reason = "a shared reference: see above")]

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::Arc;

use super::core::Core;
use crate::sync::{Class, Entered};

/// A member's pointer to its scope. Every member [leaves](Self::leave) exactly once.
pub(crate) struct Hold(ManuallyDrop<Arc<Core>>);

impl Hold {
    /// Counts a member of the class in, unless the scope is closed.
    #[inline]
    pub(crate) fn enter(core: &Arc<Core>, class: Class) -> Option<Self> {
        match core.gate.enter(class) {
            Entered::Refused => return None,
            // SAFETY: the pointer is of the `Arc` that the caller lends, whose count is raised for the reference
            // that the class shares. A member that enters at the same time needs it only after this `Arc` is gone.
            Entered::First => unsafe { Arc::increment_strong_count(Arc::as_ptr(core)) },
            Entered::Next => {}
        }
        // SAFETY: the pointer is valid until this member leaves: the class has a reference, which the last member to leave
        // drops.
        let shared = unsafe { Arc::from_raw(Arc::as_ptr(core)) };
        Some(Self(ManuallyDrop::new(shared)))
    }

    /// Counts a member of the class out.
    ///
    /// # Safety
    /// Once for each [`enter`](Self::enter), with its class, and the hold is not used after that.
    pub(crate) unsafe fn leave(&mut self, class: Class) {
        if self.gate.leave(class) {
            // SAFETY: it was the last, so the reference that the class shared is its own to give back. The caller
            // promises not to touch it again.
            unsafe { ManuallyDrop::drop(&mut self.0) };
        }
    }
}

impl Deref for Hold {
    type Target = Arc<Core>;

    #[inline]
    fn deref(&self) -> &Arc<Core> {
        &self.0
    }
}

/// A member of a scope until it is dropped.
pub(crate) struct Member {
    hold: Hold,
    class: Class,
}

impl Member {
    /// Counts in, unless the scope is closed.
    pub(crate) fn enter(core: &Arc<Core>, class: Class) -> Option<Self> {
        Hold::enter(core, class).map(|hold| Self { hold, class })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // SAFETY: `leave` is called here only, and the hold is not used after this drop.
        unsafe { self.hold.leave(self.class) };
    }
}
