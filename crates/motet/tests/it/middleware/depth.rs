//! Chains far longer than a program needs, on the default stack of a thread, 2 MiB, in a debug build.

use std::future::pending;
use std::task::{Context, Waker};

use motet::middleware::{BoxFuture, Chain, Handler, Middleware, Next};
use std::sync::Arc;
use tokio::task::yield_now;

use super::{Noting, pass};
use crate::notes::Log;

const DEEP: usize = 1_000;

#[tokio::test]
async fn deep_chain_can_wait_without_stack_overflow() {
    let handler = deep(Chain::new()).to(async |n: u64| {
        yield_now().await;
        n + 1
    });
    assert_eq!(handler.call(1).await, 2);
    assert_eq!(handler.describe().parts().len(), DEEP + 1);
}

#[test]
fn call_of_a_deep_chain_can_be_dropped_without_stack_overflow() {
    let handler: Handler<u64, u64> = deep(Chain::new()).to(async |_| pending().await);
    let mut call = handler.call(1);
    assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(call);
}

#[tokio::test]
async fn deep_chain_that_only_forwards_does_not_overflow_the_stack() {
    struct Forward;
    impl<Q: 'static, R: 'static> Middleware<Q, R> for Forward {
        fn handle(self: Arc<Self>, request: Q, next: Next<Q, R>) -> BoxFuture<R> {
            next.run(request)
        }
    }
    let chain = (0..DEEP).fold(Chain::new(), |chain, _| chain.with(Forward));
    assert_eq!(chain.to(async |n: u64| n).call(1).await, 1);
}

#[tokio::test]
async fn deep_chain_that_logs_each_part_does_not_overflow_the_stack() {
    let log = Log::default();
    let chain = (0..DEEP).fold(Chain::new(), |chain, _| chain.with(Noting("part", log.clone())));
    let handler = chain.to(async |n: u64| {
        yield_now().await;
        n
    });
    assert_eq!(handler.call(1).await, 1);
    assert_eq!(log.read().len(), 3 * DEEP);
}

#[tokio::test]
async fn deeply_nested_chains_do_not_overflow_the_stack() {
    let innermost = Chain::new().to(async |n: u64| {
        yield_now().await;
        n
    });
    let handler = (0..DEEP).fold(innermost, |inner, _| Chain::new().with(pass).to(inner));
    assert_eq!(handler.call(1).await, 1);
    // Handlers that hold each other are dropped nested in each other.
    drop(handler);
}

fn deep(chain: Chain<u64, u64>) -> Chain<u64, u64> {
    (0..DEEP).fold(chain, |chain, _| chain.with(pass))
}
