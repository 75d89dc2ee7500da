//! Endpoints are protected by their breaker and by their rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::harness::{FAIL, OK, Receiver, Relay};

#[tokio::test]
async fn breaker_pauses_a_failing_endpoint_until_it_recovers() {
    let repaired = Arc::new(AtomicBool::new(false));
    let works = Arc::clone(&repaired);
    let receiver = Receiver::start(move |_| if works.load(Ordering::Relaxed) { OK } else { FAIL }).await;
    let quick = ["--retry-base", "0.001", "--retry-cap", "0.001", "--max-attempts", "1000"];
    let breaker = ["--breaker-failures", "3", "--breaker-open", "3600", "--in-flight-per-endpoint", "1"];
    let relay = Relay::start_with(&[&quick[..], &breaker].concat()).await;
    let client = relay.client();
    client.endpoint_at(&receiver.url(), json!({"event_types": ["user.*"]})).await;
    let event = client.publish("user.created", json!({})).await;
    relay.log_line("is left alone for a while").await;
    // A neighbour is none the worse for it.
    let other = Receiver::accepting().await;
    client.endpoint_at(&other.url(), json!({"event_types": ["other"]})).await;
    let delivered = client.publish("other", json!({})).await;
    client.delivery_in_state(&delivered, "delivered").await;

    let hits = receiver.hits_at_least(4).await;
    // It is left alone for a second, a fifth more or less.
    assert!(hits[3].at - hits[2].at >= Duration::from_millis(750), "{:?}", hits[3].at - hits[2].at);
    repaired.store(true, Ordering::Relaxed);
    let delivery = client.delivery_in_state(&event, "delivered").await;
    relay.log_line("that was left alone is back").await;
    // What was not let through was no attempt.
    assert_eq!(delivery["attempts"], receiver.hits().len());
}

#[tokio::test]
async fn rate_per_endpoint_holds() {
    let receiver = Receiver::accepting().await;
    let relay = Relay::start_with(&["--rate-per-endpoint", "5"]).await;
    let client = relay.client();
    client.endpoint(&receiver).await;
    let lines: String = (0..12).map(|n| format!("{{\"type\":\"a\",\"data\":{n}}}\n")).collect();
    client.ndjson(lines).await;
    let hits = receiver.hits_at_least(12).await;
    // A burst of five at once, then one each 200 ms: the last comes 1.4 s after the first, or later.
    assert!(hits[11].at - hits[0].at >= Duration::from_millis(1_200), "{:?}", hits[11].at - hits[0].at);
}
