//! `kill -9` at arbitrary moments while rows are deleted: by retention, and by erasures.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use motet::rng::Rng;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::erasure::found_in;
use crate::harness::{Client, Hit, Home, Receiver, Relay, eventually};

/// `cargo xtask verify kill` uses a higher number.
fn rounds() -> u64 {
    std::env::var("MOTET_TEST_DELETION_KILLS").map_or(6, |rounds| rounds.parse().unwrap())
}

/// The longest time from the last response to the kill, in microseconds.
const LONGEST: u64 = 60_000;

fn read_only(home: &Home) -> Connection {
    Connection::open_with_flags(home.database(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

/// Checks the database, and that no row has lost the row that it belongs to.
fn check(home: &Home) {
    let database = read_only(home);
    let verdict: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    for orphans in [
        "SELECT count(*) FROM deliveries WHERE event_seq NOT IN (SELECT seq FROM events)",
        "SELECT count(*) FROM attempts WHERE delivery_seq NOT IN (SELECT seq FROM deliveries)",
        "SELECT count(*) FROM due WHERE delivery_seq NOT IN (SELECT seq FROM deliveries WHERE state = 0)",
        "SELECT count(*) FROM events WHERE data IS NULL AND seq IN (SELECT event_seq FROM due)",
    ] {
        let left: i64 = database.query_row(orphans, [], |row| row.get(0)).unwrap();
        assert_eq!(left, 0, "{orphans}");
    }
}

/// Publishes an event. Returns its id, or nothing if relay has not responded.
async fn publish(client: &Client, path: &str, event: &Value) -> Option<String> {
    let bearer = format!("Bearer {}", client.key);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let answer = client.request(Method::POST, path, &headers, event.to_string()).await.ok()?;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text());
    Some(answer.json()["id"].as_str().unwrap().to_owned())
}

/// Creates a paused endpoint of the default tenant for the types `held.*`.
async fn paused_endpoint(client: &Client, receiver: &Receiver) -> String {
    let endpoint = client.endpoint_at(&receiver.url(), json!({"event_types": ["held.*"]})).await;
    let paused = client.post(&format!("/v1/endpoints/{endpoint}/pause"), json!(null)).await;
    assert_eq!(paused.status, StatusCode::NO_CONTENT);
    endpoint
}

/// Resumes an endpoint, and checks that the receiver gets these events.
async fn arrive(client: &Client, endpoint: &str, receiver: &Receiver, held: &BTreeSet<String>) {
    let resumed = client.post(&format!("/v1/endpoints/{endpoint}/resume"), json!(null)).await;
    assert_eq!(resumed.status, StatusCode::NO_CONTENT);
    receiver
        .hits_when("every acknowledged event that was held", |hits| {
            held.is_subset(&hits.iter().map(Hit::id).collect())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pending_deliveries_survive_kills_during_retention() {
    let seed = motet::rng::with(Rng::next_u64);
    let mut rng = Rng::seeded(seed);
    println!("seed {seed}");
    let receiver = Receiver::accepting().await;
    let home = Home::new();
    let short = ["--payload-keep", "1s", "--rows-keep", "1s"];
    let mut relay = Relay::start_in(&home, &short).await;
    relay.client().endpoint_at(&receiver.url(), json!({"event_types": ["sent.*"]})).await;
    let endpoint = paused_endpoint(relay.client(), &receiver).await;
    let (mut held, mut sent) = (BTreeSet::new(), 0_u64);
    for round in 0..rounds() {
        let lines = 20 + rng.below(200);
        let body: String =
            (0..lines).map(|n| json!({"type": "sent.now", "data": n}).to_string() + "\n").collect();
        let (status, _) = relay.client().ndjson(body).await;
        assert_eq!(status, StatusCode::ACCEPTED);
        sent += lines;
        let event = json!({"type": "held.back", "data": {"round": round}});
        held.extend(publish(relay.client(), "/v1/events", &event).await);
        // The events of the last rounds are being deleted.
        sleep(Duration::from_micros(rng.below(20 * LONGEST))).await;
        relay.kill().await;
        relay = Relay::start_in(&home, &short).await;
        check(&home);
    }
    println!("{sent} events, {} held", held.len());
    arrive(relay.client(), &endpoint, &receiver, &held).await;
    eventually("all events to be deleted", || async {
        relay.client().list("/v1/events").await.is_empty().then_some(())
    })
    .await;
    relay.stop().await;
    check(&home);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn erasures_are_completed_after_kills() {
    let seed = motet::rng::with(Rng::next_u64);
    let mut rng = Rng::seeded(seed);
    println!("seed {seed}");
    let receiver = Receiver::accepting().await;
    let home = Home::new();
    let mut relay = Relay::start_in(&home, &[]).await;
    let endpoint = paused_endpoint(relay.client(), &receiver).await;
    let mut held = BTreeSet::new();
    for round in 0..rounds() {
        let client = relay.client().clone();
        let event = json!({"type": "held.back", "data": {"round": round}});
        held.extend(publish(&client, "/v1/events", &event).await);
        let tenant = format!("/v1/tenants/t{round}");
        client.put(&tenant, json!({})).await;
        client.post(&format!("{tenant}/endpoints"), json!({"url": receiver.url()})).await;
        let secret = format!("secret-of-round-{round}-");
        for n in 0..rng.below(40) {
            let event = json!({"type": "a.b", "data": format!("{secret}{n}")});
            publish(&client, &format!("{tenant}/events"), &event).await;
        }
        let erasure = match rng.below(3) {
            0 => client.delete(&tenant).await.json()["erasure_id"].clone(),
            1 => client.post(&format!("{tenant}/events/erase"), json!(null)).await.json()["id"].clone(),
            _ => erase_each(&client, &tenant).await,
        };
        sleep(Duration::from_micros(rng.below(LONGEST))).await;
        relay.kill().await;
        relay = Relay::start_in(&home, &[]).await;
        finished(&relay, &home, &erasure, &secret).await;
        check(&home);
    }
    arrive(relay.client(), &endpoint, &receiver, &held).await;
    relay.stop().await;
    check(&home);
}

/// Erases the events of a tenant one by one.
async fn erase_each(client: &Client, tenant: &str) -> Value {
    for event in client.list(&format!("{tenant}/events")).await {
        let path = format!("{tenant}/events/{}/data", event["id"].as_str().unwrap());
        assert_eq!(client.delete(&path).await.status, StatusCode::NO_CONTENT);
    }
    Value::Null
}

/// Waits until an erasure has finished, and checks that no file has the bytes.
async fn finished(relay: &Relay, home: &Arc<Home>, erasure: &Value, secret: &str) {
    if let Some(id) = erasure.as_str() {
        let path = format!("/v1/erasures/{id}");
        eventually("the erasure to finish", || async {
            (relay.client().get(&path).await.json()["state"] == "finished").then_some(())
        })
        .await;
        assert_eq!(found_in(home, &[secret]), [""; 0]);
        return;
    }
    // Single erasures have no state that can be read; the log is emptied at the start if it was not before.
    eventually("the bytes to be gone", || async { found_in(home, &[secret]).is_empty().then_some(()) }).await;
}
