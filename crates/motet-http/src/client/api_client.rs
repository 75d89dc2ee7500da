use std::fmt;
use std::sync::Arc;

use http::Method;
use motet::middleware::Handler;
use motet::resilience::CircuitBreakers;
use motet::task::{Scope, timeout_at};

use super::core::Core;
use super::error::{ErrorKind, TimeLimit};
use super::{ApiClientBuilder, Error, Host, Request, RequestBuilder, Response};

/// A client of an HTTP API, with retries, breakers, deadlines and limits. Its connections belong to a scope.
///
/// It is a handle: clones share the connections. [The module](crate::client) describes the steps of a call.
///
/// # Drop
/// When the last handle is dropped, idle connections are closed; connections in use are closed after their responses. All
/// connections end with the scope.
///
/// # Examples
/// ```
/// use axum::{Router, extract::Path, routing::get};
/// use motet::task::{CancelToken, Nursery, scope};
/// use motet_http::{ApiClient, Server};
/// use tokio::net::TcpListener;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
/// let base = format!("http://{}/v1", listener.local_addr().unwrap());
/// let name = get(async |Path(id): Path<u32>| if id == 1 { Ok("\"Ada\"") } else { Err("unknown") });
/// let router = Router::new().route("/v1/users/{id}/name", name);
///
/// scope(async |n: &Nursery| {
///     n.service("server", async move { Server::new().serve(listener, router, CancelToken::new()).await });
///
///     let users = ApiClient::builder(n).base_url(&base).build().unwrap();
///     let name: String = users.get("/users/1/name").fetch_json().await.unwrap();
///     assert_eq!(name, "Ada");
///     Ok(())
/// })
/// .await // and every connection is closed
/// # .unwrap();});
/// ```
#[derive(Clone)]
pub struct ApiClient {
    pub(super) core: Arc<Core>,
    /// The middleware around the core, if there is one.
    pub(super) chain: Option<Handler<Request, Result<Response, Error>>>,
}

/// Statistics of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApiClientStats {
    /// The number of attempts in flight, each until the end of the response body.
    pub in_flight: usize,
    /// The number of attempts that wait for a slot.
    pub waiting: usize,
}

impl ApiClient {
    /// Creates a builder for a client whose connections belong to `scope`, and end with it. In a program with phases, that is the
    /// scope of a later phase than that of the code that makes the calls.
    pub fn builder(scope: &Scope) -> ApiClientBuilder {
        ApiClientBuilder::new(scope)
    }

    /// Creates a `GET` request. `path` is relative to the base URL; without a base URL it is an absolute URL.
    pub fn get(&self, path: &str) -> RequestBuilder<'_> {
        self.request(Method::GET, path)
    }

    /// Creates a `HEAD` request.
    pub fn head(&self, path: &str) -> RequestBuilder<'_> {
        self.request(Method::HEAD, path)
    }

    /// Creates a `POST` request. It is not retried unless it has an [idempotency key](RequestBuilder::idempotency_key).
    pub fn post(&self, path: &str) -> RequestBuilder<'_> {
        self.request(Method::POST, path)
    }

    /// Creates a `PUT` request.
    pub fn put(&self, path: &str) -> RequestBuilder<'_> {
        self.request(Method::PUT, path)
    }

    /// Creates a `PATCH` request. It is not retried unless it is [idempotent](RequestBuilder::idempotent).
    pub fn patch(&self, path: &str) -> RequestBuilder<'_> {
        self.request(Method::PATCH, path)
    }

    /// Creates a `DELETE` request.
    pub fn delete(&self, path: &str) -> RequestBuilder<'_> {
        self.request(Method::DELETE, path)
    }

    /// Creates a request.
    ///
    /// `path` cannot leave the base URL: `..` beyond it is refused, and `//host` is a path. The caller must encode parts of
    /// the path that come from elsewhere: a `?` begins the query.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder<'_> {
        RequestBuilder::new(self, method, path)
    }

    /// Returns the breakers of the hosts, if the client has breakers.
    #[must_use]
    pub fn breakers(&self) -> Option<&CircuitBreakers<Host>> {
        self.core.breakers.as_ref()
    }

    /// Returns the statistics of the client.
    #[must_use]
    pub fn stats(&self) -> ApiClientStats {
        self.core.stats()
    }

    pub(super) fn core(&self) -> &Core {
        &self.core
    }

    pub(super) async fn call(&self, mut request: Box<Request>) -> Result<Response, Error> {
        let Some(chain) = &self.chain else { return self.core.call(&mut request).await };
        request.put_in(&self.core.defaults);
        request.settings.deadline = self.core.deadline(&request);
        let Some(deadline) = request.settings.deadline else { return chain.call(*request).await };
        let line = Arc::clone(&request.line);
        let late = |_| Err(Error::new(ErrorKind::TimedOut(TimeLimit::Total), &line));
        timeout_at(deadline, chain.call(*request)).await.unwrap_or_else(late)
    }
}

impl Core {
    pub(super) fn stats(&self) -> ApiClientStats {
        let (in_flight, waiting) = self.places.count();
        ApiClientStats { in_flight, waiting }
    }
}

impl fmt::Debug for ApiClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Core { base, connections, .. } = &*self.core;
        f.debug_struct("ApiClient")
            .field("base", base)
            .field("connections", connections)
            .finish_non_exhaustive()
    }
}
