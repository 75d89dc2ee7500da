//! Admission of attempts: the circuit breaker, the rate limit and the `Retry-After` pause of each endpoint.

use std::collections::HashMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use motet::resilience::{
    BreakerPermit, BreakerState, CircuitBreaker, CircuitBreakers, PolicyConfigError, RateLimiter,
};
use motet::{Backoff, Jitter};
use tokio::time::Instant;

use crate::config::EndpointLimits;
use crate::ids::{IdKind, Ids};
use crate::lifecycle::{BreakerClosed, BreakerHalfOpened, BreakerOpened, Lifecycle};

/// Maximum number of endpoints whose breaker, limiter or pause is kept.
const MAX_KEPT: NonZeroUsize = const { NonZeroUsize::new(16_384).unwrap() };

/// The delay when a policy does not know when it will admit an attempt: a probe is in flight.
const UNKNOWN_DELAY: Duration = Duration::from_secs(1);

/// An endpoint and its generation. An endpoint that was changed starts with a closed breaker and a full rate, and
/// attempts at an older generation change neither.
type EndpointGeneration = (i64, i64);

#[derive(Debug, Clone)]
pub(super) struct Admission {
    breakers: CircuitBreakers<EndpointGeneration>,
    /// The rate of the endpoints that have none of their own.
    rate: Option<NonZeroU32>,
    rates: HashMap<EndpointGeneration, (NonZeroU32, RateLimiter)>,
    /// Endpoints that sent `Retry-After`, with the end of their pause.
    pauses: HashMap<EndpointGeneration, Instant>,
}

impl Admission {
    /// Creates the admission of all endpoints. `attempt` is the longest time that an attempt can take.
    pub(super) fn new(
        limits: &EndpointLimits,
        attempt: Duration,
        ids: Ids,
        lifecycle: Arc<Lifecycle>,
    ) -> Result<Self, PolicyConfigError> {
        let first = Duration::from_secs(1).min(limits.breaker_open);
        let open_for = Backoff::exponential(first, limits.breaker_open)
            .and_then(|open_for| open_for.jitter(Jitter::Proportional(0.2)))
            .expect("`first` is at most `breaker_open`, and the fraction is below 1");
        let builder = CircuitBreaker::builder()
            .consecutive_failures(limits.breaker_failures.get())
            .open_for(open_for)
            .probes(1)
            .probe_lease(attempt.saturating_mul(2))
            // Attempts are dropped only when relay ends, which is no failure of the endpoint.
            .ignore_dropped_calls();
        // Checks the settings here, so that the `expect` below cannot fail.
        builder.clone().build()?;
        let breakers = CircuitBreakers::new(MAX_KEPT, move |(endpoint, _): &EndpointGeneration| {
            let (endpoint, lifecycle) = (*endpoint, Arc::clone(&lifecycle));
            let builder = builder.clone().on_change(move |change| {
                let endpoint = || ids.format(IdKind::Endpoint, endpoint);
                match change.to {
                    BreakerState::Open => {
                        lifecycle.post(|| BreakerOpened { endpoint: endpoint(), open_for: change.open_for })
                    }
                    BreakerState::HalfOpen => {
                        lifecycle.post(|| BreakerHalfOpened { endpoint: endpoint() });
                    }
                    BreakerState::Closed => lifecycle.post(|| BreakerClosed { endpoint: endpoint() }),
                    // relay forces no breaker open or closed.
                    _ => {}
                }
            });
            builder.build().expect("the settings were checked")
        });
        Ok(Self { breakers, rate: limits.rate, rates: HashMap::new(), pauses: HashMap::new() })
    }

    /// Admits an attempt, or returns the delay after which it may be admitted. `rate` is the endpoint's own maximum
    /// number of attempts per second.
    pub(super) fn try_admit(
        &mut self,
        endpoint: i64,
        generation: i64,
        rate: Option<NonZeroU32>,
    ) -> Result<BreakerPermit<'static>, Duration> {
        let key = (endpoint, generation);
        if let Some(until) = self.pauses.get(&key) {
            let delay = until.saturating_duration_since(Instant::now());
            if !delay.is_zero() {
                return Err(delay);
            }
            self.pauses.remove(&key);
        }
        let breaker = self.breakers.get(&key);
        let permit =
            breaker.try_acquire().map_err(|refused| refused.retry_after().unwrap_or(UNKNOWN_DELAY))?;
        if let Err(delay) = self.acquire_rate(key, rate) {
            // The breaker must not count the permit: no attempt is made.
            permit.ignore();
            return Err(delay);
        }
        Ok(permit.into_owned())
    }

    /// Admits no attempt for `delay`, because the receiver sent `Retry-After`.
    ///
    /// The pause is kept in memory only: the delivery that was refused stores the delay in its due time, and after a
    /// restart an attempt at another delivery brings the header again.
    pub(super) fn pause(&mut self, endpoint: i64, generation: i64, delay: Duration) {
        let (key, now) = ((endpoint, generation), Instant::now());
        let Some(until) = now.checked_add(delay) else { return };
        if self.pauses.len() >= MAX_KEPT.get() {
            self.pauses.retain(|_, until| *until > now);
        }
        if self.pauses.len() < MAX_KEPT.get() || self.pauses.contains_key(&key) {
            self.pauses.insert(key, until);
        }
    }

    fn acquire_rate(&mut self, key: EndpointGeneration, own: Option<NonZeroU32>) -> Result<(), Duration> {
        let Some(rate) = own.or(self.rate) else { return Ok(()) };
        if self.rates.len() >= MAX_KEPT.get() {
            // A full limiter behaves like a new one, so it can be dropped.
            self.rates.retain(|_, (rate, limiter)| limiter.stats().available < u64::from(rate.get()));
        }
        let fresh = || (rate, limiter(rate));
        let known = self.rates.entry(key).or_insert_with(fresh);
        if known.0 != rate {
            *known = fresh();
        }
        known.1.try_acquire(1).map_err(|refused| refused.retry_after().unwrap_or(UNKNOWN_DELAY))
    }
}

fn limiter(rate: NonZeroU32) -> RateLimiter {
    RateLimiter::builder(rate.get(), Duration::from_secs(1)).build().expect("the rate is above zero")
}

#[cfg(test)]
mod tests {
    use motet::resilience::Verdict;
    use motet::task::{Nursery, scope};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn changed_endpoint_starts_with_a_fresh_breaker_and_rate() {
        scope(async |n: &Nursery| {
            let lifecycle = Arc::new(Lifecycle::new(motet::event::Emitter::builder(n).build()));
            let one = const { NonZeroU32::new(1).unwrap() };
            let rate = Some(one);
            let limits = EndpointLimits { breaker_failures: one, rate, ..EndpointLimits::default() };
            let mut admission =
                Admission::new(&limits, Duration::from_secs(1), Ids::new(1), lifecycle).unwrap();
            admission.try_admit(7, 0, None).unwrap().record(Verdict::Failure);
            assert!(admission.try_admit(7, 0, None).is_err());
            admission.try_admit(7, 1, None).unwrap().record(Verdict::Success);
            Ok(())
        })
        .await
        .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn rate_of_an_endpoint_replaces_the_rate_of_relay() {
        scope(async |n: &Nursery| {
            let lifecycle = Arc::new(Lifecycle::new(motet::event::Emitter::builder(n).build()));
            let rate = NonZeroU32::new(1);
            let limits = EndpointLimits { rate, ..EndpointLimits::default() };
            let mut admission =
                Admission::new(&limits, Duration::from_secs(1), Ids::new(1), lifecycle).unwrap();
            let mut admitted =
                |endpoint, rate| (0..10).filter(|_| admission.try_admit(endpoint, 0, rate).is_ok()).count();
            assert_eq!((admitted(1, None), admitted(2, NonZeroU32::new(3))), (1, 3));
            assert_eq!(admitted(2, NonZeroU32::new(5)), 5, "a changed rate applies at once");
            Ok(())
        })
        .await
        .unwrap();
    }
}
