//! Policies around calls that can fail: retry, breaker, timeout, hedge, bulkhead, rate limit.

mod adaptive;
mod breaker;
mod bulkhead;
mod invalid;
mod line;
mod listeners;
mod rate;
mod registry;
mod rejected;
mod verdict;

pub use adaptive::{AdaptiveLimit, AdaptiveLimitBuilder, AdaptiveLimitStats, LimitChange, LimitPermit};
pub use breaker::{
    AfterWait, BreakerPermit, BreakerState, BreakerStats, Cause, CircuitBreaker, CircuitBreakerBuilder,
    Counts, OnCancel, StateChange, Trip, Window,
};
pub use bulkhead::{Bulkhead, BulkheadBuilder, BulkheadPermit, BulkheadStats};
pub use invalid::InvalidPolicy;
pub use rate::{RateLimiter, RateLimiterBuilder, RateLimiterStats};
pub use registry::CircuitBreakers;
pub use rejected::{Rejected, RejectedBy};
pub use verdict::Verdict;
