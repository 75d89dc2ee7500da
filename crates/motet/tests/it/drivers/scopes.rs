//! Scopes, and the wait for those that were dropped.

use std::future::pending;

use motet::task::{
    CancelToken, Nursery, Policy, Reason, Scope, ScopeError, drain, race, scope, timeout, unscoped,
};
use motet_testkit::cancel::Outcome;
use motet_testkit::cancel_everywhere;
use motet_testkit::sim::{Failure, Sweep};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::{Driver, draw, millis, passes, swept};
use crate::caught::caught;
use crate::notes::{Live, Log};

pub(super) const DRIVER: Driver = Driver {
    drives: &["task::scope", "task::ScopeBuilder::run", "task::ScopeBuilder::run_send"],
    cancel,
    sweep,
};

pub(super) const DRAIN: Driver =
    Driver { drives: &["task::drain"], cancel: cancel_drain, sweep: sweep_drain };

#[test]
fn scope_dropped_anywhere_ends_children_and_runs_its_cleanups() {
    cancel();
}

#[test]
fn every_order_ends_children_before_their_scope_and_reports_why() {
    passes(sweep);
}

#[test]
fn drain_dropped_anywhere_lets_the_next_drain_end() {
    cancel_drain();
}

#[test]
fn concurrent_drains_all_end_when_no_task_is_left() {
    passes(sweep_drain);
}

/// A child that cleans up for some time when it is cancelled, or ends by itself.
fn tidies(n: &Nursery<&'static str>, live: &Live) {
    let alive = live.enter();
    n.spawn_coop("tidies", async move |cx: CancelToken| {
        race(cx.cancelled(), sleep(millis(700))).await;
        sleep(millis(400)).await;
        drop(alive);
    });
}

fn cancel() {
    cancel_everywhere(
        async || (Live::default(), Log::default()),
        async |(live, log)| {
            let body = async |n: &Nursery<&'static str>| {
                tidies(n, live);
                let (plain, service, note) = (live.enter(), live.enter(), log.clone());
                n.service("serves", async move {
                    let _service = service;
                    pending::<()>().await;
                });
                n.try_spawn("plain", async move {
                    let _plain = plain;
                    sleep(millis(50)).await;
                    Ok(())
                });
                log.note("owed");
                n.defer("cleanup", async move |_| {
                    sleep(millis(10)).await;
                    note.note("paid");
                });
                yield_now().await;
                sleep(millis(20)).await;
                Ok(())
            };
            scope(async |outer: &Nursery<&'static str>| {
                let alive = live.enter();
                outer.spawn("beside", async move {
                    let _alive = alive;
                    sleep(millis(5)).await;
                });
                Scope::builder().timeout(millis(300)).run_send(body).await.map_err(|_| "late")
            })
            .await
        },
        async |(live, log), outcome| {
            if matches!(outcome, Outcome::Dropped { .. }) {
                drain().await;
            }
            assert_eq!(live.count(), 0, "something outlived its scope");
            assert_eq!(unscoped(), 0);
            assert_eq!(log.count("owed"), log.count("paid"), "a cleanup ran not at all, or twice");
        },
    );
}

/// How a run of [`law`] ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    ByItself,
    CancelledByTheBody,
    CancelledByAChild,
    Failed,
    Panicked,
    Deadline,
}

const ENDS: [End; 6] = [
    End::ByItself,
    End::CancelledByTheBody,
    End::CancelledByAChild,
    End::Failed,
    End::Panicked,
    End::Deadline,
];

fn sweep(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, law)
}

/// A scope with children of every kind, some of a scope that is dropped within it.
async fn law() {
    let (live, log) = (Live::default(), Log::default());
    let end = ENDS[usize::try_from(draw(6)).unwrap()];
    let begin = Instant::now();
    let options = Scope::builder().timeout(millis(2_000)).grace(millis(600)).policy(Policy::FailFast);
    let ended = caught(options.run(async |n: &Nursery<&'static str>| {
        for _ in 0..=draw(2) {
            let (alive, worked) = (live.enter(), log.at_drop("work"));
            let (turns, time) = (draw(3), draw(40));
            n.spawn("works", async move {
                let _worked = (alive, worked);
                for _ in 0..turns {
                    yield_now().await;
                }
                sleep(millis(time)).await;
            });
        }
        let served = (live.enter(), log.at_drop("service"));
        n.service("serves", async move {
            let _served = served;
            pending::<()>().await;
        });
        tidies(n, &live);
        let inner = Scope::builder().timeout(millis(9_000)).run(async |inner: &Nursery<&'static str>| {
            assert!(inner.deadline() <= n.deadline(), "a nested deadline reaches beyond the one around");
            tidies(inner, &live);
            pending::<Result<(), _>>().await
        });
        assert!(timeout(millis(draw(30)), inner).await.is_err());
        assert_eq!(unscoped(), 0, "tasks of a nested scope count as unscoped");
        end_as(n, end).await
    }))
    .await;
    assert_eq!(live.count(), 0, "something outlived its scope: {end:?}");
    assert_eq!(log.read().last(), Some(&"service".to_owned()), "the service went before the last child");
    let took = begin.elapsed();
    match (end, ended) {
        (End::ByItself, Ok(Ok(())))
        | (End::CancelledByTheBody | End::CancelledByAChild, Ok(Err(ScopeError::Cancelled { .. }))) => {}
        (End::Failed, Ok(Err(ScopeError::Failed { first, .. }))) => assert_eq!(first.error, "broken"),
        (End::Panicked, Err(payload)) => assert_eq!(payload.downcast_ref(), Some(&17)),
        (End::Deadline, Ok(Err(failed))) => {
            assert!(failed.is_deadline(), "{failed}");
            assert!(took >= millis(2_000), "cancelled before its deadline");
        }
        (end, ended) => panic!("{end:?} ended with {ended:?}"),
    }
    assert!(end == End::Deadline || took < millis(2_000), "{end:?} is over at the deadline only");
    // Including the grace period: the scope waits no longer for a child that ignores its cancellation.
    assert!(took <= millis(2_700), "the scope ended {took:?} after it began");
}

async fn end_as(n: &Nursery<&'static str>, end: End) -> Result<(), &'static str> {
    // A child that ignores its cancellation, and is dropped after its grace period.
    if end != End::ByItself {
        n.spawn_coop("deaf", async |_| pending::<()>().await);
    }
    match end {
        End::ByItself => return Ok(()),
        End::CancelledByTheBody => n.cancel(Reason::requested("enough")),
        End::CancelledByAChild => {
            let scope = Scope::clone(n);
            n.spawn("cancels", async move {
                scope.cancel(Reason::requested("enough"));
                pending::<()>().await;
            });
        }
        End::Failed => {
            n.try_spawn("fails", async { Err::<(), _>("broken") });
        }
        End::Panicked => {
            n.spawn("panics", async { std::panic::panic_any(17) });
        }
        End::Deadline => {}
    }
    pending().await
}

/// Leaves a child behind that takes a while.
async fn leave_behind(live: &Live) {
    let dropped = scope(async |n: &Nursery<&'static str>| {
        tidies(n, live);
        pending().await
    });
    let _: Result<Result<(), _>, _> = timeout(millis(10), dropped).await;
}

fn cancel_drain() {
    cancel_everywhere(
        async || {
            let live = Live::default();
            leave_behind(&live).await;
            live
        },
        async |_| drain().await,
        async |live, _| {
            drain().await;
            assert_eq!((live.count(), unscoped()), (0, 0));
        },
    );
}

fn sweep_drain(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        let live = Live::default();
        leave_behind(&live).await;
        scope(async |n: &Nursery<&'static str>| {
            for _ in 0..2 {
                let live = live.clone();
                n.spawn("drains", async move {
                    sleep(millis(draw(500))).await;
                    drain().await;
                    assert_eq!(live.count(), 0, "a task is left after the drain");
                });
            }
            Ok(())
        })
        .await
        .unwrap();
    })
}
