//! A function of numbers with nearly no work, four at a time, with each library; and a function of batches of 64 numbers,
//! which the other libraries take from `ready_chunks` of futures, while motet takes the ready items.

#![allow(clippy::disallowed_methods, reason = "rivals start their tasks themselves")]

use std::hint::black_box;

use futures::{Stream, StreamExt, stream};
use motet::stream::StreamCombinators;
use motet::task::{Nursery, scope};
use par_stream::ParStreamExt as _;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::on;
use crate::measure::both_of;
use crate::report::{Case, Cases};

const ITEMS: u64 = 100_000;
const AT_ONCE: usize = 4;
const BATCH: usize = 64;

async fn work(number: u64) -> u64 {
    black_box(number) + 1
}

async fn work_on_all(mut numbers: Vec<u64>) -> Vec<u64> {
    numbers.iter_mut().for_each(|number| *number = black_box(*number) + 1);
    numbers
}

fn numbers() -> impl Stream<Item = u64> + Send + 'static {
    stream::iter(0..ITEMS)
}

#[derive(Clone, Copy)]
enum Order {
    Source,
    Done,
}

async fn sum(stream: impl Stream<Item = u64>) {
    let sum = stream.fold(0, |sum, number| std::future::ready(sum + number)).await;
    assert_eq!(sum, ITEMS * (ITEMS + 1) / 2, "items were lost");
}

async fn ours(order: Order) {
    let done = scope(async |n: &Nursery| {
        let map = StreamCombinators::par_map(numbers(), AT_ONCE, work);
        let started = match order {
            Order::Source => map.ordered(n, "map"),
            Order::Done => map.unordered(n, "map"),
        };
        sum(started.expect("the scope is open")).await;
        Ok(())
    });
    done.await.expect("nothing fails");
}

async fn in_the_reader(order: Order) {
    let futures = numbers().map(work);
    match order {
        Order::Source => sum(futures.buffered(AT_ONCE)).await,
        Order::Done => sum(futures.buffer_unordered(AT_ONCE)).await,
    }
}

async fn spawned(order: Order) {
    let tasks =
        numbers().map(|number| async move { tokio::spawn(work(number)).await.expect("it does not panic") });
    match order {
        Order::Source => sum(tasks.buffered(AT_ONCE)).await,
        Order::Done => sum(tasks.buffer_unordered(AT_ONCE)).await,
    }
}

async fn join_set() {
    let (mut set, mut total) = (JoinSet::new(), 0);
    for number in 0..ITEMS {
        if set.len() == AT_ONCE {
            total += set.join_next().await.expect("there are some").expect("it does not panic");
        }
        set.spawn(work(number));
    }
    while let Some(number) = set.join_next().await {
        total += number.expect("it does not panic");
    }
    assert_eq!(total, ITEMS * (ITEMS + 1) / 2);
}

async fn par_stream(order: Order) {
    match order {
        Order::Source => sum(numbers().par_then(AT_ONCE, work)).await,
        Order::Done => sum(numbers().par_then_unordered(AT_ONCE, work)).await,
    }
}

async fn ours_by_batches(order: Order) {
    let done = scope(async |n: &Nursery| {
        let map = StreamCombinators::par_map_batched(numbers(), AT_ONCE, BATCH, work_on_all);
        let started = match order {
            Order::Source => map.ordered(n, "map"),
            Order::Done => map.unordered(n, "map"),
        };
        sum(started.expect("the scope is open")).await;
        Ok(())
    });
    done.await.expect("nothing fails");
}

async fn batches_in_the_reader(order: Order) {
    let futures = numbers().ready_chunks(BATCH).map(work_on_all);
    match order {
        Order::Source => sum(futures.buffered(AT_ONCE).flat_map(stream::iter)).await,
        Order::Done => sum(futures.buffer_unordered(AT_ONCE).flat_map(stream::iter)).await,
    }
}

async fn batches_spawned(order: Order) {
    let tasks = numbers()
        .ready_chunks(BATCH)
        .map(|batch| async move { tokio::spawn(work_on_all(batch)).await.expect("it does not panic") });
    match order {
        Order::Source => sum(tasks.buffered(AT_ONCE).flat_map(stream::iter)).await,
        Order::Done => sum(tasks.buffer_unordered(AT_ONCE).flat_map(stream::iter)).await,
    }
}

async fn batches_by_par_stream(order: Order) {
    let batches = numbers().ready_chunks(BATCH);
    match order {
        Order::Source => sum(batches.par_then(AT_ONCE, work_on_all).flat_map(stream::iter)).await,
        Order::Done => sum(batches.par_then_unordered(AT_ONCE, work_on_all).flat_map(stream::iter)).await,
    }
}

pub(super) fn run(cases: &mut Cases, runtime: &Runtime) {
    let items = u32::try_from(ITEMS).expect("few enough");
    for (name, order) in [("par_map, ordered", Order::Source), ("par_map, unordered", Order::Done)] {
        let mut add = |rival, theirs: &mut dyn FnMut()| {
            let (ours, theirs) = both_of(items, || on(runtime, ours(order)), theirs);
            cases.extend(Case::median_and_minimum(name, rival, ours, theirs));
        };
        let in_task = match order {
            Order::Source => "buffered, in the reader's task",
            Order::Done => "buffer_unordered, in the reader's task",
        };
        add(in_task, &mut || on(runtime, in_the_reader(order)));
        add("buffered tasks", &mut || on(runtime, spawned(order)));
        if matches!(order, Order::Done) {
            add("JoinSet", &mut || on(runtime, join_set()));
        }
        add("par-stream", &mut || on(runtime, par_stream(order)));
    }
    let orders = [("par_map_batched, ordered", Order::Source), ("par_map_batched, unordered", Order::Done)];
    for (name, order) in orders {
        let mut add = |rival, theirs: &mut dyn FnMut()| {
            let (ours, theirs) = both_of(items, || on(runtime, ours_by_batches(order)), theirs);
            cases.extend(Case::median_and_minimum(name, rival, ours, theirs));
        };
        add("chunks, in the reader's task", &mut || on(runtime, batches_in_the_reader(order)));
        add("chunks, a task each", &mut || on(runtime, batches_spawned(order)));
        add("chunks, par-stream", &mut || on(runtime, batches_by_par_stream(order)));
    }
}
