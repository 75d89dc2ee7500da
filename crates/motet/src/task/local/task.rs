use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::set::Handle;
use crate::sim::Site;

/// The handle of a child of a [`local_scope`](super::local_scope). Awaiting it, in the body or in a sibling, returns the
/// value of the child.
///
/// # Drop
/// The child continues, and its value is dropped when it ends.
///
/// # Cancel safety
/// Safe: awaiting `&mut task` and dropping the wait loses nothing.
///
/// # Panics
/// If it is polled after it returned the value. A panic of the child is not returned here: it ends the scope.
pub struct LocalTask<'scope, T> {
    handle: Handle<T>,
    scope: PhantomData<&'scope ()>,
    site: Site,
}

impl<T> LocalTask<'_, T> {
    #[track_caller]
    pub(super) fn new(handle: Handle<T>) -> Self {
        Self { handle, scope: PhantomData, site: Site::new("local task", "join") }
    }
}

// The value is moved out of the child, never pinned here.
impl<T> Unpin for LocalTask<'_, T> {}

impl<T> Future for LocalTask<'_, T> {
    type Output = T;

    #[track_caller]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let entered = self.site.enter();
        let polled = self.poll_here(cx);
        entered.leave(polled)
    }
}

impl<T> LocalTask<'_, T> {
    #[track_caller]
    fn poll_here(mut self: Pin<&mut Self>, cx: &Context<'_>) -> Poll<T> {
        self.handle.poll_take(cx.waker())
    }
}

impl<T> fmt::Debug for LocalTask<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalTask").finish_non_exhaustive()
    }
}
