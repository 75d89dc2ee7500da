//! Middlewares around handlers.

use std::cell::Cell;
use std::future::pending;
use std::sync::atomic::{AtomicU32, Ordering};

use motet::middleware::{
    self, Chain, Context, Handler, Metrics, Next, PanicError, PolicyError, catch_panic, metrics, timeout,
};
use motet::resilience::{Bulkhead, ErrorKind, PolicyKind};
use motet::{Backoff, task};
use motet_testkit::cancel::Outcome;
use motet_testkit::cancel_everywhere;
use motet_testkit::sim::{Failure, Sweep};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::{Driver, draw, millis, passes, swept};
use crate::notes::{Live, Log};

pub(super) const CHAIN: Driver = Driver {
    drives: &["middleware::Handler::call", "middleware::Handler::call_with", "middleware::Next::run"],
    cancel: cancel_chain,
    sweep: sweep_chain,
};

#[test]
fn call_dropped_anywhere_drops_all_its_middleware() {
    cancel_chain();
}

#[test]
fn every_order_of_calls_passes_all_middleware_with_own_contexts() {
    passes(sweep_chain);
}

/// The number of parts that the call has passed.
struct Depth(u32);

fn cancel_chain() {
    cancel_everywhere(
        async || Live::default(),
        async |live| assert_eq!(waiting(live).call(1).await, 1),
        async |live, _| assert_eq!(live.count(), 0),
    );
    cancel_everywhere(
        async || (Live::default(), Cell::new(false)),
        async |(live, answered)| {
            let given = Context::new().with(Depth(0));
            assert_eq!(waiting(live).call_with(1, given).await, 1);
            answered.set(true);
        },
        async |(live, answered), outcome| {
            assert_eq!(live.count(), 0);
            assert_eq!(matches!(outcome, Outcome::Completed(_)), answered.get());
        },
    );
}

/// Returns a handler with parts that wait before and after the inner parts, around a chain over other types with the
/// same parts.
fn waiting(live: &Live) -> Handler<u32, u32> {
    let held = |live: Live| {
        move |n: u32, next: Next<u32, u32>| {
            let live = live.clone();
            async move {
                let _alive = live.enter();
                yield_now().await;
                let answer = next.run(n).await;
                yield_now().await;
                answer
            }
        }
    };
    let inside = Chain::new().with(held(live.clone())).to(async |n| n);
    let adapt = async |n: u32, next: Next<u64, u64>| next.run(n.into()).await as u32;
    let back = async |n: u64, next: Next<u32, u32>| next.run(n as u32).await.into();
    Chain::new().with(held(live.clone())).adapt(adapt).adapt(back).with(held(live.clone())).to(inside)
}

fn sweep_chain(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        passes_every_part_in_order().await;
        runs_the_inner_parts_again().await;
    })
}

/// Concurrent calls: each passes all parts, in order, with a context of its own.
async fn passes_every_part_in_order() {
    async fn step(n: u32, next: Next<u32, u32>) -> u32 {
        let passed = next.context().get::<Depth>().map_or(0, |depth| depth.0);
        sleep(millis(draw(3))).await;
        next.with(Depth(passed + 1)).run(n).await
    }
    let parts = draw(6) as u32;
    let chain = (0..parts).fold(Chain::new(), |chain, _| chain.with(step));
    let handler = chain.to_with_context(async |n: u32, cx: Context| {
        yield_now().await;
        n + cx.get::<Depth>().map_or(0, |depth| depth.0)
    });
    let (a, b, c) = tokio::join!(handler.call(100), handler.call(200), handler.call(300));
    assert_eq!([a, b, c], [100 + parts, 200 + parts, 300 + parts]);
}

/// A part that clones `Next` runs the same inner parts again, with the context that it had set before.
async fn runs_the_inner_parts_again() {
    let log = Log::default();
    let noted = log.clone();
    let again = async |n: u32, next: Next<u32, u32>| {
        let next = next.with(Depth(n));
        let (first, second) = tokio::join!(next.clone().run(n), next.clone().run(n));
        first + second + next.run(n).await
    };
    let note = move |n: u32, next: Next<u32, u32>| {
        noted.note("inside");
        next.run(n)
    };
    let handler = Chain::new().with(again).with(note).to_with_context(async |n, cx: Context| {
        sleep(millis(draw(3))).await;
        n + cx.get::<Depth>().map_or(0, |depth| depth.0)
    });
    assert_eq!(handler.call(1).await, 6);
    assert_eq!(log.count("inside"), 3);
}

/// Policies and other parts of the library around a handler.
pub(super) const PARTS: Driver =
    Driver { drives: &["middleware::policy::InnerCall"], cancel: cancel_parts, sweep: sweep_parts };

#[test]
fn call_dropped_in_a_policy_frees_its_slot_and_is_counted() {
    cancel_parts();
}

#[test]
fn every_order_repeats_no_rejection_and_counts_each_call() {
    passes(sweep_parts);
}

/// The state that the calls share.
struct Parts {
    live: Live,
    metrics: Metrics,
    places: Bulkhead,
}

#[derive(Debug, PartialEq, thiserror::Error)]
enum Failed {
    #[error("busy")]
    Busy,
    #[error("a policy: {0:?}")]
    Policy(ErrorKind),
    #[error(transparent)]
    Panicked(#[from] PanicError),
}

impl From<PolicyError> for Failed {
    fn from(error: PolicyError) -> Self {
        Self::Policy(error.kind())
    }
}

impl Parts {
    fn new() -> Self {
        let places = Bulkhead::builder(2).queue(1, millis(10)).build().unwrap();
        Self { live: Live::default(), metrics: Metrics::new(), places }
    }

    /// Returns a handler that calls `inside` once for each attempt that got a slot of the bulkhead.
    fn handler<F, Fut>(&self, inside: F) -> Handler<u32, Result<u32, Failed>>
    where
        F: Fn(u32, u32) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<u32, Failed>> + Send + 'static,
    {
        let (live, calls) = (self.live.clone(), AtomicU32::new(0));
        let retry = motet::resilience::Retry::new().attempts(3).unwrap().without_budget();
        let hold = move |n: u32, next: Next<u32, Result<u32, Failed>>| {
            let live = live.clone();
            async move {
                let _alive = live.enter();
                next.run(n).await
            }
        };
        Chain::new()
            .with(metrics(&self.metrics))
            .with(catch_panic())
            .with(timeout(millis(200)))
            .with(middleware::retry(retry.backoff(Backoff::constant(millis(5)))))
            .with(middleware::bulkhead(self.places.clone()))
            .with(timeout(millis(20)))
            .with(hold)
            .to(move |n| inside(n, calls.fetch_add(1, Ordering::Relaxed)))
    }

    /// Checks that no call is left, and that each call was counted once.
    fn check(&self) {
        assert_eq!((self.live.count(), self.places.stats().in_flight), (0, 0));
        let seen = self.metrics.stats();
        assert_eq!(seen.in_flight, 0, "{seen:?}");
        assert_eq!(seen.begun, seen.succeeded + seen.failed + seen.dropped + seen.panicked);
    }
}

fn cancel_parts() {
    cancel_everywhere(
        async || Parts::new(),
        async |parts| {
            let handler = parts.handler(async |n, call| {
                yield_now().await;
                match call {
                    0 => Err(Failed::Busy),
                    1 => pending().await,
                    _ => Ok(n),
                }
            });
            assert_eq!(handler.call(7).await, Ok(7));
        },
        async |parts, _| parts.check(),
    );
}

fn sweep_parts(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        every_call_ends_and_is_counted().await;
        rejected_call_is_not_repeated().await;
    })
}

/// Four concurrent calls for two slots, and one waiter.
async fn every_call_ends_and_is_counted() {
    let parts = Parts::new();
    let handler = parts.handler(async |n, _| {
        sleep(millis(draw(8))).await;
        match draw(5) {
            0 => Err(Failed::Busy),
            1 => pending().await,
            2 if n == 1 => panic!("broken"),
            _ => Ok(n),
        }
    });
    let given_up = task::timeout(millis(draw(30)), handler.call(0));
    let (dropped, a, b, c) = tokio::join!(given_up, handler.call(1), handler.call(2), handler.call(3));
    for (n, answer) in [(1, &a), (2, &b), (3, &c)] {
        match answer {
            Ok(answer) => assert_eq!(*answer, n),
            Err(Failed::Panicked(panicked)) => assert_eq!((n, panicked.message()), (1, "broken")),
            Err(Failed::Busy) => {}
            Err(Failed::Policy(kind)) => assert!(!matches!(kind, ErrorKind::Failed), "{kind:?}"),
        }
    }
    parts.check();
    let seen = parts.metrics.stats();
    let failed =
        [&a, &b, &c].into_iter().chain(dropped.as_ref().ok()).filter(|answer| answer.is_err()).count();
    assert_eq!((seen.begun, seen.failed), (4, failed as u64));
    assert_eq!(seen.dropped, u64::from(dropped.is_err()));
}

/// All slots are taken: a call is rejected after its wait, and is not repeated.
async fn rejected_call_is_not_repeated() {
    let parts = Parts::new();
    let handler = parts.handler(async |n, _| Ok(n));
    let taken = (parts.places.try_acquire().unwrap(), parts.places.try_acquire().unwrap());
    let begun = Instant::now();
    assert_eq!(handler.call(1).await, Err(Failed::Policy(ErrorKind::Rejected(PolicyKind::Bulkhead))));
    assert_eq!(begun.elapsed(), millis(10));
    drop(taken);
    parts.check();
}
