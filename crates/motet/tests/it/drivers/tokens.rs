//! Tokens, and the fault points of the simulator itself.

use std::future::pending;

use motet::sim::hooked;
use motet::task::{CancelToken, Nursery, Reason, Scope, scope, timeout};
use motet_testkit::cancel_everywhere;
use motet_testkit::sim::{Failure, Sweep};
use tokio::task::{JoinSet, yield_now};
use tokio::time::sleep;

use super::{Driver, draw, millis, passes, swept};

pub(super) const DRIVER: Driver = Driver {
    drives: &[
        "task::CancelToken::cancelled",
        "task::CancelToken::run_until_cancelled",
        "sim::Fault",
        "sim::FaultWait",
        "sim::Hooked",
    ],
    cancel,
    sweep,
};

#[test]
fn token_wait_dropped_anywhere_lets_the_next_wait_end() {
    cancel();
}

#[test]
fn every_order_wakes_all_waiters_of_a_token() {
    passes(sweep);
}

fn cancel() {
    cancel_everywhere(
        async || CancelToken::new(),
        async |token| {
            scope(async |n: &Nursery<&'static str>| {
                let (waits, cancels) = (token.clone(), token.clone());
                let waiter = n.spawn("waits", async move { waits.cancelled().await.clone() });
                n.spawn("cancels", async move {
                    sleep(millis(20)).await;
                    cancels.cancel(Reason::requested("lunch"));
                });
                let mut others = waits_in_a_task_of_tokio(token);
                assert!(timeout(millis(5), token.cancelled()).await.is_err());
                let child = token.child();
                assert_eq!(child.run_until_cancelled(sleep(millis(1))).await.ok(), Some(()));
                let reason = child.run_until_cancelled(pending::<()>()).await.unwrap_err();
                assert_eq!(reason.text(), Some("lunch"));
                assert!(!motet::fault!("tokens.cancel").await, "no fault unless a seed wants it");
                assert_eq!(token.cancelled().await.text(), Some("lunch"));
                assert_eq!(waiter.await.unwrap().text(), Some("lunch"));
                let other = others.join_next().await.unwrap().unwrap();
                assert_eq!(other.text(), Some("lunch"));
                Ok(())
            })
            .await
            .unwrap();
        },
        async |token, _| {
            motet::drain().await;
            token.cancel(Reason::requested("at the end"));
            let reason = timeout(millis(1), token.cancelled()).await.expect("cancelled is final");
            assert!(matches!(reason.text(), Some("lunch" | "at the end")));
        },
    );
}

/// A task that no scope has started, and that is one of the simulation all the same. Dropped, it ends.
fn waits_in_a_task_of_tokio(token: &CancelToken) -> JoinSet<Reason> {
    let (mut others, token) = (JoinSet::new(), token.clone());
    others.spawn(hooked("other", async move { token.cancelled().await.clone() }));
    others
}

fn sweep(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        scope(async |n: &Nursery<&'static str>| {
            let token = CancelToken::new();
            let mut others = waits_in_a_task_of_tokio(&token);
            let waiters: Vec<_> = (0..3)
                .map(|_| {
                    let (token, time) = (token.clone(), draw(10));
                    n.spawn("waits", async move {
                        if motet::fault!("tokens.sweep").await {
                            yield_now().await;
                        }
                        sleep(millis(time)).await;
                        token.cancelled().await.clone()
                    })
                })
                .collect();
            let child = token.child();
            let runs = n.spawn("runs", async move {
                sleep(millis(draw(10))).await;
                child.child().run_until_cancelled(pending::<()>()).await.unwrap_err()
            });
            sleep(millis(draw(10))).await;
            token.cancel(Reason::requested("lunch"));
            token.cancel(Reason::requested("too late"));
            for waiter in waiters {
                let reason = timeout(millis(5_000), waiter).await.expect("all are woken").unwrap();
                assert_eq!(reason.text(), Some("lunch"));
            }
            let reason = timeout(millis(5_000), runs).await.expect("its token is a descendant").unwrap();
            assert_eq!(reason.text(), Some("lunch"));
            let other = timeout(millis(5_000), others.join_next()).await.expect("it is woken, too");
            assert_eq!(other.unwrap().unwrap().text(), Some("lunch"));
            Ok(())
        })
        .await
        .unwrap();
        of_a_scope().await;
    })
}

/// The token of a scope is cancelled with it, whichever is first.
async fn of_a_scope() {
    let handle = scope(async |n: &Nursery<&'static str>| {
        let scope = Scope::clone(n);
        let early = draw(2) == 0;
        if early {
            drop(n.token());
        }
        let watching = scope.clone();
        n.spawn_coop("watches", async move |_| {
            sleep(millis(draw(3))).await;
            timeout(millis(500), watching.token().cancelled()).await.expect("the scope was cancelled").clone()
        });
        sleep(millis(draw(3))).await;
        n.cancel(Reason::requested("enough"));
        Ok(scope)
    });
    let handle = handle.await.unwrap();
    assert!(handle.token().is_cancelled());
}
