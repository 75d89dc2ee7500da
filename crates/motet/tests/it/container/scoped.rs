//! Components of a scope, built when they are first requested.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use motet::container::{ComponentBuildError, Container, GetError, Named};
use motet::task::{Reason, Scope, gather, timeout};
use tokio::time::Instant;

use super::{A, B, C, D, Refused, after, millis, never, started, within};
use crate::notes::Log;

#[tokio::test(start_paused = true)]
async fn concurrent_gets_build_a_scoped_component_once() {
    let built = Arc::new(AtomicUsize::new(0));
    within(async |n| {
        let mut c = Container::new();
        let count = Arc::clone(&built);
        c.provide_scoped(move || async move {
            count.fetch_add(1, Ordering::Relaxed);
            after(100, A).await
        });
        c.provide_scoped(|_: Arc<A>| after(100, B));
        c.provide_scoped(|_: Arc<A>| after(100, C));
        let running = started(n, c).await;
        let scoped = running.within(n).unwrap();
        let begin = Instant::now();
        let (a, b, other_a, c) =
            tokio::join!(scoped.get::<A>(), scoped.get::<B>(), scoped.get::<A>(), scoped.get::<C>());
        assert!(Arc::ptr_eq(&a.unwrap(), &other_a.unwrap()));
        drop((b.unwrap(), c.unwrap()));
        assert_eq!(begin.elapsed(), millis(200), "B and C side by side");
        assert_eq!(built.load(Ordering::Relaxed), 1);
        running.within(n).unwrap().get::<A>().await.unwrap();
        assert_eq!(built.load(Ordering::Relaxed), 2, "each scope has its own component");
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn failed_build_reaches_all_waiters_and_the_next_get_retries() {
    let tries = Arc::new(AtomicUsize::new(0));
    within(async |n| {
        let mut c = Container::new();
        let count = Arc::clone(&tries);
        c.try_provide_scoped(move || async move {
            after(10, ()).await;
            match count.fetch_add(1, Ordering::Relaxed) {
                0 => Err(Refused("not yet")),
                1 => panic!("a bug"),
                2 => never().await,
                _ => Ok(A),
            }
        })
        .start_timeout(millis(100));
        c.provide_scoped(|_: Arc<A>| async { B });
        let running = started(n, c).await;
        let scoped = running.within(n).unwrap();
        for check in [
            |failed: &ComponentBuildError| !failed.is_panic() && !failed.is_timeout(),
            |failed: &ComponentBuildError| failed.is_panic(),
            |failed: &ComponentBuildError| failed.is_timeout(),
        ] {
            // Every waiter gets the same failure, whichever component it waits for.
            let (b, a) = tokio::join!(scoped.get::<B>(), scoped.get::<A>());
            for failed in [b.unwrap_err(), a.unwrap_err()] {
                let GetError::Build(failed) = failed else { panic!("{failed}") };
                assert_eq!(failed.component(), "A");
                assert!(check(&failed), "{failed}");
            }
        }
        scoped.get::<B>().await.unwrap();
        assert_eq!(tries.load(Ordering::Relaxed), 4);
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn dropped_get_leaves_the_build_running() {
    let log = Log::default();
    within(async |n| {
        let mut c = Container::new();
        c.provide_scoped(|| after(100, A)).on_stop(log.hook("A"));
        c.provide_transient(|| after(100, B)).on_stop(log.hook("B"));
        let running = started(n, c).await;
        let scoped = running.within(n).unwrap();
        let begin = Instant::now();
        assert!(timeout(millis(50), scoped.get::<A>()).await.is_err());
        assert!(timeout(millis(0), scoped.get::<B>()).await.is_err());
        scoped.get::<A>().await.unwrap();
        assert_eq!(begin.elapsed(), millis(100), "the build continued");
        after(100, ()).await;
        assert_eq!(scoped.close().await.components().len(), 2);
    })
    .await
    .unwrap();
    assert_eq!(log.read().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn scoped_components_stop_with_their_scope_or_before_singletons() {
    let log = Log::default();
    within(async |n| {
        let mut c = Container::new();
        c.provide(|| async { A }).on_stop(log.hook("A"));
        c.provide_scoped(|_: Arc<A>| async { B }).on_stop(log.hook("B"));
        c.provide_scoped(|_: Arc<B>| async { C }).on_stop(log.hook("C"));
        let running = started(n, c).await;
        within(async |inner| {
            running.within(inner).unwrap().get::<C>().await.unwrap();
        })
        .await
        .unwrap();
        assert_eq!(log.read(), ["C", "B"]);
        // This scope is still open when the container stops.
        let scoped = running.within(n).unwrap();
        scoped.get::<C>().await.unwrap();
        running.stop().await;
        assert_eq!(log.read(), ["C", "B", "C", "B", "A"]);
        let GetError::Build(closed) = scoped.get::<B>().await.unwrap_err() else { panic!() };
        assert!(closed.is_cancelled());
        assert!(scoped.close().await.components().len() <= 2);
    })
    .await
    .unwrap();
    assert_eq!(log.read().len(), 5, "each component stops once");
}

#[tokio::test(start_paused = true)]
async fn build_fails_until_its_input_has_a_value_which_is_set_once() {
    within(async |n| {
        let mut c = Container::new();
        c.input::<u32>();
        c.provide_scoped(|_: Arc<u32>| async { B });
        let running = started(n, c).await;
        let scoped = running.within(n).unwrap();
        let GetError::Build(failed) = scoped.get::<B>().await.unwrap_err() else { panic!() };
        assert!(
            failed.to_string().starts_with("`u32` is an input, and the scope has no value for it"),
            "{failed}"
        );
        scoped.value(7_u32).unwrap();
        assert_eq!((scoped.value(8_u32), scoped.value("other").is_err()), (Err(8), true));
        scoped.get::<B>().await.unwrap();
        assert_eq!(*scoped.get::<u32>().await.unwrap(), 7);
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn cancelled_scope_ends_a_build_at_once() {
    let log = Log::default();
    within(async |n| {
        let mut c = Container::new();
        let left = log.clone();
        c.provide_scoped(move |scope: Scope| async move {
            scope.defer("half", async move |_| left.note("cleanup")).unwrap();
            never::<A>().await
        });
        let running = started(n, c).await;
        let begin = Instant::now();
        let cancelled = within(async |inner| {
            let scoped = running.within(inner).unwrap();
            assert!(timeout(millis(50), scoped.get::<A>()).await.is_err());
            inner.cancel(Reason::requested("enough"));
            never::<()>().await;
        });
        assert!(cancelled.await.unwrap_err().is_cancelled());
        assert_eq!(begin.elapsed(), millis(50));
        assert_eq!(log.read(), ["cleanup"]);
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn failed_scoped_component_stops_at_once_with_its_transients() {
    let log = Log::default();
    within(async |n| {
        let mut c = Container::new();
        c.provide_transient(|| async { D }).on_stop(log.hook("D"));
        c.provide_scoped(|_: Arc<D>| async { A })
            .on_start(|_| after(10, Err(Refused("no"))))
            .on_stop(log.hook("A"));
        let running = started(n, c).await;
        let scoped = running.within(n).unwrap();
        let asked = gather((0..3).map(|_| scoped.get::<A>())).await;
        assert!(asked.iter().all(Result::is_err));
        assert_eq!(log.read(), ["A", "D"]);
    })
    .await
    .unwrap();
    assert_eq!(log.read(), ["A", "D"]);
}

#[tokio::test(start_paused = true)]
async fn independent_scoped_dependencies_build_concurrently() {
    within(async |n| {
        let mut c = Container::new();
        c.provide_scoped(|| after(100, A));
        c.provide_scoped(|| after(100, B));
        c.provide_scoped(|_: Arc<A>, _: Arc<B>| async { C });
        let running = started(n, c).await;
        let begin = Instant::now();
        running.within(n).unwrap().get::<C>().await.unwrap();
        assert_eq!(begin.elapsed(), millis(100));
    })
    .await
    .unwrap();
}

/// The container builds the singleton for all callers.
#[tokio::test(start_paused = true)]
async fn ending_scope_does_not_wait_for_the_build_of_a_singleton() {
    within(async |n| {
        let mut c = Container::new();
        c.value(A);
        c.provide(|| after(10_000, B));
        c.provide_scoped(|_: Arc<B>| async { C });
        let running = c.check().unwrap().start_only::<A>(n).await.unwrap();
        let begin = Instant::now();
        let cancelled = within(async |inner| {
            let scoped = running.within(inner).unwrap();
            assert!(timeout(millis(50), scoped.get::<C>()).await.is_err());
            inner.cancel(Reason::requested("enough"));
            never::<()>().await;
        });
        assert!(cancelled.await.unwrap_err().is_cancelled());
        assert_eq!(begin.elapsed(), millis(50));
        let closed = running.within(n).unwrap();
        assert!(timeout(millis(50), closed.get::<C>()).await.is_err());
        assert!(closed.close().await.is_ok());
        assert_eq!(begin.elapsed(), millis(100));
        running.within(n).unwrap().get::<C>().await.unwrap();
        assert_eq!(begin.elapsed(), millis(10_000), "the singleton was built once");
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn running_within_fails_once_the_container_stop_has_begun() {
    let log = Log::default();
    let noted = log.clone();
    within(async |n| {
        let (give, take) = tokio::sync::oneshot::channel();
        let inner = n.spawn("inner", async move {
            let inner = within(async |inner| {
                let mut c = Container::new();
                c.provide(|| async { A }).on_stop(log.hook("A"));
                let stopping = log.clone();
                c.provide_scoped(|_: Arc<A>| async { B }).on_stop(move |_| {
                    stopping.note("B");
                    after(1_000, ())
                });
                let running = Arc::new(started(inner, c).await);
                assert!(give.send(Arc::clone(&running)).is_ok());
                after(10, ()).await;
            });
            inner.await.unwrap();
        });
        let running = take.await.unwrap();
        // The stop of the component takes a while, and so does that of the container.
        running.within(n).unwrap().get::<B>().await.unwrap();
        after(500, ()).await;
        assert!(running.within(n).is_err(), "the stop has begun");
        inner.await.unwrap();
        assert!(running.within(n).is_err(), "the stop has ended");
    })
    .await
    .unwrap();
    assert_eq!(noted.read(), ["B", "A"]);
}

#[tokio::test(start_paused = true)]
async fn tags_distinguish_inputs_of_one_type() {
    struct User;
    struct Tenant;
    within(async |n| {
        let mut c = Container::new();
        c.input::<u32>().named(User);
        c.input::<u32>().named(Tenant);
        c.provide_scoped(|user: Named<User, u32>, tenant: Named<Tenant, u32>| async move {
            format!("{user} of {tenant}")
        });
        let running = started(n, c).await;
        let scoped = running.within(n).unwrap();
        scoped.value_named::<User, _>(7_u32).unwrap();
        assert_eq!(scoped.value_named::<User, _>(8_u32), Err(8));
        scoped.value_named::<Tenant, _>(9_u32).unwrap();
        assert_eq!(scoped.value(1_u32), Err(1));
        assert_eq!(*scoped.get::<String>().await.unwrap(), "7 of 9");
    })
    .await
    .unwrap();
}
