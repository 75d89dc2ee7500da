//! `/api/v1`: every error is JSON in one of the two forms that the published clients parse.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Answer, Relay};

/// Returns `code` and `detail`, and checks the form.
fn error(answer: &Answer) -> (String, String) {
    assert_eq!(answer.headers["content-type"], "application/json", "{}", answer.text());
    let body = answer.json();
    let text = |name: &str| body[name].as_str().unwrap_or_else(|| panic!("{name}: {body}")).to_owned();
    assert_eq!(body.as_object().unwrap().len(), 2, "{body}");
    (text("code"), text("detail"))
}

/// Returns the place of the invalid field, and checks the form of a 422.
pub(crate) fn invalid_field(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.text());
    assert_eq!(answer.headers["content-type"], "application/json");
    let body = answer.json();
    let [only] = body["detail"].as_array().unwrap().as_slice() else { panic!("{body}") };
    assert!(only["msg"].is_string() && only["type"].is_string(), "{body}");
    only["loc"].as_array().unwrap().iter().map(|part| part.as_str().unwrap().to_owned()).collect()
}

/// Method, path, headers and body of a request, and the status and the code of its error.
type Case<'a> = (Method, &'a str, Vec<(&'a str, &'a str)>, &'a str, u16, &'a str);

#[tokio::test]
async fn errors_of_every_layer_are_json_with_code_and_detail() {
    let relay = Relay::start().await;
    let client = relay.client();
    let key = format!("Bearer {}", client.key);
    let json_type = ("content-type", "application/json");
    let authorized = ("authorization", key.as_str());
    let large = format!("{{\"name\":\"{}\"}}", "x".repeat(300_000));
    let table: [Case<'_>; 12] = [
        (Method::GET, "/api/v1/app", vec![], "", 401, "unauthorized"),
        (Method::GET, "/api/v1/app", vec![("authorization", "Bearer testsk_x.eu")], "", 401, "unauthorized"),
        (Method::GET, "/api/v1/nothing", vec![authorized], "", 404, "not_found"),
        (Method::GET, "/api/v1", vec![authorized], "", 404, "not_found"),
        (Method::GET, "/api/v1/app/none", vec![authorized], "", 404, "not_found"),
        (Method::DELETE, "/api/v1/app", vec![authorized], "", 405, "method_not_allowed"),
        (Method::DELETE, "/api/v1/health", vec![], "", 405, "method_not_allowed"),
        (Method::POST, "/api/v1/app", vec![authorized], "{}", 415, "unsupported_media_type"),
        (Method::POST, "/api/v1/app", vec![authorized, json_type], "{\"name\":", 400, "bad_request"),
        (Method::POST, "/api/v1/app", vec![authorized, json_type], &large, 413, "payload_too_large"),
        (Method::GET, "/api/v1/app/%ff", vec![authorized], "", 400, "bad_request"),
        (Method::GET, "/api/v1/health", vec![("host", "a"), ("host", "b")], "", 400, "bad_request"),
    ];
    for (method, path, headers, body, status, code) in table {
        let answer = client.request(method.clone(), path, &headers, body.to_owned()).await.unwrap();
        assert_eq!(answer.status.as_u16(), status, "{method} {path}: {}", answer.text());
        let (got, detail) = error(&answer);
        assert_eq!(got, code, "{method} {path}: {detail}");
        assert!(!detail.is_empty());
    }
    // The errors of the other API keep their form.
    assert_eq!(client.get("/v1/nothing").await.problem(), "there is nothing at /v1/nothing");
    assert_eq!(client.get("/api/v10").await.problem(), "there is nothing at /api/v10");
}

#[tokio::test]
async fn routes_that_relay_does_not_have_answer_501_in_json() {
    let relay = Relay::start().await;
    let client = relay.client();
    client.post("/api/v1/app", json!({"name": "a", "uid": "a"})).await;
    let posts = [
        "app/a/integration",
        "event-type/import/openapi",
        "operational-webhook/endpoint",
        "ingest/api/v1/source",
        "environment/export",
        "stream/s/sink",
    ];
    for path in posts {
        let answer = client.post(&format!("/api/v1/{path}"), json!({})).await;
        assert_eq!(answer.status, StatusCode::NOT_IMPLEMENTED, "{path}: {}", answer.text());
        assert_eq!(error(&answer).0, "not_implemented");
        // The body was read, so the client may use the connection again.
        assert!(!answer.headers.contains_key("connection"), "{path}");
    }
    let large = client.post("/api/v1/environment/export", json!("x".repeat(100_000))).await;
    assert_eq!(
        (large.status, &large.headers["connection"]),
        (StatusCode::NOT_IMPLEMENTED, &"close".parse().unwrap())
    );
}

#[tokio::test]
async fn refused_fields_are_named_in_the_422() {
    let relay = Relay::start().await;
    let client = relay.client();
    let made = client.post("/api/v1/app", json!({"name": "a", "uid": "a"})).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let own = &made.json()["id"];
    let message = |more: Value| {
        let mut message = json!({"eventType": "a.b", "payload": {}});
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        message
    };
    let table = [
        ("/api/v1/app", json!({}), "name"),
        ("/api/v1/app", json!({"name": 1}), ""),
        ("/api/v1/app", json!({"name": ""}), "name"),
        ("/api/v1/app", json!({"name": "a", "color": 1}), "color"),
        ("/api/v1/app", json!({"name": "a", "uid": own}), "uid"),
        ("/api/v1/app", json!({"name": "a", "uid": "_relay"}), "uid"),
        ("/api/v1/app", json!({"name": "a", "uid": "a b"}), "uid"),
        ("/api/v1/app", json!({"name": "a", "throttleRate": 5}), "throttleRate"),
        ("/api/v1/app", json!({"name": "a", "metadata": {"x": "y".repeat(5_000)}}), "metadata"),
        ("/api/v1/event-type", json!({"name": "a b", "description": ""}), "name"),
        ("/api/v1/event-type", json!({"name": "a", "featureFlags": ["x"]}), "featureFlags"),
        ("/api/v1/app/a/endpoint", json!({"url": "nowhere"}), "url"),
        ("/api/v1/app/a/endpoint", json!({"url": "http://169.254.169.254/"}), "url"),
        ("/api/v1/app/a/endpoint", json!({"url": "https://a.example", "throttleRate": 0}), "throttleRate"),
        (
            "/api/v1/app/a/endpoint",
            json!({"url": "https://a.example", "throttleRate": 1, "rateLimit": 2}),
            "throttleRate",
        ),
        (
            "/api/v1/app/a/endpoint",
            json!({"url": "https://a.example", "filterTypes": ["a b"]}),
            "filterTypes",
        ),
        ("/api/v1/app/a/endpoint", json!({"url": "https://a.example", "secret": "short"}), "secret"),
        ("/api/v1/app/a/endpoint", json!({"url": "https://a.example", "secret": "whsk_AAAA"}), "secret"),
        ("/api/v1/app/a/endpoint", json!({"url": "https://a.example", "headers": {"host": "x"}}), "headers"),
        ("/api/v1/app/a/endpoint", json!({"url": "https://a.example", "channels": ["a b"]}), "channels"),
        ("/api/v1/app/a/msg", json!({"eventType": "a", "payload": 5}), "payload"),
        ("/api/v1/app/a/msg", json!({"eventType": "a"}), "payload"),
        ("/api/v1/app/a/msg", message(json!({"eventType": "a b"})), "eventType"),
        ("/api/v1/app/a/msg", message(json!({"deliverAt": "2030-01-01T00:00:00Z"})), "deliverAt"),
        ("/api/v1/app/a/msg", message(json!({"payloadRetentionPeriod": 0})), "payloadRetentionPeriod"),
        (
            "/api/v1/app/a/msg",
            message(json!({"transformationsParams": {"rawPayload": "x"}})),
            "transformationsParams",
        ),
        ("/api/v1/app/none/msg", message(json!({"application": {"name": "b", "uid": "b"}})), "application"),
        ("/api/v1/auth/app-portal-access/a", json!({"expiry": 5}), "expiry"),
        ("/api/v1/auth/app-portal-access/a", json!({"capabilities": ["Fly"]}), "capabilities"),
    ];
    for (path, body, field) in table {
        let answer = client.post(path, body.clone()).await;
        let expected = if field.is_empty() { vec!["body"] } else { vec!["body", field] };
        assert_eq!(invalid_field(&answer), expected, "{path} {body}: {}", answer.text());
    }
    client.post("/api/v1/app/a/endpoint", json!({"url": "https://a.example", "uid": "e"})).await;
    for (query, field) in [
        ("app?limit=0", "limit"),
        ("app?limit=251", "limit"),
        ("app?iterator=ep_1", "iterator"),
        ("app?order=up", "order"),
        ("app?color=red", "color"),
        ("app/a/msg?with_content=maybe", "with_content"),
        ("app/a/msg?before=yesterday", "before"),
        ("app/a/endpoint/e/msg?status=7", "status"),
        ("app/a/msg?iterator=-evt_1", "iterator"),
    ] {
        let answer = client.get(&format!("/api/v1/{query}")).await;
        assert_eq!(invalid_field(&answer), ["query", field], "{query}: {}", answer.text());
    }
}
