//! Question: how many events per second does relay accept and deliver durably, beside the smallest program that could?
//!
//! 64 clients post events of 300 bytes, and each waits for its 202 before the next one. One endpoint receives all events, and
//! answers 204. A round ends when the last event has arrived. Server, clients and receiver share one runtime of two workers:
//! both sides pay for the same driver. `acks` is the rate of the 202s; `paced` sends at a fixed rate, and measures the time of
//! an event to its receiver, from its planned send.
//!
//! The floor is hyper, SQLite with one thread that commits in groups (`synchronous=FULL`), an HMAC, a delivery with hyper's
//! client, and one row per attempt. relay has in addition: API keys, checks of JSON and event types, routing by pattern, a row
//! and a state for each delivery with an index on due deliveries, waiting payloads on disk and not in memory, the outcome of an
//! attempt on disk before its slot is free, limits in flight and fair turns, timeouts, a breaker, retries, the address guard,
//! recovery at the start, metrics. The floor loses the deliveries in flight when its process ends.

#![allow(clippy::disallowed_methods, reason = "the clients are bare tasks, and real time is measured")]

mod driver;
mod floor;
mod receiver;
mod server;

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use self::driver::{Measured, Target};
use self::receiver::Receiver;
use crate::allocations;
use crate::measure::Cost;
use crate::report::{Case, Cases};

const CLIENTS: usize = 64;
const EVENTS: usize = 20_000;
const ROUNDS: usize = 7;

/// The rate of the paced case, and its number of events.
const PACE: u32 = 400;
const PACED_EVENTS: usize = 1_200;
const PACED_ROUNDS: usize = 3;

/// A server under test.
type Side = fn(&Runtime, &Load) -> Measured;

/// The load of a round.
enum Load {
    Closed,
    Paced,
}

pub(crate) fn run(cases: &mut Cases) {
    let sides: [Side; 2] = [ours, floor];
    let mut rounds: [Vec<Measured>; 2] = Default::default();
    for _ in 0..ROUNDS {
        for (side, rounds) in sides.iter().zip(&mut rounds) {
            rounds.push(side(&runtime(), &Load::Closed));
        }
    }
    let mut per_second = |case: &str, took: fn(&Measured) -> Duration| {
        let [ours, rival] = rounds.each_ref().map(|rounds| median(rounds, took));
        cases.push(Case::new(format!("{CLIENTS} clients, {case}"), "floor", ours, rival).per_second());
    };
    per_second("delivered", |round| round.delivered);
    per_second("acks", |round| round.acknowledged);
    let mut waits: [Vec<Duration>; 2] = Default::default();
    for _ in 0..PACED_ROUNDS {
        for (side, waits) in sides.iter().zip(&mut waits) {
            waits.extend(side(&runtime(), &Load::Paced).waits);
        }
    }
    for (name, percent) in [("p50", 50), ("p99", 99)] {
        let [ours, rival] = waits.each_mut().map(|waits| percentile(waits, percent));
        cases.push(Case::new(format!("paced {PACE}/s, to arrival {name}"), "floor", ours, rival));
    }
}

/// A new server for each round, so that rounds are independent.
fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn ours(runtime: &Runtime, load: &Load) -> Measured {
    server::with_relay(runtime, |target, receiver| drive(target, receiver, load))
}

fn floor(runtime: &Runtime, load: &Load) -> Measured {
    server::with_floor(runtime, |target, receiver| drive(target, receiver, load))
}

async fn drive(target: Target, receiver: &'static Receiver, load: &Load) -> Measured {
    // The setup of the first requests, above all of connections, is not measured.
    driver::closed_loop(&target, receiver, CLIENTS, EVENTS / 20).await;
    let before = allocations::count();
    let measured = match load {
        Load::Closed => driver::closed_loop(&target, receiver, CLIENTS, EVENTS).await,
        Load::Paced => driver::paced(&target, receiver, PACE, PACED_EVENTS).await,
    };
    Measured { allocations: allocations::count() - before, ..measured }
}

/// The cost of an event in the median round.
fn median(rounds: &[Measured], took: fn(&Measured) -> Duration) -> Cost {
    let mut costs: Vec<_> = rounds
        .iter()
        .map(|round| {
            let nanoseconds = took(round).as_nanos() as f64 / EVENTS as f64;
            let allocations = round.allocations as f64 / EVENTS as f64;
            Cost { allocations, ..Cost::figure(nanoseconds, nanoseconds) }
        })
        .collect();
    costs.sort_by(|a, b| a.nanoseconds.total_cmp(&b.nanoseconds));
    Cost { minimum: costs[0].nanoseconds, ..costs[costs.len() / 2] }
}

fn percentile(waits: &mut [Duration], percent: usize) -> Cost {
    waits.sort_unstable();
    let nanoseconds = waits[waits.len() * percent / 100].as_nanos() as f64;
    Cost::figure(nanoseconds, nanoseconds)
}
