//! Limits: calls in flight, and bodies.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use http::StatusCode;
use motet::resilience::{CircuitBreaker, CircuitBreakers, PolicyKind};
use motet::task::gather;
use motet_http::ErrorKind;
use tokio::sync::Semaphore;
use tokio::task::yield_now;

use crate::harness::{Connection, builder, scripted, serve, test};

#[tokio::test]
async fn max_in_flight_bounds_calls_and_waiting_calls_complete() {
    test(async |n| {
        let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let highest = Arc::clone(&most);
        let handler = get(async move || {
            highest.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            for _ in 0..20 {
                yield_now().await;
            }
            inside.fetch_sub(1, Ordering::SeqCst);
            "hello"
        });
        let base = serve(n, Router::new().route("/", handler)).await;
        let api = builder(n, &base).max_in_flight(3, 100).build().unwrap();
        let answers = gather((0..50).map(|_| api.get("/").fetch_bytes())).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        assert_eq!(most.load(Ordering::SeqCst), 3);
        assert_eq!((api.stats().in_flight, api.stats().waiting), (0, 0));
    })
    .await;
}

#[tokio::test]
async fn snapshot_of_the_scope_shows_an_api_client() {
    test(async |n| {
        let api = builder(n, "http://a.example").name("users").build().unwrap();
        let shown = n.snapshot().to_string();
        assert!(shown.contains("api client `users`"), "{shown}");
        drop(api);
    })
    .await;
}

#[tokio::test]
async fn unread_body_holds_its_slot_until_it_is_dropped() {
    test(async |n| {
        let gate = Arc::new(Semaphore::new(0));
        let opened = Arc::clone(&gate);
        let script = move |mut connection: Connection| {
            let opened = Arc::clone(&opened);
            async move {
                while connection.request().await.is_some() {
                    connection.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").await;
                }
                opened.add_permits(1);
            }
        };
        let (base, _) = scripted(n, script).await;
        let api = builder(n, &base).max_in_flight(1, 0).build().unwrap();
        let answer = api.get("/").send().await.unwrap();
        assert_eq!(api.stats().in_flight, 1);
        let error = api.get("/").send().await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Rejected(PolicyKind::Bulkhead)), "{error:?}");
        drop(answer);
        assert_eq!(api.stats().in_flight, 0);
        // The connection is not used again, for the rest of the body is on it.
        gate.acquire().await.unwrap().forget();
        drop(api.get("/").send().await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn body_above_max_body_is_refused() {
    test(async |n| {
        // With a length, without one, and with exactly the limit.
        let routes = Router::new()
            .route("/long", get(async || "x".repeat(1_001)))
            .route("/endless", get(async || Body::new(Endless)))
            .route("/fits", get(async || "x".repeat(1_000)));
        let base = serve(n, routes).await;
        let api = builder(n, &base).max_body(1_000).build().unwrap();
        for path in ["/long", "/endless"] {
            let error = api.get(path).fetch().await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::TooLarge { limit: 1_000 }), "{error:?}");
            assert_eq!(error.attempts(), 1);
            let error = api.get(path).send().await.unwrap().bytes().await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::TooLarge { limit: 1_000 }), "{error:?}");
        }
        assert_eq!(api.get("/fits").fetch_bytes().await.unwrap().len(), 1_000);
    })
    .await;
}

#[tokio::test]
async fn call_succeeds_with_all_timeouts_of_duration_max() {
    test(async |n| {
        let base = serve(n, Router::new().route("/", get(async || "hello"))).await;
        let never = Duration::MAX;
        let builder = builder(n, &base).timeout(never).connect_timeout(never).head_timeout(never);
        let api = builder.read_timeout(never).idle_timeout(never).max_retry_after(never).build().unwrap();
        for _ in 0..3 {
            assert_eq!(api.get("/").fetch_bytes().await.unwrap(), "hello");
            // What waits for connections to be idle has its turn.
            yield_now().await;
        }
        assert!(!n.is_closed());
    })
    .await;
}

struct Endless;

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(&[0; 1024])))))
    }
}

#[tokio::test]
async fn call_in_line_is_rejected_when_the_breaker_of_its_host_opens() {
    test(async |n| {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&calls);
        let fails = get(async move || {
            count.fetch_add(1, Ordering::SeqCst);
            StatusCode::INTERNAL_SERVER_ERROR
        });
        let base = serve(n, Router::new().route("/", fails)).await;
        let breaker = CircuitBreaker::builder().consecutive_failures(4);
        let breakers = CircuitBreakers::with_builder(NonZeroUsize::MIN, breaker).unwrap();
        let api =
            builder(n, &base).breakers(breakers).without_retry().max_in_flight(2, 1_000).build().unwrap();
        let ended = gather((0..100).map(|_| api.get("/").fetch())).await;
        let rejected = |error: &motet_http::Error| {
            matches!(error.kind(), ErrorKind::Rejected(PolicyKind::CircuitBreaker))
        };
        let rejected = ended.iter().filter(|ended| ended.as_ref().is_err_and(rejected)).count();
        // Four fail, and one more is in flight then.
        let sent = calls.load(Ordering::SeqCst);
        assert!((4..=5).contains(&sent), "{sent} calls were sent to a host that fails");
        assert_eq!(rejected, 100 - sent);
    })
    .await;
}
