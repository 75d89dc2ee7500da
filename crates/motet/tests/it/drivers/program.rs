//! Programs that shut down in phases.

use std::convert::Infallible;
use std::future::pending;

use motet::run::{App, Outcome, Root};
use motet::task::{CancelToken, Reason, drain, unscoped};
use motet_testkit::cancel::Outcome as Driven;
use motet_testkit::cancel_everywhere;
use motet_testkit::sim::{Failure, Sweep};
use tokio::task::yield_now;
use tokio::time::sleep;

use super::{Driver, Live, Log, draw, millis, passes, swept};

pub(super) const DRIVER: Driver = Driver { drives: &["run::App::run_until"], cancel, sweep };

#[test]
fn a_program_dropped_somewhere_leaves_a_member_behind() {
    cancel();
}

#[test]
fn in_some_order_a_phase_ends_out_of_turn() {
    passes(sweep);
}

async fn program(live: &Live, log: &Log, time: fn() -> u64) {
    let app = App::new("shop").phase("drain", millis(1_000)).phase("flush", millis(1_000));
    let stop = async {
        sleep(millis(time())).await;
        Reason::requested("enough")
    };
    let finished = app.run_until(stop, async |app: &Root<Infallible>| {
        for (phase, name) in [("flush", "flushed"), ("drain", "drained")] {
            let (alive, log, time) = (live.enter(), log.clone(), time());
            drop(app.in_phase(phase).service_coop(name, async move |cx: CancelToken| {
                let _alive = alive;
                cx.cancelled().await;
                sleep(millis(time)).await;
                log.note(name);
            }));
        }
        let alive = live.enter();
        drop(app.in_phase("drain").service("plain", async move {
            let _alive = alive;
            pending::<()>().await;
        }));
        let alive = live.enter();
        drop(app.spawn_coop("work", async move |cx: CancelToken| {
            let _alive = alive;
            cx.cancelled().await;
            yield_now().await;
        }));
        pending::<Result<(), Infallible>>().await
    });
    let finished = finished.await;
    assert!(matches!(finished.outcome, Outcome::Stopped), "{finished:?}");
    assert!(finished.report.is_clean(), "{}", finished.report);
}

fn cancel() {
    cancel_everywhere(
        async || Live::default(),
        async |live| program(live, &Log::default(), || 1).await,
        async |live, outcome| {
            if matches!(outcome, Driven::Dropped { .. }) {
                drain().await;
            }
            assert_eq!((live.count(), unscoped()), (0, 0));
        },
    );
}

fn sweep(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        let (live, log) = (Live::default(), Log::default());
        program(&live, &log, || draw(10)).await;
        assert_eq!(log.read(), ["drained", "flushed"]);
        assert_eq!((live.count(), unscoped()), (0, 0));
    })
}
