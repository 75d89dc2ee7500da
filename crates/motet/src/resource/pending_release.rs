//! Pending releases.

use std::sync::{Arc, Mutex, PoisonError};

use super::Exit;
use crate::sync::{catch, quietly_drop};
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
    slot: Arc<Slot<R>>,
    core: Arc<Core>,
    /// `None` once begun.
    close: Option<C>,
}

impl<R, C> ResourceRelease<R, C> {
    pub(crate) fn new(slot: &Arc<Slot<R>>, core: &Arc<Core>, close: C) -> Self {
        Self { slot: Arc::clone(slot), core: Arc::clone(core), close: Some(close) }
    }
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
    }
}

/// Counts and logs a resource that is not released, and passes it to `on_lost`.
pub(super) fn lost<R>(core: &Core, resource: R, on_lost: Option<OnLost<R>>) {
    core.count_release(Event::Lost);
    crate::log::error!(scope = %core.name, "a resource was never released");
    let Some(on_lost) = on_lost else { return quietly_drop(resource) };
    // A second panic during a panic would abort the process.
    if let Err(panic) = catch(|| on_lost(resource)) {
        crate::log::error!(scope = %core.name, panic, "the code for a lost resource panicked");
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
