use std::fmt;
use std::sync::Arc;

use super::built::Built;
use super::{BoxFuture, Context, Description, Next};

/// A chain with the handler that it leads to: what callers have.
///
/// A handle: clones are one chain, it is called through `&self` from as many tasks as there are, and it is `Send` and
/// `Sync` whatever requests and answers are.
///
/// # Examples
/// ```
/// use motet::middleware::{Chain, Handler};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let handler: Handler<u32, u32> = Chain::new().to(|n| async move { n + 1 });
/// let (a, b) = tokio::join!(handler.call(1), handler.call(2));
/// assert_eq!((a, b), (2, 3));
/// # });
/// ```
pub struct Handler<Q: 'static, R: 'static>(pub(super) Arc<Built<Q, R>>);

impl<Q: 'static, R: 'static> Handler<Q, R> {
    /// Answers a request.
    ///
    /// Nothing is spawned: parts and handler run in the caller's task, one within the other.
    ///
    /// # Cancel safety
    /// As safe as the parts and the handler: the future that is dropped drops theirs, at once and where they are.
    ///
    /// # Panics
    /// With a panic of a part or of the handler.
    #[track_caller]
    pub fn call(&self, request: Q) -> BoxFuture<R> {
        self.call_with(request, Context::new())
    }

    /// Answers a request of which something is known besides.
    ///
    /// # Cancel safety
    /// As [`call`](Self::call).
    ///
    /// # Panics
    /// As [`call`](Self::call).
    #[track_caller]
    pub fn call_with(&self, request: Q, context: Context) -> BoxFuture<R> {
        Next { built: Arc::clone(&self.0), at: 0, context }.run(request)
    }
}

impl<Q: 'static, R: 'static> Handler<Q, R> {
    /// Says what it is made of, outermost first.
    #[must_use]
    pub fn describe(&self) -> Description {
        self.0.description.clone()
    }
}

impl<Q: 'static, R: 'static> Clone for Handler<Q, R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<Q: 'static, R: 'static> fmt::Debug for Handler<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handler({})", self.0.description)
    }
}
