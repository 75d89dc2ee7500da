//! A database with a lost row or a damaged page: relay continues with the other rows.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::sync::Arc;

use http::StatusCode;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::harness::{Client, Feed, Home, Receiver, Relay, eventually};

/// Failed deliveries are due again after hours on average, and no breaker opens.
const SLOW: [&str; 6] = ["--retry-base", "30000", "--retry-cap", "30000", "--breaker-failures", "1000000"];

/// Creates a stopped store with `events` events, whose deliveries have failed and are pending. Returns the path of the
/// endpoint.
async fn pending(events: usize) -> (Arc<Home>, String) {
    let relay = Relay::start_with(&SLOW).await;
    let client = relay.client();
    let home = Arc::clone(client.home());
    // No receiver listens on this port.
    let path = format!("/v1/endpoints/{}", client.endpoint_at("http://127.0.0.1:9/", json!({})).await);
    let lines: String = (0..events)
        .map(|n| format!("{{\"type\":\"a.b\",\"data\":{{\"n\":{n},\"filler\":\"{}\"}}}}\n", "x".repeat(100)))
        .collect();
    assert_eq!(client.ndjson(lines).await.0, StatusCode::ACCEPTED);
    // With full jitter, a delivery may be due again within a second.
    eventually("every event to be attempted", || async {
        let attempted = home.count("SELECT count(*) FROM deliveries WHERE state = 0 AND attempts > 0");
        (attempted == events).then_some(())
    })
    .await;
    relay.stop().await;
    for table in ["deliveries", "due"] {
        assert_eq!(home.sql(&format!("UPDATE {table} SET due_at = 0")), events);
    }
    (home, path)
}

/// Starts relay on a damaged store, with a receiver at the endpoint of this path.
async fn restart_with_receiver(home: &Arc<Home>, path: &str) -> (Relay, Receiver) {
    let receiver = Receiver::accepting().await;
    let relay = Relay::start_in(home, &SLOW).await;
    relay.client().patch(path, json!({"url": receiver.url()})).await;
    (relay, receiver)
}

async fn first_dead_letter(client: &Client) -> Value {
    eventually("a dead letter", || async { client.list("/v1/dead-letters").await.first().cloned() }).await
}

#[tokio::test]
async fn delivery_without_its_event_becomes_a_dead_letter() {
    let (home, path) = pending(3).await;
    assert_eq!(home.sql("DELETE FROM events WHERE seq = 2"), 1);
    let (relay, _receiver) = restart_with_receiver(&home, &path).await;
    let client = relay.client();
    let letter = first_dead_letter(client).await;
    assert_eq!(letter["reason"], "its event is missing in the database");
    assert_eq!((&letter["event_type"], &letter["error"]), (&Value::Null, &letter["reason"]));
    eventually("the other deliveries", || async {
        (client.list("/v1/deliveries?state=delivered").await.len() == 2).then_some(())
    })
    .await;
    assert_eq!(client.list("/v1/deliveries").await.len(), 3);
    let ready = client.get("/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(ready.problem().contains("damaged"), "{}", ready.problem());
    client.publish("still.taken", json!({})).await;
}

#[tokio::test]
async fn altered_event_is_not_sent() {
    let (home, path) = pending(3).await;
    let altered = "UPDATE events SET data = replace(CAST(data AS TEXT), '\"n\":1', '\"n\":7') WHERE seq = 2";
    // A text in place of a blob would be detected by its type alone.
    assert_eq!(home.sql(&altered.replace("replace", "CAST(replace").replace(" WHERE", " AS BLOB) WHERE")), 1);
    let (relay, receiver) = restart_with_receiver(&home, &path).await;
    let client = relay.client();
    let letter = first_dead_letter(client).await;
    assert!(letter["reason"].as_str().unwrap().contains("checksum"), "{letter}");
    receiver.hits_at_least(2).await;
    assert!(receiver.hits().iter().all(|hit| hit.json()["data"]["n"] != 7));
    let items = client.list("/v1/events").await;
    assert_eq!(items.len(), 3);
    assert!(items[1]["error"].as_str().unwrap().contains("checksum"), "{items:?}");
    assert_eq!(items[1]["id"], letter["event_id"]);
}

/// Overwrites a page of a table or an index. Returns the number of rows or entries that it had.
fn overwrite_a_page_of(home: &Home, name: &str) -> usize {
    // A store of this size is not checked page by page at the start.
    home.sql("INSERT INTO meta (name, value) VALUES ('padding', zeroblob(68000000))");
    let (page, cells): (u64, usize) = {
        let database = Connection::open(home.database()).unwrap();
        let leaf =
            "SELECT pageno, ncell FROM dbstat WHERE name = ?1 AND pagetype = 'leaf' ORDER BY pageno LIMIT 1
            OFFSET (SELECT count(*) / 2 FROM dbstat WHERE name = ?1 AND pagetype = 'leaf')";
        let found = database.query_row(leaf, [name], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        database.close().unwrap();
        found
    };
    assert!(!home.data().join("relay.db-wal").exists());
    let mut file = fs::OpenOptions::new().write(true).open(home.database()).unwrap();
    file.seek(SeekFrom::Start((page - 1) * 4_096)).unwrap();
    file.write_all(&[0xa5; 4_096]).unwrap();
    cells
}

const EVENTS: usize = 1_000;

/// Delivers the events of a store with one damaged page. Returns the number of events that arrived, the number of rows
/// on the page, the relay and the receiver.
async fn delivered_with_a_damaged_page_of(name: &str) -> (usize, usize, Relay, Receiver) {
    let (home, path) = pending(EVENTS).await;
    let lost = overwrite_a_page_of(&home, name);
    assert!((1..EVENTS * 3 / 4).contains(&lost), "{lost}");
    let (relay, receiver) = restart_with_receiver(&home, &path).await;
    let least = if name == "events" { EVENTS - lost } else { EVENTS };
    let hits = receiver.hits_at_least(least).await;
    let ids: BTreeSet<_> = hits.iter().map(|hit| hit.id()).collect();
    // On a busy machine the health check may take longer than its timeout of one second.
    eventually("the damage to be in /readyz", || async {
        let ready = relay.client().get("/readyz").await;
        (ready.status == StatusCode::SERVICE_UNAVAILABLE && ready.problem().contains("damaged")).then_some(())
    })
    .await;
    // The log has the details that SQLite reports in addition to its error code.
    relay.log_line("SQLite code=11").await;
    relay.client().publish("still.taken", json!({})).await;
    receiver
        .hits_when("the new event", |hits| hits.iter().any(|hit| hit.json()["type"] == "still.taken"))
        .await;
    (ids.len(), lost, relay, receiver)
}

#[tokio::test]
async fn damaged_page_of_events_stops_only_the_events_on_it() {
    let (arrived, lost, relay, _receiver) = delivered_with_a_damaged_page_of("events").await;
    assert_eq!(arrived, EVENTS - lost);
    let client = relay.client();
    let letters = eventually("the dead letters", || async {
        let letters = client.list("/v1/dead-letters").await;
        (letters.len() == lost).then_some(letters)
    })
    .await;
    assert!(letters.iter().all(|letter| {
        letter["reason"].as_str().unwrap().contains("cannot be read") && letter["event_type"] == Value::Null
    }));
    let readable = |items: &[Value]| items.iter().filter(|item| item.get("error").is_none()).count();
    let items = client.list("/v1/events").await;
    assert_eq!(readable(&items), EVENTS - lost + 1);
    assert!(items.len() > readable(&items), "the list has no entry for the damage");
    // A feed continues after the damaged page, also from the id of an event that cannot be read.
    let first = items.last().unwrap()["id"].as_str().unwrap();
    let mut feed = Feed::open(client, "", Some(first)).await;
    let mut seen = 1;
    while seen < EVENTS - lost + 1 {
        let event = feed.event().await.unwrap();
        if event.get("error").is_none() {
            seen += 1;
        } else {
            let id = feed.last_id().unwrap().to_owned();
            feed = Feed::open(client, "", Some(&id)).await;
        }
    }
}

#[tokio::test]
async fn damaged_page_of_deliveries_stops_no_delivery() {
    let (arrived, _, relay, receiver) = delivered_with_a_damaged_page_of("deliveries").await;
    assert_eq!(arrived, EVENTS);
    let client = relay.client();
    let items = client.list("/v1/deliveries").await;
    assert!(items.iter().any(|item| item.get("error").is_some()), "the list has no entry for the damage");
    // The outcomes of the unreadable deliveries are kept as well: a restart sends none of them again.
    let home = Arc::clone(client.home());
    let pending = || home.count("SELECT count(*) FROM due");
    eventually("every outcome to be recorded", || async { (pending() == 0).then_some(()) }).await;
    relay.stop().await;
    let relay = Relay::start_in(&home, &SLOW).await;
    relay.client().publish("after.the.restart", json!({})).await;
    let hits = receiver
        .hits_when("the last event", |hits| hits.iter().any(|hit| hit.json()["type"] == "after.the.restart"))
        .await;
    assert_eq!(hits.len(), EVENTS + 2);
}

#[tokio::test]
async fn damaged_page_of_an_index_stops_no_delivery() {
    let (arrived, ..) = delivered_with_a_damaged_page_of("deliveries_pending").await;
    assert_eq!(arrived, EVENTS);
}

#[tokio::test]
async fn damaged_page_of_due_times_stops_no_delivery() {
    let (arrived, _, relay, _receiver) = delivered_with_a_damaged_page_of("due").await;
    assert_eq!(arrived, EVENTS);
    relay.log_line("due times of deliveries were damaged and have been rebuilt").await;
}

#[tokio::test]
async fn damaged_page_of_tenants_hides_only_the_tenants_on_it() {
    const TENANTS: usize = 200;
    let receiver = Receiver::accepting().await;
    let relay = Relay::start().await;
    let home = Arc::clone(relay.client().home());
    relay.client().endpoint(&receiver).await;
    for n in 0..TENANTS {
        let body = json!({"metadata": {"filler": "x".repeat(100)}});
        let answer = relay.client().put(&format!("/v1/tenants/t{n}"), body).await;
        assert_eq!(answer.status, StatusCode::CREATED);
    }
    relay.stop().await;
    let lost = overwrite_a_page_of(&home, "tenants");
    let relay = Relay::start_in(&home, &[]).await;
    let client = relay.client();
    let mut found = 0;
    for n in 0..TENANTS {
        let answer = client.get(&format!("/v1/tenants/t{n}")).await;
        assert!(matches!(answer.status, StatusCode::OK | StatusCode::NOT_FOUND), "{}", answer.text());
        found += usize::from(answer.status == StatusCode::OK);
    }
    assert_eq!(found, TENANTS - lost);
    client.publish("still.delivered", json!({})).await;
    receiver.hits_at_least(1).await;
    eventually("the damage to be in /readyz", || async {
        let ready = client.get("/readyz").await;
        (ready.status == StatusCode::SERVICE_UNAVAILABLE && ready.problem().contains("damaged")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn damaged_page_of_the_counts_per_minute_stops_nothing() {
    let receiver = Receiver::accepting().await;
    let relay = Relay::start().await;
    let home = Arc::clone(relay.client().home());
    relay.client().endpoint(&receiver).await;
    let first = relay.client().publish("first", json!({})).await;
    relay.client().delivery_in_state(&first, "delivered").await;
    relay.stop().await;
    overwrite_a_page_of(&home, "rollups");
    let relay = Relay::start_in(&home, &[]).await;
    for n in 0..3 {
        let event = relay.client().publish("next", json!(n)).await;
        relay.client().delivery_in_state(&event, "delivered").await;
    }
}
