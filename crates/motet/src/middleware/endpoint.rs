use super::{BoxFuture, Context, Description, Handler, PartDescription};

/// The end of a chain: an `async fn` from the request to the answer, or a [`Handler`].
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
    fn describe(&self, inside: &mut Description);

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

    fn describe(&self, inside: &mut Description) {
        inside.push(PartDescription::of::<F>());
    }
}

impl<Q: 'static, R: 'static> Endpoint<Q, R> for Handler<Q, R> {
    fn call(&self, request: Q, context: Context) -> BoxFuture<R> {
        self.call_with(request, context)
    }

    fn describe(&self, inside: &mut Description) {
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

    fn describe(&self, inside: &mut Description) {
        inside.push(PartDescription::of::<F>());
    }
}
