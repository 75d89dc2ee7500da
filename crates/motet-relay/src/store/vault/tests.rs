use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use motet::task::{Nursery, scope};

use crate::clock::Clock;
use crate::config::{AutoDisable, KeySource, StoreUse};
use crate::error::{KeyFileError, OpenError};
use crate::masked::Masked;
use crate::signature::Secret;
use crate::store::tests::{new_endpoint, open_turn, options_in, published};
use crate::store::{
    EndpointChange, NewEndpoint, RekeyReport, RekeyState, Store, StoreError, StoreOptions, TenantSeq,
};

const TENANT: TenantSeq = TenantSeq::DEFAULT;

/// Recognisable values. None of them may be in a file of an encrypted store.
const SECRET: &str = "whsec_UkVDT0dOSVNBQkxFLVNFQ1JFVC1PRi1BTi1FTkRQT0lOVA==";
const NEW_SECRET: &str = "whsec_QU5PVEhFUi1SRUNPR05JU0FCTEUtU0VDUkVULU9GLUlU";
const HEADER: &str = "Bearer recognisable-header-value";

/// A data directory with key files beside it.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    /// Writes a key file with these keys: their ids, and the byte that fills them.
    fn keys(&self, keys: &[(&str, u8)]) -> KeySource {
        let path = self.0.path().join("keys");
        let line = |(id, byte): &(&str, u8)| format!("{id}:{}\n", STANDARD.encode([*byte; 32]));
        let text: String = keys.iter().map(line).collect();
        let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        std::io::Write::write_all(&mut file.unwrap(), text.as_bytes()).unwrap();
        KeySource::File(path)
    }

    fn options(&self, secret_keys: KeySource) -> StoreOptions {
        StoreOptions { secret_keys, ..options_in(&self.data(), AutoDisable::default()) }
    }

    /// Runs the test with the store, which is opened with these keys.
    async fn run<T>(&self, secret_keys: KeySource, test: impl AsyncFnOnce(&Store) -> T) -> T {
        run(&self.options(secret_keys), test).await
    }

    /// The reason why the store is not opened with these keys.
    async fn refusal(&self, options: &StoreOptions) -> OpenError {
        let mut refusal = None;
        scope(async |n: &Nursery| {
            refusal = Some(Store::open(options, Clock::new(), n).map(drop).unwrap_err());
            Ok(())
        })
        .await
        .unwrap();
        refusal.unwrap()
    }

    /// The recognisable values that are in the files of the store.
    fn shown(&self) -> Vec<&'static str> {
        shown_in(&self.data())
    }
}

fn shown_in(directory: &Path) -> Vec<&'static str> {
    let mut shown = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        let has = |text: &&&str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        shown.extend([SECRET, NEW_SECRET, HEADER].iter().filter(has).copied());
    }
    shown
}

async fn run<T>(options: &StoreOptions, test: impl AsyncFnOnce(&Store) -> T) -> T {
    let mut result = None;
    scope(async |n: &Nursery| {
        let store = Store::open(options, Clock::new(), n).unwrap();
        result = Some(test(&store).await);
        store.close().await.unwrap();
        Ok(())
    })
    .await
    .unwrap();
    result.unwrap()
}

/// Creates an endpoint with recognisable secrets, of which one was replaced.
async fn secretive(store: &Store) -> i64 {
    let headers = [("authorization".to_owned(), HEADER.to_owned())].into();
    let new =
        NewEndpoint { headers: Masked(headers), secret: Secret::parse(SECRET).unwrap(), ..new_endpoint() };
    let seq = store.create_endpoint(TENANT, new).await.unwrap().seq;
    let secret = Some(Secret::parse(NEW_SECRET).unwrap());
    let change = EndpointChange { secret, ..EndpointChange::default() };
    store.update_endpoint(TENANT, seq, change).await.unwrap().unwrap();
    seq
}

/// Checks that an attempt at the endpoint gets its secrets.
async fn assert_readable(store: &Store, endpoint: i64) {
    let row = store.endpoint(TENANT, endpoint).await.unwrap().unwrap();
    assert_eq!(row.secret.as_ref().map(Secret::expose).as_deref(), Some(NEW_SECRET), "{row:?}");
    let (target, _) = open_turn(store, endpoint).await;
    assert_eq!(target.secret.expose(), NEW_SECRET);
    assert_eq!(target.old_secrets.at(0).map(Secret::expose).collect::<Vec<_>>(), [SECRET]);
    assert_eq!(target.headers["authorization"], HEADER);
    let shown = format!("{row:?} {target:?}");
    assert!([SECRET, NEW_SECRET, HEADER].iter().all(|secret| !shown.contains(secret)), "{shown}");
}

async fn sql(store: &Store, statement: &'static str) {
    store.write(1, move |tx| Ok(tx.connection.execute(statement, []).map(drop)?)).await.unwrap();
}

async fn text(store: &Store, query: &'static str) -> String {
    store.shared.readers.read(move |c| Ok(c.query_row(query, [], |row| row.get(0))?)).await.unwrap()
}

/// Waits for the end of a change of keys.
async fn rekeyed(store: &Store) -> RekeyReport {
    tokio::time::timeout(std::time::Duration::from_secs(60), async {
        loop {
            let (report, _) = store.rekey_report();
            if report.state == RekeyState::Finished {
                return report;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn secrets_are_in_no_file_of_an_encrypted_store() {
    let home = Home::new();
    let keys = home.keys(&[("k1", 1)]);
    let endpoint = home
        .run(keys.clone(), async |store| {
            let endpoint = secretive(store).await;
            assert_readable(store, endpoint).await;
            assert_eq!(home.shown(), [""; 0], "while relay runs");
            endpoint
        })
        .await;
    assert_eq!(home.shown(), [""; 0]);
    home.run(keys, async |store| assert_readable(store, endpoint).await).await;
    // The test would find them.
    let plain = Home::new();
    plain.run(KeySource::Plaintext, async |store| secretive(store).await).await;
    assert_eq!(plain.shown().len(), 3);
}

#[tokio::test]
async fn first_start_creates_a_key_file_that_the_next_starts_use() {
    let home = Home::new();
    let endpoint = home.run(KeySource::Auto, async |store| secretive(store).await).await;
    assert_eq!(home.shown(), [""; 0]);
    let created = fs::read(home.0.path().join("data.keys")).unwrap();
    home.run(KeySource::Auto, async |store| assert_readable(store, endpoint).await).await;
    assert_eq!(fs::read(home.0.path().join("data.keys")).unwrap(), created);
    fs::remove_file(home.0.path().join("data.keys")).unwrap();
    let refusal = home.refusal(&home.options(KeySource::Auto)).await;
    let OpenError::NoKeyFile { path, wanted, .. } = &refusal else { panic!("{refusal}") };
    assert!(path.ends_with("data.keys") && String::from_utf8(created).unwrap().contains(&**wanted));
    assert!(refusal.to_string().contains("--key-file"), "{refusal}");
}

#[tokio::test]
async fn store_without_its_key_is_refused_and_stays_as_it_is() {
    let home = Home::new();
    home.run(home.keys(&[("k1", 1)]), async |store| secretive(store).await).await;
    let before = fs::read(home.data().join("relay.db")).unwrap();
    for (keys, expected) in [(("k2", 2), false), (("k1", 9), true)] {
        let refusal = home.refusal(&home.options(home.keys(&[keys]))).await;
        let OpenError::WrongKey { path, wanted, is_another, .. } = &refusal else { panic!("{refusal}") };
        assert_eq!((wanted.as_str(), *is_another), ("k1", expected));
        assert!(path.ends_with("keys") && refusal.to_string().contains("k1"), "{refusal}");
    }
    let refusal = home.refusal(&home.options(KeySource::Plaintext)).await;
    assert!(matches!(refusal, OpenError::Encrypted { ref wanted, .. } if wanted == "k1"), "{refusal}");
    let missing = KeySource::File(home.0.path().join("missing"));
    let refusal = home.refusal(&home.options(missing)).await;
    assert!(matches!(refusal, OpenError::KeyFile { source: KeyFileError::Io(_), .. }), "{refusal}");
    assert_eq!(fs::read(home.data().join("relay.db")).unwrap(), before);
}

#[tokio::test]
async fn key_file_is_not_created_where_it_would_be_lost() {
    let home = Home::new();
    // `/dev/shm` is another file system than its parent.
    let Ok(mount) = tempfile::tempdir_in("/dev/shm") else { return };
    if fs::metadata("/dev/shm").map(|m| std::os::unix::fs::MetadataExt::dev(&m)).ok()
        == fs::metadata("/dev").map(|m| std::os::unix::fs::MetadataExt::dev(&m)).ok()
    {
        return;
    }
    drop(mount);
    let created = crate::encryption::create(Path::new("/dev/shm.keys"), Path::new("/dev/shm"));
    assert!(matches!(created, Err(KeyFileError::Mount)), "{created:?}");
    drop(home);
}

#[tokio::test]
async fn plain_store_is_encrypted_at_its_next_start() {
    let home = Home::new();
    let mut endpoints = Vec::new();
    home.run(KeySource::Plaintext, async |store| {
        for _ in 0..250 {
            endpoints.push(secretive(store).await);
        }
    })
    .await;
    assert_eq!(home.shown().len(), 3);
    home.run(KeySource::Auto, async |store| {
        let report = rekeyed(store).await;
        assert_eq!(
            (report.total, report.done, report.changed, report.lost),
            (250, 250, 250, 0),
            "{report:?}"
        );
        assert_eq!(home.shown(), [""; 0], "while relay runs");
        for endpoint in [endpoints[0], endpoints[249]] {
            assert_readable(store, endpoint).await;
        }
    })
    .await;
    assert_eq!(home.shown(), [""; 0]);
    home.run(KeySource::Auto, async |store| assert_eq!(store.rekey_report().0.state, RekeyState::Idle)).await;
}

#[tokio::test]
async fn rotation_encrypts_everything_with_the_new_key() {
    let home = Home::new();
    let endpoint = home
        .run(home.keys(&[("k1", 1)]), async |store| {
            let endpoint = secretive(store).await;
            // Without the old key the file is refused, and nothing changes.
            home.keys(&[("k2", 2)]);
            let refused = store.rekey().await.unwrap_err();
            assert!(matches!(&refused, StoreError::KeyFile(why) if why.contains("k1")), "{refused}");
            home.keys(&[("k2", 2), ("k1", 1)]);
            store.rekey().await.unwrap();
            let report = rekeyed(store).await;
            assert_eq!((report.key.as_deref(), report.changed), (Some("k2"), 1), "{report:?}");
            assert_eq!(report.unneeded_keys, ["k1"]);
            assert_readable(store, endpoint).await;
            // A repetition finds nothing to do.
            store.rekey().await.unwrap();
            assert_eq!(rekeyed(store).await.changed, 0);
            endpoint
        })
        .await;
    let refusal = home.refusal(&home.options(home.keys(&[("k1", 1)]))).await;
    assert!(matches!(refusal, OpenError::WrongKey { ref wanted, .. } if wanted == "k2"), "{refusal}");
    home.run(home.keys(&[("k2", 2)]), async |store| assert_readable(store, endpoint).await).await;
}

#[tokio::test]
async fn interrupted_rotation_needs_both_keys_and_continues() {
    let home = Home::new();
    let endpoint = home.run(home.keys(&[("k1", 1)]), async |store| secretive(store).await).await;
    let both = home.keys(&[("k2", 2), ("k1", 1)]);
    // The process ends after the request: the change is announced, and nothing is encrypted yet.
    let command =
        StoreOptions { store_use: StoreUse::Command { lost_key: None }, ..home.options(both.clone()) };
    let second = run(&command, async |store| secretive(store).await).await;
    for keys in [("k1", 1), ("k2", 2)] {
        let refusal = home.refusal(&home.options(home.keys(&[keys]))).await;
        assert!(matches!(refusal, OpenError::WrongKey { .. }), "{refusal}");
    }
    home.keys(&[("k2", 2), ("k1", 1)]);
    home.run(both, async |store| {
        let report = rekeyed(store).await;
        assert_eq!((report.done, report.changed), (2, 1), "{report:?}");
        assert_eq!(report.unneeded_keys, ["k1"]);
        for endpoint in [endpoint, second] {
            assert_readable(store, endpoint).await;
        }
    })
    .await;
    home.run(home.keys(&[("k2", 2)]), async |store| assert_readable(store, endpoint).await).await;
}

#[tokio::test]
async fn undecryptable_secret_holds_one_endpoint_until_replaced() {
    let home = Home::new();
    home.run(home.keys(&[("k1", 1)]), async |store| {
        let [broken, healthy] = [secretive(store).await, secretive(store).await];
        // As if a row had been copied from another store.
        sql(
            store,
            "UPDATE endpoints SET secret = (SELECT secret FROM endpoints WHERE seq = 2) WHERE seq = 1",
        )
        .await;
        published(store, TENANT, crate::store::tests::event("a")).await;
        let turn = store.turn(broken, 16, Vec::new()).await.unwrap();
        assert!(matches!(turn.state, crate::store::TurnState::Held), "{turn:?}");
        assert_eq!(open_turn(store, healthy).await.1.len(), 1);
        assert_eq!(store.pending_of(broken), 1, "its delivery waits");
        let health = store.health().await.unwrap_err();
        assert!(matches!(&health, StoreError::Undecryptable(why) if why.contains("endpoint 1")), "{health}");
        let row = store.endpoint(TENANT, broken).await.unwrap().unwrap();
        assert!(matches!(row.secret(), Err(StoreError::Undecryptable(_))));
        assert_eq!(store.endpoints(None, None, 10).await.unwrap().len(), 2, "lists show it");
        // A change of another field leaves the stored secrets alone.
        let stored = text(store, "SELECT secret FROM endpoints WHERE seq = 1").await;
        let headers = Some(Masked(crate::store::Merge::Replace(Default::default())));
        let change = EndpointChange { headers, ..EndpointChange::default() };
        store.update_endpoint(TENANT, broken, change).await.unwrap().unwrap();
        assert_eq!(text(store, "SELECT secret FROM endpoints WHERE seq = 1").await, stored);

        let secret = Some(Secret::parse(NEW_SECRET).unwrap());
        let change = EndpointChange { secret, ..EndpointChange::default() };
        store.update_endpoint(TENANT, broken, change).await.unwrap().unwrap();
        let (target, due) = open_turn(store, broken).await;
        assert_eq!((target.secret.expose().as_str(), due.len()), (NEW_SECRET, 1));
        assert_eq!(store.health().await, Ok(()));
    })
    .await;
}

#[tokio::test]
async fn lost_key_is_given_up_and_its_endpoints_are_reported() {
    let home = Home::new();
    let endpoint = home.run(home.keys(&[("k1", 1)]), async |store| secretive(store).await).await;
    let options = home.options(home.keys(&[("k2", 2)]));
    let command = |lost: &str| StoreOptions {
        store_use: StoreUse::Command { lost_key: Some(lost.to_owned()) },
        ..options.clone()
    };
    let refusal = home.refusal(&command("k3")).await;
    assert!(matches!(refusal, OpenError::WrongKey { .. }), "{refusal}");
    run(&command("k1"), async |store| {
        store.rekey().await.unwrap();
        let report = rekeyed(store).await;
        assert_eq!((report.lost, report.lost_endpoints), (1, vec![endpoint]));
    })
    .await;
    run(&options, async |store| {
        assert!(store.endpoint(TENANT, endpoint).await.unwrap().unwrap().secret.is_none());
        let second = secretive(store).await;
        assert_readable(store, second).await;
    })
    .await;
}

#[tokio::test]
async fn command_leaves_a_plain_store_as_it_is() {
    let home = Home::new();
    home.run(KeySource::Plaintext, async |store| secretive(store).await).await;
    let command =
        StoreOptions { store_use: StoreUse::Command { lost_key: None }, ..home.options(KeySource::Auto) };
    run(&command, async |store| {
        assert!(matches!(store.rekey().await, Err(StoreError::KeyFile(_))));
        secretive(store).await;
    })
    .await;
    assert!(!home.0.path().join("data.keys").exists());
    home.run(KeySource::Plaintext, async |store| assert_readable(store, 1).await).await;
}
