//! Policies for calls that can fail: timeout, retry, circuit breaker, hedge, bulkhead, rate limit.
//!
//! ```
//! use motet::resilience::{CircuitBreaker, Class, ErrorKind, Pipeline, Retry};
//! use std::time::Duration;
//!
//! # #[derive(Debug)] struct Status(u16);
//! # async fn fetch(path: &str) -> Result<String, Status> {
//! #     if path == "/" { Ok("hello".to_owned()) } else { Err(Status(404)) }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Pipeline::new()
//!     .name("users")
//!     .classify_by(|result: Result<&String, &Status>| match result {
//!         Ok(_) => Class::success(),
//!         Err(Status(400..=499)) => Class::ignore(), // a mistake of the caller
//!         Err(_) => Class::retry(),
//!     })
//!     .timeout(Duration::from_secs(5))
//!     .retry(Retry::new().attempts(4)?)
//!     .breaker(CircuitBreaker::default())
//!     .attempt_timeout(Duration::from_secs(1));
//!
//! assert_eq!(client.run(|| fetch("/")).await.unwrap(), "hello");
//! let error = client.run(|| fetch("/missing")).await.unwrap_err();
//! assert_eq!((error.kind(), error.attempts()), (ErrorKind::Failed, 1));
//! # Ok(())
//! # }
//! ```
//!
//! A [`Pipeline`] nests policies and has one error type. Each policy also works alone.
//!
//! | You want to | Use |
//! |---|---|
//! | put several policies around a call, in an order that you choose | [`Pipeline`]; as a field of a struct: [`DynPipeline`] |
//! | repeat failed calls | [`Retry`], limited by a [`RetryBudget`] |
//! | limit the time of a call, and of each attempt | [`Pipeline::timeout`], [`Pipeline::attempt_timeout`] |
//! | start a second attempt when the first one is slow | [`Hedge`] |
//! | return another result when all attempts failed | [`Pipeline::fallback`] |
//! | define which outcomes are failures, and which are worth another attempt | [`Classify`] |
//! | stop calling a dependency that fails or hangs, and try again later | [`CircuitBreaker`] |
//! | do so per host, tenant or endpoint | [`CircuitBreakers`], [`RateLimiters`] |
//! | limit concurrent calls to a known number | [`Bulkhead`] |
//! | limit concurrent calls to a number that is measured | [`AdaptiveLimit`] |
//! | limit the calls per unit of time | [`RateLimiter`] |
//!
//! The breaker, the bulkhead and the limiters decide whether a call may start. Each is a handle: clones share one policy.
//! Each admits a call with a permit, or rejects it with [`RejectedError`], which carries the time after which to try again
//! if it is known. A permit borrows its policy; `into_owned` turns it into a permit that does not.
//!
//! # Guarantees
//! - **Dropped calls.** A permit that is dropped becomes free, also that of a probe. A breaker counts the dropped call
//!   according to [its setting](CircuitBreakerBuilder::fail_dropped_calls_after): by default as a failure if it ran for at
//!   least the time of a slow call, or for a second.
//! - **Waiting.** Waiting is in order, bounded, and cancel-safe: a dropped waiter holds up no other waiter, and no
//!   permit is lost.
//! - **Time.** Time is tokio's, so a test can pause it. No task and no timer moves a policy: its state changes during
//!   calls, and when the state is read.
//! - **Retries.** The last error is kept, whatever ends the call. A hint of the dependency can lengthen a delay, but
//!   never adds an attempt. No delay begins that would end past a deadline. A retry is charged to the budget when its delay
//!   begins.
//! - **Losers.** The slower attempt of a hedge, and an attempt that timed out, are dropped before the call continues.
//! - **Cost.** A call allocates nothing, except where it is documented: in a [`DynPipeline`], when a hedge starts, and
//!   when a call waits for a permit. A call that does not wait reads no clock, except through a rate limiter, an adaptive
//!   limit, or a breaker that counts slow calls. Listeners run with no lock held.

mod adaptive;
mod attempt;
mod breaker;
mod budget;
mod bulkhead;
mod classify;
mod config_error;
mod error;
mod event;
mod fallback;
mod hedge;
mod line;
mod listeners;
#[cfg(all(test, motet_loom))]
mod models;
pub(crate) mod pipeline;
mod policy_handle;
mod policy_kind;
mod rate;
mod register;
mod registry;
mod rejected;
mod retry;
mod timeout;

pub use adaptive::{AdaptiveLimit, AdaptiveLimitBuilder, LimitPermit};
pub use attempt::Attempt;
pub use breaker::{
    BreakerPermit, BreakerState, BreakerStats, CallCounts, CircuitBreaker, CircuitBreakerBuilder,
    StateChange, TripCause, Window,
};
pub(crate) use budget::Charge;
pub use budget::RetryBudget;
pub use bulkhead::{Bulkhead, BulkheadBuilder, BulkheadPermit};
pub(crate) use classify::ErrorsAreRetryable;
pub use classify::{Class, Classify, Verdict};
pub use config_error::PolicyConfigError;
pub use error::{Error, ErrorKind};
pub use event::{PolicyEvent, PolicyEventKind};
pub(crate) use fallback::Fallback;
pub use hedge::Hedge;
pub use line::LimitStats;
pub use pipeline::{DynPipeline, Pipeline};
pub use policy_kind::PolicyKind;
pub use rate::{RateLimiter, RateLimiterBuilder, RateLimiterStats};
pub use registry::{CircuitBreakers, RateLimiters};
pub use rejected::RejectedError;
pub use retry::Retry;
pub(crate) use retry::RetryDecision;
pub(crate) use timeout::Timeout;
