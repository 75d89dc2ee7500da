//! A start that fails leaves nothing behind.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;

use motet::container::{Container, GetError, StartError};
use motet::task::{Reason, Scope, timeout};
use tokio::time::Instant;

use super::{A, B, C, D, Refused, after, millis, never, started, within};
use crate::notes::Log;

fn errors(error: &dyn std::error::Error) -> Vec<String> {
    let mut all = vec![error.to_string()];
    let mut source = error.source();
    while let Some(error) = source {
        all.push(error.to_string());
        source = error.source();
    }
    all
}

#[tokio::test(start_paused = true)]
async fn failed_factory_is_named_and_the_built_components_stop() {
    let log = Log::default();
    within(async |n| {
        let mut c = Container::new();
        c.provide(|| async { A }).on_stop(log.hook("A"));
        c.provide(|_: Arc<A>| async { B }).on_stop(log.hook("B"));
        let line = line!() + 1;
        c.try_provide(|_: Arc<B>| async { Err::<C, _>(Refused("port in use")) }).on_stop(log.hook("C"));
        c.provide(|_: Arc<C>| async { D }).on_stop(log.hook("D"));
        let failed = c.start(n).await.unwrap_err();
        assert_eq!(
            errors(&failed),
            [
                "the container did not start; components stopped: 2".to_owned(),
                format!("the factory of `C` failed ({}:{line}:11), needed by `D`", file!()),
                "port in use".to_owned(),
            ]
        );
        let first = failed.build_failed().unwrap();
        assert_eq!((first.component(), first.is_on_start()), ("C", false));
        assert_eq!(first.path().collect::<Vec<_>>(), ["D", "C"]);
    })
    .await
    .unwrap();
    assert_eq!(log.read(), ["B", "A"]);
}

#[tokio::test(start_paused = true)]
async fn rollback_of_a_timed_out_start_may_exceed_the_start_timeout() {
    let log = Log::default();
    within(async |n| {
        let begin = Instant::now();
        let mut c = Container::new();
        let stopped = log.clone();
        // The stop takes longer than the limit of the start: it has a limit of its own.
        c.provide(|| async { A }).on_stop(move |_| {
            let stopped = stopped.clone();
            async move {
                after(300, ()).await;
                stopped.note("A");
            }
        });
        let left = log.clone();
        c.provide(|_: Arc<A>, scope: Scope| async move {
            scope.defer("half a connection", async move |_| left.note("cleanup")).unwrap();
            never::<B>().await
        })
        .start_timeout(millis(100))
        .on_stop(log.hook("B"));
        c.provide(|_: Arc<B>| async { C });
        let failed = c.start(n).await.unwrap_err();
        let first = failed.build_failed().unwrap();
        assert!(first.is_timeout());
        assert!(first.to_string().starts_with("the factory of `B` took longer than 100ms ("), "{first}");
        assert_eq!(begin.elapsed(), millis(400));
        assert!(failed.rollback().unwrap().is_ok());
    })
    .await
    .unwrap();
    assert_eq!(log.read(), ["cleanup", "A"], "a deferred cleanup may use the dependencies of its component");
}

#[tokio::test(start_paused = true)]
async fn factory_and_on_start_share_one_start_timeout() {
    within(async |n| {
        let begin = Instant::now();
        let mut c = Container::new();
        c.provide(|| after(80, A)).on_start(|_| after(80, ())).start_timeout(millis(100));
        let failed = c.start(n).await.unwrap_err();
        let first = failed.build_failed().unwrap();
        assert!(first.is_timeout() && first.is_on_start(), "{first}");
        assert_eq!(begin.elapsed(), millis(100));
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn component_whose_on_start_fails_is_stopped() {
    let log = Log::default();
    within(async |n| {
        let mut c = Container::new();
        c.provide(|| async { A }).on_stop(log.hook("A"));
        c.provide(|_: Arc<A>| async { B })
            .on_start(|_| async { Err(Refused("no migration")) })
            .on_stop(log.hook("B"));
        c.provide(|_: Arc<B>| async { panic!("its dependency did not start") as C });
        let failed = c.start(n).await.unwrap_err();
        let first = failed.build_failed().unwrap();
        assert_eq!((first.component(), first.is_on_start()), ("B", true));
        assert_eq!(failed.rollback().unwrap().components().len(), 2);
    })
    .await
    .unwrap();
    assert_eq!(log.read(), ["B", "A"]);
}

#[tokio::test(start_paused = true)]
async fn panics_of_factories_and_their_dropped_futures_are_reported() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in the drop of a cancelled factory");
        }
    }
    let log = Log::default();
    within(async |n| {
        let mut c = Container::new();
        c.provide(|| after(10, A)).on_stop(log.hook("A"));
        c.provide(|_: Arc<A>| async { panic!("no config") as B });
        c.provide(|| async {
            let _bomb = Bomb;
            never::<C>().await
        });
        // The closure itself panics, before it returns a future.
        c.provide(|_: Arc<A>| {
            if true {
                panic!("at once");
            }
            async { D }
        });
        let failed = c.start(n).await.unwrap_err();
        let StartError::Build { first, others, .. } = &failed else { panic!("{failed}") };
        assert!(first.is_panic() && others.iter().all(|other| other.is_panic()), "{failed:?}");
        assert!(others.iter().any(|other| other.component() == "C"), "the panic of the drop: {failed:?}");
        assert_eq!(failed.rollback().unwrap().components().len(), log.read().len());
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn start_fails_at_the_first_failure_and_reports_concurrent_ones() {
    within(async |n| {
        let begin = Instant::now();
        let mut c = Container::new();
        c.try_provide(|| after(100, Err::<A, _>(Refused("first"))));
        c.try_provide(|| after(100, Err::<B, _>(Refused("second"))));
        // B fails because of its dependency, which is not a failure of its own.
        c.provide(|_: Arc<B>| async { D });
        c.provide(|| after(5_000, C));
        let failed = c.start(n).await.unwrap_err();
        assert_eq!(begin.elapsed(), millis(100));
        let StartError::Build { first, others, rollback } = failed else { panic!("{failed}") };
        assert_eq!((first.component(), others.len(), rollback.components().len()), ("A", 1, 0));
        assert_eq!(others[0].component(), "B");
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn dropped_start_is_rolled_back_at_once() {
    let log = Log::default();
    let ended = within(async |n| {
        let mut c = Container::new();
        c.provide(|| async { A }).on_stop(log.hook("A"));
        c.provide(|_: Arc<A>| after(50, B)).on_stop(|_: Arc<B>| async { Err(Refused("will not")) });
        c.provide(|_: Arc<B>| never::<C>()).on_stop(log.hook("C"));
        assert!(timeout(millis(100), c.start(n)).await.is_err());
        after(10, ()).await;
        assert_eq!(log.read(), ["A"], "the component stops at once, and not at the end of the scope");
    })
    .await;
    assert_eq!(ended.unwrap_err().release_failures().len(), 1, "the scope receives the failure");
}

#[tokio::test(start_paused = true)]
async fn cancelled_scope_rolls_the_start_back_at_once() {
    let log = Log::default();
    let outer = within(async |n| {
        let mut c = Container::new();
        c.provide(|| async { A }).on_stop(log.hook("A"));
        c.provide(|_: Arc<A>| never::<B>());
        // The start is awaited outside of its scope.
        let (give, take) = tokio::sync::oneshot::channel();
        n.spawn("inner", async {
            let inner = within(async |inner| {
                drop(give.send(Scope::clone(inner)));
                never::<()>().await;
            });
            drop(inner.await);
        });
        let inner = take.await.unwrap();
        let begin = Instant::now();
        let canceller = inner.clone();
        n.spawn("canceller", async move {
            after(100, ()).await;
            canceller.cancel(Reason::requested("enough"));
        });
        let failed = c.start(&inner).await.unwrap_err();
        assert!(matches!(failed, StartError::Cancelled { .. }), "{failed}");
        assert_eq!(begin.elapsed(), millis(100));
        assert_eq!(failed.rollback().unwrap().components().len(), 1);
    })
    .await;
    outer.unwrap();
    assert_eq!(log.read(), ["A"]);
}

#[tokio::test(start_paused = true)]
async fn panic_in_a_needed_bind_fails_the_start_and_rolls_it_back() {
    trait Nothing: Send + Sync {}
    impl Nothing for A {}
    let log = Log::default();
    within(async |n| {
        let mut c = Container::new();
        c.provide_transient(|| async { C }).on_stop(log.hook("C"));
        c.provide(|| after(10, A))
            .on_stop(log.hook("A"))
            .bind::<dyn Nothing>(|a| if true { panic!("a cast panics") } else { a });
        c.provide(|_: Arc<C>, _: Arc<dyn Nothing>| async { B }).on_stop(log.hook("B"));
        let failed = c.start(n).await.unwrap_err();
        assert!(failed.build_failed().is_some_and(|first| first.is_panic() && first.component() == "B"));
    })
    .await
    .unwrap();
    assert_eq!(log.read(), ["C", "A"]);
}

#[tokio::test(start_paused = true)]
async fn panic_in_an_unneeded_bind_resumes_and_the_start_rolls_back() {
    trait Nothing: Send + Sync {}
    impl Nothing for A {}
    let log = Log::default();
    within(async |n| {
        let mut c = Container::new();
        c.provide(|| async { A })
            .on_stop(log.hook("A"))
            .bind::<dyn Nothing>(|a| if true { panic!("a cast panics") } else { a });
        let mut start = Box::pin(c.start(n));
        let panicked = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| start.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            ended => Poll::Ready(ended.is_err()),
        });
        assert!(panicked.await);
        drop(start);
        after(10, ()).await;
        assert_eq!(log.read(), ["A"], "the component stops at once, and not at the end of the scope");
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn factory_panic_before_its_first_await_is_a_build_error() {
    let log = Log::default();
    within(async |n| {
        let mut c = Container::new();
        c.provide(|| async { A }).on_stop(log.hook("A"));
        c.provide(|_: Arc<A>| async { panic!("no config") as B }).on_stop(log.hook("B"));
        c.provide(|| async { panic!("starts after B") as C });
        let failed = c.start(n).await.unwrap_err();
        let StartError::Build { first, others, rollback } = &failed else { panic!("{failed}") };
        assert!(first.is_panic() && others.is_empty(), "{failed:?}");
        assert_eq!((first.component(), rollback.components().len()), ("B", 1));
        assert_eq!(log.read(), ["A"]);

        let mut c = Container::new();
        c.provide_scoped(|| async { panic!("each time") as D }).on_stop(log.hook("D"));
        let running = started(n, c).await;
        let scoped = running.within(n).unwrap();
        for _ in 0..2 {
            let Err(GetError::Build(failed)) = scoped.get::<D>().await else { panic!("the build must fail") };
            assert!(failed.is_panic());
        }
    })
    .await
    .unwrap();
    assert_eq!(log.read(), ["A"]);
}

/// Each component is built on the stack of the component that needs it. The test has a long chain, provided from its
/// end.
#[tokio::test(start_paused = true)]
async fn chain_of_41_components_starts_on_less_than_256_kib_of_stack() {
    struct Link<const N: usize>;
    macro_rules! chain {
        ($c:ident: $($n:literal needs $needs:literal,)*) => {
            $($c.provide(|_: Arc<Link<$needs>>| async { Link::<$n> });)*
        };
    }
    within(async |n| {
        let mut c = Container::new();
        chain!(c: 40 needs 39, 39 needs 38, 38 needs 37, 37 needs 36, 36 needs 35, 35 needs 34, 34 needs 33,
            33 needs 32, 32 needs 31, 31 needs 30, 30 needs 29, 29 needs 28, 28 needs 27, 27 needs 26, 26 needs 25,
            25 needs 24, 24 needs 23, 23 needs 22, 22 needs 21, 21 needs 20, 20 needs 19, 19 needs 18, 18 needs 17,
            17 needs 16, 16 needs 15, 15 needs 14, 14 needs 13, 13 needs 12, 12 needs 11, 11 needs 10, 10 needs 9,
            9 needs 8, 8 needs 7, 7 needs 6, 6 needs 5, 5 needs 4, 4 needs 3, 3 needs 2, 2 needs 1, 1 needs 0,);
        c.provide(|| async {
            // The depth of the stack is the distance between the address of a local variable here and one at the start.
            DEPTH.with(|depth| depth.set(std::ptr::from_ref(&depth).addr()));
            Link::<0>
        });
        let here = 0;
        let running = started(n, c).await;
        let deep = std::ptr::from_ref(&here).addr().abs_diff(DEPTH.with(std::cell::Cell::get));
        assert!(deep < 256 * 1024, "{deep} bytes of stack for a chain of 40");
        assert_eq!(running.start_report().components().len(), 41);
    })
    .await
    .unwrap();
}

thread_local! {
    static DEPTH: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}
