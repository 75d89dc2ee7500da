//! Tests of pools through their public API.

mod ages;
pub(crate) mod backend;
mod downtime;
mod ending;
mod lending;
mod panics;

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use motet::pool::{Pool, PoolBuilder};
use motet::task::{Nursery, scope};

use self::backend::Backend;

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Runs a body with a pool in a scope, and checks at the end that every connection was closed.
async fn with_pool(
    backend: &Backend,
    settings: impl FnOnce(PoolBuilder<Backend>) -> PoolBuilder<Backend>,
    body: impl AsyncFnOnce(&Nursery<Infallible>, Pool<Backend>),
) {
    scope(async |n: &Nursery<Infallible>| {
        let pool = settings(Pool::builder(n, backend.clone())).build().unwrap();
        body(n, pool).await;
        Ok(())
    })
    .await
    .unwrap();
    backend.assert_settled();
}

/// Polls once, with a full budget, as each `await` of a test has.
async fn poll_once<F: Future>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}
