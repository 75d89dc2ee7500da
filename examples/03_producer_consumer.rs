//! Producers and consumers around a queue with room for ten items.
//!
//! `cargo run -p motet-examples --example 03_producer_consumer`

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use motet::queue::{self, Job, Sender};
use motet::task::{Nursery, ScopeError, scope};
use motet::{Backoff, rng};
use motet_examples::Journal;
use tokio::time::sleep;

const PRODUCERS: u32 = 2;
const CONSUMERS: usize = 3;
const ITEMS: u32 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Item {
    producer: u32,
    number: u32,
}

/// Sleeps for some time between the two, in milliseconds.
async fn a_while(least: u64, most: u64) {
    let millis = rng::with(|rng| least + rng.below(most - least + 1));
    sleep(Duration::from_millis(millis)).await;
}

async fn produce(producer: u32, queue: Sender<Item>, journal: Journal<Event>) {
    for number in 0..ITEMS {
        a_while(100, 500).await;
        let item = Item { producer, number };
        // Waits for room. Refused only when there are no consumers any more.
        if queue.send(item).await.is_err() {
            return;
        }
        journal.note(Event::Produced(item));
    }
}

/// `Ok` settles the item. On an error or a panic, and if the consumer is cancelled, the queue has it back.
async fn consume(item: Job<Item>, journal: Journal<Event>) -> Result<(), &'static str> {
    a_while(200, 800).await;
    journal.note(Event::Consumed(*item));
    Ok(())
}

async fn program(journal: &Journal<Event>) -> Result<(), ScopeError<Infallible>> {
    with_consumer(consume, journal).await
}

async fn with_consumer<F, Fut>(consume: F, journal: &Journal<Event>) -> Result<(), ScopeError<Infallible>>
where
    F: Fn(Job<Item>, Journal<Event>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), &'static str>> + Send + 'static,
{
    scope(async |n: &Nursery| {
        let (sender, receiver) = queue::bounded(10);
        for producer in 0..PRODUCERS {
            drop(n.spawn("producer", produce(producer, sender.clone(), journal.clone())));
        }
        let notes = journal.clone();
        let consumers = receiver
            .workers(CONSUMERS)
            .backoff(Backoff::constant(Duration::from_millis(100)))
            .start(n, "consumer", move |item| consume(item, notes.clone()))
            .expect("the scope is open");
        // With its last sender, which is a producer's, the queue is closed: the consumers do what is left, and end.
        drop((sender, receiver));
        let stats = consumers.ended().await;
        journal.note(Event::AllConsumed(stats.done));
        Ok(())
    })
    .await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ScopeError<Infallible>> {
    program(&Journal::on_terminal()).await
}

#[derive(Debug, Clone, PartialEq)]
enum Event {
    Produced(Item),
    Consumed(Item),
    AllConsumed(u64),
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Producer-{}-{}", self.producer, self.number)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Produced(Item { producer, number }) => {
                write!(f, "Producer {producer} produced item {number}")
            }
            Self::Consumed(item) => write!(f, "Consumed {item}"),
            Self::AllConsumed(count) => write!(f, "All {count} are consumed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use motet::queue::Receiver;
    use motet::task::Reason;
    use motet_testkit::sim::{Panics, sim};
    use tokio::time::{Instant, timeout};

    use super::*;

    fn all() -> Vec<Item> {
        let numbers = |producer| (0..ITEMS).map(move |number| Item { producer, number });
        (0..PRODUCERS).flat_map(numbers).collect()
    }

    /// When each item was consumed, in the order of the items.
    fn consumed(journal: &Journal<Event>) -> Vec<Item> {
        let item = |event| if let Event::Consumed(item) = event { Some(item) } else { None };
        let mut items: Vec<_> = journal.events().into_iter().filter_map(item).collect();
        items.sort_unstable();
        items
    }

    #[test]
    fn every_item_is_consumed_once_and_in_order_of_production() {
        sim(|| async {
            let (journal, begin) = (Journal::in_memory(), Instant::now());
            program(&journal).await.unwrap();
            // At most all items of a producer in a row, and the last one consumed.
            assert!(
                begin.elapsed() <= Duration::from_millis(5 * 500 + 4 * 800 + 50),
                "{:?}",
                begin.elapsed()
            );
            assert_eq!(consumed(&journal), all());
            let events = journal.events();
            let at = |event| events.iter().position(|other| *other == event).unwrap();
            for item in all() {
                let produced = at(Event::Produced(item));
                // Taken in 200 ms at the least, while its producer notes it at once.
                assert!(produced < at(Event::Consumed(item)));
                if item.number > 0 {
                    let before = Item { number: item.number - 1, ..item };
                    assert!(at(Event::Produced(before)) < produced, "out of order");
                }
            }
            assert_eq!(events.last(), Some(&Event::AllConsumed(10)));
        })
        .seeds(100)
        .run();
    }

    /// In Python a consumer that raises never says that the item is done, and `join` waits for ever.
    #[test]
    fn failed_and_panicking_items_are_retried_until_consumed() {
        sim(|| async {
            let journal = Journal::in_memory();
            let raised = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&raised);
            let raises = move |item: Job<Item>, journal: Journal<Event>| {
                let count = Arc::clone(&count);
                async move {
                    if item.attempt() == 1 {
                        count.fetch_add(1, Ordering::Relaxed);
                        match item.number % 2 {
                            0 => return Err("broken"),
                            _ => std::panic::panic_any("worse"),
                        }
                    }
                    consume(item, journal).await
                }
            };
            let ended = timeout(Duration::from_secs(60), with_consumer(raises, &journal));
            ended.await.expect("it ends").unwrap();
            assert_eq!(consumed(&journal), all());
            assert_eq!(raised.load(Ordering::Relaxed), 10);
        })
        .seeds(50)
        .panics(Panics::Record)
        .run();
    }

    async fn left(receiver: &Receiver<Item>) -> Vec<Item> {
        let mut left = Vec::new();
        while let Ok(lease) = receiver.try_lease() {
            assert_eq!(lease.attempt(), 1, "an attempt is counted that was cut off");
            left.push(*lease);
            lease.done().await.unwrap();
        }
        left
    }

    /// In Python the item that a cancelled consumer has in hand is gone.
    #[test]
    fn cancelled_consumer_returns_its_item_to_the_queue() {
        sim(|| async {
            let journal = Journal::in_memory();
            let (sender, receiver) = queue::bounded(10);
            for item in all() {
                sender.send(item).await.unwrap();
            }
            scope(async |n: &Nursery| {
                let notes = journal.clone();
                let never = move |item: Job<Item>| {
                    let journal = notes.clone();
                    async move {
                        // Longer than the grace that it has when it is cancelled.
                        if item.number == 3 {
                            sleep(Duration::from_secs(5)).await;
                        }
                        consume(item, journal).await
                    }
                };
                let consumers = receiver.workers(CONSUMERS).start(n, "consumer", never).unwrap();
                a_while(0, 3_000).await;
                consumers.cancel(Reason::requested("enough"));
                consumers.ended().await;
                Ok(())
            })
            .await
            .unwrap();
            let mut items = consumed(&journal);
            items.extend(left(&receiver).await);
            items.sort_unstable();
            assert_eq!(items, all());
        })
        .seeds(100)
        .run();
    }
}
