// An HTTP session as a context manager: its connections are open inside of it, and closed when it returns.
// The session is a client whose connections belong to a scope, as Python's `async with ClientSession()`.
// Run it: cargo run -p motet-examples --example 07_http_session

use std::convert::Infallible;

use axum::{Json, Router, routing::get};
use motet::task::{CancelToken, Nursery, ScopeError, scope};
use motet_http::{ApiClient, Error, Server};
use tokio::net::TcpListener;

async fn with_session<T>(
    base: &str,
    work: impl AsyncFnOnce(ApiClient) -> Result<T, Error>,
) -> Result<T, ScopeError<Error>> {
    scope(async |n: &Nursery<Error>| {
        work(ApiClient::builder(n).base_url(base).build().expect("the base URL is valid")).await
    })
    .await
}

async fn events(base: &str) -> Result<Vec<String>, ScopeError<Error>> {
    with_session(base, async |session| session.get("/events").fetch_json().await).await
}

/// Runs `work` beside a server, with its base URL.
async fn with_server<T>(work: impl AsyncFnOnce(String) -> T) -> T {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("it is bound"));
    let router = Router::new().route("/events", get(async || Json(["pushed", "forked"])));
    let done = scope(async |n: &Nursery<Infallible>| {
        n.service("server", async move { Server::new().serve(listener, router, CancelToken::new()).await });
        Ok(work(base).await)
    });
    done.await.expect("no child can fail")
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ScopeError<Error>> {
    let events = with_server(async |base| events(&base).await).await;
    // Waits for the tasks of dropped scopes; there are none in this program.
    motet::drain().await;
    println!("{}", events?.join(", "));
    Ok(())
}
