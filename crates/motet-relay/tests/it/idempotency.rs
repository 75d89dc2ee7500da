//! Idempotency keys: an event is stored once, and another event under its key is refused.

use futures_like::join_all;
use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Answer, Client, Receiver, Relay};

/// Runs futures concurrently and returns their outputs in order.
mod futures_like {
    use std::future::Future;

    use tokio::task::JoinSet;

    pub(super) async fn join_all<F>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        for (index, future) in futures.into_iter().enumerate() {
            tasks.spawn(async move { (index, future.await) });
        }
        let mut done = tasks.join_all().await;
        done.sort_by_key(|(index, _)| *index);
        done.into_iter().map(|(_, output)| output).collect()
    }
}

fn event(n: u32, key: &str) -> Value {
    json!({"type": "order.paid", "data": {"n": n}, "idempotency_key": key})
}

async fn publish(client: Client, event: Value) -> Answer {
    client.post("/v1/events", event).await
}

#[tokio::test]
async fn concurrent_equal_events_under_a_key_are_stored_once() {
    let receiver = Receiver::accepting().await;
    let relay = Relay::start().await;
    let client = relay.client();
    client.endpoint(&receiver).await;
    for round in 0..10 {
        let key = format!("round-{round}");
        let answers = join_all((0..32).map(|_| publish(client.clone(), event(round, &key)))).await;
        let ids: Vec<_> = answers.iter().map(|answer| answer.json()["id"].clone()).collect();
        assert!(answers.iter().all(|answer| answer.status == StatusCode::ACCEPTED));
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert!(answers.iter().all(|answer| answer.json()["deliveries"] == 1));
        let replayed = answers.iter().filter(|a| a.headers.get("idempotent-replayed").is_some()).count();
        assert_eq!(replayed, 31);
    }
    assert_eq!(client.list("/v1/events").await.len(), 10);
    assert_eq!(client.list("/v1/deliveries").await.len(), 10);
}

#[tokio::test]
async fn of_concurrent_different_events_under_a_key_one_is_accepted() {
    let relay = Relay::start().await;
    let client = relay.client();
    for round in 0..10 {
        let key = format!("round-{round}");
        let answers = join_all((0..32).map(|n| publish(client.clone(), event(n, &key)))).await;
        let won: Vec<_> = answers.iter().filter(|answer| answer.status == StatusCode::ACCEPTED).collect();
        assert_eq!(won.len(), 1);
        let id = won[0].json()["id"].as_str().unwrap().to_owned();
        for lost in answers.iter().filter(|answer| answer.status != StatusCode::ACCEPTED) {
            assert_eq!(lost.status, StatusCode::CONFLICT);
            assert!(lost.problem().contains(&id), "{}", lost.problem());
        }
    }
    assert_eq!(client.list("/v1/events").await.len(), 10);
}

#[tokio::test]
async fn idempotency_key_survives_a_kill() {
    let relay = Relay::start().await;
    let home = relay.client().home().clone();
    let first = publish(relay.client().clone(), event(1, "once")).await;
    relay.kill().await;
    let relay = Relay::start_in(&home, &[]).await;
    let again = publish(relay.client().clone(), event(1, "once")).await;
    assert_eq!(again.json(), first.json());
    assert_eq!(again.headers["idempotent-replayed"], "true");
    let other = publish(relay.client().clone(), event(2, "once")).await;
    assert_eq!(other.status, StatusCode::CONFLICT);
}

/// Publishes an event with this key in the header.
async fn publish_with_header(client: &Client, key: &str, event: Value) -> Answer {
    let bearer = format!("Bearer {}", client.key);
    let headers =
        [("authorization", bearer.as_str()), ("content-type", "application/json"), ("idempotency-key", key)];
    client.request(http::Method::POST, "/v1/events", &headers, event.to_string()).await.unwrap()
}

#[tokio::test]
async fn idempotency_key_in_header_or_field_covers_type_and_data() {
    let relay = Relay::start().await;
    let client = relay.client();
    let send = async |key: &str, body: Value| publish_with_header(client, key, body).await;
    let plain = json!({"type": "order.paid", "data": {"n": 1}});
    let first = send("k", plain.clone()).await;
    assert_eq!(first.status, StatusCode::ACCEPTED);
    assert_eq!(send("k", plain.clone()).await.json(), first.json());
    assert_eq!(publish(client.clone(), event(1, "k")).await.json(), first.json());
    for (event_type, n) in [("order.made", 1), ("order.paid", 2)] {
        let mut other = json!({"type": event_type, "data": {"n": n}});
        assert_eq!(send("k", other.clone()).await.status, StatusCode::CONFLICT);
        other["idempotency_key"] = json!("k");
        assert_eq!(publish(client.clone(), other).await.status, StatusCode::CONFLICT);
    }
}

#[tokio::test]
async fn idempotency_key_header_must_be_valid_and_equal_the_field() {
    let relay = Relay::start().await;
    let client = relay.client();
    let send = async |key: &str, body: Value| publish_with_header(client, key, body).await;
    let plain = json!({"type": "order.paid", "data": {"n": 1}});
    assert_eq!(send("k", event(1, "k")).await.status, StatusCode::ACCEPTED);
    assert_eq!(send("k", event(1, "other")).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(send("", plain.clone()).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(send(&"k".repeat(256), plain.clone()).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(send(&"k".repeat(255), plain).await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn idempotency_keys_apply_among_the_lines_of_one_ndjson_body() {
    let relay = Relay::start().await;
    let lines = [event(1, "a"), event(1, "a"), event(2, "a"), event(2, "b")];
    let body = lines.map(|line| line.to_string()).join("\n");
    let (status, answers) = relay.client().ndjson(body).await;
    assert_eq!(status, StatusCode::MULTI_STATUS);
    let statuses: Vec<_> = answers.iter().map(|answer| answer["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [202, 202, 409, 202]);
    assert_eq!(answers[0]["id"], answers[1]["id"]);
    assert_eq!(answers[1]["replayed"], true);
    assert_eq!(relay.client().list("/v1/events").await.len(), 2);
}

#[tokio::test]
async fn expired_idempotency_key_can_be_reused_and_is_removed() {
    let relay = Relay::start().await;
    let home = relay.client().home().clone();
    let first = publish(relay.client().clone(), event(1, "k")).await.json();
    relay.stop().await;
    assert_eq!(home.sql("UPDATE idempotency SET expires_at = 1"), 1);
    let relay = Relay::start_in(&home, &[]).await;
    let second = publish(relay.client().clone(), event(2, "k")).await;
    assert_eq!(second.status, StatusCode::ACCEPTED);
    assert_ne!(second.json()["id"], first["id"]);
    assert_eq!(publish(relay.client().clone(), event(2, "k")).await.json(), second.json());
    relay.stop().await;
    // Expired keys are removed when new keys are stored.
    assert_eq!(home.sql("UPDATE idempotency SET expires_at = 1"), 1);
    let relay = Relay::start_in(&home, &[]).await;
    publish(relay.client().clone(), event(3, "another")).await;
    relay.stop().await;
    assert_eq!(home.sql("UPDATE idempotency SET expires_at = 1"), 1, "expired keys were not removed");
}

#[tokio::test]
async fn data_differing_in_spaces_or_field_order_is_the_same_event() {
    let relay = Relay::start().await;
    let client = relay.client();
    let publish = async |data: &str| {
        let body = format!(r#"{{"type":"order.paid","data":{data},"idempotency_key":"written"}}"#);
        let bearer = format!("Bearer {}", client.key);
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        client.request(http::Method::POST, "/v1/events", &headers, body).await.unwrap()
    };
    let first = publish(r#"{"a":1,"b":[1,2]}"#).await;
    for same in [r#"{"b":[1,2],"a":1}"#, r#" { "a" : 1, "b" : [ 1, 2 ] } "#] {
        let again = publish(same).await;
        assert_eq!(again.status, StatusCode::ACCEPTED, "{}", again.text());
        assert_eq!(again.json()["id"], first.json()["id"]);
        assert_eq!(again.headers["idempotent-replayed"], "true");
    }
    for other in [r#"{"a":1,"b":[2,1]}"#, r#"{"a":1.0,"b":[1,2]}"#, r#"{"a":1}"#] {
        assert_eq!(publish(other).await.status, StatusCode::CONFLICT, "{other}");
    }
    // The bytes of the first request are stored.
    let stored = client.get(&format!("/v1/events/{}", first.json()["id"].as_str().unwrap())).await;
    assert!(stored.text().contains(r#"{"a":1,"b":[1,2]}"#), "{}", stored.text());
}
