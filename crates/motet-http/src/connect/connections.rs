use std::fmt;
use std::sync::Arc;

#[cfg(feature = "http2")]
use h2::Reason;
use http::header::CONTENT_LENGTH;
#[cfg(feature = "proxy")]
use http::header::PROXY_AUTHORIZATION;
use http::{Extensions, Request, Response};
use http_body::Body as _;
use hyper_util::client::legacy;
use motet::task::Scope;

#[cfg(feature = "proxy")]
use super::Proxy;
use super::error::find;
use super::kept::IdleEnds;
use super::line::{GivenUp, Line, OfLine};
use super::sending::SendFailure;
use super::upload::CallEnd;
use super::{ConnectError, ConnectionsBuilder, Connector, ReceivedBody, SendError, Sending};
use crate::client::{Body, Outgoing};

/// Sends requests over pooled connections that belong to a scope: the lower half of an [`ApiClient`](crate::ApiClient),
/// without policies.
///
/// A request is one attempt, as long as its future is polled. The response is returned when its headers have arrived;
/// its body has no limit of time or size. It is a handle: clones share the connections.
///
/// # When to use
/// Use it where another part decides on every attempt, such as a queue with its own retries. For everything else use
/// the client.
///
/// # Drop
/// When the last handle is dropped, idle connections are closed. All connections end with the scope.
///
/// # Examples
/// ```
/// use axum::{Router, routing::post};
/// use http::Request;
/// use http_body_util::BodyExt as _;
/// use motet::task::{CancelToken, Nursery, scope};
/// use motet_http::{Body, Connections, Server};
/// use tokio::net::TcpListener;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
/// let url = format!("http://{}/hook", listener.local_addr().unwrap());
/// let router = Router::new().route("/hook", post(async |body: String| body.to_uppercase()));
///
/// scope(async |n: &Nursery| {
///     n.service("server", async move { Server::new().serve(listener, router, CancelToken::new()).await });
///
///     let connections = Connections::builder(n).build().unwrap();
///     let request = Request::post(url).body(Body::from("event")).unwrap();
///     let answer = connections.send(request).await.unwrap();
///     assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "EVENT");
///     Ok(())
/// })
/// .await
/// # .unwrap();});
/// ```
#[derive(Clone)]
pub struct Connections {
    /// Dropped first.
    pub(super) _idle: Arc<IdleEnds>,
    pub(super) http: legacy::Client<Connector, Outgoing>,
    /// The proxy of requests that are forwarded, if there is one.
    #[cfg(feature = "proxy")]
    pub(super) proxy: Option<Proxy>,
    pub(super) scope: Scope,
}

impl Connections {
    /// Creates a builder for connections that belong to `scope`, and end with it. In a program with phases, that is the scope of
    /// a later phase than that of the code that sends requests.
    pub fn builder(scope: &Scope) -> ConnectionsBuilder {
        ConnectionsBuilder::new(scope)
    }

    /// Sends a request with an absolute URL, and waits for the head of the response.
    ///
    /// A request that finds its connection closed before a byte was sent is sent on another connection.
    ///
    /// # Cancel safety
    /// The request is aborted: its connection is closed if a byte was sent, also while the server reads nothing; with
    /// HTTP/2, its stream is reset.
    ///
    /// # Errors
    /// [`SendError`]. After [`RequestBody`](SendError::RequestBody), [`Transport`](SendError::Transport),
    /// [`Closed`](SendError::Closed) and, rarely, [`Stale`](SendError::Stale), the server may have processed the request; after
    /// the others it has not.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<ReceivedBody>, SendError> {
        let (head, body) = request.into_parts();
        let Some(body) = body.outgoing() else {
            return Err(SendError::RequestBody("the body is a stream, which has been sent".into()));
        };
        self.request(Request::from_parts(head, body))?.await.map_err(|failure| self.failed(failure))
    }

    /// Begins to send a request.
    ///
    /// A body whose length differs from the `content-length` of the request is refused: hyper would send a truncated
    /// body, or the server would wait for the rest.
    pub(crate) fn request(
        &self,
        #[cfg_attr(not(feature = "proxy"), expect(unused_mut, reason = "only a proxy adds a header"))]
        mut request: Request<Outgoing>,
    ) -> Result<Sending, SendError> {
        if let (Some(stated), Some(length)) = (stated_length(&request), request.body().size_hint().exact())
            && stated != length
        {
            let error = format!("`content-length` is {stated}, and the body has {length} bytes");
            return Err(SendError::RequestBody(error.into()));
        }
        #[cfg(feature = "proxy")]
        if let Some(credentials) = self.proxy.as_ref().and_then(|proxy| proxy.forwarding(request.uri())) {
            request.headers_mut().insert(PROXY_AUTHORIZATION, credentials);
        }
        let end = request.body().upload().map(CallEnd::new);
        Ok(Sending::new(self.http.request(request), end))
    }

    pub(crate) fn failed(&self, failure: SendFailure) -> SendError {
        let SendFailure { error, of_body } = failure;
        if self.scope.is_closed() {
            return SendError::Closed;
        }
        if let Some(error) = of_body {
            return SendError::RequestBody(error);
        }
        if let Some(ConnectError::Deadline(within)) = find(&error) {
            return SendError::ConnectTimedOut(*within);
        }
        if error.is_connect() {
            return SendError::Connect(error.into());
        }
        let line = line_of(&error);
        if find::<GivenUp>(&error).is_some() || is_given_up(&error, line.as_deref()) {
            return SendError::Refused(error.into());
        }
        if find::<hyper::Error>(&error).is_some_and(hyper::Error::is_user) {
            // hyper also reports that the task of the connection is gone, which ends with the scope.
            return if self.scope.is_cancelled() {
                SendError::Closed
            } else {
                SendError::RequestBody(error.into())
            };
        }
        #[cfg(feature = "http2")]
        if find(&error).is_some_and(is_refusal) {
            return SendError::Refused(error.into());
        }
        if line.is_some_and(|line| line.is_stale()) {
            SendError::Stale(error.into())
        } else {
            SendError::Transport(error.into())
        }
    }
}

/// The length of the body that the headers of a request state.
fn stated_length<B>(request: &Request<B>) -> Option<u64> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Returns `true` if the connection was closed without a request, before the failed one was sent. With HTTP/2 hyper hides
/// [`GivenUp`]; an error of h2 itself is the answer of the server to a request that was sent.
fn is_given_up(error: &legacy::Error, line: Option<&Line>) -> bool {
    #[cfg(feature = "http2")]
    if find::<h2::Error>(error).is_some() {
        return false;
    }
    line.is_some_and(Line::has_refused) && find::<hyper::Error>(error).is_some()
}

/// The connection of a failed request, if it had one.
fn line_of(error: &legacy::Error) -> Option<Arc<Line>> {
    let mut extras = Extensions::new();
    error.connect_info()?.get_extras(&mut extras);
    extras.remove::<OfLine>().map(|OfLine(line)| line)
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("scope", &self.scope.name()).finish_non_exhaustive()
    }
}

/// Returns `true` if the server did not process the request: its stream was refused, or is past the last processed one.
#[cfg(feature = "http2")]
fn is_refusal(error: &h2::Error) -> bool {
    let is_for = |reason| error.is_remote() && error.reason() == Some(reason);
    (error.is_reset() && is_for(Reason::REFUSED_STREAM)) || (error.is_go_away() && is_for(Reason::NO_ERROR))
}
