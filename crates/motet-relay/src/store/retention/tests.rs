//! Each rule of retention, with time that the tests let pass.

use std::time::Duration;

use rusqlite::Connection;
use serde_json::value::RawValue;

use super::driver::Driver;
use super::*;
use crate::config::{AutoDisable, Retention};
use crate::store::tests::{
    endpoint, event, new_endpoint, open_turn, outcome, published, with_store, with_store_in,
};
use crate::store::{
    DeliveryVerdict, FailureClass, FollowRefusal, Merge, NewEvent, NewReplay, NewTenant, Published,
    ReplayFilter, ReplayMode, Store, TenantChange,
};

const TENANT: TenantSeq = TenantSeq::DEFAULT;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const DAY_SECONDS: u32 = 24 * 60 * 60;

pub(super) fn keep(payload_days: u32, rows_days: u32) -> Retention {
    let days = |days: u32| (days > 0).then(|| DAY * days);
    Retention { payload_keep: days(payload_days), rows_keep: days(rows_days), max_bytes: None }
}

/// Runs a pass of a driver that has just started.
async fn pass(store: &Store, relay: Retention) {
    Driver::new(store.clone(), relay).pass().await.unwrap();
}

async fn publish(store: &Store, event: NewEvent) -> i64 {
    match published(store, TENANT, event).await {
        Published::Accepted { event, .. } => event,
        other => panic!("{other:?}"),
    }
}

/// Attempts the deliveries that are due at an endpoint, with a response.
async fn attempt(store: &Store, endpoint: i64, verdict: &DeliveryVerdict) {
    let (target, due) = open_turn(store, endpoint).await;
    for due in &due {
        let class = (*verdict != DeliveryVerdict::Delivered).then_some(FailureClass::Receiver);
        let mut outcome = outcome(&target, due, class, verdict.clone());
        outcome.attempt.response = Some("echo".to_owned());
        store.record(outcome).await.unwrap();
    }
}

async fn deliver(store: &Store, endpoint: i64) {
    attempt(store, endpoint, &DeliveryVerdict::Delivered).await;
}

pub(super) async fn number(store: &Store, sql: &'static str) -> i64 {
    let read = move |connection: &Connection| Ok(connection.query_row(sql, [], |row| row.get(0))?);
    store.shared.readers.read(read).await.unwrap()
}

/// The number of events with data, of events, of deliveries and of attempts.
async fn rows(store: &Store) -> [i64; 4] {
    [
        number(store, "SELECT count(*) FROM events WHERE data IS NOT NULL").await,
        number(store, "SELECT count(*) FROM events").await,
        number(store, "SELECT count(*) FROM deliveries").await,
        number(store, "SELECT count(*) FROM attempts").await,
    ]
}

#[tokio::test]
async fn data_ends_first_and_rows_end_later() {
    with_store(AutoDisable::default(), async |store| {
        let receiver = endpoint(store).await;
        let seq = publish(store, event("a")).await;
        attempt(store, receiver, &DeliveryVerdict::Retry(0)).await;
        deliver(store, receiver).await;
        store.clock().pass(DAY * 30 - Duration::from_secs(60));
        pass(store, keep(30, 90)).await;
        assert_eq!(rows(store).await, [1, 1, 1, 2]);
        assert_eq!(number(store, "SELECT count(*) FROM attempts WHERE response IS NOT NULL").await, 2);
        store.clock().pass(Duration::from_secs(120));
        pass(store, keep(30, 90)).await;
        assert_eq!(rows(store).await, [0, 1, 1, 2]);
        assert_eq!(number(store, "SELECT count(*) FROM attempts WHERE response IS NOT NULL").await, 0);
        assert!(store.event(TENANT, seq).await.unwrap().unwrap().is_erased(), "it is no damage");
        assert_eq!(store.send_again(TENANT, seq, receiver, None).await, Err(StoreError::Erased));
        store.clock().pass(DAY * 60);
        pass(store, keep(30, 90)).await;
        assert_eq!(rows(store).await, [0; 4]);
        assert_eq!(store.health().await, Ok(()));
    })
    .await;
}

#[tokio::test]
async fn rows_that_end_before_the_data_end_with_it() {
    with_store(AutoDisable::default(), async |store| {
        let receiver = endpoint(store).await;
        publish(store, event("a")).await;
        deliver(store, receiver).await;
        store.clock().pass(DAY * 2);
        pass(store, keep(30, 1)).await;
        assert_eq!(rows(store).await, [0; 4]);
    })
    .await;
}

#[tokio::test]
async fn nothing_ends_if_it_is_kept_for_ever() {
    with_store(AutoDisable::default(), async |store| {
        publish(store, event("a")).await;
        store.clock().pass(DAY * 4_000);
        pass(store, keep(0, 0)).await;
        assert_eq!(rows(store).await, [1, 1, 0, 0]);
    })
    .await;
}

#[tokio::test]
async fn pending_event_stays_until_its_delivery_has_ended() {
    with_store(AutoDisable::default(), async |store| {
        let receiver = endpoint(store).await;
        for _ in 0..3 {
            publish(store, event("a")).await;
        }
        attempt(store, receiver, &DeliveryVerdict::Retry(0)).await;
        store.clock().pass(DAY * 100);
        let mut driver = Driver::new(store.clone(), keep(30, 90));
        driver.pass().await.unwrap();
        assert_eq!(rows(store).await, [3, 3, 3, 3]);
        assert_eq!(number(store, "SELECT count(*) FROM retained").await, 6);
        assert_eq!(open_turn(store, receiver).await.1.len(), 3, "they are sent with their data");
        deliver(store, receiver).await;
        driver.pass().await.unwrap();
        assert_eq!(rows(store).await, [0; 4]);
        assert_eq!(number(store, "SELECT count(*) FROM retained").await, 0);
    })
    .await;
}

#[tokio::test]
async fn dead_letter_that_ended_is_no_longer_counted() {
    with_store(AutoDisable::default(), async |store| {
        let receiver = endpoint(store).await;
        publish(store, event("a")).await;
        attempt(store, receiver, &DeliveryVerdict::Dead { reason: "the last attempt".to_owned() }).await;
        let dead = async || store.all_backlogs().await.unwrap()[0].1.dead;
        assert_eq!(dead().await, 1);
        store.clock().pass(DAY * 100);
        pass(store, keep(30, 90)).await;
        assert_eq!((rows(store).await, dead().await), ([0; 4], 0));
    })
    .await;
}

#[tokio::test]
async fn event_that_dies_after_its_time_stays_as_a_dead_letter() {
    with_store(AutoDisable::default(), async |store| {
        let receiver = endpoint(store).await;
        publish(store, event("a")).await;
        store.clock().pass(DAY * 100);
        pass(store, keep(30, 90)).await;
        attempt(store, receiver, &DeliveryVerdict::Dead { reason: "the last attempt".to_owned() }).await;
        store.clock().pass(DAY * 6);
        let mut driver = Driver::new(store.clone(), keep(30, 90));
        driver.pass().await.unwrap();
        assert_eq!(rows(store).await[..2], [1, 1]);
        assert_eq!(store.redrive(TENANT, None).await.unwrap().redriven, 1, "it has its data");
        attempt(store, receiver, &DeliveryVerdict::Dead { reason: "the last attempt".to_owned() }).await;
        store.clock().pass(DAY * 8);
        driver.pass().await.unwrap();
        assert_eq!(rows(store).await, [0; 4]);
    })
    .await;
}

#[tokio::test]
async fn event_can_shorten_the_time_of_its_data_only() {
    with_store(AutoDisable::default(), async |store| {
        let keep_ms = |days| Some(millis(DAY * days));
        let short = publish(store, NewEvent { keep_ms: keep_ms(5), ..event("a") }).await;
        let long = publish(store, NewEvent { keep_ms: keep_ms(80), ..event("a") }).await;
        let plain = publish(store, event("a")).await;
        let erased = async || {
            let mut erased = Vec::new();
            for seq in [short, long, plain] {
                erased.push(store.event(TENANT, seq).await.unwrap().unwrap().is_erased());
            }
            erased
        };
        store.clock().pass(DAY * 6);
        pass(store, keep(30, 90)).await;
        assert_eq!(erased().await, [true, false, false]);
        store.clock().pass(DAY * 25);
        pass(store, keep(30, 90)).await;
        assert_eq!(erased().await, [true, true, true]);
    })
    .await;
}

#[tokio::test]
async fn pending_event_with_a_shorter_time_is_looked_at_again() {
    with_store(AutoDisable::default(), async |store| {
        let receiver = endpoint(store).await;
        publish(store, NewEvent { keep_ms: Some(1_000), ..event("a") }).await;
        store.clock().pass(DAY);
        let mut driver = Driver::new(store.clone(), keep(30, 90));
        driver.pass().await.unwrap();
        assert_eq!(rows(store).await[0], 1);
        deliver(store, receiver).await;
        driver.pass().await.unwrap();
        assert_eq!(rows(store).await, [0, 1, 1, 1]);
    })
    .await;
}

/// Sets the times of a tenant in seconds; `None` inherits them.
async fn set_times(store: &Store, tenant: TenantSeq, payload: Option<u32>, rows: Option<u32>) {
    let policy = TenantPolicy { payload_keep_s: payload, rows_keep_s: rows, ..TenantPolicy::default() };
    let change = TenantChange { policy: Some(Merge::Replace(policy)), ..TenantChange::default() };
    store.update_tenant(tenant, change).await.unwrap().unwrap();
}

#[tokio::test]
async fn policy_of_a_tenant_overrides_the_times_of_relay() {
    with_store(AutoDisable::default(), async |store| {
        let other = store.put_tenant("other".to_owned(), NewTenant::default()).await.unwrap().0.seq;
        for tenant in [TENANT, other] {
            published(store, tenant, event("a")).await;
        }
        let left = async |tenant| {
            let listed = store.events(Some(tenant), crate::store::EventFilter::default(), None, 10);
            listed.await.unwrap().0.rows.len()
        };
        set_times(store, other, Some(0), Some(0)).await;
        store.clock().pass(DAY * 100);
        pass(store, keep(30, 90)).await;
        assert_eq!((left(TENANT).await, left(other).await), (0, 1), "0 is forever");
        set_times(store, other, None, Some(200 * DAY_SECONDS)).await;
        pass(store, keep(30, 90)).await;
        assert_eq!((rows(store).await[0], left(other).await), (0, 1), "the other time is inherited");
        set_times(store, other, None, Some(50 * DAY_SECONDS)).await;
        pass(store, keep(30, 90)).await;
        assert_eq!(left(other).await, 0, "a time that became shorter applies");
    })
    .await;
}

#[tokio::test]
async fn time_that_became_longer_applies_to_events_in_use_too() {
    with_store(AutoDisable::default(), async |store| {
        let receiver = endpoint(store).await;
        publish(store, event("a")).await;
        store.clock().pass(DAY * 100);
        let mut driver = Driver::new(store.clone(), keep(0, 90));
        driver.pass().await.unwrap();
        set_times(store, TENANT, None, Some(200 * DAY_SECONDS)).await;
        deliver(store, receiver).await;
        driver.pass().await.unwrap();
        assert_eq!(rows(store).await, [1, 1, 1, 1]);
        store.clock().pass(DAY * 101);
        driver.pass().await.unwrap();
        assert_eq!(rows(store).await, [0; 4]);
    })
    .await;
}

#[tokio::test]
async fn clock_that_is_set_forward_deletes_nothing() {
    with_store(AutoDisable::default(), async |store| {
        publish(store, event("a")).await;
        let year = 365 * millis(DAY);
        store.clock().set_system_clock(year);
        // This event is dated a year too late.
        publish(store, event("b")).await;
        pass(store, keep(30, 90)).await;
        assert_eq!(rows(store).await, [2, 2, 0, 0]);
        store.clock().set_system_clock(-year);
        publish(store, event("c")).await;
        store.clock().pass(DAY * 100);
        pass(store, keep(30, 90)).await;
        let left = number(store, "SELECT count(*) FROM events WHERE type = 'b'").await;
        assert_eq!((rows(store).await[1], left), (1, 1), "the misdated event holds up no other event");
        store.clock().pass(DAY * 400);
        pass(store, keep(30, 90)).await;
        assert_eq!(rows(store).await, [0; 4]);
    })
    .await;
}

#[tokio::test]
async fn event_stays_until_a_running_replay_has_passed_it() {
    // A walk over events, and one over deliveries.
    for mode in [ReplayMode::Missing, ReplayMode::Delivered] {
        with_store(AutoDisable::default(), async |store| {
            let receiver = endpoint(store).await;
            publish(store, event("a")).await;
            deliver(store, receiver).await;
            let late = endpoint(store).await;
            let at = if mode == ReplayMode::Missing { late } else { receiver };
            let filter = ReplayFilter::default();
            let new = NewReplay { mode, endpoint: Some(at), filter, requested_by: None, once: None };
            let plan = store.plan_replay(TENANT, &new).await.unwrap();
            let replay = store.start_replay(TENANT, new, plan).await.unwrap().seq;
            // Published after the replay began, so the replay does not send it.
            publish(store, event("b")).await;
            deliver(store, receiver).await;
            deliver(store, late).await;
            store.clock().pass(DAY * 100);
            let mut driver = Driver::new(store.clone(), keep(30, 90));
            driver.pass().await.unwrap();
            assert_eq!(rows(store).await, [1, 1, 1, 1], "{mode:?}");
            store.cancel_replay(TENANT, replay).await.unwrap();
            driver.pass().await.unwrap();
            assert_eq!(rows(store).await, [0; 4], "{mode:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn rows_stay_while_a_repeated_request_is_answered_with_them() {
    with_store(AutoDisable::default(), async |store| {
        let keyed = || NewEvent { idempotency_key: Some("once".to_owned()), ..event("a") };
        let seq = publish(store, keyed()).await;
        let hour = Duration::from_secs(60 * 60);
        let short = Retention { payload_keep: Some(hour), rows_keep: Some(hour), max_bytes: None };
        store.clock().pass(hour * 2);
        let mut driver = Driver::new(store.clone(), short);
        driver.pass().await.unwrap();
        assert_eq!(rows(store).await, [0, 1, 0, 0], "the data is not needed for the answer");
        assert!(matches!(published(store, TENANT, keyed()).await, Published::Replayed { event, .. } if event == seq));
        store.clock().pass(DAY);
        driver.pass().await.unwrap();
        assert_eq!(rows(store).await, [0; 4]);
        assert!(matches!(published(store, TENANT, keyed()).await, Published::Accepted { .. }));
    })
    .await;
}

/// Stores events of 10 kB. Returns their numbers.
async fn large_events(store: &Store, count: usize) -> Vec<i64> {
    let mut events = Vec::new();
    for _ in 0..count {
        let data = RawValue::from_string(format!("\"{}\"", "x".repeat(10_000))).unwrap();
        events.push(publish(store, NewEvent { data, ..event("a") }).await);
    }
    events
}

#[tokio::test]
async fn oldest_finished_events_end_while_the_store_is_too_large() {
    with_store(AutoDisable::default(), async |store| {
        let receiver = endpoint(store).await;
        let pending = large_events(store, 1).await[0];
        let target = crate::store::PauseTarget::Endpoint(TENANT, receiver, crate::store::PausedBy::Owner);
        store.set_paused(target, true).await.unwrap();
        store.delete_endpoint(TENANT, endpoint(store).await).await.unwrap();
        let change = crate::store::EndpointChange { enabled: Some(false), ..Default::default() };
        store.update_endpoint(TENANT, receiver, change).await.unwrap();
        let events = large_events(store, 200).await;
        let used = store.shared.readers.read(crate::store::space::used_bytes).await.unwrap();
        let max_bytes = used / 2;
        let limited = Retention { max_bytes: Some(max_bytes), ..keep(0, 0) };
        pass(store, limited).await;
        let used = store.shared.readers.read(crate::store::space::used_bytes).await.unwrap();
        assert!(used <= max_bytes && used > max_bytes / 5 * 4, "{used} of {max_bytes}");
        assert!(store.event(TENANT, pending).await.unwrap().is_some(), "a pending event stays");
        assert!(store.event(TENANT, events[0]).await.unwrap().is_none());
        assert!(store.event(TENANT, events[199]).await.unwrap().is_some());
        assert_eq!(
            number(store, "SELECT count(*) FROM deliveries WHERE event_seq NOT IN (SELECT seq FROM events)")
                .await,
            0
        );
    })
    .await;
}

#[tokio::test]
async fn file_shrinks_after_a_pass() {
    let directory = tempfile::tempdir().unwrap();
    let size = || std::fs::metadata(directory.path().join("relay.db")).unwrap().len();
    with_store_in(directory.path(), AutoDisable::default(), async |store| {
        large_events(store, 800).await;
    })
    .await;
    let full = size();
    with_store_in(directory.path(), AutoDisable::default(), async |store| {
        store.clock().pass(DAY * 100);
        pass(store, keep(30, 90)).await;
        assert_eq!(rows(store).await, [0; 4]);
        assert_eq!(store.shared.readers.read(crate::store::vacuum::free_pages_beyond).await.unwrap(), 0);
    })
    .await;
    assert!(size() < full / 4, "{} of {full} bytes", size());
}

#[tokio::test]
async fn event_with_many_rows_ends_in_several_steps() {
    with_store(AutoDisable::default(), async |store| {
        let receivers = [endpoint(store).await, endpoint(store).await, endpoint(store).await];
        let seq = publish(store, event("a")).await;
        for receiver in receivers {
            for _ in 0..150 {
                attempt(store, receiver, &DeliveryVerdict::Retry(0)).await;
            }
            deliver(store, receiver).await;
        }
        store.clock().pass(DAY * 100);
        let (now, relay) = (store.clock().retention_now(), keep(0, 90));
        let mut steps = 0;
        while rows(store).await[1] > 0 {
            let before = rows(store).await;
            let relay = relay.clone();
            let step = move |tx: &mut crate::store::writer::Tx<'_>| {
                steps::of_tenant(tx, &relay, TENANT, DueKind::Rows, now, usize::MAX)
            };
            store.write(1, step).await.unwrap();
            let after = rows(store).await;
            let deleted: i64 =
                before[1..].iter().zip(&after[1..]).map(|(before, after)| before - after).sum();
            assert!((1..=CHANGED_PER_STEP as i64).contains(&deleted), "{before:?} {after:?}");
            if after[1] > 0 {
                assert!(
                    store.event(TENANT, seq).await.unwrap().unwrap().is_erased(),
                    "nothing may send it again"
                );
            }
            // The rows that are left can still be read.
            let listed =
                store.deliveries(crate::store::DeliveryFilter::default(), None, 10).await.unwrap().rows;
            assert!(listed.iter().all(|row| row.as_ref().is_ok_and(|row| row.event_type.is_ok())));
            steps += 1;
        }
        assert_eq!((rows(store).await, steps), ([0; 4], 3));
    })
    .await;
}

#[tokio::test]
async fn feed_that_would_have_a_gap_is_refused() {
    with_store(AutoDisable::default(), async |store| {
        let other = store.put_tenant("other".to_owned(), NewTenant::default()).await.unwrap().0.seq;
        let first = publish(store, event("a")).await;
        let second = publish(store, event("a")).await;
        let Published::Accepted { event: of_other, .. } = published(store, other, event("a")).await else {
            panic!()
        };
        set_times(store, other, Some(0), Some(0)).await;
        let mut slow = store.follow(Some(TENANT), Some(0), None).await.unwrap().unwrap();
        store.clock().pass(DAY * 100);
        let newest = publish(store, event("a")).await;
        pass(store, keep(30, 90)).await;
        let start = async |tenant, after| store.follow(tenant, Some(after), None).await.unwrap().err();
        let gap = Some(FollowRefusal::Deleted { oldest: Some(newest) });
        assert_eq!(start(Some(TENANT), first).await, gap);
        assert_eq!(start(Some(TENANT), 0).await, gap);
        assert_eq!(start(None, first).await, Some(FollowRefusal::Deleted { oldest: Some(of_other) }));
        assert_eq!(start(Some(TENANT), second).await, None, "only the event itself was deleted");
        assert_eq!(start(Some(TENANT), newest + 1).await, Some(FollowRefusal::Unknown));
        for after in [0, of_other] {
            assert_eq!(start(Some(other), after).await, None, "another tenant has no gap");
        }
        assert_eq!(slow.next().await.err(), Some(StoreError::Overtaken));
        let mut feed = store.follow(Some(TENANT), Some(second), None).await.unwrap().unwrap();
        assert_eq!(feed.next().await.unwrap().events[0].row.seq, newest);
    })
    .await;
}

#[tokio::test]
async fn rows_of_other_tables_end_too() {
    with_store(AutoDisable::default(), async |store| {
        let deleted = endpoint(store).await;
        publish(store, NewEvent { idempotency_key: Some("k".to_owned()), ..event("a") }).await;
        deliver(store, deleted).await;
        let kept = store.create_endpoint(TENANT, new_endpoint()).await.unwrap().seq;
        store.delete_endpoint(TENANT, deleted).await.unwrap();
        let filter = ReplayFilter::default();
        let mode = ReplayMode::Failed;
        let new = NewReplay { mode, endpoint: Some(kept), filter, requested_by: None, once: None };
        let plan = store.plan_replay(TENANT, &new).await.unwrap();
        let replay = store.start_replay(TENANT, new, plan).await.unwrap().seq;
        store.cancel_replay(TENANT, replay).await.unwrap();
        let keys =
            "INSERT INTO api_keys (id, hash, tenant_seq, scopes, name, created_at, expires_at, revoked_at)
             VALUES ('revoked', x'00', 1, 2, '', 0, NULL, 5), ('expired', x'00', NULL, 2, '', 0, 5, NULL),
                    ('valid', x'00', NULL, 2, '', 0, NULL, NULL), ('admin', x'00', NULL, 64, '', 0, 5, 5)";
        store.write(1, move |tx| Ok(tx.connection.execute(keys, [])?)).await.unwrap();
        let sessions = "INSERT INTO portal_sessions (hash, tenant_seq, capabilities, created_at, expires_at)
             VALUES (x'01', 1, '', 0, 5)";
        store.write(1, move |tx| Ok(tx.connection.execute(sessions, [])?)).await.unwrap();
        let counts = async || {
            [
                number(store, "SELECT count(*) FROM endpoints").await,
                number(store, "SELECT count(*) FROM replays").await,
                number(store, "SELECT count(*) FROM replay_parts").await,
                number(store, "SELECT count(*) FROM idempotency").await,
                number(store, "SELECT count(*) FROM rollups").await.min(1),
                number(store, "SELECT count(*) FROM portal_sessions").await,
                number(store, "SELECT count(*) FROM api_keys").await,
            ]
        };
        pass(store, keep(0, 0)).await;
        assert_eq!(counts().await, [2, 1, 1, 1, 1, 1, 4]);
        store.clock().pass(DAY * 100);
        pass(store, keep(0, 90)).await;
        assert_eq!(counts().await, [1, 0, 0, 0, 0, 0, 2]);
        let left = "SELECT count(*) FROM api_keys WHERE id IN ('valid', 'admin')";
        assert_eq!(number(store, left).await, 2, "a store that had a first key gets no other one");
        assert!(store.endpoint(TENANT, kept).await.unwrap().is_some());
    })
    .await;
}

#[tokio::test]
async fn plan_counts_what_the_next_pass_deletes() {
    with_store(AutoDisable::default(), async |store| {
        let receiver = endpoint(store).await;
        publish(store, event("a")).await;
        publish(store, event("a")).await;
        deliver(store, receiver).await;
        store.clock().pass(DAY * 70);
        publish(store, event("a")).await;
        deliver(store, receiver).await;
        publish(store, event("a")).await;
        store.clock().pass(DAY * 31);
        let plan = store.plan_retention(keep(30, 90)).await.unwrap();
        let [tenant] = plan.tenants[..] else { panic!("{plan:?}") };
        assert_eq!((tenant.tenant, tenant.events, tenant.payloads, tenant.in_use), (TENANT, 2, 1, 1));
        assert_eq!((tenant.bytes, plan.more), (3, false));
        assert_eq!(rows(store).await[1], 4, "a plan deletes nothing");
        pass(store, keep(30, 90)).await;
        assert_eq!(rows(store).await, [1, 2, 2, 1]);
        let plan = store.plan_retention(keep(30, 90)).await.unwrap();
        let [tenant] = plan.tenants[..] else { panic!("{plan:?}") };
        assert_eq!((tenant.events, tenant.payloads), (0, 0));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn policy_wakes_the_driver_and_a_pass_follows() {
    with_store(AutoDisable::default(), async |store| {
        let driver = run(store.clone(), keep(0, 0), 0);
        let test = async {
            publish(store, event("a")).await;
            // The driver has nothing to wait for.
            tokio::time::sleep(DAY / 2).await;
            store.clock().pass(DAY * 2);
            set_times(store, TENANT, None, Some(DAY_SECONDS)).await;
            while number(store, "SELECT count(*) FROM events").await > 0 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        assert!(matches!(motet::task::race(driver, test).await, motet::task::Either::Right(())));
    })
    .await;
}
