//! Named policies in the snapshots of scopes.

use std::convert::Infallible;
use std::num::NonZeroUsize;

use motet::resilience::{AdaptiveLimit, Bulkhead, CircuitBreaker, CircuitBreakers, RateLimiter};
use motet::task::{Nursery, scope};

use super::seconds;

/// A policy of each kind, named after its kind.
struct Named {
    _all: (AdaptiveLimit, Bulkhead, CircuitBreaker, RateLimiter, CircuitBreakers<u32>),
}

const NAMES: [&str; 5] = ["an adaptive limit", "a bulkhead", "a breaker", "a rate limiter", "a registry"];

impl Named {
    fn new() -> Self {
        let max = NonZeroUsize::new(3).unwrap();
        let breakers =
            CircuitBreakers::with_builder(max, CircuitBreaker::builder().name("one of many")).unwrap();
        let _one = breakers.get(&7);
        let all = (
            AdaptiveLimit::builder().name(NAMES[0]).build().unwrap(),
            Bulkhead::builder(1).name(NAMES[1]).build().unwrap(),
            CircuitBreaker::builder().name(NAMES[2]).build().unwrap(),
            RateLimiter::builder(1, seconds(1)).name(NAMES[3]).build().unwrap(),
            breakers.name(NAMES[4]),
        );
        Self { _all: all }
    }
}

#[tokio::test(start_paused = true)]
async fn named_policy_is_in_snapshots_of_its_scope_until_dropped() {
    scope(async |n: &Nursery<Infallible>| {
        let in_a_child = n.spawn("builds", async { Named::new() }).await.unwrap();
        let shown = n.snapshot();
        let text = shown.to_string();
        assert_eq!(shown.components.len(), NAMES.len(), "{text}");
        assert!(NAMES.iter().all(|name| text.contains(name)), "{text}");
        drop(in_a_child);
        let in_the_body = Named::new();
        assert_eq!(n.snapshot().components.len(), NAMES.len());
        drop(in_the_body);
        assert_eq!(n.snapshot().components.len(), 0);
        Ok(())
    })
    .await
    .unwrap();
}

#[test]
fn named_policy_needs_no_scope() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _inside = runtime.enter();
    let _named = Named::new();
    assert_eq!(CircuitBreaker::builder().name("alone").build().unwrap().name(), Some("alone"));
}
