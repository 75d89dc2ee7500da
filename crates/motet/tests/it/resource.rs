//! Resources are released on every path.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use motet::resource::{Exit, ResourceError, resource};
use motet::task::{CancelToken, Nursery, Reason, Scope, ScopeError, drain, scope};
use tokio::time::{Instant, sleep, timeout};

use crate::notes::Log;

const SECOND: Duration = Duration::from_secs(1);

/// A resource.
#[derive(Debug)]
struct Held(&'static str);

impl Log {
    /// Opens `name` in a second.
    fn open(&self, name: &'static str) -> impl Future<Output = Result<Held, io::Error>> + Send + use<> {
        let log = self.clone();
        async move {
            sleep(SECOND).await;
            log.note(format!("open {name}"));
            Ok(Held(name))
        }
    }

    /// Closes it in a second.
    fn close(&self) -> impl FnOnce(Held, Exit) -> Closing + Send + use<> {
        let log = self.clone();
        move |held, exit| {
            Box::pin(async move {
                sleep(SECOND).await;
                log.note(format!("close {}: {exit}", held.0));
            })
        }
    }
}

type Closing = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

#[tokio::test(start_paused = true)]
async fn release_receives_whether_the_use_succeeded() {
    let log = Log::default();
    let used = resource(log.open("a")).release(log.close()).with(async |held| Ok(held.0.len())).await;
    assert_eq!(used.unwrap(), 1);
    let failed =
        resource(log.open("b")).release(log.close()).with(async |_| Err::<(), _>(io::Error::other("no")));
    let ResourceError::Use { error, release: None } = failed.await.unwrap_err() else { panic!() };
    assert_eq!(error.to_string(), "no");
    assert_eq!(log.read(), ["open a", "close a: ok", "open b", "close b: error"]);
}

#[tokio::test(start_paused = true)]
async fn resource_that_did_not_open_is_not_released() {
    let log = Log::default();
    let failed = resource(async { Err::<Held, _>(io::Error::other("down")) })
        .release(log.close())
        .with(async |_| Ok(()))
        .await;
    assert!(matches!(failed, Err(ResourceError::Open(_))));
    assert!(log.read().is_empty());
}

#[test]
fn panic_in_the_use_resumes_after_the_release() {
    let log = Log::default();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(
            resource(log.open("a")).release(log.close()).with::<(), _>(async |_| std::panic::panic_any(3)),
        )
    }));
    assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&3));
    assert_eq!(log.read(), ["open a", "close a: panic"]);
}

#[tokio::test(start_paused = true)]
async fn scope_waits_for_the_release_of_a_dropped_use() {
    let log = Log::default();
    let begin = Instant::now();
    scope(async |_: &Nursery<Infallible>| {
        let used = resource(log.open("a")).release(log.close()).with(async |_| {
            pending::<()>().await;
            Ok(())
        });
        assert!(timeout(SECOND * 2, used).await.is_err());
        assert_eq!(log.read(), ["open a"]);
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(log.read(), ["open a", "close a: cancelled"]);
    assert_eq!(begin.elapsed(), SECOND * 3);
}

#[tokio::test(start_paused = true)]
async fn resource_is_released_when_its_caller_is_dropped_during_open() {
    let log = Log::default();
    scope(async |n: &Nursery<Infallible>| {
        let used = resource(log.open("a")).release(log.close()).with(async |_| Ok(()));
        assert!(timeout(SECOND / 2, used).await.is_err());
        let bound = n.acquire("b", log.open("b"), log.close());
        assert!(timeout(SECOND / 2, bound).await.is_err());
        sleep(SECOND * 3).await;
        // Before the end of the scope: no caller has them.
        assert_eq!(log.read(), ["open a", "open b", "close a: cancelled", "close b: cancelled"]);
        assert_eq!(n.release_counts().started, 2);
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn release_timeout_ends_a_hanging_open_of_a_dropped_caller() {
    let log = Log::default();
    let begin = Instant::now();
    scope(async |_: &Nursery<Infallible>| {
        let hangs = resource(pending::<Result<Held, io::Error>>())
            .release(log.close())
            .release_timeout(SECOND * 3)
            .with(async |_| Ok(()));
        assert!(timeout(SECOND, hangs).await.is_err());
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(begin.elapsed(), SECOND * 4);
}

#[tokio::test(start_paused = true)]
async fn cancelled_task_releases_its_resource() {
    let log = Log::default();
    let begin = Instant::now();
    scope(async |n: &Nursery<Infallible>| {
        let (open, close) = (log.open("a"), log.close());
        let task = n.spawn("uses", async move {
            let used = resource(open).release(close).with(async |_| {
                pending::<()>().await;
                Ok(())
            });
            used.await.unwrap();
        });
        sleep(SECOND * 2).await;
        task.cancel(Reason::requested("enough"));
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(log.read(), ["open a", "close a: cancelled"]);
    assert_eq!(begin.elapsed(), SECOND * 3);
}

#[tokio::test(start_paused = true)]
async fn scope_releases_last_first_after_its_children_have_ended() {
    let log = Log::default();
    scope(async |n: &Nursery<Infallible>| {
        let first = n.acquire("first", log.open("first"), log.close()).await.unwrap();
        let second = n.acquire("second", log.open("second"), log.close()).await.unwrap();
        assert_eq!((first.0, second.0), ("first", "second"));
        let deferred = log.clone();
        n.defer("note", async move |exit| deferred.note(format!("deferred: {exit}")));
        let ended = log.clone();
        n.spawn("child", async move {
            let _second = second;
            sleep(SECOND * 9).await;
            ended.note("child ended");
        });
        let stopped = log.clone();
        n.service_coop("service", async move |cx: CancelToken| {
            cx.cancelled().await;
            stopped.note("service stopped");
        });
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(
        log.read(),
        [
            "open first",
            "open second",
            "child ended",
            "service stopped",
            "deferred: ok",
            "close second: ok",
            "close first: ok"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn resource_released_early_is_released_once() {
    let log = Log::default();
    scope(async |n: &Nursery<Infallible>| {
        let a = n.acquire("a", log.open("a"), log.close()).await.unwrap();
        a.release().await.unwrap();
        log.note("body goes on");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(log.read(), ["open a", "close a: ok", "body goes on"]);
}

#[tokio::test(start_paused = true)]
async fn release_after_the_end_of_its_scope_fails_naming_the_resource() {
    let guard = scope(async |n: &Nursery<Infallible>| {
        Ok(n.acquire("session", async { Ok::<_, io::Error>(1) }, async |_, _| ()).await.unwrap())
    });
    let failed = guard.await.unwrap().release().await.unwrap_err();
    assert_eq!(failed.to_string(), "release of `session` failed");
    let cause = std::error::Error::source(&failed).unwrap();
    assert_eq!(cause.to_string(), "its scope ended before the release started");
}

#[tokio::test(start_paused = true)]
async fn failed_releases_are_all_reported_and_the_others_run() {
    let log = Log::default();
    let last = log.clone();
    let failed = Scope::builder().release_timeout(SECOND * 2).run(async |n: &Nursery<Infallible>| {
        n.defer("last", async move |_| last.note("last"));
        n.defer("fails", async |_| Err::<(), _>("disk full"));
        n.defer("hangs", async |_| pending::<()>().await);
        n.defer("panics", async |_| -> () { panic!("in release") });
        Ok(())
    });
    let failed = failed.await.unwrap_err();
    assert_eq!(failed.to_string(), "resources could not be released: `panics`, `hangs`, `fails`");
    let ScopeError::Release(release) = failed else { panic!("{failed:?}") };
    assert!(release[0].is_panic() && release[1].is_timeout());
    let cause = std::error::Error::source(&release[2]).unwrap();
    assert_eq!(cause.to_string(), "disk full");
    assert_eq!(log.read(), ["last"]);
}

#[tokio::test(start_paused = true)]
async fn failed_release_keeps_the_error_of_the_body() {
    let failed = scope(async |n: &Nursery<&'static str>| {
        n.defer("fails", async |exit| {
            assert_eq!(exit, Exit::Err);
            Err::<(), _>("disk full")
        });
        Err::<(), _>("the body's own")
    });
    let failed = failed.await.unwrap_err();
    assert_eq!(failed.release_failures().len(), 1);
    assert_eq!(failed.into_error(), Some("the body's own"));
}

#[tokio::test(start_paused = true)]
async fn release_counts_distinguish_finished_and_lost_releases() {
    let ended = scope(async |outer: &Nursery<Infallible>| {
        let guard = scope(async |n: &Nursery<Infallible>| {
            n.defer("good", async |_| ());
            Ok(n.acquire("taken out", async { Ok::<_, io::Error>(1) }, async |_, _| ()).await.unwrap())
        });
        let guard = guard.await.unwrap();
        assert_eq!(*guard, 1);
        let counts = outer.release_counts();
        assert_eq!((counts.started, counts.finished, counts.timed_out, counts.lost), (1, 1, 0, 1));
        Ok(())
    });
    ended.await.unwrap();
}

#[test]
fn on_lost_receives_the_resource_when_the_runtime_is_gone() {
    let lost = Arc::new(Mutex::new(Vec::new()));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (log, heard) = (Log::default(), Arc::clone(&lost));
    let using = resource(log.open("a"))
        .release(log.close())
        .on_lost(move |held| heard.lock().unwrap().push(held.0))
        .with(async |_| {
            pending::<()>().await;
            Ok(())
        });
    let mut using = Box::pin(using);
    runtime.block_on(async { assert!(timeout(SECOND * 2, &mut using).await.is_err()) });
    drop(runtime);
    drop(using);
    assert_eq!(*lost.lock().unwrap(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn drain_waits_for_a_release_outside_of_a_scope() {
    let log = Log::default();
    let used = resource(log.open("a")).release(log.close()).with(async |_| {
        pending::<()>().await;
        Ok(())
    });
    assert!(timeout(SECOND * 2, used).await.is_err());
    assert_eq!(drain().await, 1);
    assert_eq!(log.read(), ["open a", "close a: cancelled"]);
}

#[tokio::test(start_paused = true)]
async fn cleanup_may_register_another_cleanup() {
    let log = Log::default();
    let inner = log.clone();
    scope(async |n: &Nursery<Infallible>| {
        let scope = Scope::clone(n);
        n.defer("outer", async move |_| {
            scope.defer("inner", async move |_| inner.note("inner")).unwrap();
        });
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(log.read(), ["inner"]);
}
