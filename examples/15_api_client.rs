// An API client: ten calls over at most five connections, against a real server.
// At most five calls are in flight and the others wait in order; failed calls are retried where that is safe.
// Run it: cargo run -p motet-examples --example 15_api_client

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use axum::extract::{Path, State};
use axum::{Json, Router, http::StatusCode, routing::get};
use motet::task::{CancelToken, Nursery, Scope, ScopeError, gather, scope};
use motet_http::{ApiClient, Error, Server};
use tokio::net::TcpListener;

fn client(scope: &Scope, base: &str) -> ApiClient {
    let builder = ApiClient::builder(scope).name("api").base_url(base).max_in_flight(5, 100);
    builder.build().expect("the settings are valid")
}

async fn fetch(api: &ApiClient, user: u32) -> Result<String, Error> {
    api.get(&format!("/api/users/{user}")).fetch_json().await
}

async fn rename(api: &ApiClient, user: u32, name: &str) -> Result<String, Error> {
    // A POST is sent once: it may not be safe to repeat.
    api.post(&format!("/api/users/{user}")).json(name).fetch_json().await
}

/// Counts the concurrent calls that the server sees.
#[derive(Clone, Default)]
struct Load {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

async fn user(State(load): State<Load>, Path(id): Path<u32>) -> Result<Json<String>, StatusCode> {
    load.most.fetch_max(load.now.fetch_add(1, SeqCst) + 1, SeqCst);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    load.now.fetch_sub(1, SeqCst);
    if id == 7 { Err(StatusCode::NOT_FOUND) } else { Ok(Json(format!("user {id}"))) }
}

/// Runs `work` beside a server, with its base URL.
async fn with_server(load: Load, work: impl AsyncFnOnce(&Scope, &str)) -> Result<(), ScopeError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("it is bound"));
    let renamed = async |Json(name): Json<String>| Json(name.to_uppercase());
    let router = Router::new().route("/api/users/{id}", get(user).post(renamed)).with_state(load);
    scope(async |n: &Nursery<Infallible>| {
        n.service("server", async move { Server::new().serve(listener, router, CancelToken::new()).await });
        work(n, &base).await;
        Ok(())
    })
    .await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ScopeError> {
    with_server(Load::default(), async |scope, base| {
        let api = client(scope, base);
        for fetched in gather((0..10).map(|id| fetch(&api, id))).await {
            println!("{}", fetched.unwrap_or_else(|error| error.to_string()));
        }
        println!("Renamed: {:?}", rename(&api, 1, "Ada").await);
    })
    .await?;
    motet::drain().await;
    Ok(())
}
