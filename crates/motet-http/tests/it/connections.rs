//! The lower half of a client: one request is one attempt.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::pending;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use motet::stream::{Yielder, try_generator};
use motet::task::{CancelToken, Either, Nursery, Reason, Scope, race, scope};
use motet_http::{ApiClient, Body, Connections, Host, MemoryListener, SendError, Server};
use motet_testkit::sim::sim;
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};

use crate::harness::{Connection, scripted, test};

fn post(base: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(format!("{base}/hook")).body(body.into()).unwrap()
}

async fn read(answer: http::Response<motet_http::ReceivedBody>) -> Bytes {
    answer.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test]
async fn requests_in_turn_share_a_connection_and_are_not_retried() {
    test(async |n| {
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        let (base, dialled) = scripted(n, move |mut connection: Connection| {
            let count = Arc::clone(&count);
            async move {
                while let Some(request) = connection.request().await {
                    assert!(request.starts_with("POST /hook HTTP/1.1\r\n") && request.ends_with("event"));
                    count.fetch_add(1, Ordering::SeqCst);
                    connection.answer("503 Service Unavailable\r\nretry-after: 0", "busy").await;
                }
            }
        })
        .await;
        let connections = Connections::builder(n).build().unwrap();
        for _ in 0..3 {
            let answer = connections.send(post(&base, "event")).await.unwrap();
            assert_eq!(answer.status(), 503);
            assert_eq!(read(answer).await, "busy");
        }
        assert_eq!((requests.load(Ordering::SeqCst), dialled.load(Ordering::SeqCst)), (3, 1));
    })
    .await;
}

#[tokio::test]
async fn dropped_request_closes_its_connection() {
    test(async |n| {
        let (asked, closed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (asks, closes) = (Arc::clone(&asked), Arc::clone(&closed));
        let (base, _) = scripted(n, move |mut connection: Connection| {
            let (asks, closes) = (Arc::clone(&asks), Arc::clone(&closes));
            async move {
                let _request = connection.request().await;
                asks.notify_one();
                connection.closed().await;
                closes.notify_one();
            }
        })
        .await;
        let connections = Connections::builder(n).build().unwrap();
        match race(connections.send(post(&base, "event")), asked.notified()).await {
            Either::Right(()) => closed.notified().await,
            Either::Left(done) => panic!("{done:?}"),
        }
    })
    .await;
}

#[tokio::test]
async fn send_errors_distinguish_head_address_timeout_and_body_errors() {
    test(async |n| {
        let (base, _) = scripted(n, async |mut connection: Connection| {
            let _request = connection.request().await;
            connection.write(&format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(10_000))).await;
            connection.closed().await;
        })
        .await;
        let small = Connections::builder(n).max_head(8 << 10).build().unwrap();
        let error = small.send(post(&base, "event")).await.unwrap_err();
        assert!(matches!(error, SendError::Transport(_)), "{error:?}");

        let guarded = Connections::builder(n).connect_only_to(|address: IpAddr| Err(format!("{address}?")));
        let error = guarded.build().unwrap().send(post(&base, "event")).await.unwrap_err();
        assert!(matches!(error, SendError::Connect(_)), "{error:?}");

        // It accepts, in the kernel, and never answers the handshake.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let https = format!("https://{}", silent.local_addr().unwrap());
        let within = Duration::from_millis(30);
        let hasty = Connections::builder(n).connect_timeout(within).build().unwrap();
        let error = hasty.send(post(&https, "event")).await.unwrap_err();
        assert!(matches!(error, SendError::ConnectTimedOut(limit) if limit == within), "{error:?}");

        let breaks = try_generator(async |mut y: Yielder<Bytes>| {
            y.emit(Bytes::from_static(b"ev")).await;
            Err("no more")
        });
        let connections = Connections::builder(n).build().unwrap();
        let error = connections.send(post(&base, Body::stream(breaks))).await.unwrap_err();
        assert!(matches!(error, SendError::RequestBody(_)), "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn max_head_of_one_byte_and_max_open_of_zero_are_refused() {
    test(async |n| {
        assert!(Connections::builder(n).max_head(1).build().is_err());
        assert!(Connections::builder(n).max_open(0).build().is_err());
    })
    .await;
}

#[tokio::test]
async fn connection_ends_with_its_scope_and_later_sends_fail() {
    test(async |n| {
        let closed = Arc::new(Notify::new());
        let closes = Arc::clone(&closed);
        let (base, _) = scripted(n, move |mut connection: Connection| {
            let closes = Arc::clone(&closes);
            async move {
                let _request = connection.request().await;
                connection.answer("200 OK", "hello").await;
                connection.closed().await;
                closes.notify_one();
            }
        })
        .await;
        let kept = scope(async |inner: &Nursery| {
            let connections = Connections::builder(inner).build().unwrap();
            let answer = connections.send(post(&base, "event")).await.unwrap();
            assert_eq!(read(answer).await, "hello");
            Ok(connections)
        });
        let kept = kept.await.unwrap();
        closed.notified().await;
        let error = kept.send(post(&base, "event")).await.unwrap_err();
        assert!(matches!(error, SendError::Closed), "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn request_in_flight_fails_as_closed_when_its_scope_ends() {
    test(async |n| {
        let asked = Arc::new(Notify::new());
        let asks = Arc::clone(&asked);
        let (base, _) = scripted(n, move |mut connection: Connection| {
            let asks = Arc::clone(&asks);
            async move {
                let _request = connection.request().await;
                asks.notify_one();
                connection.closed().await;
            }
        })
        .await;
        let (tell, told) = oneshot::channel();
        let owner = n.spawn("owner", async move {
            let owned = scope(async |inner: &Nursery| {
                let connections = Connections::builder(inner).build().unwrap();
                assert!(tell.send((connections, Scope::clone(inner))).is_ok());
                pending::<Result<(), Infallible>>().await
            });
            assert!(owned.await.is_err());
        });
        let (connections, inner) = told.await.unwrap();
        let ends = async {
            asked.notified().await;
            inner.cancel(Reason::requested("the shutdown"));
        };
        let (sent, ()) = tokio::join!(connections.send(post(&base, "event")), ends);
        let error = sent.unwrap_err();
        assert!(matches!(error, SendError::Closed), "{error:?}");
        owner.await.unwrap();
    })
    .await;
}

#[test]
fn idle_connections_end_in_the_same_order_in_both_runs() {
    sim(|| async {
        scope(async |n: &Nursery| {
            let mut hosts = BTreeMap::new();
            for name in ["a", "b", "c", "d", "e"] {
                let (listener, connector) = MemoryListener::new();
                hosts.insert(name, connector);
                let router = Router::new().fallback(async || "hello");
                n.service(
                    name,
                    async move { Server::new().serve(listener, router, CancelToken::new()).await },
                );
            }
            let dial = move |host: Host| hosts[host.name()].connect();
            let api = ApiClient::builder(n).connect_by(dial).build().unwrap();
            for name in ["a", "b", "c", "d", "e"] {
                api.get(&format!("http://{name}/")).fetch().await.unwrap();
            }
            Ok(())
        })
        .await
        .unwrap();
    })
    .seeds(5)
    .run();
}
