use std::fmt;
use std::sync::Arc;

use http::Method;
use motet::middleware::Handler;
use motet::resilience::CircuitBreakers;
use motet::task::{Scope, timeout_at};

use super::core::Core;
use super::error::{ErrorKind, TimeLimit};
use super::{ApiClientBuilder, Error, Host, Request, RequestBuilder, Response};

/// Calls an HTTP API: with retries, breakers, deadlines and limits, over connections that belong to a scope.
///
/// A handle: clones are one client, with its connections. See [the module](crate::client) for what a call goes through.
///
/// # Drop
/// With the last handle go the connections that are idle; those in use end with the answers that they carry. All of them
/// end with the scope.
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
/// let name = get(async |Path(id): Path<u32>| if id == 1 { Ok("\"Ada\"") } else { Err("nobody") });
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
    /// What leads to it, if there is a middleware.
    pub(super) chain: Option<Handler<Request, Result<Response, Error>>>,
}

/// What a client knows of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApiClientStats {
    /// Attempts that have their place, until the end of the answer's body.
    pub in_flight: usize,
    /// Attempts that wait for a place.
    pub waiting: usize,
}

impl ApiClient {
    /// Begins a client whose connections belong to this scope.
    pub fn builder(scope: &Scope) -> ApiClientBuilder {
        ApiClientBuilder::new(scope)
    }

    /// Begins a `GET` of a path below the base URL, or of a URL where there is no base.
    pub fn get(&self, path: &str) -> RequestBuilder<'_> {
        self.request(Method::GET, path)
    }

    /// Begins a `HEAD`.
    pub fn head(&self, path: &str) -> RequestBuilder<'_> {
        self.request(Method::HEAD, path)
    }

    /// Begins a `POST`, which is not retried by itself: see [`RequestBuilder::idempotency_key`].
    pub fn post(&self, path: &str) -> RequestBuilder<'_> {
        self.request(Method::POST, path)
    }

    /// Begins a `PUT`.
    pub fn put(&self, path: &str) -> RequestBuilder<'_> {
        self.request(Method::PUT, path)
    }

    /// Begins a `PATCH`, which is not retried by itself.
    pub fn patch(&self, path: &str) -> RequestBuilder<'_> {
        self.request(Method::PATCH, path)
    }

    /// Begins a `DELETE`.
    pub fn delete(&self, path: &str) -> RequestBuilder<'_> {
        self.request(Method::DELETE, path)
    }

    /// Begins a request.
    ///
    /// The path cannot lead out of the base URL, whatever is in it: `..` beyond it is refused, and `//host` is a path.
    /// What of it comes from elsewhere must still be encoded by who puts it there: a `?` begins the query.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder<'_> {
        RequestBuilder::new(self, method, path)
    }

    /// Gives the breakers of the hosts, if there are any: to look at them, or to force one.
    #[must_use]
    pub fn breakers(&self) -> Option<&CircuitBreakers<Host>> {
        self.core.breakers.as_ref()
    }

    /// Gives what the client knows.
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
