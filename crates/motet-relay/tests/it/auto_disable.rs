//! Endpoints that relay disables because the receiver is gone or all attempts fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::harness::{Act, Client, FAIL, OK, Receiver, Relay, eventually};

async fn disabled(client: &Client, path: &str, reason: &str) {
    eventually("the endpoint to be disabled", || async {
        let endpoint = client.get(path).await.json();
        (endpoint["disabled_because"] == reason && endpoint["enabled"] == false).then_some(())
    })
    .await;
}

#[tokio::test]
async fn endpoint_that_answers_410_is_not_called_until_enabled_again() {
    let receiver = Receiver::start(|hit| if hit.nth == 1 { Act::Answer(StatusCode::GONE) } else { OK }).await;
    let relay = Relay::start().await;
    let client = relay.client();
    let path = format!("/v1/endpoints/{}", client.endpoint(&receiver).await);
    let pending = client.publish("before", json!({})).await;
    disabled(client, &path, "gone").await;
    relay.log_line("an endpoint was disabled").await;
    let answer = client.post("/v1/events", json!({"type": "during", "data": 1})).await;
    assert_eq!(answer.json()["deliveries"], 0, "a disabled endpoint gets no new deliveries");
    // The delivery is made due at once, and another endpoint gets its delivery in the same time.
    let delivery = client.delivery_of(&pending).await;
    assert_eq!(delivery["state"], "pending", "the pending delivery stays pending");
    let resend = format!("/v1/deliveries/{}/resend", delivery["id"].as_str().unwrap());
    assert_eq!(client.post(&resend, json!({})).await.status, StatusCode::ACCEPTED);
    let other = Receiver::accepting().await;
    client.endpoint_at(&other.url(), json!({"event_types": ["other"]})).await;
    client.publish("other", json!({})).await;
    other.hits_at_least(1).await;
    assert_eq!(receiver.hits().len(), 1);

    client.patch(&path, json!({"enabled": true})).await;
    client.delivery_in_state(&pending, "delivered").await;
    assert_eq!(client.get(&path).await.json()["disabled_because"], Value::Null);
}

#[tokio::test]
async fn late_410_of_the_old_url_leaves_the_new_one_enabled() {
    let release = Arc::new(Notify::new());
    let old = Receiver::held(&release, Act::Answer(StatusCode::GONE)).await;
    let new = Receiver::accepting().await;
    let relay = Relay::start().await;
    let client = relay.client();
    let path = format!("/v1/endpoints/{}", client.endpoint(&old).await);
    let event = client.publish("before", json!({})).await;
    old.hits_at_least(1).await;
    client.patch(&path, json!({"url": new.url()})).await;
    release.notify_one();
    let delivered = client.delivery_in_state(&event, "delivered").await;
    assert_eq!(delivered["attempt_log"][0]["status"], 410, "the attempt is recorded: {delivered}");
    assert_eq!(new.hits_at_least(1).await[0].id(), event);
    let endpoint = client.get(&path).await.json();
    assert_eq!((&endpoint["enabled"], &endpoint["disabled_because"]), (&json!(true), &Value::Null));
}

/// Fails until it is repaired.
async fn broken() -> (Receiver, Arc<AtomicBool>) {
    let repaired = Arc::new(AtomicBool::new(false));
    let works = Arc::clone(&repaired);
    let receiver = Receiver::start(move |_| if works.load(Ordering::Relaxed) { OK } else { FAIL }).await;
    (receiver, repaired)
}

const QUICK: [&str; 8] =
    ["--retry-base", "0.001", "--retry-cap", "0.001", "--max-attempts", "100000", "--disable-after", "0.001"];

#[tokio::test]
async fn failing_endpoint_is_disabled_and_recovers_through_a_probe() {
    let (receiver, repaired) = broken().await;
    let relay = Relay::start_with(&[&QUICK[..], &["--probe-every", "3600"]].concat()).await;
    let home = Arc::clone(relay.client().home());
    let client = relay.client();
    let path = format!("/v1/endpoints/{}", client.endpoint(&receiver).await);
    let before = client.publish("before", json!({})).await;
    disabled(client, &path, "failing").await;
    assert_eq!(receiver.hits().len(), 20);
    let during = client.publish("during", json!({})).await;
    let other = Receiver::accepting().await;
    client.endpoint_at(&other.url(), json!({"event_types": ["other"]})).await;
    client.publish("other", json!({})).await;
    other.hits_at_least(1).await;
    assert_eq!(receiver.hits().len(), 20, "the next probe is due in an hour");
    relay.stop().await;

    // A stored probe time that is later than the settings allow is limited at the start. All kept deliveries follow
    // the success of the probe.
    repaired.store(true, Ordering::Relaxed);
    let relay = Relay::start_in(&home, &[&QUICK[..], &["--probe-every", "0.05"]].concat()).await;
    for event in [before, during] {
        relay.client().delivery_in_state(&event, "delivered").await;
    }
    let endpoint = relay.client().get(&path).await.json();
    assert_eq!((&endpoint["enabled"], &endpoint["disabled_because"]), (&json!(true), &Value::Null));
    relay.log_line("a failing endpoint has recovered").await;
}

#[tokio::test]
async fn probes_repeat_until_the_endpoint_recovers() {
    let (receiver, repaired) = broken().await;
    let relay = Relay::start_with(&[&QUICK[..], &["--probe-every", "0.05"]].concat()).await;
    let client = relay.client();
    let path = format!("/v1/endpoints/{}", client.endpoint(&receiver).await);
    let events = [client.publish("first", json!({})).await, client.publish("second", json!({})).await];
    disabled(client, &path, "failing").await;
    let so_far = receiver.hits().len();
    receiver.hits_at_least(so_far + 3).await;
    assert_eq!(client.get(&path).await.json()["enabled"], false);
    repaired.store(true, Ordering::Relaxed);
    for event in &events {
        client.delivery_in_state(event, "delivered").await;
    }
}
