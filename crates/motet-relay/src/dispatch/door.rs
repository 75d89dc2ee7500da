//! Whether an endpoint may be called now: its breaker, and its rate.

use std::collections::HashMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use motet::resilience::{
    BreakerPermit, BreakerState, CircuitBreaker, CircuitBreakers, InvalidPolicy, OnCancel, RateLimiter,
    RateLimiterBuilder, Trip,
};
use motet::{Backoff, Jitter};
use tokio::time::Instant;

use crate::ids::{Ids, Kind};
use crate::lifecycle::{BreakerClosed, BreakerHalfOpened, BreakerOpened, Lifecycle};

/// How an endpoint is spared.
///
/// # Defaults
/// Left alone after 10 failures in a row, for a second at first and up to a minute; no rate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sparing {
    /// After so many failed attempts in a row, over all its deliveries, an endpoint is left alone for a while; then one
    /// attempt at a time tells whether it is back. Deliveries that wait for that are not attempted.
    pub breaker_failures: NonZeroU32,
    /// The longest such while. The first is a second, if that is shorter, and each further one twice as long.
    pub breaker_open: Duration,
    /// Attempts a second. `None`: as many as there are.
    pub rate: Option<NonZeroU32>,
}

impl Default for Sparing {
    fn default() -> Self {
        Self {
            breaker_failures: const { NonZeroU32::new(10).unwrap() },
            breaker_open: Duration::from_secs(60),
            rate: None,
        }
    }
}

/// Breakers and limiters of endpoints that were called lately.
const MOST_KEPT: NonZeroUsize = const { NonZeroUsize::new(16_384).unwrap() };

/// Where a policy cannot tell when to come again: a probe is under way.
const ASK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
struct Rate {
    burst: u64,
    builder: RateLimiterBuilder,
}

/// An endpoint, and its generation: an endpoint that was changed begins with a closed breaker and a full rate, and what
/// attempts at the old one bring changes neither.
type Subject = (i64, i64);

#[derive(Debug, Clone)]
pub(super) struct Doors {
    breakers: CircuitBreakers<Subject>,
    rate: Option<Rate>,
    rates: HashMap<Subject, RateLimiter>,
    /// Endpoints that asked to be left alone, until when.
    asked: HashMap<Subject, Instant>,
}

impl Doors {
    /// `attempt` is the longest that an attempt can take.
    pub(super) fn new(
        sparing: &Sparing,
        attempt: Duration,
        ids: Ids,
        lifecycle: Arc<Lifecycle>,
    ) -> Result<Self, InvalidPolicy> {
        let first = Duration::from_secs(1).min(sparing.breaker_open);
        let builder = CircuitBreaker::builder()
            .opens_on(Trip::consecutive(sparing.breaker_failures.get()))
            .open_for(Backoff::exponential(first, sparing.breaker_open).jitter(Jitter::Proportional(0.2)))
            .probes(1)
            .probe_lease(attempt.saturating_mul(2))
            // An attempt is dropped at the end of relay alone, which says nothing of the endpoint.
            .on_cancel(OnCancel::Ignore);
        // Here, so that nothing can be wrong with it later.
        builder.clone().build()?;
        let breakers = CircuitBreakers::new(MOST_KEPT, move |(endpoint, _): &Subject| {
            let (endpoint, lifecycle) = (*endpoint, Arc::clone(&lifecycle));
            let told = builder.clone().on_change(move |change| {
                let endpoint = || ids.format(Kind::Endpoint, endpoint);
                match change.to {
                    BreakerState::Open => {
                        lifecycle.tell(|| BreakerOpened { endpoint: endpoint(), open_for: change.open_for })
                    }
                    BreakerState::HalfOpen => {
                        lifecycle.tell(|| BreakerHalfOpened { endpoint: endpoint() });
                    }
                    BreakerState::Closed => lifecycle.tell(|| BreakerClosed { endpoint: endpoint() }),
                    // Nobody forces one.
                    _ => {}
                }
            });
            told.build().expect("it was built before")
        });
        let rate = sparing.rate.map(|rate| {
            let builder = RateLimiter::builder(rate.get(), Duration::from_secs(1));
            builder.clone().build()?;
            Ok(Rate { burst: rate.get().into(), builder })
        });
        Ok(Self { breakers, rate: rate.transpose()?, rates: HashMap::new(), asked: HashMap::new() })
    }

    /// Lets an attempt through, or tells when to come again.
    pub(super) fn enter(
        &mut self,
        endpoint: i64,
        generation: i64,
    ) -> Result<BreakerPermit<'static>, Duration> {
        let subject = (endpoint, generation);
        if let Some(until) = self.asked.get(&subject) {
            let wait = until.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                return Err(wait);
            }
            self.asked.remove(&subject);
        }
        let breaker = self.breakers.get(&subject);
        let permit = breaker.try_acquire().map_err(|refused| refused.retry_after().unwrap_or(ASK_AGAIN))?;
        if let Err(wait) = self.take(subject) {
            // Nothing was called.
            permit.ignore();
            return Err(wait);
        }
        Ok(permit.into_owned())
    }

    /// The receiver has asked that nothing more is sent for so long.
    ///
    /// Kept in memory alone: the delivery that was refused has it in its due time, and a restart finds out about the others.
    pub(super) fn ask(&mut self, endpoint: i64, generation: i64, wait: Duration) {
        let (subject, now) = ((endpoint, generation), Instant::now());
        let Some(until) = now.checked_add(wait) else { return };
        if self.asked.len() >= MOST_KEPT.get() {
            self.asked.retain(|_, until| *until > now);
        }
        if self.asked.len() < MOST_KEPT.get() || self.asked.contains_key(&subject) {
            self.asked.insert(subject, until);
        }
    }

    fn take(&mut self, subject: Subject) -> Result<(), Duration> {
        let Some(Rate { burst, builder }) = &self.rate else { return Ok(()) };
        if self.rates.len() >= MOST_KEPT.get() {
            // Those that were not called for so long that a new one would say the same.
            self.rates.retain(|_, limiter| limiter.stats().available < *burst);
        }
        let limiter = self
            .rates
            .entry(subject)
            .or_insert_with(|| builder.clone().build().expect("it was built before"));
        limiter.try_acquire(1).map_err(|refused| refused.retry_after().unwrap_or(ASK_AGAIN))
    }
}

#[cfg(test)]
mod tests {
    use motet::resilience::Verdict;
    use motet::task::{Nursery, scope};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_generation_has_its_own_breaker_and_rate() {
        scope(async |n: &Nursery| {
            let lifecycle = Arc::new(Lifecycle::new(motet::event::Emitter::builder().build(n)));
            let one = const { NonZeroU32::new(1).unwrap() };
            let rate = Some(one);
            let sparing = Sparing { breaker_failures: one, rate, ..Sparing::default() };
            let mut doors = Doors::new(&sparing, Duration::from_secs(1), Ids::new(1), lifecycle).unwrap();
            doors.enter(7, 0).unwrap().record(Verdict::Failure);
            assert!(doors.enter(7, 0).is_err());
            doors.enter(7, 1).unwrap().record(Verdict::Success);
            Ok(())
        })
        .await
        .unwrap();
    }
}
