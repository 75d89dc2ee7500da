//! Health checks, combined along the graph.

use std::sync::{Arc, OnceLock};

use motet::container::{Container, Health};
use motet::task::{Nursery, Scope, timeout};
use tokio::time::Instant;

use super::{A, B, C, D, Refused, after, millis, never, started, within};

#[tokio::test(start_paused = true)]
async fn required_dependency_lowers_health_and_optional_one_degrades() {
    within(async |n| {
        let mut c = Container::new();
        c.provide(|| async { A }).health(|_| after(100, Err::<(), _>(Refused("disk full"))));
        c.provide(|_: Arc<A>| async { B }).health(|_| after(100, Ok::<_, Refused>(Health::Degraded)));
        c.provide(|_: Option<Arc<B>>| async { C });
        c.provide(|| async { D }).health(|_| async { Health::Healthy });
        let running = started(n, c).await;
        let begin = Instant::now();
        let report = running.health().await;
        assert_eq!(begin.elapsed(), millis(100), "the checks run concurrently");
        assert_eq!(report.health(), Health::Unhealthy);
        let seen: Vec<_> = report
            .components()
            .iter()
            .map(|one| (one.name.as_str(), one.own, one.health, one.because_of.as_ref().map(|name| name.as_str())))
            .collect();
        assert_eq!(
            seen,
            [
                ("A", Health::Unhealthy, Health::Unhealthy, None),
                ("B", Health::Degraded, Health::Unhealthy, Some("A")),
                ("C", Health::Healthy, Health::Degraded, Some("A")),
                ("D", Health::Healthy, Health::Healthy, None),
            ]
        );
        assert_eq!(
            report.to_string(),
            "unhealthy\n  `A` unhealthy: disk full\n  `B` unhealthy, because of `A`\n  `C` degraded, because of `A`\n  `D` healthy"
        );
        assert_eq!(report.component("C").unwrap().health, Health::Degraded);
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn hanging_check_and_panic_of_check_or_task_mean_unhealthy() {
    let ended = within(async |n| {
        let mut c = Container::new();
        c.health_timeout(millis(200));
        c.value(A).health(|_| never::<Health>());
        c.value(B).health(|_| async { panic!("a bug") as Health });
        c.provide(|scope: Scope| async move {
            scope
                .spawn("heartbeat", async {
                    after(50, ()).await;
                    panic!("no more");
                })
                .unwrap();
            C
        });
        c.provide_transient(|scope: Scope| async move {
            scope
                .spawn("watch", async {
                    after(50, ()).await;
                    panic!("no more");
                })
                .unwrap();
            7_u8
        });
        c.provide(|_: Arc<u8>| async { D });
        let running = started(n, c).await;
        assert_eq!(running.health().await.component("C").unwrap().health, Health::Healthy);
        let begin = Instant::now();
        let report = running.health().await;
        assert_eq!(begin.elapsed(), millis(200));
        let text = report.to_string();
        for part in [
            "`A` unhealthy: the health check took longer than 200ms",
            "`B` unhealthy: the health check panicked: a bug",
            "`C` unhealthy: the scope of the component was cancelled: a task of it panicked, or the component cancelled it",
            "`D` unhealthy: the scope of the component was cancelled: a task of it panicked, or the component cancelled it",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(running.stop().await.failures().count(), 2);
    })
    .await;
    ended.unwrap();
}

#[tokio::test(start_paused = true)]
async fn isolated_component_keeps_tasks_and_health_when_a_task_panics() {
    within(async |n| {
        let mut c = Container::new();
        let (done, heard) = tokio::sync::oneshot::channel();
        c.provide(|scope: Scope| async move {
            scope
                .spawn("bad", async {
                    panic!("a bug");
                })
                .unwrap();
            scope
                .spawn("good", async {
                    after(50, ()).await;
                    done.send(()).unwrap();
                })
                .unwrap();
            A
        })
        .isolated();
        let running = started(n, c).await;
        heard.await.unwrap();
        assert_eq!(running.health().await.health(), Health::Healthy);
        assert!(running.stop().await.is_ok(), "the panic is not a failure of the stop");
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn stopping_or_stopped_container_is_unhealthy() {
    let outlives = OnceLock::new();
    within(async |_| {
        let ended = Scope::builder().run(async |inner: &Nursery<Refused>| {
            let mut c = Container::new();
            c.provide(|| async { A }).health(|_| async { Health::Healthy }).on_stop(|_| after(100, ()));
            let running = Arc::new(started(inner, c).await);
            assert_eq!(running.health().await.to_string(), "healthy\n  `A` healthy");
            outlives.set(running).unwrap();
            Ok(())
        });
        let mut ended = std::pin::pin!(ended);
        // The stop has begun, and waits for `on_stop`.
        assert!(timeout(millis(50), &mut ended).await.is_err());
        let report = outlives.get().unwrap().health().await;
        assert!(report.is_stopping() && !report.is_stopped());
        assert_eq!(report.health(), Health::Unhealthy);
        assert_eq!(report.to_string().lines().next(), Some("unhealthy: the container is being stopped"));
        ended.await.unwrap();
    })
    .await
    .unwrap();
    let report = outlives.get().unwrap().health().await;
    assert!(report.is_stopping() && report.is_stopped() && report.components().is_empty());
    assert_eq!(report.health(), Health::Unhealthy);
    assert_eq!(report.to_string(), "unhealthy: the container is stopped");
}

/// The answer of a check is out of date if the stop begins during the check.
#[tokio::test(start_paused = true)]
async fn container_whose_stop_begins_during_a_check_is_unhealthy() {
    let mut asked = None;
    within(async |n| {
        let mut c = Container::new();
        c.provide(|| async { A }).health(|_| after(100, Health::Healthy));
        let running = Arc::new(started(n, c).await);
        asked = Some(Box::pin(async move { running.health().await }));
        assert!(timeout(millis(50), asked.as_mut().unwrap()).await.is_err());
    })
    .await
    .unwrap();
    let report = asked.unwrap().await;
    assert!(report.is_stopped());
    assert_eq!(report.health(), Health::Unhealthy);
}
