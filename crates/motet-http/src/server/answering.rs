//! The service of a connection.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::Service;
use motet::task::CancelToken;
use pin_project_lite::pin_project;

use super::phase::{ConnectionState, Phase};
use super::{Peer, Reserved};

/// Calls the service for the requests of one connection, notes when a request is handled, and ends the connection with
/// its last response.
#[derive(Debug)]
pub(super) struct Answering<S> {
    pub(super) service: S,
    pub(super) peer: Option<SocketAddr>,
    pub(super) is_reserved: bool,
    pub(super) state: Arc<ConnectionState>,
    pub(super) stop: CancelToken,
}

impl<S, B> Service<Request<Incoming>> for Answering<S>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
{
    type Response = Response<Tracked<B>>;
    type Error = S::Error;
    type Future = Answer<S::Future>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let handling = Handling::begin(&self.state);
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(Peer(peer));
        }
        if self.is_reserved {
            request.extensions_mut().insert(Reserved);
        }
        Answer {
            answer: self.service.call(request),
            handling: Some(handling),
            // A client that knows that a response is the last one does not send another request.
            stop: self.stop.clone(),
            is_last: self.is_reserved,
        }
    }
}

/// A request that is handled or answered, until this is dropped.
#[derive(Debug)]
struct Handling(Arc<ConnectionState>);

impl Handling {
    fn begin(state: &Arc<ConnectionState>) -> Self {
        state.enter(Phase::Busy);
        Self(Arc::clone(state))
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        self.0.enter(Phase::Idle);
    }
}

pin_project! {
    /// The response to a request, in progress.
    #[derive(Debug)]
    pub(super) struct Answer<F> {
        #[pin]
        answer: F,
        handling: Option<Handling>,
        stop: CancelToken,
        is_last: bool,
    }
}

impl<F, B, E> Future for Answer<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Tracked<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.answer.poll(cx))?;
        // An upgrade uses this header differently, and its connection no longer speaks HTTP.
        let is_upgrade = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if (*this.is_last || this.stop.is_cancelled()) && !is_upgrade {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let handling = this.handling.take();
        Poll::Ready(Ok(response.map(|body| Tracked { body, _handling: handling })))
    }
}

pin_project! {
    /// The body of a response. The connection is busy until it is dropped.
    #[derive(Debug)]
    pub(super) struct Tracked<B> {
        #[pin]
        body: B,
        _handling: Option<Handling>,
    }
}

impl<B: Body> Body for Tracked<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
