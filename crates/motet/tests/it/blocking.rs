//! Blocking closures as children of a scope.

use std::convert::Infallible;
use std::future::pending;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use motet::task::{BLOCKING_LIMIT, Nursery, Policy, Reason, Scope, TaskError, scope};
use tokio::sync::oneshot;

#[tokio::test]
async fn scope_waits_for_a_cancelled_blocking_closure() {
    let ended = Arc::new(AtomicUsize::new(0));
    let (began, begun) = oneshot::channel();
    let count = Arc::clone(&ended);
    let cancelled = scope(async |n: &Nursery<Infallible>| {
        n.blocking("cancelled", move |cx| {
            began.send(()).unwrap();
            while !cx.is_cancelled() {
                std::thread::yield_now();
            }
            count.fetch_add(1, Ordering::Relaxed);
        });
        begun.await.unwrap();
        n.cancel(Reason::requested("enough"));
        pending::<()>().await;
        Ok(())
    });
    assert!(cancelled.await.unwrap_err().is_cancelled());
    assert_eq!(ended.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn blocking_limit_holds_and_a_waiting_closure_can_be_cancelled() {
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
        while !last.is_finished() {
            tokio::task::yield_now().await;
        }
        released.store(true, Ordering::Relaxed);
        let mut ran = 0;
        for task in tasks {
            match task.await {
                Ok(()) => ran += 1,
                Err(TaskError::Cancelled { reason, .. }) => assert_eq!(reason.text(), Some("not needed")),
                Err(other) => panic!("{other}"),
            }
        }
        Ok(ran)
    });
    assert_eq!(ran.await.unwrap(), BLOCKING_LIMIT + 1);
    assert_eq!(most.load(Ordering::SeqCst), BLOCKING_LIMIT);
}

#[tokio::test]
async fn panicked_blocking_closure_fails_its_task_and_frees_its_slot() {
    let done = Scope::builder().policy(Policy::Isolate).run(async |n: &Nursery<Infallible>| {
        for _ in 0..BLOCKING_LIMIT * 2 {
            let failed = n.blocking("panics", |_| -> () { panic!("in the closure") }).await.unwrap_err();
            assert_eq!(failed.to_string(), "task `panics` panicked: in the closure");
        }
        Ok(())
    });
    done.await.unwrap();
}

/// Each closure waits for a closure that it starts, while closures like it hold every slot.
#[tokio::test]
async fn nested_closures_complete_while_all_slots_are_taken() {
    fn nested(scope: &Scope, depth: usize) -> usize {
        if depth == 0 {
            return 0;
        }
        let inner = scope.clone();
        let task = scope.blocking("inner", move |_| nested(&inner, depth - 1)).unwrap();
        1 + tokio::runtime::Handle::current().block_on(task).unwrap()
    }

    let limit = NonZeroUsize::new(4).unwrap();
    for nested_in in [Scope::builder(), Scope::builder().blocking_limit(limit)] {
        let depths = nested_in.run(async |n: &Nursery<Infallible>| {
            let closures = (0..BLOCKING_LIMIT + 1).map(|_| {
                let scope = Scope::clone(n);
                n.blocking("outer", move |_| nested(&scope, 3))
            });
            let closures: Vec<_> = closures.collect();
            let mut depths = Vec::new();
            for closure in closures {
                depths.push(closure.await.unwrap());
            }
            Ok(depths)
        });
        assert_eq!(depths.await.unwrap(), vec![3; BLOCKING_LIMIT + 1]);
    }
}

#[tokio::test]
async fn panic_of_a_nested_closure_fails_only_the_inner_task() {
    let failed = Scope::builder().policy(Policy::Isolate).run(async |n: &Nursery<Infallible>| {
        let scope = Scope::clone(n);
        let outer = n.blocking("outer", move |_| {
            let inner = scope.blocking("inner", |_| -> () { panic!("in the closure") }).unwrap();
            tokio::runtime::Handle::current().block_on(inner).unwrap_err().to_string()
        });
        Ok(outer.await.unwrap())
    });
    assert_eq!(failed.await.unwrap(), "task `inner` panicked: in the closure");
}

#[tokio::test]
async fn blocking_limit_of_a_scope_holds_for_a_scope_below_it() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let limit = NonZeroUsize::new(2).unwrap();
    let done = Scope::builder().blocking_limit(limit).run(async |_: &Nursery<Infallible>| {
        scope(async |n: &Nursery<Infallible>| {
            for _ in 0..20 {
                let (running, most) = (Arc::clone(&running), Arc::clone(&most));
                n.blocking("counts", move |_| {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    running.fetch_sub(1, Ordering::SeqCst);
                });
            }
            Ok(())
        })
        .await
        .unwrap();
        Ok(())
    });
    done.await.unwrap();
    assert!((1..=2).contains(&most.load(Ordering::SeqCst)));
}
