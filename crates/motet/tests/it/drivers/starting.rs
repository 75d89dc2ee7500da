//! Children that report when they are ready.

use std::future::pending;

use motet::task::{Nursery, Reason, Scope, ScopeError, TaskError, drain, scope, timeout, unscoped};
use motet_testkit::cancel::Outcome;
use motet_testkit::cancel_everywhere;
use motet_testkit::sim::{Failure, Sweep};
use tokio::task::yield_now;
use tokio::time::sleep;

use super::{Driver, draw, millis, passes, swept};
use crate::notes::Live;

pub(super) const DRIVER: Driver = Driver { drives: &["task::Nursery::start"], cancel, sweep };

#[test]
fn scope_dropped_anywhere_ends_the_child_that_it_starts() {
    cancel();
}

#[test]
fn every_order_returns_the_answer_or_the_error_of_a_start() {
    passes(sweep);
}

fn cancel() {
    cancel_everywhere(
        async || Live::default(),
        async |live| {
            scope(async |n: &Nursery<&'static str>| {
                let alive = live.enter();
                let started = n.start("server", async move |ready| {
                    let _alive = alive;
                    yield_now().await;
                    ready.send(8080);
                    sleep(millis(20)).await;
                    Ok(())
                });
                assert_eq!(started.await.unwrap(), 8080);
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

fn sweep(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        is_ready().await;
        fails_first().await;
        never_says_so().await;
        fails_when_nobody_waits().await;
    })
}

async fn is_ready() {
    scope(async |n: &Nursery<&'static str>| {
        let time = draw(20);
        let started = n.start("server", async move |ready| {
            sleep(millis(time)).await;
            ready.send(7);
            pending().await
        });
        assert_eq!(timeout(millis(1_000), started).await.expect("an answer").unwrap(), 7);
        n.cancel(Reason::requested("enough"));
        Ok(())
    })
    .await
    .unwrap();
}

async fn fails_first() {
    scope(async |n: &Nursery<&'static str>| {
        let started = n.start::<_, _, _, ()>("server", async |_ready| {
            yield_now().await;
            Err("taken")
        });
        assert!(matches!(started.await, Err(TaskError::Error { error: "taken", .. })));
        Ok(())
    })
    .await
    .expect("the starter has the error, the scope does not");
}

async fn never_says_so() {
    scope(async |n: &Nursery<&'static str>| {
        let started = n.start::<_, _, _, ()>("server", async |ready| {
            yield_now().await;
            drop(ready);
            Ok(())
        });
        assert!(matches!(started.await, Err(TaskError::NeverReady { .. })));
        Ok(())
    })
    .await
    .unwrap();
}

async fn fails_when_nobody_waits() {
    let failed = Scope::builder().run(async |n: &Nursery<&'static str>| {
        let time = draw(20);
        drop(n.start::<_, _, _, ()>("server", async move |_ready| {
            sleep(millis(time)).await;
            Err("taken")
        }));
        pending::<Result<(), _>>().await
    });
    let ScopeError::Failed { first, .. } = failed.await.unwrap_err() else { panic!("the error is lost") };
    assert_eq!(first.error, "taken");
}
