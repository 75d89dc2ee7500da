//! Policies around calls that can fail: retry, breaker, timeout, hedge, bulkhead, rate limit.

mod breaker;
mod invalid;
mod rejected;
mod verdict;

pub use breaker::{
    AfterWait, BreakerPermit, BreakerState, BreakerStats, Cause, CircuitBreaker, CircuitBreakerBuilder,
    Counts, OnCancel, StateChange, Trip, Window,
};
pub use invalid::InvalidPolicy;
pub use rejected::{Rejected, RejectedBy};
pub use verdict::Verdict;
