//! The law of scopes.

use std::convert::Infallible;
use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use motet::task::{
    CancelToken, Nursery, Policy, Reason, ReasonKind, Scope, ScopeError, TaskError, drain, scope, unscoped,
};
use tokio::time::{Instant, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

/// Adds to a log when dropped.
struct Noted(Arc<Mutex<Vec<&'static str>>>, &'static str);

impl Drop for Noted {
    fn drop(&mut self) {
        self.0.lock().unwrap().push(self.1);
    }
}

type Log = Arc<Mutex<Vec<&'static str>>>;

#[tokio::test(start_paused = true)]
async fn scope_waits_for_every_child() {
    let begin = Instant::now();
    let ended = Arc::new(AtomicUsize::new(0));
    let value = scope(async |n: &Nursery<Infallible>| {
        for seconds in 1..=3 {
            let ended = Arc::clone(&ended);
            n.spawn("child", async move {
                sleep(SECOND * seconds).await;
                ended.fetch_add(1, Ordering::Relaxed);
            });
        }
        Ok("value")
    });
    assert_eq!(value.await.unwrap(), "value");
    assert_eq!(ended.load(Ordering::Relaxed), 3);
    assert_eq!(begin.elapsed(), SECOND * 3);
}

#[tokio::test(start_paused = true)]
async fn error_of_a_child_cancels_its_siblings_and_the_body() {
    let log = Log::default();
    let begin = Instant::now();
    let failed = scope(async |n: &Nursery<&'static str>| {
        let noted = Noted(Arc::clone(&log), "sibling dropped");
        n.spawn("sibling", async move {
            let _noted = noted;
            pending::<()>().await;
        });
        n.try_spawn("fails", async {
            sleep(SECOND).await;
            Err::<(), _>("broken")
        });
        let _noted = Noted(Arc::clone(&log), "body dropped");
        pending::<()>().await;
        Ok(())
    });
    let failed = failed.await.unwrap_err();
    assert_eq!(failed.to_string(), "task `fails` failed: broken");
    let ScopeError::Failed { first, others, .. } = failed else { panic!("{failed:?}") };
    assert_eq!((first.task.unwrap().as_str(), first.error), ("fails", "broken"));
    assert!(others.is_empty());
    assert_eq!(begin.elapsed(), SECOND);
    let mut dropped = log.lock().unwrap().clone();
    dropped.sort_unstable();
    assert_eq!(dropped, ["body dropped", "sibling dropped"]);
}

#[tokio::test(start_paused = true)]
async fn collect_all_runs_every_child_and_collects_the_errors() {
    let failed = Scope::builder()
        .policy(Policy::CollectAll)
        .run(async |n: &Nursery<u64>| {
            for at in 1..=3 {
                n.try_spawn("child", async move {
                    sleep(SECOND * at as u32).await;
                    if at == 2 { Ok(()) } else { Err(at) }
                });
            }
            Ok(())
        })
        .await
        .unwrap_err();
    assert_eq!(failed.to_string(), "task `child` failed, and 1 more: 1");
    let ScopeError::Failed { first, others, .. } = failed else { panic!("{failed:?}") };
    assert_eq!(first.error, 1);
    assert_eq!(others.iter().map(|other| other.error).collect::<Vec<_>>(), [3]);
}

#[tokio::test(start_paused = true)]
async fn first_ok_cancels_the_losers_and_ignores_earlier_errors() {
    let begin = Instant::now();
    let won = Scope::builder().policy(Policy::FirstOk).run(async |n: &Nursery<&'static str>| {
        let loser = n.try_spawn("slow", async {
            pending::<()>().await;
            Ok(1)
        });
        n.try_spawn("broken", async { Err::<(), _>("broken") });
        let winner = n.try_spawn("quick", async {
            sleep(SECOND).await;
            Ok(2)
        });
        let won = winner.await.unwrap();
        let TaskError::Cancelled { reason, .. } = loser.await.unwrap_err() else { panic!() };
        assert_eq!((reason.kind(), reason.caused_by()), (ReasonKind::Succeeded, Some("quick")));
        Ok(won)
    });
    assert_eq!(won.await.unwrap(), 2);
    assert_eq!(begin.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn isolate_keeps_errors_and_panics_with_their_tasks() {
    let value = Scope::builder().policy(Policy::Isolate).run(async |n: &Nursery<&'static str>| {
        let failed = n.try_spawn("fails", async { Err::<(), _>("mine") }).await;
        let TaskError::Error { error, .. } = failed.unwrap_err() else { panic!() };
        assert_eq!(error, "mine");
        let panicked = n.spawn("panics", async { panic!("too hot") }).await;
        assert_eq!(panicked.unwrap_err().to_string(), "task `panics` panicked: too hot");
        Ok(1)
    });
    assert_eq!(value.await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn panic_of_a_child_resumes_after_its_siblings_end() {
    let log = Log::default();
    let noted = Arc::clone(&log);
    let task = spawn_apart(async move {
        scope(async |n: &Nursery<Infallible>| {
            n.spawn_coop("tidies up", async move |cx: CancelToken| {
                let reason = cx.cancelled().await;
                assert_eq!((reason.kind(), reason.caused_by()), (ReasonKind::Panicked, Some("panics")));
                sleep(Duration::from_millis(500)).await;
                noted.lock().unwrap().push("tidied");
            });
            n.spawn("panics", async { std::panic::panic_any(17) });
            Ok(())
        })
        .await
    });
    let payload = task.await.unwrap_err().into_panic();
    assert_eq!(payload.downcast_ref(), Some(&17));
    assert_eq!(*log.lock().unwrap(), ["tidied"]);
}

#[tokio::test(start_paused = true)]
async fn cooperative_child_that_hangs_delays_its_scope_by_the_grace() {
    let begin = Instant::now();
    let failed = Scope::builder().grace(SECOND * 2).timeout(SECOND).run(async |n: &Nursery<Infallible>| {
        n.spawn_coop("deaf", async |_| pending::<()>().await);
        pending::<()>().await;
        Ok(())
    });
    let failed = failed.await.unwrap_err();
    assert_eq!(failed.to_string(), "the scope's deadline passed before the end of `deaf`");
    assert_eq!(begin.elapsed(), SECOND * 3);
}

#[tokio::test(start_paused = true)]
async fn deadline_of_a_nested_scope_is_at_most_the_outer_one() {
    let begin = Instant::now();
    let outer = Scope::builder().timeout(SECOND).run(async |_: &Nursery<Infallible>| {
        let inner = Scope::builder().timeout(SECOND * 9).run(async |n: &Nursery<Infallible>| {
            assert_eq!(n.deadline(), Some(begin + SECOND));
            pending::<()>().await;
            Ok(())
        });
        assert!(inner.await.unwrap_err().is_deadline());
        Ok(())
    });
    // The outer body was done in time: just.
    outer.await.unwrap();
    assert_eq!(begin.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn services_are_cancelled_after_the_other_children_have_ended() {
    let log = Log::default();
    let begin = Instant::now();
    scope(async |n: &Nursery<Infallible>| {
        let (plain, coop) = (Noted(Arc::clone(&log), "service dropped"), Arc::clone(&log));
        n.service("serves", async move {
            let _noted = plain;
            pending::<()>().await;
        });
        n.service_coop("flushes", async move |cx: CancelToken| {
            assert_eq!(cx.cancelled().await.kind(), ReasonKind::Ended);
            coop.lock().unwrap().push("flushed");
        });
        let child = Noted(Arc::clone(&log), "child ended");
        n.spawn("child", async move {
            let _noted = child;
            sleep(SECOND).await;
        });
        Ok(())
    })
    .await
    .unwrap();
    let log = log.lock().unwrap();
    assert_eq!(log[0], "child ended");
    assert_eq!(log.len(), 3);
    assert_eq!(begin.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn outer_scope_waits_for_children_of_a_dropped_scope() {
    let log = Log::default();
    let begin = Instant::now();
    scope(async |_: &Nursery<Infallible>| {
        let noted = Arc::clone(&log);
        let inner = scope(async |n: &Nursery<Infallible>| {
            n.spawn_coop("tidies", async move |cx: CancelToken| {
                assert_eq!(cx.cancelled().await.kind(), ReasonKind::Dropped);
                sleep(Duration::from_millis(40)).await;
                noted.lock().unwrap().push("tidied");
            });
            pending::<()>().await;
            Ok(())
        });
        assert!(timeout(Duration::from_millis(10), inner).await.is_err());
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(*log.lock().unwrap(), ["tidied"]);
    assert_eq!(begin.elapsed(), Duration::from_millis(50));
}

#[tokio::test(start_paused = true)]
async fn drain_waits_for_children_of_a_dropped_root_scope() {
    let log = Log::default();
    let noted = Noted(Arc::clone(&log), "dropped");
    let dropped = scope(async |n: &Nursery<Infallible>| {
        n.spawn_coop("tidies", async move |cx: CancelToken| {
            let _noted = noted;
            cx.cancelled().await;
            sleep(SECOND / 2).await;
        });
        pending::<()>().await;
        Ok(())
    });
    assert!(timeout(SECOND, dropped).await.is_err());
    assert_eq!(unscoped(), 1);
    assert!(log.lock().unwrap().is_empty());
    assert_eq!(drain().await, 1);
    assert_eq!(*log.lock().unwrap(), ["dropped"]);
    assert_eq!(unscoped(), 0);
}

#[tokio::test(start_paused = true)]
async fn closed_scope_hands_a_refused_future_back() {
    let mut handle = None;
    scope(async |n: &Nursery<Infallible>| {
        handle = Some(Scope::clone(n));
        Ok(())
    })
    .await
    .unwrap();
    let handle = handle.unwrap();
    assert!(handle.is_closed());
    let refused = handle.spawn("late", async { 7 }).unwrap_err();
    assert_eq!(refused.to_string(), "the scope `scope` has ended and starts no more tasks");
    assert_eq!(refused.into_inner().await, 7);
}

#[tokio::test(start_paused = true)]
async fn child_can_start_siblings_after_the_body_has_ended() {
    let started = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&started);
    scope(async |n: &Nursery<Infallible>| {
        let scope = Scope::clone(n);
        n.spawn("acceptor", async move {
            for _ in 0..3 {
                sleep(SECOND).await;
                let count = Arc::clone(&count);
                drop(scope.spawn("connection", async move {
                    sleep(SECOND).await;
                    count.fetch_add(1, Ordering::Relaxed);
                }));
            }
        });
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(started.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn shared_task_wakes_a_waiter_beside_one_that_is_not_polled() {
    scope(async |n: &Nursery<Infallible>| {
        let shared = n.spawn("value", async {
            sleep(SECOND).await;
            5
        });
        let shared = shared.shared();
        let waiter = n.spawn("waiter", shared.clone());
        tokio::task::yield_now().await;
        let mut held = Box::pin(shared);
        assert!(timeout(Duration::from_millis(1), &mut held).await.is_err());
        assert_eq!(waiter.await.unwrap().as_ref().as_ref().ok(), Some(&5));
        drop(held);
        Ok(())
    })
    .await
    .unwrap();
}

#[test]
fn panic_in_the_drop_of_a_cancelled_child_resumes() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in drop");
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(scope(async |n: &Nursery<Infallible>| {
            n.spawn("bomb", async {
                let _bomb = Bomb;
                pending::<()>().await;
            });
            tokio::task::yield_now().await;
            n.cancel(Reason::requested("now"));
            Ok(())
        }))
    }));
    assert_eq!(panicked.unwrap_err().downcast_ref::<&str>(), Some(&"in drop"));
}

#[allow(clippy::disallowed_methods, reason = "the panic has to leave the scope's caller")]
fn spawn_apart<F>(future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future)
}

#[tokio::test]
async fn site_of_a_scope_is_the_line_that_opens_it() {
    let mut seen = Vec::new();
    scope(async |n: &Nursery| {
        seen.push((n.snapshot().site, line!() - 1));
        Ok(())
    })
    .await
    .unwrap();
    let opened = Scope::builder().run(async |n: &Nursery| {
        seen.push((n.snapshot().site, line!() - 1));
        Ok(())
    });
    opened.await.unwrap();
    let opened = Scope::builder().run_send(async |n: &Nursery| Ok(n.snapshot().site));
    seen.push((opened.await.unwrap(), line!() - 1));
    for (site, line) in seen {
        assert_eq!((site.file(), site.line()), (file!(), line));
    }
}

#[tokio::test]
async fn failed_body_is_the_reason_of_the_cancelled_token() {
    let token = std::sync::OnceLock::new();
    let failed = scope(async |n: &Nursery<&str>| {
        token.set(n.token()).unwrap();
        Err::<(), _>("broken")
    });
    failed.await.unwrap_err();
    assert_eq!(token.get().unwrap().reason().unwrap().to_string(), "the body failed");
}
