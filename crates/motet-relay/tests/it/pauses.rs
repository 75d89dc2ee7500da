//! Pauses: events wait, and are delivered when an operator resumes.

use http::StatusCode;
use serde_json::json;

use crate::harness::{Client, Receiver, Relay};

async fn post(client: &Client, path: &str) {
    let answer = client.post(path, json!({})).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{path}: {}", answer.text());
}

#[tokio::test]
async fn events_of_a_paused_endpoint_wait_across_a_restart() {
    let receiver = Receiver::accepting().await;
    let other = Receiver::accepting().await;
    let relay = Relay::start().await;
    let client = relay.client();
    let home = client.home().clone();
    let path = format!("/v1/endpoints/{}", client.endpoint(&receiver).await);
    client.endpoint(&other).await;
    post(client, &format!("{path}/pause")).await;
    let endpoint = client.get(&path).await.json();
    assert_eq!((&endpoint["paused"], &endpoint["enabled"]), (&json!(true), &json!(true)));
    let event = client.post("/v1/events", json!({"type": "a", "data": 1})).await;
    assert_eq!(event.json()["deliveries"], 2, "{}", event.text());
    let event = event.json()["id"].as_str().unwrap().to_owned();
    other.hits_at_least(1).await;
    relay.kill().await;

    let relay = Relay::start_in(&home, &[]).await;
    let client = relay.client();
    client.publish("a", json!(2)).await;
    other.hits_at_least(2).await;
    assert_eq!(receiver.hits().len(), 0);
    post(client, &format!("{path}/resume")).await;
    let hits = receiver.hits_at_least(2).await;
    assert!(hits.iter().any(|hit| hit.id() == event));
}

#[tokio::test]
async fn pause_of_relay_holds_all_endpoints() {
    let receivers = [Receiver::accepting().await, Receiver::accepting().await];
    let relay = Relay::start().await;
    let client = relay.client();
    let home = client.home().clone();
    for receiver in &receivers {
        client.endpoint(receiver).await;
    }
    post(client, "/v1/pause").await;
    let event = client.publish("a", json!(1)).await;
    relay.kill().await;
    let relay = Relay::start_in(&home, &[]).await;
    let client = relay.client();
    let deliveries = client.list(&format!("/v1/deliveries?event_id={event}&state=pending")).await;
    assert_eq!(deliveries.len(), 2);
    assert!(deliveries.iter().all(|delivery| delivery["attempts"] == 0));
    post(client, "/v1/resume").await;
    for receiver in &receivers {
        receiver.hits_at_least(1).await;
    }
}

#[tokio::test]
async fn pause_of_an_unknown_endpoint_is_not_found() {
    let relay = Relay::start().await;
    let client = relay.client();
    for action in ["pause", "resume"] {
        let answer = client.post(&format!("/v1/endpoints/ep_1/{action}"), json!({})).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
    }
}
