use std::fmt;
use std::sync::{Arc, Weak};

use super::hearing::let_go;
use super::inner::Inner;
use super::slot::Registered;
use crate::task::Name;

/// Keeps a listener on.
///
/// A listener is also off when its scope has ended, when its emitter is closed and drained, and, if it is to hear one
/// event alone, once it is called with it.
///
/// # Drop
/// The listener is off: it is not called any more, also by an emit that has begun and has not come to it. A call that
/// has begun goes on.
#[must_use = "the listener is off when this is dropped: keep it, or say `forever`"]
pub struct Subscription {
    name: Name,
    /// Not the listener itself: what that holds goes when it is off, whoever keeps this.
    slot: Weak<dyn Registered>,
    /// Of no emitter, once it is to stay on.
    inner: Weak<Inner>,
}

impl Subscription {
    pub(super) fn new(slot: &Arc<impl Registered + 'static>, inner: Weak<Inner>) -> Self {
        Self { name: slot.meta().name.clone(), slot: Arc::downgrade(slot) as _, inner }
    }

    /// Switches the listener off; as dropping this does.
    pub fn off(self) {}

    /// Leaves the listener on for as long as its scope and its emitter are there.
    pub fn forever(mut self) {
        self.inner = Weak::new();
    }

    /// Asks whether the listener may still be called.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.slot.upgrade().is_some_and(|slot| slot.meta().is_on())
    }

    /// Gives the name of the listener.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let (Some(inner), Some(slot)) = (self.inner.upgrade(), self.slot.upgrade()) else { return };
        if slot.meta().go_off() {
            inner.remove(slot.meta());
        }
        let_go((inner, slot));
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("name", &self.name()).field("on", &self.is_on()).finish()
    }
}
