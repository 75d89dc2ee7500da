//! Policies around calls that can fail: retry, breaker, timeout, hedge, bulkhead, rate limit.

mod adaptive;
mod attempt;
mod breaker;
mod budget;
mod bulkhead;
mod classify;
mod error;
mod event;
mod fallback;
mod hedge;
mod invalid;
mod line;
mod listeners;
pub mod pipeline;
mod policy_kind;
mod rate;
mod registry;
mod rejected;
mod retry;
mod timeout;
mod verdict;

pub use adaptive::{AdaptiveLimit, AdaptiveLimitBuilder, AdaptiveLimitStats, LimitChange, LimitPermit};
pub use attempt::Attempt;
pub use breaker::{
    AfterWait, BreakerPermit, BreakerState, BreakerStats, Cause, CircuitBreaker, CircuitBreakerBuilder,
    Counts, OnCancel, StateChange, Trip, Window,
};
pub use budget::{Charge, RetryBudget};
pub use bulkhead::{Bulkhead, BulkheadBuilder, BulkheadPermit, BulkheadStats};
pub use classify::{Class, Classify, ErrorsAreRetryable};
pub use error::{Error, ErrorKind, Limited};
pub use event::{Event, EventKind};
pub use fallback::Fallback;
pub use hedge::Hedge;
pub use invalid::InvalidPolicy;
pub use pipeline::{DynPipeline, Pipeline};
pub use policy_kind::PolicyKind;
pub use rate::{RateLimiter, RateLimiterBuilder, RateLimiterStats};
pub use registry::CircuitBreakers;
pub use rejected::{Rejected, RejectedBy};
pub use retry::Retry;
pub use timeout::Timeout;
pub use verdict::Verdict;
