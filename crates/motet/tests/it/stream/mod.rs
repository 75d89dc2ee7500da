//! Streams, through the public API.

mod adapters;
mod broadcasts;
mod generator;
mod models;
mod scripts;
mod tasks;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use motet::stream::Spawned;
use tokio::runtime::Builder;

use crate::caught::caught;

/// Polls with a waker that does nothing.
fn poll_once<S: Stream + ?Sized>(stream: Pin<&mut S>) -> Poll<Option<S::Item>> {
    stream.poll_next(&mut Context::from_waker(Waker::noop()))
}

fn block_on<F: Future>(future: F) -> F::Output {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future)
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

#[test]
fn concurrent_emits_and_lifetime_casts_do_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/stream/*.rs");
}
