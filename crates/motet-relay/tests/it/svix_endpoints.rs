//! `/api/v1`: endpoints, their secrets, headers and statistics.

use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Client, FAIL, OK, Receiver, Relay, eventually};
use crate::svix_errors::invalid_field;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Creates the application `a`, and an endpoint in it. Returns the endpoint.
pub(crate) async fn endpoint(client: &Client, url: &str, mut more: Value) -> Value {
    client.post("/api/v1/app?get_if_exists=true", json!({"name": "a", "uid": "a"})).await;
    more["url"] = json!(url);
    let made = client.post("/api/v1/app/a/endpoint", more).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
    made.json()
}

#[tokio::test]
async fn endpoint_has_the_fields_of_both_client_generations() {
    let relay = Relay::start().await;
    let client = relay.client();
    let new = json!({
        "uid": "e", "description": "d", "metadata": {"k": "v"}, "filterTypes": ["a-b.c"], "channels": ["ch"],
        "rateLimit": 7, "version": 1, "secret": &SECRET["whsec_".len()..],
    });
    let made = endpoint(client, "https://example.com/hook", new).await;
    let id = made["id"].as_str().unwrap();
    for (name, value) in [
        ("uid", json!("e")),
        ("description", json!("d")),
        ("metadata", json!({"k": "v"})),
        ("filterTypes", json!(["a-b.c"])),
        ("eventTypes", json!(["a-b.c"])),
        ("channels", json!(["ch"])),
        ("rateLimit", json!(7)),
        ("throttleRate", json!(7)),
        ("version", json!(1)),
        ("disabled", json!(false)),
    ] {
        assert_eq!(made[name], value, "{name}");
    }
    for name in [id, "e"] {
        assert_eq!(client.get(&format!("/api/v1/app/a/endpoint/{name}")).await.json(), made);
        let secret = client.get(&format!("/api/v1/app/a/endpoint/{name}/secret")).await.json();
        assert_eq!(secret, json!({"key": SECRET}));
    }
    // Clients of the versions 2.x write the other names; null and an empty list clear.
    let patch =
        json!({"eventTypes": [], "throttleRate": null, "channels": null, "uid": null, "disabled": true});
    let patched = client.patch("/api/v1/app/a/endpoint/e", patch).await;
    assert_eq!(patched.status, StatusCode::OK, "{}", patched.text());
    let patched = patched.json();
    for name in ["filterTypes", "eventTypes", "throttleRate", "rateLimit", "channels", "uid"] {
        assert_eq!(patched[name], Value::Null, "{name}");
    }
    assert_eq!((&patched["disabled"], &patched["description"]), (&json!(true), &json!("d")));

    let path = format!("/api/v1/app/a/endpoint/{id}");
    let put = client.put(&path, json!({"url": "https://example.com/2"})).await;
    assert_eq!((put.status, &put.json()["url"]), (StatusCode::OK, &json!("https://example.com/2")));
    assert_eq!((&put.json()["description"], &put.json()["disabled"]), (&json!(""), &json!(false)));
    assert_eq!(client.get(&format!("{path}/secret")).await.json(), json!({"key": SECRET}));
    let put = client.put("/api/v1/app/a/endpoint/new", json!({"url": "https://example.com/3"})).await;
    assert_eq!((put.status, &put.json()["uid"]), (StatusCode::CREATED, &json!("new")));
    let taken =
        client.post("/api/v1/app/a/endpoint", json!({"url": "https://example.com", "uid": "new"})).await;
    assert_eq!(taken.status, StatusCode::CONFLICT);

    let listed = client.get("/api/v1/app/a/endpoint?limit=1").await.json();
    assert_eq!((&listed["data"][0]["id"], &listed["iterator"]), (&json!(id), &json!(id)));
    assert_eq!((&listed["prevIterator"], &listed["done"]), (&json!(format!("-{id}")), &json!(false)));

    assert_eq!(client.delete(&path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(client.get(&path).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn endpoint_of_another_application_does_not_exist() {
    let relay = Relay::start().await;
    let client = relay.client();
    let made = endpoint(client, "https://example.com/", json!({"uid": "e"})).await;
    client.post("/api/v1/app", json!({"name": "b", "uid": "b"})).await;
    for name in [made["id"].as_str().unwrap(), "e"] {
        for path in ["", "/secret", "/headers", "/stats", "/attempt-stats", "/msg"] {
            let answer = client.get(&format!("/api/v1/app/b/endpoint/{name}{path}")).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{name}{path}");
        }
        let answer = client.get(&format!("/api/v1/app/b/attempt/endpoint/{name}")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert_eq!(
            client.delete(&format!("/api/v1/app/b/endpoint/{name}")).await.status,
            StatusCode::NOT_FOUND
        );
    }
}

#[tokio::test]
async fn values_of_sensitive_headers_are_sent_and_never_shown() {
    let receiver = Receiver::accepting().await;
    let relay = Relay::start().await;
    let client = relay.client();
    endpoint(client, &receiver.url(), json!({"uid": "e", "headers": {"x-one": "1"}})).await;
    let path = "/api/v1/app/a/endpoint/e/headers";
    assert_eq!(client.get(path).await.json(), json!({"headers": {"x-one": "1"}, "sensitive": []}));
    let put = client.put(path, json!({"headers": {"Authorization": "Basic x", "x-two": "2"}})).await;
    assert_eq!(put.status, StatusCode::NO_CONTENT, "{}", put.text());
    let shown = client.get(path).await.json();
    assert_eq!(shown, json!({"headers": {"x-two": "2"}, "sensitive": ["Authorization"]}));
    let patch = json!({"headers": {"x-three": "3", "X-Two": "22"}, "deleteHeaders": ["x-none"]});
    assert_eq!(client.patch(path, patch).await.status, StatusCode::NO_CONTENT);
    let shown = client.get(path).await.json();
    assert_eq!(shown["headers"], json!({"X-Two": "22", "x-three": "3"}));
    client.post("/api/v1/app/a/msg", json!({"eventType": "x", "payload": {}})).await;
    let hits = receiver.hits_at_least(1).await;
    for (name, value) in [("authorization", "Basic x"), ("x-two", "22"), ("x-three", "3")] {
        assert_eq!(hits[0].headers[name], value);
    }
    for (scopes, is_shown) in [(json!(["read"]), false), (json!(["read", "secrets"]), true)] {
        let made = client.post("/v1/keys", json!({"scopes": scopes})).await.json();
        let shown = client.with_key(made["key"].as_str().unwrap().to_owned()).get(path).await.json();
        let expected = if is_shown {
            json!({"headers": {"X-Two": "22", "x-three": "3"}, "sensitive": ["Authorization"]})
        } else {
            json!({"headers": {}, "sensitive": ["Authorization", "X-Two", "x-three"]})
        };
        assert_eq!(shown, expected);
    }
    let many: serde_json::Map<_, _> = (0..31).map(|n| (format!("y-{n}"), json!("1"))).collect();
    let refused = client.patch(path, json!({"headers": many})).await;
    assert_eq!(invalid_field(&refused), ["body", "headers"]);
    client.patch(path, json!({"headers": {}, "deleteHeaders": ["authorization", "X-THREE"]})).await;
    let shown = client.get(path).await.json();
    assert_eq!(shown, json!({"headers": {"X-Two": "22"}, "sensitive": []}));
}

#[tokio::test]
async fn rotated_secret_signs_together_with_the_old_one() {
    let receiver = Receiver::accepting().await;
    let relay = Relay::start().await;
    let client = relay.client();
    endpoint(client, &receiver.url(), json!({"uid": "e"})).await;
    let path = "/api/v1/app/a/endpoint/e/secret";
    let old = client.get(path).await.json();
    let rotated = client.post(&format!("{path}/rotate"), json!({})).await;
    assert_eq!(rotated.status, StatusCode::OK);
    assert_eq!(client.get(path).await.json(), rotated.json());
    assert_ne!(rotated.json(), old);
    let signatures = |nth: usize| {
        let hits = receiver.hits();
        hits[nth].headers["svix-signature"].to_str().unwrap().split(' ').count()
    };
    client.post("/api/v1/app/a/msg", json!({"eventType": "x", "payload": {}})).await;
    receiver.hits_at_least(1).await;
    assert_eq!(signatures(0), 2);
    let own = client.post(&format!("{path}/rotate"), json!({"key": SECRET, "gracePeriodSeconds": 0})).await;
    assert_eq!(own.json(), json!({"key": SECRET}));
    client.post("/api/v1/app/a/msg", json!({"eventType": "x", "payload": {}})).await;
    receiver.hits_at_least(2).await;
    assert_eq!(signatures(1), 1);
    for grace in [604_801, u64::MAX] {
        let refused = client.post(&format!("{path}/rotate"), json!({"gracePeriodSeconds": grace})).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
}

#[tokio::test]
async fn stats_count_messages_and_attempts_of_the_endpoint() {
    let receiver = Receiver::start(|hit| if hit.json()["ok"] == true { OK } else { FAIL }).await;
    let relay = Relay::start_with(&["--max-attempts", "2"]).await;
    let client = relay.client();
    endpoint(client, &receiver.url(), json!({"uid": "e"})).await;
    for ok in [true, true, false] {
        client.post("/api/v1/app/a/msg", json!({"eventType": "x", "payload": {"ok": ok}})).await;
    }
    let path = "/api/v1/app/a/endpoint/e";
    let stats = eventually("all messages to be final", || async {
        let stats = client.get(&format!("{path}/stats")).await.json();
        (stats["fail"] == 1 && stats["success"] == 2).then_some(stats)
    })
    .await;
    assert_eq!(stats, json!({"success": 2, "pending": 0, "sending": 0, "fail": 1, "canceled": 0}));
    let attempts = client.get(&format!("{path}/attempt-stats")).await.json();
    assert_eq!(attempts, json!({"success": 2, "fail": 2, "canceled": 0}));
    client.patch(path, json!({"disabled": true})).await;
    client.post("/api/v1/app/a/msg", json!({"eventType": "x", "payload": {}})).await;
    assert_eq!(client.get(&format!("{path}/stats")).await.json()["canceled"], 1);
    let before = client.get(&format!("{path}/stats?until=2020-01-01T00:00:00Z")).await.json();
    assert_eq!(before["success"], 0);
    let refused = client.get(&format!("{path}/stats?since=2020-01-01T00:00:00Z")).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn repeated_request_with_a_key_creates_and_sends_once() {
    let receiver = Receiver::accepting().await;
    let relay = Relay::start().await;
    let client = relay.client();
    let bearer = format!("Bearer {}", client.key);
    let send = async |key: &str, path: &str, body: Value| {
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
            ("idempotency-key", key),
        ];
        let path = format!("/api/v1/{path}");
        let answer = client.request(http::Method::POST, &path, &headers, body.to_string()).await.unwrap();
        (answer.status, answer.json()["id"].clone())
    };
    let twice = async |path: &str, body: Value| {
        let [first, again] = [send("auto_1", path, body.clone()).await, send("auto_1", path, body).await];
        assert!(first.0.is_success(), "{path}: {first:?}");
        assert_eq!(first, again, "{path}");
        first.1
    };
    let app = twice("app", json!({"name": "a"})).await;
    send("auto_2", "app", json!({"name": "a", "uid": "a"})).await;
    let own = twice("app/a/endpoint", json!({"url": receiver.url()})).await;
    let endpoints = client.get("/api/v1/app/a/endpoint").await.json();
    assert_eq!(endpoints["data"].as_array().unwrap().len(), 1, "{endpoints}");
    let foreign =
        send("auto_1", &format!("app/{}/endpoint", app.as_str().unwrap()), json!({"url": receiver.url()}))
            .await;
    assert!(foreign.0.is_success() && foreign.1 != own, "the key of another application: {foreign:?}");

    let id = twice("app/a/msg", json!({"eventType": "a", "payload": {}})).await;
    let [id, own] = [&id, &own].map(|id| id.as_str().unwrap().to_owned());
    receiver.hits_at_least(1).await;
    twice(&format!("app/a/msg/{id}/endpoint/{own}/resend"), json!({})).await;
    receiver.hits_at_least(2).await;
    eventually("the second attempt to be recorded", || async {
        client.list("/v1/tenants/a/deliveries?state=pending").await.is_empty().then_some(())
    })
    .await;
    let since = json!({"since": "2026-01-01T00:00:00Z"});
    for path in ["recover", "replay-missing", "bulk-replay"] {
        twice(&format!("app/a/endpoint/{own}/{path}"), since.clone()).await;
    }
    let tasks = client.get("/api/v1/background-task").await.json();
    assert_eq!(tasks["data"].as_array().unwrap().len(), 3, "{tasks}");
    // The bulk replay has sent the message a third time.
    let hits = receiver.hits_at_least(3).await;
    assert_eq!(hits.len(), 3);
    let another = send("auto_2", "app/a/endpoint", json!({"url": receiver.url()})).await;
    assert_ne!(another.1, json!(own));
}
