//! Handles of tasks: one that awaits, and many.

use motet::task::{Nursery, Reason, ReasonKind, ScopeError, TaskError, drain, scope, timeout, unscoped};
use motet_testkit::cancel::Outcome;
use motet_testkit::cancel_everywhere;
use motet_testkit::sim::{Failure, Sweep};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::sleep;

use super::{Driver, draw, millis, passes, swept};
use crate::caught::caught;
use crate::notes::Live;

pub(super) const TASK: Driver = Driver { drives: &["task::Task"], cancel: cancel_task, sweep: sweep_task };

pub(super) const SHARED: Driver =
    Driver { drives: &["task::SharedTask"], cancel: cancel_shared, sweep: sweep_shared };

pub(super) const VALUE: Driver =
    Driver { drives: &["task::Task::value"], cancel: cancel_value, sweep: sweep_value };

#[test]
fn wait_for_a_value_dropped_anywhere_leaves_no_task() {
    cancel_value();
}

#[test]
fn every_order_returns_the_value_or_ends_its_scope() {
    passes(sweep_value);
}

#[test]
fn scope_dropped_during_a_wait_for_a_task_leaves_no_task() {
    cancel_task();
}

#[test]
fn every_order_of_task_and_cancel_reports_value_reason_or_panic() {
    passes(sweep_task);
}

#[test]
fn scope_dropped_during_waits_for_a_shared_task_leaves_no_task() {
    cancel_shared();
}

#[test]
fn every_order_wakes_all_waiters_of_a_shared_task() {
    passes(sweep_shared);
}

fn cancel_task() {
    cancel_everywhere(
        async || Live::default(),
        async |live| {
            scope(async |n: &Nursery<&'static str>| {
                let alive = live.enter();
                let mut task = n.spawn("value", async move {
                    let _alive = alive;
                    yield_now().await;
                    sleep(millis(20)).await;
                    5
                });
                // A wait that is dropped loses nothing.
                assert!(timeout(millis(5), &mut task).await.is_err());
                assert_eq!(task.await.unwrap(), 5);
                Ok(())
            })
            .await
            .unwrap();
        },
        async |live, outcome| {
            if matches!(outcome, Outcome::Dropped { .. }) {
                drain().await;
            }
            assert_eq!((live.count(), unscoped()), (0, 0));
        },
    );
}

/// Panics when dropped, unless it is defused.
struct Bomb(bool);

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0 {
            std::panic::panic_any(23);
        }
    }
}

fn sweep_task(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        let live = Live::default();
        let armed = draw(4) == 0;
        let ended = caught(scope(async |n: &Nursery<&'static str>| {
            let alive = live.enter();
            let time = draw(10);
            let task = n.spawn("value", async move {
                let _alive = alive;
                let mut bomb = Bomb(armed);
                sleep(millis(time)).await;
                bomb.0 = false;
                5
            });
            sleep(millis(draw(10))).await;
            task.cancel(Reason::requested("enough"));
            Ok(task.await)
        }))
        .await;
        assert_eq!((live.count(), unscoped()), (0, 0));
        let was_cancelled = match ended {
            // Cancelled in its first poll, it was never armed.
            Ok(Ok(Ok(value))) => value != 5,
            Ok(Ok(Err(TaskError::Cancelled { reason, .. }))) => {
                assert_eq!(reason.kind(), ReasonKind::Requested);
                true
            }
            Err(payload) => {
                assert!(armed && payload.downcast_ref() == Some(&23));
                motet::sometimes!(true, "the drop of a cancelled task panics, and the scope reports it");
                true
            }
            other => panic!("{other:?}"),
        };
        motet::sometimes!(was_cancelled, "a task is cancelled before its end");
        motet::sometimes!(!was_cancelled, "a task ends before it is cancelled");
    })
}

/// Whether the waiter that is held polled last depends on the seed.
fn sweep_shared(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        scope(async |n: &Nursery<&'static str>| {
            let time = draw(20);
            let shared = n
                .spawn("value", async move {
                    sleep(millis(time)).await;
                    5
                })
                .shared();
            let waiters: Vec<_> = (0..3).map(|_| n.spawn("waits", shared.clone())).collect();
            sleep(millis(draw(10))).await;
            let mut held = Box::pin(shared.clone());
            let _ = timeout(millis(1), &mut held).await;
            // Held, and not polled.
            for waiter in waiters {
                let value = timeout(millis(1_000), waiter).await.expect("all are woken").unwrap();
                assert!(matches!(*value, Ok(5)));
            }
            assert!(matches!(*shared.await, Ok(5)), "one that comes late has it, too");
            assert!(matches!(*held.await, Ok(5)));
            Ok(())
        })
        .await
        .unwrap();
    })
}

fn cancel_shared() {
    cancel_everywhere(
        async || (),
        async |()| {
            scope(async |n: &Nursery<&'static str>| {
                let (settle, settled) = oneshot::channel();
                let shared = n.spawn("value", async { settled.await.unwrap_or(0) }).shared();
                let waiter = n.spawn("waits", shared.clone());
                let mut mine = shared.clone();
                yield_now().await;
                assert!(timeout(millis(5), &mut mine).await.is_err());
                settle.send(5).unwrap();
                assert!(matches!(*mine.await, Ok(5)));
                assert!(matches!(*waiter.await.unwrap(), Ok(5)));
                assert!(matches!(*shared.await, Ok(5)));
                Ok(())
            })
            .await
            .unwrap();
        },
        async |(), outcome| {
            if matches!(outcome, Outcome::Dropped { .. }) {
                drain().await;
            }
            assert_eq!(unscoped(), 0);
        },
    );
}

fn cancel_value() {
    cancel_everywhere(
        async || Live::default(),
        async |live| {
            scope(async |n: &Nursery<&'static str>| {
                let alive = live.enter();
                let task = n.try_spawn("value", async move {
                    let _alive = alive;
                    yield_now().await;
                    sleep(millis(20)).await;
                    Ok(5)
                });
                assert_eq!(task.value().await, 5);
                Ok(())
            })
            .await
            .unwrap();
        },
        async |live, outcome| {
            if matches!(outcome, Outcome::Dropped { .. }) {
                drain().await;
            }
            assert_eq!((live.count(), unscoped()), (0, 0));
        },
    );
}

/// The task succeeds, fails, panics, or is cancelled; its value is awaited by the body, a sibling or a scope within.
fn sweep_value(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        let live = Live::default();
        let (how, waiter) = (draw(4), draw(3));
        let ended = caught(scope(async |n: &Nursery<&'static str>| {
            let (alive, time) = (live.enter(), draw(10));
            let task = n.try_spawn("value", async move {
                let _alive = alive;
                sleep(millis(time)).await;
                match how {
                    0 => Ok(5),
                    1 => Err("broken"),
                    2 => std::panic::panic_any(23),
                    _ => std::future::pending().await,
                }
            });
            if how == 3 {
                sleep(millis(draw(10))).await;
                task.cancel(Reason::requested("enough"));
            }
            let alive = live.enter();
            let value = async move {
                let _alive = alive;
                task.value().await
            };
            Ok(match waiter {
                0 => value.await,
                1 => n.spawn("sibling", value).await.unwrap_or(0),
                _ => scope(async |inner: &Nursery| Ok(inner.spawn("within", value).value().await))
                    .await
                    .unwrap_or(0),
            })
        }))
        .await;
        assert_eq!((live.count(), unscoped()), (0, 0));
        match (how, ended) {
            (0, Ok(Ok(5))) => {}
            (1, Ok(Err(error))) => assert_eq!(error.into_error(), Some("broken")),
            (2, Err(payload)) => assert_eq!(payload.downcast_ref(), Some(&23)),
            (3, Ok(Err(ScopeError::Cancelled { reason, .. }))) => {
                assert_eq!((reason.kind(), reason.caused_by()), (ReasonKind::NoValue, Some("value")));
            }
            (how, ended) => panic!("{how}: {ended:?}"),
        }
        motet::sometimes!(how == 0, "the value is returned");
        motet::sometimes!(how == 3, "the scope of a cancelled task ends");
    })
}
