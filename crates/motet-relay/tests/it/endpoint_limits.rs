//! The breaker and the rate limit protect endpoints.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::harness::{FAIL, OK, Receiver, Relay};

#[tokio::test]
async fn breaker_pauses_only_the_failing_endpoint_until_it_recovers() {
    let repaired = Arc::new(AtomicBool::new(false));
    let works = Arc::clone(&repaired);
    let receiver = Receiver::start(move |_| if works.load(Ordering::Relaxed) { OK } else { FAIL }).await;
    let quick = ["--retry-base", "0.001", "--retry-cap", "0.001", "--max-attempts", "1000"];
    let breaker = ["--breaker-failures", "3", "--breaker-open", "3600", "--in-flight-per-endpoint", "1"];
    let relay = Relay::start_with(&[&quick[..], &breaker].concat()).await;
    let client = relay.client();
    client.endpoint_at(&receiver.url(), json!({"event_types": ["user.*"]})).await;
    let event = client.publish("user.created", json!({})).await;
    relay.log_line("the breaker of an endpoint has opened").await;
    // Another endpoint is not affected.
    let other = Receiver::accepting().await;
    client.endpoint_at(&other.url(), json!({"event_types": ["other"]})).await;
    let delivered = client.publish("other", json!({})).await;
    client.delivery_in_state(&delivered, "delivered").await;

    let hits = receiver.hits_at_least(4).await;
    // The breaker stays open for one second, plus or minus 20 %.
    assert!(hits[3].at - hits[2].at >= Duration::from_millis(750), "{:?}", hits[3].at - hits[2].at);
    repaired.store(true, Ordering::Relaxed);
    let delivery = client.delivery_in_state(&event, "delivered").await;
    relay.log_line("the breaker of an endpoint has closed").await;
    // A delivery that the breaker did not admit has no attempt.
    assert_eq!(delivery["attempts"], receiver.hits().len());
}

#[tokio::test]
async fn rate_per_endpoint_spreads_deliveries_over_time() {
    let receiver = Receiver::accepting().await;
    let relay = Relay::start_with(&["--rate-per-endpoint", "5"]).await;
    let client = relay.client();
    client.endpoint(&receiver).await;
    let lines: String = (0..12).map(|n| format!("{{\"type\":\"a\",\"data\":{n}}}\n")).collect();
    client.ndjson(lines).await;
    let hits = receiver.hits_at_least(12).await;
    // A burst of five, then one event each 200 ms: the last one arrives after 1.4 s or later.
    assert!(hits[11].at - hits[0].at >= Duration::from_millis(1_200), "{:?}", hits[11].at - hits[0].at);
}
