//! Question: how many events a second does relay take in and deliver, durably, beside the least that could do it?
//!
//! 64 clients post events of 300 bytes, each waiting for its 202 before the next; one endpoint is owed all of them, and
//! answers 204. A round is over when the last event has arrived. Server, clients and receiver share one runtime of two
//! workers: both sides pay for the same driver, and neither gets cores of its own. `acks` is how fast the 202s came;
//! `paced` sends at a fixed rate, whatever comes back, and is judged by how long an event takes to its receiver, counted
//! from when it should have been sent.
//!
//! The floor is hyper, SQLite with one thread that commits in groups (`synchronous=FULL`), an HMAC, a delivery by hyper's
//! client, and one row per attempt: the cost of doing the work at all. Relay does beside that: API keys, JSON and event
//! types checked, routing by pattern, a row and a state for each delivery with an index on what is due, payloads on disk
//! and not in memory while they wait, an attempt's outcome on disk before its slot is free, in-flight limits and fair turns,
//! deadlines, a breaker, retries, the address guard, recovery at start, metrics. The floor loses what is under way when its
//! process ends.

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

/// Events a second, and how many, of the paced case.
const PACE: u32 = 400;
const PACED_EVENTS: usize = 1_200;
const PACED_ROUNDS: usize = 3;

/// A server under test.
type Side = fn(&Runtime, &Load) -> Measured;

/// How a round drives a server.
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

/// A new one each round: nothing of a round reaches the next.
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
    // What the first requests set up, connections above all, is not the question.
    driver::closed_loop(&target, receiver, CLIENTS, EVENTS / 20).await;
    let before = allocations::count();
    let measured = match load {
        Load::Closed => driver::closed_loop(&target, receiver, CLIENTS, EVENTS).await,
        Load::Paced => driver::paced(&target, receiver, PACE, PACED_EVENTS).await,
    };
    Measured { allocations: allocations::count() - before, ..measured }
}

/// Per event, of the median round.
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
