//! Retries: which requests, when, and until when.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::any;
use http::StatusCode;
use motet::resilience::{CircuitBreaker, CircuitBreakers, Pipeline, PolicyKind};
use motet::task::Scope;
use motet_http::{ApiClientBuilder, Body, ByStatus, ErrorKind};
use tokio::time::Instant;

use crate::harness::{Connection, builder, client, quick, scripted, serve, test};

/// A server that fails so often and then is well; and how often it was called.
async fn flaky(n: &Scope, failures: usize, failure: StatusCode) -> (String, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let handler = any(async move |body: String| {
        if count.fetch_add(1, Ordering::SeqCst) < failures {
            (failure, "not now".to_owned())
        } else {
            (StatusCode::OK, format!("hello {body}"))
        }
    });
    (serve(n, Router::new().route("/", handler)).await, calls)
}

#[tokio::test]
async fn transient_statuses_are_retried_and_others_are_not() {
    test(async |n| {
        for (failure, tried_again) in [(503, true), (429, true), (500, true), (501, false), (404, false)] {
            let failure = StatusCode::from_u16(failure).unwrap();
            let (base, calls) = flaky(n, 2, failure).await;
            let api = builder(n, &base).without_breakers().build().unwrap();
            let done = api.put("/").body("again").fetch().await;
            assert_eq!(calls.load(Ordering::SeqCst), if tried_again { 3 } else { 1 }, "{failure}");
            match done {
                Ok(answer) => {
                    assert_eq!(answer.attempts(), 3);
                    assert_eq!(answer.text().await.unwrap(), "hello again", "the body is sent each time");
                }
                Err(error) => assert_eq!(error.status(), Some(failure)),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn only_repeatable_requests_are_retried() {
    test(async |n| {
        let (base, calls) = flaky(n, 2, StatusCode::SERVICE_UNAVAILABLE).await;
        let api = client(n, &base);
        let error = api.post("/").body("x").fetch().await.unwrap_err();
        assert_eq!((error.status(), error.attempts()), (Some(StatusCode::SERVICE_UNAVAILABLE), 1));
        let stream = Body::wrap(http_body_util::Full::from("x"));
        assert!(api.put("/").body(stream).fetch().await.is_err(), "a stream is sent once");
        assert_eq!(calls.load(Ordering::SeqCst), 2);

        let (base, calls) = flaky(n, 2, StatusCode::SERVICE_UNAVAILABLE).await;
        let api = client(n, &base);
        assert!(api.get("/").once().fetch().await.is_err());
        let done = api.post("/").body("x").idempotency_key("k-1").fetch_bytes().await.unwrap();
        assert_eq!((done, calls.load(Ordering::SeqCst)), ("hello x".into(), 3));
    })
    .await;
}

#[tokio::test]
async fn last_answer_is_returned_when_retries_are_exhausted() {
    test(async |n| {
        let (base, calls) = flaky(n, 9, StatusCode::BAD_GATEWAY).await;
        let api = builder(n, &base).without_breakers().build().unwrap();
        let answer = api.get("/").send().await.unwrap();
        assert_eq!((answer.status(), answer.attempts()), (StatusCode::BAD_GATEWAY, 3));
        assert_eq!(answer.text().await.unwrap(), "not now", "its body is still there");
        let error = api.get("/").fetch().await.unwrap_err();
        let ErrorKind::Status(status) = error.kind() else { panic!("{error:?}") };
        assert_eq!((status.excerpt.as_str(), error.attempts()), ("not now", 3));
        assert!(error.to_string().ends_with("answered 502 Bad Gateway: \"not now\" (attempt 3)"), "{error}");
        assert_eq!(calls.load(Ordering::SeqCst), 6);
    })
    .await;
}

/// Limits that virtual time, which jumps to the next timer whenever a socket is waited for, does not reach.
fn unhurried(builder: ApiClientBuilder) -> ApiClientBuilder {
    const LONG: Duration = Duration::from_secs(1_000_000);
    builder.timeout(LONG).connect_timeout(LONG).head_timeout(LONG).read_timeout(LONG)
}

async fn asks_for(n: &Scope, header: &'static str) -> (String, Arc<AtomicUsize>) {
    let script = move |mut connection: Connection| async move {
        while connection.request().await.is_some() {
            connection.answer(&format!("503 Service Unavailable\r\n{header}"), "").await;
            if connection.request().await.is_some() {
                connection.answer("200 OK", "hello").await;
            }
        }
    };
    scripted(n, script).await
}

#[tokio::test(start_paused = true)]
async fn retry_waits_for_the_seconds_or_date_of_retry_after() {
    test(async |n| {
        for header in [
            "retry-after: 7",
            "date: Fri, 31 Dec 1999 23:59:52 GMT\r\nretry-after: Fri, 31 Dec 1999 23:59:59 GMT",
        ] {
            let (base, connections) = asks_for(n, header).await;
            let api = unhurried(builder(n, &base)).max_retry_after(Duration::from_secs(7)).build().unwrap();
            let begun = Instant::now();
            assert_eq!(api.get("/").fetch_bytes().await.unwrap(), "hello");
            assert!(begun.elapsed() >= Duration::from_secs(7), "{:?}", begun.elapsed());
            assert_eq!(connections.load(Ordering::SeqCst), 1, "its connection is used again");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn retry_after_beyond_its_limit_or_the_timeout_ends_the_call() {
    test(async |n| {
        let (base, _) = asks_for(n, "retry-after: 3600").await;
        let error = unhurried(builder(n, &base)).build().unwrap().get("/").fetch().await.unwrap_err();
        assert_eq!((error.attempts(), error.retry_after()), (1, Some(Duration::from_secs(3600))));
        assert_eq!(error.status(), Some(StatusCode::SERVICE_UNAVAILABLE));

        // A wait that would end past the time of the call is not begun.
        let (base, _) = asks_for(n, "retry-after: 15").await;
        let api = builder(n, &base).timeout(Duration::from_secs(10)).build().unwrap();
        let error = api.get("/").fetch().await.unwrap_err();
        assert_eq!((error.attempts(), error.status()), (1, Some(StatusCode::SERVICE_UNAVAILABLE)));
    })
    .await;
}

#[tokio::test]
async fn fetch_retries_a_body_that_broke_off() {
    test(async |n| {
        let (base, connections) = scripted(n, async |mut connection| {
            connection.request().await;
            if connection.number == 0 {
                connection.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").await;
                return;
            }
            connection.answer("200 OK", "hellohello").await;
            connection.closed().await;
        })
        .await;
        let api = client(n, &base);
        assert_eq!(api.get("/").fetch_bytes().await.unwrap(), "hellohello");
        assert_eq!(connections.load(Ordering::SeqCst), 2);
    })
    .await;
}

#[tokio::test]
async fn get_is_retried_after_a_connection_reset() {
    test(async |n| {
        let (base, connections) = scripted(n, async |mut connection| {
            connection.request().await;
            if connection.number == 0 {
                return connection.reset();
            }
            connection.answer("200 OK", "hello").await;
            connection.closed().await;
        })
        .await;
        assert_eq!(client(n, &base).get("/").fetch_bytes().await.unwrap(), "hello");
        assert_eq!(connections.load(Ordering::SeqCst), 2);
    })
    .await;
}

#[tokio::test]
async fn breaker_of_a_failing_host_opens_for_that_host_alone() {
    test(async |n| {
        let (down, calls) = flaky(n, 100, StatusCode::INTERNAL_SERVER_ERROR).await;
        let (up, _) = flaky(n, 0, StatusCode::OK).await;
        let breaker = CircuitBreaker::builder().consecutive_failures(4);
        let breakers = CircuitBreakers::with_builder(NonZeroUsize::new(10).unwrap(), breaker).unwrap();
        let api = motet_http::ApiClient::builder(n).retry(quick()).breakers(breakers).build().unwrap();
        assert_eq!(api.get(&down).fetch().await.unwrap_err().attempts(), 3);
        // The breaker opens at the first of three, and the retry goes no further.
        let error = api.get(&down).fetch().await.unwrap_err();
        assert_eq!(calls.load(Ordering::SeqCst), 4);
        assert!(error.is_rejected(), "{error:?}");
        let error = api.get(&down).fetch().await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Rejected(PolicyKind::CircuitBreaker)), "{error:?}");
        assert!(error.retry_after().is_some());
        assert_eq!((error.attempts(), calls.load(Ordering::SeqCst)), (0, 4));
        assert_eq!(api.get(&up).fetch_bytes().await.unwrap(), "hello ");
        assert_eq!(api.breakers().unwrap().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn pipeline_of_the_caller_replaces_the_default() {
    test(async |n| {
        let (base, calls) = flaky(n, 4, StatusCode::SERVICE_UNAVAILABLE).await;
        let five = Pipeline::new().classify(ByStatus).retry(quick().attempts(5).unwrap()).boxed();
        let api = builder(n, &base).without_breakers().build().unwrap();
        let answer = api.get("/").pipeline(five.clone()).fetch().await.unwrap();
        assert_eq!((answer.attempts(), calls.load(Ordering::SeqCst)), (5, 5));

        let (base, _) = flaky(n, 4, StatusCode::SERVICE_UNAVAILABLE).await;
        let api = builder(n, &base).without_breakers().pipeline(five).build().unwrap();
        assert_eq!(api.get("/").fetch().await.unwrap().attempts(), 5);
        let error = api.post("/").pipeline(Pipeline::noop().boxed()).fetch().await;
        assert_eq!(error.unwrap().attempts(), 1);
    })
    .await;
}
