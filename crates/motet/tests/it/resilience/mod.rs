//! Policies around calls.

mod adaptive;
mod breaker;
mod breaker_time;
mod bulkhead;
mod gates;
mod hedge;
mod names;
mod pipeline;
mod rate;
mod registry;
mod retry;
mod shapes;

use std::time::Duration;

use motet::resilience::{Retry, RetryBudget};
use motet::{Backoff, Jitter};

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A retry that waits `wait` before each attempt, without a budget.
fn steady(wait: Duration) -> Retry {
    Retry::new().backoff(Backoff::constant(wait)).without_budget()
}

/// A retry that waits 100 ms, doubling, without jitter and without a budget.
fn doubling() -> Retry {
    Retry::new().backoff(Backoff::default().jitter(Jitter::None).unwrap()).without_budget()
}

/// A budget of `count` tokens, which fade within seconds.
fn tokens(count: u32) -> RetryBudget {
    let budget = RetryBudget::new(1.0, 0.0).unwrap();
    (0..count).for_each(|_| budget.deposit());
    budget
}
