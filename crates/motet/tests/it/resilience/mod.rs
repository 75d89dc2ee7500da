//! Policies around calls.

mod adaptive;
mod breaker;
mod breaker_time;
mod bulkhead;
mod rate;
mod registry;

use std::time::Duration;

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
