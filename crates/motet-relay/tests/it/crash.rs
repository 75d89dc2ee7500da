//! `kill -9` at arbitrary moments.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::StatusCode;
use motet::rng::Rng;
use rusqlite::{Connection, OpenFlags};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::harness::{Act, Client, FAIL, Hit, Home, OK, Receiver, Relay, eventually, within};

/// `cargo xtask verify` uses a higher number.
fn rounds() -> u64 {
    std::env::var("MOTET_TEST_KILL_ROUNDS").map_or(25, |rounds| rounds.parse().unwrap())
}

const PUBLISHERS: u32 = 8;
const ENDPOINTS: usize = 2;

/// Publishes until it is stopped, each event under its own key, through kills and restarts: an event without a
/// response is sent again under the same key. Collects the acknowledged events.
async fn publish_through_crashes(
    mut relay: watch::Receiver<Option<Client>>,
    next: Arc<AtomicU32>,
    acknowledged: Arc<watch::Sender<BTreeMap<u32, String>>>,
) {
    // An error means that the test has dropped its sender, which is the end as well.
    'events: while relay.has_changed().is_ok() {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let event =
            json!({"type": "crash.test", "data": {"n": n}, "idempotency_key": format!("n-{n}")}).to_string();
        loop {
            let Ok(client) = relay.wait_for(Option::is_some).await.map(|client| client.clone().unwrap())
            else {
                return;
            };
            let bearer = format!("Bearer {}", client.key);
            let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
            if let Ok(answer) =
                client.request(http::Method::POST, "/v1/events", &headers, event.clone()).await
                && answer.status == StatusCode::ACCEPTED
                && let Ok(body) = serde_json::from_slice::<serde_json::Value>(&answer.body)
            {
                let id = body["id"].as_str().unwrap().to_owned();
                acknowledged.send_modify(|acknowledged| {
                    acknowledged.insert(n, id);
                });
                continue 'events;
            }
            // The process has ended; the next one will be announced.
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_events_survive_repeated_kills() {
    let seed = motet::rng::with(Rng::next_u64);
    let mut rng = Rng::seeded(seed);
    println!("seed {seed}");
    let mut receivers = Vec::new();
    for salt in 0..ENDPOINTS {
        // One in eight events fails the first time, another one at each endpoint, so that retries are pending at each
        // kill.
        receivers
            .push(Receiver::start(move |hit| if hit.nth == 1 && fails(hit, salt) { FAIL } else { OK }).await);
    }
    let home = Home::new();
    let mut relay = Relay::start_in(&home, &[]).await;
    for receiver in &receivers {
        relay.client().endpoint(receiver).await;
    }
    let (announce, announced) = watch::channel(Some(relay.client().clone()));
    let next = Arc::new(AtomicU32::new(0));
    let acknowledged = Arc::new(watch::Sender::new(BTreeMap::new()));
    let mut publishers = JoinSet::new();
    for _ in 0..PUBLISHERS {
        publishers.spawn(publish_through_crashes(
            announced.clone(),
            Arc::clone(&next),
            Arc::clone(&acknowledged),
        ));
    }
    drop(announced);
    for _ in 0..rounds() {
        // An arbitrary moment after the process has acknowledged some events.
        let enough = acknowledged.borrow().len() + (1 + rng.below(39) as usize);
        let mut progress = acknowledged.subscribe();
        within("events to be acknowledged", progress.wait_for(|all| all.len() >= enough)).await.unwrap();
        sleep(Duration::from_micros(rng.below(20_000))).await;
        announce.send_replace(None);
        relay.kill().await;
        relay = Relay::start_in(&home, &[]).await;
        announce.send_replace(Some(relay.client().clone()));
    }
    drop(announce);
    while let Some(ended) = publishers.join_next().await {
        ended.unwrap();
    }
    let acknowledged = acknowledged.borrow().clone();
    let ids: BTreeSet<_> = acknowledged.values().cloned().collect();
    assert_eq!(ids.len(), acknowledged.len(), "two events have one id (seed {seed})");
    for receiver in &receivers {
        receiver
            .hits_when("every acknowledged event", |hits| {
                let arrived: BTreeSet<_> = hits.iter().map(Hit::id).collect();
                ids.is_subset(&arrived)
            })
            .await;
        assert!(
            receiver.hits().iter().any(|hit| hit.nth > 1),
            "no delivery was retried, so the test shows little"
        );
        // Each id names one event, however often it was sent.
        let mut numbers = BTreeMap::new();
        for hit in receiver.hits() {
            let n = hit.json()["data"]["n"].clone();
            assert_eq!(numbers.entry(hit.id()).or_insert_with(|| n.clone()), &n, "seed {seed}");
        }
    }
    eventually("all deliveries to be settled", || async {
        relay.client().list("/v1/deliveries?state=pending").await.is_empty().then_some(())
    })
    .await;
    assert_eq!(relay.client().list("/v1/dead-letters").await.len(), 0);
    relay.kill().await;
    let database = open(&home);
    assert_eq!(events_without_all_deliveries(&database), 0);
    let events: usize = database.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap();
    println!("{} acknowledged, {events} stored", acknowledged.len());
    assert!(events >= acknowledged.len());
}

fn fails(hit: &Hit, salt: usize) -> bool {
    hit.json()["data"]["n"].as_u64().unwrap() % 8 == salt as u64
}

fn open(home: &Home) -> Connection {
    Connection::open_with_flags(home.database(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

fn events_without_all_deliveries(database: &Connection) -> usize {
    database
        .prepare_cached(
            "SELECT count(*) FROM events e
             WHERE (SELECT count(*) FROM deliveries d WHERE d.event_seq = e.seq) <> ?1",
        )
        .unwrap()
        .query_row([ENDPOINTS], |row| row.get(0))
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_is_visible_only_with_all_its_deliveries() {
    let receiver = Receiver::accepting().await;
    let relay = Relay::start().await;
    for _ in 0..ENDPOINTS {
        relay.client().endpoint(&receiver).await;
    }
    let database = open(relay.client().home());
    let mut publishers = JoinSet::new();
    for _ in 0..4 {
        let client = relay.client().clone();
        publishers.spawn(async move {
            for n in 0..100 {
                client.publish("seen.whole", json!({"n": n})).await;
            }
        });
    }
    let mut looks = 0;
    let mut seen = BTreeSet::new();
    while !publishers.is_empty() {
        let events: usize = database.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap();
        seen.insert(events);
        assert_eq!(events_without_all_deliveries(&database), 0);
        looks += 1;
        if let Some(ended) = publishers.try_join_next() {
            ended.unwrap();
        }
        tokio::task::yield_now().await;
    }
    assert!(seen.len() > 10, "{looks} looks saw only {seen:?} events");
}

/// A delay with which only a kill makes a delivery due again within the test.
const LONG_SECONDS: &str = "40000";

#[tokio::test]
async fn kill_makes_in_flight_deliveries_due_and_keeps_other_times() {
    let receiver = Receiver::start(|hit| match (hit.json()["type"].as_str().unwrap(), hit.nth) {
        ("in.flight", 1) => Act::Hang,
        // `Retry-After` is a lower bound of the jittered delay.
        ("waits.long", _) => {
            Act::AnswerWith(StatusCode::SERVICE_UNAVAILABLE, "retry-after", LONG_SECONDS.to_owned())
        }
        _ => OK,
    })
    .await;
    let slow = ["--retry-cap", LONG_SECONDS, "--headers-timeout", "3000", "--total-timeout", "3000"];
    let relay = Relay::start_with(&slow).await;
    let home = relay.client().home().clone();
    relay.client().endpoint(&receiver).await;
    let waits = relay.client().publish("waits.long", json!({})).await;
    let waiting = eventually("the failure to be recorded", || async {
        let delivery = relay.client().delivery_of(&waits).await;
        (delivery["attempts"] == 1).then_some(delivery)
    })
    .await;
    let in_flight = relay.client().publish("in.flight", json!({})).await;
    receiver.hits_when("the hanging request", |hits| hits.iter().any(|hit| hit.id() == in_flight)).await;
    relay.kill().await;

    let relay = Relay::start_in(&home, &slow).await;
    let delivered = relay.client().delivery_in_state(&in_flight, "delivered").await;
    // The attempt that the kill interrupted has no record: the receiver never responded.
    assert_eq!(delivered["attempts"], 1);
    let still_waiting = relay.client().delivery_of(&waits).await;
    assert_eq!(still_waiting["next_attempt_at"], waiting["next_attempt_at"]);
    assert_eq!(still_waiting["attempts"], 1);
}

#[tokio::test]
async fn due_time_of_a_wrong_clock_is_clamped_to_the_retry_cap() {
    let receiver = Receiver::start(|hit| if hit.nth == 1 { FAIL } else { OK }).await;
    let slow = ["--retry-base", "600", "--retry-cap", "600"];
    let relay = Relay::start_with(&slow).await;
    let home = relay.client().home().clone();
    relay.client().endpoint(&receiver).await;
    let event = relay.client().publish("user.created", json!({})).await;
    receiver.hits_at_least(1).await;
    relay.stop().await;
    // As if the clock had been decades ahead when the due time was stored.
    for table in ["deliveries", "due"] {
        assert_eq!(home.sql(&format!("UPDATE {table} SET due_at = due_at + 1000000000000")), 1);
    }
    let relay = Relay::start_in(&home, &["--retry-cap", "0.1"]).await;
    relay.client().delivery_in_state(&event, "delivered").await;
}

#[tokio::test]
async fn clock_behind_at_start_does_not_delay_a_pending_delivery() {
    // Due two seconds after the first attempt.
    let receiver = Receiver::start(|hit| match hit.nth {
        1 => Act::AnswerWith(StatusCode::SERVICE_UNAVAILABLE, "retry-after", "2".to_owned()),
        _ => OK,
    })
    .await;
    let slow = ["--retry-base", "0.001", "--retry-cap", "40000"];
    let relay = Relay::start_with(&slow).await;
    let home = relay.client().home().clone();
    relay.client().endpoint(&receiver).await;
    let event = relay.client().publish("user.created", json!({})).await;
    eventually("the failure to be recorded", || async {
        (relay.client().delivery_of(&event).await["attempts"] == 1).then_some(())
    })
    .await;
    relay.stop().await;
    // As if the clock were now a year behind.
    let year = 31_536_000_000_i64;
    for table in ["deliveries", "due"] {
        assert_eq!(home.sql(&format!("UPDATE {table} SET due_at = due_at + {year}")), 1);
    }
    assert_eq!(home.sql(&format!("UPDATE meta SET value = value + {year} WHERE name = 'seen_time'")), 1);
    let relay = Relay::start_in(&home, &slow).await;
    relay.log_line("clock is behind").await;
    relay.client().delivery_in_state(&event, "delivered").await;
}
