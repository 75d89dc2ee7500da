use motet::task::{Nursery, scope};
use serde_json::value::RawValue;

use super::*;
use crate::clock::Millis;
use crate::pattern::{EventType, Pattern};
use crate::signature::Secret;

/// Runs the test with a new store.
async fn with_store(rules: AutoDisable, test: impl AsyncFnOnce(&Store)) {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        directory: directory.path().to_owned(),
        max_bytes: None,
        longest_delay: Duration::from_secs(1),
        auto_disable: rules,
    };
    scope(async |n: &Nursery| {
        let store = Store::open(&options, Clock::new(), n).unwrap();
        test(&store).await;
        store.close().await.unwrap();
        Ok(())
    })
    .await
    .unwrap();
}

fn event(event_type: &str) -> NewEvent {
    NewEvent {
        event_type: EventType::parse(event_type).unwrap(),
        data: RawValue::from_string("1".to_owned()).unwrap(),
        idempotency_key: None,
    }
}

async fn endpoint(store: &Store) -> i64 {
    let new = NewEndpoint {
        url: "http://127.0.0.1/".to_owned(),
        patterns: vec![Pattern::parse(">").unwrap()],
        enabled: true,
        secret: Secret::generate().unwrap(),
    };
    store.create_endpoint(new).await.unwrap().seq
}

/// Returns the due deliveries of the endpoint with their target.
async fn open_turn(store: &Store, endpoint: i64) -> (DeliveryTarget, Vec<DueDelivery>) {
    match store.turn(endpoint, 16, Vec::new()).await.unwrap().state {
        TurnState::Open { target, due } => (target, due),
        TurnState::Held => panic!("the endpoint is held"),
    }
}

fn outcome(
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
    let DueDelivery { delivery, round, .. } = *due;
    AttemptOutcome {
        delivery,
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
        let insert = "INSERT INTO events (type, data, created_at, checksum) VALUES ('undone', x'31', 0, 0)";
        // All three jobs are queued before the writer takes the first, so they share a commit.
        let (before, failed, after) = tokio::join!(
            biased;
            store.publish(vec![event("kept.before")]),
            store.write(1, move |tx| {
                tx.connection.execute(insert, [])?;
                tx.woken.push((99, Wake::Deleted));
                Err::<(), _>(StoreError::Internal("on purpose".to_owned()))
            }),
            store.publish(vec![event("kept.after")]),
        );
        assert!(before.is_ok() && after.is_ok());
        assert_eq!(failed, Err(StoreError::Internal("on purpose".to_owned())));
        let types: Vec<_> =
            store.events(None, 10).await.unwrap().0.into_iter().map(|row| row.unwrap().event_type).collect();
        assert_eq!(types, ["kept.after", "kept.before"]);
        let woken: Vec<_> = store.woken().await.into_iter().map(|(woken, _)| woken).collect();
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
        store.publish(vec![event("a")]).await.unwrap();
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
        let (row, log) = store.delivery(due[0].delivery).await.unwrap().unwrap();
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
        store.publish(vec![event("a")]).await.unwrap();
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
        store.publish(vec![event("a")]).await.unwrap();
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
        store.publish(vec![event("a")]).await.unwrap();
        let (target, due) = open_turn(store, endpoint).await;
        let url = Some("http://127.0.0.2/".to_owned());
        store.update_endpoint(endpoint, EndpointChange { url, ..EndpointChange::default() }).await.unwrap();
        let dead = DeliveryVerdict::Dead { reason: "the last attempt".to_owned() };
        let mut gone = outcome(&target, &due[0], Some(FailureClass::Receiver), dead);
        gone.attempt.status = Some(410);
        let recorded = store.record(gone).await.unwrap();
        assert_eq!((recorded.change, recorded.is_dead), (None, false));
        assert_eq!(failures(store, endpoint).await, 0);
        let (target, due) = open_turn(store, endpoint).await;
        assert_eq!((target.url.as_str(), due[0].round_attempts), ("http://127.0.0.2/", 0), "it is due there");
        let (row, log) = store.delivery(due[0].delivery).await.unwrap().unwrap();
        assert_eq!((row.attempts, log.len()), (1, 1), "the attempt is recorded");
    })
    .await;
}
