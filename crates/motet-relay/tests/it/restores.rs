//! Backups that are restored into another directory.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use http::StatusCode;
use rusqlite::Connection;
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{Act, Client, Home, Receiver, Relay, eventually, program, within};

/// Runs `motet-relay restore`. Returns its exit code, its output and its messages.
async fn restore(file: &Path, data: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = program();
    command.env("RUST_LOG", "error").arg("restore").arg(file).arg("--data").arg(data).args(args);
    let output = within("the command to end", command.output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Restores a backup of `home` into a new directory, for which the key of `home` is valid.
async fn restored(file: &Path, home: &Home, args: &[&str]) -> (Arc<Home>, String) {
    let other = Home::new();
    let (code, output, log) = restore(file, &other.data(), args).await;
    assert_eq!(code, Some(0), "{log}");
    other.set_key(home.key());
    std::fs::copy(home.key_file(), other.key_file()).unwrap();
    (other, output)
}

async fn back_up(home: &Home) -> std::path::PathBuf {
    let file = home.data().with_file_name("backup.db");
    let mut command = program();
    command.arg("backup").arg("--to").arg(&file).arg("--data").arg(home.data());
    assert!(within("the command to end", command.output()).await.unwrap().status.success());
    file
}

async fn publish_some(client: Client, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(client.publish("a", json!({"n": n, "filler": "x".repeat(2_000)})).await);
    }
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restored_backup_has_all_earlier_events_and_repeats_no_id() {
    let relay = Relay::start().await;
    let (client, home) = (relay.client(), Arc::clone(relay.client().home()));
    client.endpoint_at("http://127.0.0.1:9/", json!({"event_types": ["none"]})).await;
    let before: BTreeSet<_> = publish_some(client.clone(), 100).await.into_iter().collect();
    // Publishers go on during the backup.
    let mut publishers = JoinSet::new();
    for _ in 0..4 {
        publishers.spawn(publish_some(client.clone(), 100));
    }
    let file = back_up(&home).await;
    let mut later = BTreeSet::new();
    while let Some(ids) = publishers.join_next().await {
        later.extend(ids.unwrap());
    }
    later.extend(publish_some(client.clone(), 20).await);
    relay.stop().await;

    let (other, output) = restored(&file, &home, &[]).await;
    let relay = Relay::start_in(&other, &[]).await;
    let client = relay.client();
    let ids = async || -> BTreeSet<String> {
        let events = client.list("/v1/events").await;
        events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
    };
    let kept = ids().await;
    assert!(output.contains(&format!("restored {} events", kept.len())), "{output}");
    assert!(before.is_subset(&kept), "an event from before the backup is missing");
    let known: BTreeSet<_> = before.union(&later).cloned().collect();
    assert!(kept.is_subset(&known));
    let lost: Vec<_> = known.difference(&kept).cloned().collect();
    assert!(lost.len() >= 20, "{}", lost.len());

    let endpoint = client.endpoint_at("http://127.0.0.1:9/", json!({"event_types": ["none"]})).await;
    let new = publish_some(client.clone(), 50).await;
    for id in new.iter().chain([&endpoint]) {
        assert!(!known.contains(id));
        // The digits of the store's id: no row of the relay that went on has them, whatever its number is.
        let store = &id.split_once('_').unwrap().1[..12];
        assert!(known.iter().all(|known| &known[4..16] != store), "{id}");
    }
    for id in kept.iter().chain(&new).take(20) {
        assert_eq!(client.get(&format!("/v1/events/{id}")).await.status, StatusCode::OK);
    }
    // What a client knows of the lost time is answered, and nothing else is found by it.
    assert_eq!(client.get(&format!("/v1/events/{}", lost[0])).await.status, StatusCode::NOT_FOUND);
    let bearer = format!("Bearer {}", client.key);
    let headers = [("authorization", bearer.as_str()), ("last-event-id", lost.last().unwrap())];
    let feed = client.request(http::Method::GET, "/v1/events/feed", &headers, "").await.unwrap();
    assert_eq!(feed.status, StatusCode::GONE, "{}", feed.text());
    assert!(feed.problem().contains("is not stored"), "{}", feed.problem());
    relay.stop().await;

    // A store that was restored twice.
    let file = back_up(&other).await;
    let (third, _) = restored(&file, &other, &[]).await;
    let relay = Relay::start_in(&third, &[]).await;
    let stored = relay.client().list("/v1/events").await;
    assert_eq!(stored.len(), kept.len() + new.len());
    let newest = publish_some(relay.client().clone(), 1).await.remove(0);
    assert_ne!(newest[4..16], new[0][4..16]);
    for id in [&newest, &new[0], kept.first().unwrap()] {
        assert_eq!(relay.client().get(&format!("/v1/events/{id}")).await.status, StatusCode::OK);
    }
    relay.stop().await;
}

/// A backup with three pending deliveries, which the receiver has got since then.
async fn pending_in_backup(receiver: &Receiver) -> (Arc<Home>, std::path::PathBuf) {
    let relay = Relay::start().await;
    let (client, home) = (relay.client(), Arc::clone(relay.client().home()));
    client.endpoint(receiver).await;
    assert!(client.post("/v1/pause", json!({})).await.status.is_success());
    for n in 0..3 {
        client.publish("a", json!(n)).await;
    }
    let file = back_up(&home).await;
    assert!(client.post("/v1/resume", json!({})).await.status.is_success());
    receiver.hits_when("the events", |hits| hits.len() >= 3).await;
    relay.stop().await;
    // The backup is of a running relay, which is not paused.
    Connection::open(&file).unwrap().execute("DELETE FROM meta WHERE name = 'paused'", []).unwrap();
    (home, file)
}

#[tokio::test]
async fn held_store_sends_nothing_until_it_is_resumed() {
    let receiver = Receiver::accepting().await;
    let (home, file) = pending_in_backup(&receiver).await;
    let (other, output) = restored(&file, &home, &["--hold"]).await;
    assert!(output.contains("3 deliveries are pending") && output.contains("POST /v1/resume"), "{output}");
    let relay = Relay::start_in(&other, &[]).await;
    relay.log_line("all deliveries are paused").await;
    let client = relay.client();
    let pending = async || client.list("/v1/deliveries?state=pending").await.len();
    // A whole event passes through an endpoint that is not paused by the restore only once it is resumed.
    client.publish("a", json!("after")).await;
    assert_eq!(pending().await, 4);
    assert_eq!(receiver.hits().len(), 3);
    assert!(client.post("/v1/resume", json!({})).await.status.is_success());
    receiver.hits_when("all events again", |hits| hits.len() >= 7).await;
    eventually("the outcomes to be stored", || async { (pending().await == 0).then_some(()) }).await;
    relay.stop().await;
}

#[tokio::test]
async fn older_events_are_skipped_and_can_be_replayed() {
    let receiver = Receiver::accepting().await;
    let (home, file) = pending_in_backup(&receiver).await;
    let (other, output) = restored(&file, &home, &["--skip-before", "2100-01-01T00:00:00Z"]).await;
    assert!(
        output.contains("0 deliveries are pending") && output.contains("3 deliveries of older"),
        "{output}"
    );
    let relay = Relay::start_in(&other, &[]).await;
    let client = relay.client();
    let new = client.publish("a", json!("after")).await;
    client.delivery_in_state(&new, "delivered").await;
    assert_eq!(receiver.hits().len(), 4, "an older event was sent again");
    let skipped = client.list("/v1/deliveries?state=skipped").await;
    assert_eq!(skipped.len(), 3);
    assert!(skipped.iter().all(|delivery| delivery["reason"] == "restored from a backup"), "{skipped:?}");
    let replay = client.post("/v1/replays", json!({"mode": "skipped"})).await;
    assert!(replay.status.is_success(), "{}", replay.text());
    receiver.hits_when("the older events", |hits| hits.len() >= 7).await;
    relay.stop().await;
}

#[tokio::test]
async fn existing_store_is_not_replaced_by_a_restore() {
    let receiver = Receiver::start(|_| Act::Drop).await;
    let relay = Relay::start().await;
    let home = Arc::clone(relay.client().home());
    relay.client().endpoint(&receiver).await;
    let file = back_up(&home).await;
    // Running, and stopped.
    let (code, _, log) = restore(&file, &home.data(), &[]).await;
    assert_eq!(code, Some(1));
    assert!(log.contains("there is a store in") && log.contains("--data"), "{log}");
    relay.stop().await;
    let before = std::fs::read(home.database()).unwrap();
    let (code, _, _) = restore(&file, &home.data(), &[]).await;
    assert_eq!(code, Some(1));
    assert_eq!(std::fs::read(home.database()).unwrap(), before);
    let (code, _, log) = restore(&file.with_file_name("missing.db"), &Home::new().data(), &[]).await;
    assert_eq!(code, Some(1));
    assert!(log.contains("missing.db"), "{log}");
}
