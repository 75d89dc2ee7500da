//! Servers on loopback: well-behaved ones, and ones that are scripted byte by byte.

mod certificate;
mod scripted;

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use motet::Backoff;
use motet::resilience::Retry;
use motet::task::{CancelToken, Nursery, Scope, scope, timeout};
use motet_http::{ApiClient, ApiClientBuilder, Server};
use tokio::net::TcpListener;

pub(crate) use certificate::Certificate;
pub(crate) use scripted::{Connection, scripted};

/// A test that takes longer hangs.
const FOR_EVER: Duration = Duration::from_secs(60);

/// Runs the body of a test in a scope, in which its servers are.
pub(crate) async fn test(body: impl AsyncFnOnce(&Nursery)) {
    let done = scope(async |n: &Nursery<Infallible>| {
        body(n).await;
        Ok(())
    });
    timeout(FOR_EVER, done).await.expect("the test hangs").unwrap();
    assert_eq!(motet::task::unscoped(), 0, "something outlived the scope");
}

/// Serves a router until the scope ends, and gives its base URL.
pub(crate) async fn serve(n: &Scope, router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let serving = async move {
        let _served = Server::new().serve(listener, router, CancelToken::new()).await;
    };
    drop(n.service("server", serving).unwrap());
    base
}

/// A client that does not wait between attempts.
pub(crate) fn builder(n: &Scope, base: &str) -> ApiClientBuilder {
    ApiClient::builder(n).base_url(base).retry(quick())
}

pub(crate) fn client(n: &Scope, base: &str) -> ApiClient {
    builder(n, base).build().unwrap()
}

pub(crate) fn quick() -> Retry {
    Retry::new().backoff(Backoff::constant(Duration::ZERO)).without_budget()
}
