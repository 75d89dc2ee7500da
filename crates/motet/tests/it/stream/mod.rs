//! Streams, through the public API.

mod adapters;
mod broadcasts;
mod generator;
mod models;
mod scripts;
mod tasks;

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use motet::stream::Spawned;
use tokio::runtime::Builder;

/// Polls with a waker that does nothing.
fn poll_once<S: Stream + ?Sized>(stream: Pin<&mut S>) -> Poll<Option<S::Item>> {
    stream.poll_next(&mut Context::from_waker(Waker::noop()))
}

fn block_on<F: Future>(future: F) -> F::Output {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future)
}

/// Gives a panic of the future as a value.
async fn caught<F: Future>(future: F) -> Result<F::Output, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(payload) => Poll::Ready(Err(payload)),
    })
    .await
}

/// Reads a stream whose items are numbers, and whose panics are numbers as well.
trait Numbers {
    async fn next_or_panic(&mut self) -> Option<Result<usize, usize>>;
}

impl Numbers for Spawned<usize> {
    async fn next_or_panic(&mut self) -> Option<Result<usize, usize>> {
        let next = caught(poll_fn(|cx| Pin::new(&mut *self).poll_next(cx))).await;
        match next {
            Ok(item) => item.map(Ok),
            Err(payload) => Some(Err(*payload.downcast_ref().unwrap())),
        }
    }
}

/// Counts what is alive.
#[derive(Clone, Default)]
struct Live(Arc<AtomicUsize>);

struct Alive(Live);

impl Live {
    fn enter(&self) -> Alive {
        self.0.fetch_add(1, Ordering::Relaxed);
        Alive(self.clone())
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn two_emits_at_once_or_a_yielder_of_another_type_compile() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/stream/*.rs");
}
