//! Erasure of single events: the data of events and the responses to attempts are deleted, and their rows stay.
//!
//! The bytes are overwritten in the database, and the log, which has older copies of its pages, is emptied.
//! [`erasures`](super::erasures) erases many events.

use rusqlite::{Connection, params};

use super::deliveries::skip_pending;
use super::events::find_uid;
use super::retention::{Budget, erase_data, erase_responses};
use super::writer::Tx;
use super::{Store, StoreError, TenantSeq, scrub};

/// The reason of a delivery whose event was erased before it was sent.
pub(super) const ERASED: &str = "the event was erased";

/// Whether the uid of an erased event is erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErasedUid {
    /// The uid still names the event.
    Kept,
    /// The uid may itself be personal data.
    Erased,
}

/// An event that a caller names by its number or by its uid.
#[derive(Debug, Clone)]
pub(crate) enum EventName {
    Seq(i64),
    Uid(String),
}

impl Store {
    /// Erases the data of events of the tenant, and the responses of receivers to them, in one commit. Their pending
    /// deliveries are skipped. Returns `true` for each event that the tenant has, also if it was erased before.
    ///
    /// When it returns, the bytes are in no file of the store, unless a reader keeps the log from being emptied: then they
    /// are gone soon afterwards.
    pub(crate) async fn erase_events(
        &self,
        tenant: TenantSeq,
        events: Vec<EventName>,
        uid: ErasedUid,
    ) -> Result<Vec<bool>, StoreError> {
        // An event has a few rows for each of its endpoints.
        let erased = self.write(events.len() * 4, move |tx| {
            overwriting(tx, |tx| events.iter().map(|event| erase_event(tx, tenant, event, uid)).collect())
        });
        let erased = erased.await?;
        self.empty_log_soon().await;
        Ok(erased)
    }

    /// Erases the response of a receiver to an attempt of the event. Returns `false` if there is no such attempt.
    pub(crate) async fn erase_attempt(
        &self,
        tenant: TenantSeq,
        event: i64,
        attempt: i64,
    ) -> Result<bool, StoreError> {
        let erased = self.write(1, move |tx| {
            overwriting(tx, |tx| {
                let own = "SELECT 1 FROM attempts a JOIN deliveries d ON d.seq = a.delivery_seq
                     WHERE a.seq = ?3 AND a.tenant_seq = ?1 AND d.event_seq = ?2";
                if !tx.connection.prepare_cached(own)?.exists(params![tenant, event, attempt])? {
                    return Ok(false);
                }
                let erase = "UPDATE attempts SET response = NULL WHERE seq = ?1";
                tx.connection.prepare_cached(erase)?.execute([attempt])?;
                Ok(true)
            })
        });
        let erased = erased.await?;
        self.empty_log_soon().await;
        Ok(erased)
    }
}

/// Runs `work` with freed space overwritten by zeros, and marks the log: it has copies from before.
pub(super) fn overwriting<T>(
    tx: &mut Tx<'_>,
    work: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    // The pragma returns its new value as a row.
    let set = |connection: &Connection, sql| connection.query_row(sql, [], |_| Ok(()));
    set(tx.connection, "PRAGMA secure_delete = ON")?;
    let done = work(tx).and_then(|done| scrub::mark(tx.connection).map(|()| done));
    set(tx.connection, "PRAGMA secure_delete = FAST")?;
    done
}

fn erase_event(
    tx: &mut Tx<'_>,
    tenant: TenantSeq,
    name: &EventName,
    uid: ErasedUid,
) -> Result<bool, StoreError> {
    let seq = match name {
        EventName::Seq(seq) => Some(*seq),
        EventName::Uid(uid) => find_uid(tx.connection, tenant, uid)?,
    };
    let Some(seq) = seq else { return Ok(false) };
    let own = "SELECT 1 FROM events WHERE seq = ?1 AND tenant_seq = ?2";
    if !tx.connection.prepare_cached(own)?.exists(params![seq, tenant])? {
        return Ok(false);
    }
    erase_stored(tx, seq, uid, &mut Budget::new(usize::MAX))?;
    Ok(true)
}

/// Erases an event. Returns `false` if the budget was spent first; another call then continues.
pub(super) fn erase_stored(
    tx: &mut Tx<'_>,
    event: i64,
    uid: ErasedUid,
    budget: &mut Budget,
) -> Result<bool, StoreError> {
    if budget.is_spent() {
        return Ok(false);
    }
    // First: an attempt that ends during the erasure then stores no response.
    if erase_data(tx, event)? {
        budget.spend();
    }
    if uid == ErasedUid::Erased {
        let erase = "UPDATE events SET uid = NULL WHERE seq = ?1 AND uid IS NOT NULL";
        if tx.connection.prepare_cached(erase)?.execute([event])? == 1 {
            // The followers in memory have it.
            tx.added.forget(event);
            budget.spend();
        }
    }
    let mut statement = tx.connection.prepare_cached(
        "SELECT seq, last_attempt FROM deliveries INDEXED BY deliveries_by_event WHERE event_seq = ?1",
    )?;
    let deliveries: Vec<(i64, Option<i64>)> =
        statement.query_map([event], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    for (delivery, last_attempt) in deliveries {
        if budget.is_spent() {
            return Ok(false);
        }
        if skip_pending(tx, delivery, ERASED)? {
            budget.spend();
        }
        if !erase_responses(tx.connection, last_attempt, budget)? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
pub(in crate::store) mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::config::AutoDisable;
    use crate::store::tests::{endpoint, event, open_turn, outcome, published, with_store, with_store_in};
    use crate::store::{
        DeliveryFilter, DeliveryState, DeliveryVerdict, EventFilter, FailureClass, NewEvent, Published,
    };

    const TENANT: TenantSeq = TenantSeq::DEFAULT;

    /// Publishes an event with this data. Returns its number.
    async fn publish(store: &Store, data: &str) -> i64 {
        let data = RawValue::from_string(data.to_owned()).unwrap();
        match published(store, TENANT, NewEvent { data, ..event("a") }).await {
            Published::Accepted { event, .. } => event,
            other => panic!("{other:?}"),
        }
    }

    async fn erase(store: &Store, event: i64) -> bool {
        store.erase_events(TENANT, vec![EventName::Seq(event)], ErasedUid::Erased).await.unwrap()[0]
    }

    async fn states(store: &Store, event: i64) -> Vec<(DeliveryState, Option<String>)> {
        let filter = DeliveryFilter { event: Some(event), ..DeliveryFilter::default() };
        let rows = store.deliveries(filter, None, 10).await.unwrap().rows;
        rows.into_iter().map(|row| row.unwrap()).map(|row| (row.state, row.reason)).collect()
    }

    /// Records the result of the only due delivery. Returns its number.
    async fn attempted(store: &Store, endpoint: i64, verdict: DeliveryVerdict) -> i64 {
        let (target, due) = open_turn(store, endpoint).await;
        let mut failed = outcome(&target, &due[0], Some(FailureClass::Receiver), verdict);
        failed.attempt.response = Some("echo of the data".to_owned());
        store.record(failed).await.unwrap();
        due[0].delivery
    }

    /// Returns the texts that the database or its log contains.
    pub(in crate::store) fn found_in<'t>(directory: &std::path::Path, texts: &[&'t str]) -> Vec<&'t str> {
        let files = ["relay.db", "relay.db-wal"];
        let bytes = files.map(|file| std::fs::read(directory.join(file)).unwrap_or_default());
        let has = |text: &&&str| {
            bytes.iter().any(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
        };
        texts.iter().filter(has).copied().collect()
    }

    #[tokio::test]
    async fn erased_event_is_skipped_where_it_was_pending_and_no_damage() {
        with_store(AutoDisable::default(), async |store| {
            let endpoint = endpoint(store).await;
            let seq = publish(store, "\"secret\"").await;
            let delivery = attempted(store, endpoint, DeliveryVerdict::Retry(0)).await;
            assert!(erase(store, seq).await && erase(store, seq).await, "a repeat changes nothing");
            assert!(!erase(store, 9_999).await);
            let skipped = [(DeliveryState::Skipped, Some(ERASED.to_owned()))];
            assert_eq!(states(store, seq).await, skipped);
            assert_eq!(store.pending_of(endpoint), 0);
            assert!(open_turn(store, endpoint).await.1.is_empty());
            let (_, log) = store.delivery(TENANT, delivery).await.unwrap().unwrap();
            assert_eq!((log.len(), log[0].attempt.response.as_deref()), (1, None));
            assert!(log[0].attempt.error.is_some());
            assert!(store.event(TENANT, seq).await.unwrap().unwrap().is_erased());
            let listed = store.events(None, EventFilter::default(), None, 10).await.unwrap().0.rows;
            assert!(listed.into_iter().all(|row| row.unwrap().is_erased()));
            assert_eq!(store.resend(TENANT, delivery).await, Err(StoreError::Erased));
            assert_eq!(store.send_again(TENANT, seq, endpoint, None).await, Err(StoreError::Erased));
            assert_eq!(store.health().await, Ok(()));
        })
        .await;
    }

    #[tokio::test]
    async fn response_to_an_event_erased_during_its_attempt_is_not_kept() {
        with_store(AutoDisable::default(), async |store| {
            let endpoint = endpoint(store).await;
            let seq = publish(store, "\"secret\"").await;
            let (target, due) = open_turn(store, endpoint).await;
            erase(store, seq).await;
            let mut failed =
                outcome(&target, &due[0], Some(FailureClass::Receiver), DeliveryVerdict::Retry(0));
            failed.attempt.response = Some("echo of the data".to_owned());
            store.record(failed).await.unwrap();
            let (_, log) = store.delivery(TENANT, due[0].delivery).await.unwrap().unwrap();
            assert_eq!((log.len(), log[0].attempt.response.as_deref()), (1, None));
            assert_eq!(states(store, seq).await, [(DeliveryState::Skipped, Some(ERASED.to_owned()))]);
        })
        .await;
    }

    #[tokio::test]
    async fn redriven_delivery_of_an_erased_event_is_skipped() {
        with_store(AutoDisable::default(), async |store| {
            let endpoint = endpoint(store).await;
            let seq = publish(store, "1").await;
            attempted(store, endpoint, DeliveryVerdict::Dead { reason: "the last attempt".to_owned() }).await;
            erase(store, seq).await;
            assert_eq!(states(store, seq).await[0].0, DeliveryState::Dead);
            assert_eq!(store.redrive(TENANT, None).await.unwrap().redriven, 1);
            let turn = store.turn(endpoint, 16, Vec::new()).await.unwrap();
            assert_eq!(turn.unreadable, [], "it is no dead letter");
            assert_eq!(states(store, seq).await, [(DeliveryState::Skipped, Some(ERASED.to_owned()))]);
            assert_eq!(store.redrive(TENANT, None).await.unwrap().redriven, 0);
            assert_eq!(store.health().await, Ok(()));
        })
        .await;
    }

    #[tokio::test]
    async fn erased_data_is_not_in_the_database_file() {
        let directory = tempfile::tempdir().unwrap();
        let stored = || {
            let file = std::fs::read(directory.path().join("relay.db")).unwrap();
            let has = |text: &str| file.windows(text.len()).any(|window| window == text.as_bytes());
            [has("small secret"), has("large secret"), has("echo of the data"), has("kept")]
        };
        with_store_in(directory.path(), AutoDisable::default(), async |store| {
            let endpoint = endpoint(store).await;
            publish(store, "\"small secret\"").await;
            attempted(store, endpoint, DeliveryVerdict::Dead { reason: String::new() }).await;
            publish(store, &format!("\"{}large secret\"", "x".repeat(50_000))).await;
            publish(store, "\"kept\"").await;
        })
        .await;
        assert_eq!(stored(), [true; 4]);
        with_store_in(directory.path(), AutoDisable::default(), async |store| {
            for event in [1, 2] {
                assert!(erase(store, event).await);
            }
        })
        .await;
        assert_eq!(stored(), [false, false, false, true]);
    }

    #[tokio::test]
    async fn erased_event_leaves_no_bytes_in_a_file_of_an_open_store() {
        let directory = tempfile::tempdir().unwrap();
        with_store_in(directory.path(), AutoDisable::default(), async |store| {
            let endpoint = endpoint(store).await;
            let uid = Some("uid-of-a-person".to_owned());
            let data = RawValue::from_string(format!("\"{}large secret\"", "x".repeat(50_000))).unwrap();
            let Published::Accepted { event: seq, .. } =
                published(store, TENANT, NewEvent { data, uid, ..event("a") }).await
            else {
                panic!("not accepted")
            };
            attempted(store, endpoint, DeliveryVerdict::Retry(0)).await;
            publish(store, "\"kept\"").await;
            let texts = ["large secret", "echo of the data", "uid-of-a-person", "kept"];
            assert_eq!(found_in(directory.path(), &texts), texts, "in the log at least");
            assert!(erase(store, seq).await);
            assert_eq!(found_in(directory.path(), &texts), ["kept"]);
            assert_eq!(store.event_with_uid(TENANT, "uid-of-a-person".to_owned()).await.unwrap(), None);
        })
        .await;
    }

    #[tokio::test]
    async fn erasure_whose_log_was_not_emptied_is_completed_at_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let copy = tempfile::tempdir().unwrap();
        with_store_in(directory.path(), AutoDisable::default(), async |store| {
            let seq = publish(store, "\"a secret\"").await;
            // The erasure, and a process that ends before the log is emptied.
            store
                .write(1, move |tx| {
                    overwriting(tx, |tx| erase_stored(tx, seq, ErasedUid::Erased, &mut Budget::new(9)))
                })
                .await
                .unwrap();
            for file in ["relay.db", "relay.db-wal"] {
                std::fs::copy(directory.path().join(file), copy.path().join(file)).unwrap();
            }
        })
        .await;
        assert_eq!(found_in(copy.path(), &["a secret"]), ["a secret"]);
        with_store_in(copy.path(), AutoDisable::default(), async |store| {
            store.empty_log().await;
            assert_eq!(found_in(copy.path(), &["a secret"]), [""; 0]);
            let marks = "SELECT count(*) FROM meta WHERE name = 'log_has_erased'";
            let read = move |connection: &Connection| Ok(connection.query_row(marks, [], |row| row.get(0))?);
            assert_eq!(store.shared.readers.read(read).await, Ok(0_i64));
        })
        .await;
    }

    #[tokio::test]
    async fn missing_data_without_an_erasure_is_damage() {
        with_store(AutoDisable::default(), async |store| {
            let seq = publish(store, "1").await;
            let damage = "UPDATE events SET data = NULL";
            store.write(1, move |tx| Ok(tx.connection.execute(damage, [])?)).await.unwrap();
            assert!(matches!(store.event(TENANT, seq).await, Err(StoreError::Corrupt(_))));
        })
        .await;
    }

    #[tokio::test]
    async fn follower_gets_no_erased_data_from_memory() {
        with_store(AutoDisable::default(), async |store| {
            let mut feed = store.follow(Some(TENANT), None, None).await.unwrap().unwrap();
            let [erased, kept] = [publish(store, "1").await, publish(store, "2").await];
            erase(store, erased).await;
            let events = feed.next().await.unwrap().events;
            let shown: Vec<_> = events.iter().map(|event| (event.row.seq, event.row.is_erased())).collect();
            assert_eq!(shown, [(erased, true), (kept, false)]);
        })
        .await;
    }
}
