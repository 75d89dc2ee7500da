//! Random use of a store with passes of retention in between, against a naive model of what may be deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};
use rusqlite::Connection;

use super::driver::Driver;
use super::tests::{keep, number};
use super::*;
use crate::config::AutoDisable;
use crate::store::tests::{endpoint, event, outcome, published, with_store};
use crate::store::{
    DeliveryVerdict, FailureClass, NewEvent, NewReplay, NewTenant, Published, ReplayFilter, ReplayLimits,
    ReplayMode, Store, TurnState,
};

const DAY: Millis = 24 * 60 * 60 * 1_000;

/// The times of relay in days, and of the other tenant.
const PAYLOAD: u32 = 3;
const ROWS: u32 = 6;
const OTHER_ROWS: u32 = 2;

#[derive(Debug, Clone)]
enum Action {
    /// An event of the first tenant or the other one, with a time of its own in hours, or with an idempotency key.
    Publish {
        of_other: bool,
        keep_hours: Option<u8>,
        has_key: bool,
    },
    /// The due deliveries of an endpoint: delivered, failed, or dead.
    Attempt {
        endpoint: u8,
        verdict: u8,
    },
    Resend {
        nth: u8,
    },
    StartReplay {
        mode: u8,
    },
    StepReplay {
        nth: u8,
    },
    CancelReplays,
    Wait {
        hours: u8,
    },
    Pass,
    /// A step that is interrupted leaves everything before it: a new driver begins.
    Restart,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (any::<bool>(), prop::option::of(1..100u8), any::<bool>())
            .prop_map(|(of_other, keep_hours, has_key)| Action::Publish { of_other, keep_hours, has_key }),
        5 => (0..3u8, 0..4u8).prop_map(|(endpoint, verdict)| Action::Attempt { endpoint, verdict }),
        1 => any::<u8>().prop_map(|nth| Action::Resend { nth }),
        1 => (0..3u8).prop_map(|mode| Action::StartReplay { mode }),
        2 => any::<u8>().prop_map(|nth| Action::StepReplay { nth }),
        1 => Just(Action::CancelReplays),
        5 => (1..60u8).prop_map(|hours| Action::Wait { hours }),
        4 => Just(Action::Pass),
        1 => Just(Action::Restart),
    ]
}

/// An event of the model.
#[derive(Debug, Clone, Copy)]
struct Stored {
    of_other: bool,
    created_at: Millis,
    keep_ms: Option<Millis>,
    key_until: Option<Millis>,
}

struct World<'a> {
    store: &'a Store,
    driver: Driver,
    tenants: [TenantSeq; 2],
    endpoints: [i64; 3],
    events: BTreeMap<i64, Stored>,
    /// Number of events that were published.
    published: usize,
}

const LIMITS: ReplayLimits = ReplayLimits { waiting: 3, rate: None };

async fn pairs(store: &Store, sql: &'static str) -> BTreeSet<(i64, i64)> {
    let read = move |connection: &Connection| {
        let mut statement = connection.prepare(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    };
    store.shared.readers.read(read).await.unwrap()
}

const PENDING: &str = "SELECT seq, event_seq FROM deliveries WHERE state = 0";
const DUE: &str = "SELECT delivery_seq, event_seq FROM due";
const DEAD: &str = "SELECT event_seq, updated_at FROM deliveries WHERE state = 2";
const EVENTS: &str = "SELECT seq, data IS NOT NULL FROM events";

impl World<'_> {
    async fn act(&mut self, action: Action) {
        let store = self.store;
        match action {
            Action::Publish { of_other, keep_hours, has_key } => {
                let keep_ms = keep_hours.map(|hours| Millis::from(hours) * 60 * 60 * 1_000);
                let key = has_key.then(|| format!("key-{}", self.published));
                let (created_at, due_now) = (store.clock().wall(), store.clock().due_now());
                let new = NewEvent { keep_ms, idempotency_key: key, ..event("a") };
                self.published += 1;
                let tenant = self.tenants[usize::from(of_other)];
                let Published::Accepted { event, .. } = published(store, tenant, new).await else { panic!() };
                let key_until = has_key.then_some(due_now + DAY);
                self.events.insert(event, Stored { of_other, created_at, keep_ms, key_until });
            }
            Action::Attempt { endpoint, verdict } => {
                let turn = store.turn(self.endpoints[usize::from(endpoint)], 4, Vec::new()).await.unwrap();
                assert_eq!(turn.unreadable, [], "a pending delivery has its event and its data");
                let TurnState::Open { target, due } = turn.state else { panic!("held") };
                for due in due {
                    let (class, verdict) = match verdict {
                        0 | 1 => (None, DeliveryVerdict::Delivered),
                        2 => (Some(FailureClass::Receiver), DeliveryVerdict::Retry(0)),
                        _ => (Some(FailureClass::Receiver), DeliveryVerdict::Dead { reason: String::new() }),
                    };
                    let mut outcome = outcome(&target, &due, class, verdict);
                    outcome.attempt.response = Some("echo".to_owned());
                    store.record(outcome).await.unwrap();
                }
            }
            Action::Resend { nth } => {
                let all = pairs(store, "SELECT seq, tenant_seq FROM deliveries").await;
                if let Some((delivery, tenant)) = all.iter().nth(usize::from(nth) % all.len().max(1)) {
                    match store.resend(TenantSeq::numbered(*tenant), *delivery).await {
                        Ok(Some(true)) | Err(StoreError::Erased) => {}
                        other => panic!("{other:?}"),
                    }
                }
            }
            Action::StartReplay { mode } => {
                let mode = [ReplayMode::All, ReplayMode::Sent, ReplayMode::Missing][usize::from(mode)];
                let filter = ReplayFilter::default();
                let new = NewReplay { mode, endpoint: None, filter, requested_by: None, once: None };
                let plan = store.plan_replay(self.tenants[0], &new).await.unwrap();
                match store.start_replay(self.tenants[0], new, plan).await {
                    Ok(_) | Err(StoreError::TooManyReplays(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            Action::StepReplay { nth } => {
                let running = store.running_replays().await.unwrap();
                if let Some((_, part)) = running.get(usize::from(nth) % running.len().max(1)) {
                    store.replay_step(*part, LIMITS).await.unwrap();
                }
            }
            Action::CancelReplays => self.cancel_replays().await,
            Action::Wait { hours } => {
                store.clock().pass(Duration::from_secs(60 * 60) * u32::from(hours));
            }
            Action::Pass => self.pass().await,
            Action::Restart => self.driver = Driver::new(store.clone(), keep(PAYLOAD, ROWS)),
        }
    }

    async fn cancel_replays(&self) {
        for (tenant, part) in self.store.running_replays().await.unwrap() {
            self.store.cancel_replay(tenant, part.replay).await.unwrap();
        }
    }

    /// Runs a pass, and compares the rows that are left with those of the model.
    async fn pass(&mut self) {
        let store = self.store;
        let pending = pairs(store, PENDING).await;
        let dead = pairs(store, DEAD).await;
        let replayed: BTreeSet<i64> =
            store.running_replays().await.unwrap().into_iter().map(|(tenant, _)| tenant.number()).collect();
        let (now, due_now) = (store.clock().retention_now(), store.clock().due_now());
        self.driver.pass().await.unwrap();
        assert_eq!(pairs(store, PENDING).await, pending, "a pass changes no pending delivery");
        assert_eq!(pairs(store, DUE).await, pending);
        let events: BTreeMap<i64, i64> = pairs(store, EVENTS).await.into_iter().collect();
        let mut deaths = BTreeMap::<i64, Millis>::new();
        for (event, at) in dead {
            deaths.entry(event).and_modify(|latest| *latest = at.max(*latest)).or_insert(at);
        }
        let in_use: BTreeSet<i64> = pending.iter().map(|(_, event)| *event).collect();
        for (seq, stored) in &self.events {
            let age = now - stored.created_at;
            let rows = Millis::from(if stored.of_other { OTHER_ROWS } else { ROWS }) * DAY;
            let data = stored.keep_ms.map_or(Millis::MAX, |keep| keep).min(Millis::from(PAYLOAD) * DAY);
            let is_replayed = replayed.contains(&self.tenants[usize::from(stored.of_other)].number());
            let has_key = stored.key_until.is_some_and(|until| until > due_now);
            // A dead letter stays for the time of the rule, which is less than a week here.
            let died_within = |keep: Millis| deaths.get(seq).is_some_and(|at| *at > now - keep);
            let own_ended = stored.keep_ms.is_some_and(|keep| age > keep);
            let payload = Millis::from(PAYLOAD) * DAY;
            // The clock of the store goes on during the pass.
            let slack = 60_000;
            let found = events.get(seq).copied();
            if age < rows || in_use.contains(seq) || has_key || died_within(rows) {
                assert!(found.is_some(), "{seq} {stored:?}");
            } else if age > rows + slack && !is_replayed {
                assert_eq!(found, None, "{stored:?}");
            }
            if in_use.contains(seq) {
                assert_eq!(found, Some(1), "an event that will be sent has its data");
            } else if age > data + slack && !is_replayed && (own_ended || !died_within(payload)) {
                assert_ne!(found, Some(1), "{stored:?}");
            }
            if age < data.min(rows) && found.is_some() {
                assert_eq!(found, Some(1), "{stored:?}");
            }
        }
        self.events.retain(|seq, _| events.contains_key(seq));
        let orphans = "SELECT count(*) FROM deliveries WHERE event_seq NOT IN (SELECT seq FROM events)";
        assert_eq!(number(store, orphans).await, 0);
        let orphans = "SELECT count(*) FROM attempts WHERE delivery_seq NOT IN (SELECT seq FROM deliveries)";
        assert_eq!(number(store, orphans).await, 0);
    }

    /// Ends everything, and checks that nothing is left once its time has passed.
    async fn finish(&mut self) {
        self.cancel_replays().await;
        for endpoint in 0..3 {
            while self.store.pending_of(self.endpoints[usize::from(endpoint)]) > 0 {
                self.act(Action::Attempt { endpoint, verdict: 0 }).await;
            }
        }
        self.store.clock().pass(Duration::from_secs(10 * 24 * 60 * 60));
        self.pass().await;
        for table in ["events", "deliveries", "attempts", "due", "retained"]
            .map(|table| format!("SELECT count(*) FROM {table}"))
        {
            let read = move |connection: &Connection| Ok(connection.query_row(&table, [], |row| row.get(0))?);
            let left: i64 = self.store.shared.readers.read(read).await.unwrap();
            assert_eq!(left, 0);
        }
        assert_eq!(self.store.health().await, Ok(()));
    }
}

async fn run(actions: Vec<Action>) {
    with_store(AutoDisable::default(), async |store| {
        let policy = TenantPolicy { rows_keep_s: Some(OTHER_ROWS * 24 * 60 * 60), ..TenantPolicy::default() };
        let other = NewTenant { policy, ..NewTenant::default() };
        let other = store.put_tenant("other".to_owned(), other).await.unwrap().0.seq;
        let of_other = store.create_endpoint(other, crate::store::tests::new_endpoint()).await.unwrap().seq;
        let mut world = World {
            store,
            driver: Driver::new(store.clone(), keep(PAYLOAD, ROWS)),
            tenants: [TenantSeq::DEFAULT, other],
            endpoints: [endpoint(store).await, endpoint(store).await, of_other],
            events: BTreeMap::new(),
            published: 0,
        };
        for action in actions {
            world.act(action).await;
        }
        world.finish().await;
    })
    .await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 10))]

    #[test]
    fn passes_delete_what_is_due_and_nothing_in_use(actions in prop::collection::vec(action(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(actions));
    }
}
