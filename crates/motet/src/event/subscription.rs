use std::fmt;
use std::sync::{Arc, Weak};

use super::shared::EmitterShared;
use super::slot::AnyListener;
use crate::sync::quietly_drop;
use crate::task::Name;

/// Keeps a listener until it is dropped.
///
/// A listener is also off when its scope has ended, when its emitter is closed and drained, and, if it was added for
/// one event only, once it is called.
///
/// # Drop
/// The listener is off: it is not called any more, not even by an emit that began before the drop and has not called it
/// yet. A call that has begun continues.
#[must_use = "the listener is off when the subscription is dropped: keep it, or call `forever`"]
pub struct Subscription {
    name: Name,
    /// Weak, so that a subscription that is kept does not keep the values of a listener that is off.
    slot: Weak<dyn AnyListener>,
    /// Empty after `forever`, so that the drop leaves the listener on.
    inner: Weak<EmitterShared>,
}

impl Subscription {
    pub(super) fn new(slot: &Arc<impl AnyListener + 'static>, inner: Weak<EmitterShared>) -> Self {
        Self { name: slot.meta().name.clone(), slot: Arc::downgrade(slot) as _, inner }
    }

    /// Switches the listener off, as dropping the subscription does.
    pub fn off(self) {}

    /// Leaves the listener on until its scope ends or its emitter is closed.
    pub fn forever(mut self) {
        self.inner = Weak::new();
    }

    /// Returns `true` if the listener may still be called.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.slot.upgrade().is_some_and(|slot| slot.meta().is_on())
    }

    /// The name of the listener.
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
        quietly_drop((inner, slot));
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("name", &self.name()).field("on", &self.is_on()).finish()
    }
}
