//! The feed: every event once and in order, for clients that connect, disconnect, stop reading and reconnect.

use std::collections::BTreeSet;
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{Client, End, Feed, Home, Message, Relay, eventually};

/// Returns the ids of the events in the order in which they were stored.
async fn stored(client: &Client) -> Vec<String> {
    let events = client.list("/v1/events").await;
    events.iter().rev().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}

/// Publishes `count` events of 100 KiB.
async fn publish_large(client: &Client, count: usize) {
    let filler = "x".repeat(100 << 10);
    for _ in 0..count / 20 {
        let lines: String =
            (0..20).map(|n| format!("{{\"type\":\"large\",\"data\":[{n},\"{filler}\"]}}\n")).collect();
        assert_eq!(client.ndjson(lines).await.0, StatusCode::ACCEPTED);
    }
}

async fn metric(client: &Client, line: &str) -> u64 {
    let text = client.request(Method::GET, "/metrics", &[], "").await.unwrap().text();
    let value = text.lines().find_map(|metric| metric.strip_prefix(line));
    value.map_or(0, |value| value.trim().parse().unwrap())
}

#[tokio::test]
async fn feed_shows_new_events_from_memory_as_the_api_does() {
    let relay = Relay::start().await;
    let client = relay.client();
    client.publish("before", json!(1)).await;
    let mut feed = Feed::open(client, "", None).await;
    let pretty = "{\"type\":\"a.b\",\n\"data\":{\r\n  \"text\": \"\u{fc} \\n \\r\",\r \"none\": [\n\n]}}";
    let bearer = format!("Bearer {}", client.key);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let answer = client.request(Method::POST, "/v1/events", &headers, pretty).await.unwrap();
    let mut ids = vec![answer.json()["id"].as_str().unwrap().to_owned()];
    for data in [json!(null), json!({"id": "evt_"}), json!("data: \n\nid: 1")] {
        ids.push(client.publish("a.c", data).await);
    }
    for id in ids {
        let event = feed.event().await.unwrap();
        assert_eq!(event, client.get(&format!("/v1/events/{id}")).await.json());
    }
    assert_eq!(metric(client, r#"relay_feed_events_total{from="memory"}"#).await, 4);
    assert_eq!(metric(client, r#"relay_feed_events_total{from="disk"}"#).await, 0);
}

#[tokio::test]
async fn feed_resumes_after_the_last_event_id() {
    let relay = Relay::start().await;
    let client = relay.client();
    // In an empty store: the position before the first event.
    let feed = Feed::open(client, "", None).await;
    let before_all = feed.last_id().unwrap().to_owned();
    drop(feed);
    // Several pages, which are read from the disk.
    let many: String = (0..200).map(|n| format!("{{\"type\":\"many\",\"data\":{n}}}\n")).collect();
    client.ndjson(many).await;
    let all = stored(client).await;
    let mut feed = Feed::open(client, "", Some(&before_all)).await;
    assert_eq!(feed.ids(200).await, all);
    // Then the events as they are published.
    let live = client.publish("live", json!(1)).await;
    assert_eq!(feed.ids(1).await, slice::from_ref(&live));
    drop(feed);
    let mut feed = Feed::open(client, "", Some(&all[198])).await;
    assert_eq!(feed.ids(2).await, [all[199].clone(), live.clone()]);
    drop(feed);
    let mut feed = Feed::open(client, "", Some(&live)).await;
    let next = client.publish("next", json!(2)).await;
    assert_eq!(feed.ids(1).await, [next]);
    // Browsers send an empty id when they have none.
    assert!(Feed::try_open(client, "", Some("")).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reconnecting_readers_see_every_event_once_under_load() {
    const EVENTS: usize = 600;
    let relay = Relay::start().await;
    let client = relay.client().clone();
    // Two clients that read on, and three that reconnect after every few events.
    let mut readers = JoinSet::new();
    let reconnects = Arc::new(AtomicUsize::new(0));
    for reader in 0..5_usize {
        let (client, reconnects) = (client.clone(), Arc::clone(&reconnects));
        let mut feed = Feed::open(&client, "", None).await;
        readers.spawn(async move {
            let mut seen = Vec::with_capacity(EVENTS);
            while seen.len() < EVENTS {
                let at_once = if reader < 2 { EVENTS } else { 1 + (seen.len() * 7 + reader) % 23 };
                seen.extend(feed.ids(at_once.min(EVENTS - seen.len())).await);
                if seen.len() < EVENTS {
                    let last_id = feed.last_id().unwrap().to_owned();
                    drop(feed);
                    feed = Feed::open(&client, "", Some(&last_id)).await;
                    reconnects.fetch_add(1, Ordering::Relaxed);
                }
            }
            seen
        });
    }
    let mut publishers = JoinSet::new();
    for publisher in 0..4 {
        let client = client.clone();
        publishers.spawn(async move {
            for n in 0..EVENTS / 12 {
                client.publish("load", json!({"publisher": publisher, "n": n})).await;
                // A commit with several events.
                let two = format!("{{\"type\":\"load\",\"data\":{n}}}\n").repeat(2);
                assert_eq!(client.ndjson(two).await.0, StatusCode::ACCEPTED);
            }
        });
    }
    publishers.join_all().await;
    let all = stored(&client).await;
    assert_eq!(all.len(), EVENTS);
    for seen in readers.join_all().await {
        assert_eq!(seen, all);
    }
    assert!(reconnects.load(Ordering::Relaxed) > 50);
}

#[tokio::test]
async fn stalled_reader_catches_up_from_disk() {
    let relay = Relay::start().await;
    let client = relay.client();
    let mut awake = Feed::open(client, "", None).await;
    let mut asleep = Feed::open(client, "", None).await;
    // More than the sockets hold, and ten times the size of the buffer in memory.
    let large = publish_large(client, 400);
    let reading = async {
        let mut seen = Vec::new();
        while seen.len() < 400 {
            seen.extend(awake.ids(1).await);
        }
        seen
    };
    let ((), seen) = tokio::join!(large, reading);
    let from_disk = r#"relay_feed_events_total{from="disk"}"#;
    let before = metric(client, from_disk).await;
    // Before anything else: relay disconnects a reader that reads nothing for 30 s.
    assert_eq!(asleep.ids(400).await, seen);
    assert_eq!(seen, stored(client).await);
    // The metrics are up to one second old.
    eventually("the metrics to follow", || async {
        (metric(client, from_disk).await > before + 100).then_some(())
    })
    .await;
    let next = client.publish("next", json!(1)).await;
    assert_eq!(asleep.ids(1).await, slice::from_ref(&next));
    assert_eq!(awake.ids(1).await, [next]);
}

#[tokio::test]
async fn filtered_feed_sends_matches_and_advances_its_position() {
    let relay = Relay::start_with(&["--feed-keep-alive", "0.05"]).await;
    let client = relay.client();
    let mut feed = Feed::open(client, "?event_types=user.%3E,order.created", None).await;
    let begun_at = feed.last_id().unwrap().to_owned();
    let mut wanted = Vec::new();
    for event_type in ["other", "user.created", "order.created", "order.deleted", "user.email.changed"] {
        let id = client.publish(event_type, json!(1)).await;
        if event_type.starts_with("user") || event_type == "order.created" {
            wanted.push(id);
        }
    }
    assert_eq!(feed.ids(3).await, wanted);
    let passed_over = client.publish("other", json!(2)).await;
    // Keep-alive messages precede it.
    while feed.next().await.unwrap() != Message::Id(passed_over.clone()) {}
    // Keep-alive messages between events.
    assert_eq!(feed.next().await, Ok(Message::Comment));
    assert_eq!(feed.last_id(), Some(passed_over.as_str()));
    // The same events from the disk.
    let mut again = Feed::open(client, "?event_types=user.%3E,order.created", Some(&begun_at)).await;
    assert_eq!(again.ids(3).await, wanted);
}

#[tokio::test]
async fn invalid_feed_requests_are_refused_with_the_reason() {
    let home = Home::new();
    let relay = Relay::start_in(&home, &[]).await;
    let client = relay.client();
    let first = client.publish("a", json!(1)).await;
    let second = client.publish("a", json!(2)).await;
    let endpoint = client.endpoint_at("http://127.0.0.1:1/", json!({"event_types": ["never"]})).await;
    let foreign = "evt_0000000000000000000000000001".replace("evt_0", "evt_f");
    let to_come = format!("{}f", &second[..second.len() - 1]);
    for (query, last_id, status, reason) in [
        ("", Some("17"), 400, "not the id of an event"),
        ("", Some("evt_"), 400, "not the id of an event"),
        ("", Some("\u{fc}"), 400, "not the id of an event"),
        ("", Some(endpoint.as_str()), 400, "not the id of an event"),
        ("", Some(foreign.as_str()), 400, "not the id of an event"),
        ("", Some(to_come.as_str()), 410, to_come.as_str()),
        ("?event_types=", None, 400, "empty"),
        ("?event_types=a,,b", None, 400, "empty"),
        ("?event_types=a.%3E.b", None, 400, "wildcard"),
        ("?types=a", None, 400, "unknown field `types`"),
    ] {
        let refused = Feed::try_open(client, query, last_id).await.unwrap_err();
        assert_eq!(refused.status.as_u16(), status, "{query} {last_id:?}: {}", refused.text());
        assert!(refused.problem().contains(reason), "{}", refused.problem());
    }
    for key in ["", "rk_wrong"] {
        let mut stranger = client.clone();
        key.clone_into(&mut stranger.key);
        let refused = Feed::try_open(&stranger, "", Some(&first)).await.unwrap_err();
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
        assert!(refused.problem().contains("API key"), "{}", refused.problem());
    }
    assert_eq!(metric(client, "relay_feeds ").await, 0);
    relay.stop().await;

    // The event is not stored any more, so events after it may be missing too.
    home.sql("DELETE FROM events WHERE seq = (SELECT min(seq) FROM events)");
    let relay = Relay::start_in(&home, &[]).await;
    let refused = Feed::try_open(relay.client(), "", Some(&first)).await.unwrap_err();
    assert_eq!(refused.status, StatusCode::GONE);
    assert!(refused.problem().contains(&first), "{}", refused.problem());
    let mut feed = Feed::open(relay.client(), "", Some(&second)).await;
    let third = relay.client().publish("a", json!(3)).await;
    assert_eq!(feed.ids(1).await, [third]);
}

#[tokio::test]
async fn feeds_are_limited_and_a_closed_feed_frees_its_slot() {
    let relay = Relay::start_with(&["--max-feeds", "2"]).await;
    let client = relay.client();
    let first = Feed::open(client, "", None).await;
    let _second = Feed::open(client, "", None).await;
    assert_eq!(metric(client, "relay_feeds ").await, 2);
    let refused = Feed::try_open(client, "", None).await.unwrap_err();
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.problem().contains("2 feeds are open"), "{}", refused.problem());
    assert!(refused.headers.contains_key("retry-after"));
    drop(first);
    eventually("the slot of the closed feed", || async {
        Feed::try_open(client, "", None).await.ok().map(drop)
    })
    .await;
}

#[tokio::test]
async fn stop_ends_feeds_cleanly_and_they_resume() {
    let relay = Relay::start().await;
    let home = Arc::clone(relay.client().home());
    let client = relay.client().clone();
    let mut feed = Feed::open(&client, "", None).await;
    let _filtered = Feed::open(&client, "?event_types=never", None).await;
    let first = client.publish("a", json!(1)).await;
    relay.signal(Signal::TERM);
    let mut seen = Vec::new();
    let end = loop {
        match feed.event().await {
            Ok(event) => seen.push(event["id"].as_str().unwrap().to_owned()),
            Err(end) => break end,
        }
    };
    // Whether or not the event was already being sent.
    let rest = if seen.is_empty() { vec![first.clone()] } else { Vec::new() };
    assert_eq!(end, End::InOrder);
    assert_eq!(relay.ended().await.code(), Some(0));
    let relay = Relay::start_in(&home, &[]).await;
    let mut feed = Feed::open(relay.client(), "", feed.last_id()).await;
    let second = relay.client().publish("a", json!(2)).await;
    assert_eq!(feed.ids(rest.len() + 1).await, [rest, vec![second]].concat());
}

#[tokio::test]
async fn stop_breaks_off_the_feed_of_a_stalled_reader() {
    let relay = Relay::start().await;
    let client = relay.client().clone();
    let mut feed = Feed::open(&client, "", None).await;
    publish_large(&client, 400).await;
    relay.stop().await;
    // The feed was cut off, but not inside an event, which the client would take for a whole one.
    let mut seen = 0;
    let end = loop {
        match feed.event().await {
            Ok(_) => seen += 1,
            Err(end) => break end,
        }
    };
    assert!(seen < 400 && end == End::BrokenOff, "{seen} {end:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feed_shows_exactly_the_stored_events_across_kills() {
    let home = Home::new();
    let mut relay = Relay::start_in(&home, &[]).await;
    let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
    let mut seen: Vec<String> = Vec::new();
    let mut last_id = None;
    for _ in 0..4 {
        let client = relay.client().clone();
        // A 410 would mean that an event which the feed has shown is not stored.
        let mut feed = Feed::open(&client, "", last_id.as_deref()).await;
        let mut publishers = JoinSet::new();
        for n in 0..4 {
            let (client, acknowledged) = (client.clone(), Arc::clone(&acknowledged));
            publishers.spawn(async move {
                let bearer = format!("Bearer {}", client.key);
                let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
                let event = json!({"type": "load", "data": n}).to_string();
                while let Ok(answer) =
                    client.request(Method::POST, "/v1/events", &headers, event.clone()).await
                {
                    // A process that is killed during a request sends no response.
                    let Ok(body) = serde_json::from_slice::<Value>(&answer.body) else { break };
                    acknowledged.lock().unwrap().insert(body["id"].as_str().unwrap().to_owned());
                }
            });
        }
        seen.extend(feed.ids(60).await);
        relay.kill().await;
        publishers.join_all().await;
        while let Ok(event) = feed.event().await {
            seen.push(event["id"].as_str().unwrap().to_owned());
        }
        last_id = feed.last_id().map(str::to_owned);
        relay = Relay::start_in(&home, &[]).await;
    }
    let client = relay.client();
    let mut feed = Feed::open(client, "", last_id.as_deref()).await;
    let all = stored(client).await;
    seen.extend(feed.ids(all.len() - seen.len()).await);
    assert_eq!(seen, all);
    assert!(acknowledged.lock().unwrap().iter().all(|id| all.contains(id)));
}

#[tokio::test]
async fn event_published_twice_under_a_key_is_shown_once_in_the_feed() {
    let relay = Relay::start().await;
    let client = relay.client();
    let mut feed = Feed::open(client, "", None).await;
    let event = json!({"type": "a", "data": 1, "idempotency_key": "k"});
    let first = client.post("/v1/events", event.clone()).await.json();
    let again = client.post("/v1/events", event).await.json();
    assert_eq!(first["id"], again["id"]);
    let next = client.publish("b", json!(2)).await;
    assert_eq!(feed.ids(2).await, [first["id"].as_str().unwrap().to_owned(), next]);
}
