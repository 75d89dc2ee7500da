//! Blocking closures as children of a scope.

use std::convert::Infallible;
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use motet::task::{BLOCKING_LIMIT, Nursery, Policy, Reason, Scope, TaskFailed, scope};
use tokio::sync::oneshot;

/// One at a time: these tests fill the pool of the process.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test]
async fn a_scope_returns_while_a_closure_that_was_told_still_runs() {
    let _alone = ALONE.lock().await;
    let ended = Arc::new(AtomicUsize::new(0));
    let (began, begun) = oneshot::channel();
    let count = Arc::clone(&ended);
    let cancelled = scope(async |n: &Nursery<Infallible>| {
        drop(n.blocking("told", move |cx| {
            began.send(()).unwrap();
            while !cx.is_cancelled() {
                std::thread::yield_now();
            }
            count.fetch_add(1, Ordering::Relaxed);
        }));
        begun.await.unwrap();
        n.cancel(Reason::requested("enough"));
        pending::<()>().await;
        Ok(())
    });
    assert!(cancelled.await.unwrap_err().is_cancelled());
    assert_eq!(ended.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn more_closures_run_than_the_limit_or_a_cancelled_one_runs() {
    let _alone = ALONE.lock().await;
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let released = Arc::new(AtomicBool::new(false));
    let ran = scope(async |n: &Nursery<Infallible>| {
        let (began, begun) = mpsc::channel();
        let tasks: Vec<_> = (0..BLOCKING_LIMIT + 2)
            .map(|_| {
                let (running, most) = (Arc::clone(&running), Arc::clone(&most));
                let (released, began) = (Arc::clone(&released), began.clone());
                n.blocking("counts", move |_| {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    began.send(()).unwrap();
                    while !released.load(Ordering::Relaxed) {
                        std::thread::yield_now();
                    }
                    running.fetch_sub(1, Ordering::SeqCst);
                })
            })
            .collect();
        let last = tasks.last().unwrap();
        // The limit's worth has begun; the others wait for their turn.
        for _ in 0..BLOCKING_LIMIT {
            tokio::task::yield_now().await;
            while begun.try_recv().is_err() {
                tokio::task::yield_now().await;
            }
        }
        last.cancel(Reason::requested("not needed"));
        while last.state() != motet::task::TaskState::Ended {
            tokio::task::yield_now().await;
        }
        released.store(true, Ordering::Relaxed);
        let mut ran = 0;
        for task in tasks {
            match task.await {
                Ok(()) => ran += 1,
                Err(TaskFailed::Cancelled { reason, .. }) => assert_eq!(reason.text(), Some("not needed")),
                Err(other) => panic!("{other}"),
            }
        }
        Ok(ran)
    });
    assert_eq!(ran.await.unwrap(), BLOCKING_LIMIT + 1);
    assert_eq!(most.load(Ordering::SeqCst), BLOCKING_LIMIT);
}

#[tokio::test]
async fn a_panic_of_a_closure_is_lost_or_keeps_its_place_in_the_pool() {
    let _alone = ALONE.lock().await;
    let done = Scope::options().policy(Policy::Isolate).run(async |n: &Nursery<Infallible>| {
        for _ in 0..BLOCKING_LIMIT * 2 {
            let failed = n.blocking("panics", |_| -> () { panic!("in the closure") }).await.unwrap_err();
            assert_eq!(failed.to_string(), "task `panics` panicked: in the closure");
        }
        Ok(())
    });
    done.await.unwrap();
}
