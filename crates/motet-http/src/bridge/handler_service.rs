use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use motet::middleware::{BoxFuture, Handler};
use tower_service::Service;

use super::Answer;

/// A handler as a service of tower, created by [`service`](super::service). It is always ready.
pub struct HandlerService<Q: 'static, R: 'static>(pub(super) Handler<Q, R>);

impl<Q: 'static, R: Answer + 'static> Service<Q> for HandlerService<Q, R> {
    type Response = R::Response;
    type Error = R::Error;
    type Future = Answering<R>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), R::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Q) -> Answering<R> {
        Answering(self.0.call(request))
    }
}

impl<Q: 'static, R: 'static> Clone for HandlerService<Q, R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<Q: 'static, R: 'static> fmt::Debug for HandlerService<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HandlerService").field(&self.0).finish()
    }
}

/// The future of a [`HandlerService`]: the future of the chain, whose answer it converts.
#[must_use = "futures do nothing unless awaited"]
pub struct Answering<R>(BoxFuture<R>);

impl<R: Answer> Future for Answering<R> {
    type Output = Result<R::Response, R::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx).map(R::into_result)
    }
}

impl<R> fmt::Debug for Answering<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answering").finish_non_exhaustive()
    }
}
