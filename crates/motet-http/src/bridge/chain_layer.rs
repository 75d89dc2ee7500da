use std::fmt;

use motet::middleware::Chain;
use tower_layer::Layer;
use tower_service::Service;

use super::{Answer, HandlerService, handler, service};

/// A chain as a layer of tower, created by [`layer`](super::layer).
///
/// The last layer that is added to a tower stack is outermost; in a chain it is the first part. Within the chain its
/// own order applies.
pub struct ChainLayer<Q: 'static, R: 'static>(pub(super) Chain<Q, R>);

impl<Q, R, S> Layer<S> for ChainLayer<Q, R>
where
    S: Service<Q, Future: Send, Error: Send> + Clone + Send + Sync + 'static,
    R: Answer<Response = S::Response, Error = S::Error> + 'static,
    Q: Send + 'static,
{
    type Service = HandlerService<Q, R>;

    fn layer(&self, inner: S) -> Self::Service {
        service(self.0.clone().to(handler::<S, Q, R>(inner)))
    }
}

impl<Q: 'static, R: 'static> Clone for ChainLayer<Q, R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<Q: 'static, R: 'static> fmt::Debug for ChainLayer<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainLayer({})", self.0.describe())
    }
}
