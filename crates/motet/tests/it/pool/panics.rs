//! Code of users, beside the methods of a manager, that panics when a pool calls it.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use motet::pool::{AcquireError, Manager, Pool};
use motet::task::{Nursery, scope};
use tokio::time::sleep;

use super::backend::Backend;
use super::{seconds, with_pool};
use crate::reader::reader;

/// An error that panics when it is formatted, or dropped.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Touch {
    Show,
    Drop,
}

#[derive(Debug)]
struct Mine(Touch);

impl fmt::Display for Mine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        assert!(self.0 != Touch::Show, "an error panics in its display");
        f.write_str("a mine")
    }
}

impl Error for Mine {}

impl Drop for Mine {
    fn drop(&mut self) {
        assert!(self.0 != Touch::Drop, "an error panics in its drop");
    }
}

/// A manager whose connects fail while its flag is set, and whose connections fail their checks.
struct Minefield(AtomicBool, Touch);

impl Manager for Minefield {
    type Connection = ();
    type Error = Mine;

    async fn connect(&self) -> Result<(), Mine> {
        if self.0.swap(false, Ordering::Relaxed) { Err(Mine(self.1)) } else { Ok(()) }
    }

    async fn check(&self, (): &mut ()) -> Result<(), Mine> {
        Err(Mine(self.1))
    }
}

#[tokio::test(start_paused = true)]
async fn connect_or_check_error_that_panics_keeps_no_slot_of_a_pool() {
    let _read = tracing::subscriber::set_default(reader());
    for touch in [Touch::Show, Touch::Drop] {
        scope(async |n: &Nursery<Infallible>| {
            let pool = Pool::builder(n, Minefield(AtomicBool::new(true), touch)).max(1).build().unwrap();
            let Err(AcquireError::Unavailable { cause, .. }) = pool.acquire().await else {
                panic!("the backend is up")
            };
            // The pool has a reference, too, and drops the last one.
            drop(cause);
            assert_eq!(pool.stats().connecting, 0);
            sleep(seconds(1)).await;
            drop(pool.acquire().await.unwrap());
            sleep(seconds(1)).await;
            // The check fails, and its error may panic while the caller handles it.
            let _ = Caught(Box::pin(pool.acquire())).await;
            assert_eq!(pool.stats().in_use, 0, "a connection that failed its check is held without end");
            Ok(())
        })
        .await
        .unwrap();
    }
}

/// A future whose output is its panic.
struct Caught<F>(Pin<Box<F>>);

impl<F: Future> Future for Caught<F> {
    type Output = Result<F::Output, Box<dyn std::any::Any + Send>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(payload) => Poll::Ready(Err(payload)),
        }
    }
}

struct Alarm(AtomicUsize, bool);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        assert!(!self.1, "a waker has a bug");
    }
}

#[tokio::test(start_paused = true)]
async fn close_wakes_all_waiters_of_a_pool_despite_a_panicking_waker() {
    let backend = Backend::limited_to(1);
    with_pool(
        &backend,
        |pool| pool.max(1),
        async |_, pool| {
            let held = pool.acquire().await.unwrap();
            let alarms = [true, false].map(|panics| Arc::new(Alarm(AtomicUsize::new(0), panics)));
            let mut waiting = [(); 2].map(|()| Box::pin(pool.acquire()));
            for (waits, alarm) in waiting.iter_mut().zip(&alarms) {
                let waker = Waker::from(Arc::clone(alarm));
                assert!(waits.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            }
            let mut closes = Box::pin(pool.close(seconds(1)));
            let mut cx = Context::from_waker(Waker::noop());
            let _ = catch_unwind(AssertUnwindSafe(|| closes.as_mut().poll(&mut cx).is_pending()));
            assert_eq!(alarms.each_ref().map(|alarm| alarm.0.load(Ordering::Relaxed)), [1, 1]);
            for waits in &mut waiting {
                let refused = waits.as_mut().poll(&mut cx);
                assert!(matches!(refused, Poll::Ready(Err(AcquireError::Closed { .. }))));
            }
            drop(held);
        },
    )
    .await;
}
