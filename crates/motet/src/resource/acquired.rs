use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::owed::Slot;
use crate::sim;
use crate::task::ReleaseError;
use crate::task::core::Core;
use crate::task::finalizer;

/// A resource of a scope, in use.
///
/// It derefs to the resource.
///
/// # Drop
/// The resource stays with its scope, which releases it at its end. A guard that is taken out of its scope keeps the
/// resource from being released: it is counted as lost.
pub struct Acquired<R> {
    /// `None` only while it is dropped.
    resource: Option<R>,
    slot: Arc<Slot<R>>,
    /// The scope, and the number of the release it owes.
    owed_by: Option<(Arc<Core>, u64)>,
}

impl<R> Acquired<R> {
    pub(crate) fn new(resource: R, slot: Arc<Slot<R>>, owed_by: Option<(Arc<Core>, u64)>) -> Self {
        Self { resource: Some(resource), slot, owed_by }
    }

    /// Releases the resource now, with [`Exit::Ok`](super::Exit::Ok), and not at the end of the scope.
    ///
    /// # Cancel safety
    /// The release goes on in the scope, which waits for it.
    ///
    /// # Errors
    /// [`ReleaseError`]: the release failed, timed out or panicked. The scope does not report it again.
    #[track_caller]
    pub fn release(mut self) -> impl Future<Output = Result<(), ReleaseError>> {
        sim::at("resource", "release", async move {
            let owed_by = self.owed_by.take();
            // Back to where the release finds it.
            drop(self);
            match owed_by {
                Some((core, id)) => finalizer::release_now(&core, id, super::Exit::Ok).await,
                None => Ok(()),
            }
        })
    }
}

impl<R> Deref for Acquired<R> {
    type Target = R;

    fn deref(&self) -> &R {
        self.resource.as_ref().expect("there until the guard is dropped")
    }
}

impl<R> DerefMut for Acquired<R> {
    fn deref_mut(&mut self) -> &mut R {
        self.resource.as_mut().expect("there until the guard is dropped")
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
