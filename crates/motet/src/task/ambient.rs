//! The scope to which the running code belongs.
//!
//! A scope becomes a child of the scope whose task opens it, which it finds here. The thread-local is a pointer without a
//! reference count, so that a poll costs two stores and no atomic operation: a slot that owned its scope cost 10 ns more
//! per child.
#![allow(unsafe_code, reason = "the pointer is valid while its guard lives")]

use std::cell::Cell;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::ptr;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::core::Core;

thread_local! {
    static CURRENT: Cell<*const Core> = const { Cell::new(ptr::null()) };
    /// The number of the scope in which the running code is shielded, or [`NO_SCOPE`].
    static SHIELDED_IN: Cell<u64> = const { Cell::new(NO_SCOPE) };
}

/// Numbers of scopes do not get this high.
const NO_SCOPE: u64 = u64::MAX;

/// Returns `true` if the running code is not cancelled with its scope: a release, the opening of a resource, a blocking
/// closure.
pub(crate) fn is_shielded() -> bool {
    let shielded_in = SHIELDED_IN.get();
    shielded_in != NO_SCOPE && current().is_some_and(|scope| scope.id == shielded_in)
}

/// Returns `true` if the running code is not cancelled with `scope`, which encloses it: it is shielded in that scope or in a
/// scope within it, or it belongs to a scope that such code has opened.
pub(crate) fn is_shielded_from(scope: &Core) -> bool {
    let mut inner = current();
    while let Some(core) = inner {
        if core.id == SHIELDED_IN.get() {
            return true;
        }
        if core.id == scope.id {
            return false;
        }
        if core.is_opened_shielded {
            return true;
        }
        inner = core.parent.clone();
    }
    false
}

/// Marks the running code as shielded in the current scope until it is dropped.
pub(crate) struct Shield {
    around: u64,
}

impl Shield {
    pub(crate) fn raise() -> Self {
        let scope = current().map_or(NO_SCOPE, |scope| scope.id);
        Self { around: SHIELDED_IN.replace(scope) }
    }
}

impl Drop for Shield {
    fn drop(&mut self) {
        SHIELDED_IN.set(self.around);
    }
}

/// Marks a future as shielded while it is polled.
pub(crate) fn shielded<F: Future>(future: F) -> Shielded<F> {
    Shielded { future }
}

pin_project! {
    pub(crate) struct Shielded<F> {
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Shielded<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _shield = Shield::raise();
        self.project().future.poll(cx)
    }
}

/// Makes a scope the current one until this guard is dropped.
///
/// The guard must be dropped, not leaked: it is created within a poll, on the stack, and never passed on.
pub(crate) struct Inside<'a> {
    around: *const Core,
    scope: PhantomData<&'a Arc<Core>>,
}

impl<'a> Inside<'a> {
    #[inline]
    pub(crate) fn enter(scope: &'a Arc<Core>) -> Self {
        Self { around: CURRENT.replace(Arc::as_ptr(scope)), scope: PhantomData }
    }
}

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        CURRENT.set(self.around);
    }
}

/// Returns the scope with the number, if the running code belongs to it or to a scope within it.
pub(crate) fn enclosing(id: u64) -> Option<Arc<Core>> {
    let mut scope = current()?;
    while scope.id != id {
        scope = Arc::clone(scope.parent.as_ref()?);
    }
    Some(scope)
}

/// Returns the scope to which the running code belongs.
pub(crate) fn current() -> Option<Arc<Core>> {
    let current = CURRENT.get();
    if current.is_null() {
        return None;
    }
    // SAFETY: it came from `Arc::as_ptr` of an `Arc` that the guard in place borrows, so that is alive and has a
    // count of at least one; the count is raised for the `Arc` that is made here.
    unsafe {
        Arc::increment_strong_count(current);
        Some(Arc::from_raw(current))
    }
}
