//! The reports of a scope to its caller, its releases and its tasks are true.

use std::convert::Infallible;
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use motet::resource::Exit;
use motet::task::{CancelToken, Nursery, Policy, Reason, Scope, ScopeError, TaskError, scope};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use super::{Bomb, SECOND};

async fn told(
    policy: Policy,
    body: impl AsyncFnOnce(&Nursery<&'static str>) -> Result<(), &'static str>,
) -> (Option<Exit>, Result<(), ScopeError<&'static str>>) {
    let heard = Arc::new(Mutex::new(None));
    let tell = Arc::clone(&heard);
    let ended =
        Scope::builder().policy(policy).timeout(SECOND * 10).run(async |n: &Nursery<&'static str>| {
            n.defer("transaction", async move |exit| *tell.lock().unwrap() = Some(exit));
            body(n).await
        });
    let ended = ended.await;
    let heard = heard.lock().unwrap().take();
    (heard, ended)
}

#[tokio::test(start_paused = true)]
async fn release_sees_err_if_a_first_ok_body_fails_after_a_success() {
    let (exit, ended) = told(Policy::FirstOk, async |n| {
        drop(n.try_spawn("wins", async { Ok(()) }).await);
        Err("the body failed")
    })
    .await;
    assert!(ended.is_err());
    assert_eq!(exit, Some(Exit::Err), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn release_sees_cancelled_if_first_ok_times_out_after_a_success() {
    let (exit, ended) = told(Policy::FirstOk, async |n| {
        drop(n.try_spawn("wins", async { Ok(()) }).await);
        pending().await
    })
    .await;
    assert!(ended.as_ref().unwrap_err().is_deadline(), "{exit:?} {ended:?}");
    assert_eq!(exit, Some(Exit::Cancelled), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn release_sees_ok_if_a_cancelled_scope_returns_a_value() {
    let (exit, ended) = told(Policy::FailFast, async |n| {
        n.spawn("poller", pending::<()>());
        n.cancel(Reason::requested("the work is done"));
        Ok(())
    })
    .await;
    assert!(ended.is_ok());
    assert_eq!(exit, Some(Exit::Ok), "the caller sees a value");
}

#[tokio::test(start_paused = true)]
async fn collect_all_lets_a_child_end_after_an_error_of_the_body() {
    let done = Arc::new(AtomicBool::new(false));
    let note = Arc::clone(&done);
    let ended = Scope::builder().policy(Policy::CollectAll).run(async |n: &Nursery<&'static str>| {
        n.spawn("child", async move {
            sleep(SECOND).await;
            note.store(true, Ordering::SeqCst);
        });
        Err::<(), _>("body")
    });
    assert!(ended.await.is_err());
    assert!(done.load(Ordering::SeqCst), "an error cancels a sibling under `CollectAll`");
}

#[tokio::test(start_paused = true)]
async fn failed_start_does_not_end_a_first_ok_scope() {
    let ended = Scope::builder()
        .policy(Policy::FirstOk)
        .run(async |n: &Nursery<&'static str>| {
            let slow = n.try_spawn("slow", async {
                sleep(SECOND).await;
                Ok("value")
            });
            let failed = n.start("mirror", async |_ready: motet::task::Ready<(), _>| Err("down")).await;
            assert!(failed.is_err());
            Ok(slow.await.map_err(|failed| failed.to_string()))
        })
        .await;
    assert_eq!(ended.unwrap(), Ok("value"));
}

#[tokio::test(start_paused = true)]
async fn token_of_an_ended_scope_is_cancelled() {
    let mut kept = None;
    scope(async |n: &Nursery| {
        kept = Some((**n).clone());
        Ok(())
    })
    .await
    .unwrap();
    let scope = kept.unwrap();
    assert!(scope.is_cancelled(), "the scope is not cancelled");
    assert!(
        timeout(SECOND, scope.token().cancelled()).await.is_ok(),
        "the token of the scope is not cancelled"
    );
}

#[tokio::test(start_paused = true)]
async fn token_taken_during_the_grace_is_cancelled() {
    let mut kept = None;
    scope(async |n: &Nursery| {
        let handle = (**n).clone();
        kept = Some(n.service_coop("service", async move |cx: CancelToken| {
            cx.cancelled().await;
            handle.token().cancelled().await.kind()
        }));
        Ok(())
    })
    .await
    .unwrap();
    let ended = kept.unwrap().await;
    assert!(ended.is_ok(), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn cancelled_task_reports_the_reason_of_its_cancellation() {
    scope(async |n: &Nursery| {
        let task = n.spawn("task", pending::<()>());
        tokio::task::yield_now().await;
        task.cancel(Reason::requested("lunch"));
        let Err(TaskError::Cancelled { reason, .. }) = task.await else { panic!() };
        assert_eq!(reason.text(), Some("lunch"));
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn start_fails_when_its_task_panics_though_ready_is_kept() {
    let kept = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&kept);
    let ended = timeout(
        SECOND * 100,
        Scope::builder().policy(Policy::Isolate).run(async move |n: &Nursery| {
            let started = n
                .start("server", async move |ready: motet::task::Ready<(), Infallible>| {
                    *keep.lock().unwrap() = Some(ready);
                    panic!("no port");
                })
                .await;
            assert!(started.is_err());
            Ok(())
        }),
    )
    .await;
    assert!(ended.is_ok(), "it does not end");
    drop(kept);
}

#[tokio::test]
async fn scope_in_a_blocking_child_has_the_outer_deadline() {
    let (inner, outer) = Scope::builder()
        .timeout(SECOND * 100)
        .run(async |n: &Nursery| {
            let inner = n.blocking("closure", |_| {
                Handle::current().block_on(scope(async |n: &Nursery| Ok(n.deadline()))).unwrap()
            });
            Ok((inner.await.unwrap(), n.deadline()))
        })
        .await
        .unwrap();
    assert!(inner.is_some(), "it has no parent but the runtime");
    assert_eq!(inner, outer);
}

#[tokio::test(start_paused = true)]
async fn panic_whose_payload_panics_on_drop_is_reported_to_its_waiter() {
    Scope::builder()
        .policy(Policy::Isolate)
        .run(async |n: &Nursery| {
            let task = n.spawn("bomb", async { std::panic::panic_any(Bomb) });
            let failed = task.await.unwrap_err();
            assert!(matches!(failed, TaskError::Panicked { .. }), "{failed:?}");
            Ok(())
        })
        .await
        .unwrap();
}
