//! Each policy as a part.

use std::time::Duration;

use super::replay::{Cloned, Once};
use super::settle::IntoError;
use super::{Policies, pipeline};
use crate::resilience::pipeline::{End, Layer};
use crate::resilience::{
    AdaptiveLimit, Bulkhead, CircuitBreaker, ErrorsAreRetryable, Hedge, Pipeline, RateLimiter, Retry, Timeout,
};

/// One policy as a part.
type One<P, R = Once> = Policies<Layer<P, End>, ErrorsAreRetryable, IntoError, R>;

/// Gives what is inside so much time; then it is dropped, before the answer is made.
///
/// With zero that is as soon as it waits, with [`Duration::MAX`] never. Inside of a [`retry()`], it limits each attempt; around it, all of them with the waits between.
///
/// # Examples
/// ```
/// use motet::middleware::{Chain, timeout};
/// use std::{error::Error, future::pending, time::Duration};
///
/// type Answer = Result<u32, Box<dyn Error + Send + Sync>>;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let hangs = Chain::new().with(timeout(Duration::from_secs(1))).to(|_: u32| pending::<Answer>());
/// assert_eq!(hangs.call(1).await.unwrap_err().to_string(), "time was up, in 1 attempt");
/// # });
/// ```
pub fn timeout(within: Duration) -> One<Timeout> {
    pipeline(Pipeline::new().timeout(within))
}

/// Runs again what is inside when it fails: see [`Retry`].
///
/// The request has to be `Clone`, or [`replay_by`](Policies::replay_by) says how to have it again. When the retry gives
/// up, the last error is the answer as it is; [`on_event`](Policies::on_event) tells of it.
///
/// # Examples
/// ```
/// use motet::middleware::{Chain, PolicyError, retry};
/// use motet::resilience::Retry;
/// use std::error::Error;
///
/// struct Request { body: String, stream: bool } // not `Clone`
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let again = |request: &Request| match request.stream {
///     true => None, // what was read of a stream is gone
///     false => Some(Request { body: request.body.clone(), stream: false }),
/// };
/// let handler = Chain::new().with(retry(Retry::new()).replay_by(again)).to(|request: Request| async move {
///     if request.body.is_empty() { Err("empty".into()) } else { Ok::<_, Box<dyn Error + Send + Sync>>(request.body) }
/// });
/// assert_eq!(handler.call(Request { body: "hello".to_owned(), stream: true }).await.unwrap(), "hello");
/// # });
/// ```
pub fn retry(retry: Retry) -> One<Retry, Cloned> {
    pipeline(Pipeline::new().retry(retry))
}

/// Runs what is inside once more when it takes long, and takes the first answer: see [`Hedge`].
///
/// The request has to be `Clone`, or [`replay_by`](Policies::replay_by) says how to have it again.
pub fn hedge(hedge: Hedge) -> One<Hedge, Cloned> {
    pipeline(Pipeline::new().hedge(hedge))
}

/// Runs what is inside unless it has failed too often: see [`CircuitBreaker`].
pub fn breaker(breaker: CircuitBreaker) -> One<CircuitBreaker> {
    pipeline(Pipeline::new().breaker(breaker))
}

/// Has so many calls of what is inside under way at a time: see [`Bulkhead`].
pub fn bulkhead(bulkhead: Bulkhead) -> One<Bulkhead> {
    pipeline(Pipeline::new().bulkhead(bulkhead))
}

/// Begins so many calls of what is inside in a time: see [`RateLimiter`].
pub fn rate_limit(limiter: RateLimiter) -> One<RateLimiter> {
    pipeline(Pipeline::new().rate_limit(limiter))
}

/// Has as many calls of what is inside under way as it bears: see [`AdaptiveLimit`].
pub fn adaptive_limit(limit: AdaptiveLimit) -> One<AdaptiveLimit> {
    pipeline(Pipeline::new().adaptive_limit(limit))
}
