//! A timeout around a retry with a budget around a breaker over the last 100 calls, and a call that succeeds: at once, and
//! after one wait.
//!
//! The stack of tokio's timeout, backon and failsafe has no budget. Its breaker and those of execution-policy (a time window)
//! and tower-resilience count as documented. tower-resilience has its timeout around its retry, like motet; execution-policy
//! has one order, with the breaker around the retry. With a boxed pipeline, the type of the policies is hidden, for one
//! allocation.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use execution_policy::ExecutionPolicyBuilder;
use failsafe::futures::CircuitBreaker as _;
use motet::resilience::{CircuitBreaker, Pipeline, Retry};
use tokio::runtime::Runtime;
use tokio::task::yield_now;
use tokio::time::timeout;
use tower::{ServiceBuilder, service_fn};
use tower_resilience_circuitbreaker::CircuitBreakerLayer;
use tower_resilience_retry::RetryLayer;
use tower_resilience_timelimiter::TimeLimiterLayer;

use super::retry::call;
use super::{Failed, compare, operation};
use crate::report::Cases;

const LIMIT: Duration = Duration::from_secs(5);

pub(super) fn run(cases: &mut Cases, runtime: &Runtime) {
    let pipeline = Pipeline::new().timeout(LIMIT).retry(Retry::new()).breaker(CircuitBreaker::default());
    let ours = async || pipeline.run(operation).await.expect("it succeeds");
    let once = async || {
        yield_now().await;
        operation().await
    };

    let bare = async || operation().await.expect("it succeeds");
    cases.extend(compare(runtime, "pipeline", "no policy", ours, bare));

    let limit = Pipeline::new().timeout(LIMIT);
    let ours_limit = async || limit.run(operation).await.expect("it succeeds");
    let rival = async || timeout(LIMIT, operation()).await.expect("in time").expect("it succeeds");
    cases.extend(compare(runtime, "timeout", "tokio timeout", ours_limit, rival));
    let ours_limit = async || limit.run(once).await.expect("it succeeds");
    let rival = async || timeout(LIMIT, once()).await.expect("in time").expect("it succeeds");
    cases.extend(compare(runtime, "timeout, waits once", "tokio timeout", ours_limit, rival));

    let policy = ExponentialBuilder::default().with_jitter().with_max_times(2);
    let breaker = failsafe::Config::new().build();
    let rival = async || {
        let guarded = || breaker.call(operation());
        timeout(LIMIT, guarded.retry(policy)).await.expect("in time").expect("it succeeds")
    };
    cases.extend(compare(runtime, "pipeline", "tokio + backon + failsafe", ours, rival));

    let layers = ServiceBuilder::new()
        .layer(TimeLimiterLayer::builder().timeout_duration(LIMIT).build())
        .layer(
            RetryLayer::<(), u64, _>::builder()
                .max_attempts(3)
                .exponential_backoff(Duration::from_millis(100))
                .build(),
        )
        .layer(CircuitBreakerLayer::builder().sliding_window_size(100).build().expect("settings"));
    let mut service = layers.service(service_fn(|()| operation()));
    let rival = async || call(&mut service).await.expect("it succeeds");
    cases.extend(compare(runtime, "pipeline", "tower-resilience", ours, rival));

    let policy = ExecutionPolicyBuilder::<u64, Failed>::new()
        .retry(
            execution_policy::Retry::standard()
                .max_attempts(3)
                .budget(execution_policy::RetryBudget::standard()),
        )
        .total_timeout(LIMIT)
        .circuit_breaker(execution_policy::CircuitBreaker::failure_ratio())
        .build();
    let rival = async || policy.run(async || operation().await).await.expect("it succeeds");
    cases.extend(compare(runtime, "pipeline", "execution-policy", ours, rival));

    let ours_once = async || pipeline.run(once).await.expect("it succeeds");
    let rival = async || policy.run(async || once().await).await.expect("it succeeds");
    cases.extend(compare(runtime, "pipeline, waits once", "execution-policy", ours_once, rival));
    let backon = ExponentialBuilder::default().with_jitter().with_max_times(2);
    let rival = async || {
        let guarded = || breaker.call(once());
        timeout(LIMIT, guarded.retry(backon)).await.expect("in time").expect("it succeeds")
    };
    cases.extend(compare(runtime, "pipeline, waits once", "tokio + backon + failsafe", ours_once, rival));

    let dynamic = pipeline.clone().boxed();
    let ours = async || dynamic.run(operation).await.expect("it succeeds");
    let rival = async || policy.run(async || operation().await).await.expect("it succeeds");
    cases.extend(compare(runtime, "pipeline, boxed", "execution-policy", ours, rival));
}
