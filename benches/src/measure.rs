//! Measuring two sides in turns, so that a noisy machine is as noisy to both.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::time::{Duration, Instant};

use crate::allocations;

const ROUNDS: usize = 31;
const ROUND: Duration = Duration::from_millis(20);

/// The cost of one operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// The median over the rounds.
    pub(crate) nanoseconds: f64,
    /// The quickest round: on a noisy machine, the nearest to what the code itself takes.
    pub(crate) minimum: f64,
    pub(crate) allocations: f64,
}

/// Runs both in alternating rounds and gives the cost of each.
pub(crate) fn both(ours: impl FnMut(), rival: impl FnMut()) -> (Cost, Cost) {
    both_of(1, ours, rival)
}

/// The same where one call does `operations` of them.
pub(crate) fn both_of(operations: u32, mut ours: impl FnMut(), mut rival: impl FnMut()) -> (Cost, Cost) {
    let (per_round_ours, per_round_rival) = (calibrate(&mut ours), calibrate(&mut rival));
    let mut costs_ours = Vec::with_capacity(ROUNDS);
    let mut costs_rival = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        costs_ours.push(round(&mut ours, per_round_ours));
        costs_rival.push(round(&mut rival, per_round_rival));
    }
    (summary(costs_ours, operations), summary(costs_rival, operations))
}

/// How many operations fill a round.
fn calibrate(operation: &mut impl FnMut()) -> u32 {
    let mut count: u32 = 1;
    loop {
        let started = Instant::now();
        (0..count).for_each(|_| operation());
        if started.elapsed() >= ROUND / 4 {
            return count.saturating_mul(4);
        }
        count *= 2;
    }
}

fn round(operation: &mut impl FnMut(), count: u32) -> Cost {
    once(count, || (0..count).for_each(|_| operation()))
}

/// The cost of each of so many operations that are done in one run, which cannot be repeated.
pub(crate) fn once(operations: u32, run: impl FnOnce()) -> Cost {
    let allocations_before = allocations::count();
    let started = Instant::now();
    run();
    let took = started.elapsed();
    let nanoseconds = took.as_nanos() as f64 / f64::from(operations);
    Cost {
        nanoseconds,
        minimum: nanoseconds,
        allocations: (allocations::count() - allocations_before) as f64 / f64::from(operations),
    }
}

fn summary(mut costs: Vec<Cost>, operations: u32) -> Cost {
    costs.sort_by(|a, b| a.nanoseconds.total_cmp(&b.nanoseconds));
    let (quickest, median) = (costs[0], costs[costs.len() / 2]);
    let each = f64::from(operations);
    Cost {
        nanoseconds: median.nanoseconds / each,
        minimum: quickest.nanoseconds / each,
        allocations: median.allocations / each,
    }
}
