use std::sync::Arc;

use super::description::PartDescription;
use super::{BoxFuture, ChainDescription, Context, Handler, Next};

/// The end of a chain: an `async fn` from the request to the answer, or a [`Handler`].
#[allow(unnameable_types, reason = "implemented for all handlers, and not by users")]
#[diagnostic::on_unimplemented(
    message = "a chain for requests `{Q}` and answers `{R}` cannot end in this value",
    label = "not a handler",
    note = "a handler is `async fn(request: Q) -> R`, a closure of that shape, or the `Handler<Q, R>` of another chain",
    note = "its future has to be `Send`: no `Rc` or lock guard may be held across an `.await`"
)]
pub trait Endpoint<Q: 'static, R: 'static>: Send + Sync + 'static {
    #[doc(hidden)]
    fn call(&self, request: Q, context: Context) -> BoxFuture<R>;

    #[doc(hidden)]
    fn describe(&self, inside: &mut ChainDescription);

    #[doc(hidden)]
    fn has_policies(&self) -> bool {
        false
    }
}

impl<Q: 'static, R: 'static, F, Fut> Endpoint<Q, R> for F
where
    F: Fn(Q) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = R> + Send + 'static,
{
    #[inline]
    fn call(&self, request: Q, _: Context) -> BoxFuture<R> {
        Box::pin(self(request))
    }

    fn describe(&self, inside: &mut ChainDescription) {
        inside.push(PartDescription::of::<F>());
    }
}

impl<Q: 'static, R: 'static> Endpoint<Q, R> for Handler<Q, R> {
    fn call(&self, request: Q, context: Context) -> BoxFuture<R> {
        self.call_with(request, context)
    }

    fn describe(&self, inside: &mut ChainDescription) {
        inside.append(Self::describe(self));
    }

    fn has_policies(&self) -> bool {
        self.0.has_policies(0)
    }
}

/// A handler that reads the context.
pub(super) struct WithContext<F>(pub(super) F);

impl<Q: 'static, R: 'static, F, Fut> Endpoint<Q, R> for WithContext<F>
where
    F: Fn(Q, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = R> + Send + 'static,
{
    fn call(&self, request: Q, context: Context) -> BoxFuture<R> {
        Box::pin(self.0(request, context))
    }

    fn describe(&self, inside: &mut ChainDescription) {
        inside.push(PartDescription::of::<F>());
    }
}

/// Connects a chain with an inner chain over other types; the endpoint of the outer chain.
pub(super) struct Adapter<A: 'static, B: 'static, F> {
    pub(super) adapt: Arc<F>,
    pub(super) inside: Handler<A, B>,
}

impl<Q: 'static, R: 'static, A: 'static, B: 'static, F, Fut> Endpoint<Q, R> for Adapter<A, B, F>
where
    F: Fn(Q, Next<A, B>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = R> + Send + 'static,
{
    fn call(&self, request: Q, context: Context) -> BoxFuture<R> {
        let next = Next { built: Arc::clone(&self.inside.0), at: 0, context };
        Box::pin((self.adapt)(request, next))
    }

    fn describe(&self, inside: &mut ChainDescription) {
        inside.push(PartDescription::of::<F>());
        inside.append(self.inside.describe());
    }

    fn has_policies(&self) -> bool {
        self.inside.0.has_policies(0)
    }
}
