#![allow(unsafe_code, reason = "children are pushed with a lifetime that the scope's future vouches for")]

use std::fmt;
use std::marker::PhantomData;

use super::LocalTask;
use super::set::Set;

/// Starts the children of a [`local_scope`](super::local_scope), in the body of that scope.
///
/// Children may borrow values that outlive the scope (`'env`), and the nursery itself, so that they can start siblings. A
/// function that starts children takes `&LocalNursery<'_, '_>`; a function whose children start siblings through the same
/// reference takes `&'s LocalNursery<'s, '_>`.
pub struct LocalNursery<'scope, 'env: 'scope> {
    set: &'scope Set,
    // Invariant, as in `std::thread::Scope`: a shorter `'scope` would let a child borrow from the body, which it
    // outlives; a longer `'env`, from values that are gone.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

impl<'scope, 'env> LocalNursery<'scope, 'env> {
    pub(super) fn new(set: &'scope Set) -> Self {
        Self { set, scope: PhantomData, env: PhantomData }
    }

    /// Starts a child. It is first polled after all children that are woken already.
    ///
    /// The scope waits for the child, whether or not its [`LocalTask`] is awaited.
    ///
    /// # Examples
    /// ```
    /// use motet::task::{LocalNursery, local_scope};
    /// use std::rc::Rc;
    ///
    /// async fn both(s: &LocalNursery<'_, '_>, left: Rc<u32>) -> u32 {
    ///     let left = s.spawn(async move { *left });
    ///     let right = s.spawn(async { 2 });
    ///     left.await + right.await
    /// }
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// assert_eq!(local_scope(async |s| both(s, Rc::new(1)).await).await, 3);
    /// # });
    /// ```
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> LocalTask<'scope, F::Output>
    where
        F: Future + 'scope,
        F::Output: 'scope,
    {
        // SAFETY: what it borrows outlives `'scope`, and the future of the scope clears the set before that ends.
        LocalTask::new(unsafe { self.set.push(0, future) })
    }
}

impl fmt::Debug for LocalNursery<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalNursery").finish_non_exhaustive()
    }
}
