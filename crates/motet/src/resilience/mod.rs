//! Policies around calls that can fail: retry, breaker, timeout, hedge, bulkhead, rate limit.

mod attempt;
mod breaker;
mod budget;
mod classify;
mod error;
mod event;
mod fallback;
mod hedge;
mod invalid;
pub mod pipeline;
mod policy_kind;
mod rejected;
mod retry;
mod timeout;
mod verdict;

pub use attempt::Attempt;
pub use breaker::{
    AfterWait, BreakerPermit, BreakerState, BreakerStats, Cause, CircuitBreaker, CircuitBreakerBuilder,
    Counts, OnCancel, StateChange, Trip, Window,
};
pub use budget::{Charge, RetryBudget};
pub use classify::{Class, Classify, ErrorsAreRetryable};
pub use error::{Error, ErrorKind, Limited};
pub use event::{Event, EventKind};
pub use fallback::Fallback;
pub use hedge::Hedge;
pub use invalid::InvalidPolicy;
pub use pipeline::{DynPipeline, Pipeline};
pub use policy_kind::PolicyKind;
pub use rejected::{Rejected, RejectedBy};
pub use retry::Retry;
pub use timeout::Timeout;
pub use verdict::Verdict;
