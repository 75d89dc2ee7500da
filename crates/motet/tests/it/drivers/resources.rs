//! Resources: each opened resource is closed once, in the right order, with the end of its use.

use std::future::pending;
use std::io;

use motet::resource::{Exit, ReleaseCounts, ResourceError, resource};
use motet::task::{Nursery, Reason, Scope, drain, scope, timeout, unscoped};
use motet_testkit::cancel::Outcome;
use motet_testkit::cancel_everywhere;
use motet_testkit::sim::{Failure, Sweep};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::{Driver, draw, millis, passes, swept};
use crate::notes::Log;

pub(super) const OWNED: Driver = Driver {
    drives: &["task::Scope::acquire", "resource::Acquired::release"],
    cancel: cancel_owned,
    sweep: sweep_owned,
};

pub(super) const USED: Driver =
    Driver { drives: &["resource::Resource::with"], cancel: cancel_used, sweep: sweep_used };

#[test]
fn acquire_dropped_anywhere_releases_the_resource_once() {
    cancel_owned();
}

#[test]
fn every_order_releases_resources_after_use_and_last_one_first() {
    passes(sweep_owned);
}

#[test]
fn use_dropped_anywhere_releases_the_resource_once() {
    cancel_used();
}

#[test]
fn every_order_releases_a_used_resource_before_its_scope_ends() {
    passes(sweep_used);
}

async fn open(log: Log, name: &'static str) -> Result<&'static str, io::Error> {
    yield_now().await;
    sleep(millis(20)).await;
    log.note("open");
    Ok(name)
}

async fn close(log: Log, name: &'static str) {
    yield_now().await;
    sleep(millis(30)).await;
    log.note(name);
    log.note("close");
}

fn balanced(counts: ReleaseCounts, releases: u64) {
    assert_eq!((counts.started, counts.finished), (releases, releases), "{counts:?}");
    assert_eq!((counts.timed_out, counts.lost), (0, 0), "{counts:?}");
}

fn cancel_owned() {
    cancel_everywhere(
        async || Log::default(),
        async |log| {
            let counts = scope(async |n: &Nursery<&'static str>| {
                let (for_a, for_b) = (log.clone(), log.clone());
                let a = n.acquire("a", open(log.clone(), "a"), async move |name, _| close(for_a, name).await);
                let a = a.await.unwrap();
                let b = n.acquire("b", open(log.clone(), "b"), async move |name, _| close(for_b, name).await);
                let b = b.await.unwrap();
                yield_now().await;
                a.release().await.unwrap();
                assert_eq!(log.count("a"), 1);
                drop(b);
                Ok(Scope::clone(n))
            })
            .await
            .unwrap();
            balanced(counts.release_counts(), 2);
        },
        async |log, outcome| {
            if matches!(outcome, Outcome::Dropped { .. }) {
                drain().await;
            }
            assert_eq!(log.count("open"), log.count("close"), "{:?}", log.read());
            assert!(log.count("a") <= 1 && log.count("b") <= 1);
            assert_eq!(unscoped(), 0);
        },
    );
    // The same, in a scope that continues after the drop of the acquire: it keeps no resource without a user.
    cancel_everywhere(
        async || Log::default(),
        async |log| {
            let closing = log.clone();
            let scope = Scope::builder().run(async |n: &Nursery<&'static str>| Ok(Scope::clone(n)));
            drop(scope.await);
            resource(open(log.clone(), "c"))
                .release(async move |name, _| close(closing, name).await)
                .with(async |_| Ok(()))
                .await
                .unwrap();
        },
        async |log, _| {
            drain().await;
            assert_eq!(log.count("open"), log.count("close"));
        },
    );
}

fn sweep_owned(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        in_order().await;
        nobody_waits_any_more().await;
        too_slow().await;
    })
}

/// Resources of a scope that ends by itself or is cancelled, used by a child.
async fn in_order() {
    let log = Log::default();
    let is_cancelled = draw(2) == 0;
    let mut counts = None;
    let ended = scope(async |n: &Nursery<&'static str>| {
        let mut held = Vec::new();
        for name in ["a", "b"] {
            let closing = log.clone();
            let expected = if is_cancelled { Exit::Cancelled } else { Exit::Ok };
            let acquired = n.acquire(name, open(log.clone(), name), async move |name, exit| {
                assert_eq!(exit, expected);
                close(closing, name).await;
            });
            held.push(acquired.await.unwrap());
        }
        for acquired in held {
            let used = log.at_drop("used");
            let time = draw(50);
            n.spawn("uses", async move {
                let _used = (used, acquired);
                sleep(millis(time)).await;
            });
        }
        counts = Some(Scope::clone(n));
        if is_cancelled {
            n.cancel(Reason::requested("enough"));
            pending::<()>().await;
        }
        Ok(())
    })
    .await;
    assert_eq!(ended.is_err(), is_cancelled);
    assert_eq!(log.read(), ["open", "open", "used", "used", "b", "close", "a", "close"]);
    balanced(counts.unwrap().release_counts(), 2);
}

/// Acquires that are given up while the resource is opened, or just then.
async fn nobody_waits_any_more() {
    let log = Log::default();
    scope(async |n: &Nursery<&'static str>| {
        let closing = log.clone();
        let acquiring =
            n.acquire("c", open(log.clone(), "c"), async move |name, _| close(closing, name).await);
        let given_up = timeout(millis(15 + draw(10)), acquiring).await.is_err();
        sleep(millis(200)).await;
        if given_up {
            assert_eq!(
                log.count("open"),
                log.count("close"),
                "a resource without a user was kept until the end"
            );
        }
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!((log.count("open"), log.count("close")), (1, 1));
}

/// A release that never ends is given up, and counted by the scope around as well.
async fn too_slow() {
    let begin = Instant::now();
    let outer = scope(async |outer: &Nursery<&'static str>| {
        let inner = Scope::builder().release_timeout(millis(700)).run(async |n: &Nursery<&'static str>| {
            n.defer("hangs", async |_| pending::<()>().await);
            Ok(())
        });
        let failed = inner.await.unwrap_err();
        assert!(failed.release_failures()[0].is_timeout());
        Ok(Scope::clone(outer))
    });
    let counts = outer.await.unwrap().release_counts();
    assert_eq!((counts.started, counts.finished, counts.timed_out, counts.lost), (1, 0, 1, 0));
    assert!(begin.elapsed() < millis(1_000));
}

fn cancel_used() {
    cancel_everywhere(
        async || Log::default(),
        async |log| {
            let closing = log.clone();
            let used = resource(open(log.clone(), "a"))
                .release(async move |name, _| close(closing, name).await)
                .with(async |name| {
                    yield_now().await;
                    sleep(millis(10)).await;
                    log.note("use");
                    Ok(name.len())
                });
            assert_eq!(used.await.unwrap(), 1);
            assert_eq!(log.read(), ["open", "use", "a", "close"]);
        },
        async |log, _| {
            drain().await;
            assert_eq!(log.count("open"), log.count("close"), "{:?}", log.read());
            assert_eq!(unscoped(), 0);
        },
    );
}

fn sweep_used(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        let log = Log::default();
        let mut counts = None;
        scope(async |n: &Nursery<&'static str>| {
            counts = Some(Scope::clone(n));
            let closing = log.clone();
            let (fails, patience) = (draw(2) == 0, draw(120));
            let mut was_used = false;
            let used = resource(open(log.clone(), "a"))
                .release(async move |name, exit: Exit| {
                    closing.note(if exit == Exit::Err { "failed" } else { "not failed" });
                    close(closing, name).await;
                })
                .with(async |_| {
                    sleep(millis(20)).await;
                    was_used = true;
                    if fails { Err(io::Error::other("no")) } else { Ok(()) }
                });
            match timeout(millis(patience), used).await {
                Ok(Ok(())) => assert!(!fails),
                Ok(Err(ResourceError::Use { release: None, .. })) => assert!(fails),
                Ok(Err(other)) => panic!("{other}"),
                Err(_) => {}
            }
            if was_used && log.count("failed") + log.count("not failed") > 0 {
                assert_eq!(log.count("failed"), usize::from(fails), "the release received the wrong end");
            }
            Ok(())
        })
        .await
        .unwrap();
        let opened = log.count("open");
        assert_eq!(opened, log.count("close"), "the scope ended before the release");
        balanced(counts.unwrap().release_counts(), opened as u64);
    })
}
