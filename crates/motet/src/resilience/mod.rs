//! Policies around calls that can fail: retry, breaker, timeout, hedge, bulkhead, rate limit.
//!
//! A [`Pipeline`] puts them around each other and has one error; each also works alone.
//!
//! # When to use what
//! | You want to | |
//! |---|---|
//! | have several policies around a call, in an order that you choose | [`Pipeline`]; as a field of a struct: [`DynPipeline`] |
//! | call again what failed | [`Retry`], within a [`RetryBudget`] |
//! | limit the time of a call, and of each attempt | [`Pipeline::timeout`], [`Pipeline::attempt_timeout`] |
//! | cut off the slowest answers | [`Hedge`] |
//! | answer though all has failed | [`Pipeline::fallback`] |
//! | say what is a failure, and what is worth another attempt | [`Classify`] |
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
//! - **Retrying.** The last error is kept, whatever ended the call. A hint makes a wait longer and never an attempt
//!   more; no wait is begun that would end past a deadline; those who wait are charged to the budget.
//! - **Losers.** An attempt that lost, or whose time was up, is dropped before the call goes on.
//! - **Price.** No allocation for a call, but where it is stated: a [`DynPipeline`], a hedge that is begun, a wait for
//!   a place. A pipeline around a call that is ready reads no clock. Listeners run with no lock held.
//!
//! # Examples
//! ```
//! use motet::resilience::{CircuitBreaker, Class, ErrorKind, Pipeline, Retry};
//! use std::time::Duration;
//!
//! # #[derive(Debug)] struct Status(u16);
//! # async fn fetch(path: &str) -> Result<String, Status> {
//! #     if path == "/" { Ok("hello".to_owned()) } else { Err(Status(404)) }
//! # }
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let client = Pipeline::new()
//!     .named("users")
//!     .classify_by(|answer: Result<&String, &Status>| match answer {
//!         Ok(_) => Class::success(),
//!         Err(Status(400..=499)) => Class::ignore(), // our own mistake
//!         Err(_) => Class::retry(),
//!     })
//!     .timeout(Duration::from_secs(5))
//!     .retry(Retry::new().attempts(4))
//!     .breaker(CircuitBreaker::default())
//!     .attempt_timeout(Duration::from_secs(1));
//!
//! assert_eq!(client.run(|| fetch("/")).await.unwrap(), "hello");
//! let error = client.run(|| fetch("/nobody")).await.unwrap_err();
//! assert_eq!((error.kind(), error.attempts()), (ErrorKind::Failed, 1));
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
pub(crate) use retry::Next;
pub use retry::Retry;
pub use timeout::Timeout;
pub use verdict::Verdict;
