//! Change of keys: each secret in the store is encrypted with the first key of the key file, while relay runs.
//!
//! The steps are small commits between those of other writes, and need no cursor on disk: a step leaves the values alone
//! that the first key encrypts. Until the last step, a mark in `meta` shows that the change is pending, and the next start continues.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::damage::{end_of_damage, readable};
use super::erasure::overwriting;
use super::vault::{Resealed, SecretColumn};
use super::{Store, StoreError, Tx};
use crate::clock::Millis;
use crate::encryption::{SecretKeys, UnsealError};

/// Number of endpoints that one commit looks at.
const ENDPOINTS_PER_COMMIT: usize = 200;

/// Maximum pause between two steps.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The delay after a step that failed.
const RETRY: Duration = Duration::from_secs(1);

/// Maximum number of endpoints in a report.
const REPORTED: usize = 100;

/// How far a change of keys is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum RekeyState {
    /// There was none since the start, and none is pending.
    #[default]
    Idle,
    Running,
    Finished,
    /// It has stopped because of an error, and continues at the next start.
    Failed,
}

/// A report of the change of keys.
#[derive(Debug, Clone, Default)]
pub(crate) struct RekeyReport {
    pub(crate) state: RekeyState,
    /// The id of the key that encrypts.
    pub(crate) key: Option<String>,
    /// Number of endpoints, and of those that were looked at.
    pub(crate) total: u64,
    pub(crate) done: u64,
    /// Number of endpoints with values that were encrypted again.
    pub(crate) changed: u64,
    /// Number of endpoints with values that cannot be decrypted, and some of these endpoints.
    pub(crate) lost: u64,
    pub(crate) lost_endpoints: Vec<i64>,
    /// The keys of the file that no value in the store needs any more, once it has finished.
    pub(crate) unneeded_keys: Vec<String>,
    /// Why the last step failed; it is tried again.
    pub(crate) error: Option<String>,
    pub(crate) started_at: Option<Millis>,
    pub(crate) finished_at: Option<Millis>,
    /// The number of the request.
    number: u64,
}

/// The requests to change keys, and the report.
#[derive(Debug, Default)]
pub(super) struct Rekeying {
    report: Mutex<RekeyReport>,
    requested: Notify,
}

impl Rekeying {
    /// Requests a change to the first of the keys. A change in progress ends, and the next one begins.
    pub(super) fn request(&self, keys: &SecretKeys, now: Millis) -> RekeyReport {
        let mut report = self.report();
        *report = RekeyReport {
            state: RekeyState::Running,
            key: Some(keys.first_id().to_owned()),
            started_at: Some(now),
            number: report.number + 1,
            ..RekeyReport::default()
        };
        let report = report.clone();
        self.requested.notify_one();
        report
    }

    /// Changes the report, if it is still that of the request with this number.
    fn note(&self, number: u64, change: impl FnOnce(&mut RekeyReport)) {
        let mut report = self.report();
        if report.number == number {
            change(&mut report);
        }
    }

    fn report(&self) -> MutexGuard<'_, RekeyReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The extent of the last step of a change of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FinishExtent {
    /// The table is written again if it had values in clear text.
    Whole,
    /// Only the marks in `meta` are changed.
    Marks,
}

/// Writes the table of endpoints to other pages, so that its old pages are overwritten as a whole: when SQLite moves a row to
/// another page, it does not overwrite the old copy. All writes wait for it, about a second for 100 000 endpoints.
const REWRITE: &str = "CREATE TABLE endpoints_copy AS SELECT * FROM endpoints;
     DELETE FROM endpoints;
     INSERT INTO endpoints SELECT * FROM endpoints_copy ORDER BY seq;
     DROP TABLE endpoints_copy";

/// The result of a step.
#[derive(Debug, Default)]
struct RekeyStep {
    /// The last endpoint that was looked at; `None` if there is none.
    last: Option<i64>,
    seen: u64,
    changed: u64,
    /// Endpoints with values that cannot be decrypted, and the keys of these values.
    lost: Vec<(i64, Option<String>)>,
}

impl Store {
    /// Reads the key file again, and begins to encrypt all secrets with its first key.
    ///
    /// # Errors
    /// [`StoreError::KeyFile`] if the file cannot be used, or does not have a key that is in use.
    pub(crate) async fn rekey(&self) -> Result<RekeyReport, StoreError> {
        let vault = Arc::clone(&self.shared.vault);
        let read = self.shared.readers.read(move |_| vault.read_file()).await?;
        let keys = Arc::clone(&read.keys);
        self.write(1, move |tx| {
            tx.vault.begin(tx.connection, &read)?;
            // Writes use the new keys once the canary of the first one is on disk.
            tx.new_keys.push(read);
            Ok(())
        })
        .await?;
        Ok(self.shared.rekeying.request(&keys, self.clock().wall()))
    }

    /// Returns the report of the latest change of keys, with the path of the key file.
    pub(crate) fn rekey_report(&self) -> (RekeyReport, Option<String>) {
        let vault = &self.shared.vault;
        let mut report = self.shared.rekeying.report().clone();
        if report.key.is_none() {
            report.key = vault.keys().map(|keys| keys.first_id().to_owned());
        }
        (report, vault.file().map(|path| path.display().to_string()))
    }

    /// Encrypts the secrets of all endpoints with the first key. Ends early if other keys are in use.
    async fn rekey_all(&self) -> Result<(), StoreError> {
        let Some(keys) = self.shared.vault.keys() else { return Ok(()) };
        let rekeying = &self.shared.rekeying;
        let number = rekeying.report().number;
        let total = self.rekey_retrying(number, || self.count_endpoints()).await?;
        rekeying.note(number, |report| report.total = total);
        tracing::info!(key = keys.first_id(), endpoints = total, "encrypting the secrets with this key");
        let (mut last, mut damaged) = (0, 0_u64);
        let mut kept = BTreeSet::new();
        loop {
            if !self.shared.vault.keys().is_some_and(|current| Arc::ptr_eq(&current, &keys)) {
                return Ok(());
            }
            let began = Instant::now();
            let step = self.rekey_retrying(number, || self.rekey_some(&keys, last)).await?;
            let Some(step) = step else {
                let Some(next) = self.behind_damage(last).await? else { break };
                (last, damaged) = (next, damaged + 1);
                continue;
            };
            let Some(reached) = step.last else { break };
            last = reached;
            rekeying.note(number, |report| {
                report.done += step.seen;
                report.changed += step.changed;
                report.lost += step.lost.len() as u64;
                let free = REPORTED.saturating_sub(report.lost_endpoints.len());
                report.lost_endpoints.extend(step.lost.iter().map(|(endpoint, _)| *endpoint).take(free));
            });
            kept.extend(step.lost.into_iter().filter_map(|(_, key)| key));
            // At most half of the time of the writer.
            sleep(began.elapsed().min(LONGEST_PAUSE)).await;
        }
        let kept: Vec<_> = kept.into_iter().collect();
        self.rekey_retrying(number, || self.finish_rekey(&keys, &kept)).await?;
        self.empty_log().await;
        let unneeded =
            |id: &&str| *id != keys.first_id() && !kept.iter().any(|kept| kept == id) && damaged == 0;
        let unneeded: Vec<_> = keys.ids().filter(unneeded).map(str::to_owned).collect();
        tracing::info!(
            key = keys.first_id(),
            unneeded_keys = unneeded.join(","),
            "all secrets that can be decrypted are encrypted with this key"
        );
        let now = self.clock().wall();
        rekeying.note(number, |report| {
            report.state = RekeyState::Finished;
            report.lost += damaged;
            report.unneeded_keys = unneeded;
            report.finished_at = Some(now);
        });
        Ok(())
    }

    /// Ends the change of keys. If the file had secrets in clear text, also the copies that SQLite has left in the unused parts
    /// of pages are overwritten.
    async fn finish_rekey(&self, keys: &Arc<SecretKeys>, kept: &[String]) -> Result<(), StoreError> {
        let finish = |extent: FinishExtent| {
            let (keys, kept) = (Arc::clone(keys), kept.to_owned());
            self.write(1, move |tx| {
                if extent == FinishExtent::Whole && tx.vault.had_plain_values(tx.connection)? {
                    overwriting(tx, |tx| Ok(tx.connection.execute_batch(REWRITE)?))?;
                }
                tx.vault.finish(tx.connection, &keys, &kept)
            })
        };
        match finish(FinishExtent::Whole).await {
            Err(StoreError::Corrupt(why)) => {
                tracing::error!(
                    why,
                    "old copies of secrets in clear text may be left in the damaged database"
                );
                finish(FinishExtent::Marks).await
            }
            finished => finished,
        }
    }

    async fn count_endpoints(&self) -> Result<u64, StoreError> {
        let count = "SELECT count(*) FROM endpoints";
        let read = move |connection: &Connection| Ok(connection.query_row(count, [], |row| row.get(0))?);
        match self.shared.readers.read(read).await {
            // The number is for people.
            Err(StoreError::Corrupt(_)) => Ok(0),
            counted => counted,
        }
    }

    /// Runs `step` until it succeeds.
    async fn rekey_retrying<T, Step>(
        &self,
        number: u64,
        mut step: impl FnMut() -> Step,
    ) -> Result<T, StoreError>
    where
        Step: Future<Output = Result<T, StoreError>>,
    {
        loop {
            match step().await {
                Ok(done) => {
                    self.shared.rekeying.note(number, |report| report.error = None);
                    return Ok(done);
                }
                Err(StoreError::Closed) => return Err(StoreError::Closed),
                Err(error) => {
                    tracing::warn!(%error, "the secrets cannot be encrypted yet; trying again");
                    self.shared.rekeying.note(number, |report| report.error = Some(error.to_string()));
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// Encrypts the secrets of the next endpoints; of one endpoint if there is damage among them. Returns `None` if the next
    /// endpoint is damaged.
    async fn rekey_some(&self, keys: &Arc<SecretKeys>, after: i64) -> Result<Option<RekeyStep>, StoreError> {
        for limit in [ENDPOINTS_PER_COMMIT, 1] {
            let keys = Arc::clone(keys);
            match self.write(limit, move |tx| rekey_step(tx, &keys, after, limit)).await {
                Err(StoreError::Corrupt(_)) => {}
                done => return done.map(Some),
            }
        }
        Ok(None)
    }

    /// Returns the last endpoint of the damage that begins behind `after`; `None` if no endpoint behind it can be read.
    async fn behind_damage(&self, after: i64) -> Result<Option<i64>, StoreError> {
        self.shared
            .readers
            .read(move |connection| {
                let first = "SELECT seq, secret, old_secrets, headers FROM endpoints WHERE seq >= ?1 ORDER BY seq LIMIT 1";
                let read = |distance: i64| {
                    let row = connection.prepare_cached(first)?.query_row([after + distance], StoredSecrets::read);
                    Ok(row.optional()?.map(|row| row.endpoint))
                };
                // It can be read, and not be written.
                if let Ok(readable) = readable(read(1))? {
                    return Ok(readable);
                }
                let newest = "SELECT seq FROM sqlite_sequence WHERE name = 'endpoints'";
                let newest: i64 = connection.query_row(newest, [], |row| row.get(0))?;
                let furthest = newest.saturating_sub(after).max(1);
                let end = end_of_damage(furthest, |distance| read(distance).map(drop))?;
                Ok(end.map(|distance| after + distance - 1))
            })
            .await
    }
}

/// Serves the requests to change keys.
pub(super) async fn serve(store: Store) {
    loop {
        store.shared.rekeying.requested.notified().await;
        let number = store.shared.rekeying.report().number;
        match store.rekey_all().await {
            Ok(()) => {}
            Err(StoreError::Closed) => return,
            Err(error) => {
                tracing::error!(%error, "the change of keys has stopped; the next start continues");
                store.shared.rekeying.note(number, |report| {
                    report.state = RekeyState::Failed;
                    report.error = Some(error.to_string());
                });
            }
        }
    }
}

/// The secrets of an endpoint as they are stored.
#[derive(Debug)]
struct StoredSecrets {
    endpoint: i64,
    columns: [String; 3],
}

impl StoredSecrets {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { endpoint: row.get(0)?, columns: [row.get(1)?, row.get(2)?, row.get(3)?] })
    }
}

/// Encrypts the secrets of up to `limit` endpoints behind `after`. The replaced values are overwritten in the file.
fn rekey_step(tx: &mut Tx<'_>, keys: &SecretKeys, after: i64, limit: usize) -> Result<RekeyStep, StoreError> {
    overwriting(tx, |tx| {
        let select =
            "SELECT seq, secret, old_secrets, headers FROM endpoints WHERE seq > ?1 ORDER BY seq LIMIT ?2";
        let mut statement = tx.connection.prepare_cached(select)?;
        let rows: Vec<_> =
            statement.query_map(params![after, limit], StoredSecrets::read)?.collect::<Result<_, _>>()?;
        let mut step = RekeyStep::default();
        for StoredSecrets { endpoint, columns: [secret, old_secrets, headers] } in rows {
            let mut lost = None;
            let mut reseal = |column, stored: &str| -> Result<Option<String>, StoreError> {
                match tx.vault.reseal(keys, column, endpoint, stored)? {
                    Resealed::Current => Ok(None),
                    Resealed::Changed(text) => Ok(Some(text)),
                    Resealed::Lost(value) => {
                        lost = Some(match value.why {
                            UnsealError::UnknownKey(key) | UnsealError::Mismatch(key) => Some(key),
                            UnsealError::Malformed => None,
                        });
                        Ok(None)
                    }
                }
            };
            let changed = [
                reseal(SecretColumn::Secret, &secret)?,
                reseal(SecretColumn::OldSecrets, &old_secrets)?,
                reseal(SecretColumn::Headers, &headers)?,
            ];
            if changed.iter().any(Option::is_some) {
                let update = "UPDATE endpoints SET secret = coalesce(?2, secret),
                         old_secrets = coalesce(?3, old_secrets), headers = coalesce(?4, headers) WHERE seq = ?1";
                let [secret, old_secrets, headers] = changed;
                tx.connection.prepare_cached(update)?.execute(params![
                    endpoint,
                    secret,
                    old_secrets,
                    headers
                ])?;
                step.changed += 1;
            }
            step.lost.extend(lost.map(|key| (endpoint, key)));
            step.seen += 1;
            step.last = Some(endpoint);
        }
        Ok(step)
    })
}
