//! The events that a program which embeds relay receives.

use std::sync::atomic::{AtomicBool, Ordering};

use http::StatusCode;
use motet_relay::lifecycle::{
    BreakerOpened, DeadLetter, Delivered, DisabledReason, EnabledReason, EndpointDisabled, EndpointEnabled,
    EndpointProbed,
};
use serde_json::json;

use crate::harness::{Act, Embedded, FAIL, OK, Receiver, eventually, within};

/// A subscriber that panics at the first attempt, and is interested in nothing else.
#[derive(Default)]
struct Panics(AtomicBool);

impl tracing::Subscriber for Panics {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "motet_relay::dispatch::attempt"
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        if *event.metadata().level() == tracing::Level::DEBUG && !self.0.swap(true, Ordering::Relaxed) {
            panic!("a subscriber that panics");
        }
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn attempt_that_panics_is_repeated() {
    // A subscriber for this thread, on which all tasks of the test run. The second subscriber keeps the event enabled:
    // a test on another thread without a subscriber would otherwise disable it for all threads.
    let _another = tracing::Dispatch::new(Panics::default());
    let _panics = tracing::subscriber::set_default(Panics::default());
    let receiver = Receiver::accepting().await;
    let embedded = Embedded::start(|config| {
        config.in_flight.per_endpoint = const { std::num::NonZeroUsize::new(1).unwrap() };
    })
    .await;
    let client = &embedded.client;
    client.endpoint(&receiver).await;
    let event = client.publish("a", json!({})).await;
    let delivery = client.delivery_in_state(&event, "delivered").await;
    let died = &delivery["attempt_log"][0];
    assert_eq!(died["class"], "relay", "{delivery}");
    assert!(died["error"].as_str().unwrap().contains("a subscriber that panics"), "{delivery}");
    assert_eq!(delivery["attempts"], 1);
    let metrics = client.get("/metrics").await.text();
    assert!(metrics.contains("relay_tasks_died_total{task=\"attempt\"} 1"), "{metrics}");
    embedded.stop.notify_one();
    within("relay to end", embedded.relay).await.unwrap().unwrap();
}

#[tokio::test]
async fn delivery_and_dead_letter_are_emitted_once_each() {
    let relay = Embedded::start(|config| config.retry.max_attempts = 1).await;
    let (good, bad) = (Receiver::accepting().await, Receiver::start(|_| FAIL).await);
    let good = relay.client.endpoint_at(&good.url(), json!({"event_types": ["good"]})).await;
    let bad = relay.client.endpoint_at(&bad.url(), json!({"event_types": ["bad"]})).await;
    let delivered = relay.client.publish("good", json!({})).await;
    let dead = relay.client.publish("bad", json!({})).await;

    let emitted: Delivered = relay.wait_for_event("a delivery", |_| true).await;
    assert_eq!((&emitted.event, &emitted.endpoint), (&delivered, &good));
    assert_eq!(relay.client.delivery_of(&delivered).await["id"], emitted.delivery.as_str());
    let emitted: DeadLetter = relay.wait_for_event("a dead letter", |_| true).await;
    assert_eq!((&emitted.event, &emitted.endpoint), (&dead, &bad));
    assert_eq!(emitted.reason, relay.client.delivery_of(&dead).await["reason"].as_str().unwrap());
    let heard = relay.stop().await;
    let mut names: Vec<_> = heard.lock().unwrap().iter().map(|event| event.name().to_owned()).collect();
    names.sort_unstable();
    assert_eq!(names, ["delivery.dead", "delivery.delivered"]);
}

#[tokio::test]
async fn each_disabling_or_enabling_of_an_endpoint_is_emitted_once() {
    let relay =
        Embedded::start(|config| config.endpoint_limits.breaker_failures = 1.try_into().unwrap()).await;
    let receiver = Receiver::start(|hit| if hit.nth == 1 { Act::Answer(StatusCode::GONE) } else { OK }).await;
    let endpoint = relay.client.endpoint(&receiver).await;
    let path = format!("/v1/endpoints/{endpoint}");
    relay.client.publish("a", json!({})).await;
    let of_it = |emitted: &str| assert_eq!(emitted, endpoint);
    let emitted: EndpointDisabled = relay.wait_for_event("it to be gone", |_| true).await;
    of_it(&emitted.endpoint);
    assert_eq!(emitted.reason, DisabledReason::Gone);
    relay.client.patch(&path, json!({"enabled": true})).await;
    let emitted: EndpointEnabled = relay.wait_for_event("it to be enabled", |_| true).await;
    of_it(&emitted.endpoint);
    assert_eq!(emitted.reason, EnabledReason::Requested);
    relay.client.patch(&path, json!({"enabled": false})).await;
    relay.client.patch(&path, json!({"enabled": false, "event_types": ["b"]})).await;
    relay
        .wait_for_event("it to be disabled", |emitted: &EndpointDisabled| {
            emitted.reason == DisabledReason::Requested
        })
        .await;
    // A 410 is not counted as a failure by the breaker, so the breaker stays closed.
    let heard = relay.stop().await;
    let names: Vec<_> = heard.lock().unwrap().iter().map(|event| event.name().to_owned()).collect();
    let count = |of: &str| names.iter().filter(|name| *name == of).count();
    let (disabled, enabled) = (count("endpoint.disabled"), count("endpoint.enabled"));
    assert_eq!((disabled, enabled), (2, 1), "an event was posted without a change: {names:?}");
    assert!(!names.iter().any(|name| name.starts_with("breaker.")), "{names:?}");
}

#[tokio::test]
async fn breaker_changes_and_probes_are_emitted() {
    let relay = Embedded::start(|config| {
        config.retry.base = std::time::Duration::from_millis(1);
        config.retry.cap = std::time::Duration::from_millis(1);
        config.retry.max_attempts = 1_000;
        config.endpoint_limits.breaker_failures = 3.try_into().unwrap();
        config.endpoint_limits.breaker_open = std::time::Duration::from_millis(1);
        config.auto_disable.failures = 4;
        config.auto_disable.after = std::time::Duration::from_millis(1);
        config.auto_disable.probe_every = std::time::Duration::from_millis(10);
    })
    .await;
    let receiver = Receiver::start(|hit| if hit.nth <= 8 { FAIL } else { OK }).await;
    let endpoint = relay.client.endpoint(&receiver).await;
    let event = relay.client.publish("a", json!({})).await;
    relay.client.delivery_in_state(&event, "delivered").await;
    let emitted: EndpointEnabled = relay.wait_for_event("it to work again", |_| true).await;
    assert_eq!((emitted.endpoint, emitted.reason), (endpoint.clone(), EnabledReason::Recovered));
    let emitted: EndpointProbed =
        relay.wait_for_event("a probe", |emitted: &EndpointProbed| !emitted.succeeded).await;
    assert_eq!(emitted.endpoint, endpoint);
    relay.wait_for_event("a probe that succeeded", |emitted: &EndpointProbed| emitted.succeeded).await;
    let emitted: BreakerOpened = relay.wait_for_event("its breaker to open", |_| true).await;
    assert_eq!(emitted.endpoint, endpoint);
    eventually("its breaker to close", || async { (relay.count("breaker.closed") > 0).then_some(()) }).await;
    assert!(relay.count("breaker.half_opened") > 0);
    assert_eq!(relay.count("delivery.failed"), 8);
    assert_eq!(relay.count("endpoint.disabled"), 1);
    relay.stop().await;
}

#[tokio::test]
async fn dead_letter_of_a_deleted_endpoint_is_emitted() {
    let relay = Embedded::start(|_| {}).await;
    let receiver = Receiver::accepting().await;
    let endpoint = relay.client.endpoint(&receiver).await;
    relay.client.patch(&format!("/v1/endpoints/{endpoint}"), json!({"enabled": false})).await;
    let answer = relay.client.post("/v1/events", json!({"type": "a", "data": 1})).await;
    assert_eq!(answer.json()["deliveries"], 0, "a disabled endpoint gets no new deliveries");
    relay.client.patch(&format!("/v1/endpoints/{endpoint}"), json!({"enabled": true})).await;
    let hanging = Receiver::start(|_| Act::Hang).await;
    relay.client.patch(&format!("/v1/endpoints/{endpoint}"), json!({"url": hanging.url()})).await;
    let event = relay.client.publish("a", json!({})).await;
    hanging.hits_at_least(1).await;
    relay.client.delete(&format!("/v1/endpoints/{endpoint}")).await;
    let emitted: DeadLetter = relay.wait_for_event("a dead letter", |_| true).await;
    assert_eq!((emitted.event, emitted.endpoint), (event, endpoint));
    assert_eq!(emitted.reason, "the endpoint was deleted");
}
