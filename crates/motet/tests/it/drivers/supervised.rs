//! Supervisors, and those who watch them.

use std::convert::Infallible;

use motet::task::{CancelToken, Child, Nursery, Reason, Restart, Supervisor, drain, scope, unscoped};
use motet::{Backoff, Jitter};
use motet_testkit::cancel::Outcome;
use motet_testkit::cancel_everywhere;
use motet_testkit::sim::{Failure, Sweep};
use tokio::task::yield_now;
use tokio::time::sleep;

use super::{Driver, Live, Log, draw, millis, passes, swept};

pub(super) const DRIVER: Driver = Driver {
    drives: &[
        "task::supervisor::Supervisor::run",
        "task::supervisor::SupervisorWatch::started",
        "task::supervisor::SupervisorWatch::wait_for",
    ],
    cancel,
    sweep,
};

#[test]
fn a_supervisor_dropped_somewhere_leaves_a_child_behind() {
    cancel();
}

#[test]
fn in_some_order_children_start_or_stop_out_of_turn() {
    passes(sweep);
}

/// Fails at its first start, is ready at the second, and takes its time to stop.
fn child(name: &'static str, live: &Live, log: &Log, time: u64) -> Child {
    let (live, log, mut fails) = (live.clone(), log.clone(), true);
    Child::new(name, Restart::Permanent, move |cx| {
        let (alive, log) = (live.enter(), log.clone());
        let failed = std::mem::replace(&mut fails, false);
        async move {
            let _alive = alive;
            sleep(millis(time)).await;
            if failed {
                return Err("at first");
            }
            log.note(name);
            cx.ready();
            cx.token().cancelled().await;
            yield_now().await;
            log.note(name);
            Ok(())
        }
    })
}

fn supervisor(live: &Live, log: &Log, time: fn() -> u64) -> Supervisor {
    Supervisor::new("app")
        .backoff(Backoff::constant(millis(10)).jitter(Jitter::None))
        .with_child(child("first", live, log, time()))
        .with_child(child("second", live, log, time()))
}

fn cancel() {
    cancel_everywhere(
        async || Live::default(),
        async |live| {
            let stop = CancelToken::new();
            let supervisor = supervisor(live, &Log::default(), || 1);
            let watch = supervisor.watch();
            let running = supervisor.run(stop.clone());
            let stopping = async {
                assert!(watch.started().await);
                assert!(watch.wait_for(|all| all.iter().all(|child| child.restarts == 1)).await.is_some());
                stop.cancel(Reason::requested("enough"));
            };
            let (ended, ()) = tokio::join!(running, stopping);
            ended.unwrap();
        },
        async |live, outcome| {
            if matches!(outcome, Outcome::Dropped { .. }) {
                drain().await;
            }
            assert_eq!((live.count(), unscoped()), (0, 0));
        },
    );
}

fn sweep(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        let (live, log, stop) = (Live::default(), Log::default(), CancelToken::new());
        let supervisor = supervisor(&live, &log, || draw(10));
        let watch = supervisor.watch();
        scope(async |n: &Nursery<Infallible>| {
            let running = n.spawn("app", supervisor.run(stop.clone()));
            assert!(watch.started().await);
            stop.cancel(Reason::requested("enough"));
            running.await.unwrap().unwrap();
            assert_eq!(live.count(), 0);
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(log.read(), ["first", "second", "second", "first"]);
    })
}
