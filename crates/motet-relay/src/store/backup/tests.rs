use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::value::RawValue;
use tokio::task::yield_now;

use crate::config::AutoDisable;
use crate::pattern::EventType;
use crate::store::tests::{event, with_store_in};
use crate::store::{NewEvent, Published, TenantSeq};
use crate::store::{Store, StoreError};

const TENANT: TenantSeq = TenantSeq::DEFAULT;

/// An event with data of about `bytes`.
fn large(bytes: usize) -> NewEvent {
    let data = RawValue::from_string(format!("\"{}\"", "x".repeat(bytes))).unwrap();
    NewEvent::new(EventType::parse("large").unwrap(), data)
}

async fn publish(store: &Store, event: NewEvent) -> i64 {
    match store.publish(TENANT, vec![event]).await.unwrap()[..] {
        [Published::Accepted { event, .. }] => event,
        ref other => panic!("{other:?}"),
    }
}

fn events_in(file: &std::path::Path) -> Vec<i64> {
    let copy = rusqlite::Connection::open(file).unwrap();
    assert_eq!(crate::store::schema::first_finding(&copy, "integrity_check").unwrap(), None);
    let mut statement = copy.prepare("SELECT seq FROM events ORDER BY seq").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_under_load_ends_with_all_earlier_events() {
    let directory = tempfile::tempdir().unwrap();
    with_store_in(directory.path(), AutoDisable::default(), async |store| {
        for _ in 0..100 {
            publish(store, large(200_000)).await;
        }
        let mut acknowledged = Vec::new();
        let started = store.start_backup(None).unwrap();
        // The log reaches 64 MiB before the end, so that the writer makes a checkpoint of its own.
        while store.running_backup().is_some() {
            acknowledged.push(publish(store, large(100_000)).await);
        }
        let ended = store.backup_ended().await.unwrap();
        assert_eq!(ended.name, started.name);
        let bytes = ended.result.unwrap();
        let file = directory.path().join("backups").join(&ended.name);
        assert_eq!(fs::metadata(&file).unwrap().len(), bytes);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let copied = events_in(&file);
        assert!(copied.len() >= 100, "{}", copied.len());
        assert!(!acknowledged.is_empty(), "nothing was published during the backup");
        // A state of one moment: the events are those up to one of them.
        let later = acknowledged.iter().filter(|seq| !copied.contains(seq)).count();
        let expected: Vec<_> = acknowledged.iter().copied().take(acknowledged.len() - later).collect();
        assert!(copied.ends_with(&expected), "an event is missing before one that is there");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_backup_at_the_same_time_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    with_store_in(directory.path(), AutoDisable::default(), async |store| {
        publish(store, large(200_000)).await;
        store.start_backup(None).unwrap();
        assert_eq!(store.start_backup(None).unwrap_err(), StoreError::BackupRunning);
        assert!(store.backup_ended().await.unwrap().result.is_ok());
        assert!(store.start_backup(None).is_ok());
        assert!(store.backup_ended().await.unwrap().result.is_ok());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_store_leaves_no_unfinished_backup() {
    for steps in [0, 1, 5, 20, 200] {
        let directory = tempfile::tempdir().unwrap();
        let backups = directory.path().join("backups");
        with_store_in(directory.path(), AutoDisable::default(), async |store| {
            for _ in 0..40 {
                publish(store, large(250_000)).await;
            }
            store.start_backup(None).unwrap();
            for _ in 0..steps {
                yield_now().await;
            }
        })
        .await;
        let left: Vec<_> =
            fs::read_dir(&backups).into_iter().flatten().map(|file| file.unwrap().path()).collect();
        for file in left {
            assert!(file.extension().is_some_and(|end| end == "db"), "{file:?}");
            assert_eq!(events_in(&file).len(), 40);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_backups_of_a_killed_process_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    let backups = directory.path().join("backups");
    fs::create_dir(&backups).unwrap();
    let stale = ["relay-20261201T014429.043Z.db.partial", "relay-20261201T014429.043Z.db.partial-wal"];
    let kept = ["mine.db.partial", "relay-20261201T014429.043Z.db", "notes.txt"];
    for name in stale.iter().chain(&kept) {
        fs::write(backups.join(name), "").unwrap();
    }
    with_store_in(directory.path(), AutoDisable::default(), async |_| {}).await;
    assert!(stale.iter().all(|name| !backups.join(name).exists()));
    assert!(kept.iter().all(|name| backups.join(name).exists()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_backup_leaves_the_store_writable_and_no_file() {
    let directory = tempfile::tempdir().unwrap();
    with_store_in(directory.path(), AutoDisable::default(), async |store| {
        let file = directory.path().join("taken.db");
        fs::write(&file, "mine").unwrap();
        for to in [file.clone(), directory.path().join("missing/a.db"), "/dev/null/a.db".into()] {
            store.start_backup(Some(to.clone())).unwrap();
            let error = store.backup_ended().await.unwrap().result.unwrap_err();
            assert!(error.contains(to.to_str().unwrap()), "{error}");
            publish(store, event("after")).await;
        }
        assert_eq!(fs::read(&file).unwrap(), b"mine");
        assert_eq!(store.latest_good_backup(), None);
        assert!(store.health().await.is_ok());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_backups_of_relay_are_deleted_by_age() {
    let directory = tempfile::tempdir().unwrap();
    let backups = directory.path().join("backups");
    fs::create_dir(&backups).unwrap();
    let names = [
        "relay-20251201T014429.043Z.db",
        "relay-20251202T014429.043Z.db",
        "relay-20251203T014429.043Z.db",
        // Made while the clock was wrong: it neither counts nor is deleted.
        "relay-29991203T014429.043Z.db",
        "before-upgrade-10-to-11-20251201T014429.043Z.db",
        "relay-old.db",
    ];
    for name in names {
        fs::write(backups.join(name), "").unwrap();
    }
    with_store_in(directory.path(), AutoDisable::default(), async |store| {
        store.prune_backups(2).await.unwrap();
        let files: Vec<_> = store.backup_files().await.unwrap().into_iter().map(|file| file.name).collect();
        assert_eq!(files, [names[3], names[2], names[1]]);
        assert_eq!(names.iter().filter(|name| backups.join(name).exists()).count(), 5);
    })
    .await;
}
