//! An API client over a pool: ten calls over at most five connections, against a real server.
//!
//! `cargo run -p motet-examples --example 10_api_client`

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use motet::task::{CancelToken, Nursery, Scope, ScopeError, gather, scope};
use motet_examples::Journal;
use motet_http::{ApiClient, Error, Server};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct User {
    id: u32,
    name: String,
}

/// The pool and the client of the original in one: at most five calls are under way, and the others wait, in order.
/// What a call took goes back however it ends; what fails is tried again, where that does no harm.
fn client(scope: &Scope, base: &str) -> ApiClient {
    let builder = ApiClient::builder(scope).named("api").base_url(base).max_in_flight(5, 100);
    builder.build().expect("the base URL is one")
}

async fn fetch(api: &ApiClient, user: u32) -> Result<User, Error> {
    api.get(&format!("/api/users/{user}")).fetch_json().await
}

async fn rename(api: &ApiClient, user: &User) -> Result<User, Error> {
    // A `POST` is sent once, for nobody knows what a second one does.
    api.post(&format!("/api/users/{}", user.id)).json(user).fetch_json().await
}

/// What the server sees.
#[derive(Clone, Default)]
struct Load {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

async fn user(
    State(load): State<Load>,
    Path(id): Path<u32>,
) -> Result<Json<User>, (StatusCode, &'static str)> {
    load.most.fetch_max(load.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    load.now.fetch_sub(1, Ordering::SeqCst);
    match id {
        7 => Err((StatusCode::NOT_FOUND, "no such user")),
        _ => Ok(Json(User { id, name: format!("user {id}") })),
    }
}

/// Runs `work` beside a server, with its base URL.
async fn with_server(load: Load, work: impl AsyncFnOnce(&Scope, &str)) -> Result<(), ScopeError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("it is bound"));
    let renamed = async |Json(user): Json<User>| Json(User { name: user.name.to_uppercase(), ..user });
    let router = Router::new().route("/api/users/{id}", get(user).post(renamed)).with_state(load);
    scope(async |n: &Nursery<Infallible>| {
        n.service("server", async move { Server::new().serve(listener, router, CancelToken::new()).await });
        work(n, &base).await;
        Ok(())
    })
    .await
}

async fn ten_users(scope: &Scope, base: &str) -> Vec<Result<User, Error>> {
    let api = client(scope, base);
    gather((0..10).map(|id| fetch(&api, id))).await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ScopeError> {
    let journal = Journal::on_terminal();
    let done = with_server(Load::default(), async |scope, base| {
        for fetched in ten_users(scope, base).await {
            match fetched {
                Ok(user) => journal.note(format!("Success: {user:?}")),
                Err(error) => journal.note(format!("Error: {error}")),
            }
        }
        let user = User { id: 1, name: "Ada".to_owned() };
        match rename(&client(scope, base), &user).await {
            Ok(user) => journal.note(format!("Renamed: {user:?}")),
            Err(error) => journal.note(format!("Error: {error}")),
        }
    });
    done.await?;
    motet::drain().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use motet::task::{Either, race};

    use super::*;

    #[tokio::test]
    async fn every_user_is_answered_within_five_calls_in_flight() {
        let load = Load::default();
        let done = with_server(load.clone(), async |scope, base| {
            let users = ten_users(scope, base).await;
            for (id, user) in (0..).zip(users) {
                match user {
                    Ok(user) => assert_eq!(user, User { id, name: format!("user {id}") }),
                    Err(error) => assert_eq!((id, error.status()), (7, Some(StatusCode::NOT_FOUND))),
                }
            }
        });
        done.await.unwrap();
        assert_eq!(load.most.load(Ordering::SeqCst), 5);
    }

    #[tokio::test]
    async fn posted_user_comes_back_renamed() {
        let done = with_server(Load::default(), async |scope, base| {
            let user = User { id: 1, name: "Ada".to_owned() };
            assert_eq!(rename(&client(scope, base), &user).await.unwrap().name, "ADA");
        });
        done.await.unwrap();
    }

    #[tokio::test]
    async fn dropped_callers_free_their_slots() {
        let done = with_server(Load::default(), async |scope, base| {
            let api = client(scope, base);
            for polls in 0..40 {
                // It goes when it was polled so often.
                let patience = async {
                    for _ in 0..polls {
                        tokio::task::yield_now().await;
                    }
                };
                if let Either::Left(fetched) = race(fetch(&api, 1), patience).await {
                    fetched.unwrap();
                }
            }
            assert_eq!(api.stats().in_flight, 0);
            assert!(gather((0..5).map(|id| fetch(&api, id))).await.iter().all(Result::is_ok));
        });
        done.await.unwrap();
    }
}
