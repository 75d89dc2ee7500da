//! Backups of a running and of a stopped relay.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::StatusCode;
use motet::rng::Rng;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::harness::{Client, Home, Relay, SmallDisk, eventually, program, within};

/// Starts a backup into the directory of backups, and waits for its end.
async fn back_up(client: &Client) -> Value {
    let started = client.post("/v1/backups", json!({})).await;
    assert_eq!(started.status, StatusCode::ACCEPTED, "{}", started.text());
    let path = format!("/v1/backups/{}", started.json()["name"].as_str().unwrap());
    eventually("the backup to end", || async {
        let backup = client.get(&path).await.json();
        (backup["state"] != "running").then_some(backup)
    })
    .await
}

/// Runs `motet-relay backup`. Returns its exit code, its output and its messages.
async fn command(home: &Home, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = program();
    command.env("RUST_LOG", "error").arg("backup").args(args).arg("--data").arg(home.data());
    let output = within("the command to end", command.output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn events_in(file: &Path) -> usize {
    let copy = Connection::open(file).unwrap();
    let verdict: String = copy.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    copy.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap()
}

fn files_in(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort_unstable();
    files
}

async fn metric(client: &Client, name: &str) -> Option<f64> {
    let text = client.get("/metrics").await.text();
    let line = text.lines().find(|line| line.split([' ', '{']).next() == Some(name))?;
    Some(line.rsplit(' ').next()?.parse().unwrap())
}

#[tokio::test]
async fn requested_backup_is_in_the_directory_and_in_the_metrics() {
    let relay = Relay::start().await;
    let client = relay.client();
    let events = [client.publish("a", json!(1)).await, client.publish("a", json!(2)).await];
    assert_eq!(metric(client, "relay_backup_age_seconds").await, None);
    let backup = back_up(client).await;
    assert_eq!(backup["state"], "finished", "{backup}");
    let file = client.home().data().join("backups").join(backup["name"].as_str().unwrap());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(events_in(&file), events.len());
    let listed = client.get("/v1/backups").await.json();
    assert_eq!(listed["items"], json!([backup]));
    eventually("the metrics to have the backup", || async {
        let bytes = metric(client, "relay_backup_bytes").await?;
        assert_eq!(json!(bytes as u64), backup["bytes"]);
        assert!(metric(client, "relay_backup_age_seconds").await? >= 0.0);
        Some(())
    })
    .await;
    assert_eq!(client.get("/v1/backups/relay.db").await.status, StatusCode::NOT_FOUND);
    relay.stop().await;
}

#[tokio::test]
async fn client_of_the_api_cannot_name_a_file() {
    let relay = Relay::start().await;
    let file = relay.client().home().data().join("named.db");
    let refused = relay.client().post("/v1/backups", json!({"to": file.to_str().unwrap()})).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.problem().contains("backup --to"), "{}", refused.problem());
    assert!(!file.exists());
}

#[tokio::test]
async fn command_copies_a_running_and_a_stopped_relay() {
    let relay = Relay::start().await;
    let home = Arc::clone(relay.client().home());
    relay.client().publish("a", json!(1)).await;
    let running = home.data().join("../running.db");
    let (code, output, log) = command(&home, &["--to", running.to_str().unwrap()]).await;
    assert_eq!(code, Some(0), "{log}");
    assert!(output.contains("running.db (") && output.contains(" bytes)"), "{output}");
    assert_eq!(events_in(&running), 1);
    // An existing file is never replaced.
    let (code, _, log) = command(&home, &["--to", running.to_str().unwrap()]).await;
    assert_eq!(code, Some(1));
    assert!(log.contains("there is no backup") && log.contains("exists already"), "{log}");
    relay.stop().await;

    let stopped = home.data().join("../stopped.db");
    let (code, output, log) = command(&home, &["--json", "--to", stopped.to_str().unwrap()]).await;
    assert_eq!(code, Some(0), "{log}");
    let shown: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(shown["bytes"], fs::metadata(&stopped).unwrap().len());
    assert_eq!(events_in(&stopped), 1);
    let (code, _, log) = command(&home, &[]).await;
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(files_in(&home.data().join("backups")).len(), 1);
}

/// A backup that cannot be written is reported, and disturbs nothing else.
async fn check_failed_backup(relay: &Relay, directory: &Path, why: &str) {
    let client = relay.client();
    let backup = back_up(client).await;
    assert_eq!(backup["state"], "failed", "{backup}");
    let error = backup["error"].as_str().unwrap();
    assert!(error.contains(why) && error.contains(directory.to_str().unwrap()), "{error}");
    relay.log_line("a backup failed").await;
    assert_eq!(client.get("/readyz").await.status, StatusCode::OK);
    client.publish("after", json!(1)).await;
    eventually("the metrics to have the failure", || async {
        (metric(client, "relay_backup_failures_total").await == Some(1.0)).then_some(())
    })
    .await;
    assert_eq!(client.get("/v1/backups").await.json()["items"], json!([backup]));
    assert!(files_in(directory).is_empty(), "{:?}", files_in(directory));
}

#[tokio::test]
async fn backup_on_a_full_disk_fails_and_relay_works_on() {
    let home = Home::new();
    let directory = home.data().with_file_name("elsewhere");
    let Some(_disk) = SmallDisk::mount(&directory, "1m") else {
        println!("cannot mount a file system here");
        return;
    };
    let relay = Relay::start_in(&home, &["--backup-dir", directory.to_str().unwrap()]).await;
    for n in 0..10 {
        relay.client().publish("large", json!({"n": n, "filler": "x".repeat(200_000)})).await;
    }
    check_failed_backup(&relay, &directory, "bytes free").await;
    relay.stop().await;
}

#[tokio::test]
async fn backup_on_a_read_only_disk_fails_and_relay_works_on() {
    let home = Home::new();
    let directory = home.data().with_file_name("elsewhere");
    let Some(disk) = SmallDisk::mount(&directory, "8m") else {
        println!("cannot mount a file system here");
        return;
    };
    disk.make_read_only();
    let relay = Relay::start_in(&home, &["--backup-dir", directory.to_str().unwrap()]).await;
    check_failed_backup(&relay, &directory, "Read-only").await;
    relay.stop().await;
}

#[tokio::test]
async fn schedule_makes_backups_and_keeps_the_newest() {
    let home = Home::new();
    let relay = Relay::start_in(&home, &["--backup-every", "300ms", "--backup-keep", "2"]).await;
    let directory = home.data().join("backups");
    fs::write(directory.with_file_name("backups.txt"), "").unwrap();
    let finished = || {
        let mut files = files_in(&directory);
        files.retain(|file| file.extension().is_some_and(|end| end == "db"));
        files
    };
    let first = eventually("the first backup", || async { finished().into_iter().next() }).await;
    eventually("the first backup to be deleted", || async { (!first.exists()).then_some(()) }).await;
    assert!((1..=3).contains(&finished().len()), "{:?}", finished());
    relay.stop().await;
    // A start after the interval makes a backup at once, and one before it does not.
    let newest = finished().pop().unwrap();
    let relay = Relay::start_in(&home, &["--backup-every", "1h"]).await;
    relay.client().publish("a", json!(1)).await;
    relay.stop().await;
    assert_eq!(finished().pop(), Some(newest));
}

/// `cargo xtask verify` uses a higher number.
fn rounds() -> u64 {
    std::env::var("MOTET_TEST_KILL_ROUNDS").map_or(10, |rounds| rounds.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_are_whole_and_no_others_are_left_after_kills() {
    let seed = motet::rng::with(Rng::next_u64);
    let mut rng = Rng::seeded(seed);
    println!("seed {seed}");
    let home = Home::new();
    let directory = home.data().join("backups");
    let mut relay = Relay::start_in(&home, &[]).await;
    for n in 0..40 {
        relay.client().publish("large", json!({"n": n, "filler": "x".repeat(100_000)})).await;
    }
    let mut published = 40;
    for round in 0..rounds() {
        let started = relay.client().post("/v1/backups", json!({})).await;
        assert_eq!(started.status, StatusCode::ACCEPTED, "{}", started.text());
        // Each moment from the first page to the rename.
        for _ in 0..rng.below(8) {
            relay.client().publish("a", json!(1)).await;
            published += 1;
        }
        relay.kill().await;
        relay = Relay::start_in(&home, &[]).await;
        for file in files_in(&directory) {
            assert!(
                file.extension().is_some_and(|end| end == "db"),
                "{file:?} in round {round} (seed {seed})"
            );
            assert!(events_in(&file) >= 40);
        }
        // Not all of them are kept, so that the test's disk stays small.
        for old in files_in(&directory).into_iter().rev().skip(2) {
            fs::remove_file(old).unwrap();
        }
    }
    assert_eq!(relay.client().list("/v1/events").await.len(), published);
    let backup = back_up(relay.client()).await;
    assert_eq!(backup["state"], "finished", "{backup}");
    relay.stop().await;
}
