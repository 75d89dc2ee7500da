use motet::task::{Nursery, scope};
use serde_json::value::RawValue;

use super::*;
use crate::clock::Millis;
use crate::masked::Masked;
use crate::pattern::{EventType, Pattern};
use crate::signature::Secret;

const TENANT: TenantSeq = TenantSeq::DEFAULT;

/// Runs the test with a new store.
pub(in crate::store) async fn with_store(rules: AutoDisable, test: impl AsyncFnOnce(&Store)) {
    let directory = tempfile::tempdir().unwrap();
    with_store_in(directory.path(), rules, test).await;
}

/// The options of a store without encryption.
pub(in crate::store) fn options_in(directory: &Path, rules: AutoDisable) -> StoreOptions {
    StoreOptions {
        directory: directory.to_owned(),
        max_bytes: None,
        retention: None,
        longest_delay: Duration::from_secs(1),
        auto_disable: rules,
        tenant_quotas: TenantQuotas::default(),
        backups: None,
        secret_keys: KeySource::Plaintext,
        store_use: StoreUse::Serve,
    }
}

/// Runs the test with the store of a directory.
pub(in crate::store) async fn with_store_in(
    directory: &Path,
    rules: AutoDisable,
    test: impl AsyncFnOnce(&Store),
) {
    let options = options_in(directory, rules);
    scope(async |n: &Nursery| {
        let store = Store::open(&options, Clock::new(), n).unwrap();
        test(&store).await;
        store.close().await.unwrap();
        Ok(())
    })
    .await
    .unwrap();
}

pub(in crate::store) fn event(event_type: &str) -> NewEvent {
    let data = RawValue::from_string("1".to_owned()).unwrap();
    NewEvent::new(EventType::parse(event_type).unwrap(), data)
}

pub(in crate::store) fn new_endpoint() -> NewEndpoint {
    let patterns = vec![Pattern::parse(">").unwrap()];
    NewEndpoint::new("http://127.0.0.1/".to_owned(), patterns, Secret::generate().unwrap())
}

pub(in crate::store) async fn endpoint(store: &Store) -> i64 {
    store.create_endpoint(TENANT, new_endpoint()).await.unwrap().seq
}

/// Returns the due deliveries of the endpoint with their target.
pub(in crate::store) async fn open_turn(store: &Store, endpoint: i64) -> (DeliveryTarget, Vec<DueDelivery>) {
    match store.turn(endpoint, 16, Vec::new()).await.unwrap().state {
        TurnState::Open { target, due } => (target, due),
        TurnState::Held => panic!("the endpoint is held"),
    }
}

pub(in crate::store) fn outcome(
    target: &DeliveryTarget,
    due: &DueDelivery,
    class: Option<FailureClass>,
    verdict: DeliveryVerdict,
) -> AttemptOutcome {
    let attempt = Attempt {
        started_at: 0,
        took_ms: 1,
        status: class.is_none().then_some(200),
        class,
        error: class.map(|class| format!("{class:?}")),
        response: None,
    };
    let DueDelivery { delivery, due_at, round, .. } = *due;
    AttemptOutcome {
        delivery,
        due_at,
        round,
        endpoint: target.endpoint,
        generation: target.generation,
        attempt,
        verdict,
    }
}

async fn failures(store: &Store, endpoint: i64) -> u32 {
    let sql = "SELECT failures FROM endpoints WHERE seq = ?1";
    let read =
        move |connection: &rusqlite::Connection| Ok(connection.query_row(sql, [endpoint], |r| r.get(0))?);
    store.shared.readers.read(read).await.unwrap()
}

#[tokio::test]
async fn failed_write_job_is_rolled_back_alone_and_wakes_no_lane() {
    with_store(AutoDisable::default(), async |store| {
        let endpoint = endpoint(store).await;
        let insert = "INSERT INTO events (tenant_seq, type, data, created_at, checksum) VALUES (1, 'undone', x'31', 0, 0)";
        // All three jobs are queued before the writer takes the first, so they share a commit.
        let (before, failed, after) = tokio::join!(
            biased;
            store.publish(TENANT, vec![event("kept.before")]),
            store.write(1, move |tx| {
                tx.connection.execute(insert, [])?;
                tx.wake(TENANT, 99, Wake::Deleted);
                Err::<(), _>(StoreError::Internal("on purpose".to_owned()))
            }),
            store.publish(TENANT, vec![event("kept.after")]),
        );
        assert!(before.is_ok() && after.is_ok());
        assert_eq!(failed, Err(StoreError::Internal("on purpose".to_owned())));
        let types: Vec<_> =
            store.events(Some(TENANT), EventFilter::default(), None, 10).await.unwrap().0.rows.into_iter().map(|row| row.unwrap().event_type).collect();
        assert_eq!(types, ["kept.after", "kept.before"]);
        let woken: Vec<_> = store.woken().await.into_iter().map(|woken| woken.endpoint).collect();
        assert_eq!(woken, [endpoint]);
    })
    .await;
}

/// A single failure disables the endpoint, so each failure that is counted shows.
fn quick() -> AutoDisable {
    AutoDisable { failures: 1, after: Duration::ZERO, probe_every: Duration::from_secs(3_600) }
}

#[tokio::test]
async fn failures_of_relay_itself_do_not_count_and_share_a_log_row() {
    with_store(quick(), async |store| {
        let endpoint = endpoint(store).await;
        store.publish(TENANT, vec![event("a")]).await.unwrap();
        for nth in 0..3 {
            let (target, due) = open_turn(store, endpoint).await;
            assert_eq!((due[0].relay_attempts, due[0].round_attempts), (nth, 0));
            assert_eq!(due[0].relay_since.is_some(), nth > 0);
            let failed = outcome(&target, &due[0], Some(FailureClass::Relay), DeliveryVerdict::Retry(0));
            let recorded = store.record(failed).await.unwrap();
            assert_eq!((recorded.retry_at, recorded.change), (Some(0), None));
        }
        assert_eq!(failures(store, endpoint).await, 0);
        let (target, due) = open_turn(store, endpoint).await;
        store.record(outcome(&target, &due[0], None, DeliveryVerdict::Delivered)).await.unwrap();
        let (row, log) = store.delivery(TENANT, due[0].delivery).await.unwrap().unwrap();
        assert_eq!((row.state, row.attempts), (DeliveryState::Delivered, 1));
        let log: Vec<_> = log.into_iter().map(|row| (row.attempt.class, row.repeats)).collect();
        assert_eq!(log, [(Some(FailureClass::Relay), 3), (None, 1)]);
    })
    .await;
}

#[tokio::test]
async fn config_failure_uses_an_attempt_but_disables_no_endpoint() {
    with_store(quick(), async |store| {
        let endpoint = endpoint(store).await;
        store.publish(TENANT, vec![event("a")]).await.unwrap();
        let (target, due) = open_turn(store, endpoint).await;
        let failed = outcome(&target, &due[0], Some(FailureClass::Config), DeliveryVerdict::Retry(0));
        assert_eq!(store.record(failed).await.unwrap().change, None);
        assert_eq!(failures(store, endpoint).await, 0);
        let (target, due) = open_turn(store, endpoint).await;
        assert_eq!(due[0].round_attempts, 1);
        let failed = outcome(&target, &due[0], Some(FailureClass::Receiver), DeliveryVerdict::Retry(0));
        let change = store.record(failed).await.unwrap().change;
        assert_eq!(
            change,
            Some(HoldChange::Held(HoldReason::Failing)),
            "the control: a receiver's failure counts"
        );
    })
    .await;
}

#[tokio::test]
async fn probe_that_fails_because_of_relay_is_due_at_its_retry_time() {
    with_store(quick(), async |store| {
        let endpoint = endpoint(store).await;
        store.publish(TENANT, vec![event("a")]).await.unwrap();
        let (target, due) = open_turn(store, endpoint).await;
        let failed = outcome(&target, &due[0], Some(FailureClass::Receiver), DeliveryVerdict::Retry(0));
        store.record(failed).await.unwrap();
        let retry: Millis = store.clock().due_now() + 60_000;
        let probed = outcome(&target, &due[0], Some(FailureClass::Relay), DeliveryVerdict::Retry(retry));
        store.record(probed).await.unwrap();
        let turn = store.turn(endpoint, 16, Vec::new()).await.unwrap();
        assert!(matches!(turn.state, TurnState::Held));
        assert_eq!(turn.next_due, Some(retry));
    })
    .await;
}

#[tokio::test]
async fn failure_at_the_previous_url_does_not_count_for_the_new_one() {
    with_store(quick(), async |store| {
        let endpoint = endpoint(store).await;
        store.publish(TENANT, vec![event("a")]).await.unwrap();
        let (target, due) = open_turn(store, endpoint).await;
        let url = Some("http://127.0.0.2/".to_owned());
        store
            .update_endpoint(TENANT, endpoint, EndpointChange { url, ..EndpointChange::default() })
            .await
            .unwrap();
        let dead = DeliveryVerdict::Dead { reason: "the last attempt".to_owned() };
        let mut gone = outcome(&target, &due[0], Some(FailureClass::Receiver), dead);
        gone.attempt.status = Some(410);
        let recorded = store.record(gone).await.unwrap();
        assert_eq!((recorded.change, recorded.is_dead), (None, false));
        assert_eq!(failures(store, endpoint).await, 0);
        let (target, due) = open_turn(store, endpoint).await;
        assert_eq!((target.url.as_str(), due[0].round_attempts), ("http://127.0.0.2/", 0), "it is due there");
        let (row, log) = store.delivery(TENANT, due[0].delivery).await.unwrap().unwrap();
        assert_eq!((row.attempts, log.len()), (1, 1), "the attempt is recorded");
    })
    .await;
}

/// Creates a tenant. Returns its number.
async fn tenant(store: &Store, id: &'static str) -> TenantSeq {
    let insert = "INSERT INTO tenants (id, created_at, updated_at) VALUES (?1, 0, 0) RETURNING seq";
    store.write(1, move |tx| Ok(tx.connection.query_row(insert, [id], |row| row.get(0))?)).await.unwrap()
}

/// Returns the values of a query of one row.
pub(in crate::store) async fn row<const N: usize>(store: &Store, sql: &'static str) -> [i64; N] {
    let read = move |connection: &rusqlite::Connection| {
        let columns = |row: &rusqlite::Row<'_>| {
            let mut values = [0; N];
            for (index, value) in values.iter_mut().enumerate() {
                *value = row.get(index)?;
            }
            Ok(values)
        };
        Ok(connection.query_row(sql, [], columns)?)
    };
    store.shared.readers.read(read).await.unwrap()
}

pub(in crate::store) async fn published(store: &Store, tenant: TenantSeq, event: NewEvent) -> Published {
    store.publish(tenant, vec![event]).await.unwrap()[0]
}

/// Returns the states of the tenant's deliveries, newest first.
async fn states(store: &Store, tenant: TenantSeq) -> Vec<DeliveryState> {
    let filter = DeliveryFilter { tenant: Some(tenant), ..DeliveryFilter::default() };
    let rows = store.deliveries(filter, None, 100).await.unwrap();
    rows.rows.into_iter().map(|row| row.unwrap().state).collect()
}

#[tokio::test]
async fn event_of_a_disabled_endpoint_is_skipped_and_can_be_resent() {
    with_store(AutoDisable::default(), async |store| {
        let new = NewEndpoint { enabled: false, ..new_endpoint() };
        let endpoint = store.create_endpoint(TENANT, new).await.unwrap().seq;
        let accepted = published(store, TENANT, event("a")).await;
        assert!(matches!(accepted, Published::Accepted { deliveries: 0, .. }), "{accepted:?}");
        let filter = DeliveryFilter {
            tenant: Some(TENANT),
            endpoint: Some(endpoint),
            state: Some(DeliveryState::Skipped),
            ..DeliveryFilter::default()
        };
        let skipped = store.deliveries(filter, None, 10).await.unwrap().rows.pop().unwrap().unwrap();
        assert_eq!((skipped.due_at, skipped.reason.as_deref()), (None, Some("the endpoint is disabled")));
        assert_eq!(row(store, "SELECT count(*) FROM due").await, [0]);
        assert_eq!(row(store, "SELECT skipped FROM rollups WHERE endpoint_seq <> 0").await, [1]);
        store.resend(TENANT, skipped.seq).await.unwrap();
        assert_eq!(states(store, TENANT).await, [DeliveryState::Pending]);
        let change = EndpointChange { enabled: Some(true), ..EndpointChange::default() };
        store.update_endpoint(TENANT, endpoint, change).await.unwrap();
        assert_eq!(open_turn(store, endpoint).await.1[0].delivery, skipped.seq);
    })
    .await;
}

#[tokio::test]
async fn endpoint_with_channels_gets_only_events_of_its_channels() {
    with_store(AutoDisable::default(), async |store| {
        let all = endpoint(store).await;
        let channels = vec!["red".to_owned(), "blue".to_owned()];
        let some =
            store.create_endpoint(TENANT, NewEndpoint { channels, ..new_endpoint() }).await.unwrap().seq;
        for (channels, expected) in [(&[][..], 1), (&["green"], 1), (&["green", "blue"], 2)] {
            let channels = channels.iter().map(|channel| (*channel).to_owned()).collect();
            let accepted = published(store, TENANT, NewEvent { channels, ..event("a") }).await;
            assert!(matches!(accepted, Published::Accepted { deliveries, .. } if deliveries == expected));
        }
        assert_eq!((open_turn(store, all).await.1.len(), open_turn(store, some).await.1.len()), (3, 1));
    })
    .await;
}

#[tokio::test]
async fn tenants_see_and_change_no_row_of_each_other() {
    with_store(AutoDisable::default(), async |store| {
        let [one, two] = [tenant(store, "one").await, tenant(store, "two").await];
        let mut endpoints = Vec::new();
        for owner in [one, two] {
            let new = NewEndpoint { uid: Some("same".to_owned()), ..new_endpoint() };
            endpoints.push(store.create_endpoint(owner, new).await.unwrap().seq);
        }
        let keyed = || NewEvent {
            idempotency_key: Some("key".to_owned()),
            uid: Some("uid".to_owned()),
            ..event("a")
        };
        let mut events = Vec::new();
        for owner in [one, two] {
            match published(store, owner, keyed()).await {
                Published::Accepted { event, deliveries: 1, .. } => events.push(event),
                other => panic!("{other:?}"),
            }
        }
        for (own, other) in [(0, 1), (1, 0)] {
            let tenant = [one, two][own];
            assert_eq!(
                store.events(Some(tenant), EventFilter::default(), None, 10).await.unwrap().0.rows.len(),
                1
            );
            assert_eq!(store.endpoints(Some(tenant), None, 10).await.unwrap().len(), 1);
            let delivery = {
                let filter = DeliveryFilter { tenant: Some(tenant), ..DeliveryFilter::default() };
                let rows = store.deliveries(filter, None, 10).await.unwrap().rows;
                assert_eq!(rows.len(), 1);
                rows.into_iter().next().unwrap().unwrap()
            };
            assert_eq!((delivery.event, delivery.endpoint), (events[own], endpoints[own]));
            let foreign = [one, two][other];
            let filter = DeliveryFilter {
                tenant: Some(foreign),
                event: Some(events[own]),
                ..DeliveryFilter::default()
            };
            assert!(store.deliveries(filter, None, 10).await.unwrap().rows.is_empty());
            assert!(store.delivery(foreign, delivery.seq).await.unwrap().is_none());
            assert_eq!(store.resend(foreign, delivery.seq).await.unwrap(), None);
            assert!(store.event(foreign, events[own]).await.unwrap().is_none());
            assert!(store.endpoint(foreign, endpoints[own]).await.unwrap().is_none());
            let change = EndpointChange { enabled: Some(false), ..EndpointChange::default() };
            assert!(store.update_endpoint(foreign, endpoints[own], change).await.unwrap().is_none());
            assert!(!store.delete_endpoint(foreign, endpoints[own]).await.unwrap());
            let target = PauseTarget::Endpoint(foreign, endpoints[own], PausedBy::Owner);
            assert!(!store.set_paused(target, true).await.unwrap());
            assert!(store.follow(Some(foreign), Some(events[own]), None).await.unwrap().is_err());
            let mut feed = store.follow(Some(tenant), Some(0), None).await.unwrap().unwrap();
            assert_eq!(feed.next().await.unwrap().events[0].row.seq, events[own]);
            assert_eq!(feed.position(), events[own]);
        }
        let missing = published_to_nobody(store).await;
        assert_eq!(missing, Some(StoreError::NoTenant));
    })
    .await;
}

/// Publishes an event of a tenant that does not exist.
async fn published_to_nobody(store: &Store) -> Option<StoreError> {
    let none = tenant(store, "none").await;
    let delete = "UPDATE tenants SET deleted_at = 1 WHERE seq = ?1";
    store.write(1, move |tx| Ok(tx.connection.execute(delete, [none])?)).await.unwrap();
    store.publish(none, vec![event("a")]).await.err()
}

#[tokio::test]
async fn feed_of_a_tenant_names_only_its_own_positions() {
    with_store(AutoDisable::default(), async |store| {
        let quiet = tenant(store, "quiet").await;
        let Published::Accepted { event: own, .. } = published(store, quiet, event("a")).await else {
            panic!("not accepted")
        };
        published(store, TENANT, event("a")).await;
        let mut live = store.follow(Some(quiet), None, None).await.unwrap().unwrap();
        assert_eq!(live.position(), own, "the newest event belongs to another tenant");
        published(store, TENANT, event("a")).await;
        let Published::Accepted { event: next, .. } = published(store, quiet, event("b")).await else {
            panic!("not accepted")
        };
        let events = live.next().await.unwrap().events;
        assert_eq!(events.iter().map(|event| event.row.seq).collect::<Vec<_>>(), [next]);
        assert_eq!(live.position(), next);
        let unused = tenant(store, "unused").await;
        assert_eq!(store.follow(Some(unused), None, None).await.unwrap().unwrap().position(), 0);
    })
    .await;
}

#[tokio::test]
async fn uid_is_unique_among_the_rows_of_a_tenant() {
    with_store(AutoDisable::default(), async |store| {
        let with_uid = || NewEvent { uid: Some("order-1".to_owned()), ..event("a") };
        let Published::Accepted { event: first, .. } = published(store, TENANT, with_uid()).await else {
            panic!("not accepted")
        };
        assert_eq!(published(store, TENANT, with_uid()).await, Published::Duplicate { event: first });
        assert_eq!(row(store, "SELECT count(*) FROM events").await, [1]);

        let new = || NewEndpoint { uid: Some("hook".to_owned()), ..new_endpoint() };
        let known = store.create_endpoint(TENANT, new()).await.unwrap().seq;
        let taken = Some(StoreError::UidTaken("hook".to_owned()));
        assert_eq!(store.create_endpoint(TENANT, new()).await.err(), taken);
        let other = endpoint(store).await;
        let rename = || EndpointChange { uid: Some(Some("hook".to_owned())), ..EndpointChange::default() };
        assert_eq!(store.update_endpoint(TENANT, other, rename()).await.err(), taken);
        assert!(store.update_endpoint(TENANT, known, rename()).await.unwrap().is_some());
        // The uid of a deleted endpoint is free again.
        assert!(store.delete_endpoint(TENANT, known).await.unwrap());
        assert!(store.update_endpoint(TENANT, other, rename()).await.unwrap().is_some());
    })
    .await;
}

#[tokio::test]
async fn generated_idempotency_keys_are_kept_ten_minutes() {
    with_store(AutoDisable::default(), async |store| {
        for (key, minutes) in [("auto_6f1c", 10), ("order-1", 24 * 60)] {
            let keyed = NewEvent { idempotency_key: Some(key.to_owned()), ..event("a") };
            let before = store.clock().due_now();
            store.publish(TENANT, vec![keyed]).await.unwrap();
            let [expires] = row(store, "SELECT max(expires_at) FROM idempotency").await;
            assert!((0..60_000).contains(&(expires - before - minutes * 60_000)), "{key}: {expires}");
        }
    })
    .await;
}

#[tokio::test]
async fn paused_deliveries_wait_and_are_due_when_resumed() {
    with_store(AutoDisable::default(), async |store| {
        let endpoint = endpoint(store).await;
        store.publish(TENANT, vec![event("a")]).await.unwrap();
        let targets = [
            PauseTarget::Endpoint(TENANT, endpoint, PausedBy::Owner),
            PauseTarget::Tenant(TENANT),
            PauseTarget::Relay,
        ];
        for target in targets {
            assert!(store.set_paused(target, true).await.unwrap());
            store.publish(TENANT, vec![event("b")]).await.unwrap();
            store.woken().await;
            let turn = store.turn(endpoint, 16, Vec::new()).await.unwrap();
            assert!(matches!(turn.state, TurnState::Held) && turn.next_due.is_none(), "{target:?}");
            assert!(store.set_paused(target, false).await.unwrap());
            let woken = store.woken().await;
            let due_again: Vec<_> = woken.iter().filter(|woken| matches!(woken.wake, Wake::Due(_))).collect();
            assert!(matches!(due_again[..], [woken] if woken.endpoint == endpoint), "{target:?}: {woken:?}");
        }
        assert_eq!(open_turn(store, endpoint).await.1.len(), 4);
    })
    .await;
}

#[tokio::test]
async fn rollups_count_committed_work_only() {
    with_store(AutoDisable::default(), async |store| {
        let endpoint = endpoint(store).await;
        for _ in 0..3 {
            store.publish(TENANT, vec![event("a")]).await.unwrap();
        }
        let undone = store.write(1, |tx| {
            tx.counts.accepted(TENANT);
            Err::<(), _>(StoreError::Internal("on purpose".to_owned()))
        });
        assert!(undone.await.is_err());
        let (target, due) = open_turn(store, endpoint).await;
        let dead = DeliveryVerdict::Dead { reason: "the last attempt".to_owned() };
        for outcome in [
            outcome(&target, &due[0], None, DeliveryVerdict::Delivered),
            outcome(&target, &due[1], Some(FailureClass::Receiver), dead),
            outcome(&target, &due[2], Some(FailureClass::Relay), DeliveryVerdict::Retry(0)),
        ] {
            store.record(outcome).await.unwrap();
        }
        // The test may run over the end of a minute.
        let of_events =
            "SELECT sum(accepted), sum(ok), sum(failed), sum(dead), sum(skipped), sum(took_ms), sum(b0)
                         FROM rollups WHERE endpoint_seq = 0";
        assert_eq!(row(store, of_events).await, [3, 0, 0, 0, 0, 0, 0]);
        let of_endpoint =
            "SELECT sum(accepted), sum(ok), sum(failed), sum(dead), sum(skipped), sum(took_ms), sum(b0)
                           FROM rollups WHERE endpoint_seq <> 0";
        assert_eq!(row(store, of_endpoint).await, [0, 1, 1, 1, 0, 2, 2]);
    })
    .await;
}

#[tokio::test]
async fn attempts_are_numbered_and_the_first_after_a_resend_is_manual() {
    with_store(AutoDisable::default(), async |store| {
        let endpoint = endpoint(store).await;
        store.publish(TENANT, vec![event("a"), event("b")]).await.unwrap();
        let fail = async || {
            let (target, due) = open_turn(store, endpoint).await;
            for due in &due {
                let failed = outcome(&target, due, Some(FailureClass::Receiver), DeliveryVerdict::Retry(0));
                store.record(failed).await.unwrap();
            }
            due[0].delivery
        };
        fail().await;
        let delivery = fail().await;
        store.resend(TENANT, delivery).await.unwrap();
        fail().await;
        fail().await;
        let (row, log) = store.delivery(TENANT, delivery).await.unwrap().unwrap();
        assert_eq!(row.attempts, 4);
        let log: Vec<_> = log.into_iter().map(|row| (row.number, row.is_manual)).collect();
        assert_eq!(log, [(1, false), (2, false), (3, true), (4, false)]);
    })
    .await;
}

/// Pending deliveries as (endpoint, due time, delivery, event, round), from both tables.
async fn pending(store: &Store) -> [Vec<(i64, i64, i64, i64, i64)>; 2] {
    let read = |connection: &rusqlite::Connection| {
        let rows = |sql: &str| {
            let mut statement = connection.prepare(sql)?;
            let rows = statement
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))?;
            rows.collect::<Result<Vec<_>, _>>()
        };
        Ok([
            rows(
                "SELECT endpoint_seq, due_at, delivery_seq, event_seq, round FROM due ORDER BY delivery_seq",
            )?,
            rows(
                "SELECT endpoint_seq, due_at, seq, event_seq, round FROM deliveries WHERE state = 0 ORDER BY seq",
            )?,
        ])
    };
    store.shared.readers.read(read).await.unwrap()
}

/// Checks the backlogs in memory against the rows.
async fn assert_backlogs_are_right(store: &Store, endpoints: &[i64]) {
    let recount = |connection: &rusqlite::Connection| {
        let backlogs = Backlogs::default();
        backlogs.count(connection).map(|()| backlogs)
    };
    let right = store.shared.readers.read(recount).await.unwrap();
    for endpoint in endpoints {
        for counted in [backlog::Counted::Pending, backlog::Counted::Dead] {
            let kept = store.shared.backlogs.of(counted, *endpoint);
            assert_eq!(kept, right.of(counted, *endpoint), "{counted:?} of endpoint {endpoint}");
        }
    }
}

#[tokio::test]
async fn every_pending_delivery_has_one_row_in_due_after_any_step() {
    for seed in 0..8 {
        let mut rng = motet::rng::Rng::seeded(seed);
        with_store(AutoDisable::default(), async |store| {
            let mut endpoints = vec![endpoint(store).await, endpoint(store).await];
            let mut in_flight = Vec::new();
            for step in 0..120 {
                let endpoint = endpoints[rng.below(endpoints.len() as u64) as usize];
                let now = store.clock().due_now();
                match rng.below(9) {
                    0 | 1 => drop(store.publish(TENANT, vec![event("a")]).await.unwrap()),
                    2 | 3 => {
                        let leased: Vec<i64> =
                            in_flight.iter().map(|(_, due): &(_, DueDelivery)| due.delivery).collect();
                        let turn = store.turn(endpoint, 2, leased).await.unwrap();
                        if let TurnState::Open { target, due } = turn.state {
                            let target = Arc::new(target);
                            in_flight.extend(due.into_iter().map(|due| (Arc::clone(&target), due)));
                        }
                    }
                    4 | 5 if !in_flight.is_empty() => {
                        let nth = rng.below(in_flight.len() as u64) as usize;
                        let (target, due) = in_flight.swap_remove(nth);
                        let (class, verdict) = match rng.below(4) {
                            0 => (None, DeliveryVerdict::Delivered),
                            1 => (Some(FailureClass::Relay), DeliveryVerdict::Retry(now + 50)),
                            2 => (Some(FailureClass::Receiver), DeliveryVerdict::Retry(now + 50)),
                            _ => (
                                Some(FailureClass::Receiver),
                                DeliveryVerdict::Dead { reason: "the last attempt".to_owned() },
                            ),
                        };
                        store.record(outcome(&target, &due, class, verdict)).await.unwrap();
                    }
                    6 => {
                        let newest = row::<1>(store, "SELECT coalesce(max(seq), 1) FROM deliveries").await[0];
                        let [oldest] = row(store, "SELECT coalesce(min(seq), 1) FROM deliveries").await;
                        let delivery = oldest + rng.below((newest - oldest + 1) as u64) as i64;
                        store.resend(TENANT, delivery).await.unwrap();
                    }
                    7 => drop(store.retry_now(TENANT, endpoint).await.unwrap()),
                    8 if step > 60 && endpoints.len() > 1 => {
                        endpoints.retain(|other| *other != endpoint);
                        store.delete_endpoint(TENANT, endpoint).await.unwrap();
                        assert!(!store.move_to_dead_letters(endpoint).await.unwrap().more);
                    }
                    _ => drop(store.redrive(TENANT, None).await.unwrap()),
                }
                let [due, deliveries] = pending(store).await;
                assert_eq!(due, deliveries, "seed {seed}, step {step}");
                assert_backlogs_are_right(store, &endpoints).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn due_times_are_filled_again_from_the_pending_deliveries() {
    with_store(AutoDisable::default(), async |store| {
        let endpoint = endpoint(store).await;
        store.publish(TENANT, vec![event("a"), event("b"), event("c")]).await.unwrap();
        let (target, due) = open_turn(store, endpoint).await;
        let failed = outcome(&target, &due[0], Some(FailureClass::Receiver), DeliveryVerdict::Retry(7));
        store.record(failed).await.unwrap();
        store.record(outcome(&target, &due[1], None, DeliveryVerdict::Delivered)).await.unwrap();
        let refill = format!("DELETE FROM due; {}", deliveries::FILL_DUE);
        let refill = store.write(1, move |tx| Ok(tx.connection.execute_batch(&refill)?));
        refill.await.unwrap();
        let [refilled, expected] = pending(store).await;
        assert_eq!((refilled.len(), &refilled), (2, &expected));
        let (_, due) = open_turn(store, endpoint).await;
        let counts: Vec<_> = due.iter().map(|due| (due.due_at, due.round_attempts)).collect();
        assert_eq!(counts[0], (7, 1), "the attempts are kept: {counts:?}");
    })
    .await;
}

/// An event with an idempotency key and this data.
fn keyed(data: &str) -> NewEvent {
    let data = RawValue::from_string(data.to_owned()).unwrap();
    NewEvent { idempotency_key: Some("key".to_owned()), data, ..event("a") }
}

#[tokio::test]
async fn repeated_event_is_recognised_without_its_data() {
    with_store(AutoDisable::default(), async |store| {
        let Published::Accepted { event: first, .. } =
            published(store, TENANT, keyed(r#"{"a":1,"b":[2]}"#)).await
        else {
            panic!("not accepted")
        };
        store.write(1, |tx| Ok(tx.connection.execute("UPDATE events SET data = NULL", [])?)).await.unwrap();
        let again = published(store, TENANT, keyed(r#" {"b": [2], "a": 1}"#)).await;
        assert!(matches!(again, Published::Replayed { event, .. } if event == first), "{again:?}");
        let other = published(store, TENANT, keyed(r#"{"a":1,"b":[3]}"#)).await;
        assert_eq!(other, Published::Conflict { event: first });
        let tagged = NewEvent { tags: vec!["t".to_owned()], ..keyed(r#"{"a":1,"b":[2]}"#) };
        assert_eq!(published(store, TENANT, tagged).await, Published::Conflict { event: first });
    })
    .await;
}

/// Creates a tenant with this policy.
async fn tenant_with(store: &Store, id: &str, policy: &str) -> TenantSeq {
    let policy = serde_json::from_str(policy).unwrap();
    let new = NewTenant { policy, ..NewTenant::default() };
    store.put_tenant(id.to_owned(), new).await.unwrap().0.seq
}

#[tokio::test]
async fn repeated_and_refused_events_use_the_rate_of_their_tenant() {
    with_store(AutoDisable::default(), async |store| {
        let policy = r#"{"events_per_second": 1, "events_burst": 3600, "events_per_day": 2}"#;
        let tenant = tenant_with(store, "one", policy).await;
        let of_day =
            |quota| matches!(quota, Published::Refused(QuotaExceeded { quota: Quota::EventsPerDay, .. }));
        let mut results = Vec::new();
        for data in ["1", "1", "2"] {
            results.push(published(store, tenant, keyed(data)).await);
        }
        assert!(
            matches!(
                results[..],
                [Published::Accepted { .. }, Published::Replayed { .. }, Published::Conflict { .. }]
            ),
            "{results:?}"
        );
        assert!(matches!(published(store, tenant, event("a")).await, Published::Accepted { .. }));
        assert!(of_day(published(store, tenant, event("a")).await));
        let of_rate = |result| {
            matches!(result, Published::Refused(QuotaExceeded { quota: Quota::EventsPerSecond, .. }))
        };
        let left = store.publish(tenant, vec![keyed("2"); 3_595]).await.unwrap();
        assert!(!of_rate(left[3_594]), "{:?}", left[3_594]);
        // A token comes back each second of the test.
        let last = store.publish(tenant, vec![keyed("1"); 600]).await.unwrap();
        assert!(of_rate(last[599]), "{:?}", last[599]);
    })
    .await;
}

#[tokio::test]
async fn event_of_a_deleted_tenant_is_refused_under_a_known_key() {
    with_store(AutoDisable::default(), async |store| {
        let gone = tenant(store, "gone").await;
        assert!(matches!(published(store, gone, keyed("1")).await, Published::Accepted { .. }));
        let delete = "UPDATE tenants SET deleted_at = 1 WHERE seq = ?1";
        let deleted = store.write(1, move |tx| {
            tx.routes.forget(gone);
            Ok(tx.connection.execute(delete, [gone])?)
        });
        deleted.await.unwrap();
        assert_eq!(store.publish(gone, vec![keyed("1")]).await, Err(StoreError::NoTenant));
    })
    .await;
}

/// Runs a write in a commit that fails.
async fn in_a_failing_commit<T: std::fmt::Debug>(
    store: &Store,
    write: impl Future<Output = Result<T, StoreError>>,
) {
    // While the first commit is written, the others are queued, so they share the next one.
    let (_, failed, ()) = tokio::join!(biased; store.write(1, |_| Ok(())), write, fail_the_commit(store));
    failed.unwrap_err();
}

/// Fails together with all jobs of its commit.
async fn fail_the_commit(store: &Store) {
    let failing = store.write(1, |tx| {
        tx.connection.execute("ROLLBACK", [])?;
        Err::<(), _>(StoreError::Internal("on purpose".to_owned()))
    });
    failing.await.unwrap_err();
}

#[tokio::test]
async fn quotas_are_as_before_after_a_commit_that_failed() {
    with_store(AutoDisable::default(), async |store| {
        let policy = r#"{"events_per_day": 2, "events_per_second": 1, "events_burst": 2}"#;
        let tenant = tenant_with(store, "one", policy).await;
        let publish = || store.publish(tenant, vec![event("a")]);
        publish().await.unwrap();
        in_a_failing_commit(store, publish()).await;
        // A token and an event of the day are left.
        assert!(matches!(publish().await.unwrap()[..], [Published::Accepted { .. }]));
        in_a_failing_commit(store, store.delete_tenant(tenant)).await;
        assert!(matches!(publish().await.unwrap()[..], [Published::Refused(_)]));
    })
    .await;
}

#[tokio::test]
async fn failed_job_discards_only_the_routes_that_it_touched() {
    with_store(AutoDisable::default(), async |store| {
        let [failing, other] = [tenant(store, "failing").await, tenant(store, "other").await];
        let new = || NewEndpoint { uid: Some("same".to_owned()), ..new_endpoint() };
        for tenant in [failing, other] {
            store.create_endpoint(tenant, new()).await.unwrap();
            store.publish(tenant, vec![event("a")]).await.unwrap();
        }
        // Behind the back of the writer, so that a load of the routes shows.
        let hide = "UPDATE endpoints SET enabled = 0 WHERE tenant_seq = ?1";
        store.write(1, move |tx| Ok(tx.connection.execute(hide, [other])?)).await.unwrap();
        store.create_endpoint(failing, new()).await.unwrap_err();
        let accepted = published(store, other, event("a")).await;
        assert!(matches!(accepted, Published::Accepted { deliveries: 1, .. }), "loaded again: {accepted:?}");

        let undone = store.write(1, move |tx| {
            let insert =
                "INSERT INTO endpoints (tenant_seq, url, patterns, enabled, secret, created_at, updated_at)
                 VALUES (?1, 'http://127.0.0.1/', '>', 1, 'x', 0, 0)";
            tx.connection.execute(insert, [failing])?;
            tx.routes.invalidate(failing);
            assert_eq!(tx.routes.of(tx.connection, failing)?.endpoints().len(), 2);
            Err::<(), _>(StoreError::Internal("on purpose".to_owned()))
        });
        undone.await.unwrap_err();
        let accepted = published(store, failing, event("a")).await;
        assert!(matches!(accepted, Published::Accepted { deliveries: 1, .. }), "{accepted:?}");
    })
    .await;
}

#[tokio::test]
async fn tenant_has_at_most_a_thousand_sessions() {
    with_store(AutoDisable::default(), async |store| {
        let other = tenant(store, "other").await;
        let session = |name: String| NewSession {
            token: Masked(name.clone()),
            session: Some(name),
            capabilities: Vec::new(),
            expires_at: Millis::MAX,
        };
        store.add_session(other, session("other".to_owned()), Creator::Owner).await.unwrap();
        let fill = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
             INSERT INTO portal_sessions (hash, tenant_seq, session, capabilities, created_at, expires_at)
             SELECT CAST('hash' || i AS BLOB), 1, 's' || i, '', i, 9e15 FROM n";
        store.write(1, move |tx| Ok(tx.connection.execute(fill, [])?)).await.unwrap();
        store.add_session(TENANT, session("new".to_owned()), Creator::Owner).await.unwrap();
        let counts = "SELECT count(*) FILTER (WHERE tenant_seq = 1), count(*) FILTER (WHERE session = 's1'),
             count(*) FILTER (WHERE session IN ('s2', 'new', 'other')) FROM portal_sessions";
        assert_eq!(row(store, counts).await, [1_000, 0, 3]);
        let ended = ["s2".to_owned(), "none".to_owned()].to_vec();
        store.end_sessions(TENANT, ended, 1).await.unwrap();
        let live = "SELECT count(*) FROM portal_sessions WHERE expires_at > 1";
        assert_eq!(row(store, live).await, [1_000]);
        store.end_sessions(TENANT, Vec::new(), 1).await.unwrap();
        assert_eq!(row(store, live).await, [1]);
    })
    .await;
}

#[tokio::test]
async fn resends_use_the_rate_and_the_backlog_of_their_tenant() {
    with_store(AutoDisable::default(), async |store| {
        let quota = |result: Result<(), StoreError>| match result {
            Err(StoreError::Quota(QuotaExceeded { quota, .. })) => Some(quota),
            Ok(()) => None,
            Err(other) => panic!("{other:?}"),
        };
        for (policy, expected, admitted) in [
            (r#"{"backlog_max": 3}"#, Quota::Backlog, 3),
            (r#"{"events_per_second": 1, "events_burst": 7}"#, Quota::EventsPerSecond, 3),
        ] {
            let tenant = tenant_with(store, &format!("{expected:?}"), policy).await;
            let disabled = NewEndpoint { enabled: false, ..new_endpoint() };
            let endpoint = store.create_endpoint(tenant, disabled).await.unwrap().seq;
            for _ in 0..4 {
                published(store, tenant, event("a")).await;
            }
            let filter = DeliveryFilter { tenant: Some(tenant), ..DeliveryFilter::default() };
            let rows = store.deliveries(filter, None, 10).await.unwrap().rows;
            let skipped: Vec<_> = rows.into_iter().map(|row| row.unwrap()).collect();
            // Makes them dead letters, which a redrive selects.
            let kill = "UPDATE deliveries SET state = 2 WHERE tenant_seq = ?1";
            store.write(1, move |tx| Ok(tx.connection.execute(kill, [tenant])?)).await.unwrap();
            assert_eq!(quota(store.resend(tenant, skipped[0].seq).await.map(drop)), None);
            let done = store.redrive(tenant, None).await.unwrap();
            assert_eq!((done.redriven + 1, done.more), (admitted, true), "{expected:?}");
            assert_eq!(quota(store.redrive(tenant, None).await.map(drop)), Some(expected));
            let dead = skipped.iter().find(|row| row.seq != skipped[0].seq).unwrap();
            let last = skipped[..].iter().map(|row| row.seq).max().unwrap();
            assert_eq!(dead.endpoint, endpoint);
            let refused = store.send_again(tenant, skipped[1].event, endpoint, None).await.map(drop);
            let other = store.resend(tenant, last).await.map(drop);
            // A delivery that is pending already adds nothing to the backlog.
            let of_pending = (expected != Quota::Backlog).then_some(expected);
            assert!([of_pending, Some(expected)].contains(&quota(refused)));
            assert_eq!(quota(other), of_pending);
        }
    })
    .await;
}

#[tokio::test]
async fn deleted_endpoint_keeps_its_row_only_for_its_deliveries() {
    with_store(AutoDisable::default(), async |store| {
        let new = || NewEndpoint {
            uid: Some("hook".to_owned()),
            headers: Masked([("authorization".to_owned(), "theirs".to_owned())].into()),
            ..new_endpoint()
        };
        let unused = store.create_endpoint(TENANT, new()).await.unwrap().seq;
        assert!(store.delete_endpoint(TENANT, unused).await.unwrap());
        assert_eq!(row(store, "SELECT count(*) FROM endpoints").await, [0]);
        let used = store.create_endpoint(TENANT, new()).await.unwrap().seq;
        assert!(used > unused, "the number of a deleted endpoint was used again");
        published(store, TENANT, event("a")).await;
        assert!(store.delete_endpoint(TENANT, used).await.unwrap());
        assert!(!store.delete_endpoint(TENANT, used).await.unwrap());
        let blank = "SELECT count(*) FROM endpoints WHERE secret = '' AND headers = '{}' AND uid IS NULL";
        assert_eq!(row(store, blank).await, [1]);
        assert_eq!(store.move_to_dead_letters(used).await.unwrap().letters.len(), 1);
        assert_eq!(states(store, TENANT).await, [DeliveryState::Dead]);
    })
    .await;
}

#[tokio::test]
async fn keys_of_a_tenant_are_limited() {
    with_store(AutoDisable::default(), async |store| {
        let one = tenant_with(store, "one", r#"{"keys_max": 2}"#).await;
        let add = async |id: String| {
            let (tenant, name) = (Some("one".to_owned()), String::new());
            let scopes = crate::access::KeyScopes::ADMIN;
            let new = NewKey { hash: hash_key(&id), id, tenant, scopes, name, expires_at: None };
            store.add_key(new, Creator::Owner).await
        };
        for id in ["a", "b"] {
            add(id.to_owned()).await.unwrap().unwrap();
        }
        let refused = add("c".to_owned()).await.unwrap_err();
        assert!(matches!(refused, StoreError::Quota(QuotaExceeded { quota: Quota::Keys, limit: 2, .. })));
        let fill = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1005)
             INSERT INTO api_keys (id, hash, tenant_seq, scopes, name, created_at, revoked_at)
             SELECT 'old' || i, x'00', ?1, 1, '', 0, 1 FROM n";
        store.write(1, move |tx| Ok(tx.connection.execute(fill, [one])?)).await.unwrap();
        assert_eq!(store.revoke_key("a".to_owned(), None).await.unwrap(), KeyRevocation::Revoked);
        add("c".to_owned()).await.unwrap().unwrap();
        let counts = "SELECT count(*), count(*) FILTER (WHERE id IN ('b', 'c', 'old1005', 'old7')),
             count(*) FILTER (WHERE id IN ('a', 'old1')) FROM api_keys";
        assert_eq!(row(store, counts).await, [1_002, 4, 0]);
    })
    .await;
}

#[tokio::test]
async fn owner_of_an_endpoint_does_not_end_the_pause_of_an_operator() {
    with_store(AutoDisable::default(), async |store| {
        let endpoint = endpoint(store).await;
        let set =
            async |by, paused| store.set_paused(PauseTarget::Endpoint(TENANT, endpoint, by), paused).await;
        let is_paused = async || store.endpoint(TENANT, endpoint).await.unwrap().unwrap().paused;
        for by in [PausedBy::Operator, PausedBy::Owner] {
            assert!(set(by, true).await.unwrap());
        }
        assert_eq!(set(PausedBy::Owner, false).await, Err(StoreError::PausedByOperator));
        assert!(is_paused().await);
        assert!(set(PausedBy::Operator, false).await.unwrap());
        assert!(!is_paused().await, "an operator resumes for both");
        assert!(set(PausedBy::Owner, true).await.unwrap() && is_paused().await);
        assert!(set(PausedBy::Owner, false).await.unwrap() && !is_paused().await);
    })
    .await;
}

#[tokio::test]
async fn rows_of_a_deleted_tenant_go_while_its_attempts_end() {
    with_store(AutoDisable::default(), async |store| {
        for (round, id) in ["a", "b", "c", "d"].into_iter().enumerate() {
            let tenant = tenant(store, id).await;
            let (mut in_flight, mut endpoints) = (Vec::new(), Vec::new());
            for _ in 0..3 {
                let endpoint = store.create_endpoint(tenant, new_endpoint()).await.unwrap().seq;
                endpoints.push(endpoint);
                store.publish(tenant, vec![event("a"); 150]).await.unwrap();
                let (target, due) = open_turn(store, endpoint).await;
                in_flight.extend(due.into_iter().map(|due| {
                    let retry = DeliveryVerdict::Retry(store.clock().due_now());
                    outcome(&target, &due, Some(FailureClass::Receiver), retry)
                }));
            }
            let (deleted, ()) = tokio::join!(biased; store.delete_tenant(tenant), async {
                for (nth, outcome) in in_flight.into_iter().enumerate() {
                    store.record(outcome).await.unwrap();
                    // Spread over the steps of the sweep.
                    for _ in 0..nth * round {
                        tokio::task::yield_now().await;
                    }
                }
            });
            assert_eq!(deleted.unwrap().map(|(pending, _)| pending), Some(450 + 300 + 150));
            while row(store, "SELECT count(*) FROM tenants WHERE deleted_at IS NOT NULL").await != [0] {
                tokio::task::yield_now().await;
            }
            for table in ["due", "attempts", "deliveries", "events", "rollups", "endpoints"] {
                let count: &'static str = format!("SELECT count(*) FROM {table}").leak();
                assert_eq!(row(store, count).await, [0], "{table} in round {round}");
            }
            assert_backlogs_are_right(store, &endpoints).await;
        }
    })
    .await;
}

#[tokio::test]
async fn first_tenant_after_a_start_leaves_a_gap_in_the_numbers() {
    with_store(AutoDisable::default(), async |store| {
        let tenant = tenant_with(store, "one", "{}").await;
        // A step is below 1 000 with a probability of 1e-9.
        assert!(tenant.number() > 1_000, "{tenant}");
    })
    .await;
}

#[tokio::test]
async fn routes_follow_a_changed_endpoint_and_load_no_others() {
    with_store(AutoDisable::default(), async |store| {
        let hidden = endpoint(store).await;
        let deliveries = async || match published(store, TENANT, event("a")).await {
            Published::Accepted { deliveries, .. } => deliveries,
            other => panic!("{other:?}"),
        };
        assert_eq!(deliveries().await, 1);
        // Behind the back of the writer, so that a load of all routes shows.
        let hide = "UPDATE endpoints SET enabled = 0 WHERE seq = ?1";
        store.write(1, move |tx| Ok(tx.connection.execute(hide, [hidden])?)).await.unwrap();
        let [first, second] = [endpoint(store).await, endpoint(store).await];
        assert_eq!(deliveries().await, 3);
        let change = EndpointChange { enabled: Some(false), ..EndpointChange::default() };
        store.update_endpoint(TENANT, first, change).await.unwrap().unwrap();
        assert_eq!(deliveries().await, 2);
        let change = EndpointChange { enabled: Some(true), ..EndpointChange::default() };
        store.update_endpoint(TENANT, first, change).await.unwrap().unwrap();
        assert!(store.delete_endpoint(TENANT, second).await.unwrap());
        assert_eq!(deliveries().await, 2);
        let (target, due) = open_turn(store, first).await;
        let failed = outcome(&target, &due[0], Some(FailureClass::Receiver), DeliveryVerdict::Retry(0));
        let gone = Attempt { status: Some(410), ..failed.attempt.clone() };
        store.record(AttemptOutcome { attempt: gone, ..failed }).await.unwrap();
        assert_eq!(deliveries().await, 1, "the receiver is gone");
    })
    .await;
}
