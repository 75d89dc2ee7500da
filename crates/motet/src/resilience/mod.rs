//! Policies around calls that can fail: retry, breaker, timeout, hedge, bulkhead, rate limit.
//!
//! # Which call is let through
//! | You want to | |
//! |---|---|
//! | stop calling what fails, or hangs, and try again later | [`CircuitBreaker`] |
//! | do so for each host, tenant or endpoint | [`CircuitBreakers`] |
//! | bound how many calls are under way, at a number that you know | [`Bulkhead`] |
//! | have that number found out | [`AdaptiveLimit`] |
//! | bound how many calls there are per time | [`RateLimiter`] |
//!
//! Each is a handle: clones are one policy. Each lets a call through with a permit, or says [`Rejected`],
//! with the time after which to try again where it knows one. A permit borrows its policy; `into_owned` makes
//! one that does not.
//!
//! # Guarantees
//! - **Dropped calls.** What a permit means that is dropped is stated for each: a place is free, a probe's
//!   place too, and a breaker counts the call as its [`OnCancel`] says.
//! - **Waiting.** In order, bounded, and safe to drop: nobody who left is waited for, and no place is lost.
//! - **Time** is tokio's, so a test can pause it, and moves no task: states change with calls, and when they
//!   are asked for.
//! - **Price.** No allocation for a call. Listeners run with no lock held.
//!
//! # Examples
//! ```
//! use motet::resilience::{Bulkhead, CircuitBreaker, RateLimiter, Rejected, Verdict};
//! use std::time::Duration;
//!
//! # async fn fetch() -> Result<u32, std::io::Error> { Ok(7) }
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let rate = RateLimiter::builder(100, Duration::from_secs(1)).build().unwrap();
//! let (breaker, bulkhead) = (CircuitBreaker::default(), Bulkhead::default());
//! let guarded = async {
//!     rate.acquire(1).await?;
//!     let _place = bulkhead.acquire().await?;
//!     let verdict = |answer: &Result<u32, _>| match answer {
//!         Ok(_) => Verdict::Success,
//!         Err(_) => Verdict::Failure,
//!     };
//!     Ok::<_, Rejected>(breaker.call(fetch(), verdict).await?)
//! };
//! assert_eq!(guarded.await.unwrap().unwrap(), 7);
//! # });
//! ```

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
#[cfg(all(test, motet_loom))]
mod models;
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
