//! Futures under a limit of time.

use std::future::pending;

use motet::task::{timeout, timeout_at};
use motet_testkit::cancel_everywhere;
use motet_testkit::sim::{Failure, Sweep};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::{Driver, draw, millis, passes, swept};
use crate::notes::Live;

pub(super) const DRIVER: Driver = Driver { drives: &["task::Timeout"], cancel, sweep };

#[test]
fn timeout_dropped_anywhere_drops_its_future() {
    cancel();
}

#[test]
fn every_order_times_out_only_futures_that_are_not_ready() {
    passes(sweep);
}

fn cancel() {
    cancel_everywhere(
        async || Live::default(),
        async |live| {
            let waits = async |time| {
                let _alive = live.enter();
                yield_now().await;
                sleep(millis(time)).await;
            };
            // Still here when its end is seen.
            let mut late = Box::pin(timeout(millis(10), waits(20)));
            assert!((&mut late).await.is_err());
            assert_eq!(live.count(), 0, "the error is seen while the future is there");
            assert!(timeout_at(Instant::now() + millis(20), waits(10)).await.is_ok());
        },
        async |live, _| assert_eq!(live.count(), 0),
    );
}

fn sweep(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        let (limit, needs) = (draw(30), draw(30));
        let begin = Instant::now();
        let ended = timeout(millis(limit), async {
            yield_now().await;
            sleep(millis(needs)).await;
        });
        match ended.await {
            Ok(()) => assert!(needs <= limit + 1),
            Err(_) => assert!(limit <= needs && begin.elapsed() >= millis(limit)),
        }
        // One that uses up the budget at every poll.
        let late = timeout_at(Instant::now() + millis(limit), async {
            loop {
                tokio::task::consume_budget().await;
                if draw(4) == 0 {
                    sleep(millis(1)).await;
                }
            }
        });
        assert!(late.await.is_err());
        assert!(timeout(millis(1), pending::<()>()).await.is_err());
        assert!(begin.elapsed() <= millis(90));
    })
}
