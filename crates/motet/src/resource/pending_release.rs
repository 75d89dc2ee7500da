//! Pending releases.

use std::sync::{Arc, Mutex, PoisonError};

use super::Exit;
use crate::sync::catch;
use crate::task::core::Core;
use crate::task::finalizer::{Event, ReleaseFuture};
use crate::task::outcome::IntoResult;

/// Holds a resource that is not in use until it is released.
pub(crate) struct Slot<R>(Mutex<Option<R>>);

impl<R> Slot<R> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(None)))
    }

    pub(crate) fn put(&self, resource: R) {
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(resource);
        debug_assert!(before.is_none(), "a resource has one guard");
    }

    fn take(&self) -> Option<R> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Begins a release. If it is dropped before that, the release is counted as lost.
pub(crate) trait PendingRelease: Send {
    /// Returns `None` if the guard of the resource is still alive, so that the resource cannot be released.
    fn begin(self: Box<Self>, exit: Exit) -> Option<ReleaseFuture>;
}

pub(crate) type OnLost<R> = Box<dyn FnOnce(R) + Send>;

pub(crate) struct ResourceRelease<R, C> {
    pub(crate) slot: Arc<Slot<R>>,
    pub(crate) core: Arc<Core>,
    /// `None` once begun.
    pub(crate) close: Option<C>,
    pub(crate) on_lost: Option<OnLost<R>>,
}

impl<R, C, Fut> PendingRelease for ResourceRelease<R, C>
where
    R: Send + 'static,
    C: FnOnce(R, Exit) -> Fut + Send,
    Fut: Future<Output: IntoResult> + Send + 'static,
{
    fn begin(mut self: Box<Self>, exit: Exit) -> Option<ReleaseFuture> {
        let resource = self.slot.take()?;
        let close = self.close.take()?;
        let release = close(resource, exit);
        Some(Box::pin(async move { release.await.into_result() }))
    }
}

impl<R, C> Drop for ResourceRelease<R, C> {
    fn drop(&mut self) {
        if self.close.is_none() {
            return;
        }
        self.core.count_release(Event::Lost);
        crate::log::error!(scope = %self.core.name, "a resource was never released");
        if let (Some(resource), Some(on_lost)) = (self.slot.take(), self.on_lost.take()) {
            // A second panic during a panic would abort the process.
            if let Err(panic) = catch(|| on_lost(resource)) {
                crate::log::error!(scope = %self.core.name, panic, "the code for a lost resource panicked");
            }
        }
    }
}

/// A cleanup without a resource.
pub(crate) struct DeferredCleanup<C> {
    pub(crate) core: Arc<Core>,
    pub(crate) cleanup: Option<C>,
}

impl<C, Fut> PendingRelease for DeferredCleanup<C>
where
    C: FnOnce(Exit) -> Fut + Send,
    Fut: Future<Output: IntoResult> + Send + 'static,
{
    fn begin(mut self: Box<Self>, exit: Exit) -> Option<ReleaseFuture> {
        let release = self.cleanup.take()?(exit);
        Some(Box::pin(async move { release.await.into_result() }))
    }
}

impl<C> Drop for DeferredCleanup<C> {
    fn drop(&mut self) {
        if self.cleanup.is_some() {
            self.core.count_release(Event::Lost);
            crate::log::error!(scope = %self.core.name, "a deferred cleanup never ran");
        }
    }
}
