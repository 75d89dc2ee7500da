//! The longest time that a neighbour cannot run while a full queue is drained.
//!
//! In one thread, a consumer drains a queue of three million items, and a neighbour only yields. The figure is the longest time
//! between two turns of the neighbour, in milliseconds: the median of the rounds, and the minimum, since the machine may stop
//! the thread.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

use super::channels::{
    AsyncChannel, Channel, Crossfire, Flume, Kanal, Loole, Ours, OursBatch, Thingbuf, Tokio,
};
use crate::measure::{Cost, rounds};
use crate::report::{Case, Cases};

const ITEMS: u64 = 3_000_000;
const ROUNDS: usize = 15;

pub(super) fn run(cases: &mut Cases) {
    if std::env::var("MOTET_COMPARE_ONLY").is_ok_and(|only| !"stall".contains(&only)) {
        return;
    }
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    side_by_side::<Ours, Tokio>("", "tokio mpsc", &runtime, cases);
    side_by_side::<OursBatch, Tokio>(", batch of 64", "tokio mpsc, by item", &runtime, cases);
    side_by_side::<Ours, Thingbuf>("", "thingbuf", &runtime, cases);
    side_by_side::<Ours, Flume>("", "flume", &runtime, cases);
    side_by_side::<Ours, AsyncChannel>("", "async-channel", &runtime, cases);
    side_by_side::<Ours, Crossfire>("", "crossfire", &runtime, cases);
    side_by_side::<Ours, Loole>("", "loole", &runtime, cases);
    side_by_side::<Ours, Kanal>("", "kanal", &runtime, cases);
}

fn side_by_side<A: Channel, B: Channel>(
    what: &str,
    rival_name: &'static str,
    runtime: &Runtime,
    cases: &mut Cases,
) {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in rounds().take(ROUNDS) {
        ours.push(runtime.block_on(worst_stall::<A>()));
        theirs.push(runtime.block_on(worst_stall::<B>()));
    }
    ours.sort_unstable();
    theirs.sort_unstable();
    for (name, at) in [("median", ours.len() / 2), ("minimum", 0)] {
        let case = format!("stall of a neighbour{what}, {name}");
        cases.push(Case::new(case, rival_name, figure(&ours, at), figure(&theirs, at)).in_milliseconds());
    }
}

fn figure(stalls: &[Duration], at: usize) -> Cost {
    let nanoseconds = stalls[at].as_nanos() as f64;
    let cut_at = Some(stalls.len()).filter(|rounds| *rounds < ROUNDS);
    Cost { cut_at, ..Cost::figure(nanoseconds, nanoseconds) }
}

async fn worst_stall<C: Channel>() -> Duration {
    let (sender, mut receiver) = C::new(ITEMS as usize);
    // This is the last sender, so the consumer ends.
    C::produce(sender, ITEMS).await;
    let drained = Arc::new(AtomicBool::new(false));
    // Started before the consumer, so that its first turn counts as well.
    let neighbour = tokio::spawn({
        let drained = Arc::clone(&drained);
        async move {
            let (mut worst, mut last) = (Duration::ZERO, Instant::now());
            while !drained.load(Ordering::Relaxed) {
                yield_now().await;
                let now = Instant::now();
                worst = worst.max(now - last);
                last = now;
            }
            worst
        }
    });
    let consumer = tokio::spawn(async move {
        let count = C::consume(&mut receiver).await;
        drained.store(true, Ordering::Relaxed);
        // Not dropped here: to free the memory of all slots at once takes longer than any step of the drain.
        (count, receiver)
    });
    let worst = neighbour.await.expect("it does not panic");
    let (count, _receiver) = consumer.await.expect("no consumer panics");
    assert_eq!(count, ITEMS, "items were lost");
    worst
}
