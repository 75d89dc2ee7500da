//! Endpoints: creation, changes, deletion.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::harness::{Act, FAIL, OK, Receiver, Relay, eventually};

#[tokio::test]
async fn endpoints_are_created_read_listed_updated_and_deleted() {
    let relay = Relay::start().await;
    let client = relay.client();
    let created = client.post("/v1/endpoints", json!({"url": "http://127.0.0.1:9"})).await;
    assert_eq!(created.status, StatusCode::CREATED);
    let created = created.json();
    let id = created["id"].as_str().unwrap();
    assert_eq!(created["url"], "http://127.0.0.1:9/");
    assert_eq!(created["event_types"], json!([">"]));
    assert_eq!(created["enabled"], true);
    assert!(created["secret"].as_str().unwrap().starts_with("whsec_"));

    let path = format!("/v1/endpoints/{id}");
    assert_eq!(client.get(&path).await.json(), created);
    let listed = client.list("/v1/endpoints").await;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].get("secret"), None, "secrets are not listed");

    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let change = json!({"event_types": ["a.*", "b"], "enabled": false, "secret": secret});
    let updated = client.patch(&path, change).await.json();
    assert_eq!(updated["url"], created["url"], "a field that the change does not name was changed");
    assert_eq!(updated["event_types"], json!(["a.*", "b"]));
    assert_eq!(updated["enabled"], false);
    assert_eq!(updated["secret"], secret);
    assert_eq!(client.get(&path).await.json(), updated);
    let refused = client.patch(&path, json!({"url": "http://10.0.0.1/"})).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(client.get(&path).await.json(), updated);

    client.patch(&path, json!({"event_types": ["a"], "enabled": true})).await;
    let goes_to = async || {
        client.post("/v1/events", json!({"type": "a", "data": 1})).await.json()["deliveries"].clone()
    };
    assert_eq!(goes_to().await, 1);
    assert_eq!(client.delete(&path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(goes_to().await, 0, "a deleted endpoint gets a new delivery");
    assert_eq!(client.get(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(client.patch(&path, json!({})).await.status, StatusCode::NOT_FOUND);
    assert_eq!(client.delete(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(client.list("/v1/endpoints").await, Vec::<Value>::new());
}

#[tokio::test]
async fn disabled_endpoint_gets_no_new_events_and_keeps_pending_ones() {
    let receiver = Receiver::start(|hit| if hit.nth == 1 { FAIL } else { OK }).await;
    let relay = Relay::start_with(&["--retry-base", "600", "--retry-cap", "600"]).await;
    let client = relay.client();
    let endpoint = client.endpoint(&receiver).await;
    let path = format!("/v1/endpoints/{endpoint}");
    let pending = client.publish("before", json!({})).await;
    eventually("the first attempt to be recorded", || async {
        (client.delivery_of(&pending).await["attempts"] == 1).then_some(())
    })
    .await;
    client.patch(&path, json!({"enabled": false})).await;
    let answer = client.post("/v1/events", json!({"type": "during", "data": 1})).await;
    assert_eq!(answer.json()["deliveries"], 0);
    // Due at once, but kept: the endpoint is disabled.
    let delivery = client.delivery_of(&pending).await;
    let resend = format!("/v1/deliveries/{}/resend", delivery["id"].as_str().unwrap());
    assert_eq!(client.post(&resend, json!({})).await.status, StatusCode::ACCEPTED);
    let other = Receiver::accepting().await;
    client.endpoint_at(&other.url(), json!({"event_types": ["other"]})).await;
    client.publish("other", json!({})).await;
    other.hits_at_least(1).await;
    assert_eq!(receiver.hits().len(), 1);

    client.patch(&path, json!({"enabled": true})).await;
    client.delivery_in_state(&pending, "delivered").await;
    assert_eq!(receiver.hits().len(), 2);
}

#[tokio::test]
async fn pending_deliveries_follow_a_new_url() {
    let broken = Receiver::start(|_| FAIL).await;
    let repaired = Receiver::accepting().await;
    let relay = Relay::start().await;
    let client = relay.client();
    let endpoint = client.endpoint(&broken).await;
    let event = client.publish("user.created", json!({})).await;
    broken.hits_at_least(1).await;
    client.patch(&format!("/v1/endpoints/{endpoint}"), json!({"url": repaired.url()})).await;
    client.delivery_in_state(&event, "delivered").await;
    assert_eq!(repaired.hits_at_least(1).await[0].id(), event);
}

#[tokio::test]
async fn new_url_reenables_a_failing_endpoint_with_its_deliveries() {
    let broken = Receiver::start(|_| FAIL).await;
    let repaired = Receiver::accepting().await;
    // Failed deliveries are not due again within the test, and one failure disables the endpoint.
    let slow = ["--retry-base", "36000", "--retry-cap", "36000", "--max-attempts", "30"];
    let held = ["--disable-after", "0.001", "--probe-every", "36000", "--breaker-failures", "1000"];
    let relay = Relay::start_with(&[&slow[..], &held].concat()).await;
    let client = relay.client();
    let path = format!("/v1/endpoints/{}", client.endpoint(&broken).await);
    // More deliveries than one step makes due.
    let lines: String = (0..300).map(|n| format!("{{\"type\":\"a\",\"data\":{n}}}\n")).collect();
    assert_eq!(client.ndjson(lines).await.0, StatusCode::ACCEPTED);
    eventually("relay to disable the endpoint", || async {
        (client.get(&path).await.json()["disabled_because"] == "failing").then_some(())
    })
    .await;
    let patched = client.patch(&path, json!({"url": repaired.url()})).await;
    assert_eq!(patched.json()["disabled_because"], Value::Null, "{}", patched.text());
    repaired.hits_at_least(300).await;
}

#[tokio::test]
async fn deleted_endpoint_leaves_dead_letters_that_cannot_be_resent() {
    let receiver = Receiver::start(|_| Act::Hang).await;
    let relay = Relay::start_with(&["--headers-timeout", "3000", "--total-timeout", "3000"]).await;
    let client = relay.client();
    let endpoint = client.endpoint(&receiver).await;
    let lines: String = (0..600).map(|n| format!("{{\"type\":\"a\",\"data\":{n}}}\n")).collect();
    assert_eq!(client.ndjson(lines).await.0, StatusCode::ACCEPTED);
    // Hanging requests hold all slots: the deletion must not need one.
    receiver.hits_at_least(16).await;
    client.delete(&format!("/v1/endpoints/{endpoint}")).await;
    let letters = eventually("all deliveries to be dead letters", || async {
        let letters = client.list("/v1/dead-letters").await;
        (letters.len() == 600).then_some(letters)
    })
    .await;
    assert!(letters.iter().all(|letter| letter["dead_reason"] == "the endpoint was deleted"));
    // They can be read, but not resent.
    let path = format!("/v1/deliveries/{}/resend", letters[0]["id"].as_str().unwrap());
    assert_eq!(client.post(&path, json!({})).await.status, StatusCode::CONFLICT);
    let redriven = client.post("/v1/dead-letters/redrive", json!({})).await.json();
    assert_eq!(redriven, json!({"redriven": 0, "more": false}));
}

#[tokio::test]
async fn deletion_cut_off_by_a_crash_is_completed_at_start() {
    let receiver = Receiver::start(|_| FAIL).await;
    let slow = ["--retry-base", "600", "--retry-cap", "600"];
    let relay = Relay::start_with(&slow).await;
    let home = Arc::clone(relay.client().home());
    relay.client().endpoint(&receiver).await;
    let event = relay.client().publish("user.created", json!({})).await;
    receiver.hits_at_least(1).await;
    relay.stop().await;
    // As if relay had died before the deliveries became dead letters.
    let deleted = home.sql("UPDATE endpoints SET deleted_at = 1, enabled = 0");
    assert_eq!(deleted, 1);
    let relay = Relay::start_in(&home, &slow).await;
    let dead = relay.client().delivery_in_state(&event, "dead").await;
    assert_eq!(dead["dead_reason"], "the endpoint was deleted");
}

#[tokio::test]
async fn success_after_the_endpoint_is_deleted_counts_as_delivered() {
    let release = Arc::new(Notify::new());
    let receiver = Receiver::held(&release, OK).await;
    let relay = Relay::start().await;
    let client = relay.client();
    let endpoint = client.endpoint(&receiver).await;
    let event = client.publish("user.created", json!({})).await;
    receiver.hits_at_least(1).await;
    client.delete(&format!("/v1/endpoints/{endpoint}")).await;
    client.delivery_in_state(&event, "dead").await;
    release.notify_one();
    let delivered = client.delivery_in_state(&event, "delivered").await;
    assert_eq!(delivered["dead_reason"], Value::Null);
}
