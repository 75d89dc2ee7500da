//! `Task::value`: the value of a task, or the end of its scope.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use motet::resource::{Exit, resource};
use motet::task::{CancelToken, Nursery, Policy, Reason, ReasonKind, Scope, ScopeError, Task, scope};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::caught::caught;
use crate::notes::Log;

const SECOND: Duration = Duration::from_secs(1);

fn message(payload: &(dyn std::any::Any + Send)) -> &str {
    payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref().copied()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn value_of_a_task_is_awaited_in_one_line() {
    let sum = scope(async |n: &Nursery<&'static str>| {
        let a = n.try_spawn("a", async {
            sleep(SECOND).await;
            Ok(40)
        });
        let b = n.spawn("b", async { 2 });
        Ok(a.value().await + b.value().await)
    });
    assert_eq!(sum.await.unwrap(), 42);
}

#[tokio::test(start_paused = true)]
async fn error_of_a_task_whose_value_is_awaited_is_that_of_the_scope() {
    let log = Log::default();
    let failed = scope(async |n: &Nursery<&'static str>| {
        let task = n.try_spawn("broken", async {
            sleep(SECOND).await;
            Err::<u32, _>("no such user")
        });
        let _dropped = log.at_drop("body");
        Ok(task.value().await)
    });
    let failed = failed.await.unwrap_err();
    assert_eq!(failed.to_string(), "task `broken` failed: no such user");
    assert_eq!(log.read(), ["body"]);
}

#[tokio::test(start_paused = true)]
async fn panic_of_a_task_whose_value_is_awaited_resumes() {
    let ended = caught(scope(async |n: &Nursery| {
        let task = n.spawn("panics", async { std::panic::panic_any(17) });
        let value: u32 = task.value().await;
        Ok(value)
    }));
    assert_eq!(ended.await.unwrap_err().downcast_ref(), Some(&17));
}

#[tokio::test(start_paused = true)]
async fn task_cancelled_alone_ends_the_scope_that_awaits_its_value() {
    let begin = Instant::now();
    let cancelled = scope(async |n: &Nursery| {
        let task = n.spawn("lookup", pending::<u32>());
        n.spawn("sibling", pending::<()>());
        task.cancel(Reason::requested("too slow"));
        Ok(task.value().await)
    });
    let failed = cancelled.await.unwrap_err();
    let ScopeError::Cancelled { reason, .. } = &failed else { panic!("{failed:?}") };
    assert_eq!((reason.kind(), reason.caused_by()), (ReasonKind::NoValue, Some("lookup")));
    assert_eq!(
        failed.to_string(),
        "the scope was cancelled: a task ended without the value that was awaited: `lookup`: cancelled on request: too slow"
    );
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn sibling_that_awaits_a_value_is_dropped_with_the_scope() {
    let log = Log::default();
    for (fails, expected) in [(true, "task `source` failed: broken"), (false, "cancelled on request: enough")]
    {
        let dropped = log.at_drop("sibling");
        let ended = scope(async move |n: &Nursery<&'static str>| {
            let source = n.try_spawn("source", async move {
                sleep(SECOND).await;
                if fails { Err::<u32, _>("broken") } else { pending().await }
            });
            if !fails {
                source.cancel(Reason::requested("enough"));
            }
            n.spawn("sibling", async move {
                let _dropped = dropped;
                source.value().await
            });
            pending::<Result<(), _>>().await
        });
        let failed = ended.await.unwrap_err();
        assert!(failed.to_string().ends_with(expected), "{failed}");
    }
    assert_eq!(log.count("sibling"), 2);
}

#[tokio::test(start_paused = true)]
async fn scope_within_the_scope_of_a_task_may_await_its_value() {
    let sum = scope(async |n: &Nursery<&'static str>| {
        let a = n.spawn("a", async { 40 });
        let sum = scope(async |inner: &Nursery| {
            let b = inner.spawn("b", async { 2 });
            let a = inner.spawn("waits", a.value());
            Ok(a.value().await + b.value().await)
        });
        Ok(sum.await.unwrap())
    });
    assert_eq!(sum.await.unwrap(), 42);

    let ended = scope(async |n: &Nursery<&'static str>| {
        let broken = n.try_spawn("broken", async { Err::<u32, _>("no such user") });
        let within = scope(async |inner: &Nursery| Ok(inner.spawn("waits", broken.value()).value().await));
        Ok(within.await.unwrap())
    });
    assert_eq!(ended.await.unwrap_err().to_string(), "task `broken` failed: no such user");
}

#[tokio::test(start_paused = true)]
async fn value_is_refused_at_once_in_a_scope_that_goes_on() {
    for policy in [Policy::CollectAll, Policy::FirstOk, Policy::Isolate] {
        let ended = caught(Scope::builder().policy(policy).run(async |n: &Nursery<&'static str>| {
            let task = n.try_spawn("works", async { Ok(5) });
            Ok(task.value().await)
        }));
        let payload = ended.await.unwrap_err();
        let refused = message(&*payload);
        assert!(refused.contains("`works`") && refused.contains(&format!("Policy::{policy:?}")), "{refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn value_is_refused_outside_of_the_scope_of_its_task() {
    let task: Task<u32> = scope(async |n: &Nursery| Ok(n.spawn("works", async { 5 }))).await.unwrap();
    let payload = caught(task.value()).await.unwrap_err();
    assert!(message(&*payload).contains("outside of its scope"), "{}", message(&*payload));

    scope(async |n: &Nursery| {
        let task = n.spawn("works", async { 5 });
        let (report, reported) = oneshot::channel();
        motet::task::detach("apart", async move {
            let payload = caught(task.value()).await.unwrap_err();
            let _ = report.send(message(&*payload).to_owned());
        });
        let refused = reported.await.unwrap();
        assert!(refused.contains("outside of its scope"), "{refused}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn cooperative_task_that_awaits_a_value_has_its_grace_period() {
    let begin = Instant::now();
    let log = Log::default();
    let dropped = log.at_drop("cooperative");
    let ended = scope(async |n: &Nursery<&'static str>| {
        let broken = n.try_spawn("broken", async { Err::<u32, _>("no such user") });
        n.spawn_coop("cooperative", async move |_: CancelToken| {
            let _dropped = dropped;
            broken.value().await
        });
        pending::<Result<(), _>>().await
    });
    assert_eq!(ended.await.unwrap_err().to_string(), "task `broken` failed: no such user");
    assert_eq!((log.read(), begin.elapsed()), (vec!["cooperative".to_owned()], SECOND));
}

#[tokio::test(start_paused = true)]
async fn service_that_awaits_a_value_is_dropped_after_a_slow_release() {
    let begin = Instant::now();
    let ended = scope(async |n: &Nursery<&'static str>| {
        let broken = n.try_spawn("broken", async {
            sleep(SECOND).await;
            Err::<u32, _>("no such user")
        });
        n.service("service", async move {
            broken.value().await;
        });
        let used =
            resource(async { Ok::<_, Infallible>(()) }).release(async |(), _: Exit| sleep(SECOND * 4).await);
        used.with(async |&mut ()| pending::<Result<(), Infallible>>().await).await.unwrap();
        Ok(())
    });
    assert_eq!(ended.await.unwrap_err().to_string(), "task `broken` failed: no such user");
    assert_eq!(begin.elapsed(), SECOND * 5);
}

#[tokio::test(start_paused = true)]
async fn release_that_awaits_a_value_that_never_comes_panics() {
    let begin = Instant::now();
    let ended = caught(scope(async |n: &Nursery<&'static str>| {
        let broken = n.try_spawn("broken", async { Err::<u32, _>("no such user") });
        n.defer("cleanup", async move |_| {
            broken.value().await;
        });
        pending::<Result<(), _>>().await
    }));
    let failed = ended.await.unwrap().unwrap_err();
    let [release] = failed.release_failures() else { panic!("{failed:?}") };
    assert!(release.is_panic(), "{release:?}");
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn scope_within_a_release_ends_with_its_own_reason() {
    let (report, reported) = oneshot::channel();
    let ended = scope(async |n: &Nursery| {
        n.defer("cleanup", async move |_| {
            let sum = scope(async |inner: &Nursery| {
                let task = inner.spawn("task", pending::<u32>());
                task.cancel(Reason::requested("enough"));
                Ok(task.value().await)
            });
            let _ = report.send(sum.await.unwrap_err().to_string());
        });
        Ok(())
    });
    ended.await.unwrap();
    let ended = reported.await.unwrap();
    assert!(ended.contains("`task`") && ended.contains("enough"), "{ended}");
}

#[tokio::test(start_paused = true)]
async fn child_of_a_scope_within_a_release_panics_instead_of_waiting() {
    let ended = caught(scope(async |n: &Nursery<String>| {
        let broken = n.try_spawn("broken", async { Err::<u32, _>("no such user".to_owned()) });
        n.defer("cleanup", async move |_| {
            let inner = scope(async |inner: &Nursery| {
                inner.spawn("waits", broken.value());
                Ok(())
            });
            inner.await.unwrap();
        });
        pending::<Result<(), _>>().await
    }));
    let failed = ended.await.unwrap().unwrap_err();
    let [release] = failed.release_failures() else { panic!("{failed:?}") };
    assert!(release.is_panic(), "{release:?}");
}
