//! Futures that leave no budget, and children that are cancelled before they wait.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use motet::task::{CancelToken, Nursery, Reason, Scope, scope};
use tokio::runtime::Builder;
use tokio::time::{sleep, timeout};

use super::{MS, bounded, one, workers};

#[test]
fn body_that_is_always_busy_ends_at_the_deadline() {
    bounded(|| {
        one().block_on(async {
            let late = Scope::builder().timeout(MS * 50).run(async |_: &Nursery| {
                loop {
                    tokio::task::consume_budget().await;
                }
                #[allow(unreachable_code, reason = "types")]
                Ok(())
            });
            assert!(late.await.unwrap_err().is_deadline());
        });
    });
}

#[test]
fn cancelled_scope_ends_though_a_cooperative_child_is_busy() {
    bounded(|| {
        one().block_on(async {
            let ended = Scope::builder().grace(MS * 50).run(async |n: &Nursery| {
                n.spawn_coop("busy", async |_cx: CancelToken| {
                    loop {
                        tokio::task::consume_budget().await;
                    }
                });
                sleep(MS * 10).await;
                n.cancel(Reason::requested("stop"));
                Ok(())
            });
            ended.await.unwrap();
        });
    });
}

#[test]
fn release_timeout_ends_a_busy_opening_of_a_dropped_acquire() {
    bounded(|| {
        one().block_on(async {
            let ended = Scope::builder().release_timeout(MS * 50).run(async |n: &Nursery| {
                let opening = async {
                    loop {
                        tokio::task::consume_budget().await;
                    }
                    #[allow(unreachable_code, reason = "types")]
                    Ok::<(), Infallible>(())
                };
                let acquiring = n.acquire("busy", opening, async |(), _| ());
                drop(timeout(MS * 10, acquiring).await);
                Ok(())
            });
            ended.await.unwrap();
        });
    });
}

#[test]
fn cancellation_reaches_a_child_in_its_first_poll() {
    bounded(|| {
        let rt = workers(2);
        rt.block_on(async {
            let begun = Arc::new(AtomicBool::new(false));
            let seen = Arc::clone(&begun);
            let ended = scope(async |n: &Nursery| {
                n.spawn_coop("crunch", async move |cx: CancelToken| {
                    tokio::task::block_in_place(|| {
                        begun.store(true, Ordering::SeqCst);
                        while !cx.is_cancelled() {
                            std::thread::sleep(MS);
                        }
                    });
                });
                while !seen.load(Ordering::SeqCst) {
                    sleep(MS).await;
                }
                n.cancel(Reason::requested("stop"));
                Ok(())
            });
            ended.await.unwrap();
        });
        rt.shutdown_background();
    });
}

#[tokio::test]
async fn blocking_closure_started_in_a_cancelled_scope_does_not_run() {
    let began = Arc::new(AtomicBool::new(false));
    let note = Arc::clone(&began);
    let ended = scope(async |n: &Nursery| {
        n.cancel(Reason::requested("before"));
        n.blocking("closure", move |_| note.store(true, Ordering::SeqCst));
        Ok(())
    });
    ended.await.unwrap();
    assert!(!began.load(Ordering::SeqCst), "it began after the cancellation");
}

#[test]
fn closure_cancelled_while_it_waits_for_a_thread_does_not_run() {
    bounded(|| {
        let rt = Builder::new_current_thread().max_blocking_threads(1).enable_all().build().unwrap();
        rt.block_on(async {
            let began = Arc::new(AtomicBool::new(false));
            let note = Arc::clone(&began);
            let (go, wait) = mpsc::channel::<()>();
            scope(async |n: &Nursery| {
                n.blocking("first", move |_| wait.recv());
                sleep(MS * 10).await;
                let second = n.blocking("second", move |_| note.store(true, Ordering::SeqCst));
                sleep(MS * 10).await;
                second.cancel(Reason::requested("not needed"));
                sleep(MS * 10).await;
                drop(go);
                drop(second.await);
                Ok(())
            })
            .await
            .unwrap();
            assert!(!began.load(Ordering::SeqCst), "it began after the cancellation");
        });
    });
}
