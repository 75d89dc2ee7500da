//! Measures two sides in alternating rounds, so that noise of the machine affects both.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::allocations;

pub(crate) const ROUNDS: usize = 31;
const ROUND: Duration = Duration::from_millis(20);

/// The time limit of a case, after its calibration. Then the case ends with fewer rounds, at least [`FEWEST`], and reports
/// it.
pub(crate) const CASE: Duration = Duration::from_millis(1_000);
pub(crate) const FEWEST: usize = 5;

/// The cost of one operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// The median over the rounds.
    pub(crate) nanoseconds: f64,
    /// The quickest round: on a noisy machine, it is closest to the cost of the code itself.
    pub(crate) minimum: f64,
    pub(crate) allocations: f64,
    /// The number of rounds, if the time limit of the case ended them early.
    pub(crate) cut_at: Option<usize>,
}

impl Cost {
    /// A figure without a count of allocations.
    pub(crate) const fn figure(median: f64, minimum: f64) -> Self {
        Self { nanoseconds: median, minimum, allocations: f64::NAN, cut_at: None }
    }
}

/// Runs both in alternating rounds and returns the cost of each.
pub(crate) fn both(ours: impl FnMut(), rival: impl FnMut()) -> (Cost, Cost) {
    both_of(1, ours, rival)
}

/// Like [`both`], for calls that do `operations` operations each.
pub(crate) fn both_of(operations: u32, mut ours: impl FnMut(), mut rival: impl FnMut()) -> (Cost, Cost) {
    let (per_round_ours, per_round_rival) = (calibrate(&mut ours), calibrate(&mut rival));
    let mut costs_ours = Vec::with_capacity(ROUNDS);
    let mut costs_rival = Vec::with_capacity(ROUNDS);
    for _ in rounds() {
        costs_ours.push(round(&mut ours, per_round_ours));
        costs_rival.push(round(&mut rival, per_round_rival));
    }
    (summary(costs_ours, operations), summary(costs_rival, operations))
}

/// Like [`both_of`], for one side only.
pub(crate) fn one_of(operations: u32, mut operation: impl FnMut()) -> Cost {
    let per_round = calibrate(&mut operation);
    let costs = rounds().map(|_| round(&mut operation, per_round)).collect();
    summary(costs, operations)
}

/// The rounds of a case, or fewer if its time limit is reached.
pub(crate) fn rounds() -> impl Iterator<Item = usize> {
    let begun = Instant::now();
    (0..ROUNDS).take_while(move |done| *done < FEWEST || begun.elapsed() < CASE)
}

/// The number of operations of a round.
///
/// # Panics
/// If no number is large enough, since the compiler has removed the operation.
fn calibrate(operation: &mut impl FnMut()) -> u32 {
    let mut count: u32 = 1;
    loop {
        let started = Instant::now();
        repeat(operation, count);
        if started.elapsed() >= ROUND / 4 {
            return count.saturating_mul(4);
        }
        count = count.checked_mul(2).expect("an operation that takes time");
    }
}

fn round(operation: &mut impl FnMut(), count: u32) -> Cost {
    once(count, || repeat(operation, count))
}

/// A loop that the compiler neither removes nor simplifies, also if the operation does nearly nothing.
fn repeat(operation: &mut impl FnMut(), count: u32) {
    for n in 0..count {
        operation();
        black_box(n);
    }
}

/// The cost of an operation in a run of `operations` operations, which cannot be repeated.
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
        cut_at: None,
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
        cut_at: Some(costs.len()).filter(|rounds| *rounds < ROUNDS),
    }
}
