//! Policies of `resilience`.

use std::future::{pending, ready};
use std::time::Duration;

use motet::Backoff;
use motet::middleware::{self, Chain};
use motet::resilience::{
    AdaptiveLimit, BreakerState, Bulkhead, CircuitBreaker, CircuitBreakerBuilder, Class, Hedge, Pipeline,
    RateLimiter, Retry, Window,
};
use tokio::time::{advance, sleep};

use super::SECOND;
use super::table::{ABOVE_ZERO, Effect, LIMIT, Odd, Row};

const NEVER: Duration = Duration::MAX;

pub(super) fn table() -> Vec<Row> {
    vec![
        Row { setting: "middleware/policy/parts.rs timeout", means: LIMIT, uses: of_a_part },
        Row { setting: "resilience/pipeline/mod.rs timeout", means: LIMIT, uses: of_a_pipeline },
        Row { setting: "resilience/pipeline/mod.rs attempt_timeout", means: LIMIT, uses: of_an_attempt },
        Row {
            setting: "resilience/retry/mod.rs timeout",
            means: LIMIT,
            uses: |odd| hangs(Retry::new().timeout(odd)),
        },
        Row {
            setting: "resilience/retry/mod.rs attempt_timeout",
            means: LIMIT,
            uses: |odd| hangs(Retry::new().attempts(1).unwrap().attempt_timeout(odd)),
        },
        Row {
            setting: "resilience/retry/mod.rs backoff",
            means: LIMIT,
            uses: |odd| again(odd, Duration::ZERO, None),
        },
        Row {
            setting: "resilience/retry/mod.rs follow_hints_for",
            means: LIMIT,
            uses: |odd| again(Duration::ZERO, odd, Some(Class::retry().after(NEVER))),
        },
        Row {
            setting: "resilience/classify.rs after",
            means: LIMIT,
            uses: |odd| again(Duration::ZERO, NEVER, Some(Class::retry().after(odd))),
        },
        Row {
            setting: "resilience/classify.rs Class.retry_after",
            means: LIMIT,
            uses: |odd| again(SECOND, NEVER, Some(Class { retry_after: Some(odd), ..Class::retry() })),
        },
        Row { setting: "resilience/hedge.rs after", means: LIMIT, uses: |odd| hedges(Hedge::after(odd)) },
        Row {
            setting: "resilience/hedge.rs after_fn",
            means: LIMIT,
            uses: |odd| hedges(Hedge::after_fn(move |_| odd)),
        },
        Row { setting: "resilience/bulkhead/builder.rs queue", means: LIMIT, uses: of_a_bulkhead },
        Row { setting: "resilience/adaptive/builder.rs queue", means: LIMIT, uses: of_an_adaptive_limit },
        // The effect is a change of the limit. A window is at most a day.
        Row {
            setting: "resilience/adaptive/builder.rs window",
            means: [Odd::AtOnce, Odd::AtOnce, Odd::Refused, Odd::Refused],
            uses: of_a_window_of_a_limit,
        },
        // The effect is the next call. One call in centuries is not a valid rate.
        Row {
            setting: "resilience/rate/rate_limiter.rs builder",
            means: [Odd::Refused, Odd::AtOnce, Odd::Refused, Odd::Refused],
            uses: of_a_rate,
        },
        Row { setting: "resilience/rate/builder.rs max_wait", means: LIMIT, uses: of_a_wait_for_a_rate },
        Row { setting: "resilience/breaker/builder.rs open_for", means: LIMIT, uses: of_an_open_breaker },
        Row { setting: "resilience/breaker/builder.rs slow_call", means: ABOVE_ZERO, uses: of_a_slow_call },
        Row { setting: "resilience/breaker/builder.rs probe_lease", means: ABOVE_ZERO, uses: of_a_probe },
        Row {
            setting: "resilience/breaker/builder.rs half_open_max_wait",
            means: ABOVE_ZERO,
            uses: of_half_open,
        },
        Row {
            setting: "resilience/breaker/builder.rs stable_after",
            means: LIMIT,
            uses: of_a_stable_breaker,
        },
        Row {
            setting: "resilience/breaker/builder.rs fail_dropped_calls_after",
            means: LIMIT,
            uses: of_a_drop,
        },
        // The effect: two failures, a second apart, open the breaker.
        Row {
            setting: "resilience/breaker/window.rs time",
            means: [Odd::Refused, Odd::Never, Odd::AtOnce, Odd::AtOnce],
            uses: of_a_window,
        },
    ]
}

fn of_a_part(odd: Duration) -> Effect {
    Box::pin(async move {
        type Answer = Result<u32, Box<dyn std::error::Error + Send + Sync>>;
        let hangs = Chain::new().with(middleware::timeout(odd)).to(|_: u32| pending::<Answer>());
        hangs.call(7).await.unwrap_err();
        Ok(())
    })
}

fn of_a_pipeline(odd: Duration) -> Effect {
    Box::pin(async move {
        Pipeline::new().timeout(odd).run(pending::<Result<(), &str>>).await.unwrap_err();
        Ok(())
    })
}

fn of_an_attempt(odd: Duration) -> Effect {
    Box::pin(async move {
        Pipeline::new().attempt_timeout(odd).run(pending::<Result<(), &str>>).await.unwrap_err();
        Ok(())
    })
}

fn hangs(retry: Retry) -> Effect {
    Box::pin(async move {
        retry.run(pending::<Result<(), &str>>).await.unwrap_err();
        Ok(())
    })
}

/// The effect is the second attempt.
fn again(backoff: Duration, patience: Duration, class: Option<Class>) -> Effect {
    Box::pin(async move {
        let class = class.unwrap_or_else(Class::retry);
        let retry = Retry::new().backoff(Backoff::constant(backoff)).follow_hints_for(patience);
        let pipeline =
            Pipeline::new().retry(retry).classify_by(move |outcome: Result<&u32, &&str>| match outcome {
                Ok(_) => Class::success(),
                Err(_) => class,
            });
        let mut attempts = 0;
        let outcome = pipeline.run(|| {
            attempts += 1;
            ready(if attempts == 1 { Err("not now") } else { Ok(attempts) })
        });
        assert_eq!(outcome.await.unwrap(), 2);
        Ok(())
    })
}

fn hedges(hedge: Hedge) -> Effect {
    Box::pin(async move {
        let mut attempts = 0;
        let pipeline = Pipeline::new().hedge(hedge);
        let outcome = pipeline.run(|| {
            attempts += 1;
            let is_first = attempts == 1;
            async move { if is_first { pending().await } else { Ok::<_, &str>(7) } }
        });
        assert_eq!(outcome.await.unwrap(), 7);
        Ok(())
    })
}

fn of_a_bulkhead(odd: Duration) -> Effect {
    Box::pin(async move {
        let bulkhead = Bulkhead::builder(1).queue(1, odd).build()?;
        let _held = bulkhead.acquire().await?;
        bulkhead.acquire().await.unwrap_err();
        Ok(())
    })
}

fn of_an_adaptive_limit(odd: Duration) -> Effect {
    Box::pin(async move {
        let limit = AdaptiveLimit::builder().start(1).between(1, 1).queue(1, odd).build()?;
        let _held = limit.acquire().await?;
        limit.acquire().await.unwrap_err();
        Ok(())
    })
}

fn of_a_window_of_a_limit(odd: Duration) -> Effect {
    Box::pin(async move {
        let limit = AdaptiveLimit::builder().start(4).between(1, 8).window(odd, 1).build()?;
        while limit.stats().limit == 4 {
            limit.try_acquire()?.failure();
            sleep(SECOND).await;
        }
        Ok(())
    })
}

fn of_a_rate(odd: Duration) -> Effect {
    Box::pin(async move {
        let limiter = RateLimiter::builder(1, odd).max_wait(NEVER).build()?;
        limiter.acquire(1).await?;
        limiter.acquire(1).await?;
        Ok(())
    })
}

/// The effect is a rejected caller.
fn of_a_wait_for_a_rate(odd: Duration) -> Effect {
    Box::pin(async move {
        let limiter = RateLimiter::builder(1, SECOND * 100_000).max_wait(odd).build()?;
        limiter.acquire(1).await?;
        limiter.acquire(1).await.unwrap_err();
        Ok(())
    })
}

fn breaker() -> CircuitBreakerBuilder {
    CircuitBreaker::builder().consecutive_failures(1).open_for(Backoff::constant(SECOND))
}

/// Waits until a caller finds the breaker in this state.
async fn becomes(breaker: &CircuitBreaker, state: BreakerState) {
    while breaker.state() != state {
        sleep(SECOND / 2).await;
        if let Ok(permit) = breaker.try_acquire() {
            permit.ignore();
        }
    }
}

fn of_an_open_breaker(odd: Duration) -> Effect {
    Box::pin(async move {
        let breaker = breaker().open_for(Backoff::constant(odd)).build()?;
        breaker.try_acquire()?.failure();
        becomes(&breaker, BreakerState::HalfOpen).await;
        Ok(())
    })
}

fn of_a_slow_call(odd: Duration) -> Effect {
    Box::pin(async move {
        let window = Window::calls(1).min_calls(1).slow_rate(1.0);
        let breaker = CircuitBreaker::builder().window(window).slow_call(odd).build()?;
        while breaker.state() == BreakerState::Closed {
            let permit = breaker.try_acquire()?;
            sleep(SECOND).await;
            permit.success();
        }
        Ok(())
    })
}

/// The effect: the lease of a hung probe expires, so that the breaker opens again.
fn of_a_probe(odd: Duration) -> Effect {
    Box::pin(async move {
        let breaker = breaker().probes(1).probe_lease(odd).build()?;
        breaker.try_acquire()?.failure();
        sleep(SECOND).await;
        let _hangs = breaker.try_acquire()?;
        becomes(&breaker, BreakerState::Open).await;
        Ok(())
    })
}

fn of_half_open(odd: Duration) -> Effect {
    Box::pin(async move {
        let breaker = breaker().probes(2).half_open_max_wait(odd, BreakerState::Closed).build()?;
        breaker.try_acquire()?.failure();
        sleep(SECOND).await;
        breaker.try_acquire()?.ignore();
        becomes(&breaker, BreakerState::Closed).await;
        Ok(())
    })
}

/// The effect: the second open time is as short as the first.
fn of_a_stable_breaker(odd: Duration) -> Effect {
    Box::pin(async move {
        let grows = Backoff::exponential(SECOND, SECOND * 100_000)
            .unwrap()
            .factor(100_000.0)
            .unwrap()
            .jitter(motet::Jitter::None)
            .unwrap();
        let breaker = breaker().probes(1).open_for(grows).stable_after(odd).build()?;
        for _ in 0..2 {
            breaker.try_acquire()?.failure();
            becomes(&breaker, BreakerState::HalfOpen).await;
            breaker.try_acquire()?.success();
            advance(SECOND).await;
        }
        Ok(())
    })
}

/// The effect: a call that is dropped after a second counts as failed.
fn of_a_drop(odd: Duration) -> Effect {
    Box::pin(async move {
        let breaker = breaker().fail_dropped_calls_after(odd).build()?;
        while breaker.state() == BreakerState::Closed {
            let permit = breaker.try_acquire()?;
            sleep(SECOND).await;
            drop(permit);
        }
        Ok(())
    })
}

fn of_a_window(odd: Duration) -> Effect {
    Box::pin(async move {
        let window = Window::time(odd).min_calls(2);
        let breaker = CircuitBreaker::builder().window(window).build()?;
        while breaker.state() == BreakerState::Closed {
            breaker.try_acquire()?.failure();
            sleep(SECOND).await;
        }
        Ok(())
    })
}
