//! A full disk: events are refused with 503, nothing acknowledged is lost, and relay continues once there is space.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Client, FAIL, Home, LOOPBACK, OK, Receiver, Relay, SmallDisk, eventually};

/// Publishes until relay refuses an event because the disk is full. Returns the acknowledged ids.
async fn fill(client: &Client) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for n in 0..100_000 {
        let event = json!({"type": "filling", "data": {"n": n, "filler": "x".repeat(4_000)}});
        let answer = client.post("/v1/events", event).await;
        match answer.status {
            StatusCode::ACCEPTED => acknowledged.push(answer.json()["id"].as_str().unwrap().to_owned()),
            StatusCode::SERVICE_UNAVAILABLE => {
                assert!(answer.problem().contains("nothing was stored"), "{}", answer.problem());
                assert_eq!(answer.headers["retry-after"], "5");
                return acknowledged;
            }
            other => panic!("{other}: {}", answer.text()),
        }
    }
    panic!("the store never became full");
}

async fn stored(client: &Client) -> Vec<String> {
    let mut ids: Vec<_> = client
        .list("/v1/events")
        .await
        .iter()
        .map(|event| event["id"].as_str().unwrap().to_owned())
        .collect();
    ids.reverse();
    ids
}

#[tokio::test]
async fn full_disk_refuses_events_until_space_is_free() {
    let home = Home::new();
    let Some(disk) = SmallDisk::mount(&home.data(), "4m") else {
        println!("cannot mount a file system here; the next test injects the error instead");
        return;
    };
    home.write_key_file();
    let receiver = Receiver::accepting().await;
    let relay = Relay::start_in(&home, &[]).await;
    relay.client().endpoint(&receiver).await;
    let acknowledged = fill(relay.client()).await;
    assert!(acknowledged.len() > 10, "{}", acknowledged.len());
    relay.log_line("writes fail; new events are refused with 503").await;
    let ready = relay.client().get("/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE, "{}", ready.text());
    assert_eq!(relay.client().get("/healthz").await.status, StatusCode::OK);
    // The stored events can still be read, and they are the acknowledged ones.
    assert_eq!(stored(relay.client()).await, acknowledged);

    disk.grow("64m");
    eventually("relay to be ready again", || async {
        (relay.client().get("/readyz").await.status == StatusCode::OK).then_some(())
    })
    .await;
    relay.log_line("writes succeed again").await;
    let later = relay.client().publish("after", json!({})).await;
    for event in acknowledged.iter().chain([&later]) {
        relay.client().delivery_in_state(event, "delivered").await;
    }
    // An outcome that could not be recorded at first was kept: otherwise its event would have been sent again.
    assert_eq!(receiver.hits().len(), acknowledged.len() + 1);
    relay.stop().await;
}

#[tokio::test]
async fn relay_started_on_a_full_disk_loses_no_event() {
    let home = Home::new();
    let Some(disk) = SmallDisk::mount(&home.data(), "4m") else {
        println!("cannot mount a file system here; the next test starts at the size limit instead");
        return;
    };
    home.write_key_file();
    let receiver = Receiver::accepting().await;
    let relay = Relay::start_in(&home, &[]).await;
    relay.client().endpoint(&receiver).await;
    let acknowledged = fill(relay.client()).await;
    relay.kill().await;
    // No byte is free.
    let filler = std::fs::File::create(home.data().join("filler")).unwrap();
    while std::io::Write::write_all(&mut &filler, &[0; 4_096]).is_ok() {}

    let relay = Relay::start_in(&home, &[]).await;
    assert_eq!(stored(relay.client()).await, acknowledged);
    let refused = relay.client().post("/v1/events", json!({"type": "a", "data": 1})).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.text());
    disk.grow("64m");
    eventually("relay to be ready again", || async {
        (relay.client().get("/readyz").await.status == StatusCode::OK).then_some(())
    })
    .await;
    relay.client().publish("after", json!({})).await;
    for event in &acknowledged {
        relay.client().delivery_in_state(event, "delivered").await;
    }
    relay.stop().await;
}

#[tokio::test]
async fn store_at_its_size_limit_refuses_events_and_keeps_stored_ones() {
    let receiver = Receiver::accepting().await;
    let home = Home::new();
    let limit = (1 << 20).to_string();
    let relay = Relay::start_in(&home, &["--max-store-bytes", &limit]).await;
    relay.client().endpoint(&receiver).await;
    let acknowledged = fill(relay.client()).await;
    assert!(acknowledged.len() > 10, "{}", acknowledged.len());
    relay.log_line("writes fail; new events are refused with 503").await;
    let ready = relay.client().get("/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE, "ready, and refusing: {}", ready.text());
    assert_eq!(stored(relay.client()).await, acknowledged);
    relay.kill().await;

    let unlimited: &[&str] = &LOOPBACK;
    let relay = Relay::start_unshared(&Arc::clone(&home), unlimited).await;
    for event in &acknowledged {
        relay.client().delivery_in_state(event, "delivered").await;
    }
    assert_eq!(relay.client().list("/v1/dead-letters").await, Vec::<Value>::new());
}

#[tokio::test]
async fn store_at_its_size_limit_still_delivers_and_takes_changes() {
    // Every delivery has two outcomes, and the first of them comes late.
    let receiver = Receiver::start(|hit| if hit.nth == 1 { FAIL } else { OK }).await;
    let limit = (1 << 20).to_string();
    let options = ["--max-store-bytes", &limit, "--breaker-failures", "1000000", "--retry-base", "1"];
    let relay = Relay::start_with(&options).await;
    let client = relay.client();
    let path = format!("/v1/endpoints/{}", client.endpoint(&receiver).await);
    let acknowledged = fill(client).await;
    // Outcomes may have left space for a small event.
    let refused = client.post("/v1/events", json!({"type": "a", "data": "x".repeat(200_000)})).await;
    assert!(refused.problem().contains("--max-store-bytes"), "{}", refused.problem());
    for event in &acknowledged {
        client.delivery_in_state(event, "delivered").await;
    }
    for (path, body) in [
        ("/v1/endpoints", json!({"url": "http://127.0.0.1:9/"})),
        ("/v1/keys", json!({"scopes": ["read"]})),
        ("/api/v1/app", json!({"name": "a"})),
        ("/api/v1/auth/app-portal-access/default", json!({})),
        ("/api/v1/event-type", json!({"name": "a", "description": ""})),
    ] {
        let refused = client.post(path, body).await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{path}: {}", refused.text());
    }
    assert_eq!(client.put("/v1/tenants/a", json!({})).await.status, StatusCode::SERVICE_UNAVAILABLE);
    // Changes and deletions are stored beyond the limit.
    assert_eq!(client.patch(&path, json!({"enabled": false})).await.status, StatusCode::OK);
    assert_eq!(client.delete(&path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(client.get("/readyz").await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn reserve_file_frees_space_for_outcomes_on_a_full_disk() {
    let home = Home::new();
    let Some(disk) = SmallDisk::mount(&home.data(), "8m") else {
        println!("cannot mount a file system here");
        return;
    };
    home.write_key_file();
    let healthy = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&healthy);
    let receiver = Receiver::start(move |_| if switch.load(Ordering::Relaxed) { OK } else { FAIL }).await;
    let options = ["--breaker-failures", "1000000", "--retry-base", "30000", "--retry-cap", "30000"];
    let relay = Relay::start_in(&home, &options).await;
    let client = relay.client();
    let path = format!("/v1/endpoints/{}", client.endpoint(&receiver).await);
    let pending = client.publish("first", json!({})).await;
    receiver.hits_at_least(1).await;
    // From now on nothing is sent: new events match no endpoint.
    client.patch(&path, json!({"enabled": false})).await;
    let reserve = home.data().join("relay.reserve");
    assert!(reserve.exists());
    fill(client).await;
    eventually("the reserve to be deleted", || async { (!reserve.exists()).then_some(()) }).await;
    healthy.store(true, Ordering::Relaxed);
    // Both commits need space and find it in the deleted reserve.
    client.patch(&path, json!({"enabled": true})).await;
    let delivery = client.delivery_of(&pending).await["id"].as_str().unwrap().to_owned();
    client.post(&format!("/v1/deliveries/{delivery}/resend"), json!({})).await;
    client.delivery_in_state(&pending, "delivered").await;
    let refused = client.post("/v1/events", json!({"type": "a", "data": 1})).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "an event used the space of the reserve");
    disk.grow("64m");
    eventually("relay to be ready again", || async {
        (client.get("/readyz").await.status == StatusCode::OK).then_some(())
    })
    .await;
    assert!(reserve.exists());
    client.publish("after", json!({})).await;
}
