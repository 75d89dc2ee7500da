//! `x-request-id`: accepted or made, in the response, in its problem, and in the log.

use http::{Method, StatusCode};
use serde_json::json;

use crate::harness::{Answer, Relay};

fn id_of(answer: &Answer) -> &str {
    answer.headers["x-request-id"].to_str().unwrap()
}

#[tokio::test]
async fn every_response_has_the_id_of_its_request() {
    let relay = Relay::start().await;
    let client = relay.client();
    let key = format!("Bearer {}", client.key);
    let mut made = Vec::new();
    for (method, path, has_key, status) in [
        (Method::GET, "/v1/events", true, 200),
        (Method::GET, "/v1/events", false, 401),
        (Method::DELETE, "/v1/events", true, 405),
        (Method::GET, "/v1/nothing", true, 404),
        (Method::GET, "/nothing", false, 404),
        (Method::GET, "/healthz", false, 200),
        (Method::GET, "/metrics", false, 200),
        (Method::GET, "/openapi.json", false, 200),
        (Method::GET, "/", false, 401),
        (Method::GET, "/api/v1/app", true, 200),
        (Method::GET, "/api/v1/nothing", true, 404),
        (Method::GET, "/api/v1/stream", true, 501),
    ] {
        let mut headers = vec![("x-request-id", "chosen-1")];
        if has_key {
            headers.push(("authorization", key.as_str()));
        }
        let answer = client.request(method.clone(), path, &headers, "").await.unwrap();
        assert_eq!((answer.status.as_u16(), id_of(&answer)), (status, "chosen-1"), "{path}");
        let is_problem = answer.headers["content-type"] == "application/problem+json";
        if is_problem {
            assert_eq!(answer.json()["request_id"], "chosen-1", "{path}: {}", answer.text());
        }
        let answer = client.request(method, path, &headers[1..], "").await.unwrap();
        assert_eq!(id_of(&answer).len(), 32, "{path}");
        if is_problem {
            assert_eq!(answer.json()["request_id"], id_of(&answer), "{path}: {}", answer.text());
        }
        made.push(id_of(&answer).to_owned());
    }
    made.sort_unstable();
    made.dedup();
    assert_eq!(made.len(), 12, "each request has an id of its own");
}

#[tokio::test]
async fn log_lines_of_a_request_have_its_id() {
    let relay = Relay::start().await;
    let client = relay.client();
    let key = format!("Bearer {}", client.key);
    let headers = [
        ("authorization", key.as_str()),
        ("content-type", "application/json"),
        ("x-request-id", "from-the-test"),
    ];
    let body = json!({"scopes": ["read"]}).to_string();
    let answer = client.request(Method::POST, "/v1/keys", &headers, body).await.unwrap();
    assert_eq!(answer.status, StatusCode::CREATED);
    let log = relay.log_line("an API key was created").await;
    let line = log.lines().find(|line| line.contains("an API key was created")).unwrap();
    assert!(line.contains("id=\"from-the-test\""), "{line}");
    // An id that could forge a line is replaced.
    let forged = [("x-request-id", "a b=c")];
    let answer = client.request(Method::GET, "/healthz", &forged, "").await.unwrap();
    assert_eq!(id_of(&answer).len(), 32);
}
