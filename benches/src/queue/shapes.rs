//! Numbers of producers and consumers, on one runtime or on two.

#![allow(clippy::disallowed_methods, reason = "the tasks of a benchmark are awaited one by one")]

use tokio::runtime::{Builder, Handle, Runtime};

use super::channels::{
    AsyncChannel, Channel, Crossfire, Flume, FlumeBatch, Kanal, Loole, LooleBatch, Ours, OursBatch, Thingbuf,
    Tokio, TokioBatch,
};
use crate::measure::both_of;
use crate::report::{Case, Cases};

struct Shape {
    name: &'static str,
    producers: u64,
    consumers: u64,
    capacity: usize,
    /// The items of a run, which takes a few milliseconds.
    items: u64,
}

const SHAPES: [Shape; 6] = [
    Shape { name: "1p1c, 1024", producers: 1, consumers: 1, capacity: 1024, items: 200_000 },
    Shape { name: "4p1c, 1024", producers: 4, consumers: 1, capacity: 1024, items: 200_000 },
    Shape { name: "4p4c, 1024", producers: 4, consumers: 4, capacity: 1024, items: 200_000 },
    Shape { name: "1p1c, 1", producers: 1, consumers: 1, capacity: 1, items: 1_000 },
    Shape { name: "4p4c, 1", producers: 4, consumers: 4, capacity: 1, items: 1_000 },
    Shape { name: "64p64c, 16", producers: 64, consumers: 64, capacity: 16, items: 6_400 },
];

/// The runtimes of the two sides.
struct Runtimes {
    name: &'static str,
    producers: Handle,
    consumers: Handle,
}

pub(super) fn run(cases: &mut Cases) {
    // Recommended by its documentation for virtual machines.
    crossfire::detect_backoff_cfg();
    let shared = workers(2);
    let (left, right) = (workers(1), workers(1));
    let runtimes = [
        Runtimes { name: "shared", producers: shared.handle().clone(), consumers: shared.handle().clone() },
        Runtimes { name: "split", producers: left.handle().clone(), consumers: right.handle().clone() },
    ];
    // To run only some of the cases.
    let only = std::env::var("MOTET_COMPARE_ONLY").unwrap_or_default();
    for shape in SHAPES {
        for runtimes in &runtimes {
            let case = format!("{} {}", shape.name, runtimes.name);
            if case.contains(&only) {
                compare(&case, &shape, runtimes, cases);
            }
        }
    }
}

fn workers(count: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(count).enable_time().build().expect("a runtime")
}

fn compare(case: &str, shape: &Shape, on: &Runtimes, cases: &mut Cases) {
    if shape.consumers == 1 {
        side_by_side::<Ours, Tokio>(case, "tokio mpsc", shape, on, cases);
        side_by_side::<Ours, Thingbuf>(case, "thingbuf", shape, on, cases);
    }
    side_by_side::<Ours, Flume>(case, "flume", shape, on, cases);
    side_by_side::<Ours, AsyncChannel>(case, "async-channel", shape, on, cases);
    side_by_side::<Ours, Crossfire>(case, "crossfire", shape, on, cases);
    side_by_side::<Ours, Loole>(case, "loole", shape, on, cases);
    side_by_side::<Ours, Kanal>(case, "kanal", shape, on, cases);
    if shape.capacity < 1024 {
        return;
    }
    let case = &format!("{case}, batch");
    if shape.consumers == 1 {
        side_by_side::<OursBatch, TokioBatch>(case, "tokio mpsc", shape, on, cases);
        side_by_side::<OursBatch, Thingbuf>(case, "thingbuf", shape, on, cases);
    }
    side_by_side::<OursBatch, FlumeBatch>(case, "flume", shape, on, cases);
    side_by_side::<OursBatch, AsyncChannel>(case, "async-channel", shape, on, cases);
    side_by_side::<OursBatch, Crossfire>(case, "crossfire", shape, on, cases);
    side_by_side::<OursBatch, LooleBatch>(case, "loole", shape, on, cases);
}

fn side_by_side<A: Channel, B: Channel>(
    case: &str,
    rival: &'static str,
    shape: &Shape,
    on: &Runtimes,
    cases: &mut Cases,
) {
    let items = u32::try_from(shape.items).expect("few enough");
    let (ours, theirs) = both_of(items, || all_through::<A>(shape, on), || all_through::<B>(shape, on));
    cases.push(Case::new(case.to_owned(), rival, ours, theirs));
}

fn all_through<C: Channel>(shape: &Shape, on: &Runtimes) {
    let (sender, receiver) = C::new(shape.capacity);
    let mut receivers: Vec<_> = (1..shape.consumers).map(|_| C::another(&receiver)).collect();
    receivers.push(receiver);
    let consumers: Vec<_> = receivers
        .into_iter()
        .map(|mut receiver| on.consumers.spawn(async move { C::consume(&mut receiver).await }))
        .collect();
    for _ in 0..shape.producers {
        on.producers.spawn(C::produce(sender.clone(), shape.items / shape.producers));
    }
    drop(sender);
    let received: u64 = consumers
        .into_iter()
        .map(|consumer| on.consumers.block_on(consumer).expect("no consumer panics"))
        .sum();
    assert_eq!(received, shape.items, "items were lost");
}
