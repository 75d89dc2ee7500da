//! Listing and resending of events and deliveries.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::harness::{FAIL, Hit, OK, Receiver, Relay, eventually};

#[tokio::test]
async fn events_are_listed_newest_first_without_skips_or_repeats() {
    let relay = Relay::start().await;
    let client = relay.client();
    let mut published = Vec::new();
    for n in 0..7 {
        published.push(client.publish("a.b", json!(n)).await);
    }
    published.reverse();
    let mut seen = Vec::new();
    let mut cursor = String::new();
    let mut sizes = Vec::new();
    loop {
        let page = client.get(&format!("/v1/events?limit=3{cursor}")).await.json();
        let items = page["items"].as_array().unwrap();
        sizes.push(items.len());
        seen.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        // An event that is published between two pages is newer than the following pages.
        client.publish("a.b", json!("later")).await;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, published);
    assert_eq!(sizes, [3, 3, 1]);
    let event = client.get(&format!("/v1/events/{}", published[0])).await.json();
    assert_eq!((&event["type"], &event["data"]), (&json!("a.b"), &json!(6)));
}

#[tokio::test]
async fn deliveries_are_found_by_event_endpoint_and_state() {
    let good = Receiver::accepting().await;
    let bad = Receiver::start(|_| FAIL).await;
    let relay = Relay::start_with(&["--max-attempts", "1"]).await;
    let client = relay.client();
    let [good_id, bad_id] = [client.endpoint(&good).await, client.endpoint(&bad).await];
    let [first, _second] = [client.publish("a", json!(1)).await, client.publish("a", json!(2)).await];
    eventually("all to be settled", || async {
        client.list("/v1/deliveries?state=pending").await.is_empty().then_some(())
    })
    .await;
    for (query, count) in [
        (String::new(), 4),
        (format!("?event_id={first}"), 2),
        (format!("?endpoint_id={good_id}"), 2),
        (format!("?event_id={first}&endpoint_id={bad_id}"), 1),
        ("?state=delivered".to_owned(), 2),
        ("?state=dead".to_owned(), 2),
        (format!("?state=dead&endpoint_id={good_id}"), 0),
        (format!("?state=dead&endpoint_id={bad_id}"), 2),
        (format!("?state=delivered&event_id={first}&endpoint_id={good_id}"), 1),
    ] {
        assert_eq!(client.list(&format!("/v1/deliveries{query}")).await.len(), count, "{query}");
    }
}

#[tokio::test]
async fn resend_gives_max_attempts_more_under_the_same_event_id() {
    let healthy = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&healthy);
    let receiver = Receiver::start(move |_| if switch.load(Ordering::Relaxed) { OK } else { FAIL }).await;
    let relay = Relay::start_with(&["--max-attempts", "2", "--retry-base", "0.01"]).await;
    let client = relay.client();
    client.endpoint(&receiver).await;
    let event = client.publish("a", json!(1)).await;
    let dead = client.delivery_in_state(&event, "dead").await;
    let resend = format!("/v1/deliveries/{}/resend", dead["id"].as_str().unwrap());
    // The receiver still fails: two more attempts, and the delivery is dead again.
    assert_eq!(client.post(&resend, json!({})).await.status, StatusCode::ACCEPTED);
    receiver.hits_at_least(4).await;
    assert_eq!(client.delivery_in_state(&event, "dead").await["attempts"], 4);
    healthy.store(true, Ordering::Relaxed);
    client.post(&resend, json!({})).await;
    let delivered = client.delivery_in_state(&event, "delivered").await;
    assert_eq!((&delivered["attempts"], &delivered["reason"]), (&json!(5), &Value::Null));
    // A delivered delivery can be resent as well, for a receiver that has lost it.
    client.post(&resend, json!({})).await;
    let hits = receiver.hits_at_least(6).await;
    assert!(hits.iter().all(|hit| hit.id() == event));
}

#[tokio::test]
async fn resend_during_the_last_attempt_survives_its_failure() {
    let release = Arc::new(Notify::new());
    let held = Arc::clone(&release);
    let receiver = Receiver::start_async(move |hit| {
        let (held, first) = (Arc::clone(&held), hit.nth == 1);
        async move {
            if first {
                held.notified().await;
                FAIL
            } else {
                OK
            }
        }
    })
    .await;
    let relay = Relay::start_with(&["--max-attempts", "1"]).await;
    let client = relay.client();
    client.endpoint(&receiver).await;
    let event = client.publish("a", json!(1)).await;
    receiver.hits_at_least(1).await;
    let id = client.delivery_of(&event).await["id"].as_str().unwrap().to_owned();
    assert_eq!(
        client.post(&format!("/v1/deliveries/{id}/resend"), json!({})).await.status,
        StatusCode::ACCEPTED
    );
    release.notify_one();
    let delivered = client.delivery_in_state(&event, "delivered").await;
    assert_eq!(delivered["attempts"], 2);
}

#[tokio::test]
async fn resend_during_an_attempt_is_satisfied_by_its_success() {
    let release = Arc::new(Notify::new());
    let receiver = Receiver::held(&release, OK).await;
    let relay = Relay::start().await;
    let client = relay.client();
    client.endpoint(&receiver).await;
    let event = client.publish("a", json!(1)).await;
    receiver.hits_at_least(1).await;
    let id = client.delivery_of(&event).await["id"].as_str().unwrap().to_owned();
    client.post(&format!("/v1/deliveries/{id}/resend"), json!({})).await;
    release.notify_one();
    assert_eq!(client.delivery_in_state(&event, "delivered").await["attempts"], 1);
    // After another turn there is nothing left to send.
    release.notify_one();
    let next = client.publish("a", json!(2)).await;
    client.delivery_in_state(&next, "delivered").await;
    assert_eq!(receiver.hits().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_resends_leave_no_delivery_pending() {
    let receiver = Receiver::start(|_| FAIL).await;
    let relay = Relay::start_with(&["--max-attempts", "1"]).await;
    let client = relay.client();
    client.endpoint(&receiver).await;
    let event = client.publish("a", json!(1)).await;
    let id = client.delivery_in_state(&event, "dead").await["id"].as_str().unwrap().to_owned();
    for _ in 0..30 {
        let mut resends = JoinSet::new();
        for _ in 0..8 {
            let (client, path) = (client.clone(), format!("/v1/deliveries/{id}/resend"));
            resends.spawn(async move {
                for _ in 0..4 {
                    assert_eq!(client.post(&path, json!({})).await.status, StatusCode::ACCEPTED);
                }
            });
        }
        resends.join_all().await;
        // A forgotten delivery would stay pending and due until another delivery wakes its endpoint.
        client.delivery_in_state(&event, "dead").await;
    }
}

#[tokio::test]
async fn dead_letters_of_an_endpoint_are_redriven_in_steps() {
    let healthy = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&healthy);
    let receiver = Receiver::start(move |_| if switch.load(Ordering::Relaxed) { OK } else { FAIL }).await;
    let other = Receiver::start(|_| FAIL).await;
    let relay = Relay::start_with(&["--max-attempts", "1", "--breaker-failures", "1000000"]).await;
    let client = relay.client();
    let endpoint = client.endpoint(&receiver).await;
    client.endpoint(&other).await;
    let lines: String = (0..300).map(|n| format!("{{\"type\":\"a\",\"data\":{n}}}\n")).collect();
    client.ndjson(lines).await;
    eventually("all deliveries to be dead", || async {
        (client.list("/v1/dead-letters").await.len() == 600).then_some(())
    })
    .await;
    healthy.store(true, Ordering::Relaxed);
    let redrive =
        async || client.post("/v1/dead-letters/redrive", json!({"endpoint_id": endpoint})).await.json();
    assert_eq!(redrive().await, json!({"redriven": 256, "more": true}));
    assert_eq!(redrive().await, json!({"redriven": 44, "more": false}));
    assert_eq!(redrive().await, json!({"redriven": 0, "more": false}));
    let hits = receiver.hits_at_least(600).await;
    let mut ids: Vec<_> = hits.iter().map(Hit::id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 300, "a redriven delivery keeps its id");
    eventually("the redriven deliveries to be delivered", || async {
        (client.list("/v1/dead-letters").await.len() == 300).then_some(())
    })
    .await;
}

/// An endpoint of which the URL is a route of relay, and the header a key: its deliveries would make further ones.
#[tokio::test]
async fn delivery_cannot_call_the_api_of_relay() {
    let relay = Relay::start_with(&["--max-attempts", "1"]).await;
    let client = relay.client();
    let url = format!("http://{}/v1/events", client.address);
    for (tenant, header) in [("default", "webhook-id"), ("svix", "svix-id")] {
        let policy = if tenant == "svix" { json!({"header_prefix": "svix"}) } else { json!({}) };
        client.put(&format!("/v1/tenants/{tenant}"), json!({"policy": policy})).await;
        let headers = json!({"authorization": format!("Bearer {}", client.key)});
        let endpoints = format!("/v1/tenants/{tenant}/endpoints");
        let made = client.post(&endpoints, json!({"url": url, "headers": headers})).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
        let event = json!({"type": "a", "data": 1});
        let made = client.post(&format!("/v1/tenants/{tenant}/events"), event).await.json();
        let listed = format!("/v1/deliveries?tenant={tenant}&event_id={}", made["id"].as_str().unwrap());
        let id = eventually("the delivery to be dead", || async {
            let items = client.list(&listed).await;
            (items[0]["state"] == "dead").then(|| items[0]["id"].as_str().unwrap().to_owned())
        })
        .await;
        let delivery = client.get(&format!("/v1/tenants/{tenant}/deliveries/{id}")).await.json();
        let attempt = &delivery["attempt_log"][0];
        assert_eq!(attempt["status"], 403, "{attempt}");
        assert!(attempt["response"].as_str().unwrap().contains(header), "{attempt}");
    }
}
