// Two producers and three consumers around a queue with a capacity of ten items.
// A producer waits while the queue is full; an item that is not settled returns to the queue.
// Run it: cargo run -p motet-examples --example 05_producer_consumer

use std::convert::Infallible;
use std::time::Duration;

use motet::queue::{self, Job, Sender};
use motet::task::{Nursery, ScopeError, scope};
use motet::{Backoff, rng};
use tokio::time::sleep;

async fn random_delay(least: u64, most: u64) {
    sleep(Duration::from_millis(rng::with(|rng| least + rng.below(most - least + 1)))).await;
}

async fn produce(producer: u32, queue: Sender<String>) {
    for number in 0..5 {
        random_delay(100, 500).await;
        // Waits for capacity. Fails only when all consumers are gone.
        if queue.send(format!("Producer-{producer}-{number}")).await.is_err() {
            return;
        }
        println!("Producer {producer} produced item {number}");
    }
}

/// `Ok` settles the item. After an error or a panic, the item is retried.
async fn consume(item: Job<String>) -> Result<(), &'static str> {
    random_delay(200, 800).await;
    println!("Consumed {}", *item);
    Ok(())
}

async fn produce_and_consume<F, Fut>(consume: F) -> Result<(), ScopeError<Infallible>>
where
    F: Fn(Job<String>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), &'static str>> + Send + 'static,
{
    scope(async |n: &Nursery| {
        let (sender, receiver) = queue::bounded(10).expect("the capacity is valid");
        n.spawn("producer", produce(0, sender.clone()));
        n.spawn("producer", produce(1, sender)); // the last sender closes the queue
        let workers = receiver
            .workers(3)
            .expect("there is a worker")
            .backoff(Backoff::constant(Duration::from_millis(100)));
        let consumers = workers.start(n, "consumer", consume).expect("the scope is open");
        drop(receiver);
        println!("All {} items are consumed", consumers.ended().await.done);
        Ok(())
    })
    .await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ScopeError<Infallible>> {
    produce_and_consume(consume).await
}
