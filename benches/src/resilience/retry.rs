//! A retry around a call that succeeds at once; the policy is built outside of the loop.
//!
//! motet counts the call for its budget, which is not a default of backon, tokio-retry and tower: their limit is the number of
//! attempts of each call. backon and tokio-retry take their policy by value, and copy it for each call. The policy of tower is
//! that of its documentation, a number of attempts.

use std::future::{Ready, ready};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder, Retryable};
use execution_policy::ExecutionPolicyBuilder;
use motet::resilience::Retry;
use tokio::runtime::Runtime;
use tokio_retry::strategy::{ExponentialBackoff, jitter};
use tower::retry::Policy;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_resilience_retry::RetryLayer;

use super::{Failed, compare, operation};
use crate::report::Cases;

pub(super) fn run(cases: &mut Cases, runtime: &Runtime) {
    let retry = Retry::new();
    let ours = async || retry.run(operation).await.expect("it succeeds");

    let policy = ExponentialBuilder::default().with_jitter().with_max_times(2);
    assert!(policy.build().count() == 2, "both sides have the same number of attempts");
    let rival = async || operation.retry(policy).await.expect("it succeeds");
    cases.extend(compare(runtime, "retry", "backon", ours, rival));

    let strategy = ExponentialBackoff::from_millis(100).map(jitter as fn(Duration) -> Duration).take(2);
    let rival = async || tokio_retry::Retry::start(strategy.clone(), operation).await.expect("it succeeds");
    cases.extend(compare(runtime, "retry", "tokio-retry", ours, rival));

    let mut service = tower::retry::Retry::new(Attempts(2), service_fn(|()| operation()));
    let rival = async || call(&mut service).await.expect("it succeeds");
    cases.extend(compare(runtime, "retry", "tower::retry", ours, rival));

    let layer = RetryLayer::<(), u64, Failed>::builder()
        .max_attempts(3)
        .exponential_backoff(Duration::from_millis(100))
        .build();
    let mut service = ServiceBuilder::new().layer(layer).service(service_fn(|()| operation()));
    let rival = async || call(&mut service).await.expect("it succeeds");
    cases.extend(compare(runtime, "retry", "tower-resilience", ours, rival));

    let policy = ExecutionPolicyBuilder::<u64, Failed>::new()
        .retry(
            execution_policy::Retry::standard()
                .max_attempts(3)
                .budget(execution_policy::RetryBudget::standard()),
        )
        .build();
    let rival = async || policy.run(async || operation().await).await.expect("it succeeds");
    cases.extend(compare(runtime, "retry", "execution-policy", ours, rival));
}

/// Calls a service after it is ready, as its contract requires.
pub(super) async fn call<S: Service<()>>(service: &mut S) -> Result<S::Response, S::Error> {
    service.ready().await?.call(()).await
}

#[derive(Clone)]
struct Attempts(usize);

impl<T, E> Policy<(), T, E> for Attempts {
    type Future = Ready<()>;

    fn retry(&mut self, (): &mut (), result: &mut Result<T, E>) -> Option<Ready<()>> {
        if result.is_ok() || self.0 == 0 {
            return None;
        }
        self.0 -= 1;
        Some(ready(()))
    }

    fn clone_request(&mut self, (): &()) -> Option<()> {
        Some(())
    }
}
