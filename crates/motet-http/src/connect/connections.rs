use std::fmt;

use h2::Reason;
use http::{Extensions, Request, Response};
use hyper_util::client::legacy;
use motet::task::Scope;

use super::error::find;
use super::line::{GivenUp, OfLine};
use super::upload::CallEnd;
use super::{ConnectError, ConnectionsBuilder, Connector, ReceivedBody, SendError, Sending};
use crate::client::{Body, Outgoing};

/// Sends requests over connections that are kept and belong to a scope: the lower half of an
/// [`ApiClient`](crate::ApiClient), without policies.
///
/// A request is one attempt, for as long as its future is polled. The answer is given when its headers are there; its body
/// has neither a limit of time nor of size. A handle: clones are one.
///
/// # When to use
/// Where every attempt is decided on elsewhere: by a queue that has retries of its own, say. For anything else there is
/// the client.
///
/// # Drop
/// As of an [`ApiClient`](crate::ApiClient): idle connections go with the last handle, and all of them with the scope.
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
    pub(super) http: legacy::Client<Connector, Outgoing>,
    pub(super) scope: Scope,
}

impl Connections {
    /// Begins connections that belong to this scope.
    pub fn builder(scope: &Scope) -> ConnectionsBuilder {
        ConnectionsBuilder::new(scope)
    }

    /// Sends a request, whose URL is absolute, and waits for the head of the answer.
    ///
    /// One that finds its connection closed before a byte of it was sent goes to another, unseen.
    ///
    /// # Cancel safety
    /// The request is given up, and its connection is closed if any of it was sent, also while the other side takes
    /// nothing of it; of HTTP/2, its stream.
    ///
    /// # Errors
    /// [`SendError`]. After [`RequestBody`](SendError::RequestBody), [`Transport`](SendError::Transport) and, hardly ever,
    /// [`Stale`](SendError::Stale) the other side may have done what was asked, and after the others it has not.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<ReceivedBody>, SendError> {
        let (head, body) = request.into_parts();
        let Some(body) = body.outgoing() else {
            return Err(SendError::RequestBody("it is a stream, which was sent before".into()));
        };
        self.request(Request::from_parts(head, body)).await.map_err(|error| self.failed(error))
    }

    pub(crate) fn request(&self, request: Request<Outgoing>) -> Sending {
        let end = request.body().upload().map(CallEnd::new);
        Sending::new(self.http.request(request), end)
    }

    pub(crate) fn failed(&self, error: legacy::Error) -> SendError {
        if self.scope.is_closed() {
            return SendError::Closed;
        }
        if let Some(ConnectError::Deadline(within)) = find(&error) {
            return SendError::ConnectTimedOut(*within);
        }
        if error.is_connect() {
            return SendError::Connect(error.into());
        }
        if find::<GivenUp>(&error).is_some() {
            return SendError::Refused(error.into());
        }
        if find::<hyper::Error>(&error).is_some_and(hyper::Error::is_user) {
            return SendError::RequestBody(error.into());
        }
        if find(&error).is_some_and(is_refusal) {
            return SendError::Refused(error.into());
        }
        if is_stale(&error) { SendError::Stale(error.into()) } else { SendError::Transport(error.into()) }
    }
}

/// Returns `true` if the connection had been used before, and nothing came of this answer.
fn is_stale(error: &legacy::Error) -> bool {
    let Some(connected) = error.connect_info() else { return false };
    let mut extras = Extensions::new();
    connected.get_extras(&mut extras);
    extras.remove::<OfLine>().is_some_and(|OfLine(line)| line.is_stale())
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("scope", &self.scope.name()).finish_non_exhaustive()
    }
}

/// Asks whether the request was left alone: a stream that is refused, or was begun past the last one that counts.
fn is_refusal(error: &h2::Error) -> bool {
    let is_for = |reason| error.is_remote() && error.reason() == Some(reason);
    (error.is_reset() && is_for(Reason::REFUSED_STREAM)) || (error.is_go_away() && is_for(Reason::NO_ERROR))
}
