use std::fmt;
use std::sync::Arc;

use super::endpoint::Endpoint;
use super::part::Part;
use super::{BoxFuture, ChainDescription, Context, Next};

/// A chain with its handler, ready to be called.
///
/// A cheap handle: clones share one chain. It is called through `&self`, from any number of tasks concurrently, and is
/// `Send` and `Sync` for all types of requests and answers.
///
/// # Examples
/// ```
/// use motet::middleware::{Chain, Handler};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let handler: Handler<u32, u32> = Chain::new().to(|n| async move { n + 1 });
/// let (a, b) = tokio::join!(handler.call(1), handler.call(2));
/// assert_eq!((a, b), (2, 3));
/// # Ok(())
/// # }
/// ```
pub struct Handler<Q: 'static, R: 'static>(pub(super) Arc<BuiltChain<Q, R>>);

impl<Q: 'static, R: 'static> Handler<Q, R> {
    /// Passes a request through the parts to the handler, and returns the answer.
    ///
    /// No task is spawned: parts and handler run in the caller's task, nested in each other.
    ///
    /// # Cancel safety
    /// As cancel-safe as the parts and the handler: dropping the future drops their futures at their current await.
    ///
    /// # Panics
    /// Propagates a panic of a part or of the handler.
    #[track_caller]
    pub fn call(&self, request: Q) -> BoxFuture<R> {
        self.call_with(request, Context::new())
    }

    /// Passes a request and a context through the parts to the handler, and returns the answer.
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
    /// The parts of the chain and its handler, outermost first.
    #[must_use]
    pub fn describe(&self) -> ChainDescription {
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

/// The parts and the handler of a chain, shared by the clones of a [`Handler`].
pub(super) struct BuiltChain<Q: 'static, R: 'static> {
    pub(super) parts: Box<[Part<Q, R>]>,
    pub(super) endpoint: Box<dyn Endpoint<Q, R>>,
    pub(super) description: ChainDescription,
    /// From this index on, the chain has no policies.
    quiet_from: usize,
}

impl<Q: 'static, R: 'static> BuiltChain<Q, R> {
    pub(super) fn new(parts: Vec<Part<Q, R>>, endpoint: impl Endpoint<Q, R>) -> Self {
        let mut description = ChainDescription::default();
        parts.iter().for_each(|part| description.push(part.description.clone()));
        endpoint.describe(&mut description);
        let quiet_from = match endpoint.has_policies() {
            true => usize::MAX,
            false => parts.iter().rposition(|part| part.policy).map_or(0, |last| last + 1),
        };
        Self { parts: parts.into(), endpoint: Box::new(endpoint), description, quiet_from }
    }

    /// Returns `true` if a part at `at` or further inside is a policy, which may end calls by itself.
    pub(super) fn has_policies(&self, at: usize) -> bool {
        at < self.quiet_from
    }
}
