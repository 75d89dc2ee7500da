//! An HTTP session as a context manager: its connections are open inside, and closed when it returns.
//!
//! `cargo run -p motet-examples --example 04_http_session`

use std::convert::Infallible;

use axum::{Json, Router, routing::get};
use motet::task::{CancelToken, Nursery, ScopeError, scope};
use motet_examples::Journal;
use motet_http::{ApiClient, Error, Server};
use tokio::net::TcpListener;

/// The session: a client whose connections belong to a scope of its own. What Python writes as
/// `async with ClientSession() as session`.
async fn with_session<T>(
    base: &str,
    work: impl AsyncFnOnce(ApiClient) -> Result<T, Error>,
) -> Result<T, ScopeError<Error>> {
    scope(async |n: &Nursery<Error>| {
        work(ApiClient::builder(n).base_url(base).build().expect("the base URL is one")).await
    })
    .await
}

/// The events of the server, as `session.get(..)` and `response.json()` of the original have it. There is no second
/// context manager for the answer: dropping it gives its connection back.
async fn events(base: &str) -> Result<Vec<String>, ScopeError<Error>> {
    with_session(base, async |session| session.get("/events").fetch_json().await).await
}

/// The server that the original finds on the network.
async fn with_server<T>(work: impl AsyncFnOnce(String) -> T) -> T {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("it is bound"));
    let router = Router::new().route("/events", get(async || Json(["pushed", "forked"])));
    let done = scope(async |n: &Nursery<Infallible>| {
        n.service("server", async move { Server::new().serve(listener, router, CancelToken::new()).await });
        Ok(work(base).await)
    });
    done.await.expect("nothing in it fails")
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ScopeError<Error>> {
    let events = with_server(async |base| events(&base).await).await;
    motet::drain().await;
    Journal::on_terminal().note(events?.join(", "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn every_event_is_fetched_in_order() {
        assert_eq!(with_server(async |base| events(&base).await).await.unwrap(), ["pushed", "forked"]);
    }

    #[tokio::test]
    async fn failed_session_returns_its_error() {
        let failed = with_server(async |base| {
            with_session(&base, async |session| session.get("/nothing").fetch().await).await
        });
        let error = failed.await.unwrap_err().into_error().unwrap();
        assert_eq!(error.status().unwrap(), 404);
    }

    #[tokio::test]
    async fn connection_closes_with_its_session() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        // It never answers: the session ends because its user leaves.
        let session = with_session(&base, async |session| session.get("/").fetch().await);
        let mut session = Box::pin(session);
        let (mut connection, _) = tokio::select! {
            accepted = listener.accept() => accepted.unwrap(),
            _ = &mut session => panic!("nobody has answered"),
        };
        drop(session);
        motet::drain().await;
        let mut request = Vec::new();
        // To its end: the other side is closed.
        drop(connection.read_to_end(&mut request).await);
    }
}
