//! Question: what does an item cost that is handled in a batch of 64, with a result for its caller?
//!
//! 64 or 256 tasks take numbers from a counter and submit them one at a time. The handler adds one to each number of a
//! batch. A batch has at most 64 items, and is handled 1 ms after its first item. The guarantees of each side:
//! - motet: limits of items, weight, batches in flight and waiting items; an error or a panic reaches the callers of its batch
//!   only; a dropped caller removes its item; closing drains.
//! - an actor, one task with `mpsc::recv_many` and a `oneshot` for each item: bounded. It handles the items that have
//!   arrived without waiting for further ones, so it has no timer, and its batches may be smaller.
//! - `ultra-batch`: one batch at a time; the delay starts again with each item; an error is a text for the whole batch.
//! - `dataloader`: one batch at a time, run by the caller that found it; the window is a number of yields, here the default
//!   of 10; a key is requested once.
//! - `tower-batch-control`: limits of weight, batches in flight and waiting items; an error of the service is final.

#![allow(clippy::disallowed_methods, reason = "callers are bare tasks on every side")]

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use motet::batch::Batcher;
use motet::task::{Nursery, scope};
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};
use tower::{Service, ServiceExt};
use tower_batch_control::{Batch, BatchControl, RequestWeight};
use ultra_batch::{BatchExecutor, Executor};

use crate::measure::both_of;
use crate::report::{Case, Cases};

/// A multiple of the size of a batch: the last batch is full, and no caller waits for its deadline.
const ITEMS: u32 = 1 << 17;
const SIZE: usize = 64;
const DELAY: Duration = Duration::from_millis(1);

pub(crate) fn run(cases: &mut Cases) {
    let current = runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let two =
        runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
    for (name, runtime) in [("current thread", &current), ("two workers", &two)] {
        for callers in [64, 256] {
            let mut add = |rival_name, mut rival: Box<dyn FnMut()>| {
                let (ours, theirs) = both_of(ITEMS, || on(runtime, ours(callers)), &mut *rival);
                let case = format!("{name}, {callers} callers");
                cases.extend(Case::median_and_minimum(&case, rival_name, ours, theirs));
            };
            add("mpsc + oneshot actor", Box::new(|| on(runtime, actor(callers))));
            add("tower-batch-control", Box::new(|| on(runtime, tower_batch(callers))));
            add("dataloader", Box::new(|| on(runtime, dataloader(callers))));
            add("ultra-batch", Box::new(|| on(runtime, ultra_batch(callers))));
        }
    }
}

/// Runs in a task of the runtime, like the code of a server.
fn on(runtime: &runtime::Runtime, work: impl Future<Output = ()> + Send + 'static) {
    runtime.block_on(async { tokio::spawn(work).await.expect("the work does not panic") });
}

/// The numbers that are not submitted yet.
#[derive(Clone, Default)]
struct Numbers(Arc<AtomicU64>);

impl Numbers {
    fn next(&self) -> Option<u64> {
        Some(self.0.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < u64::from(ITEMS))
    }
}

/// The callers of every side.
async fn ask<F: Future<Output = u64>>(numbers: Numbers, mut ask: impl FnMut(u64) -> F) {
    while let Some(number) = numbers.next() {
        assert_eq!(black_box(ask(number).await), number + 1);
    }
}

/// Starts the callers, which are plain tasks on every side, and waits for them.
async fn callers<F>(count: usize, mut caller: impl FnMut(Numbers) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let numbers = Numbers::default();
    let callers: Vec<_> = (0..count).map(|_| tokio::spawn(caller(numbers.clone()))).collect();
    for caller in callers {
        caller.await.expect("no caller panics");
    }
}

async fn ours(count: usize) {
    let done = scope(async |n: &Nursery<Infallible>| {
        let batcher: Batcher<u64, u64, Infallible> = Batcher::builder(n)
            .max_items(SIZE)
            .max_delay(DELAY)
            .build(async |items: Vec<u64>| items.into_iter().map(|n| Ok(n + 1)).collect::<Vec<_>>())
            .expect("these limits make sense");
        callers(count, |numbers| {
            let batcher = batcher.clone();
            async move {
                let batcher = &batcher;
                ask(numbers, |n| async move { batcher.submit(n).await.expect("an answer") }).await;
            }
        })
        .await;
        Ok(())
    });
    done.await.expect("nothing fails");
}

async fn actor(count: usize) {
    let (sender, mut receiver) = mpsc::channel::<(u64, oneshot::Sender<u64>)>(1024);
    tokio::spawn(async move {
        let mut batch = Vec::with_capacity(SIZE);
        while receiver.recv_many(&mut batch, SIZE).await > 0 {
            for (number, answer) in batch.drain(..) {
                let _ = answer.send(number + 1);
            }
        }
    });
    callers(count, |numbers| {
        let sender = sender.clone();
        async move {
            let sender = &sender;
            let one = |number| async move {
                let (answer, answered) = oneshot::channel();
                sender.send((number, answer)).await.expect("the actor is there");
                answered.await.expect("an answer")
            };
            ask(numbers, one).await;
        }
    })
    .await;
}

#[derive(Debug)]
struct Number(u64);

impl RequestWeight for Number {}

/// Collects its items until the flush, as in the documentation.
#[derive(Default)]
struct AddOne(Vec<(u64, oneshot::Sender<u64>)>);

impl Service<BatchControl<Number>> for AddOne {
    type Response = u64;
    type Error = oneshot::error::RecvError;
    type Future = futures::future::Either<oneshot::Receiver<u64>, Ready<Result<u64, Self::Error>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: BatchControl<Number>) -> Self::Future {
        match request {
            BatchControl::Item(Number(number)) => {
                let (answer, answered) = oneshot::channel();
                self.0.push((number, answer));
                futures::future::Either::Left(answered)
            }
            BatchControl::Flush => {
                for (number, answer) in self.0.drain(..) {
                    let _ = answer.send(number + 1);
                }
                futures::future::Either::Right(ready(Ok(0)))
            }
        }
    }
}

async fn tower_batch(count: usize) {
    let batch = Batch::new(AddOne::default(), SIZE, 4, DELAY);
    callers(count, |numbers| {
        let mut batch = batch.clone();
        async move {
            while let Some(number) = numbers.next() {
                let ready = batch.ready().await.expect("the worker is there");
                assert_eq!(black_box(ready.call(Number(number)).await.expect("an answer")), number + 1);
            }
        }
    })
    .await;
}

struct AddOneToKeys;

impl dataloader::BatchFn<u64, u64> for AddOneToKeys {
    async fn load(&mut self, keys: &[u64]) -> HashMap<u64, u64> {
        keys.iter().map(|key| (*key, key + 1)).collect()
    }
}

async fn dataloader(count: usize) {
    let loader = dataloader::non_cached::Loader::new(AddOneToKeys).with_max_batch_size(SIZE);
    callers(count, |numbers| {
        let loader = loader.clone();
        async move {
            let loader = &loader;
            ask(numbers, |n| async move { loader.load(n).await }).await;
        }
    })
    .await;
}

struct AddOneToEach;

impl Executor for AddOneToEach {
    type Value = u64;
    type Result = u64;
    type Error = Infallible;

    async fn execute(&self, values: Vec<u64>) -> Result<Vec<u64>, Infallible> {
        Ok(values.into_iter().map(|number| number + 1).collect())
    }
}

async fn ultra_batch(count: usize) {
    let executor =
        BatchExecutor::build(AddOneToEach).eager_batch_size(Some(SIZE)).delay_duration(DELAY).finish();
    callers(count, |numbers| {
        let executor = executor.clone();
        async move {
            let executor = &executor;
            let one =
                |number| async move { executor.execute(number).await.expect("it runs").expect("an answer") };
            ask(numbers, one).await;
        }
    })
    .await;
}
