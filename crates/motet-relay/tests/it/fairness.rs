//! A slow or dead endpoint does not delay other endpoints.

use std::time::Duration;

use http::StatusCode;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::harness::{Act, Client, Home, OK, Receiver, Relay, have_the_machine_alone};

const QUEUED: usize = 2_000;
const IN_WINDOW: usize = 200;
const WINDOWS: usize = 5;

/// relay's promise to an endpoint beside a stuck one: its p99 is at most this factor times its p99 alone. A stuck
/// endpoint that delayed others would delay them by seconds, a factor of hundreds.
const TIMES: u32 = 5;

/// A relay with an endpoint whose deliveries are timed.
struct Timed {
    relay: Relay,
    fast: Receiver,
    seen: usize,
}

impl Timed {
    async fn start() -> Self {
        let fast = Receiver::accepting().await;
        let relay = Relay::start_unshared(&Home::new(), &["--allow-net", "127.0.0.1"]).await;
        relay.client().endpoint_at(&fast.url(), json!({"event_types": ["fast.*"]})).await;
        Self { relay, fast, seen: 0 }
    }

    fn client(&self) -> &Client {
        self.relay.client()
    }

    /// Returns the p99 of the events since the last call, from the time at which each was scheduled to be published.
    async fn p99(&mut self, epoch: Instant) -> Duration {
        let hits = self.fast.hits_at_least(self.seen + IN_WINDOW).await;
        let mut latencies: Vec<_> = hits[self.seen..]
            .iter()
            .map(|hit| hit.at - epoch - Duration::from_micros(hit.json()["data"]["due_us"].as_u64().unwrap()))
            .collect();
        self.seen = hits.len();
        latencies.sort_unstable();
        latencies[latencies.len() * 99 / 100 - 1]
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_endpoint_does_not_delay_its_neighbours() {
    let _machine = have_the_machine_alone().await;
    let slow = Receiver::start(|_| Act::Slow(Duration::from_secs(10), StatusCode::OK)).await;
    let epoch = Instant::now();
    // The control runs at the same time on the same machine, which may be busy with other work.
    let (mut beside_slow, mut control) = (Timed::start().await, Timed::start().await);
    beside_slow.client().endpoint_at(&slow.url(), json!({"event_types": ["slow.*"]})).await;
    let queued: String =
        (0..QUEUED).map(|n| json!({"type": "slow.event", "data": {"n": n}}).to_string() + "\n").collect();
    let (status, answers) = beside_slow.client().ndjson(queued).await;
    assert_eq!((status, answers.len()), (StatusCode::ACCEPTED, QUEUED));
    slow.hits_at_least(16).await;

    let mut p99s = Vec::new();
    for _ in 0..WINDOWS {
        publish_at_their_times([beside_slow.client(), control.client()], epoch).await;
        p99s.push((beside_slow.p99(epoch).await, control.p99(epoch).await));
        if p99s.last().is_some_and(|(beside, alone)| *beside <= *alone * TIMES) {
            break;
        }
    }
    println!("p99 beside the slow endpoint and without one, by window: {p99s:?}");
    assert!(p99s.iter().any(|(beside, alone)| *beside <= *alone * TIMES), "p99 by window: {p99s:?}");
    // The slow endpoint was busy all the time, within its limit.
    let at_slow = slow.hits().len();
    assert!((16..QUEUED).contains(&at_slow), "{at_slow} requests at the slow endpoint");
}

/// An open loop: each event is sent at its scheduled time, 100 a second, whether or not earlier ones have arrived.
async fn publish_at_their_times([a, b]: [&Client; 2], epoch: Instant) {
    let mut ticks = interval(Duration::from_millis(10));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for n in 0..IN_WINDOW {
        let due = ticks.tick().await - epoch;
        let data = json!({"n": n, "due_us": due.as_micros() as u64});
        tokio::join!(a.publish("fast.event", data.clone()), b.publish("fast.event", data));
    }
}

const HANGING: usize = 2_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hanging_endpoints_leave_slots_to_working_ones() {
    // This process has the receiver's side of every connection.
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).unwrap();
    let stuck = Receiver::start(|_| Act::Hang).await;
    let healthy = Receiver::accepting().await;
    let relay = Relay::start_with(&["--headers-timeout", "3000", "--total-timeout", "3000"]).await;
    let client = relay.client();
    client.endpoint_at(&healthy.url(), json!({"event_types": ["healthy"]})).await;
    client.publish("healthy", json!(0)).await;
    healthy.hits_at_least(1).await;
    // More endpoints than slots, of which there are 1 024.
    for _ in 0..HANGING / 20 {
        let url = stuck.url();
        motet::task::gather((0..20).map(|_| client.endpoint_at(&url, json!({"event_types": ["stuck"]}))))
            .await;
    }
    for n in 0..2 {
        client.publish("stuck", json!(n)).await;
    }
    stuck.hits_at_least(768).await;
    for n in 1..=20 {
        client.publish("healthy", json!(n)).await;
    }
    healthy.hits_at_least(21).await;
    assert_eq!(
        stuck.hits().len(),
        768,
        "endpoints that never responded hold more than three quarters of the slots"
    );
}

#[tokio::test]
async fn attempts_in_flight_stay_within_the_limit_per_endpoint() {
    let receiver = Receiver::start(|_| Act::Hang).await;
    let other = Receiver::start(|_| OK).await;
    let relay = Relay::start_with(&["--in-flight-per-endpoint", "3"]).await;
    relay.client().endpoint_at(&receiver.url(), json!({"event_types": ["stuck"]})).await;
    relay.client().endpoint_at(&other.url(), json!({"event_types": ["free"]})).await;
    for n in 0..10 {
        relay.client().publish("stuck", json!(n)).await;
    }
    receiver.hits_at_least(3).await;
    // The dispatcher serves lanes in turn: when these deliveries are done, it has passed the stuck lane many times.
    for n in 0..10 {
        relay.client().publish("free", json!(n)).await;
    }
    other.hits_at_least(10).await;
    assert_eq!(receiver.hits().len(), 3);
}

#[tokio::test]
async fn new_endpoint_gets_a_slot_beside_hanging_ones() {
    let stuck = Receiver::start(|_| Act::Hang).await;
    let healthy = Receiver::accepting().await;
    let slots = ["--in-flight", "64", "--in-flight-per-endpoint", "8"];
    let patience = ["--headers-timeout", "3000", "--total-timeout", "3000"];
    let relay = Relay::start_with(&[&slots[..], &patience].concat()).await;
    for _ in 0..8 {
        relay.client().endpoint_at(&stuck.url(), json!({"event_types": ["stuck"]})).await;
    }
    for n in 0..20 {
        relay.client().publish("stuck", json!(n)).await;
    }
    stuck.hits_at_least(32).await;
    relay.client().endpoint_at(&healthy.url(), json!({"event_types": ["healthy"]})).await;
    for n in 0..20 {
        relay.client().publish("healthy", json!(n)).await;
    }
    healthy.hits_at_least(20).await;
}
