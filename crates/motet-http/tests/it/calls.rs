//! Requests as they arrive, and answers as they are read.

use axum::Json;
use axum::Router;
use axum::extract::RawQuery;
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode, Uri};
use motet::middleware::{Chain, Next};
use motet_http::{ApiClient, Error, Request, RequestBuilder, Response, Sampled, TraceContext};
use serde::{Deserialize, Serialize};

use crate::harness::{builder, client, scripted, serve, test};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct User {
    id: u32,
    name: String,
}

#[tokio::test]
async fn json_request_is_sent_and_json_answer_is_parsed() {
    test(async |n| {
        let echo = post(async |headers: HeaderMap, Json(user): Json<User>| {
            assert_eq!(headers["accept"], "application/json");
            Json(User { id: user.id + 1, ..user })
        });
        let api = client(n, &serve(n, Router::new().route("/v1/users", echo)).await);
        let user = User { id: 1, name: "Ada".to_owned() };
        let back: User = api.post("v1/users").json(&user).fetch_json().await.unwrap();
        assert_eq!(back, User { id: 2, ..user });
    })
    .await;
}

#[tokio::test]
async fn path_query_headers_and_bearer_token_are_sent_as_set() {
    test(async |n| {
        let echo = get(async |uri: Uri, RawQuery(query): RawQuery, headers: HeaderMap| {
            let header = |name| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("-").to_owned();
            [
                uri.path().to_owned(),
                query.unwrap(),
                header("x-client"),
                header("x-call"),
                header("authorization"),
            ]
            .join(" ")
        });
        let base = serve(n, Router::new().route("/v1/{*path}", echo)).await + "/v1";
        let api = builder(n, &base).header("x-client", "a").header("x-call", "b").build().unwrap();
        let call = api.get("/a b").query([("q", "x & y"), ("p", "ä")]).header("x-call", "c").bearer("t0ken");
        let said = call.fetch_bytes().await.unwrap();
        assert_eq!(said, "/v1/a%20b q=x+%26+y&p=%C3%A4 a c Bearer t0ken");
    })
    .await;
}

/// Whatever way its headers come together: copied, joined, or seen by a middleware.
#[tokio::test]
async fn each_header_is_sent_once_and_overrides_replace_it() {
    type Answer = Result<Response, Error>;
    test(async |n| {
        let (base, _) = scripted(n, async |mut connection| {
            while let Some(head) = connection.request().await {
                connection.answer("200 OK", &serde_json::to_string(&head).unwrap()).await;
            }
        })
        .await;
        let host = base.strip_prefix("http://").unwrap();
        let look = async |request: Request, next: Next<Request, Answer>| {
            assert_eq!(request.headers()["x-client"], "a");
            next.run(request).await
        };
        let plain = || builder(n, &base).header("x-client", "a");
        let chained = || plain().middleware(Chain::new().with(look));
        for accept in [None, Some("text/html")] {
            for builder in [plain(), chained()] {
                let builder = accept.into_iter().fold(builder, |b, accept| b.header("accept", accept));
                let api = builder.build().unwrap();
                let lines = async |call: RequestBuilder<'_>, name: &str| -> Vec<String> {
                    let head: String = call.fetch_json().await.unwrap();
                    let prefix = format!("{name}: ");
                    head.lines().filter_map(|line| Some(line.strip_prefix(&prefix)?.to_owned())).collect()
                };
                let json = accept.unwrap_or("application/json");
                for own in [false, true] {
                    let get = |api| {
                        let call = ApiClient::get(api, "/a");
                        if own { call.header("x-own", "o") } else { call }
                    };
                    assert_eq!(lines(get(&api), "host").await, [host]);
                    assert_eq!(lines(get(&api), "x-client").await, ["a"]);
                    assert_eq!(lines(get(&api), "accept").await, [json]);
                    assert_eq!(lines(get(&api).header("accept", "x/y"), "accept").await, ["x/y"]);
                    assert_eq!(lines(get(&api).header("host", "h"), "host").await, ["h"]);
                    assert_eq!(lines(get(&api), "user-agent").await.len(), 1);
                }
                assert_eq!(lines(api.get("/").query([("q", "1")]), "host").await, [host]);
            }
        }
        let api = plain().header("host", "virtual.example").build().unwrap();
        let head: String = api.get("/").fetch_json().await.unwrap();
        assert_eq!(head.matches("host: virtual.example\r\n").count(), 1, "{head}");
        assert_eq!(head.matches("host: ").count(), 1, "{head}");
    })
    .await;
}

#[tokio::test]
async fn call_sends_a_traceparent_of_the_same_trace_in_a_new_span() {
    test(async |n| {
        let echo = get(async |headers: HeaderMap| headers["traceparent"].to_str().unwrap().to_owned());
        let api = client(n, &serve(n, Router::new().route("/", echo)).await);
        let context = TraceContext::begin(Sampled::Yes);
        let call = api.get("/").trace(&context).send().await.unwrap();
        let sent: TraceContext = call.text().await.unwrap().parse().unwrap();
        assert_eq!((sent.trace_id(), sent.is_sampled()), (context.trace_id(), true));
        assert_ne!(sent.span_id(), context.span_id());
    })
    .await;
}

#[tokio::test]
async fn send_returns_an_error_status_as_an_answer() {
    test(async |n| {
        let teapot = get(async || (StatusCode::IM_A_TEAPOT, "short and stout"));
        let api = client(n, &serve(n, Router::new().route("/", teapot)).await);
        let answer = api.get("/").send().await.unwrap();
        assert_eq!((answer.status(), answer.attempts()), (StatusCode::IM_A_TEAPOT, 1));
        assert_eq!(answer.text().await.unwrap(), "short and stout");
    })
    .await;
}

#[tokio::test]
async fn answer_to_a_head_request_has_an_empty_body() {
    test(async |n| {
        let api = client(n, &serve(n, Router::new().route("/", get(async || "hello"))).await);
        let answer = api.head("/").send().await.unwrap();
        assert_eq!(answer.headers()["content-length"], "5");
        assert_eq!(answer.text().await.unwrap(), "");
    })
    .await;
}

#[tokio::test]
async fn sequential_calls_share_a_connection() {
    test(async |n| {
        let (base, connections) = scripted(n, async |mut connection| {
            while connection.request().await.is_some() {
                connection.answer("200 OK", "hello").await;
            }
        })
        .await;
        let api = client(n, &base);
        for _ in 0..10 {
            assert_eq!(api.get("/").fetch_bytes().await.unwrap(), "hello");
        }
        assert_eq!(connections.load(std::sync::atomic::Ordering::SeqCst), 1);
    })
    .await;
}
