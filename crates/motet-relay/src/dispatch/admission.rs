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
use crate::store::effective_rate;

/// Maximum number of endpoints whose breaker, limiter or pause is kept.
const MAX_KEPT: NonZeroUsize = const { NonZeroUsize::new(16_384).unwrap() };

/// The delay when a policy does not know when it will admit an attempt: a probe is in flight.
const UNKNOWN_DELAY: Duration = Duration::from_secs(1);

/// The limits of each endpoint.
///
/// An endpoint that was changed (its generation differs) starts with a closed breaker and without a pause, and attempts at
/// an older generation change neither. The generation is a value and not a part of the key: otherwise a client that
/// changes its endpoint again and again would fill the tables of all endpoints. The rate does not depend on it.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    breakers: CircuitBreakers<i64>,
    /// The generations that the breakers belong to.
    generations: HashMap<i64, i64>,
    /// The maximum rate of every endpoint.
    rate: Option<NonZeroU32>,
    rates: HashMap<i64, (NonZeroU32, RateLimiter)>,
    /// Endpoints that sent `Retry-After`, with their generation and the end of their pause.
    pauses: HashMap<i64, (i64, Instant)>,
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
        let breakers = CircuitBreakers::new(MAX_KEPT, move |endpoint: &i64| {
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
        let (generations, rates, pauses) = (HashMap::new(), HashMap::new(), HashMap::new());
        Ok(Self { breakers, generations, rate: limits.rate, rates, pauses })
    }

    /// Admits an attempt, or returns the delay after which it may be admitted. `rate` is the endpoint's own maximum
    /// number of attempts per second.
    pub(super) fn try_admit(
        &mut self,
        endpoint: i64,
        generation: i64,
        rate: Option<NonZeroU32>,
    ) -> Result<BreakerPermit<'static>, Duration> {
        if let Some((of, until)) = self.pauses.get(&endpoint) {
            let delay = until.saturating_duration_since(Instant::now());
            if *of == generation && !delay.is_zero() {
                return Err(delay);
            }
            self.pauses.remove(&endpoint);
        }
        let breaker = self.breaker(endpoint, generation);
        let permit =
            breaker.try_acquire().map_err(|refused| refused.retry_after().unwrap_or(UNKNOWN_DELAY))?;
        if let Err(delay) = self.acquire_rate(endpoint, rate) {
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
        let now = Instant::now();
        let Some(until) = now.checked_add(delay) else { return };
        if self.pauses.get(&endpoint).is_some_and(|(known, _)| *known > generation) {
            return;
        }
        if self.pauses.len() >= MAX_KEPT.get() {
            self.pauses.retain(|_, (_, until)| *until > now);
        }
        if self.pauses.len() < MAX_KEPT.get() || self.pauses.contains_key(&endpoint) {
            self.pauses.insert(endpoint, (generation, until));
        }
    }

    fn breaker(&mut self, endpoint: i64, generation: i64) -> CircuitBreaker {
        if self.generations.len() >= MAX_KEPT.get() {
            // A breaker whose generation is forgotten is taken for the current one.
            self.generations.clear();
        }
        if self.generations.insert(endpoint, generation).is_some_and(|known| known != generation) {
            self.breakers.remove(&endpoint);
        }
        self.breakers.get(&endpoint)
    }

    fn acquire_rate(&mut self, endpoint: i64, own: Option<NonZeroU32>) -> Result<(), Duration> {
        let Some(rate) = effective_rate(own, self.rate) else { return Ok(()) };
        if self.rates.len() >= MAX_KEPT.get() {
            // A full limiter behaves like a new one, so it can be dropped.
            self.rates.retain(|_, (rate, limiter)| limiter.stats().available < u64::from(rate.get()));
        }
        let known = self.rates.entry(endpoint).or_insert_with(|| (rate, limiter(rate)));
        if known.0 != rate {
            // A changed rate applies at once, and brings no tokens back.
            let missing = u64::from(known.0.get()).saturating_sub(known.1.stats().available);
            *known = (rate, limiter(rate));
            let missing = u32::try_from(missing).unwrap_or(u32::MAX).min(rate.get());
            if missing > 0 {
                known
                    .1
                    .try_acquire(missing)
                    .map_err(|refused| refused.retry_after().unwrap_or(UNKNOWN_DELAY))?;
            }
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

    /// Runs the test with a rate of relay; one failure opens a breaker.
    async fn with_admission(rate: u32, test: impl AsyncFnOnce(&mut Admission)) {
        scope(async |n: &Nursery| {
            let lifecycle = Arc::new(Lifecycle::new(motet::event::Emitter::builder(n).build()));
            let one = const { NonZeroU32::new(1).unwrap() };
            let limits = EndpointLimits {
                breaker_failures: one,
                rate: NonZeroU32::new(rate),
                ..EndpointLimits::default()
            };
            let ids = Ids::new(1);
            let mut admission = Admission::new(&limits, Duration::from_secs(1), ids, lifecycle).unwrap();
            test(&mut admission).await;
            Ok(())
        })
        .await
        .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn changed_endpoint_starts_with_a_closed_breaker_and_no_pause() {
        with_admission(10, async |admission| {
            let old = admission.try_admit(7, 0, None).unwrap();
            admission.try_admit(7, 0, None).unwrap().record(Verdict::Failure);
            assert!(admission.try_admit(7, 0, None).is_err());
            let new = admission.try_admit(7, 1, None).unwrap();
            // An attempt at the endpoint as it was.
            old.record(Verdict::Failure);
            new.record(Verdict::Success);
            admission.try_admit(7, 1, None).unwrap().record(Verdict::Success);
            admission.pause(7, 1, Duration::from_secs(5));
            admission.pause(7, 0, Duration::from_secs(9));
            assert_eq!(admission.try_admit(7, 1, None).unwrap_err(), Duration::from_secs(5));
            admission.try_admit(7, 2, None).unwrap().record(Verdict::Success);
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn changes_of_an_endpoint_take_no_place_from_other_endpoints() {
        with_admission(0, async |admission| {
            admission.try_admit(8, 0, None).unwrap().record(Verdict::Failure);
            for generation in 0..MAX_KEPT.get() as i64 {
                admission.pause(7, generation, Duration::from_secs(60));
                assert!(admission.try_admit(7, generation, None).is_err());
                admission.try_admit(7, generation + 1, None).unwrap().record(Verdict::Failure);
            }
            admission.pause(9, 0, Duration::from_secs(60));
            assert!(admission.try_admit(9, 0, None).is_err());
            assert!(admission.try_admit(8, 0, None).is_err(), "its breaker was evicted");
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn rate_of_an_endpoint_lowers_the_rate_of_relay() {
        with_admission(5, async |admission| {
            let mut admitted = |endpoint, generation, rate| {
                let admits = |_: &i32| match admission.try_admit(endpoint, generation, NonZeroU32::new(rate))
                {
                    Ok(permit) => {
                        permit.record(Verdict::Success);
                        true
                    }
                    Err(_) => false,
                };
                (0..20).filter(admits).count()
            };
            assert_eq!((admitted(1, 0, 0), admitted(2, 0, 3), admitted(3, 0, u32::MAX)), (5, 3, 5));
            // A change applies at once, and neither the new rate nor the new generation brings tokens back.
            assert_eq!(admitted(2, 1, 4), 1);
            assert_eq!(admitted(2, 2, 3), 0);
        })
        .await;
    }
}
