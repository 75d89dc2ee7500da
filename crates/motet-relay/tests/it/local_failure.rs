//! Failures of relay itself are not charged to receivers.

use std::collections::HashSet;
use std::time::Duration;

use http::StatusCode;
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::{Value, json};

use crate::harness::{Act, OK, Receiver, Relay, eventually};

/// Limits the open files of a running relay. Returns the previous limit.
fn limit_files(relay: &Relay, files: Option<u64>) -> Option<u64> {
    let pid = Pid::from_raw(relay.pid().cast_signed());
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    prlimit(pid, Resource::Nofile, Rlimit { current: files, maximum }).unwrap().current
}

#[tokio::test]
async fn missing_file_descriptors_do_not_count_against_receivers() {
    let (receiver, warm) = (Receiver::accepting().await, Receiver::accepting().await);
    let relay = Relay::start_with(&["--max-attempts", "2", "--breaker-failures", "1"]).await;
    let client = relay.client();
    let endpoint = client.endpoint_at(&receiver.url(), json!({"event_types": ["user.*"]})).await;
    // Opens the store's readers, which are opened on demand.
    client.endpoint_at(&warm.url(), json!({"event_types": ["first"]})).await;
    let first = client.publish("first", json!({})).await;
    client.delivery_in_state(&first, "delivered").await;
    client.get("/v1/deliveries").await;
    client.get("/readyz").await;
    // Below the number of any new descriptor. The API still works over the open connection of the test.
    let before = limit_files(&relay, Some(3));
    let event = client.publish("user.created", json!({})).await;
    let attempt = eventually("an attempt to fail", || async {
        let delivery = client.delivery_of(&event).await;
        assert_eq!((&delivery["state"], &delivery["attempts"]), (&json!("pending"), &json!(0)));
        delivery["attempt_log"].as_array().unwrap().first().cloned()
    })
    .await;
    assert_eq!(attempt["class"], "relay", "{attempt}");
    assert!(attempt["error"].as_str().unwrap().contains("os error 24"), "{attempt}");
    eventually("readiness to report it", || async {
        let answer = client.get("/readyz").await;
        (answer.status == StatusCode::SERVICE_UNAVAILABLE)
            .then(|| assert!(answer.problem().contains("os error 24")))
    })
    .await;
    // The text may name a host of a tenant.
    let open = client.request(http::Method::GET, "/readyz", &[], "").await.unwrap();
    assert_eq!(open.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(open.problem().contains("the log has the reason"), "{}", open.problem());
    assert!(!open.text().contains("os error") && !open.text().contains("127.0.0.1"), "{}", open.text());
    assert!(relay.log_line("deliveries cannot be attempted").await.contains("os error 24"));
    limit_files(&relay, before);
    let delivery = client.delivery_in_state(&event, "delivered").await;
    assert_eq!(delivery["attempts"], 1);
    assert_eq!(
        client.get(&format!("/v1/endpoints/{endpoint}")).await.json()["disabled_because"],
        Value::Null
    );
    assert!(!relay.log().contains("breaker of an endpoint has opened"), "a breaker opened:\n{}", relay.log());
    eventually("relay to be ready", || async {
        (client.get("/readyz").await.status == StatusCode::OK).then_some(())
    })
    .await;
}

#[tokio::test]
async fn failures_of_relay_end_as_a_dead_letter_after_max_age() {
    let receiver = Receiver::accepting().await;
    let relay = Relay::start_with(&["--max-age", "0.001"]).await;
    let client = relay.client();
    client.endpoint(&receiver).await;
    limit_files(&relay, Some(3));
    let event = client.publish("user.created", json!({})).await;
    let dead = client.delivery_in_state(&event, "dead").await;
    let reason = dead["reason"].as_str().unwrap();
    assert!(reason.starts_with("relay could not attempt it for"), "{reason}");
    assert_eq!(dead["attempts"], 0);
}

#[tokio::test]
async fn idle_connections_are_closed_when_no_descriptor_is_free() {
    let mut receivers = Vec::new();
    let relay = Relay::start().await;
    let client = relay.client();
    for n in 0..8 {
        let receiver = Receiver::accepting().await;
        client.endpoint_at(&receiver.url(), json!({"event_types": [format!("e{n}"), "all"]})).await;
        client.publish(&format!("e{n}"), json!({})).await;
        receiver.hits_at_least(1).await;
        receivers.push(receiver);
    }
    let fresh = Receiver::accepting().await;
    client.endpoint_at(&fresh.url(), json!({"event_types": ["fresh"]})).await;
    // No descriptor number is free below the limit.
    let open = std::fs::read_dir(format!("/proc/{}/fd", relay.pid())).unwrap();
    let open: HashSet<u64> = open.filter_map(|fd| fd.unwrap().file_name().to_str()?.parse().ok()).collect();
    let lowest_free = (0..).find(|number| !open.contains(number));
    limit_files(&relay, lowest_free);
    let event = client.publish("fresh", json!({})).await;
    fresh.hits_at_least(1).await;
    client.publish("all", json!({})).await;
    for receiver in &receivers {
        receiver.hits_at_least(2).await;
    }
    // The attempt did not fail for want of a descriptor, so it did not wait until connections closed by themselves.
    let delivery = client.delivery_in_state(&event, "delivered").await;
    let log = delivery["attempt_log"].as_array().unwrap();
    assert_eq!((log.len(), &log[0]["status"]), (1, &json!(200)), "{delivery}");
}

#[tokio::test]
async fn answer_received_while_relay_was_suspended_is_in_time() {
    let receiver = Receiver::start(|hit| match hit.nth {
        1 => Act::Slow(Duration::from_millis(100), StatusCode::OK),
        _ => OK,
    })
    .await;
    let relay = Relay::start_with(&["--headers-timeout", "1", "--total-timeout", "1"]).await;
    relay.client().endpoint(&receiver).await;
    let event = relay.client().publish("user.created", json!({})).await;
    receiver.hits_at_least(1).await;
    relay.signal(Signal::STOP);
    // This test is about time that passes while relay does not run: the timeout, plus the shortest pause that relay
    // detects.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    relay.signal(Signal::CONT);
    let delivery = relay.client().delivery_in_state(&event, "delivered").await;
    assert_eq!((&delivery["attempts"], receiver.hits().len()), (&json!(1), 1), "{delivery}");
}
