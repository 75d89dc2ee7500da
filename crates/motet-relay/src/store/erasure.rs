//! Erasure: the data of events and the responses to attempts are deleted, and their rows stay.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::deliveries::skip_pending;
use super::events::{checksum_of_erased, find_uid};
use super::writer::Tx;
use super::{Store, StoreError, TenantSeq};
use crate::clock::Millis;

/// The reason of a delivery whose event was erased before it was sent.
pub(super) const ERASED: &str = "the event was erased";

/// Maximum number of attempts of a delivery whose responses are erased: the latest. A delivery has fewer attempts unless it
/// was resent very often.
const MAX_ATTEMPTS: usize = 10_000;

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
    /// The bytes are overwritten in the database file; copies in its log last until the log is used again.
    pub(crate) async fn erase_events(
        &self,
        tenant: TenantSeq,
        events: Vec<EventName>,
    ) -> Result<Vec<bool>, StoreError> {
        // An event has a few rows for each of its endpoints.
        self.write(events.len() * 4, move |tx| {
            overwriting(tx, |tx| events.iter().map(|event| erase_event(tx, tenant, event)).collect())
        })
        .await
    }

    /// Erases the response of a receiver to an attempt of the event. Returns `false` if there is no such attempt.
    pub(crate) async fn erase_attempt(
        &self,
        tenant: TenantSeq,
        event: i64,
        attempt: i64,
    ) -> Result<bool, StoreError> {
        self.write(1, move |tx| {
            overwriting(tx, |tx| {
                let own = "SELECT 1 FROM attempts a JOIN deliveries d ON d.seq = a.delivery_seq
                     WHERE a.seq = ?3 AND a.tenant_seq = ?1 AND d.event_seq = ?2";
                if !tx.connection.prepare_cached(own)?.exists(params![tenant, event, attempt])? {
                    return Ok(false);
                }
                erase_response(tx.connection, attempt)?;
                Ok(true)
            })
        })
        .await
    }
}

/// Runs `work` with freed space overwritten by zeros.
fn overwriting<T>(
    tx: &mut Tx<'_>,
    work: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    // The pragma returns its new value as a row.
    let set = |connection: &Connection, sql| connection.query_row(sql, [], |_| Ok(()));
    set(tx.connection, "PRAGMA secure_delete = ON")?;
    let done = work(tx);
    set(tx.connection, "PRAGMA secure_delete = OFF")?;
    done
}

fn erase_event(tx: &mut Tx<'_>, tenant: TenantSeq, name: &EventName) -> Result<bool, StoreError> {
    let seq = match name {
        EventName::Seq(seq) => Some(*seq),
        EventName::Uid(uid) => find_uid(tx.connection, tenant, uid)?,
    };
    let Some(seq) = seq else { return Ok(false) };
    let found: Option<(String, Millis, bool)> = tx
        .connection
        .prepare_cached(
            "SELECT type, created_at, data IS NULL FROM events WHERE seq = ?1 AND tenant_seq = ?2",
        )?
        .query_row(params![seq, tenant], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((event_type, created_at, is_erased)) = found else { return Ok(false) };
    if is_erased {
        return Ok(true);
    }
    tx.connection
        .prepare_cached("UPDATE events SET data = NULL, checksum = ?2 WHERE seq = ?1")?
        .execute(params![seq, checksum_of_erased(&event_type, created_at)])?;
    // The followers in memory have the data.
    tx.added.forget_all();
    let mut statement = tx.connection.prepare_cached(
        "SELECT seq, last_attempt FROM deliveries INDEXED BY deliveries_by_event WHERE event_seq = ?1",
    )?;
    let deliveries: Vec<(i64, Option<i64>)> =
        statement.query_map([seq], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    for (delivery, last_attempt) in deliveries {
        skip_pending(tx, delivery, ERASED)?;
        let mut next = last_attempt;
        for _ in 0..MAX_ATTEMPTS {
            let Some(attempt) = next else { break };
            // A damaged row could name a later one.
            next = erase_response(tx.connection, attempt)?.filter(|previous| *previous < attempt);
        }
    }
    Ok(true)
}

/// Erases the response to an attempt. Returns the attempt before it.
fn erase_response(connection: &Connection, attempt: i64) -> Result<Option<i64>, StoreError> {
    let erase = "UPDATE attempts SET response = NULL WHERE seq = ?1 RETURNING previous";
    Ok(connection.prepare_cached(erase)?.query_row([attempt], |row| row.get(0)).optional()?.flatten())
}

#[cfg(test)]
mod tests {
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
        store.erase_events(TENANT, vec![EventName::Seq(event)]).await.unwrap()[0]
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
