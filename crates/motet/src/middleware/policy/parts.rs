//! A part for each policy.

use std::time::Duration;

use super::convert::IntoError;
use super::replay::{Cloned, Once};
use super::{Policies, pipeline};
use crate::resilience::pipeline::{End, Layer};
use crate::resilience::{
    AdaptiveLimit, Bulkhead, CircuitBreaker, ErrorsAreRetryable, Hedge, Pipeline, RateLimiter, Retry, Timeout,
};

/// The part of a single policy.
type SinglePolicy<P, R = Once> = Policies<Layer<P, End>, ErrorsAreRetryable, IntoError, R>;

/// Returns a part that limits how long the inner parts may run. After `timeout` their future is dropped, and then the
/// answer is created.
///
/// With zero, the inner parts time out at their first wait; with [`Duration::MAX`] they never do. Inside of a
/// [`retry()`], the timeout limits each attempt; around it, all attempts with the delays between them.
///
/// # Examples
/// ```
/// use motet::middleware::{Chain, timeout};
/// use std::{error::Error, future::pending, time::Duration};
///
/// type Answer = Result<u32, Box<dyn Error + Send + Sync>>;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let hangs = Chain::new().with(timeout(Duration::from_secs(1))).to(|_: u32| pending::<Answer>());
/// assert_eq!(hangs.call(1).await.unwrap_err().to_string(), "timed out after 1 attempt");
/// # Ok(())
/// # }
/// ```
pub fn timeout(timeout: Duration) -> SinglePolicy<Timeout> {
    pipeline(Pipeline::new().timeout(timeout))
}

/// Returns a part that calls the inner parts again when they fail: see [`Retry`].
///
/// The request must be `Clone`, or [`replay_by`](Policies::replay_by) must provide a copy. When the retry gives up, the
/// last error is returned unchanged; [`on_event`](Policies::on_event) reports that it gave up.
///
/// # Examples
/// ```
/// use motet::middleware::{Chain, PolicyError, retry};
/// use motet::resilience::Retry;
/// use std::error::Error;
///
/// struct Request { body: String, stream: bool } // not `Clone`
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let again = |request: &Request| match request.stream {
///     true => None, // a stream cannot be read twice
///     false => Some(Request { body: request.body.clone(), stream: false }),
/// };
/// let handler = Chain::new().with(retry(Retry::new()).replay_by(again)).to(|request: Request| async move {
///     if request.body.is_empty() { Err("empty".into()) } else { Ok::<_, Box<dyn Error + Send + Sync>>(request.body) }
/// });
/// assert_eq!(handler.call(Request { body: "hello".to_owned(), stream: true }).await.unwrap(), "hello");
/// # Ok(())
/// # }
/// ```
pub fn retry(retry: Retry) -> SinglePolicy<Retry, Cloned> {
    pipeline(Pipeline::new().retry(retry))
}

/// Returns a part that starts a second call of the inner parts when the first takes long, and returns the first answer:
/// see [`Hedge`].
///
/// The request must be `Clone`, or [`replay_by`](Policies::replay_by) must provide a copy.
pub fn hedge(hedge: Hedge) -> SinglePolicy<Hedge, Cloned> {
    pipeline(Pipeline::new().hedge(hedge))
}

/// Returns a part that rejects calls while the inner parts fail too often: see [`CircuitBreaker`].
pub fn breaker(breaker: CircuitBreaker) -> SinglePolicy<CircuitBreaker> {
    pipeline(Pipeline::new().breaker(breaker))
}

/// Returns a part that limits the number of concurrent calls of the inner parts: see [`Bulkhead`].
pub fn bulkhead(bulkhead: Bulkhead) -> SinglePolicy<Bulkhead> {
    pipeline(Pipeline::new().bulkhead(bulkhead))
}

/// Returns a part that limits the number of calls of the inner parts per time: see [`RateLimiter`].
pub fn rate_limit(limiter: RateLimiter) -> SinglePolicy<RateLimiter> {
    pipeline(Pipeline::new().rate_limit(limiter))
}

/// Returns a part that adapts the number of concurrent calls to the latency of the inner parts: see [`AdaptiveLimit`].
pub fn adaptive_limit(limit: AdaptiveLimit) -> SinglePolicy<AdaptiveLimit> {
    pipeline(Pipeline::new().adaptive_limit(limit))
}
