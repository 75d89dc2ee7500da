//! Erasures of many events: of all data of a tenant, or of a deleted tenant with all of its rows.
//!
//! An erasure is a row with a position, and continues after a restart where its last commit ended. Its rows are overwritten
//! in the database; then free pages, which may have data that was deleted earlier, go back to the file system, and the log is
//! emptied. An erasure has finished when no file of the store has the bytes any more.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use tokio::time::{Instant, sleep};

use super::erasure::{ErasedUid, erase_stored, overwriting};
use super::retention::Budget;
use super::vacuum::{free_pages, give_back};
use super::writer::Tx;
use super::{SWEEP_RETRY, Store, StoreError, TenantSeq, tenants};
use crate::clock::Millis;

/// Number of rows that one step changes.
const CHANGED_PER_STEP: usize = 200;

/// The object of an erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErasureKind {
    /// The data of the events that the tenant had at the beginning, and the responses to their attempts.
    Payloads(ErasedUid),
    /// A deleted tenant.
    Tenant,
}

impl ErasureKind {
    const fn stored(self) -> i64 {
        match self {
            Self::Payloads(ErasedUid::Erased) => 1,
            Self::Payloads(ErasedUid::Kept) => 2,
            Self::Tenant => 3,
        }
    }

    fn read(stored: i64) -> Result<Self, StoreError> {
        [Self::Payloads(ErasedUid::Erased), Self::Payloads(ErasedUid::Kept), Self::Tenant]
            .into_iter()
            .find(|kind| kind.stored() == stored)
            .ok_or_else(|| StoreError::Corrupt(format!("an erasure has the unknown kind {stored}")))
    }
}

/// A stored erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ErasureRow {
    pub(crate) seq: i64,
    pub(crate) tenant: TenantSeq,
    pub(crate) kind: ErasureKind,
    /// The last event to be erased.
    last_event: i64,
    cursor: i64,
    /// Number of events that were erased.
    pub(crate) events: u64,
    /// `true` once the rows are erased: the files may still have copies.
    is_erased: bool,
    pub(crate) created_at: Millis,
    pub(crate) updated_at: Millis,
    pub(crate) finished_at: Option<Millis>,
}

const COLUMNS: &str =
    "seq, tenant_seq, kind, last_event, cursor, events, is_erased, created_at, updated_at, finished_at";

impl Store {
    /// Begins to erase the data of all events of the tenant, and the responses to their attempts. Their pending deliveries
    /// are skipped. Returns the erasure that is running already, if there is one of the same kind.
    ///
    /// # Errors
    /// [`StoreError::NoTenant`].
    pub(crate) async fn erase_payloads(
        &self,
        tenant: TenantSeq,
        uid: ErasedUid,
    ) -> Result<ErasureRow, StoreError> {
        let begun = self.write(1, move |tx| {
            tenants::policy_of(tx.connection, tenant)?;
            let kind = ErasureKind::Payloads(uid);
            let newest =
                "SELECT coalesce(max(seq), 0) FROM events INDEXED BY events_by_tenant WHERE tenant_seq = ?1";
            let last: i64 = tx.connection.prepare_cached(newest)?.query_row([tenant], |row| row.get(0))?;
            let running = "UPDATE erasures SET last_event = max(last_event, ?3), updated_at = ?4
                 WHERE tenant_seq = ?1 AND kind = ?2 AND finished_at IS NULL AND is_erased = 0 RETURNING seq";
            let known: Option<i64> = tx
                .connection
                .prepare_cached(running)?
                .query_row(params![tenant, kind.stored(), last, tx.wall], |row| row.get(0))
                .optional()?;
            let seq = match known {
                Some(seq) => seq,
                None => begin(tx, tenant, kind, last)?,
            };
            find(tx.connection, seq)?
                .ok_or_else(|| StoreError::Internal("a new erasure is missing".to_owned()))
        });
        let begun = begun.await?;
        self.shared.erasures.notify_one();
        Ok(begun)
    }

    /// Returns an erasure of the tenant, or of any tenant.
    pub(crate) async fn erasure(
        &self,
        tenant: Option<TenantSeq>,
        seq: i64,
    ) -> Result<Option<ErasureRow>, StoreError> {
        let found = self.shared.readers.read(move |connection| find(connection, seq)).await?;
        Ok(found.filter(|row| tenant.is_none_or(|tenant| tenant == row.tenant)))
    }

    /// Returns the first erasure that has something to do for this driver, and that is not in `stuck`.
    async fn next_erasure(&self, stuck: &BTreeSet<i64>) -> Result<Option<ErasureRow>, StoreError> {
        let read = |connection: &Connection| {
            // The rows of a deleted tenant are erased by another service.
            let sql = format!(
                "SELECT {COLUMNS} FROM erasures INDEXED BY erasures_running
                 WHERE finished_at IS NULL AND (is_erased = 1 OR kind <> 3) ORDER BY seq"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map([], |row| Ok(from_row(row)))?;
            rows.collect::<Result<Result<Vec<_>, _>, _>>()?
        };
        let all = self.shared.readers.read(read).await?;
        Ok(all.into_iter().find(|row| !stuck.contains(&row.seq)))
    }

    /// Does the next part of an erasure: a step, or everything after the last step.
    async fn advance(&self, row: &ErasureRow) -> Result<(), StoreError> {
        if row.is_erased {
            // Set back also after an error, which is tried again. If the future is dropped, the store is closing.
            self.shared.scrub.set_freeing(true);
            let given_back = self.give_back_all().await;
            self.shared.scrub.set_freeing(false);
            given_back?;
            self.empty_log().await;
            let (seq, wall) = (row.seq, self.clock().wall());
            return self
                .write(1, move |tx| {
                    let sql = "UPDATE erasures SET finished_at = ?2, updated_at = ?2 WHERE seq = ?1";
                    tx.connection.prepare_cached(sql)?.execute(params![seq, wall])?;
                    Ok(())
                })
                .await;
        }
        let (began, row) = (Instant::now(), *row);
        self.write(CHANGED_PER_STEP, move |tx| overwriting(tx, |tx| step(tx, &row))).await?;
        // At most half of the time of the writer.
        sleep(began.elapsed().min(SWEEP_RETRY)).await;
        Ok(())
    }

    /// Returns all free pages to the file system: they have data of rows that were deleted earlier.
    async fn give_back_all(&self) -> Result<(), StoreError> {
        loop {
            let began = Instant::now();
            let left = self.write(CHANGED_PER_STEP, |tx| {
                give_back(tx.connection)?;
                free_pages(tx.connection)
            });
            if left.await? == 0 {
                return Ok(());
            }
            sleep(began.elapsed().min(SWEEP_RETRY)).await;
        }
    }
}

/// Stores an erasure. Returns its number.
pub(super) fn begin(
    tx: &mut Tx<'_>,
    tenant: TenantSeq,
    kind: ErasureKind,
    last_event: i64,
) -> Result<i64, StoreError> {
    super::events::step_counters(tx)?;
    let sql = "INSERT INTO erasures (tenant_seq, kind, last_event, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?4)";
    let values = params![tenant, kind.stored(), last_event, tx.wall];
    tx.connection.prepare_cached(sql)?.execute(values)?;
    Ok(tx.connection.last_insert_rowid())
}

/// Notes that the rows of a deleted tenant are erased.
pub(super) fn note_swept(tx: &Tx<'_>, tenant: TenantSeq) -> Result<(), StoreError> {
    let sql =
        "UPDATE erasures SET is_erased = 1, updated_at = ?2 WHERE tenant_seq = ?1 AND finished_at IS NULL";
    tx.connection.prepare_cached(sql)?.execute(params![tenant, tx.wall])?;
    Ok(())
}

/// Adds to the number of events of the erasure of a deleted tenant.
pub(super) fn note_progress(tx: &Tx<'_>, tenant: TenantSeq, events: usize) -> Result<(), StoreError> {
    let sql = "UPDATE erasures SET events = events + ?2, updated_at = ?3
         WHERE tenant_seq = ?1 AND kind = 3 AND finished_at IS NULL";
    tx.connection.prepare_cached(sql)?.execute(params![tenant, events, tx.wall])?;
    Ok(())
}

/// Erases the next events, and moves the position in the same commit.
fn step(tx: &mut Tx<'_>, row: &ErasureRow) -> Result<(), StoreError> {
    let ErasureKind::Payloads(uid) = row.kind else { return Ok(()) };
    let numbers = {
        let sql = "SELECT seq FROM events INDEXED BY events_by_tenant
             WHERE tenant_seq = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq LIMIT 200";
        let mut statement = tx.connection.prepare_cached(sql)?;
        let rows = statement.query_map(params![row.tenant, row.cursor, row.last_event], |row| row.get(0))?;
        rows.collect::<Result<Vec<i64>, _>>()?
    };
    let is_end = numbers.is_empty();
    let (mut budget, mut cursor, mut erased) = (Budget::new(CHANGED_PER_STEP), row.cursor, 0);
    for seq in numbers {
        let before = budget;
        if !erase_stored(tx, seq, uid, &mut budget)? {
            break;
        }
        erased += i64::from(before != budget);
        cursor = seq;
    }
    let sql = "UPDATE erasures SET cursor = ?2, events = events + ?3, is_erased = ?4, updated_at = ?5
         WHERE seq = ?1 AND cursor = ?6";
    tx.connection
        .prepare_cached(sql)?
        .execute(params![row.seq, cursor, erased, is_end, tx.wall, row.cursor])?;
    Ok(())
}

/// Moves the position of an erasure past the next event, which cannot be read or written.
fn pass_over(tx: &Tx<'_>, row: &ErasureRow) -> Result<(), StoreError> {
    let sql = "UPDATE erasures SET cursor = (SELECT min(seq) FROM events INDEXED BY events_by_tenant
             WHERE tenant_seq = ?2 AND seq > ?3), updated_at = ?4 WHERE seq = ?1";
    tx.connection.prepare_cached(sql)?.execute(params![row.seq, row.tenant, row.cursor, tx.wall])?;
    Ok(())
}

/// Does the erasures of the store, now and whenever one is begun.
pub(super) async fn run(store: Store) {
    let mut stuck = BTreeSet::new();
    loop {
        let row = match store.next_erasure(&stuck).await {
            Ok(Some(row)) => row,
            Ok(None) => {
                store.shared.erasures.notified().await;
                continue;
            }
            Err(StoreError::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "the erasures cannot be read yet; trying again");
                sleep(SWEEP_RETRY).await;
                continue;
            }
        };
        match store.advance(&row).await {
            Ok(()) => {}
            Err(StoreError::Closed) => return,
            Err(StoreError::Corrupt(why)) => {
                tracing::error!(why, erasure = row.seq, "an event cannot be erased: its rows cannot be read");
                // Now that the damage is known, the job is alone in its commit.
                if row.is_erased || store.write(1, move |tx| pass_over(tx, &row)).await.is_err() {
                    stuck.insert(row.seq);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "an erasure cannot continue yet; trying again");
                sleep(SWEEP_RETRY).await;
            }
        }
    }
}

fn find(connection: &Connection, seq: i64) -> Result<Option<ErasureRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM erasures WHERE seq = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_row([seq], |row| Ok(from_row(row))).optional()?.transpose()
}

fn from_row(row: &Row<'_>) -> Result<ErasureRow, StoreError> {
    Ok(ErasureRow {
        seq: row.get(0)?,
        tenant: row.get(1)?,
        kind: ErasureKind::read(row.get(2)?)?,
        last_event: row.get(3)?,
        cursor: row.get(4)?,
        events: row.get(5)?,
        is_erased: row.get(6)?,
        created_at: row.get(7)?,
        updated_at: row.get(8)?,
        finished_at: row.get(9)?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::config::AutoDisable;
    use crate::store::erasure::tests::found_in;
    use crate::store::tests::{
        event, new_endpoint, open_turn, outcome, published, with_store, with_store_in,
    };
    use crate::store::{
        DeliveryState, DeliveryVerdict, EventFilter, FailureClass, NewEvent, NewTenant, Published,
    };

    async fn tenant(store: &Store, id: &str) -> TenantSeq {
        store.put_tenant(id.to_owned(), NewTenant::default()).await.unwrap().0.seq
    }

    async fn publish(store: &Store, tenant: TenantSeq, data: &str) -> i64 {
        let data = RawValue::from_string(format!("\"{data}\"")).unwrap();
        let uid = Some(format!("uid of {}", data.get()));
        match published(store, tenant, NewEvent { data, uid, ..event("a") }).await {
            Published::Accepted { event, .. } => event,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until an erasure has finished. Returns its row.
    async fn finished(store: &Store, seq: i64) -> ErasureRow {
        loop {
            let row = store.erasure(None, seq).await.unwrap().unwrap();
            if row.finished_at.is_some() {
                return row;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn all_data_of_a_tenant_is_erased_from_the_files() {
        let directory = tempfile::tempdir().unwrap();
        with_store_in(directory.path(), AutoDisable::default(), async |store| {
            let [one, two] = [tenant(store, "one").await, tenant(store, "two").await];
            let endpoint = store.create_endpoint(one, new_endpoint()).await.unwrap().seq;
            for n in 0..300 {
                publish(store, one, &format!("secret-{n}")).await;
            }
            let (target, due) = open_turn(store, endpoint).await;
            let mut failed =
                outcome(&target, &due[0], Some(FailureClass::Receiver), DeliveryVerdict::Retry(0));
            failed.attempt.response = Some("echo of the data".to_owned());
            store.record(failed).await.unwrap();
            publish(store, two, "kept").await;
            let texts = ["secret-0", "secret-299", "echo of the data", "kept"];
            assert_eq!(found_in(directory.path(), &texts), texts);

            let begun = store.erase_payloads(one, ErasedUid::Erased).await.unwrap();
            let row = finished(store, begun.seq).await;
            assert_eq!((row.events, row.tenant), (300, one));
            assert_eq!(found_in(directory.path(), &texts), ["kept"]);
            assert_eq!(store.pending_of(endpoint), 0);
            let listed = store.events(Some(one), EventFilter::default(), None, 1_000).await.unwrap().0.rows;
            assert_eq!(listed.len(), 300, "the events stay");
            assert!(listed.into_iter().all(|row| row.is_ok_and(|row| row.is_erased() && row.uid.is_none())));
            let states =
                store.deliveries(crate::store::DeliveryFilter::default(), None, 1_000).await.unwrap().rows;
            assert!(
                states.iter().all(|row| row.as_ref().is_ok_and(|row| row.state == DeliveryState::Skipped))
            );
            assert_eq!(store.erasure(Some(two), begun.seq).await.unwrap(), None, "it is of another tenant");
            assert_eq!(store.health().await, Ok(()));
        })
        .await;
    }

    #[tokio::test]
    async fn deleted_tenant_leaves_no_bytes_in_the_files() {
        let directory = tempfile::tempdir().unwrap();
        with_store_in(directory.path(), AutoDisable::default(), async |store| {
            let [one, two] = [tenant(store, "first-customer").await, tenant(store, "two").await];
            store.create_endpoint(one, new_endpoint()).await.unwrap();
            for n in 0..300 {
                publish(store, one, &format!("secret-{n}")).await;
            }
            publish(store, two, "kept").await;
            let (pending, erasure) = store.delete_tenant(one).await.unwrap().unwrap();
            let row = finished(store, erasure).await;
            assert_eq!((pending, row.events), (300, 300));
            let texts = ["secret-0", "secret-299", "first-customer", "kept"];
            assert_eq!(found_in(directory.path(), &texts), ["kept"]);
        })
        .await;
    }

    #[tokio::test]
    async fn data_that_was_deleted_earlier_is_gone_from_free_pages() {
        let directory = tempfile::tempdir().unwrap();
        with_store_in(directory.path(), AutoDisable::default(), async |store| {
            let one = tenant(store, "one").await;
            let large = format!("{}deleted earlier", "x".repeat(50_000));
            publish(store, one, &large).await;
            store.write(1, |tx| Ok(tx.connection.execute("DELETE FROM events", [])?)).await.unwrap();
            assert_eq!(found_in(directory.path(), &["deleted earlier"]), ["deleted earlier"]);
            let begun = store.erase_payloads(one, ErasedUid::Erased).await.unwrap();
            finished(store, begun.seq).await;
            assert_eq!(found_in(directory.path(), &["deleted earlier"]), [""; 0]);
        })
        .await;
    }

    #[tokio::test]
    async fn erasure_continues_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let mut begun = None;
        with_store_in(directory.path(), AutoDisable::default(), async |store| {
            let one = tenant(store, "one").await;
            for n in 0..900 {
                publish(store, one, &format!("secret-{n}")).await;
            }
            begun = Some(store.erase_payloads(one, ErasedUid::Erased).await.unwrap().seq);
        })
        .await;
        with_store_in(directory.path(), AutoDisable::default(), async |store| {
            let row = finished(store, begun.unwrap()).await;
            assert_eq!(row.events, 900);
            assert_eq!(found_in(directory.path(), &["secret-0", "secret-899"]), [""; 0]);
        })
        .await;
    }

    #[tokio::test]
    async fn second_erasure_of_a_tenant_joins_the_first() {
        with_store(AutoDisable::default(), async |store| {
            let one = tenant(store, "one").await;
            for n in 0..300 {
                publish(store, one, &format!("secret-{n}")).await;
            }
            let (first, second) = tokio::join!(
                store.erase_payloads(one, ErasedUid::Erased),
                store.erase_payloads(one, ErasedUid::Erased)
            );
            assert_eq!(first.unwrap().seq, second.unwrap().seq);
            let other = store.erase_payloads(one, ErasedUid::Kept).await.unwrap();
            finished(store, other.seq).await;
            let gone = tenant(store, "gone").await;
            store.delete_tenant(gone).await.unwrap();
            assert_eq!(store.erase_payloads(gone, ErasedUid::Kept).await.err(), Some(StoreError::NoTenant));
        })
        .await;
    }
}
