//! Supervised children: order, restarts, stop.

#![allow(clippy::disallowed_methods, reason = "waiters that stand outside of the scope under test")]

use std::convert::Infallible;
use std::future::pending;
use std::panic::panic_any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use motet::task::supervisor::ChildState;
use motet::task::{
    CancelToken, Child, Nursery, Reason, Restart, Scope, Supervisor, SupervisorError, TaskError, drain,
    scope, unscoped,
};
use motet::{Backoff, Jitter, rng};
use tokio::time::{Instant, sleep, timeout};

use crate::notes::Log;

const SECOND: Duration = Duration::from_secs(1);

/// Records its start and its stop, and takes a second for each.
fn tidy(name: &'static str, log: &Log) -> Child {
    let log = log.clone();
    Child::new(name, Restart::Permanent, move |cx| {
        let log = log.clone();
        async move {
            log.note(format!("{name} starts"));
            sleep(SECOND).await;
            cx.ready();
            cx.token().cancelled().await;
            log.note(format!("{name} stops"));
            sleep(SECOND).await;
            log.note(format!("{name} stopped"));
        }
    })
}

fn every_second() -> Backoff {
    Backoff::constant(SECOND)
}

#[tokio::test(start_paused = true)]
async fn children_start_in_order_and_stop_in_reverse() {
    let (log, stop, begin) = (Log::default(), CancelToken::new(), Instant::now());
    let supervisor = Supervisor::new()
        .name("app")
        .with_child(tidy("a", &log))
        .with_child(tidy("b", &log))
        .with_child(tidy("c", &log));
    let watch = supervisor.watch();
    scope(async |n: &Nursery<Infallible>| {
        let running = n.spawn("app", supervisor.run(stop.clone()));
        assert!(watch.started().await);
        assert_eq!(begin.elapsed(), SECOND * 3);
        assert_eq!(log.read(), ["a starts", "b starts", "c starts"]);
        stop.cancel(Reason::requested("enough"));
        running.await.unwrap().unwrap();
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(begin.elapsed(), SECOND * 6);
    let stops = ["c stops", "c stopped", "b stops", "b stopped", "a stops", "a stopped"];
    assert_eq!(log.read()[3..], stops);
    assert!(watch.children().iter().all(|child| child.state == ChildState::Stopped));
}

#[tokio::test(start_paused = true)]
async fn scope_waits_past_grace_and_deadline_for_its_supervisor() {
    for deadline in [None, Some(SECOND * 3)] {
        let (log, begin) = (Log::default(), Instant::now());
        let supervisor = Supervisor::new()
            .name("app")
            .with_child(tidy("a", &log))
            .with_child(tidy("b", &log))
            .with_child(tidy("c", &log));
        let watch = supervisor.watch();
        let mut options = Scope::builder().grace(Duration::ZERO);
        if let Some(deadline) = deadline {
            options = options.timeout(deadline);
        }
        let ended = options.run(async |n: &Nursery<SupervisorError>| {
            supervisor.spawn(n);
            watch.started().await;
            if deadline.is_none() {
                n.cancel(Reason::requested("enough"));
            }
            pending::<()>().await;
            Ok(())
        });
        let error = ended.await.unwrap_err();
        assert_eq!(error.is_deadline(), deadline.is_some());
        assert_eq!(begin.elapsed(), SECOND * 6, "{deadline:?}");
        assert_eq!(log.read()[3..].last().unwrap(), "a stopped");
        assert_eq!(log.read()[3], "c stops");
    }
}

#[tokio::test(start_paused = true)]
async fn served_supervisor_stops_when_the_other_tasks_are_done() {
    let (log, begin) = (Log::default(), Instant::now());
    let supervisor = Supervisor::new().name("app").with_child(tidy("a", &log));
    scope(async |n: &Nursery<SupervisorError>| {
        supervisor.serve(n);
        let log = log.clone();
        n.spawn("work", async move {
            sleep(SECOND * 5).await;
            log.note("work done");
        });
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(log.read(), ["a starts", "work done", "a stops", "a stopped"]);
    assert_eq!(begin.elapsed(), SECOND * 6);
}

#[tokio::test(start_paused = true)]
async fn panicked_child_alone_restarts_after_its_backoff() {
    let starts = Arc::new(AtomicUsize::new(0));
    let sibling = Arc::new(AtomicUsize::new(0));
    let (count, siblings, stop) = (Arc::clone(&starts), Arc::clone(&sibling), CancelToken::new());
    let supervisor = Supervisor::new()
        .name("app")
        .backoff(every_second())
        .child("sibling", Restart::Permanent, move || {
            siblings.fetch_add(1, Ordering::Relaxed);
            pending::<()>()
        })
        .child("hot", Restart::Transient, move || {
            let start = count.fetch_add(1, Ordering::Relaxed);
            async move {
                assert!(start > 0, "too hot");
                pending::<()>().await;
            }
        });
    let watch = supervisor.watch();
    scope(async |n: &Nursery<Infallible>| {
        let begin = Instant::now();
        n.spawn("app", supervisor.run(stop.clone()));
        let backoff = watch.wait_for(|all| matches!(all[1].state, ChildState::Backoff { .. })).await.unwrap();
        assert_eq!(backoff[1].state, ChildState::Backoff { until: begin + SECOND });
        let up = watch.wait_for(|all| all[1].restarts == 1).await.unwrap();
        assert_eq!(begin.elapsed(), SECOND);
        assert_eq!(up[1].state, ChildState::Running);
        let failure = up[1].last_failure.clone().unwrap();
        assert_eq!(failure.to_string(), "child `hot` panicked: too hot");
        assert_eq!(failure.at, begin);
        stop.cancel(Reason::requested("enough"));
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(sibling.load(Ordering::Relaxed), 1);
    assert_eq!(starts.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn panic_of_the_closure_is_a_failure_of_the_child() {
    let mut calls = 0;
    let supervisor =
        Supervisor::new().name("app").backoff(every_second()).child("odd", Restart::Transient, move || {
            calls += 1;
            assert!(calls > 2, "call {calls}");
            async {}
        });
    let watch = supervisor.watch();
    supervisor.run(CancelToken::new()).await.unwrap();
    let child = watch.child("odd").unwrap();
    assert_eq!((child.state, child.restarts), (ChildState::Stopped, 2));
    assert_eq!(child.last_failure.unwrap().to_string(), "child `odd` panicked: call 2");
}

#[tokio::test(start_paused = true)]
async fn child_restarts_though_its_panic_payload_panics_on_drop() {
    struct Payload;
    impl Drop for Payload {
        fn drop(&mut self) {
            panic!("the drop of the payload");
        }
    }
    let mut calls = 0;
    let supervisor =
        Supervisor::new().name("app").backoff(every_second()).child("odd", Restart::Transient, move || {
            calls += 1;
            if calls == 1 {
                panic_any(Payload);
            }
            async {}
        });
    let watch = supervisor.watch();
    supervisor.run(CancelToken::new()).await.unwrap();
    assert_eq!(watch.child("odd").unwrap().restarts, 1);
}

#[tokio::test(start_paused = true)]
async fn supervisor_gives_up_past_max_restarts_with_all_failures() {
    let (log, begin) = (Log::default(), Instant::now());
    let mut starts = 0;
    let supervisor = Supervisor::new()
        .name("app")
        .intensity(2, SECOND * 60)
        .backoff(every_second())
        .with_child(tidy("web", &log))
        .child("db", Restart::Permanent, move || {
            starts += 1;
            async move { Err::<(), _>(format!("connection {starts} lost")) }
        });
    let failed = scope(async |n: &Nursery<SupervisorError>| {
        supervisor.spawn(n);
        pending::<()>().await;
        Ok(())
    });
    let error = failed.await.unwrap_err().into_error().unwrap();
    assert_eq!(error.to_string(), "supervisor `app` gave up on `db` after 2 restarts in 60s");
    let causes = error.failures.iter().map(|failure| std::error::Error::source(failure).unwrap().to_string());
    assert_eq!(causes.collect::<Vec<_>>(), ["connection 1 lost", "connection 2 lost", "connection 3 lost"]);
    assert_eq!(log.read(), ["web starts", "web stops", "web stopped"]);
    // A second for the start of `web`, two restarts, and a second for its stop.
    assert_eq!(begin.elapsed(), SECOND * 4);
}

#[tokio::test(start_paused = true)]
async fn failures_outside_of_the_window_do_not_add_up() {
    let mut starts = 0;
    let supervisor = Supervisor::new().name("app").intensity(1, SECOND * 10).backoff(every_second()).child(
        "slow",
        Restart::Transient,
        move || {
            starts += 1;
            async move {
                sleep(SECOND * 9).await;
                if starts < 6 { Err("again") } else { Ok(()) }
            }
        },
    );
    let watch = supervisor.watch();
    supervisor.run(CancelToken::new()).await.unwrap();
    assert_eq!(watch.children()[0].restarts, 5);
}

#[tokio::test(start_paused = true)]
async fn unresponsive_child_is_dropped_after_its_stop_timeout() {
    let (log, stop, begin) = (Log::default(), CancelToken::new(), Instant::now());
    let noted = log.clone();
    let deaf = Child::new("deaf", Restart::Permanent, move |cx| {
        let noted = noted.at_drop("deaf dropped");
        async move {
            let _noted = noted;
            cx.ready();
            pending::<()>().await;
        }
    });
    let supervisor = Supervisor::new()
        .name("app")
        .with_child(tidy("first", &log))
        .with_child(deaf.stop_timeout(SECOND * 3));
    let watch = supervisor.watch();
    scope(async |n: &Nursery<Infallible>| {
        n.spawn("app", supervisor.run(stop.clone()));
        watch.started().await;
        stop.cancel(Reason::requested("enough"));
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(log.read(), ["first starts", "deaf dropped", "first stops", "first stopped"]);
    assert_eq!(begin.elapsed(), SECOND * 5);
    let deaf = watch.child("deaf").unwrap();
    assert_eq!(deaf.state, ChildState::Failed);
    let words = deaf.last_failure.unwrap().to_string();
    assert_eq!(words, "child `deaf` did not stop within 3s and was dropped");
}

#[tokio::test(start_paused = true)]
async fn stop_waits_for_a_pending_start_and_ends_a_backoff() {
    // Here, a child that is stopped while it starts becomes ready first, and then ends.
    for (stop_at, ended_at) in [(500, 2_000), (1_500, 4_000), (2_500, 4_500)] {
        let (log, stop, begin) = (Log::default(), CancelToken::new(), Instant::now());
        let supervisor = Supervisor::new()
            .name("app")
            .backoff(Backoff::constant(SECOND * 100))
            .with_child(tidy("a", &log))
            .child("fails", Restart::Permanent, async || Err::<(), _>("no"))
            .with_child(tidy("b", &log));
        let stopper = stop.clone();
        scope(async |n: &Nursery<Infallible>| {
            n.spawn("app", supervisor.run(stop));
            sleep(Duration::from_millis(stop_at)).await;
            stopper.cancel(Reason::requested("enough"));
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(begin.elapsed(), Duration::from_millis(ended_at), "{stop_at}");
        assert_eq!(log.read().last().unwrap(), "a stopped");
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_supervisor_stops_its_children() {
    let log = Log::default();
    let begin = Instant::now();
    let supervisor =
        Supervisor::new().name("app").with_child(tidy("a", &log)).child("b", Restart::Permanent, {
            let log = log.clone();
            move || {
                let noted = log.at_drop("b dropped");
                async move {
                    let _noted = noted;
                    pending::<()>().await;
                }
            }
        });
    assert!(timeout(SECOND * 2, supervisor.run(CancelToken::new())).await.is_err());
    assert_eq!(unscoped(), 1);
    drain().await;
    assert_eq!(begin.elapsed(), SECOND * 3);
    let mut lines = log.read();
    lines.sort();
    assert_eq!(lines, ["a starts", "a stopped", "a stops", "b dropped"]);
}

#[tokio::test(start_paused = true)]
async fn wait_on_a_watch_ends_with_none_once_its_supervisor_is_gone() {
    let supervisor = Supervisor::new().name("app").child("web", Restart::Permanent, pending::<()>);
    let watch = supervisor.watch();
    assert!(timeout(SECOND, supervisor.run(CancelToken::new())).await.is_err());
    drain().await;
    assert!(timeout(SECOND, watch.wait_for(|_| false)).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn supervisor_ends_when_no_child_is_left() {
    Supervisor::new().name("none").run(CancelToken::new()).await.unwrap();
    let begin = Instant::now();
    let supervisor = Supervisor::new()
        .name("app")
        .child("once", Restart::Transient, async || sleep(SECOND).await)
        .child("fails", Restart::Temporary, async || Err::<(), _>("no"));
    let watch = supervisor.watch();
    supervisor.run(CancelToken::new()).await.unwrap();
    assert_eq!(begin.elapsed(), SECOND);
    let states: Vec<_> = watch.children().iter().map(|child| child.state).collect();
    assert_eq!(states, [ChildState::Stopped, ChildState::Failed]);
}

#[tokio::test(start_paused = true)]
async fn delays_of_restarts_repeat_under_a_seed() {
    async fn waits(seed: u64) -> Vec<Duration> {
        let _seeded = rng::seed_thread(seed);
        let starts = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&starts);
        let backoff = Backoff::exponential(SECOND, SECOND * 8).unwrap().jitter(Jitter::Full).unwrap();
        let supervisor =
            Supervisor::new().name("app").backoff(backoff).child("fails", Restart::Permanent, move || {
                noted.lock().unwrap().push(Instant::now());
                async { Err::<(), _>("no") }
            });
        supervisor.run(CancelToken::new()).await.unwrap_err();
        let starts = starts.lock().unwrap();
        assert_eq!(starts.len(), 6);
        starts.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
    let (one, again, two) = (waits(1).await, waits(1).await, waits(2).await);
    assert_eq!(one, again);
    assert_ne!(one, two);
}

#[tokio::test(start_paused = true)]
async fn cancelling_the_task_of_a_supervisor_lets_its_child_stop() {
    let log = Log::default();
    let supervisor = Supervisor::new().name("app").with_child(tidy("a", &log));
    let watch = supervisor.watch();
    scope(async |n: &Nursery<SupervisorError>| {
        let task = supervisor.spawn(n);
        watch.started().await;
        task.cancel(Reason::requested("enough"));
        let ended: Result<(), TaskError<SupervisorError>> = task.await;
        ended.unwrap();
        assert_eq!(log.read().last().unwrap(), "a stopped");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn endless_child_needs_no_type_annotation() {
    let stop = CancelToken::new();
    let supervisor = Supervisor::new().name("app").child("ticks", Restart::Permanent, || async {
        loop {
            sleep(SECOND).await;
        }
    });
    let stopper = stop.clone();
    scope(async |n: &Nursery<Infallible>| {
        n.spawn("app", supervisor.run(stop));
        sleep(SECOND * 5).await;
        stopper.cancel(Reason::requested("enough"));
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn failed_start_does_not_count_as_started() {
    let supervisor = Supervisor::new()
        .name("app")
        .intensity(0, SECOND)
        .with_child(Child::new("db", Restart::Permanent, async |_cx| Err::<(), _>("no route")))
        .with_child(Child::new("web", Restart::Permanent, async |cx| {
            cx.ready();
            pending::<()>().await;
        }));
    let watch = supervisor.watch();
    let started = tokio::spawn(async move { watch.started().await });
    tokio::task::yield_now().await;
    supervisor.run(CancelToken::new()).await.unwrap_err();
    assert!(!started.await.unwrap(), "`web` was never started, and the supervisor has failed");
}

#[tokio::test(start_paused = true)]
async fn stop_during_the_start_does_not_count_as_started() {
    let (stop, supervisor) = (CancelToken::new(), Supervisor::new().name("app"));
    let supervisor = supervisor
        .with_child(Child::new("db", Restart::Permanent, async |cx| {
            cx.token().cancelled().await;
        }))
        .child("web", Restart::Permanent, pending::<()>);
    let watch = supervisor.watch();
    let started = tokio::spawn(async move { watch.started().await });
    let run = tokio::spawn(supervisor.run(stop.clone()));
    sleep(SECOND).await;
    stop.cancel(Reason::requested("enough"));
    run.await.unwrap().unwrap();
    assert!(!started.await.unwrap(), "neither was ever ready");
}

#[tokio::test(start_paused = true)]
async fn stop_before_the_start_starts_no_child() {
    let (stop, starts) = (CancelToken::new(), Arc::new(Mutex::new(0)));
    stop.cancel(Reason::requested("never mind"));
    let counted = Arc::clone(&starts);
    let supervisor = Supervisor::new().name("app").child("web", Restart::Permanent, move || {
        *counted.lock().unwrap() += 1;
        pending::<()>()
    });
    supervisor.run(stop).await.unwrap();
    assert_eq!(*starts.lock().unwrap(), 0);
}
