//! Programs that shut down in phases, and supervised children.

use std::convert::Infallible;
use std::future::pending;

use motet::run::{App, ExitOutcome as Ending, Root};
use motet::task::{
    CancelToken, Child, Nursery, Reason, Restart, Supervisor, drain, scope, timeout, unscoped,
};
use motet_testkit::cancel::Outcome;
use motet_testkit::cancel_everywhere;
use motet_testkit::sim::{Failure, Sweep};
use tokio::task::yield_now;
use tokio::time::sleep;

use super::{Driver, draw, millis, passes, swept};
use crate::notes::{Live, Log};

pub(super) const APP: Driver =
    Driver { drives: &["run::App::run_until", "run::Reloads::recv"], cancel: cancel_app, sweep: sweep_app };

pub(super) const SUPERVISOR: Driver = Driver {
    drives: &[
        "task::supervisor::Supervisor::run",
        "task::supervisor::SupervisorWatch::started",
        "task::supervisor::SupervisorWatch::wait_for",
    ],
    cancel: cancel_supervisor,
    sweep: sweep_supervisor,
};

#[test]
fn program_dropped_anywhere_leaves_no_member_alive() {
    cancel_app();
}

#[test]
fn every_order_stops_the_phases_one_after_the_other() {
    passes(sweep_app);
}

#[test]
fn supervisor_dropped_anywhere_leaves_no_child_alive() {
    cancel_supervisor();
}

#[test]
fn every_order_restarts_a_failed_child_and_stops_all_children() {
    passes(sweep_supervisor);
}

/// Runs a program with a member in each of two phases; it is stopped after `stop_after`.
async fn program(live: &Live, log: &Log, stop_after: u64) {
    let app = App::new().name("shop").phase("drain", millis(500)).phase("close", millis(500));
    let stop = async move {
        sleep(millis(stop_after)).await;
        Reason::requested("enough")
    };
    let finished = app.run_until(stop, async |app: &Root<Infallible>| {
        // Joined in the reverse order.
        for phase in ["close", "drain"] {
            let (alive, log) = (live.enter(), log.clone());
            app.in_phase(phase).service_coop(phase, async move |cx: CancelToken| {
                cx.cancelled().await;
                sleep(millis(20)).await;
                log.note(phase);
                drop(alive);
            });
        }
        let (alive, work) = (live.enter(), log.at_drop("work"));
        app.spawn("works", async move {
            let _work = (alive, work);
            pending::<()>().await;
        });
        let (mut early, mut late) = (app.reloads(), app.reloads());
        let (alive, reloads) = (live.enter(), log.clone());
        app.spawn("reloads", async move {
            late.recv().await;
            reloads.note("reload");
            pending::<()>().await;
            drop(alive);
        });
        yield_now().await;
        app.reload();
        early.recv().await;
        pending::<Result<(), _>>().await
    });
    let finished = finished.await;
    assert!(matches!(finished.outcome, Ending::Stopped), "{finished:?}");
    assert!(finished.report.is_clean(), "{finished:?}");
}

fn cancel_app() {
    cancel_everywhere(
        async || (Live::default(), Log::default()),
        async |(live, log)| {
            program(live, log, 30).await;
            assert_eq!(log.read(), ["reload", "work", "drain", "close"]);
        },
        async |(live, _), outcome| {
            if matches!(outcome, Outcome::Dropped { .. }) {
                drain().await;
            }
            assert_eq!((live.count(), unscoped()), (0, 0));
        },
    );
}

fn sweep_app(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        let (live, log) = (Live::default(), Log::default());
        // One millisecond: not before the members have joined.
        program(&live, &log, 1 + draw(20)).await;
        assert_eq!((live.count(), unscoped()), (0, 0));
        assert_eq!(log.read(), ["reload", "work", "drain", "close"]);
    })
}

/// A child that runs until it is cancelled, and then takes some time to end.
fn tidy(name: &'static str, live: &Live, log: &Log) -> Child {
    let (live, log) = (live.clone(), log.clone());
    Child::new(name, Restart::Permanent, move |cx| {
        let (alive, log) = (live.enter(), log.clone());
        async move {
            yield_now().await;
            cx.ready();
            cx.token().cancelled().await;
            sleep(millis(10)).await;
            log.note(name);
            drop(alive);
        }
    })
}

fn cancel_supervisor() {
    cancel_everywhere(
        async || (Live::default(), Log::default()),
        async |(live, log)| {
            let stop = CancelToken::new();
            let supervisor = Supervisor::new()
                .name("pool")
                .with_child(tidy("a", live, log))
                .with_child(tidy("b", live, log));
            let watch = supervisor.watch();
            scope(async |n: &Nursery<Infallible>| {
                let token = stop.clone();
                n.spawn("stops", async move {
                    assert!(timeout(millis(0), watch.wait_for(|_| false)).await.is_err());
                    assert!(watch.started().await);
                    token.cancel(Reason::requested("enough"));
                });
                supervisor.run(stop).await.unwrap();
                Ok(())
            })
            .await
            .unwrap();
            assert_eq!(log.read(), ["b", "a"], "stopped in the order of their start");
        },
        async |(live, _), outcome| {
            if matches!(outcome, Outcome::Dropped { .. }) {
                drain().await;
            }
            assert_eq!((live.count(), unscoped()), (0, 0));
        },
    );
}

fn sweep_supervisor(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        let (live, log, stop) = (Live::default(), Log::default(), CancelToken::new());
        let (failing, ends_after) = (live.clone(), draw(20));
        let mut fails = true;
        let supervisor = Supervisor::new().name("pool").with_child(tidy("a", &live, &log)).with_child(
            Child::new("fails once", Restart::Permanent, move |cx| {
                let alive = failing.enter();
                let fails = std::mem::replace(&mut fails, false);
                async move {
                    let _alive = alive;
                    cx.ready();
                    if fails {
                        sleep(millis(ends_after)).await;
                        panic!("once");
                    }
                    cx.token().cancelled().await;
                }
            }),
        );
        let watch = supervisor.watch();
        scope(async |n: &Nursery<Infallible>| {
            let token = stop.clone();
            let seen = watch.clone();
            n.spawn("stops", async move {
                let restarted =
                    seen.wait_for(|children| children.iter().any(|child| child.restarts == 1)).await;
                assert!(restarted.is_some() && seen.started().await);
                token.cancel(Reason::requested("enough"));
            });
            supervisor.run(stop.clone()).await.unwrap();
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!((live.count(), unscoped(), log.count("a")), (0, 0, 1));
        assert_eq!(watch.child("fails once").unwrap().restarts, 1);
    })
}
