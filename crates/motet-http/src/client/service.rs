//! The client as a service of tower.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_service::Service;

use super::error::ErrorKind;
use super::request_line::RequestLine;
use super::{ApiClient, Body, Error, Request, Response, ResponseBody, target};

/// A client is a service, for layers of tower and for code that is generic over clients. It is always ready: the limits of
/// the client apply inside of the call.
///
/// The URL of a request is absolute, or without scheme and host relative to the base URL of the client. If the client has a
/// base URL, an absolute URL must be below it, since the headers of the client may contain credentials. As with
/// [`send`](super::RequestBuilder::send), a status that is not a success is not an error, and the body is streamed.
///
/// # Examples
/// ```
/// use axum::{Router, routing::get};
/// use http::Request;
/// use motet::task::{CancelToken, Nursery, scope};
/// use motet_http::{ApiClient, Body, MemoryListener, Server};
/// use tower_service::Service as _;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let (listener, connector) = MemoryListener::new();
/// let router = Router::new().route("/users/{id}", get(async || "Ada"));
///
/// scope(async |n: &Nursery| {
///     n.service("server", async move { Server::new().serve(listener, router, CancelToken::new()).await });
///     let api = ApiClient::builder(n).base_url("http://users").connect_by(move |_| connector.connect());
///     let mut service = api.build().unwrap();
///
///     let request = Request::get("/users/1").body(Body::empty()).unwrap();
///     let mut response = service.call(request).await.unwrap();
///     assert_eq!(response.body_mut().chunk().await.unwrap().unwrap(), "Ada");
///     Ok(())
/// })
/// .await
/// # .unwrap();});
/// ```
impl<B: Into<Body>> Service<http::Request<B>> for ApiClient {
    type Response = http::Response<ResponseBody>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let client = self.clone();
        let request = client.of_http(request);
        Box::pin(async move { Self::call(&client, request?).await.map(Into::into) })
    }
}

impl ApiClient {
    fn of_http<B: Into<Body>>(&self, request: http::Request<B>) -> Result<Box<Request>, Error> {
        let (head, body) = request.into_parts();
        let mut made = Request::new(head.method, head.uri);
        made.headers = head.headers;
        made.extensions = head.extensions;
        made.body = body.into();
        match target::resolve_uri(self.core().base.as_ref(), made.uri()) {
            Ok(uri) => {
                made.line = Arc::new(RequestLine { method: made.method().clone(), uri });
                Ok(Box::new(made))
            }
            Err(error) => Err(made.error(ErrorKind::Request(error))),
        }
    }
}

impl From<Response> for http::Response<ResponseBody> {
    fn from(response: Response) -> Self {
        let Response { status, version, headers, extensions, exchange } = response;
        let mut made = Self::new(ResponseBody(exchange));
        *made.status_mut() = status;
        *made.version_mut() = version;
        *made.headers_mut() = headers;
        *made.extensions_mut() = extensions;
        made
    }
}
