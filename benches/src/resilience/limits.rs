//! Question: what do limits cost for a call that they admit?
//!
//! `governor` is a rate limiter with the same algorithm. Its clock is a parameter, so it is measured with three: tokio's, which
//! motet reads and a test can pause; that of the standard library; and its default, which reads the time stamp counter of the
//! processor. A limiter of motet also knows its waiters, and serves them in order. A bulkhead of motet is built on tokio's
//! `Semaphore`, and in addition limits its waiters and their waits. No limit is reached here.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::ops::Add;
use std::time::Duration;

use governor::clock::{Clock, MonotonicClock, QuantaClock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter as Governor};
use motet::resilience::{AdaptiveLimit, Bulkhead, RateLimiter};
use tokio::runtime::Builder;
use tokio::sync::Semaphore;

use crate::measure::both_of;
use crate::report::{Case, Cases};

const CALLS: u32 = 1_000;
/// A rate that no machine reaches: one call in 10 ns.
const MANY: NonZeroU32 = NonZeroU32::new(100_000_000).expect("more than none");

#[derive(Debug, Clone, Default)]
struct Tokio;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Moment(tokio::time::Instant);

impl Add<Nanos> for Moment {
    type Output = Self;

    fn add(self, nanos: Nanos) -> Self {
        Self(self.0 + Duration::from(nanos))
    }
}

impl Reference for Moment {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_duration_since(earlier.0).into()
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        Self(self.0.checked_sub(duration.into()).unwrap_or(self.0))
    }
}

impl Clock for Tokio {
    type Instant = Moment;

    fn now(&self) -> Moment {
        Moment(tokio::time::Instant::now())
    }
}

pub(crate) fn run(cases: &mut Cases) {
    let ours = RateLimiter::builder(MANY.get(), Duration::from_secs(1)).build().expect("it makes sense");
    let mut add = |rival_name, rival: &mut dyn FnMut()| {
        let all = || (0..CALLS).for_each(|_| assert!(black_box(ours.try_acquire(1)).is_ok()));
        let (ours, rival) = both_of(CALLS, all, rival);
        cases.extend(Case::median_and_minimum("rate limiter", rival_name, ours, rival));
    };
    add("governor, tokio's clock", &mut governor(Tokio));
    add("governor, std's clock", &mut governor(MonotonicClock));
    add("governor, its own clock", &mut governor(QuantaClock::default()));
    add("tokio's Instant::now alone", &mut || {
        (0..CALLS).for_each(|_| {
            black_box(tokio::time::Instant::now());
        });
    });

    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let semaphore = Semaphore::new(25);
    let mut bare = || {
        runtime.block_on(async {
            for _ in 0..CALLS {
                let _permit = black_box(semaphore.acquire().await.expect("it is open"));
            }
        });
    };
    let bulkhead = Bulkhead::default();
    let (a, b) = both_of(
        CALLS,
        || {
            runtime.block_on(async {
                for _ in 0..CALLS {
                    let _permit = black_box(bulkhead.acquire().await.expect("there is a place"));
                }
            });
        },
        &mut bare,
    );
    cases.extend(Case::median_and_minimum("bulkhead", "a bare Semaphore", a, b));
    let limit = AdaptiveLimit::default();
    let (a, b) = both_of(
        CALLS,
        || {
            runtime.block_on(async {
                for _ in 0..CALLS {
                    black_box(limit.acquire().await.expect("there is a place")).success();
                }
            });
        },
        &mut bare,
    );
    cases.extend(Case::median_and_minimum("adaptive limit", "a bare Semaphore", a, b));
}

fn governor<C>(clock: C) -> impl FnMut()
where
    C: Clock + Clone,
{
    let quota = Quota::per_second(MANY);
    let limiter: Governor<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>> =
        Governor::direct_with_clock(quota, clock);
    move || (0..CALLS).for_each(|_| assert!(black_box(limiter.check()).is_ok()))
}
