//! Runtimes that go, releases that panic, guards that leave.

#![allow(clippy::disallowed_methods, reason = "what goes away here is what a scope would wait for")]

use std::convert::Infallible;
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use motet::resource::resource;
use motet::task::{Nursery, Scope, StallWatch, scope};
use tokio::time::{sleep, timeout};

use super::{Bomb, MS, SECOND, bounded, one, workers};

#[test]
fn scope_that_outlives_its_runtime_ends() {
    bounded(|| {
        let rt = workers(1);
        let handle = rt.handle().clone();
        let (opened, is_open) = mpsc::channel();
        let (go, mut wait) = tokio::sync::mpsc::channel::<()>(1);
        let thread = std::thread::spawn(move || {
            handle.block_on(async {
                scope(async |n: &Nursery| {
                    n.defer("cleanup", async |_| ());
                    opened.send(()).unwrap();
                    wait.recv().await;
                    Ok(())
                })
                .await
            })
        });
        is_open.recv().unwrap();
        rt.shutdown_background();
        drop(go);
        drop(thread.join());
    });
}

#[test]
fn resource_of_a_dropped_runtime_is_counted_lost_and_dropped() {
    struct Connection(Arc<AtomicBool>);
    impl Drop for Connection {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    let kept: Arc<Mutex<Option<Scope>>> = Arc::default();
    let rt = one();
    rt.block_on(async {
        let (note, keep) = (Arc::clone(&dropped), Arc::clone(&kept));
        let around = tokio::spawn(scope(async move |n: &Nursery| {
            *keep.lock().unwrap() = Some((**n).clone());
            let opening = async move { Ok::<_, Infallible>(Connection(note)) };
            let _held = n.acquire("connection", opening, async |_, _| ()).await.unwrap();
            pending::<()>().await;
            Ok(())
        }));
        sleep(MS * 20).await;
        drop(around);
    });
    drop(rt);
    let scope = kept.lock().unwrap().take().unwrap();
    let lost = scope.release_counts().lost;
    drop(scope);
    assert_eq!((lost, dropped.load(Ordering::SeqCst)), (1, true), "(lost, dropped)");
}

#[tokio::test(start_paused = true)]
async fn use_of_a_resource_ends_if_its_release_panics_at_its_timeout() {
    let used = resource(async { Ok::<_, Infallible>(1) })
        .release(async |_, _| {
            let _bomb = Bomb;
            pending::<()>().await;
        })
        .with(async |_| Ok(()));
    let ended = timeout(SECOND * 100, used).await;
    assert!(ended.is_ok(), "it hangs");
}

#[tokio::test(start_paused = true)]
async fn scope_ends_after_a_release_that_panics_at_its_timeout() {
    let ended = tokio::spawn(scope(async |n: &Nursery| {
        let opening = async {
            sleep(SECOND).await;
            Ok::<_, Infallible>(1)
        };
        let acquiring = n.acquire("slow", opening, async |_, _| {
            let _bomb = Bomb;
            pending::<()>().await;
        });
        drop(timeout(MS * 500, acquiring).await);
        Ok(())
    }));
    let ended = timeout(SECOND * 100, ended).await;
    assert!(ended.is_ok(), "the scope hangs");
}

#[tokio::test(start_paused = true)]
async fn release_of_a_guard_that_left_its_scope_is_ok_only_if_it_ran() {
    let released = Arc::new(AtomicBool::new(false));
    let note = Arc::clone(&released);
    let guard = scope(async move |n: &Nursery| {
        let opening = async { Ok::<_, Infallible>(1) };
        Ok(n.acquire("one", opening, async move |_, _| note.store(true, Ordering::SeqCst)).await.unwrap())
    })
    .await
    .unwrap();
    let ended = guard.release().await;
    assert_eq!(ended.is_ok(), released.load(Ordering::SeqCst), "Ok, and it was never released");
}

#[tokio::test(start_paused = true)]
async fn scope_ends_after_a_panic_while_a_name_is_converted() {
    let ended = tokio::spawn(scope(async |n: &Nursery| {
        n.defer(NoName, async |_| ());
        Ok(())
    }));
    assert!(timeout(SECOND * 100, ended).await.is_ok(), "it hangs");
}

#[test]
fn stall_watch_may_be_dropped_in_its_report_callback() {
    bounded(|| {
        let slot: Arc<Mutex<Option<StallWatch>>> = Arc::default();
        let ended = Arc::new(AtomicUsize::new(0));
        let (theirs, note) = (Arc::clone(&slot), Arc::clone(&ended));
        let watch = StallWatch::start(MS * 10, move |_| {
            let own = theirs.lock().unwrap().take();
            note.store(1, Ordering::SeqCst);
            drop(own);
            note.store(2, Ordering::SeqCst);
        });
        *slot.lock().unwrap() = Some(watch.unwrap());
        one().block_on(async {
            scope(async |n: &Nursery| {
                n.spawn("blocks", async { std::thread::sleep(MS * 200) });
                Ok(())
            })
            .await
            .unwrap();
        });
        assert_eq!(ended.load(Ordering::SeqCst), 2, "the drop panicked");
    });
}

struct NoName;

impl From<NoName> for motet::task::Name {
    fn from(_: NoName) -> Self {
        panic!("no name")
    }
}
