//! Each failure has its kind of error.

use std::error::Error as _;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::StatusCode;
use motet::resilience::{CircuitBreaker, CircuitBreakers};
use motet::task::{Nursery, Scope, scope};
use motet_http::{ApiClient, ErrorKind, TimeLimit};
use tokio::net::TcpListener;

use crate::harness::{builder, client, scripted, serve, test};

/// Long enough for loopback, short enough to wait for.
const SHORT: Duration = Duration::from_millis(80);

#[tokio::test]
async fn status_error_holds_an_excerpt_and_hides_the_query() {
    test(async |n| {
        let said = "x".repeat(5_000);
        let routes = Router::new().route("/", get(async move || (StatusCode::NOT_FOUND, said)));
        let api = client(n, &serve(n, routes).await);
        let error = api.get("/?token=secret").fetch().await.unwrap_err();
        let ErrorKind::Status(status) = error.kind() else { panic!("{error:?}") };
        assert_eq!((status.code, status.excerpt.len()), (StatusCode::NOT_FOUND, 1024));
        assert_eq!(error.attempts(), 1);
        let text = format!("{error} {error:?}");
        assert!(text.contains("404 Not Found") && !text.contains("secret"), "{text}");
        assert!(error.source().is_none());
    })
    .await;
}

#[tokio::test]
async fn decode_error_names_the_path_of_the_wrong_value() {
    test(async |n| {
        let routes = Router::new().route("/", get(async || r#"[{"id": 1}, {"id": "two"}]"#));
        let api = client(n, &serve(n, routes).await);
        let error =
            api.get("/").fetch_json::<Vec<std::collections::HashMap<String, u32>>>().await.unwrap_err();
        let ErrorKind::Decode(decode) = error.kind() else { panic!("{error:?}") };
        assert_eq!(decode.path, "[1].id");
        let text = error.to_string();
        let end =
            "does not decode at `[1].id`: invalid type: string \"two\", expected u32 at line 1 column 24";
        assert!(text.ends_with(end), "{text}");
    })
    .await;
}

#[tokio::test]
async fn json_answer_with_data_after_it_does_not_decode() {
    test(async |n| {
        let api = client(n, &serve(n, Router::new().route("/", get(async || "[] []"))).await);
        let error = api.get("/").fetch_json::<Vec<u32>>().await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Decode(_)), "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn refused_connection_is_a_connect_error_after_retries() {
    test(async |n| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        // Nothing was sent, so that also a POST is tried again.
        let error = client(n, &base).post("/").body("x").send().await.unwrap_err();
        assert!(error.is_connect() && matches!(error.kind(), ErrorKind::Connect(_)), "{error:?}");
        assert_eq!(error.attempts(), 3);
        let address = base.strip_prefix("http://").unwrap();
        let begin = format!("POST {base}/: cannot connect: no connection to {address}: ");
        let text = error.to_string();
        assert!(text.starts_with(&begin) && text.matches("refused").count() == 1, "{text}");
        let reason = error.reason().to_string();
        assert!(reason.starts_with("cannot connect: ") && text.contains(&reason), "{reason}");
        assert!(text.ends_with(" (attempt 3)") && error.source().is_none(), "{text}");
    })
    .await;
}

#[tokio::test]
async fn address_refused_by_the_filter_is_not_dialled() {
    test(async |n| {
        let (base, connections) = scripted(n, async |mut connection| connection.closed().await).await;
        let outside = |address: IpAddr| if address.is_loopback() { Err("it is here") } else { Ok(()) };
        let api = builder(n, &base).connect_only_to(outside).build().unwrap();
        let error = api.get("/").once().send().await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.ends_with("cannot connect: connecting to 127.0.0.1 is not allowed: it is here"),
            "{text}"
        );
        assert_eq!(connections.load(std::sync::atomic::Ordering::SeqCst), 0);
    })
    .await;
}

async fn limit_of(n: &Scope, base: &str) -> TimeLimit {
    let api = builder(n, base).without_retry().head_timeout(SHORT).read_timeout(SHORT).build().unwrap();
    let error = api.get("/").fetch().await.unwrap_err();
    let ErrorKind::TimedOut(limit) = error.kind() else { panic!("{error:?}") };
    assert!(error.is_timeout());
    *limit
}

#[tokio::test]
async fn silent_server_causes_a_head_timeout() {
    test(async |n| {
        let (base, _) = scripted(n, async |mut connection| {
            connection.request().await;
            // It is closed with the call.
            connection.closed().await;
        })
        .await;
        assert_eq!(limit_of(n, &base).await, TimeLimit::Head);
    })
    .await;
}

#[tokio::test]
async fn stalled_body_causes_a_read_timeout() {
    test(async |n| {
        let (base, _) = scripted(n, async |mut connection| {
            connection.request().await;
            connection.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").await;
            connection.closed().await;
        })
        .await;
        assert_eq!(limit_of(n, &base).await, TimeLimit::Read);
    })
    .await;
}

#[tokio::test]
async fn trickling_body_causes_a_total_timeout() {
    test(async |n| {
        let (base, _) = scripted(n, async |mut connection| {
            connection.request().await;
            connection.write("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").await;
            for _ in 0..1_000_000 {
                connection.write("x").await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        let api = builder(n, &base).timeout(SHORT).build().unwrap();
        let error = api.get("/").fetch().await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TimedOut(TimeLimit::Total)), "{error:?}");
        // And so does one that is read as it comes.
        let mut answer = api.get("/").send().await.unwrap();
        let error = loop {
            match answer.chunk().await {
                Ok(Some(_)) => {}
                other => break other.unwrap_err(),
            }
        };
        assert!(matches!(error.kind(), ErrorKind::TimedOut(TimeLimit::Total)), "{error:?}");
        assert_eq!(answer.chunk().await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn reset_or_answer_that_is_not_http_is_a_transport_error() {
    test(async |n| {
        let (base, _) = scripted(n, async |mut connection| {
            connection.request().await;
            if connection.number == 0 {
                connection.reset();
            } else {
                connection.write("SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
            }
        })
        .await;
        for _ in 0..2 {
            let error = builder(n, &base).without_retry().build().unwrap().get("/").send().await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Transport(_)), "{error:?}");
            assert!(error.to_string().contains("the response is incomplete: "), "{error}");
        }
    })
    .await;
}

#[tokio::test]
async fn invalid_request_fails_before_it_is_sent() {
    test(async |n| {
        let (base, connections) = scripted(n, async |mut connection| connection.closed().await).await;
        let api = client(n, &(base + "/v1"));
        for call in [
            api.get("../admin"),
            api.get("/").header("x y", "z"),
            api.get("/").header("x", "line\r\nbreak"),
            api.post("/").json(&std::collections::HashMap::from([((1, 2), 3)])),
        ] {
            let error = call.send().await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Request(_)), "{error:?}");
            assert_eq!(error.attempts(), 0);
        }
        assert_eq!(connections.load(std::sync::atomic::Ordering::SeqCst), 0);
    })
    .await;
}

#[tokio::test]
async fn invalid_client_settings_are_refused() {
    test(async |n| {
        let new = || ApiClient::builder(n);
        for builder in [
            new().base_url("users"),
            new().base_url("http://me:secret@a.example"),
            new().header("x y", "z"),
            new().max_in_flight(0, 0),
        ] {
            let error = builder.build().unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with("invalid client settings: ") && !text.contains("secret"), "{text}");
            assert!(error.source().is_none());
        }
    })
    .await;
}

#[tokio::test]
async fn client_fails_calls_after_its_scope_has_ended() {
    test(async |n| {
        let base = serve(n, Router::new().route("/", get(async || "hello"))).await;
        let left = scope(async |inner: &Nursery| {
            let api = client(inner, &base);
            assert_eq!(api.get("/").fetch_bytes().await.unwrap(), "hello");
            Ok(api)
        });
        let api = left.await.unwrap();
        let error = api.get("/").send().await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Closed), "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn rejected_call_names_the_policy_and_the_time_to_try_again() {
    test(async |n| {
        let (base, _) = scripted(n, async |mut connection| connection.closed().await).await;
        let breaker = || CircuitBreaker::builder().consecutive_failures(1).build().unwrap();
        let breakers = CircuitBreakers::new(NonZeroUsize::MIN, move |_| breaker());
        let api = builder(n, &base).breakers(breakers).head_timeout(SHORT).without_retry().build().unwrap();
        assert!(api.get("/").fetch().await.unwrap_err().is_timeout());
        let error = api.get("/").fetch().await.unwrap_err();
        assert!(error.is_rejected());
        let text = error.to_string();
        let (begin, after) = text.split_once("; try again in ").unwrap();
        assert_eq!(begin, format!("GET {base}/: rejected by the circuit breaker"));
        // Half a minute, more or less a fifth.
        let seconds: f64 = after.strip_suffix('s').unwrap().parse().unwrap();
        assert!((20.0..=36.0).contains(&seconds), "{text}");
    })
    .await;
}
