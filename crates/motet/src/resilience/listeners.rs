//! Listeners of changes.

use std::sync::Arc;

use crate::sync::catch;
use crate::task::Name;

type Listener<C> = Arc<dyn Fn(&C) + Send + Sync>;

pub(super) struct Listeners<C>(Vec<Listener<C>>);

impl<C> Listeners<C> {
    pub(super) fn add(&mut self, listener: impl Fn(&C) + Send + Sync + 'static) {
        self.0.push(Arc::new(listener));
    }

    /// Calls all listeners. The caller must hold no lock.
    pub(super) fn notify(&self, policy: Option<&Name>, change: &C) {
        self.0.iter().for_each(|listener| guarded(policy, || listener(change)));
    }
}

/// Runs a closure of the user and contains its panic: it is called at the end of a call, which may be a drop during a
/// panic.
pub(super) fn guarded(policy: Option<&Name>, call: impl FnOnce()) {
    if let Err(message) = catch(call) {
        let policy = policy.map_or("", Name::as_str);
        crate::log::error!(policy, message, "a listener panicked");
    }
}

impl<C> Clone for Listeners<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<C> Default for Listeners<C> {
    fn default() -> Self {
        Self(Vec::new())
    }
}
