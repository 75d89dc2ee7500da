//! The start in the order of the dependencies, and the stop in reverse.

use std::sync::Arc;

use motet::container::{Container, GetError, Health, StartError};
use motet::observe::Stat;
use motet::task::{Reason, Scope, timeout};
use tokio::time::Instant;

use super::{A, B, C, D, Refused, after, millis, never, started, within};
use crate::notes::{Log, Noted};

#[tokio::test(start_paused = true)]
async fn independent_components_start_concurrently() {
    let begin = Instant::now();
    within(async |n| {
        let mut c = Container::new();
        c.provide(|| after(100, A));
        c.provide(|| after(100, B));
        drop(started(n, c).await);
        assert_eq!(begin.elapsed(), millis(100));
    })
    .await
    .unwrap();
}

/// Level by level the start would take 380 ms: the slow `B` delays only `D`, which needs it.
fn of_two_levels() -> Container {
    let mut c = Container::new();
    c.provide(|| after(50, A));
    c.provide(|| after(200, B));
    c.provide(|_: Arc<A>| after(150, C)).on_start(|_| after(20, ()));
    c.provide(|_: Arc<B>, _: Arc<C>| after(10, D));
    c
}

#[tokio::test(start_paused = true)]
async fn component_starts_as_soon_as_its_own_dependencies_are_ready() {
    within(async |n| {
        let begin = Instant::now();
        drop(started(n, of_two_levels()).await);
        assert_eq!(begin.elapsed(), millis(230));
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn start_report_has_the_critical_path_with_waits_and_times() {
    within(async |n| {
        let running = started(n, of_two_levels()).await;
        let report = running.start_report();
        let path: Vec<_> = report
            .critical_path()
            .iter()
            .map(|one| (one.name.as_str().to_owned(), one.waited, one.took))
            .collect();
        assert_eq!(
            path,
            [
                ("A".to_owned(), millis(0), millis(50)),
                ("C".to_owned(), millis(50), millis(170)),
                ("D".to_owned(), millis(220), millis(10)),
            ]
        );
        assert_eq!((report.took(), report.components().len()), (millis(230), 4));
        assert!(report.to_string().ends_with("critical path: `A`, `C`, `D`"), "{report}");
    })
    .await
    .unwrap();
}

fn slow<T>(
    log: &Log,
    what: &'static str,
) -> impl Fn(Arc<T>) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + use<T> {
    let log = log.clone();
    move |_| {
        let log = log.clone();
        Box::pin(async move {
            after(100, ()).await;
            log.note(what);
        })
    }
}

#[tokio::test(start_paused = true)]
async fn component_stops_after_its_dependents_even_if_one_fails() {
    let log = Log::default();
    within(async |n| {
        let mut c = Container::new();
        c.provide(|| async { A }).on_stop(slow(&log, "A"));
        c.provide(|_: Arc<A>| async { B }).on_stop(slow(&log, "B"));
        c.provide(|_: Arc<A>| async { C }).on_stop(slow(&log, "C"));
        c.provide(|_: Arc<C>| async { D }).on_stop(|_: Arc<D>| async { Err(Refused("no")) });
        let begin = Instant::now();
        let report = started(n, c).await.stop().await;
        // B and C stop concurrently, then A.
        assert_eq!((begin.elapsed(), report.took()), (millis(200), millis(200)));
        let failed: Vec<_> = report.failures().map(|one| one.name.as_str()).collect();
        assert_eq!(failed, ["D"], "the other components stopped");
        assert_eq!(report.components().len(), 4);
    })
    .await
    .unwrap();
    let mut order = log.read();
    order[..2].sort();
    assert_eq!(order, ["B", "C", "A"]);
}

#[tokio::test(start_paused = true)]
async fn component_stops_after_dependents_through_transients() {
    let log = Log::default();
    within(async |n| {
        let mut c = Container::new();
        c.provide(|| after(10, A)).on_stop(log.hook("A"));
        c.provide_transient(|_: Arc<A>| async { B });
        c.provide_transient(|_: Arc<B>| async { C });
        c.provide(|_: Arc<C>| after(10, D)).on_stop(slow(&log, "D"));
        let running = started(n, c).await;
        assert_eq!(running.start_report().critical_path().len(), 2);
        assert!(running.stop().await.is_ok());
    })
    .await
    .unwrap();
    assert_eq!(log.read(), ["D", "A"]);
}

#[tokio::test(start_paused = true)]
async fn dropped_container_stops_after_the_children_of_the_scope() {
    let log = Log::default();
    within(async |n| {
        let mut c = Container::new();
        c.provide(|| async { A }).on_stop(log.hook("A"));
        c.value(B).on_stop(log.hook("B"));
        let a = started(n, c).await.get::<A>().unwrap();
        let used = log.clone();
        n.spawn("user", async move {
            after(50, ()).await;
            drop(a);
            used.note("used");
        });
    })
    .await
    .unwrap();
    let mut order = log.read();
    order[1..].sort();
    assert_eq!(order, ["used", "A", "B"]);
}

#[tokio::test(start_paused = true)]
async fn container_stops_in_the_release_order_of_its_scope() {
    let log = Log::default();
    within(async |n| {
        let first = log.clone();
        n.defer("first", async move |_| first.note("first"));
        let mut c = Container::new();
        c.provide(|| async { A }).on_stop(log.hook("A"));
        drop(started(n, c).await);
        let last = log.clone();
        n.defer("last", async move |_| last.note("last"));
    })
    .await
    .unwrap();
    assert_eq!(log.read(), ["last", "A", "first"]);
}

#[tokio::test(start_paused = true)]
async fn container_stop_may_take_longer_than_the_release_timeout() {
    let log = Log::default();
    let done = log.clone();
    let ended = Scope::builder()
        .release_timeout(millis(10))
        .run(async |n: &motet::task::Nursery<Refused>| {
            let mut c = Container::new();
            c.provide(|| async { A }).on_stop(move |_| {
                let done = done.clone();
                async move {
                    after(4_000, ()).await;
                    done.note("stopped");
                }
            });
            drop(started(n, c).await);
            Ok(())
        })
        .await;
    ended.unwrap();
    assert_eq!(log.read(), ["stopped"]);
}

#[tokio::test(start_paused = true)]
async fn failures_of_a_stop_are_reported_and_other_components_stop() {
    struct DropsBadly;
    impl Drop for DropsBadly {
        fn drop(&mut self) {
            panic!("in drop");
        }
    }
    let log = Log::default();
    let failed = within(async |n| {
        let mut c = Container::new();
        c.stop_timeout(millis(100));
        c.provide(|| async { A }).on_stop(log.hook("A"));
        c.provide(|_: Arc<A>| async { B }).on_stop(|_| never::<()>());
        c.provide(|_: Arc<B>, scope: Scope| async move {
            scope.defer("hangs", async |_| never::<()>().await).unwrap();
            C
        })
        .on_stop(|_| async { panic!("in on_stop") as () });
        c.provide(|_: Arc<C>| async { DropsBadly });
        c.provide(|_: Arc<C>, scope: Scope| async move {
            scope.spawn("bad", async { panic!("in a task") }).unwrap();
            D
        });
        let running = started(n, c).await;
        let begin = Instant::now();
        tokio::task::yield_now().await;
        let report = running.stop().await;
        assert!(begin.elapsed() <= millis(400), "{:?}", begin.elapsed());
        let text = report.to_string();
        for part in [
            "`B` in 100ms: `on_stop` took longer than 100ms and was dropped",
            "`on_stop` panicked: in on_stop",
            "the drop of the component panicked: in drop",
            "a task of the component panicked: in a task",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let of_c = report.components().iter().find(|one| one.name == "C").unwrap();
        assert!(of_c.failures.iter().any(|failure| failure.is_panic()));
        assert!(of_c.failures.iter().any(|failure| failure.is_timeout()), "{text}");
        assert_eq!(report.failures().count(), 4);
    })
    .await;
    failed.unwrap();
    assert_eq!(log.read(), ["A"]);
}

#[tokio::test(start_paused = true)]
async fn failed_stop_of_a_dropped_container_fails_its_scope() {
    let failed = within(async |n| {
        let mut c = Container::new();
        c.provide(|| async { A }).on_stop(|_| async { Err(Refused("will not")) });
        drop(started(n, c).await);
    })
    .await
    .unwrap_err();
    let release = &failed.release_failures()[0];
    assert_eq!(release.resource(), "container");
    let source = std::error::Error::source(release).unwrap().to_string();
    assert_eq!(source, "components failed to stop: `A` (`on_stop` failed: will not)");
}

#[tokio::test(start_paused = true)]
async fn start_only_builds_only_what_the_component_needs() {
    within(async |n| {
        let log = Log::default();
        let mut c = Container::new();
        c.provide(|| async { A }).on_start(log.hook("A"));
        c.provide(|_: Arc<A>| async { B }).on_start(log.hook("B"));
        c.provide(|_: Arc<A>| async { C }).on_start(log.hook("C"));
        c.provide_scoped(|_: Arc<C>| async { D });
        let running = c.check().unwrap().start_only::<B>(n).await.unwrap();
        assert_eq!(log.read(), ["A", "B"]);
        assert!(matches!(running.get::<C>(), Err(GetError::NotStarted { .. })));
        // A component that needs it builds it then.
        running.within(n).unwrap().get::<D>().await.unwrap();
        assert_eq!(log.read(), ["A", "B", "C"]);
        assert_eq!(running.stop().await.components().len(), 4 - 1, "D is stopped before, with its own scope");
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn get_and_start_only_refuse_unknown_and_scoped_components() {
    within(async |n| {
        let plan = || {
            let mut c = Container::new();
            c.provide(|| async { A });
            c.provide_scoped(|_: Arc<A>| async { D });
            c.check().unwrap()
        };
        let running = plan().start(n).await.unwrap();
        assert_eq!(running.get::<u8>().unwrap_err().to_string(), "`u8` is not provided");
        assert_eq!(running.get::<D>().unwrap_err().to_string(), "`D` is scoped: get it from a `Scoped`");
        for started in [plan().start_only::<u8>(n).await, plan().start_only::<D>(n).await] {
            assert!(matches!(started, Err(StartError::Unavailable(_))));
        }
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn named_container_is_in_snapshots_until_it_is_stopped() {
    within(async |n| {
        let mut c = Container::new();
        c.name("api");
        c.provide(|_: Scope| after(100, A));
        c.value(B);
        let seen = |n: &Scope| {
            let component = n.snapshot().components.first().cloned()?;
            assert_eq!((component.kind, component.name.as_str()), ("container", "api"));
            let stats: Vec<_> = component.stats.iter().map(|(name, stat)| (name, stat.clone())).collect();
            Some((stats[0].1.clone(), stats[3].1.clone()))
        };
        let starting = n.spawn("start", c.start(n));
        after(50, ()).await;
        assert_eq!(seen(n), Some((Stat::Text("starting".into()), Stat::Count(1))));
        let running = starting.await.unwrap().unwrap();
        assert_eq!(seen(n), Some((Stat::Text("running".into()), Stat::Count(2))));
        assert!(n.snapshot().scopes.iter().any(|scope| scope.name == "A"));
        running.stop().await;
        assert_eq!(seen(n), None);

        let mut unnamed = Container::new();
        unnamed.value(A);
        let _running = started(n, unnamed).await;
        assert_eq!(seen(n), None);
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn container_does_not_start_in_an_ended_scope() {
    let ended = within(async |n| Scope::clone(n)).await.unwrap();
    let mut c = Container::new();
    c.provide(|| async { panic!("a factory runs") as A });
    assert!(matches!(c.start(&ended).await, Err(StartError::Closed)));
    assert_eq!(ended.release_counts().lost, 0, "no component was built");
}

#[tokio::test(start_paused = true)]
async fn dropped_stop_completes_before_the_scope_ends() {
    let log = Log::default();
    within(async |n| {
        let mut c = Container::new();
        c.provide(|| async { A }).on_stop(log.hook("A"));
        c.provide(|_: Arc<A>| async { B }).on_stop(|_| after(100, ()));
        let running = started(n, c).await;
        assert!(timeout(millis(50), running.stop()).await.is_err());
        assert!(log.read().is_empty());
    })
    .await
    .unwrap();
    assert_eq!(log.read(), ["A"]);
}

#[tokio::test(start_paused = true)]
async fn cancelled_scope_stops_its_container() {
    let log = Log::default();
    let cancelled = within(async |n| {
        let mut c = Container::new();
        c.provide(|| async { A }).on_stop(log.hook("A"));
        let _running = started(n, c).await;
        n.cancel(Reason::requested("enough"));
        never::<()>().await;
    })
    .await;
    assert!(cancelled.unwrap_err().is_cancelled());
    assert_eq!(log.read(), ["A"]);
}

/// Transients stop one after the other, each within its own limit.
#[tokio::test(start_paused = true)]
async fn hanging_transients_leave_time_to_stop_the_other_components() {
    let log = Log::default();
    within(async |n| {
        let mut c = Container::new();
        c.provide(|| async { A }).on_stop(log.hook("A"));
        c.provide_transient(|scope: Scope| async move {
            scope.defer("hangs", async |_| never::<()>().await).unwrap();
            B
        })
        .on_stop(|_| never::<()>());
        type Arg = Arc<B>;
        c.provide(
            |_: Arc<A>, _: Arg, _: Arg, _: Arg, _: Arg, _: Arg, _: Arg, _: Arg, _: Arg, _: Arg| async { C },
        );
        let report = started(n, c).await.stop().await;
        assert!(!report.is_ok() && !report.is_cut_off(), "{report}");
        assert_eq!((report.components().len(), report.failures().count()), (11, 9));
    })
    .await
    .unwrap();
    assert_eq!(log.read(), ["A"]);
}

/// When its time is over, the scope gives up the whole stop.
#[tokio::test(start_paused = true)]
async fn report_of_a_stop_that_was_cut_off_is_not_ok() {
    within(async |n| {
        let mut c = Container::new();
        c.provide(|| async { A }).on_stop(|_| async {
            tokio::task::yield_now().await;
            // The advanced clock makes the thread look blocked for an hour.
            tokio::time::advance(millis(3_600_000)).await;
        });
        c.provide(|_: Arc<A>| async { B }).on_stop(|_| async {
            tokio::task::yield_now().await;
            tokio::time::advance(millis(3_600_000)).await;
            never::<()>().await;
        });
        let report = started(n, c).await.stop().await;
        assert!(report.is_cut_off() && !report.is_ok(), "{report}");
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn panic_payload_that_panics_on_drop_lets_other_components_stop() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("the drop of a payload");
        }
    }
    let log = Log::default();
    within(async |n| {
        let mut c = Container::new();
        c.provide_transient(|| async { A }).on_stop(log.hook("A"));
        c.provide(|_: Arc<A>| async { B })
            .on_stop(|_| async { std::panic::panic_any(Bomb) as () })
            .health(|_| async { std::panic::panic_any(Bomb) as Result<(), Refused> });
        let running = started(n, c).await;
        assert_eq!(running.health().await.health(), Health::Unhealthy);
        let report = running.stop().await;
        assert_eq!((report.components().len(), report.failures().count()), (2, 1), "{report}");
    })
    .await
    .unwrap();
    assert_eq!(log.read(), ["A"]);
}

#[tokio::test(start_paused = true)]
async fn container_starts_and_stops_with_timeouts_of_zero_and_max() {
    for limit in [std::time::Duration::MAX, millis(0)] {
        let waits = u64::from(!limit.is_zero());
        within(async |n| {
            let mut c = Container::new();
            c.start_timeout(limit).stop_timeout(limit).health_timeout(limit);
            c.provide(move || async move {
                if waits > 0 {
                    after(waits, ()).await;
                }
                A
            })
            .health(|_| async { Health::Healthy })
            .on_stop(|_| async {});
            c.provide_scoped(|_: Arc<A>| async { B }).on_stop(|_| async {});
            let running = started(n, c).await;
            assert_eq!(running.health().await.health(), Health::Healthy);
            let scoped = running.within(n).unwrap();
            scoped.get::<B>().await.unwrap();
            assert!(scoped.close().await.is_ok());
            assert!(running.stop().await.is_ok());
        })
        .await
        .unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn nested_container_stops_with_its_component() {
    let log = Log::default();
    let noted = log.clone();
    within(async |n| {
        let mut c = Container::new();
        c.provide(|| async { A }).on_stop(log.hook("A"));
        let inner = log.clone();
        c.provide(|a: Arc<A>, scope: Scope| async move {
            let mut within = Container::new();
            within.shared(a);
            within.provide(|_: Arc<A>| async { C }).on_stop(inner.hook("C"));
            drop(within.start(&scope).await.unwrap());
            B
        })
        .on_stop(log.hook("B"));
        assert!(started(n, c).await.stop().await.is_ok());
    })
    .await
    .unwrap();
    assert_eq!(noted.read(), ["B", "C", "A"]);
}

#[tokio::test(start_paused = true)]
async fn each_start_of_a_plan_builds_components_of_its_own() {
    let log = Log::default();
    let mut c = Container::new();
    let (built, stops) = (log.clone(), log.clone());
    c.shared(Arc::new(7_u32));
    c.provide_each_start(move |number: Arc<u32>| {
        built.note(format!("built of {number}"));
        async { A }
    })
    .on_stop(move |_| {
        let stopped = stops.clone();
        async move { stopped.note("stopped") }
    });
    c.try_provide_each_start(|_: Arc<A>| after(10, Ok::<_, Refused>(B)));
    let plan = c.check().unwrap();
    within(async |n| {
        let (first, second) = tokio::join!(plan.start(n), plan.start(n));
        let (first, second) = (first.unwrap(), second.unwrap());
        assert!(!Arc::ptr_eq(&first.get::<A>().unwrap(), &second.get::<A>().unwrap()));
        assert!(Arc::ptr_eq(&first.get::<u32>().unwrap(), &second.get::<u32>().unwrap()));
        assert!(first.stop().await.is_ok());
        drop(plan.start_only::<A>(n).await.unwrap());
    })
    .await
    .unwrap();
    assert_eq!((log.count("built of 7"), log.count("stopped")), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn second_start_of_a_factory_for_one_start_fails_and_names_it() {
    let mut c = Container::new();
    c.provide(|| async { A });
    c.provide(|_: Arc<A>| after(10, B));
    let plan = c.check().unwrap();
    within(async |n| {
        drop(plan.start(n).await.unwrap());
        let StartError::Build { first, others, .. } = plan.start(n).await.unwrap_err() else { panic!() };
        let message = first.to_string();
        let expected = "the factory of `A` can be called only once, and an earlier start of the plan has called it: \
                        provide it with `provide_each_start` (";
        assert!(message.starts_with(expected), "{message}");
        assert_eq!((first.component(), others.len()), ("A", 0));
    })
    .await
    .unwrap();
}

/// Also when its plan can be started again: the container is gone.
#[tokio::test(start_paused = true)]
async fn value_of_a_container_is_dropped_when_it_is_stopped() {
    let log = Log::default();
    within(async |n| {
        let mut c = Container::new();
        c.value(log.at_drop("value dropped"));
        let running = c.start(n).await.unwrap();
        drop(running.stop().await);
        assert_eq!(log.read(), ["value dropped"]);
    })
    .await
    .unwrap();
}

/// The stop runs no hook and ends no scope, so the components are dropped in place.
#[tokio::test(start_paused = true)]
async fn component_without_hooks_is_dropped_after_those_that_need_it() {
    struct First(#[expect(dead_code, reason = "noted when it is dropped")] Noted);
    struct Second(#[expect(dead_code, reason = "noted when it is dropped")] Noted, PanicsWhenDropped);
    struct PanicsWhenDropped;
    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            std::panic::panic_any("in drop");
        }
    }
    let log = Log::default();
    within(async |n| {
        let (first, second) = (log.at_drop("first"), log.at_drop("second"));
        let mut c = Container::new();
        c.provide(|| async { First(first) });
        c.provide(|needed: Arc<First>| async move {
            drop(needed);
            Second(second, PanicsWhenDropped)
        });
        let report = c.start(n).await.unwrap().stop().await;
        let failed: Vec<_> = report.failures().map(|stopped| stopped.name.as_str().to_owned()).collect();
        assert_eq!(failed, ["Second"]);
        assert_eq!(log.read(), ["second", "first"]);
    })
    .await
    .unwrap();
}
