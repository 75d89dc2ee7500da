// An async iterator and an async generator, each read to its end.
// Both run only when they are asked for an item; a spawned generator runs ahead in a task, up to a limit.
// Run it: cargo run -p motet-examples --example 08_iterators_and_generators

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use futures_core::Stream;
use motet::stream::{StreamCombinators as _, generator};
use motet::task::{Nursery, Scope, ScopeError, scope};
use tokio::time::sleep;
use tokio_stream::StreamExt as _;

/// The iterator by hand: its state is in its fields.
struct DataStreamer {
    data: VecDeque<u32>,
}

impl DataStreamer {
    async fn next(&mut self) -> Option<u32> {
        sleep(Duration::from_millis(100)).await;
        self.data.pop_front()
    }
}

/// The generator: its state is in its variables.
fn batches(batch_size: u32) -> impl Stream<Item = Vec<u32>> + Send {
    generator(async move |mut y| {
        for number in 1..=10 {
            sleep(Duration::from_millis(200)).await;
            println!("Made batch {number}");
            y.emit((number * batch_size..(number + 1) * batch_size).collect()).await;
        }
    })
}

async fn process_streams(scope: &Scope) {
    let mut streamer = DataStreamer { data: (1..=5).collect() };
    while let Some(item) = streamer.next().await {
        println!("Processed: {item}");
    }
    let mut received = pin!(batches(3));
    while let Some(batch) = received.next().await {
        println!("Received batch: {batch:?}");
    }
    // In a task, at most two batches ahead of this loop.
    let mut ahead = batches(3).spawned(scope, "batches", 2).expect("the scope is open").take(3);
    while let Some(batch) = ahead.next().await {
        sleep(Duration::from_millis(200)).await;
        println!("Received batch: {batch:?}");
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ScopeError> {
    scope(async |n: &Nursery| {
        process_streams(n).await;
        Ok(())
    })
    .await
}
