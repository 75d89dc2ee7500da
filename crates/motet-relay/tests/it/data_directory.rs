//! Data directories that relay must refuse, and the messages that it prints.

use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use serde_json::json;

use crate::harness::{Home, Relay, program, within};

/// Starts relay on a directory that it must refuse. Returns its error message.
async fn refusal(data: &Path) -> String {
    let serve = program().args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).output();
    let output = within("relay to refuse", serve).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8(output.stderr).unwrap();
    log.lines()
        .find(|line| line.starts_with("error: "))
        .unwrap_or_else(|| panic!("no error message:\n{log}"))
        .to_owned()
}

/// Creates a stopped data directory with one event.
async fn used() -> Arc<Home> {
    let relay = Relay::start().await;
    let home = Arc::clone(relay.client().home());
    for n in 0..50 {
        relay.client().publish("kept", json!({"n": n, "filler": "x".repeat(1_000)})).await;
    }
    relay.stop().await;
    home
}

#[tokio::test]
async fn second_process_is_refused_and_the_first_works_on() {
    let relay = Relay::start().await;
    let message = refusal(&relay.client().home().data()).await;
    assert!(message.contains("in use by process") && message.contains(&relay.pid().to_string()), "{message}");
    assert!(message.contains("--data"), "{message}");
    relay.client().publish("still.works", json!({})).await;
}

#[tokio::test]
async fn second_process_is_refused_without_the_lock_file() {
    let relay = Relay::start().await;
    let data = relay.client().home().data();
    fs::remove_file(data.join("relay.lock")).unwrap();
    let message = refusal(&data).await;
    assert!(message.contains("in use by"), "{message}");
    relay.client().publish("still.works", json!({})).await;
}

#[tokio::test]
async fn events_are_refused_until_a_moved_directory_is_back() {
    let relay = Relay::start().await;
    let client = relay.client();
    let (data, elsewhere) = (client.home().data(), client.home().data().with_extension("moved"));
    fs::rename(&data, &elsewhere).unwrap();
    let refused = client.post("/v1/events", json!({"type": "a", "data": 1})).await;
    assert_eq!(refused.status.as_u16(), 503, "{}", refused.text());
    assert!(refused.problem().contains("moved or removed"), "{}", refused.problem());
    assert_eq!(client.get("/readyz").await.status.as_u16(), 503);
    // Another store at the same path is not the opened one.
    fs::create_dir(&data).unwrap();
    fs::copy(elsewhere.join("relay.db"), data.join("relay.db")).unwrap();
    let refused = client.post("/v1/events", json!({"type": "a", "data": 1})).await;
    assert!(refused.problem().contains("replaced"), "{}", refused.problem());
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&elsewhere, &data).unwrap();
    crate::harness::eventually("relay to be ready again", || async {
        client.get("/readyz").await.status.is_success().then_some(())
    })
    .await;
    client.publish("back", json!({})).await;
}

#[tokio::test]
async fn directory_may_have_a_name_like_a_uri() {
    let home = Home::new();
    fs::create_dir_all(home.data()).unwrap();
    let mut serve = program();
    serve.current_dir(home.data()).args(["--listen", "127.0.0.1:0", "--data", "file:x?mode=ro"]);
    let _relay = serve.spawn().unwrap();
    let database = home.data().join("file:x?mode=ro/relay.db");
    crate::harness::eventually("the store to be made", || async {
        fs::metadata(&database).is_ok_and(|found| found.len() > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn directory_of_a_killed_process_can_be_opened_again() {
    let relay = Relay::start().await;
    let home = Arc::clone(relay.client().home());
    relay.kill().await;
    Relay::start_in(&home, &[]).await.stop().await;
}

#[tokio::test]
async fn clean_stop_moves_the_wal_into_the_database_file() {
    let home = used().await;
    assert!(!home.data().join("relay.db-wal").exists(), "the log was not moved into the database");
    let events: u32 = Connection::open(home.database())
        .unwrap()
        .query_row("SELECT count(*) FROM events", [], |r| r.get(0))
        .unwrap();
    assert_eq!(events, 50);
}

#[tokio::test]
async fn database_of_another_version_is_refused_and_unchanged() {
    let home = used().await;
    for (version, what, what_to_do) in [
        (99, "written by a newer relay", "start the newer relay"),
        (3, "made by a development version", "start with an empty data directory"),
    ] {
        Connection::open(home.database()).unwrap().pragma_update(None, "user_version", version).unwrap();
        let before = fs::read(home.database()).unwrap();
        let message = refusal(&home.data()).await;
        assert!(
            message.contains(&format!("schema version {version}")) && message.contains("reads version"),
            "{message}"
        );
        assert!(message.contains(what) && message.contains(what_to_do), "{message}");
        assert_eq!(fs::read(home.database()).unwrap(), before);
    }
}

#[tokio::test]
async fn database_of_another_program_is_refused() {
    let home = Home::new();
    fs::create_dir_all(home.data()).unwrap();
    Connection::open(home.database()).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let message = refusal(&home.data()).await;
    assert!(message.contains("not a relay database"), "{message}");
}

#[tokio::test]
async fn file_that_is_no_database_is_refused() {
    let home = Home::new();
    fs::create_dir_all(home.data()).unwrap();
    fs::write(home.database(), "these are not the pages you are looking for ".repeat(200)).unwrap();
    let message = refusal(&home.data()).await;
    assert!(message.contains("damaged") && message.contains("nothing was changed"), "{message}");
}

#[tokio::test]
async fn small_database_with_damaged_pages_is_refused_at_start() {
    let home = used().await;
    let pages = fs::metadata(home.database()).unwrap().len() / 4096;
    assert!(pages > 10);
    let mut file = fs::OpenOptions::new().write(true).open(home.database()).unwrap();
    // Overwrites everything except the first page, which has the header and the schema.
    file.seek(SeekFrom::Start(4096)).unwrap();
    for _ in 1..pages {
        file.write_all(&[0xa5; 4096]).unwrap();
    }
    drop(file);
    let message = refusal(&home.data()).await;
    assert!(message.contains("damaged") && message.contains("backup"), "{message}");
}

#[tokio::test]
async fn directory_that_cannot_be_made_is_refused_with_its_name() {
    let home = Home::new();
    fs::create_dir_all(home.data()).unwrap();
    let file = home.data().join("file");
    fs::write(&file, "").unwrap();
    let message = refusal(&file.join("below")).await;
    assert!(message.contains(file.to_str().unwrap()), "{message}");
}

#[tokio::test]
async fn address_in_use_is_refused_with_the_option_to_change_it() {
    let relay = Relay::start().await;
    let other = Home::new();
    let address = relay.client().address.to_string();
    let serve = program().args(["--listen", &address, "--data"]).arg(other.data()).output();
    let output = within("relay to refuse", serve).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains(&address) && message.contains("--listen"), "{message}");
}

#[tokio::test]
async fn created_key_replaces_a_lost_one() {
    let home = used().await;
    let lost = home.key().unwrap();
    let key = |args: &[&str]| {
        let mut command = program();
        command.arg("key").args(args).arg("--data").arg(home.data());
        async move { within("the command to end", command.output()).await.unwrap() }
    };
    let output = key(&["create", "--scope", "admin"]).await;
    assert!(output.status.success());
    let new = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    assert!(new.starts_with("rk_"));
    assert!(key(&["revoke", lost.split('_').nth(1).unwrap()]).await.status.success());
    let relay = Relay::start_in(&home, &[]).await;
    // The client still has the key of the first start.
    assert_eq!(relay.client().get("/v1/events").await.status.as_u16(), 401);
    assert_eq!(relay.client().with_key(new).list("/v1/events").await.len(), 50);
}

fn full() -> std::process::Stdio {
    fs::OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

/// Runs a command that must fail. Returns its output.
async fn fails(mut command: tokio::process::Command) -> String {
    let child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let output = within("the command to end", child.wait_with_output()).await.unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    message
}

#[tokio::test]
async fn key_that_cannot_be_printed_is_revoked_and_others_stay_valid() {
    let home = used().await;
    let mut create = program();
    create.args(["key", "create", "--scope", "admin", "--name", "unseen", "--data"]).arg(home.data());
    create.stdout(full());
    let message = fails(create).await;
    assert!(message.contains("stay valid"), "{message}");
    let relay = Relay::start_in(&home, &[]).await;
    assert_eq!(relay.client().list("/v1/events").await.len(), 50);
    let unseen = &relay.client().list("/v1/keys").await[0];
    assert!(unseen["name"] == "unseen" && unseen["revoked_at"].is_string(), "{unseen}");
}

#[tokio::test]
async fn start_after_a_failed_first_start_prints_a_valid_key() {
    let other = Relay::start().await;
    let taken = other.client().address.to_string();
    let home = Home::new();
    for (listen, stdout) in [(taken.as_str(), std::process::Stdio::null()), ("127.0.0.1:0", full())] {
        let mut serve = program();
        serve.args(["--listen", listen, "--data"]).arg(home.data()).stdout(stdout);
        fails(serve).await;
        assert!(home.database().exists());
    }
    // Reads the key from standard output, and uses it.
    let relay = Relay::start_in(&home, &[]).await;
    relay.client().publish("works", json!({})).await;
}

#[tokio::test]
async fn data_is_readable_by_its_owner_only_and_hides_the_api_key() {
    use std::os::unix::fs::PermissionsExt as _;

    let home = used().await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&home.data()), 0o700);
    let text = fs::read(home.database()).unwrap();
    assert!(!text.windows(3).any(|w| w == b"rk_"), "the API key is stored in clear text");

    // In a directory that other users may read, they still cannot read the files of the store.
    let shared = Home::new();
    fs::create_dir_all(shared.data()).unwrap();
    fs::set_permissions(shared.data(), fs::Permissions::from_mode(0o755)).unwrap();
    let relay = Relay::start_in(&shared, &[]).await;
    relay.client().publish("kept", json!({})).await;
    let files: Vec<_> = fs::read_dir(shared.data()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 6, "{files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn store_restored_from_a_backup_repeats_no_id() {
    let relay = Relay::start().await;
    let home = Arc::clone(relay.client().home());
    relay.client().endpoint_at("http://127.0.0.1:9/", json!({"event_types": ["a"]})).await;
    relay.client().publish("a", json!({})).await;
    relay.stop().await;
    let backup = Home::new();
    fs::create_dir_all(backup.data()).unwrap();
    fs::copy(home.database(), backup.database()).unwrap();
    fs::copy(home.key_file(), backup.key_file()).unwrap();
    let key = home.key();
    let mut ids = std::collections::BTreeSet::new();
    for home in [home, backup] {
        home.set_key(key.clone());
        let relay = Relay::start_in(&home, &[]).await;
        let endpoint = relay.client().endpoint_at("http://127.0.0.1:9/", json!({"event_types": ["b"]})).await;
        assert!(ids.insert(endpoint), "two endpoints have one id");
        relay.client().publish("b", json!({})).await;
        for n in 0..10 {
            let id = relay.client().publish("after.the.backup", json!(n)).await;
            assert!(ids.insert(id), "two events have one id");
        }
        for item in
            relay.client().list("/v1/deliveries").await.into_iter().filter(|item| item["event_type"] == "b")
        {
            assert!(ids.insert(item["id"].as_str().unwrap().to_owned()), "two deliveries have one id");
        }
        relay.stop().await;
    }
}

#[tokio::test]
async fn wal_is_moved_into_the_database_while_relay_runs() {
    let relay = Relay::start().await;
    let database = relay.client().home().database();
    // Twice the size at which a checkpoint is requested.
    for n in 0..40 {
        relay.client().publish("large", json!({"n": n, "filler": "x".repeat(200_000)})).await;
    }
    crate::harness::eventually("the database to grow", || async {
        (fs::metadata(&database).unwrap().len() > 4 << 20).then_some(())
    })
    .await;
}
