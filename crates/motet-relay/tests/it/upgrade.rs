//! Stores of older versions, which a newer relay upgrades.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use serde_json::json;

use crate::harness::{Home, LOOPBACK, Receiver, Relay, SmallDisk, eventually, program, within};

/// The first key of the store.
const KEY: &str = "rk_86arckyi_iXtniePBugAt6dDa1iqBQukulf95dF8MNUazdyoF2IP";

/// A stopped data directory with a store of version 10.
fn version_10() -> Arc<Home> {
    let home = Home::new();
    fs::create_dir_all(home.data()).unwrap();
    let store = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/stores/version-10.db");
    fs::copy(store, home.database()).unwrap();
    home.set_key(Some(KEY.to_owned()));
    home
}

fn version_of(database: &Path) -> i64 {
    let opened = Connection::open(database).unwrap();
    opened.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

/// Returns the files in the directory of backups.
fn backups(home: &Home) -> Vec<PathBuf> {
    match fs::read_dir(home.data().join("backups")) {
        Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
        Err(_) => Vec::new(),
    }
}

#[tokio::test]
async fn upgraded_store_delivers_its_pending_events() {
    let home = version_10();
    let receiver = Receiver::accepting().await;
    assert_eq!(home.sql(&format!("UPDATE endpoints SET url = '{}'", receiver.url())), 5);
    let relay = Relay::start_in(&home, &[]).await;
    relay.log_line("the store was upgraded").await;
    let client = relay.client();
    let endpoints = client.list("/v1/tenants/acme/endpoints").await;
    let waiting = endpoints.iter().find(|endpoint| endpoint["uid"] == "waits").unwrap();
    let id = waiting["id"].as_str().unwrap();
    let in_state =
        async |state: &str| client.list(&format!("/v1/tenants/acme/deliveries?state={state}")).await.len();
    assert_eq!((in_state("pending").await, in_state("dead").await, in_state("skipped").await), (5, 5, 5));
    let resumed = client.post(&format!("/v1/tenants/acme/endpoints/{id}/resume"), json!({})).await;
    assert!(resumed.status.is_success(), "{}", resumed.text());
    let hits = receiver.hits_when("the pending events", |hits| hits.len() >= 5).await;
    assert!(hits.iter().all(|hit| hit.json()["data"]["text"] == "é ü"), "{hits:?}");
    eventually("the deliveries to be recorded", || async { (in_state("pending").await == 0).then_some(()) })
        .await;
    assert_eq!(client.list("/v1/tenants/acme/replays").await.len(), 1);
    let dead = client.list("/v1/tenants/acme/dead-letters").await;
    let path = format!("/v1/tenants/acme/deliveries/{}/resend", dead[0]["id"].as_str().unwrap());
    assert!(client.post(&path, json!({})).await.status.is_success());
    receiver.hits_when("the dead letter", |hits| hits.len() >= 6).await;
    client.publish("order.paid", json!(8)).await;
    receiver.hits_when("the new event", |hits| hits.len() >= 7).await;
    eventually("the secrets to be encrypted", || async {
        (client.get("/v1/rekey").await.json()["state"] == "finished").then_some(())
    })
    .await;
    let plain = "SELECT count(*) FROM endpoints WHERE secret LIKE 'whsec_%' OR headers LIKE '{\"%'";
    assert_eq!(home.count(plain), 0);
    relay.stop().await;

    let made = backups(&home);
    let [backup] = &made[..] else { panic!("{made:?}") };
    assert_eq!((version_of(backup), version_of(&home.database())), (10, 11));
    // The next start has nothing to upgrade.
    Relay::start_in(&home, &[]).await.stop().await;
    assert_eq!(backups(&home), made);
}

#[tokio::test]
async fn backup_of_an_upgrade_opens_as_a_store_of_its_own() {
    let home = version_10();
    Relay::start_in(&home, &[]).await.stop().await;
    let other = Home::new();
    fs::create_dir_all(other.data()).unwrap();
    fs::copy(&backups(&home)[0], other.database()).unwrap();
    other.set_key(home.key());
    let relay = Relay::start_in(&other, &[]).await;
    assert_eq!(relay.client().list("/v1/tenants/acme/events").await.len(), 5);
    relay.stop().await;
}

/// The moments are those that can be seen from outside; each store is whole, whichever version it has.
#[tokio::test]
async fn process_killed_during_an_upgrade_leaves_a_whole_store() {
    let ends = |home: &Home, end: &str| {
        backups(home).iter().any(|path| path.to_str().is_some_and(|path| path.ends_with(end)))
    };
    for (round, moment) in [".partial", ".db"].into_iter().cycle().take(12).enumerate() {
        let home = version_10();
        let mut serve = program();
        serve.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(home.data()).args(LOOPBACK);
        let mut serve = serve.stderr(std::process::Stdio::null()).spawn().unwrap();
        within(moment, async {
            // The finished backup has no other name than the partial one for long, so the later moment counts as well.
            while !(ends(&home, moment) || ends(&home, ".db")) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        serve.kill().await.unwrap();
        let found = version_of(&home.database());
        assert!([10, 11].contains(&found), "version {found} in round {round}");
        let relay = Relay::start_in(&home, &[]).await;
        assert_eq!(relay.client().list("/v1/tenants/acme/deliveries").await.len(), 20);
        relay.stop().await;
        assert_eq!(version_of(&home.database()), 11);
        assert!(!ends(&home, ".partial"), "{:?}", backups(&home));
    }
}

/// Starts relay on a store that it must not upgrade, and returns its message.
async fn refusal(home: &Home) -> String {
    let before = fs::read(home.database()).unwrap();
    let serve = program().args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(home.data()).output();
    let output = within("relay to refuse", serve).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::read(home.database()).unwrap(), before);
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("nothing was changed"), "{log}");
    log
}

#[tokio::test]
async fn upgrade_is_refused_if_its_backup_cannot_be_made() {
    let home = version_10();
    // A file where the directory of the backups has to be, as on a disk that cannot be written there.
    fs::write(home.data().join("backups"), "").unwrap();
    let log = refusal(&home).await;
    assert!(log.contains("cannot make the backup before an upgrade"), "{log}");
}

#[tokio::test]
async fn upgrade_without_space_for_its_backup_names_the_size() {
    let home = version_10();
    let Some(_disk) = SmallDisk::mount(&home.data().join("backups"), "4m") else {
        println!("cannot mount a file system here");
        return;
    };
    let log = refusal(&home).await;
    // The size of the store, and 16 MiB.
    assert!(log.contains("needs 16965632 bytes") && log.contains("4194304 bytes free"), "{log}");
    assert!(backups(&home).is_empty());
}
