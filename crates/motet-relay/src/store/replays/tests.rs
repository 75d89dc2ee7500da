use std::collections::BTreeSet;

use super::*;
use crate::config::AutoDisable;
use crate::store::backlog::Counted;
use crate::store::damage::Damage;
use crate::store::tests::{
    endpoint, event, new_endpoint, open_turn, outcome, published, row, with_store, with_store_in,
};
use crate::store::{
    DeliveryVerdict, EndpointChange, FailureClass, Merge, NewEndpoint, NewEvent, NewTenant, Published,
    TenantChange,
};

const TENANT: TenantSeq = TenantSeq::DEFAULT;

/// Three deliveries of replays may wait at an endpoint.
const LIMITS: ReplayLimits = ReplayLimits { waiting: 3, rate: None };

fn of_mode(mode: ReplayMode, endpoint: Option<i64>) -> NewReplay {
    NewReplay { mode, endpoint, filter: ReplayFilter::default(), requested_by: None, once: None }
}

async fn planned(store: &Store, new: &NewReplay) -> u64 {
    store.plan_replay(TENANT, new).await.unwrap().total()
}

/// Plans and creates a job. Returns its number.
async fn started(store: &Store, new: NewReplay) -> i64 {
    let plan = store.plan_replay(TENANT, &new).await.unwrap();
    store.start_replay(TENANT, new, plan).await.unwrap().seq
}

async fn set_enabled(store: &Store, endpoint: i64, enabled: bool) {
    let change = EndpointChange { enabled: Some(enabled), ..EndpointChange::default() };
    store.update_endpoint(TENANT, endpoint, change).await.unwrap();
}

/// Records the deliveries that are due at an endpoint as delivered. Returns their events.
async fn deliver(store: &Store, endpoint: i64) -> Vec<i64> {
    let (target, due) = open_turn(store, endpoint).await;
    for due in &due {
        store.record(outcome(&target, due, None, DeliveryVerdict::Delivered)).await.unwrap();
    }
    due.iter().map(|due| due.event).collect()
}

async fn progress(store: &Store, replay: i64) -> (ReplayState, u64, u64) {
    let (row, _) = store.replay(TENANT, replay).await.unwrap().unwrap();
    (row.state, row.done, row.skipped)
}

/// Publishes events for an endpoint that is created afterwards. Returns the endpoint.
async fn late_endpoint(store: &Store, events: usize) -> i64 {
    for _ in 0..events {
        published(store, TENANT, event("a")).await;
    }
    endpoint(store).await
}

#[tokio::test]
async fn each_mode_selects_its_events() {
    with_store(AutoDisable::default(), async |store| {
        let first = endpoint(store).await;
        published(store, TENANT, event("a.dead")).await;
        let (target, due) = open_turn(store, first).await;
        let dead = DeliveryVerdict::Dead { reason: "the last attempt".to_owned() };
        let mut failed = outcome(&target, &due[0], Some(FailureClass::Receiver), dead);
        failed.attempt.status = Some(503);
        store.record(failed).await.unwrap();
        let tags = vec!["t".to_owned()];
        published(store, TENANT, NewEvent { tags, ..event("a.delivered") }).await;
        deliver(store, first).await;
        published(store, TENANT, event("a.pending")).await;
        set_enabled(store, first, false).await;
        published(store, TENANT, event("a.skipped")).await;
        set_enabled(store, first, true).await;
        let channels = vec!["red".to_owned()];
        let second = store.create_endpoint(TENANT, NewEndpoint { channels, ..new_endpoint() });
        let second = second.await.unwrap().seq;
        let channels = vec!["red".to_owned()];
        published(store, TENANT, NewEvent { channels, ..event("a.red") }).await;
        let third = endpoint(store).await;

        use ReplayMode::{All, Delivered, Failed, Missing, Sent, Skipped};
        for (mode, at_first, at_second, at_third) in [
            (Failed, 1, 0, 0),
            (Skipped, 1, 0, 0),
            (Delivered, 1, 0, 0),
            (Sent, 2, 0, 0),
            (Missing, 0, 0, 5),
            (All, 3, 0, 5),
        ] {
            for (endpoint, expected) in [(first, at_first), (second, at_second), (third, at_third)] {
                assert_eq!(planned(store, &of_mode(mode, Some(endpoint))).await, expected, "{mode:?}");
            }
            let all = planned(store, &of_mode(mode, None)).await;
            assert_eq!(all, at_first + at_second + at_third, "{mode:?} at all endpoints");
        }
        let now = store.clock().wall();
        let filtered = |filter| NewReplay { filter, ..of_mode(All, Some(first)) };
        for (filter, expected) in [
            (ReplayFilter { since: Some(now - 60_000), ..ReplayFilter::default() }, 3),
            (ReplayFilter { since: Some(now + 60_000), ..ReplayFilter::default() }, 0),
            (ReplayFilter { until: Some(now - 60_000), ..ReplayFilter::default() }, 0),
            (ReplayFilter { status_class: Some(5), ..ReplayFilter::default() }, 1),
            (ReplayFilter { tag: Some("t".to_owned()), ..ReplayFilter::default() }, 1),
            (ReplayFilter { channel: Some("red".to_owned()), ..ReplayFilter::default() }, 0),
            (ReplayFilter { event_types: Some(vec!["a.*".to_owned()]), ..ReplayFilter::default() }, 3),
            (ReplayFilter { event_types: Some(vec!["a.dead".to_owned()]), ..ReplayFilter::default() }, 1),
        ] {
            assert_eq!(planned(store, &filtered(filter.clone())).await, expected, "{filter:?}");
        }
        let unknown = of_mode(All, Some(9_999));
        assert_eq!(store.plan_replay(TENANT, &unknown).await.err(), Some(StoreError::NoEndpoint));
    })
    .await;
}

#[tokio::test]
async fn job_continues_at_its_cursor_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut sent = Vec::new();
    let (mut replay, mut late) = (0, 0);
    with_store_in(directory.path(), AutoDisable::default(), async |store| {
        late = late_endpoint(store, 10).await;
        replay = started(store, of_mode(ReplayMode::Missing, Some(late))).await;
        let part = ReplayPart { replay, endpoint: late };
        assert!(store.replay_woken().await.has_new);
        assert_eq!(store.running_replays().await.unwrap(), [(TENANT, part)]);
        let step = async || store.replay_step(part, LIMITS).await.unwrap();
        assert_eq!(step().await, ReplayStep::Moved { made: 3, rates: ReplayRates::default() });
        assert_eq!(step().await, ReplayStep::Full);
        sent.extend(deliver(store, late).await);
        assert_eq!(store.replay_woken().await.freed, BTreeSet::from([late]));
        assert_eq!(step().await, ReplayStep::Moved { made: 3, rates: ReplayRates::default() });
    })
    .await;
    with_store_in(directory.path(), AutoDisable::default(), async |store| {
        let part = ReplayPart { replay, endpoint: late };
        assert_eq!(store.running_replays().await.unwrap(), [(TENANT, part)]);
        assert_eq!(store.replay_step(part, LIMITS).await.unwrap(), ReplayStep::Full, "three wait already");
        loop {
            sent.extend(deliver(store, late).await);
            if store.replay_step(part, LIMITS).await.unwrap() == ReplayStep::Ended {
                break;
            }
        }
        sent.extend(deliver(store, late).await);
        assert_eq!(progress(store, replay).await, (ReplayState::Finished, 10, 0));
        assert_eq!(store.running_replays().await.unwrap(), []);
        let distinct: BTreeSet<_> = sent.iter().collect();
        assert_eq!((sent.len(), distinct.len()), (10, 10), "each event once: {sent:?}");
        assert!(sent.is_sorted(), "oldest first: {sent:?}");
        assert_eq!(planned(store, &of_mode(ReplayMode::Missing, None)).await, 0);
    })
    .await;
}

#[tokio::test]
async fn new_event_is_in_the_next_turn_beside_a_replay() {
    with_store(AutoDisable::default(), async |store| {
        let late = late_endpoint(store, 200).await;
        let replay = started(store, of_mode(ReplayMode::Missing, Some(late))).await;
        let part = ReplayPart { replay, endpoint: late };
        for _ in 0..20 {
            while store.replay_step(part, LIMITS).await.unwrap() != ReplayStep::Full {}
            let Published::Accepted { event: new, .. } = published(store, TENANT, event("new")).await else {
                panic!("not accepted")
            };
            let turn = deliver(store, late).await;
            assert_eq!(turn.len(), 4, "{turn:?}");
            assert!(turn.contains(&new), "{new} is not in {turn:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn disabled_endpoint_holds_its_part_and_a_deleted_one_ends_it() {
    with_store(AutoDisable::default(), async |store| {
        let [held, deleted, gone] =
            [late_endpoint(store, 2).await, endpoint(store).await, endpoint(store).await];
        let replay = started(store, of_mode(ReplayMode::Missing, None)).await;
        let step = async |endpoint| store.replay_step(ReplayPart { replay, endpoint }, LIMITS).await.unwrap();
        set_enabled(store, held, false).await;
        assert_eq!(step(held).await, ReplayStep::Held);
        let (_, parts) = store.replay(TENANT, replay).await.unwrap().unwrap();
        assert!(parts.iter().all(|part| part.is_held == (part.endpoint == held)), "{parts:?}");
        for endpoint in [deleted, gone] {
            store.delete_endpoint(TENANT, endpoint).await.unwrap();
            assert_eq!(step(endpoint).await, ReplayStep::Ended);
        }
        assert_eq!(progress(store, replay).await, (ReplayState::Running, 0, 0));
        set_enabled(store, held, true).await;
        assert_eq!(step(held).await, ReplayStep::Ended);
        assert_eq!(progress(store, replay).await, (ReplayState::Finished, 2, 0));
        assert_eq!(deliver(store, held).await.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn job_waits_at_half_of_the_limit_of_the_backlog() {
    with_store(AutoDisable::default(), async |store| {
        let late = late_endpoint(store, 5).await;
        let policy = serde_json::from_str(r#"{"backlog_max": 4}"#).unwrap();
        let change = TenantChange { policy: Some(Merge::Replace(policy)), ..TenantChange::default() };
        store.update_tenant(TENANT, change).await.unwrap();
        let replay = started(store, of_mode(ReplayMode::Missing, Some(late))).await;
        let step = async || store.replay_step(ReplayPart { replay, endpoint: late }, LIMITS).await.unwrap();
        assert_eq!(step().await, ReplayStep::Moved { made: 2, rates: ReplayRates::default() });
        assert_eq!(step().await, ReplayStep::Held);
        assert_eq!(deliver(store, late).await.len(), 2);
        assert_eq!(step().await, ReplayStep::Moved { made: 2, rates: ReplayRates::default() });
        deliver(store, late).await;
        assert_eq!(step().await, ReplayStep::Ended);
        assert_eq!(progress(store, replay).await, (ReplayState::Finished, 5, 0));
    })
    .await;
}

#[tokio::test]
async fn part_takes_a_fifth_of_the_rate_of_its_endpoint() {
    with_store(AutoDisable::default(), async |store| {
        let late = late_endpoint(store, 50).await;
        let replay = async |rate| {
            let filter = ReplayFilter { rate, ..ReplayFilter::default() };
            started(store, NewReplay { filter, ..of_mode(ReplayMode::Missing, Some(late)) }).await
        };
        let slow = replay(Some(2)).await;
        let fast = replay(None).await;
        let set_rate = async |rate: u32| {
            let policy = serde_json::from_value(serde_json::json!({ "rate": rate })).unwrap();
            let change = EndpointChange { policy: Some(Merge::Replace(policy)), ..EndpointChange::default() };
            store.update_endpoint(TENANT, late, change).await.unwrap();
        };
        let limits = ReplayLimits { rate: std::num::NonZeroU32::new(500), ..LIMITS };
        for (own, replay, made, (endpoint, job)) in [
            (None, fast, 3, (100.0, None)),
            // An endpoint can lower relay's rate, but not raise it.
            (Some(900), fast, 3, (100.0, None)),
            (Some(10), fast, 1, (2.0, None)),
            (None, slow, 1, (2.0, Some(2.0))),
        ] {
            if let Some(own) = own {
                set_rate(own).await;
            }
            let step = store.replay_step(ReplayPart { replay, endpoint: late }, limits).await.unwrap();
            let rates = ReplayRates { endpoint: Some(endpoint), job };
            assert_eq!(step, ReplayStep::Moved { made, rates });
            deliver(store, late).await;
        }
    })
    .await;
}

#[tokio::test]
async fn erased_event_and_pending_delivery_are_left_out() {
    with_store(AutoDisable::default(), async |store| {
        let late = late_endpoint(store, 3).await;
        let replay = started(store, of_mode(ReplayMode::Missing, Some(late))).await;
        let erase = "UPDATE events SET data = NULL WHERE seq = (SELECT min(seq) FROM events)";
        store.write(1, move |tx| Ok(tx.connection.execute(erase, [])?)).await.unwrap();
        let [last] = row(store, "SELECT max(seq) FROM events").await;
        assert!(store.send_again(TENANT, last, late, None).await.unwrap());
        let part = ReplayPart { replay, endpoint: late };
        assert_eq!(store.replay_step(part, LIMITS).await.unwrap(), ReplayStep::Ended);
        assert_eq!(progress(store, replay).await, (ReplayState::Finished, 1, 0));
        assert_eq!(deliver(store, late).await.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn cancelled_job_makes_no_further_delivery_due() {
    with_store(AutoDisable::default(), async |store| {
        let late = late_endpoint(store, 9).await;
        let replay = started(store, of_mode(ReplayMode::Missing, Some(late))).await;
        let part = ReplayPart { replay, endpoint: late };
        store.replay_step(part, LIMITS).await.unwrap();
        assert!(matches!(store.cancel_replay(TENANT, replay).await.unwrap(), Some(Cancelled::Done(_))));
        assert_eq!(deliver(store, late).await.len(), 3, "those that it has made are attempted");
        assert_eq!(store.replay_step(part, LIMITS).await.unwrap(), ReplayStep::Ended);
        assert_eq!(progress(store, replay).await, (ReplayState::Cancelled, 3, 0));
        assert!(matches!(store.cancel_replay(TENANT, replay).await.unwrap(), Some(Cancelled::Done(_))));
        assert!(store.cancel_replay(TENANT, 9_999).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn tenant_has_a_bounded_number_of_running_jobs() {
    with_store(AutoDisable::default(), async |store| {
        let late = late_endpoint(store, 1).await;
        let new = || of_mode(ReplayMode::Missing, Some(late));
        let mut jobs = Vec::new();
        for _ in 0..MAX_RUNNING {
            jobs.push(started(store, new()).await);
        }
        let plan = store.plan_replay(TENANT, &new()).await.unwrap();
        let refused = store.start_replay(TENANT, new(), plan).await;
        assert_eq!(refused.err(), Some(StoreError::TooManyReplays(MAX_RUNNING)));
        store.cancel_replay(TENANT, jobs[0]).await.unwrap();
        started(store, new()).await;
        let running = store.replays(Some(TENANT), Some(ReplayState::Running), None, 100).await.unwrap();
        assert_eq!(running.rows.len(), MAX_RUNNING);
        assert_eq!(store.replays(None, None, Some(jobs[1]), 100).await.unwrap().rows.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn search_by_time_begins_before_the_first_event_of_that_time() {
    with_store(AutoDisable::default(), async |store| {
        let hour = 3_600_000;
        for n in 0..40 {
            published(store, TENANT, event("a")).await;
            let at = store.clock().wall() - (40 - n) * 6 * hour;
            let sql = "UPDATE events SET created_at = ?1 WHERE seq = (SELECT max(seq) FROM events)";
            store.write(1, move |tx| Ok(tx.connection.execute(sql, [at])?)).await.unwrap();
        }
        let seqs = {
            let read = |connection: &Connection| {
                let mut all = connection.prepare("SELECT seq FROM events ORDER BY seq")?;
                Ok(all.query_map([], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?)
            };
            store.shared.readers.read(read).await.unwrap()
        };
        for days in [0, 1, 2, 5, 30] {
            let since = store.clock().wall() - days * 24 * hour;
            let find = move |connection: &Connection| first_event_since(connection, TENANT, since);
            let position = store.shared.readers.read(find).await.unwrap();
            // Four events a day, and a day more.
            let expected = 40_usize.saturating_sub(4 * (days as usize + 1));
            let left = seqs.iter().filter(|seq| **seq <= position).count();
            assert!(left.abs_diff(expected) <= 1, "{days} days: {left} are left out, expected {expected}");
            let late = endpoint(store).await;
            let filter = ReplayFilter { since: Some(since - hour), ..ReplayFilter::default() };
            let new = NewReplay { filter, ..of_mode(ReplayMode::Missing, Some(late)) };
            assert_eq!(planned(store, &new).await, (4 * days as u64).min(40), "{days} days");
        }
    })
    .await;
}

#[tokio::test]
async fn deleted_tenant_leaves_no_row_of_its_jobs() {
    with_store(AutoDisable::default(), async |store| {
        let (tenant, _) = store.put_tenant("doomed".to_owned(), NewTenant::default()).await.unwrap();
        published(store, tenant.seq, event("a")).await;
        store.create_endpoint(tenant.seq, new_endpoint()).await.unwrap();
        let new = of_mode(ReplayMode::Missing, None);
        let plan = store.plan_replay(tenant.seq, &new).await.unwrap();
        let replay = store.start_replay(tenant.seq, new, plan.clone()).await.unwrap().seq;
        let part = ReplayPart { replay, endpoint: plan.endpoints[0].endpoint };
        assert_eq!(store.replay_step(part, LIMITS).await.unwrap(), ReplayStep::Ended);
        store.delete_tenant(tenant.seq).await.unwrap();
        while row(store, "SELECT count(*) FROM tenants WHERE deleted_at IS NOT NULL").await != [0] {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            row(store, "SELECT (SELECT count(*) FROM replays), (SELECT count(*) FROM replay_parts)").await,
            [0, 0]
        );
        assert_eq!(store.replay_step(part, LIMITS).await.unwrap(), ReplayStep::Ended);
        assert_eq!(store.shared.backlogs.of(Counted::Replayed, part.endpoint), 0);
    })
    .await;
}

#[tokio::test]
async fn damaged_row_is_left_out_and_the_job_goes_on() {
    let damage = Damage::default();
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(include_str!("../schema.sql")).unwrap();
    let insert = "INSERT INTO events (seq, tenant_seq, type, data, created_at, checksum) VALUES (?1, 1, 'a', x'31', 0, 0)";
    for seq in 1..=9 {
        connection.execute(insert, [seq]).unwrap();
    }
    // Text that is not UTF-8 reads as damage.
    connection.execute("UPDATE events SET type = CAST(x'ff' AS TEXT) WHERE seq IN (4, 5, 9)", []).unwrap();
    let row = endpoint_of_all();
    let job = Job::new(TENANT, ReplayMode::Missing, &ReplayFilter::default(), 20).unwrap();
    let limits = ScanLimits { candidates: 4, rows: 100 };
    let page = scan(&connection, &damage, &job, &row, 0, limits).unwrap();
    let found = |page: &ScanPage| page.candidates.iter().map(|found| found.event).collect::<Vec<_>>();
    assert_eq!((found(&page), page.cursor, page.is_end), (vec![1, 2, 3, 6], 6, false));
    assert!(damage.latest().is_some());
    let page = scan(&connection, &damage, &job, &row, page.cursor, limits).unwrap();
    assert_eq!((found(&page), page.cursor, page.is_end), (vec![7, 8], 20, true));
}

/// Returns an endpoint that gets all events.
fn endpoint_of_all() -> EndpointRow {
    let NewEndpoint { kind, url, patterns, secret, .. } = new_endpoint();
    EndpointRow {
        seq: 1,
        tenant: TENANT,
        uid: None,
        kind,
        url,
        description: String::new(),
        metadata: Default::default(),
        headers: Default::default(),
        patterns,
        channels: Vec::new(),
        policy: Default::default(),
        enabled: true,
        paused: false,
        secret: Some(secret),
        old_secrets: Default::default(),
        lost: Default::default(),
        created_at: 0,
        updated_at: 0,
        held: None,
    }
}

#[tokio::test]
async fn job_sends_each_delivered_event_once_more() {
    with_store(AutoDisable::default(), async |store| {
        let endpoint = endpoint(store).await;
        for _ in 0..5 {
            published(store, TENANT, event("a")).await;
        }
        let first = deliver(store, endpoint).await;
        for mode in [ReplayMode::Delivered, ReplayMode::Sent, ReplayMode::All] {
            let replay = started(store, of_mode(mode, Some(endpoint))).await;
            let (mut sent, mut steps) = (Vec::new(), 0);
            while store.replay_step(ReplayPart { replay, endpoint }, LIMITS).await.unwrap()
                != ReplayStep::Ended
            {
                sent.extend(deliver(store, endpoint).await);
                steps += 1;
                assert!(steps < 20, "{mode:?} does not end: {sent:?}");
            }
            sent.extend(deliver(store, endpoint).await);
            assert_eq!(sent, first, "{mode:?}");
            assert_eq!(progress(store, replay).await, (ReplayState::Finished, 5, 0));
        }
    })
    .await;
}

#[tokio::test]
async fn failed_attempt_makes_way_for_the_next_replayed_delivery() {
    with_store(AutoDisable::default(), async |store| {
        let late = late_endpoint(store, 6).await;
        let replay = started(store, of_mode(ReplayMode::Missing, Some(late))).await;
        let part = ReplayPart { replay, endpoint: late };
        store.replay_step(part, LIMITS).await.unwrap();
        let (target, due) = open_turn(store, late).await;
        let retry = store.clock().due_now() + 60_000;
        for due in &due {
            let verdict = DeliveryVerdict::Retry(retry);
            store.record(outcome(&target, due, Some(FailureClass::Receiver), verdict)).await.unwrap();
        }
        assert_eq!(due.len(), 3);
        assert_eq!(store.pending_of(late), 3, "they wait for their retries");
        assert_eq!(
            store.replay_step(part, LIMITS).await.unwrap(),
            ReplayStep::Moved { made: 3, rates: ReplayRates::default() }
        );
        assert_eq!(store.replay_step(part, LIMITS).await.unwrap(), ReplayStep::Full);
    })
    .await;
}
