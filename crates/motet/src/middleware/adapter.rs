use std::sync::Arc;

use super::endpoint::Endpoint;
use super::{BoxFuture, Context, Description, Handler, Next, PartDescription};

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

    fn describe(&self, inside: &mut Description) {
        inside.push(PartDescription::of::<F>());
        inside.append(self.inside.describe());
    }

    fn has_policies(&self) -> bool {
        self.inside.0.has_policies(0)
    }
}
