#![allow(unsafe_code, reason = "the body lives in the set, whose lifetime this function vouches for")]

use std::future::poll_fn;
use std::marker::PhantomData;
use std::task::{Poll, ready};

use super::LocalNursery;
use super::set::Set;
use crate::sim;

/// Runs children inside of the calling task: they may borrow from its stack, may have different types, and need not be
/// `Send`.
///
/// Returns the value of the body when the body and all children have ended. The body and the children share one task, and
/// so one core; each is polled only after it was woken, with a waker of its own. A child costs one allocation.
///
/// # When to use
/// For concurrent waits on data that cannot be moved into a task: borrowed data, an `Rc`, a `RefCell`. For futures of one
/// type whose outputs are needed in order, use [`gather`](crate::task::gather()); for work on all cores, children with
/// names, failures that cancel siblings, or a deadline, use [`scope`](crate::task::scope()). The future of a local scope
/// is not `Send`: await it in a body, in `block_on` or on a `LocalSet`, not in a child of a
/// [`Nursery`](crate::task::Nursery).
///
/// # Ordering and fairness
/// Children are polled in the order of their wakes, a new child after the children that are woken already. After 128 polls,
/// or when tokio's budget of the task is used up, the scope yields to the executor.
///
/// A child makes progress only while the future of the scope is polled. So do not suspend that future in favour of other
/// work: a child that is not polled keeps the locks that it holds, and its position in the line for other locks.
///
/// # Drop
/// All children are dropped at once, the youngest first and the body last.
///
/// # Cancel safety
/// The body and the children are dropped at their current await. Their side effects are not undone.
///
/// # Panics
/// Rethrows the panic of the body or of a child when all others have been dropped. If a destructor panics as well, that
/// second panic is discarded, so that the process does not abort.
///
/// # Examples
/// ```
/// use motet::task::local_scope;
/// use std::cell::RefCell;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let words = ["one", "two"];
/// let lengths = RefCell::new(Vec::new());
/// let total = local_scope(async |s| {
///     let first = s.spawn(async { words[0].len() });
///     s.spawn(async {
///         lengths.borrow_mut().push(words[1].len());
///         // A child may start siblings.
///         s.spawn(async { lengths.borrow_mut().push(0) });
///     });
///     first.await + 1
/// });
/// assert_eq!(total.await, 4);
/// assert_eq!(lengths.into_inner(), [3, 0]);
/// # });
/// ```
///
/// A child outlives the body, so it borrows nothing of it:
/// ```compile_fail,E0597
/// # async {
/// motet::task::local_scope(async |s| {
///     let inner = String::new();
///     let borrowed = &inner;
///     s.spawn(async move { borrowed.len() });
/// }).await
/// # };
/// ```
///
/// And neither the nursery nor a task leaves it:
/// ```compile_fail
/// # async {
/// let mut kept = None;
/// motet::task::local_scope(async |s| kept = Some(s.spawn(async {}))).await;
/// # };
/// ```
/// ```compile_fail
/// # async {
/// let task = motet::task::local_scope(async |s| s.spawn(async { 1 })).await;
/// # };
/// ```
#[track_caller]
pub fn local_scope<'env, F, T>(body: F) -> impl Future<Output = T>
where
    F: for<'scope> AsyncFnOnce(&'scope LocalNursery<'scope, 'env>) -> T,
{
    sim::around("local scope", "run", async move {
        let set = Set::new();
        let nursery = LocalNursery::new(&set);
        // Declared behind the nursery, so dropped before it: children hold references to it.
        let _clears = Clears(&set, PhantomData::<(&'env (), F)>);
        // SAFETY: a child borrows from `'env`, which this future does not outlive; from what the body owned, which
        // lies in the body's own future; or the nursery. `_clears` ends them all before any of it goes. A future of
        // this scope that is leaked is never polled again, and a pinned value keeps its address.
        let mut value = unsafe { set.push(0, body(&nursery)) };
        poll_fn(|cx| {
            while ready!(set.poll_next(cx)).is_some() {}
            Poll::Ready(())
        })
        .await;
        match value.take() {
            Some(value) => value,
            None => unreachable!("the body is one of the children, and all have ended"),
        }
    })
}

/// Clears the set on every way out.
struct Clears<'a, B>(&'a Set, PhantomData<B>);

impl<B> Drop for Clears<'_, B> {
    fn drop(&mut self) {
        self.0.clear_on_drop();
    }
}
