use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::pending_release::Slot;
use crate::sim;
use crate::task::ReleaseError;
use crate::task::finalizer::{self, Pending};

/// A resource of a scope, in use. It dereferences to the resource.
///
/// # Drop
/// The resource goes back to its scope, which releases it at its end. If the guard is still alive when its scope ends, the
/// resource cannot be released, and is counted as lost.
pub struct Acquired<R> {
    /// `None` only during the drop of the guard.
    resource: Option<R>,
    slot: Arc<Slot<R>>,
    /// The pending release in the scope of the resource.
    pending: Pending,
}

impl<R> Acquired<R> {
    pub(crate) fn new(resource: R, slot: Arc<Slot<R>>, pending: Pending) -> Self {
        Self { resource: Some(resource), slot, pending }
    }

    /// Releases the resource now, with [`Exit::Ok`](super::Exit::Ok), instead of at the end of the scope.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the release: the scope waits for it.
    ///
    /// # Errors
    /// [`ReleaseError`]: the release failed, timed out or panicked. The scope does not report it again.
    #[track_caller]
    pub fn release(self) -> impl Future<Output = Result<(), ReleaseError>> {
        sim::at("resource", "release", async move {
            let pending = self.pending.clone();
            // The drop puts the resource into the slot, where the release takes it.
            drop(self);
            finalizer::release_now(pending, super::Exit::Ok).await
        })
    }
}

impl<R> Deref for Acquired<R> {
    type Target = R;

    fn deref(&self) -> &R {
        self.resource.as_ref().expect("the resource is taken only by the drop of the guard")
    }
}

impl<R> DerefMut for Acquired<R> {
    fn deref_mut(&mut self) -> &mut R {
        self.resource.as_mut().expect("the resource is taken only by the drop of the guard")
    }
}

impl<R> Drop for Acquired<R> {
    fn drop(&mut self) {
        if let Some(resource) = self.resource.take() {
            self.slot.put(resource);
        }
    }
}

impl<R: fmt::Debug> fmt::Debug for Acquired<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.resource.fmt(f)
    }
}
